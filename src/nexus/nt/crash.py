"""What is known about an exception: for the report of a program that died of it."""

from __future__ import annotations

import struct

from nexus.base.errors import GuestFault
from nexus.nt import context as ctx
from nexus.nt.status import Status, status_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.process import Process
    from nexus.nt.thread import Thread

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
_ACCESS = {0: "read", 1: "write", 8: "execute"}


class Crash:
    """Code, place, parameters, registers (rax ... r15 in hardware order, rip) and the calls on the stack."""

    __slots__ = ("address", "code", "parameters", "process", "registers", "rip", "thread_id", "where")

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
        return "a C++ exception" if self.code == CPP_EXCEPTION else status_name(self.code)

    def note_stack(self) -> None:
        """Fix the calls on the stack now, while the process still has its memory."""
        if not self.where:
            self.where = [self.process.describe_address(self.address or self.rip), *self._callers()]

    def _callers(self) -> list[str]:
        """Stack words that point behind a call instruction in an image: calls, newest first, maybe some
        stale.
        """
        window, process = self.process.window, self.process
        rsp = self.registers[4] & ~7
        found: list[str] = []
        for address in range(rsp, rsp + _STACK_BYTES, 8):
            try:
                word = window.u64(address)
                if process.module_at(word) is None or not _follows_call(window.read(word - 7, 7)):
                    continue
            except GuestFault:
                if address > rsp and window.access(address) is None:
                    break
                continue
            found.append(process.describe_address(word))
            if len(found) == _DEEPEST:
                break
        return found

    def text(self) -> str:
        """The report, several lines."""
        lines = [
            f"{self.process.image_name or 'the program'}: unhandled exception {self.code:#010x} ({self.name})"
        ]
        if self.code == Status.ACCESS_VIOLATION and len(self.parameters) >= 2:
            verb = _ACCESS.get(self.parameters[0], "access")
            lines[0] += f", tried to {verb} {self.parameters[1]:#x}"
        values = [*zip(_NAMES, self.registers, strict=True), ("rip", self.rip)]
        for start in range(0, len(values), 4):
            lines.append(
                "  " + "  ".join(f"{name:>3}={value:016x}" for name, value in values[start : start + 4])
            )
        for number, place in enumerate(self.where):
            lines.append(f"  {'at' if number == 0 else 'by'} {place}")
        return "\n".join(lines)


def _follows_call(before: bytes) -> bool:
    """Do these seven bytes end in a call instruction?"""
    if before[2] == 0xE8:
        return True
    for length in (2, 3, 4, 6, 7):
        at = 7 - length
        if before[at] == 0xFF and before[at + 1] >> 3 & 7 == 2:
            return True
    return False
