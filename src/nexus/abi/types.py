"""Scalar types of guest structures and signatures.

For the type checker each name is an `int`; the codec that reads and writes it is found by that name in
`SCALARS`. `uptr` is as wide as a pointer of the guest, all others have the width in their name.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Memory(Protocol):
        """What typed pointers need: guarded copies (`machine.window.Window` is one)."""

        def read(self, address: int, size: int) -> bytes: ...
        def write(self, address: int, data: bytes) -> None: ...


u8 = int
u16 = int
u32 = int
u64 = int
i8 = int
i16 = int
i32 = int
i64 = int
uptr = int
boolean = int
"""BOOLEAN: one byte, read as 0 or 1."""


class Scalar:
    """A little-endian integer of `size` bytes; `code` is its letter for the struct module."""

    __slots__ = ("code", "mask", "name", "sign", "size")

    def __init__(self, name: str, size: int, code: str) -> None:
        self.name = name
        self.size = size
        self.code = code
        self.mask = (1 << 8 * size) - 1
        self.sign = 1 << 8 * size - 1 if code.islower() else 0

    def __repr__(self) -> str:
        return self.name

    def of(self, raw: int) -> int:
        """The value that a raw 64-bit argument has in this type (upper bits are garbage by convention)."""
        value = raw & self.mask
        return (value ^ self.sign) - self.sign

    def read(self, memory: Memory, address: int) -> int:
        return int.from_bytes(memory.read(address, self.size), "little", signed=self.sign != 0)

    def write(self, memory: Memory, address: int, value: int) -> None:
        memory.write(address, (value & self.mask).to_bytes(self.size, "little"))


SCALARS: dict[str, Scalar] = {
    scalar.name: scalar
    for scalar in (
        Scalar("u8", 1, "B"),
        Scalar("u16", 2, "H"),
        Scalar("u32", 4, "I"),
        Scalar("u64", 8, "Q"),
        Scalar("i8", 1, "b"),
        Scalar("i16", 2, "h"),
        Scalar("i32", 4, "i"),
        Scalar("i64", 8, "q"),
        Scalar("uptr", 8, "Q"),
        Scalar("boolean", 1, "B"),
    )
}
UPTR32 = Scalar("uptr", 4, "I")
