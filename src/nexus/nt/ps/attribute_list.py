"""PS_ATTRIBUTE_LIST: the optional arguments of thread and process creation."""

from __future__ import annotations

import struct

from nexus.nt.errors import NtError
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.types import Memory

_ENTRY = struct.Struct("<4Q")
_MAXIMUM = 64
_NUMBER = 0xFFFF


class Attribute:
    """One PS_ATTRIBUTE: `kind` with its thread/input/additive flags, `value` is a pointer or the value
    itself.
    """

    __slots__ = ("kind", "returned", "size", "value")

    def __init__(self, kind: int, size: int, value: int, returned: int) -> None:
        self.kind = kind
        self.size = size
        self.value = value
        self.returned = returned

    @property
    def number(self) -> int:
        """PS_ATTRIBUTE_NUM, without the flags."""
        return self.kind & _NUMBER

    def give(self, memory: Memory, data: bytes) -> None:
        """Write an output attribute."""
        if self.size < len(data):
            raise NtError(Status.BUFFER_TOO_SMALL)
        memory.write(self.value, data)
        if self.returned:
            memory.write(self.returned, len(data).to_bytes(8, "little"))


def read_attribute_list(memory: Memory, address: int) -> list[Attribute]:
    """All entries of the list."""
    total = int.from_bytes(memory.read(address, 8), "little")
    count = (total - 8) // _ENTRY.size if total >= 8 else 0
    if count > _MAXIMUM:
        raise NtError(Status.INVALID_PARAMETER)
    data = memory.read(address + 8, count * _ENTRY.size)
    return [Attribute(*fields) for fields in _ENTRY.iter_unpack(data)]
