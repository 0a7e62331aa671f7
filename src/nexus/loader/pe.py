"""Portable Executable headers: `parse(data) -> Image`.

Offsets and meanings are those of Microsoft's "PE Format" specification. `Image` keeps the header fields under
their specified names in snake case; the data directories are read on demand by `directories.py`.
"""

from __future__ import annotations

from struct import Struct as Layout

from nexus.base.errors import BadImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Data(Protocol):
        """Bytes of a file: `bytes`, a `memoryview`, or `source.FileBytes`, which reads as it is asked."""

        def __len__(self) -> int: ...
        def __getitem__(self, part: slice, /) -> bytes | bytearray | memoryview: ...


MACHINE_I386, MACHINE_AMD64 = 0x014C, 0x8664
MACHINE_ARM, MACHINE_ARMNT, MACHINE_ARM64 = 0x01C0, 0x01C4, 0xAA64
MACHINE_ARM64EC, MACHINE_ARM64X, MACHINE_IA64 = 0xA641, 0xA64E, 0x0200

FILE_RELOCS_STRIPPED, FILE_EXECUTABLE_IMAGE = 0x0001, 0x0002
FILE_LARGE_ADDRESS_AWARE, FILE_DLL = 0x0020, 0x2000

DLL_HIGH_ENTROPY_VA, DLL_DYNAMIC_BASE, DLL_NX_COMPAT = 0x0020, 0x0040, 0x0100

SUBSYSTEM_NATIVE, SUBSYSTEM_GUI, SUBSYSTEM_CONSOLE = 1, 2, 3

SCN_CODE = 0x00000020
SCN_EXECUTE, SCN_READ, SCN_WRITE, SCN_SHARED = 0x20000000, 0x40000000, 0x80000000, 0x10000000

EXPORT, IMPORT, RESOURCE, EXCEPTION, SECURITY, BASERELOC, DEBUG = range(7)
TLS, LOAD_CONFIG, BOUND_IMPORT, IAT, DELAY_IMPORT, COM_DESCRIPTOR = range(9, 15)

PAGE = 0x1000
MAX_SECTIONS = 96
"""The Windows loader refuses more."""

BUILTIN_MARK = b"Wine builtin DLL\0"
FAKE_MARK = b"Wine placeholder DLL\0"

_FILE_HEADER = Layout("<HHIIIHH")
_OPTIONAL_64 = Layout("<HBBIIIIIQIIHHHHHHIIIIHHQQQQII")
_OPTIONAL_32 = Layout("<HBBIIIIIIIIIHHHHHHIIIIHHIIIIII")
_SECTION = Layout("<8sIIIIIIHHI")


class NotPortableExecutable(BadImage):
    """The PE headers are unusable; `kind` is "not-mz", "dos", "win16", "truncated" or "contradictory"."""

    def __init__(self, kind: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class Section:
    """A row of the section table: `file_size` bytes at `file_offset` are mapped at `address`, then zeros."""

    __slots__ = ("address", "characteristics", "file_offset", "file_size", "name", "virtual_size")

    def __init__(
        self, name: str, address: int, virtual_size: int, file_offset: int, file_size: int, flags: int
    ) -> None:
        self.name = name
        self.address = address
        self.virtual_size = virtual_size
        self.file_offset = file_offset
        self.file_size = file_size
        self.characteristics = flags

    def __repr__(self) -> str:
        return f"<Section {self.name} {self.address:#x}+{self.virtual_size:#x}>"


class Image:
    """A parsed PE file: header fields, section table, and the bytes they came from."""

    __slots__ = (
        "base_of_code",
        "characteristics",
        "checksum",
        "data",
        "directories",
        "dll_characteristics",
        "entry_point",
        "file_alignment",
        "headers_offset",
        "heap_commit",
        "heap_reserve",
        "image_base",
        "is_64bit",
        "loader_flags",
        "machine",
        "optional_offset",
        "os_version",
        "section_alignment",
        "sections",
        "size_of_headers",
        "size_of_image",
        "stack_commit",
        "stack_reserve",
        "subsystem",
        "subsystem_version",
        "timestamp",
    )

    data: Data
    headers_offset: int
    optional_offset: int
    machine: int
    characteristics: int
    timestamp: int
    is_64bit: bool
    entry_point: int
    base_of_code: int
    image_base: int
    section_alignment: int
    file_alignment: int
    os_version: tuple[int, int]
    subsystem_version: tuple[int, int]
    size_of_image: int
    size_of_headers: int
    checksum: int
    subsystem: int
    dll_characteristics: int
    stack_reserve: int
    stack_commit: int
    heap_reserve: int
    heap_commit: int
    loader_flags: int
    directories: list[tuple[int, int]]
    sections: list[Section]

    @property
    def is_dll(self) -> bool:
        return bool(self.characteristics & FILE_DLL)

    @property
    def is_dotnet(self) -> bool:
        return self.directory(COM_DESCRIPTOR) != (0, 0)

    @property
    def can_relocate(self) -> bool:
        return not self.characteristics & FILE_RELOCS_STRIPPED

    @property
    def contains_code(self) -> bool:
        return any(s.characteristics & SCN_CODE for s in self.sections)

    def directory(self, index: int) -> tuple[int, int]:
        """(address, size) of a data directory, both relative to the image; (0, 0) when absent."""
        if index >= len(self.directories):
            return 0, 0
        address, size = self.directories[index]
        return (address, size) if address and size else (0, 0)

    def section_at(self, address: int) -> Section | None:
        for section in self.sections:
            if section.address <= address < section.address + max(section.virtual_size, section.file_size):
                return section
        return None

    def file_offset(self, address: int) -> int | None:
        """Where in the file the byte mapped at `address` (relative to the image) comes from, if it does."""
        if address < self.size_of_headers:
            return address
        section = self.section_at(address)
        if section is None or address - section.address >= section.file_size:
            return None
        return section.file_offset + address - section.address

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes as they would be mapped at `address` (relative to the image), zeros included.

        Raises BadImage when the range is not wholly inside the headers or one section.
        """
        if address + size <= self.size_of_headers:
            return bytes(self.data[address : address + size]).ljust(size, b"\0")
        section = self.section_at(address)
        extent = max(section.virtual_size, section.file_size) if section else 0
        if section is None or address + size > section.address + extent:
            raise contradictory(f"its headers point to {address:#x}, which is not part of the image")
        inside = address - section.address
        stored = max(0, min(size, section.file_size - inside))
        start = section.file_offset + inside
        return bytes(self.data[start : start + stored]).ljust(size, b"\0")

    def text(self, address: int, limit: int = 512) -> str:
        """The zero-terminated ASCII string at `address`; BadImage when it has no end within `limit`."""
        section = self.section_at(address)
        end = self.size_of_headers if section is None else section.address + section.file_size
        raw = self.read(address, max(0, min(limit, end - address)))
        stop = raw.find(b"\0")
        if stop < 0:
            raise contradictory(f"the name at {address:#x} has no end")
        return raw[:stop].decode("latin-1")


def truncated(what: str) -> NotPortableExecutable:
    return NotPortableExecutable(
        "truncated", f"the file is cut short: {what}", hint="download or build the program again"
    )


def contradictory(what: str) -> NotPortableExecutable:
    return NotPortableExecutable(
        "contradictory",
        f"the program's headers contradict each other: {what}",
        hint="the file is damaged or hostile",
    )


def parse(data: Data) -> Image:
    """Read headers and section table; raises NotPortableExecutable (a BadImage) when they are unusable."""
    image = Image()
    image.data = data
    image.headers_offset = _find_headers(data)
    _read_file_header(image)
    _read_optional_header(image)
    _check_layout(image)
    return image


def _find_headers(data: Data) -> int:
    if len(data) < 2 or bytes(data[:2]) != b"MZ":
        raise NotPortableExecutable("not-mz", "this is not a Windows program: it does not begin with MZ")
    if len(data) < 0x40:
        raise truncated("even the DOS header is incomplete")
    offset = int.from_bytes(data[0x3C:0x40], "little")
    signature = bytes(data[offset : offset + 4])
    if signature[:2] in (b"NE", b"LE", b"LX", b"W3", b"W4"):
        raise NotPortableExecutable("win16", f"this is a 16-bit program ({signature[:2].decode()} format)")
    if signature == b"PE\0\0":
        return offset
    header_paragraphs = int.from_bytes(data[8:10], "little")
    if offset >= len(data) and offset < 0x1000_0000 and header_paragraphs <= 4 <= offset // 16:
        raise truncated("the place of its Windows headers lies behind its end")
    raise NotPortableExecutable("dos", "this is a DOS program: it has no Windows headers")


def _read_file_header(image: Image) -> None:
    offset = image.headers_offset + 4
    if offset + _FILE_HEADER.size > len(image.data):
        raise truncated("it ends inside the file header")
    fields = _FILE_HEADER.unpack(image.data[offset : offset + _FILE_HEADER.size])
    machine, sections, timestamp, _, _, optional_size, characteristics = fields
    image.machine = machine
    image.timestamp = timestamp
    image.characteristics = characteristics
    image.optional_offset = offset + _FILE_HEADER.size
    if sections > MAX_SECTIONS:
        raise contradictory(f"{sections} sections, at most {MAX_SECTIONS} are possible")
    table = image.optional_offset + optional_size
    if table + sections * _SECTION.size > len(image.data):
        raise truncated("it ends inside the section table")
    rows = bytes(image.data[table : table + sections * _SECTION.size])
    image.sections = [_read_section(row) for row in _SECTION.iter_unpack(rows)]


def _read_section(row: tuple[Any, ...]) -> Section:
    name, virtual_size, address, file_size, file_offset, _, _, _, _, characteristics = row
    # The Windows loader rounds file offsets down to 512 bytes; an offset of 0 means "nothing in the file".
    start = file_offset & ~0x1FF
    if not file_offset:
        file_size = 0
    text = name.rstrip(b"\0").decode("latin-1")
    return Section(text, address, virtual_size or file_size, start, file_size, characteristics)


def _read_optional_header(image: Image) -> None:
    data, offset = image.data, image.optional_offset
    size = int.from_bytes(data[image.headers_offset + 20 : image.headers_offset + 22], "little")
    magic = int.from_bytes(data[offset : offset + 2], "little")
    if magic not in (0x10B, 0x20B):
        if image.characteristics & FILE_EXECUTABLE_IMAGE:
            raise contradictory(f"unknown optional header {magic:#x}")
        raise contradictory("it is marked as not executable (an object file?)")
    image.is_64bit = magic == 0x20B
    layout = _OPTIONAL_64 if image.is_64bit else _OPTIONAL_32
    if size < layout.size:
        raise contradictory(f"an optional header of {size} bytes, {layout.size} are needed")
    if offset + layout.size > len(data):
        raise truncated("it ends inside the optional header")
    fields = list(layout.unpack(data[offset : offset + layout.size]))
    if not image.is_64bit:
        del fields[8]  # BaseOfData, which the 64-bit form dropped
    image.entry_point, image.base_of_code, image.image_base = fields[6:9]
    image.section_alignment, image.file_alignment = fields[9:11]
    image.os_version = fields[11], fields[12]
    image.subsystem_version = fields[15], fields[16]
    image.size_of_image, image.size_of_headers, image.checksum = fields[18:21]
    image.subsystem, image.dll_characteristics = fields[21:23]
    image.stack_reserve, image.stack_commit, image.heap_reserve, image.heap_commit = fields[23:27]
    image.loader_flags = fields[27]
    count = min(fields[28], 16, (size - layout.size) // 8)
    table = offset + layout.size
    image.directories = [
        (int.from_bytes(data[at : at + 4], "little"), int.from_bytes(data[at + 4 : at + 8], "little"))
        for at in range(table, table + 8 * count, 8)
    ]


def _check_layout(image: Image) -> None:
    """What the Windows loader demands of an image section before it maps it."""
    alignment = image.section_alignment
    if not alignment or alignment & (alignment - 1):
        raise contradictory(f"a section alignment of {alignment:#x}")
    if not image.file_alignment or image.file_alignment & (image.file_alignment - 1):
        raise contradictory(f"a file alignment of {image.file_alignment:#x}")
    if alignment < PAGE and alignment != image.file_alignment:
        raise contradictory(f"alignments of {alignment:#x} in memory, {image.file_alignment:#x} in the file")
    if image.image_base & 0xFFFF:
        raise contradictory(f"an image base of {image.image_base:#x}")
    if not 0 < image.size_of_image <= 0x7FFF_0000:
        raise contradictory(f"an image of {image.size_of_image:#x} bytes")
    if image.size_of_headers > min(len(image.data), image.size_of_image):
        raise truncated("it ends inside its headers")
    if image.entry_point >= image.size_of_image:
        raise contradictory(f"an entry point at {image.entry_point:#x} behind the image's end")
    end_of_previous = 0
    for section in image.sections:
        if section.address % min(alignment, PAGE) or section.address < end_of_previous:
            raise contradictory(f"section {section.name} at {section.address:#x} overlaps or is misaligned")
        end_of_previous = section.address + section.virtual_size
        if end_of_previous > -(-image.size_of_image // PAGE) * PAGE:
            raise contradictory(f"section {section.name} reaches behind the image's end")
        if section.file_offset + section.file_size > -(-len(image.data) // 0x200) * 0x200:
            raise truncated(
                f"section {section.name} needs {section.file_offset + section.file_size} bytes, "
                f"the file has {len(image.data)}"
            )
