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
    # result and operands (0 none, 1 scalar, 2 vector), bytes of the record, whether it branches, what its
    # immediate has to be below (0: any)
    Form = tuple[tuple[int, tuple[int, ...]], int, bool, int]

CORE = ("leave_code", "enter_code", "outside")  # stencils without which nothing runs
_MAGIC = b"NXSTEN03"
_HEAD = len(_MAGIC) + 8  # magic, checksum, size of the first part


class DamagedStencils(NexusError):
    """The file is not what was written."""


def pack(name: str, forms: dict[str, Form], stencils: dict[str, dict[str, Stencil]]) -> bytes:
    """The contents of the file called `name`."""
    core = marshal.dumps({each: stencils[each][""] for each in CORE})
    body = len(core).to_bytes(4, "little") + core + marshal.dumps((forms, stencils))
    return _MAGIC + _check(name, body).to_bytes(4, "little") + body


class Stencils:
    """What was built: `core`, and by variant its form and its stencils by shape, which are read when they are
    wanted first. `check` tells it from others."""

    __slots__ = ("_parts", "_rest", "check", "core")

    def __init__(self, name: str, data: bytes) -> None:
        """From the file called `name`, which another one of this kind cannot take the place of."""
        body = memoryview(data)[len(_MAGIC) + 4 :]
        self.check = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 4], "little")
        if data[: len(_MAGIC)] != _MAGIC or _check(name, body) != self.check:
            raise DamagedStencils(f"the stencils in {name} are damaged")
        size = int.from_bytes(body[:4], "little")
        self.core: dict[str, Stencil] = marshal.loads(body[4 : 4 + size])
        self._rest = body[4 + size :]
        self._parts: tuple[dict[str, Form], dict[str, dict[str, Stencil]]] | None = None

    @property
    def forms(self) -> dict[str, Form]:
        return self._read()[0]

    @property
    def stencils(self) -> dict[str, dict[str, Stencil]]:
        return self._read()[1]

    def _read(self) -> tuple[dict[str, Form], dict[str, dict[str, Stencil]]]:
        if self._parts is None:
            self._parts = marshal.loads(self._rest)
        return self._parts


def _check(name: str, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(name.encode()))
