"""The built stencils as a file: a checksum, then what `marshal` makes of two dictionaries."""

from __future__ import annotations

import marshal
import zlib

from nexus.base.errors import NexusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    # offset, bytes, what goes there, what is added to it
    Hole = tuple[int, int, str, int]
    Stencil = tuple[bytes, tuple[Hole, ...]]
    # result and operands (0 none, 1 scalar, 2 vector), bytes of the record, whether it branches, what its
    # immediate has to be below (0: any)
    Form = tuple[tuple[int, tuple[int, ...]], int, bool, int]

_MAGIC = b"NXSTEN02"


class DamagedStencils(NexusError):
    """The file is not what was written."""


def pack(forms: dict[str, Form], stencils: dict[str, dict[str, Stencil]]) -> bytes:
    body = marshal.dumps((forms, stencils))
    return _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(data: bytes) -> tuple[dict[str, Form], dict[str, dict[str, Stencil]]]:
    """By variant: its form, and its stencils by shape."""
    body = data[12:]
    if data[:8] != _MAGIC or zlib.crc32(body).to_bytes(4, "little") != data[8:12]:
        raise DamagedStencils("the file of stencils is damaged")
    forms, stencils = marshal.loads(body)
    return forms, stencils
