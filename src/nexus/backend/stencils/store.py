"""The built stencils as a file: a checksum, then what `marshal` makes of three dictionaries and the constants."""

from __future__ import annotations

import marshal
import zlib

from nexus.base.errors import NexusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    # offset, bytes, what goes there, what is added to it
    Hole = tuple[int, int, str, int]
    Stencil = tuple[bytes, tuple[Hole, ...]]
    Places = tuple[tuple[int, int], ...]  # kind, slot
    # result and operands (`source.kind`), bytes of the record, whether it branches, what its immediate has
    # to be below (0: any), how it accesses memory and whether to write, what it means for the flags, whether
    # those are of its result, how many operands they have, whether the last operand is the immediate
    Form = tuple[tuple[int, tuple[int, ...]], int, bool, int, int, bool, int, bool, int, bool]

_MAGIC = b"NXSTEN05"


class DamagedStencils(NexusError):
    """The file is not what was written."""


def pack(
    forms: dict[str, Form],
    stencils: dict[str, dict[str, Stencil]],
    borrows: dict[str, Places],
    pool: bytes,
) -> bytes:
    body = marshal.dumps((forms, stencils, borrows, pool))
    return _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(
    data: bytes,
) -> tuple[dict[str, Form], dict[str, dict[str, Stencil]], dict[str, Places], bytes]:
    """By variant: its form, its stencils by shape, and the slots of the pinned registers that they borrow;
    then the constants."""
    body = data[12:]
    if data[:8] != _MAGIC or zlib.crc32(body).to_bytes(4, "little") != data[8:12]:
        raise DamagedStencils("the file of stencils is damaged")
    forms, stencils, borrows, pool = marshal.loads(body)
    return forms, stencils, borrows, pool
