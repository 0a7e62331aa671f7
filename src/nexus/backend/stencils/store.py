"""The built stencils as a file: a checksum, then what `marshal` makes of two parts. The first is what host
code needs to run, the second what it is made from, which a process that finds its code in the cache never
looks at.
"""

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
    # those are of its result, how many operands they have, whether the last operand is the immediate, whether
    # flags stay if that operand is 0
    Form = tuple[tuple[int, tuple[int, ...]], int, bool, int, int, bool, int, bool, int, bool, bool]
    _Parts = tuple[dict[str, Form], dict[str, dict[str, Stencil]], dict[str, Places]]

CORE = ("base_code", "outside")  # stencils without which nothing runs
_MAGIC = b"NXSTEN05"
_HEAD = len(_MAGIC) + 8  # magic, checksum, size of the first part


class DamagedStencils(NexusError):
    """The file is not what was written."""


def pack(
    name: str,
    forms: dict[str, Form],
    stencils: dict[str, dict[str, Stencil]],
    borrows: dict[str, Places],
    pool: bytes,
) -> bytes:
    """The contents of the file called `name`."""
    core = marshal.dumps(({each: stencils[each][""] for each in CORE}, pool))
    body = len(core).to_bytes(4, "little") + core + marshal.dumps((forms, stencils, borrows))
    return _MAGIC + _check(name, body).to_bytes(4, "little") + body


class Stencils:
    """What was built: `core`, `pool` (constants), and by variant its form, its stencils by shape, and the
    slots of the pinned registers that they borrow; these are read when they are wanted first. `check` tells
    it from others."""

    __slots__ = ("_parts", "_rest", "check", "core", "pool")

    def __init__(self, name: str, data: bytes) -> None:
        """From the file called `name`, which another one of this kind cannot take the place of."""
        body = memoryview(data)[len(_MAGIC) + 4 :]
        self.check = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 4], "little")
        if data[: len(_MAGIC)] != _MAGIC or _check(name, body) != self.check:
            raise DamagedStencils(f"the stencils in {name} are damaged")
        size = int.from_bytes(body[:4], "little")
        self.core: dict[str, Stencil]
        self.pool: bytes
        self.core, self.pool = marshal.loads(body[4 : 4 + size])
        self._rest = body[4 + size :]
        self._parts: _Parts | None = None

    @property
    def forms(self) -> dict[str, Form]:
        return self._read()[0]

    @property
    def stencils(self) -> dict[str, dict[str, Stencil]]:
        return self._read()[1]

    @property
    def borrows(self) -> dict[str, Places]:
        return self._read()[2]

    def _read(self) -> _Parts:
        if self._parts is None:
            self._parts = marshal.loads(self._rest)
        return self._parts


def _check(name: str, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(name.encode()))
