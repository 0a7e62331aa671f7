"""Runs one instruction on the host's own processor, from a given register state, and survives what it does.

For comparing with the engines; x86-64 Linux hosts only. Code and data lie at fixed low addresses, the same
that the engines use, so that addresses in registers mean the same on both sides. Every run ends in a signal
- the breakpoint behind the instruction, or the fault it raised - whose handler copies the registers out.
"""

from __future__ import annotations

import ctypes
import mmap
import platform

from iced_x86 import Code, CpuidFeature, Encoder, Instruction, MemoryOperand, Register

from nexus.ir.state import Exit
from nexus.isa.x86 import registers as r

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Numbered  # a number of one of iced's enums, which its stubs call classes

CODE = 0x50000  # the instruction lies in the middle of two pages of breakpoints
CODE_SIZE = 0x2000
_CONTROL = 0x60000  # page 0: stubs, page 1: what they read and write
_STUBS, _IN, _OUT = _CONTROL, _CONTROL + 0x1000, _CONTROL + 0x1800
_IN_PC, _IN_FLAGS, _IN_GS, _HOST_RSP = _IN + 128, _IN + 136, _IN + 144, _IN + 152
_IN_FX, _HOST_FX = _IN + 0x200, _OUT + 0x600  # XSAVE and FXSAVE images
_OUT_SIGNAL, _OUT_ADDRESS, _OUT_REGISTERS, _OUT_FX = _OUT, _OUT + 8, _OUT + 16, _OUT + 0x200
# of an XSAVE image in the standard format: its size with the upper halves of the YMM registers, what it holds
# (bits 0 x87, 1 SSE, 2 those halves), and where they are
_IMAGE, _HOLDS, _UPPER = 832, 512, 576
_X87_SSE_AVX = 7
_BREAKPOINT = 0xCC

# ucontext_t: the order of its registers, and offsets (asm/sigcontext_64.h)
_ORDER = (8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4)
_REGISTERS, _RSP, _RIP, _FLAGS, _FPU = 40, 160, 168, 176, 224
_RIP_INDEX, _FLAGS_INDEX, _ERROR_INDEX, _TRAP_INDEX = 16, 17, 19, 20
SIGNALS = (4, 5, 7, 8, 11)  # ILL, TRAP, BUS, FPE, SEGV
# trap numbers; a non-canonical stack address is #SS (12), any other #GP (13)
_TRAPS = {0: Exit.DIVIDE, 6: Exit.ILLEGAL, 12: Exit.PRIVILEGED, 13: Exit.PRIVILEGED, 14: Exit.FAULT}
_TRAPS.update({16: Exit.FP_ERROR, 19: Exit.FP_ERROR})

_MAP = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE


# iced's feature -> the name in /proc/cpuinfo where it is not the same in lower case; "" is always there
_FEATURE_NAMES = {
    **dict.fromkeys(("INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486", "X64"), ""),
    **dict.fromkeys(("FPU287", "FPU387", "MULTIBYTENOP", "PAUSE", "CET_IBT"), ""),
    "CMPXCHG16B": "cx16",
    "LZCNT": "abm",
    "CLFSH": "clflush",
    "PREFETCHW": "3dnowprefetch",
    "SSE3": "pni",
}
_FEATURES = {number: name for name, number in vars(CpuidFeature).items() if isinstance(number, int)}


class Unavailable(Exception):
    """This host cannot run x86-64 instructions for us; the message says why."""


class _Sigaction(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class _Stack(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]


def map_fixed(address: int, size: int, executable: bool = False) -> None:
    """Readable and writable memory at exactly this address; raises Unavailable if something is there."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE | (mmap.PROT_EXEC if executable else 0)
    if _libc.mmap(address, size, protection, _MAP, -1, 0) != address:
        raise Unavailable(f"the host does not give memory at {address:#x} (errno {ctypes.get_errno()})")


def host_flags() -> frozenset[str]:
    """The processor's features as /proc/cpuinfo names them."""
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


class Outcome:
    """How a run ended: `exit` is EXIT_NONE with `pc` where the guest would go on, or the Exit kind of a
    fault."""

    __slots__ = ("address", "exit", "pc", "write")

    def __init__(self, exit: int, pc: int, address: int = 0, write: bool = False) -> None:
        self.exit = exit
        self.pc = pc
        self.address = address
        self.write = write

    def __repr__(self) -> str:
        where = f" at {self.address:#x}, write {self.write}" if self.exit == Exit.FAULT else ""
        return f"exit {self.exit}, pc {self.pc:#x}{where}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        mine = (self.exit, self.pc, self.address, self.write)
        return mine == (other.exit, other.pc, other.address, other.write)


class Native:
    """The host processor. One per process."""

    def __init__(self) -> None:
        if platform.machine() != "x86_64" or platform.system() != "Linux":
            raise Unavailable("the host is not x86-64 Linux")
        self.features = host_flags()
        map_fixed(CODE, CODE_SIZE, executable=True)
        map_fixed(_CONTROL, 0x2000, executable=True)
        self._input = (ctypes.c_uint64 * 19).from_address(_IN)
        self._signal = (ctypes.c_uint64 * 2).from_address(_OUT_SIGNAL)
        self._output = (ctypes.c_uint64 * 23).from_address(_OUT_REGISTERS)
        if "avx" not in self.features:
            raise Unavailable("the host has no AVX")
        self._output_fx = (ctypes.c_char * _IMAGE).from_address(_OUT_FX)
        back = self._write_stub(_STUBS, _return_stub())
        handler = self._write_stub(back, _handler(_STUBS))
        self._write_stub(handler, _entry("fsgsbase" in self.features))
        self._enter = ctypes.CFUNCTYPE(None)(handler)
        self._action = _Sigaction(handler=back, flags=4 | 0x08000000)  # SA_SIGINFO | SA_ONSTACK
        self._stack = ctypes.create_string_buffer(1 << 16)
        stack = _Stack(ctypes.addressof(self._stack), 0, len(self._stack))
        if _libc.sigaltstack(ctypes.byref(stack), None):
            raise Unavailable("no alternate signal stack")

    def has(self, instruction: Instruction) -> bool:
        """Whether this processor has what the instruction needs."""
        names = (_FEATURES[feature] for feature in instruction.cpuid_features())
        wanted = (_FEATURE_NAMES.get(name, name.lower()) for name in names)
        return all(not name or name in self.features for name in wanted)

    def _write_stub(self, at: int, code: list[Instruction]) -> int:
        """Assemble at an address; returns the next free one, aligned."""
        encoder = Encoder(64)
        data = b""
        for instruction in code:
            encoder.encode(instruction, at + len(data))
            data += encoder.take_buffer()
        ctypes.memmove(at, data, len(data))
        return at + len(data) + 15 & ~15

    def run(self, code: bytes, state: r.CpuState) -> Outcome:
        """Execute the instruction in `code` at `state.rip` (within the code pages) and bring `state` up to
        date.

        Of EFLAGS only the arithmetic flags and DF are loaded; FS stays the host's.
        """
        offset = state.rip - CODE
        if not 0 <= offset <= CODE_SIZE - len(code):
            raise ValueError("the instruction must lie in the code pages")
        ctypes.memset(CODE, _BREAKPOINT, CODE_SIZE)
        ctypes.memmove(CODE + offset, code, len(code))
        for number in range(16):
            self._input[number] = state.gpr(number)
        self._input[16], self._input[17] = state.rip, state.eflags & r.SPLIT_FLAGS | r.FLAG_IF | r.ALWAYS_SET
        self._input[18] = state.gs_base
        ctypes.memmove(_IN_FX, _image(state), _IMAGE)
        saved = [_Sigaction() for _ in SIGNALS]
        for number, old in zip(SIGNALS, saved, strict=True):
            _libc.sigaction(number, ctypes.byref(self._action), ctypes.byref(old))
        self._enter()
        for number, old in zip(SIGNALS, saved, strict=True):
            _libc.sigaction(number, ctypes.byref(old), None)
        return self._result(state)

    def _result(self, state: r.CpuState) -> Outcome:
        out = self._output
        for index, number in enumerate(_ORDER):
            state.set_gpr(number, out[index])
        kept = state.eflags & ~r.SPLIT_FLAGS
        state.eflags = kept | (out[_FLAGS_INDEX] & r.SPLIT_FLAGS)
        image = self._output_fx.raw
        state.fxrstor(image)
        upper = image[_UPPER:] if image[_HOLDS] & 4 else bytes(256)
        for number in range(16):
            state.set_ymm(number, state.xmm(number) + upper[16 * number : 16 * number + 16])
        pc = out[_RIP_INDEX]
        if self._signal[0] == 5:
            pc -= 1
            state.rip = pc
            return Outcome(Exit.NONE, pc)
        state.rip = pc
        trap = out[_TRAP_INDEX]
        kind = _TRAPS.get(trap)
        if kind is None:
            raise Unavailable(f"the host raised trap {trap}, which no engine has")
        if kind == Exit.FAULT:
            return Outcome(kind, pc, self._signal[1], bool(out[_ERROR_INDEX] & 2))
        return Outcome(kind, pc)


def _image(state: r.CpuState) -> bytes:
    """The XSAVE image of the x87 and vector registers."""
    upper = b"".join(state.ymm(number)[16:] for number in range(16))
    return state.fxsave() + _X87_SSE_AVX.to_bytes(8, "little") + bytes(_UPPER - _HOLDS - 8) + upper


def _set_number(register: Numbered, number: int) -> Instruction:
    return Instruction.create_reg_i32(Code.MOV_RM64_IMM32, register, number)


def _absolute(address: int) -> MemoryOperand:
    return MemoryOperand(displ=address, displ_size=8)


def _load(register: Numbered, address: int) -> Instruction:
    return Instruction.create_reg_mem(Code.MOV_R64_RM64, register, _absolute(address))


def _store(address: int, register: Numbered) -> Instruction:
    return Instruction.create_mem_reg(Code.MOV_RM64_R64, _absolute(address), register)


def _push(register: Numbered) -> Instruction:
    return Instruction.create_reg(Code.PUSH_R64, register)


def _pop(register: Numbered) -> Instruction:
    return Instruction.create_reg(Code.POP_R64, register)


_KEPT = (Register.RBX, Register.RBP, Register.R12, Register.R13, Register.R14, Register.R15)


def _entry(has_gs_base: bool) -> list[Instruction]:
    """Save the host's registers, load the guest's, go to the instruction."""
    out = [_push(register) for register in _KEPT]
    out.append(Instruction.create_mem(Code.FXSAVE64_M512BYTE, _absolute(_HOST_FX)))
    out.append(_store(_HOST_RSP, Register.RSP))
    if has_gs_base:
        out += [_load(Register.RAX, _IN_GS), Instruction.create_reg(Code.WRGSBASE_R64, Register.RAX)]
    out += [_set_number(Register.RAX, _X87_SSE_AVX), _set_number(Register.RDX, 0)]
    out.append(Instruction.create_mem(Code.XRSTOR64_MEM, _absolute(_IN_FX)))
    out.append(Instruction.create_mem(Code.PUSH_RM64, _absolute(_IN_FLAGS)))
    out.append(Instruction.create(Code.POPFQ))
    out += [_load(Register.RAX + number, _IN + 8 * number) for number in range(16)]
    out.append(Instruction.create_mem(Code.JMP_RM64, _absolute(_IN_PC)))
    return out


def _return_stub() -> list[Instruction]:
    out = [Instruction.create(Code.VEX_VZEROUPPER)]
    out.append(Instruction.create_mem(Code.FXRSTOR64_M512BYTE, _absolute(_HOST_FX)))
    out += [_pop(register) for register in reversed(_KEPT)]
    return [*out, Instruction.create(Code.RETNQ)]


def _handler(return_stub: int) -> list[Instruction]:
    """Copy signal number, address, registers and the XSAVE image out; make the signal return to the host's
    code."""
    context, scratch = Register.R8, Register.RAX
    copy = Instruction.create_rep_movsq(64)

    def field(base: Numbered, offset: int) -> MemoryOperand:
        return MemoryOperand(base=base, displ=offset, displ_size=8)

    return [
        _store(_OUT_SIGNAL, Register.RDI),
        Instruction.create_reg_mem(Code.MOV_R64_RM64, scratch, field(Register.RSI, 16)),
        _store(_OUT_ADDRESS, scratch),
        Instruction.create_reg_reg(Code.MOV_R64_RM64, context, Register.RDX),
        Instruction.create_reg_mem(Code.LEA_R64_M, Register.RSI, field(context, _REGISTERS)),
        _set_number(Register.RDI, _OUT_REGISTERS),
        _set_number(Register.RCX, 23),
        copy,
        Instruction.create_reg_mem(Code.MOV_R64_RM64, Register.RSI, field(context, _FPU)),
        _set_number(Register.RDI, _OUT_FX),
        _set_number(Register.RCX, _IMAGE // 8),
        copy,
        _set_number(scratch, return_stub),
        Instruction.create_mem_reg(Code.MOV_RM64_R64, field(context, _RIP), scratch),
        _load(scratch, _HOST_RSP),
        Instruction.create_mem_reg(Code.MOV_RM64_R64, field(context, _RSP), scratch),
        _set_number(scratch, r.FLAG_IF | r.ALWAYS_SET),
        Instruction.create_mem_reg(Code.MOV_RM64_R64, field(context, _FLAGS), scratch),
        Instruction.create(Code.RETNQ),
    ]
