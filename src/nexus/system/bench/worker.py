"""One kernel on one engine, in a process of its own: `python -m nexus.system.bench.worker ENGINE EXE`.

Reads an n per line, calls the program's `kernel(n)` and answers with the result and the nanoseconds of
processor time that the call took. Starting and loading are not in them, and a call with n = 1 comes before,
so most of the translation is not either. `native` calls the code of the .exe itself, mapped at the address it
was linked for; the others have the same bytes as guest.
"""

from __future__ import annotations

import ctypes
import sys
from time import thread_time_ns

from nexus.base.errors import NexusError
from nexus.loader import directories, pe
from nexus.loader.pe import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Call = Callable[[int], int]

STACK, STACK_BYTES = 0x100000, 0x100000
RETURN = 0x80000  # where the kernel returns to
STOP = b"\x0f\x05"  # syscall: the guest is done
_SHADOW = 32  # what a Windows caller leaves for the callee above the return address
# mov rcx,rdi; sub rsp,40; mov rax,kernel; call rax; add rsp,40; ret: from the host's convention to Windows'
_THUNK = ("4889f9 4883ec28 48b8", "ffd0 4883c428 c3")


def read(path: str) -> tuple[Image, int]:
    """The image, and the offset of `kernel` in it."""
    with open(path, "rb") as file:
        image = pe.parse(file.read())
    return image, directories.export_addresses(image)["kernel"]


def pieces(image: Image) -> list[tuple[int, bytes, int]]:
    """(offset, bytes, flags) of the sections as they are mapped."""
    return [
        (section.address, image.read(section.address, section.virtual_size), section.characteristics)
        for section in image.sections
    ]


def native(path: str) -> Call:
    from nexus.isa.x86.native import map_fixed

    image, kernel = read(path)
    base, size = image.image_base, -(-image.size_of_image // pe.PAGE) * pe.PAGE
    map_fixed(base, size + pe.PAGE, executable=True)
    for offset, data, _ in pieces(image):
        ctypes.memmove(base + offset, data, len(data))
    before, after = map(bytes.fromhex, _THUNK)
    thunk = before + (base + kernel).to_bytes(8, "little") + after
    ctypes.memmove(base + size, thunk, len(thunk))
    return ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(base + size)


def ours(engine: str) -> Callable[[str], Call]:
    """A vCPU in slices as long as those of the NT kernel."""

    def make(path: str) -> Call:
        from nexus.ir.state import Exit
        from nexus.isa.x86.registers import CpuState
        from nexus.machine.slices import Slices
        from nexus.machine.vcpu import Vcpu
        from nexus.machine.window import EXECUTE, READ, WRITE, Window

        image, kernel = read(path)
        window = Window(wide=False)
        vcpu, slices = Vcpu(window, engine), Slices()
        for offset, data, flags in pieces(image):
            access = (
                READ | (WRITE if flags & pe.SCN_WRITE else 0) | (EXECUTE if flags & pe.SCN_EXECUTE else 0)
            )
            at = image.image_base + offset
            window.map(at, -(-len(data) // pe.PAGE) * pe.PAGE, access)
            window.write_forced(at, data)
        window.map(STACK, STACK_BYTES, READ | WRITE)
        window.map(RETURN, pe.PAGE, READ | EXECUTE)
        window.write_forced(RETURN, STOP)

        def call(n: int) -> int:
            state = CpuState()
            state.reset()
            state.rip, state.rcx = image.image_base + kernel, n
            state.rsp = STACK + STACK_BYTES - _SHADOW - 8
            window.w64(state.rsp, RETURN)
            while (stop := slices.run(vcpu, state)).kind == Exit.BUDGET:
                pass
            if stop.kind != Exit.SYSCALL:
                raise NexusError(f"the kernel stopped with {stop} at {state.rip:#x}")
            return int(state.rax)

        return call

    return make


def unicorn(path: str) -> Call:
    import unicorn as library
    from unicorn import x86_const

    untyped: Any = library
    uc = untyped.Uc(untyped.UC_ARCH_X86, untyped.UC_MODE_64)
    image, kernel = read(path)
    uc.mem_map(image.image_base, -(-image.size_of_image // pe.PAGE) * pe.PAGE)
    for offset, data, _ in pieces(image):
        uc.mem_write(image.image_base + offset, data)
    uc.mem_map(STACK, STACK_BYTES)
    uc.mem_map(RETURN, pe.PAGE)

    def call(n: int) -> int:
        stack = STACK + STACK_BYTES - _SHADOW - 8
        uc.mem_write(stack, RETURN.to_bytes(8, "little"))
        uc.reg_write(x86_const.UC_X86_REG_RSP, stack)
        uc.reg_write(x86_const.UC_X86_REG_RCX, n)
        uc.emu_start(image.image_base + kernel, RETURN)
        return int(uc.reg_read(x86_const.UC_X86_REG_RAX))

    return call


ENGINES: dict[str, Callable[[str], Call]] = {
    "native": native,
    "t0": ours("t0"),
    "t1": ours("t1"),
    "t2": ours("t2"),
    "unicorn": unicorn,
}


def main(engine: str, path: str) -> None:
    call = ENGINES[engine](path)
    call(1)
    for line in sys.stdin:
        n = int(line)
        before = thread_time_ns()
        result = call(n)
        print(result, thread_time_ns() - before, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
