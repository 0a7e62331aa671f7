"""What is known about an exception: for the report of a program that died of it."""

from __future__ import annotations

import struct

from nexus.base.errors import GuestFault
from nexus.nt.ps import context as ctx
from nexus.nt.ps.unwind import MappedFunctions, Unwinder
from nexus.nt.status import Status, status_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.ps.process import Process
    from nexus.nt.ps.thread import Thread

_NAMES = [
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rsp",
    "rbp",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
]
_STACK_BYTES = 0x4000
_DEEPEST = 24
CPP_EXCEPTION = 0xE06D_7363
WINE_STUB = 0x8000_0100  # raised in place of a function that the DLL here does not have
_LONGEST_NAME = 256
_ACCESS = {0: "read", 1: "write", 8: "execute"}


class Crash:
    """Code, place, parameters, registers (rax ... r15 in hardware order, rip) and the calls on the stack."""

    __slots__ = (
        "address",
        "code",
        "missing",
        "parameters",
        "process",
        "registers",
        "rip",
        "thread_id",
        "where",
    )

    def __init__(
        self,
        process: Process,
        thread_id: int,
        code: int,
        address: int,
        parameters: tuple[int, ...],
        registers: tuple[int, ...],
        rip: int,
    ) -> None:
        self.process = process
        self.thread_id = thread_id
        self.code = code
        self.address = address
        self.parameters = parameters
        self.registers = registers
        self.rip = rip
        self.where: list[str] = []
        self.missing = ""

    @classmethod
    def of(cls, thread: Thread, record: bytes, context: bytes | bytearray) -> Crash:
        code, _, _, address, count = struct.unpack_from("<IIQQI", record)
        count = min(count, 15)
        parameters = struct.unpack_from(f"<{count}Q", record, 32)
        registers = struct.unpack_from("<16Q", context, ctx.RAX)
        rip = int.from_bytes(context[ctx.RIP : ctx.RIP + 8], "little")
        return cls(thread.process, thread.id, code, address, parameters, registers, rip)

    @property
    def name(self) -> str:
        if self.code == WINE_STUB:
            return "a function that is missing here"
        return "a C++ exception" if self.code == CPP_EXCEPTION else status_name(self.code)

    def note_stack(self) -> None:
        """Fix the calls on the stack now, while the process still has its memory."""
        if not self.where:
            if self.code == WINE_STUB and len(self.parameters) == 2:
                self.missing = f"{self._text(self.parameters[0])}!{self._text(self.parameters[1])}"
            self.where = [self.process.describe_address(self.address or self.rip), *self._callers()]

    def _text(self, address: int) -> str:
        """A zero-terminated name in the guest; an ordinal is a small number instead."""
        if address < 0x1_0000:
            return f"#{address}"
        name = bytearray()
        try:
            while len(name) < _LONGEST_NAME and (byte := self.process.window.u8(address + len(name))):
                name.append(byte)
        except GuestFault:
            return "?"
        return name.decode("ascii", "replace")

    def _callers(self) -> list[str]:
        """The calls that led here, newest first."""
        process = self.process
        unwinder = Unwinder(process.window, MappedFunctions(process))
        calls = unwinder.stack(list(self.registers), self.rip)
        return [process.describe_address(place) for place in calls[1 : 1 + _DEEPEST]]

    def text(self) -> str:
        """The report, several lines."""
        program = self.process.image_name.removeprefix("\\??\\") or "the program"
        lines = [f"{program}: unhandled exception {self.code:#010x}"]
        if self.name != f"{self.code:#010x}":
            lines[0] += f" ({self.name})"
        if self.code == Status.ACCESS_VIOLATION and len(self.parameters) >= 2:
            verb = _ACCESS.get(self.parameters[0], "access")
            lines[0] += f", tried to {verb} {self.parameters[1]:#x}"
        if self.missing:
            lines[0] += f": {self.missing} (nexus check lists all)"
        values = [*zip(_NAMES, self.registers, strict=True), ("rip", self.rip)]
        for start in range(0, len(values), 4):
            lines.append(
                "  " + "  ".join(f"{name:>3}={value:016x}" for name, value in values[start : start + 4])
            )
        for number, place in enumerate(self.where):
            lines.append(f"  {'at' if number == 0 else 'by'} {place}")
        return "\n".join(lines)


def crash_behind(thread: Thread, status: int) -> Crash | None:
    """The exception a process dies of when it ends itself with `status`, or None when that is just an exit
    code.

    ntdll looks for handlers of raised exceptions in the guest, so the kernel may first hear of one now;
    then its record and context are still on the stack.
    """
    if status >> 30 != 3 and status != WINE_STUB:
        return None
    crash = thread.last_crash
    if crash is None or crash.code != status:
        crash = _on_stack(thread, status)
    if crash is not None:
        crash.note_stack()
    return crash


def _on_stack(thread: Thread, status: int) -> Crash | None:
    """An EXCEPTION_RECORD with that code, and the CONTEXT that goes with it, on the thread's stack."""
    window, process = thread.process.window, thread.process
    lowest, size = thread.stack
    start = max(lowest, thread.state.rsp - _STACK_BYTES) & ~15
    try:
        content = window.read_forced(start, min(lowest + size, start + 4 * _STACK_BYTES) - start)
    except GuestFault:
        return None
    wanted = status.to_bytes(4, "little")
    at = content.find(wanted)
    while at >= 0:
        record = content[at : at + 0x98]
        if not at % 8 and len(record) == 0x98:
            _, flags, nested, address, count = struct.unpack_from("<IIQQI", record)
            if flags < 0x100 and not nested and count <= 15 and process.module_at(address):
                context = _context_of(content, address)
                if context is not None:
                    return Crash.of(thread, record, context)
        at = content.find(wanted, at + 1)
    return None


def _context_of(content: bytes, address: int) -> bytes | None:
    """A CONTEXT whose Rip is `address`."""
    wanted = address.to_bytes(8, "little")
    at = content.find(wanted, ctx.RIP)
    while at >= 0:
        start = at - ctx.RIP
        flags = int.from_bytes(content[start + ctx.FLAGS : start + ctx.FLAGS + 4], "little")
        if (
            not start % 16
            and flags & ctx.CONTEXT_FULL == ctx.CONTEXT_FULL
            and start + ctx.CONTEXT_SIZE <= len(content)
        ):
            return content[start : start + ctx.CONTEXT_SIZE]
        at = content.find(wanted, at + 1)
    return None
