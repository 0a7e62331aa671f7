"""Mapping of PE images: sections where the headers say, relocated to where there is room.

Pages come straight from the file when its sections are page-aligned (Wine's DLLs), else from an anonymous
copy in memory layout; either way they are private copies on write, shared by all processes until then.
Relocation is done here, in the pages it touches, and the header's ImageBase is set to the actual base, so
that the guest's loader finds nothing left to do.
"""

from __future__ import annotations

import os
import struct
from binascii import crc32

from nexus.base.errors import BadImage
from nexus.loader import directories, pe
from nexus.loader.source import FileBytes
from nexus.nt.errors import NtError
from nexus.nt.mm.memory import Limits
from nexus.nt.mm.vad import (
    MEM_IMAGE,
    PAGE,
    PAGE_EXECUTE,
    PAGE_EXECUTE_READ,
    PAGE_EXECUTE_WRITECOPY,
    PAGE_NOACCESS,
    PAGE_READONLY,
    PAGE_WRITECOPY,
    page_access,
    round_up,
)
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.loader.pe import Section as PeSection
    from nexus.nt.mm.memory import AddressSpace
    from nexus.nt.mm.vad import Backing, Region

LINKER_DEFAULT_DLL_BASE = 0x180000000
SLOT = 1 << 24
SLOTS = 1 << 13

DYNAMICALLY_RELOCATED, MAPPED_FLAT, WINE_BUILTIN, WINE_FAKE = 0x04, 0x08, 0x40, 0x80
IL_ONLY = 0x02

_STATUS_OF_KIND = {
    "not-mz": Status.INVALID_IMAGE_NOT_MZ,
    "dos": Status.INVALID_IMAGE_PROTECT,
    "win16": Status.INVALID_IMAGE_WIN_16,
}

_INFORMATION = struct.Struct("<QIxxxxQQIHHHHHHHBBIII")


class ImageFile:
    """A PE file opened for mapping. `fd` belongs to it."""

    __slots__ = ("_copy", "fd", "identity", "image", "nt_path")
    snapshot_descriptors = ("_copy", "fd")

    def __init__(self, fd: int, size: int, nt_path: str) -> None:
        """Raises NtError with the status NtCreateSection gives for a file that is not a usable image."""
        self.nt_path = nt_path
        self._copy = -1
        try:
            self.image = pe.parse(FileBytes(fd, size))
        except pe.NotPortableExecutable as error:
            raise NtError(_STATUS_OF_KIND.get(error.kind, Status.INVALID_IMAGE_FORMAT)) from error
        self.fd = os.dup(fd)
        status = os.fstat(self.fd)
        self.identity = status.st_dev, status.st_ino
        self.image.data = FileBytes(self.fd, size)

    def close(self) -> None:
        """Give the descriptors back. May be called again."""
        for fd in (self.fd, self._copy):
            if fd >= 0:
                os.close(fd)
        self.fd = self._copy = -1

    def snapshot_outside(self) -> Callable[[], None]:
        """See `nt/graph.py`: the parsed image reads from the descriptor, whose number may be another one."""

        def put_back() -> None:
            data = self.image.data
            if isinstance(data, FileBytes) and data.fd != self.fd:
                self.image.data = FileBytes(self.fd, len(data))

        return put_back

    @property
    def size(self) -> int:
        """Bytes of address space the image takes."""
        return round_up(self.image.size_of_image, PAGE)

    @property
    def flags(self) -> int:
        """IMAGE_FLAGS_* of SECTION_IMAGE_INFORMATION; the two upper ones are Wine's own."""
        image = self.image
        flags = 0
        if image.section_alignment & (PAGE - 1):
            flags |= MAPPED_FLAT
        elif image.dll_characteristics & pe.DLL_DYNAMIC_BASE and image.can_relocate:
            flags |= DYNAMICALLY_RELOCATED
        if image.is_dotnet:
            flags |= IL_ONLY
        mark = bytes(image.data[0x40:0x60])
        if mark.startswith(pe.BUILTIN_MARK):
            flags |= WINE_BUILTIN
        elif mark.startswith(pe.FAKE_MARK):
            flags |= WINE_FAKE
        return flags

    def information(self) -> bytes:
        """SECTION_IMAGE_INFORMATION."""
        image = self.image
        return _INFORMATION.pack(
            image.image_base + image.entry_point,
            0,
            image.stack_reserve,
            image.stack_commit,
            image.subsystem,
            image.subsystem_version[1],
            image.subsystem_version[0],
            *image.os_version,
            image.characteristics,
            image.dll_characteristics,
            image.machine,
            image.contains_code,
            self.flags,
            image.loader_flags,
            len(image.data),
            image.checksum,
        )

    # mapping ---------------------------------------------------------------------------------------

    def map(self, space: AddressSpace, backing: Backing, base: int, limits: Limits) -> Region:
        """Map into a process; `base` 0 leaves the choice to us."""
        region = self._place(space, base, limits)
        region.backing = backing
        region.name = self.nt_path.rsplit("\\", 1)[-1]
        try:
            self._fill(space, region)
            if region.base != self.image.image_base:
                self._relocate(space, region)
        except BaseException as error:
            space.release(region)
            if isinstance(error, BadImage):
                raise NtError(Status.INVALID_IMAGE_FORMAT) from error
            raise
        return region

    def _place(self, space: AddressSpace, base: int, limits: Limits) -> Region:
        image, size, protect = self.image, self.size, PAGE_EXECUTE_WRITECOPY
        for wanted in (base,) if base else self._preferred_bases(space):
            outside = wanted < limits.low or (limits.high and wanted + size - 1 > limits.high)
            if wanted and not outside and wanted + size <= space.top and space.regions.is_free(wanted, size):
                return space.new_region(wanted, size, MEM_IMAGE, 0, protect, limits)
        if not image.can_relocate:
            raise NtError(Status.CONFLICTING_ADDRESSES)
        return space.new_region(0, size, MEM_IMAGE, 0, protect, limits)

    def home(self, space: AddressSpace) -> int:
        """The base the image has when nothing is in its way."""
        return self._preferred_bases(space)[0]

    def _preferred_bases(self, space: AddressSpace) -> list[int]:
        """Where the linker wanted it; but DLLs all want the same, so each gets a fixed place of its own by
        name.
        """
        linked = self.image.image_base
        if not self.image.is_dll or not self.image.can_relocate:
            return [linked]
        top = space.top & -SLOT
        slots = min(SLOTS, top // SLOT // 4)
        if not slots:
            return [linked]
        number = crc32(self.nt_path.rsplit("\\", 1)[-1].lower().encode("utf-8", "surrogatepass")) % slots
        own = [top - (1 + (number + attempt) % slots) * SLOT - SLOT for attempt in range(8)]
        is_ours = linked == LINKER_DEFAULT_DLL_BASE or self.flags & WINE_BUILTIN
        return own if is_ours else [linked, *own]

    def _fill(self, space: AddressSpace, region: Region) -> None:
        image, window = self.image, space.window
        aligned = image.section_alignment >= PAGE
        if not aligned:  # drivers and the like: the file as it is, all writable
            self._map_range(space, region, 0, region.size, PAGE_EXECUTE_WRITECOPY, self._flat_copy(), 0)
            return
        direct = all(s.file_offset % PAGE == 0 for s in image.sections if s.file_size)
        fd = self.fd if direct else self._flat_copy()
        header_size = round_up(image.size_of_headers, PAGE)
        if header_size:
            self._map_range(space, region, 0, header_size, PAGE_READONLY, fd, 0)
        if direct and image.size_of_headers % PAGE:
            window.write_forced(region.base + image.size_of_headers, bytes(-image.size_of_headers % PAGE))
        end = header_size
        for section in image.sections:
            size = round_up(section.virtual_size, PAGE)
            if not size or section.address < end:
                continue
            self._gap(space, region, end, section.address)
            end = section.address + size
            if direct:
                self._map_section(space, region, section, size)
            else:
                protect = section_protection(section)
                self._map_range(space, region, section.address, size, protect, fd, section.address)
        self._gap(space, region, end, region.size)

    def _gap(self, space: AddressSpace, region: Region, start: int, end: int) -> None:
        """Address space of the image that no section covers is committed but not accessible."""
        if start < end:
            space.window.map(region.base + start, end - start, 0)
            space.pages.set(region.base + start, region.base + end, PAGE_NOACCESS)

    def _map_section(self, space: AddressSpace, region: Region, section: PeSection, size: int) -> None:
        """Map a section whose place in the file is page-aligned."""
        protect = section_protection(section)
        stored = min(round_up(section.file_size, PAGE), size)
        if stored:
            self._map_range(space, region, section.address, stored, protect, self.fd, section.file_offset)
        tail = section.file_size % PAGE
        if tail and section.file_size < size:
            start = region.base + section.address + section.file_size
            space.window.write_forced(start, bytes(PAGE - tail))
        if stored < size:
            start = region.base + section.address + stored
            space.window.map(start, size - stored, page_access(protect))
            space.pages.set(start, start + size - stored, protect)

    def _map_range(
        self, space: AddressSpace, region: Region, start: int, size: int, protect: int, fd: int, offset: int
    ) -> None:
        size = min(size, region.size - start)
        space.window.map_file(region.base + start, size, page_access(protect), fd, offset, shared=False)
        space.pages.set(region.base + start, region.base + start + size, protect)

    def _flat_copy(self) -> int:
        """A memory file that holds the image as it lies in memory, before relocation."""
        if self._copy < 0:
            image = self.image
            copy = os.memfd_create("image")
            try:
                os.ftruncate(copy, self.size)
                if image.section_alignment < PAGE:
                    _send(copy, 0, self.fd, 0, min(len(image.data), self.size))
                else:
                    _send(copy, 0, self.fd, 0, image.size_of_headers)
                    for section in image.sections:
                        size = min(section.file_size, round_up(section.virtual_size, PAGE))
                        _send(copy, section.address, self.fd, section.file_offset, size)
            except BaseException:
                os.close(copy)
                raise
            self._copy = copy
        return self._copy

    def _relocate(self, space: AddressSpace, region: Region) -> None:
        image, window = self.image, space.window
        if not image.can_relocate:
            raise NtError(Status.CONFLICTING_ADDRESSES)
        delta = region.base - image.image_base
        for page, entries in directories.relocations(image):
            if not entries:
                continue
            if page & (PAGE - 1) or page >= region.size:
                raise pe.contradictory(f"relocations for {page:#x}")
            size = min(PAGE + 8, region.size - page)  # the last entry may reach into the next page
            content = bytearray(window.read_forced(region.base + page, size))
            for kind, offset in entries:
                _relocate_one(content, kind, offset, delta)
            last = max(offset for _, offset in entries) + 8
            window.write_forced(region.base + page, bytes(content[: min(last, size)]))
        width = 8 if image.is_64bit else 4
        at = image.optional_offset + (24 if image.is_64bit else 28)
        window.write_forced(region.base + at, (region.base & (1 << 8 * width) - 1).to_bytes(width, "little"))


def _relocate_one(content: bytearray, kind: int, offset: int, delta: int) -> None:
    width = {directories.REL_DIR64: 8, directories.REL_HIGHLOW: 4}.get(kind)
    if width is None or offset + width > len(content):
        raise pe.contradictory(f"a relocation of kind {kind} at {offset:#x}")
    value = int.from_bytes(content[offset : offset + width], "little") + delta
    content[offset : offset + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")


def _send(target: int, at: int, source: int, offset: int, size: int) -> None:
    """Copy between files without passing through our memory; what the source lacks stays zero."""
    os.lseek(target, at, os.SEEK_SET)
    while size > 0:
        sent = os.sendfile(target, source, offset, size)
        if not sent:
            return
        offset += sent
        size -= sent


def section_protection(section: PeSection) -> int:
    """The page protection a section's characteristics ask for."""
    flags = section.characteristics
    if flags & pe.SCN_EXECUTE:
        if flags & pe.SCN_WRITE:
            return PAGE_EXECUTE_WRITECOPY
        return PAGE_EXECUTE_READ if flags & pe.SCN_READ else PAGE_EXECUTE
    if flags & pe.SCN_WRITE:
        return PAGE_WRITECOPY
    return PAGE_READONLY if flags & pe.SCN_READ else PAGE_NOACCESS
