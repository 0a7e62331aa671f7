"""Resources of a PE image: a tree of type, name and language that ends in data."""

from __future__ import annotations

from struct import unpack_from

from nexus.loader import pe
from nexus.loader.pe import Image, contradictory

_DIRECTORY, _ENTRY = 16, 8
_NAMED = _BELOW = 0x8000_0000
MAX_ENTRIES = 0x1000


def resource(image: Image, kind: str) -> bytes | None:
    """The data of the first resource of a type that is named by a text; None when there is none."""
    start, _ = image.directory(pe.RESOURCE)
    if not start:
        return None
    for name, offset in _entries(image, start, 0):
        if name & _NAMED and _name(image, start, name & ~_NAMED) == kind:
            for _ in range(2):  # the first name, then its first language
                below = _entries(image, start, offset & ~_BELOW)
                if not below:
                    return None
                offset = below[0][1]
            address, size = unpack_from("<II", image.read(start + offset, 16))
            return image.read(address, size)
    return None


def _entries(image: Image, start: int, offset: int) -> list[tuple[int, int]]:
    """(name or number, offset) of one directory of the tree."""
    named, numbered = unpack_from("<HH", image.read(start + offset, _DIRECTORY), 12)
    count = named + numbered
    if count > MAX_ENTRIES:
        raise contradictory(f"a resource directory with {count} entries")
    rows = image.read(start + offset + _DIRECTORY, _ENTRY * count) if count else b""
    return [unpack_from("<II", rows, _ENTRY * index) for index in range(count)]


def _name(image: Image, start: int, offset: int) -> str:
    length = int.from_bytes(image.read(start + offset, 2), "little")
    return image.read(start + offset + 2, 2 * length).decode("utf-16-le", "replace")
