"""The data directories of a PE image, each read on demand from an `Image`.

All counts and addresses come from the file and are checked; every loop is bounded by what the file can hold.
"""

from __future__ import annotations

from struct import iter_unpack, unpack_from

from nexus.loader import pe
from nexus.loader.pe import Image, contradictory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NAMES = 0x10000
MAX_MODULES = 0x1000
MAX_EXPORTS = 1 << 22

REL_ABSOLUTE, REL_HIGHLOW, REL_DIR64 = 0, 3, 10


class Export:
    """An exported symbol: `forward` is "module.name" if it lives elsewhere; `name` is empty for ordinals."""

    __slots__ = ("address", "forward", "name", "ordinal")

    def __init__(self, name: str, ordinal: int, address: int, forward: str) -> None:
        self.name = name
        self.ordinal = ordinal
        self.address = address
        self.forward = forward


class Import:
    """An imported symbol: by `name`, or by `ordinal` if that is empty; `slot` is its place in the IAT."""

    __slots__ = ("name", "ordinal", "slot")

    def __init__(self, name: str, ordinal: int, slot: int) -> None:
        self.name = name
        self.ordinal = ordinal
        self.slot = slot

    def __str__(self) -> str:
        return self.name or f"#{self.ordinal}"


class Tls:
    """The static thread-local storage directory; addresses are absolute, as the file gives them."""

    __slots__ = ("callbacks", "characteristics", "end", "index", "start", "zero_fill")

    def __init__(
        self, start: int, end: int, index: int, callbacks: int, zero_fill: int, characteristics: int
    ) -> None:
        self.start = start
        self.end = end
        self.index = index
        self.callbacks = callbacks
        self.zero_fill = zero_fill
        self.characteristics = characteristics


def exports(image: Image) -> list[Export]:
    """Every export in ordinal order; names of the same entry give one Export each."""
    start, size = image.directory(pe.EXPORT)
    if not start:
        return []
    whole = image.read(start, size) if size <= MAX_EXPORTS else b""

    def text(address: int) -> str:
        """A name, which nearly always lies inside the directory."""
        end = whole.find(b"\0", address - start) if start <= address < start + len(whole) else -1
        return whole[address - start : end].decode("latin-1") if end >= 0 else image.text(address)

    base, functions, names, function_table, name_table, ordinal_table = unpack_from(
        "<IIIIII", image.read(start, 40), 16
    )
    if functions > MAX_NAMES or names > MAX_NAMES:
        raise contradictory(f"{functions} exported functions with {names} names")
    table = image.read(function_table, 4 * functions) if functions else b""
    addresses = [address for (address,) in iter_unpack("<I", table)]
    by_index: dict[int, list[str]] = {}
    if names:
        pairs = zip(
            iter_unpack("<I", image.read(name_table, 4 * names)),
            iter_unpack("<H", image.read(ordinal_table, 2 * names)),
            strict=True,
        )
        for (name_address,), (index,) in pairs:
            by_index.setdefault(index, []).append(text(name_address))
    result = []
    for index, address in enumerate(addresses):
        if not address:
            continue
        forward = text(address) if start <= address < start + size else ""
        for name in by_index.get(index, [""]):
            result.append(Export(name, base + index, address, forward))
    return result


def export_addresses(image: Image) -> dict[str, int]:
    """Name -> address of every export that has a name and is not forwarded."""
    return {e.name: e.address for e in exports(image) if e.name and not e.forward}


def imports(image: Image) -> dict[str, list[Import]]:
    """Module name (as written) -> what is imported from it."""
    start, _ = image.directory(pe.IMPORT)
    result: dict[str, list[Import]] = {}
    for at in range(start, start + 20 * MAX_MODULES, 20) if start else ():
        lookup, _, _, name, slots = unpack_from("<IIIII", image.read(at, 20))
        if not name or not slots:
            break
        result.setdefault(image.text(name), []).extend(_thunks(image, lookup or slots, slots))
    return result


def delay_imports(image: Image) -> dict[str, list[Import]]:
    """Like `imports`, for the modules that are loaded on first use."""
    start, _ = image.directory(pe.DELAY_IMPORT)
    result: dict[str, list[Import]] = {}
    for at in range(start, start + 32 * MAX_MODULES, 32) if start else ():
        attributes, name, _, slots, lookup = unpack_from("<IIIII", image.read(at, 32))
        if not name:
            break
        bias = 0 if attributes & 1 else image.image_base  # old linkers wrote absolute addresses
        result.setdefault(image.text(name - bias), []).extend(_thunks(image, lookup - bias, slots - bias))
    return result


def _thunks(image: Image, lookup: int, slots: int) -> Iterator[Import]:
    width = 8 if image.is_64bit else 4
    by_ordinal = 1 << (8 * width - 1)
    for index in range(MAX_NAMES):
        value = int.from_bytes(image.read(lookup + width * index, width), "little")
        if not value:
            return
        slot = slots + width * index
        if value & by_ordinal:
            yield Import("", value & 0xFFFF, slot)
        else:
            yield Import(image.text((value & 0x7FFF_FFFF) + 2, 4096), 0, slot)
    raise contradictory("an import table without an end")


def relocations(image: Image) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """(page address, [(type, offset in page), ...]) of every relocation block, padding entries left out."""
    start, size = image.directory(pe.BASERELOC)
    at, end = start, start + size
    while at + 8 <= end:
        page, length = unpack_from("<II", image.read(at, 8))
        if not length:
            return
        if length < 8 or at + length > end or length & 1:
            raise contradictory(f"a relocation block of {length} bytes at {at:#x}")
        entries = [
            (entry >> 12, entry & 0xFFF)
            for (entry,) in iter_unpack("<H", image.read(at + 8, length - 8))
            if entry >> 12 != REL_ABSOLUTE
        ]
        yield page, entries
        at += length


def tls(image: Image) -> Tls | None:
    start, _ = image.directory(pe.TLS)
    if not start:
        return None
    if image.is_64bit:
        return Tls(*unpack_from("<QQQQII", image.read(start, 40)))
    return Tls(*unpack_from("<IIIIII", image.read(start, 24)))


def has_hybrid_code(image: Image) -> bool:
    """Whether an x64 image is really ARM64EC (an ARM64 one ARM64X): it has CHPE metadata."""
    start, _ = image.directory(pe.LOAD_CONFIG)
    if not start or not image.is_64bit:
        return False
    size = int.from_bytes(image.read(start, 4), "little")
    if size < 0xD0:
        return False
    return image.read(start + 0xC8, 8) != bytes(8)
