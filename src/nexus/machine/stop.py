"""What a vCPU comes back with."""

from __future__ import annotations

from nexus.ir.state import Exit

KINDS = {number: name for name, number in vars(Exit).items() if name.isupper()}


class Stop:
    """`kind` is an `ir.state.Exit`; `argument` belongs to it (an interrupt's number).

    A FAULT has the 64-bit `address` the guest used, and whether it wanted to `write` or `execute`. The
    state's rip is the instruction to continue at: the next one after a SYSCALL or INTERRUPT, the same one
    after a fault or any other exception.
    """

    __slots__ = ("address", "argument", "execute", "kind", "write")

    def __init__(
        self, kind: int, argument: int = 0, address: int = 0, write: bool = False, execute: bool = False
    ) -> None:
        self.kind = kind
        self.argument = argument
        self.address = address
        self.write = write
        self.execute = execute

    def __repr__(self) -> str:
        name = KINDS.get(self.kind, str(self.kind))
        if self.kind != Exit.FAULT:
            return f"Stop({name}, {self.argument})"
        verb = "execute" if self.execute else "write" if self.write else "read"
        return f"Stop({name}, {verb} {self.address:#x})"


class FetchFault(Exception):
    """The instruction at `pc` cannot be fetched, because `address` may not be executed."""

    def __init__(self, pc: int, address: int) -> None:
        super().__init__(f"{address:#x} cannot be executed")
        self.pc = pc
        self.address = address
