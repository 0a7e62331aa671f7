"""Section objects: files, images and anonymous memory that can be mapped into processes.

Anonymous (page-file) sections are memory files, so every view of them - in any process - shows the same
pages.
"""

from __future__ import annotations

import os

from nexus.base.intervals import IntervalMap
from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.mm.image import ImageFile
from nexus.nt.mm.memory import AddressSpace, Commitment, Limits, as_image_protection, cached_like
from nexus.nt.mm.vad import (
    MEM_IMAGE,
    MEM_MAPPED,
    PAGE,
    PAGE_EXECUTE_WRITECOPY,
    PAGE_NOCACHE,
    PAGE_WRITECOPY,
    Region,
    is_valid_protection,
    page_access,
    round_up,
)
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.status import Status

SEC_FILE, SEC_IMAGE, SEC_RESERVE, SEC_COMMIT = 0x0080_0000, 0x0100_0000, 0x0400_0000, 0x0800_0000
SEC_NOCACHE, SEC_WRITECOMBINE, SEC_LARGE_PAGES, SEC_BASED = 0x1000_0000, 0x4000_0000, 0x8000_0000, 0x0020_0000
_CACHING = SEC_NOCACHE | SEC_WRITECOMBINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from nexus.nt.mm.vad import Backing

    class MappedFile(Protocol):
        """The file system's record of a file: how many image and other sections lie over it, and how many of
        these may be written through.
        """

        images: int
        views: int
        writers: int

        def grow(self, size: int) -> None: ...


_TOO_BIG = 1 << 46
_WRITE_COPY = (PAGE_WRITECOPY, PAGE_EXECUTE_WRITECOPY)


class SectionSource:
    """What a file gives to a section: a host fd (to be duplicated), its size, its name, and whether it may be
    written.
    """

    __slots__ = ("fd", "node", "nt_path", "size", "writable")

    def __init__(
        self, fd: int, size: int, nt_path: str, writable: bool, node: MappedFile | None = None
    ) -> None:
        self.fd = fd
        self.size = size
        self.nt_path = nt_path
        self.writable = writable
        self.node = node


class Section(KernelObject):
    """`size` bytes that views show. `attributes` are the SEC_* flags, `protect` what views may ask for at
    most.
    """

    __slots__ = (
        "attributes",
        "commitment",
        "committed",
        "fd",
        "image",
        "node",
        "nt_path",
        "protect",
        "size",
        "views",
    )

    type = ObjectType(
        "Section",
        read=access.SECTION_QUERY | access.SECTION_MAP_READ,
        write=access.SECTION_MAP_WRITE,
        execute=access.SECTION_MAP_EXECUTE,
        all=access.STANDARD_RIGHTS_REQUIRED | 0x1F,
        more=access.SYNCHRONIZE,
    )
    waitable = False
    snapshot_descriptors = ("fd",)

    def __init__(self, size: int, protect: int, attributes: int, fd: int, nt_path: str = "") -> None:
        super().__init__()
        self.size = size
        self.protect = protect
        self.attributes = attributes
        self.fd = fd
        self.nt_path = nt_path
        self.image: ImageFile | None = None
        self.node: MappedFile | None = None
        self.commitment: Commitment | None = None
        self.committed: IntervalMap[bool] = IntervalMap(not attributes & SEC_RESERVE)
        self.views: list[tuple[AddressSpace, Region]] = []

    def snapshot_outside(self) -> Callable[[], None] | None:
        """See `nt/graph.py`: the pages, unless they are those of a file of the host."""
        if self.fd < 0 or self.attributes & SEC_FILE:
            return None
        from nexus.machine.saved_memory import SavedFile

        saved = SavedFile(self.fd)
        return lambda: saved.restore(self.fd)

    @property
    def writable(self) -> bool:
        """Whether views may change what lies below."""
        return bool(page_access(self.protect & 0xFF) & 2) and self.protect & 0xFF not in _WRITE_COPY

    # life ------------------------------------------------------------------------------------------

    def last_handle_closed(self) -> None:
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self.handle_count or self.views:
            return
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self.image is not None:
            self.image.close()
        if self.node is not None:
            if self.image is not None:
                self.node.images -= 1
            else:
                self.node.views -= 1
                self.node.writers -= self.writable
            self.node = None
        if self.commitment is not None:
            self.commitment.refund(self.size)
            self.commitment = None

    def unmapped(self, space: AddressSpace, region: Region) -> None:
        """A view of this section is gone."""
        self.views = [view for view in self.views if view != (space, region)]
        self._close_if_unused()

    def file_name(self) -> str | None:
        """The NT path of the mapped file; None for anonymous memory."""
        return self.nt_path or None

    def same_file(self, other: Backing) -> bool:
        """Whether both are images of one file."""
        return (
            self.image is not None
            and isinstance(other, Section)
            and other.image is not None
            and self.image.identity == other.image.identity
        )

    # mapping ---------------------------------------------------------------------------------------

    def map(
        self, space: AddressSpace, base: int, offset: int, size: int, flags: int, protect: int, limits: Limits
    ) -> Region:
        """A new view. `size` 0 means up to the end; `flags` are MEM_* allocation types."""
        if self.image is not None:
            region = self.image.map(space, self, base, limits)
        else:
            region = self._map_data(space, base, offset, size, flags, protect, limits)
        self.views.append((space, region))
        return region

    def _map_data(
        self, space: AddressSpace, base: int, offset: int, size: int, flags: int, protect: int, limits: Limits
    ) -> Region:
        if offset >= self.size:
            raise NtError(Status.INVALID_PARAMETER)
        if size > self.size - offset:
            raise NtError(Status.INVALID_VIEW_SIZE)
        whole = round_up(size or self.size - offset, PAGE)
        if self.attributes & SEC_NOCACHE:
            protect |= PAGE_NOCACHE
        region = space.new_region(base, whole, MEM_MAPPED, flags, protect, limits)
        region.backing = self
        region.offset = offset
        region.name = self.nt_path.rsplit("\\", 1)[-1]
        for start, end, committed in self.committed.runs(offset, offset + whole):
            if committed:
                self._show(space, region, region.base + start - offset, end - start, protect)
        return region

    def _show(self, space: AddressSpace, region: Region, base: int, size: int, protect: int) -> None:
        shared = protect & 0xFF not in _WRITE_COPY
        offset = region.offset + base - region.base
        space.window.map_file(base, size, page_access(protect), self.fd, offset, shared)
        space.pages.set(base, base + size, protect)

    # what regions ask their backing ----------------------------------------------------------------

    def commit(self, space: AddressSpace, region: Region, base: int, size: int, protect: int) -> bool:
        """Commit pages for all views; False for files, whose pages are committed from the start."""
        if self.attributes & SEC_FILE:
            return False
        protect = self.checked_protection(region, cached_like(region, protect))
        start = region.offset + base - region.base
        self.committed.set(start, start + size, True)
        for other_space, view in self.views:
            low, high = max(start, view.offset), min(start + size, view.offset + view.size)
            for page in range(low, high, PAGE):
                at = view.base + page - view.offset
                if not other_space.pages[at]:
                    self._show(other_space, view, at, PAGE, view.protect)
        space.window.protect(base, size, page_access(protect))
        space.pages.set(base, base + size, protect)
        return True

    def checked_protection(self, region: Region, protect: int) -> int:
        """The protection pages of a view get when the guest asks for `protect`; refuses more than the view
        allows.
        """
        if region.kind == MEM_IMAGE:
            return as_image_protection(protect)
        wanted = page_access(protect & 0xFF)
        allowed = page_access(region.protect & 0xFF)
        if protect & 0xFF in _WRITE_COPY:
            wanted &= ~2
        if region.protect & 0xFF in _WRITE_COPY and protect & 0xFF not in _WRITE_COPY:
            allowed &= ~2
        if wanted & ~allowed:
            raise NtError(Status.INVALID_PAGE_PROTECTION)
        return protect

    def before_protect(self, space: AddressSpace, region: Region, base: int, size: int, protect: int) -> None:
        """Pages of a shared view that become copy-on-write stop being shared."""
        if region.kind != MEM_MAPPED or protect & 0xFF not in _WRITE_COPY:
            return
        for start, end, old in list(space.pages.runs(base, base + size)):
            if old & 0xFF not in _WRITE_COPY:
                self._show(space, region, start, end - start, protect)


def source_of(target: KernelObject) -> SectionSource:
    """What a file object gives to a section; everything but a file on a disk is refused."""
    give = getattr(target, "section_source", None)
    if give is None:
        raise NtError(Status.INVALID_FILE_FOR_SECTION)
    source: SectionSource = give()
    return source


# making sections -----------------------------------------------------------------------------------


def anonymous_section(size: int, protect: int, attributes: int, commitment: Commitment) -> Section:
    """A section of zero pages; raises for sizes that cannot be."""
    if size <= 0:
        raise NtError(Status.INVALID_PARAMETER_4)
    size = round_up(size, PAGE)
    if size >= _TOO_BIG:
        raise NtError(Status.SECTION_TOO_BIG)
    if not attributes & SEC_RESERVE:
        commitment.charge(size)
    fd = os.memfd_create("section")
    try:
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    section = Section(size, protect, attributes, fd)
    if not attributes & SEC_RESERVE:
        section.commitment = commitment
    return section


def file_section(source: SectionSource, size: int, protect: int, attributes: int) -> Section:
    """A section over a file; a writable one that is larger than the file makes the file grow."""
    if size >= _TOO_BIG:
        raise NtError(Status.SECTION_TOO_BIG)
    writes = page_access(protect) & 2 and protect & 0xFF not in _WRITE_COPY
    if writes and not source.writable:
        raise NtError(Status.ACCESS_DENIED)
    if not size:
        if not source.size:
            raise NtError(Status.MAPPED_FILE_SIZE_ZERO)
        size = source.size
    elif size > source.size:
        if not writes:
            raise NtError(Status.SECTION_TOO_BIG)
        if source.node is not None:
            source.node.grow(size)
        else:
            os.ftruncate(source.fd, size)
    section = Section(size, protect, attributes & _CACHING | SEC_FILE, os.dup(source.fd), source.nt_path)
    if source.node is not None:
        section.node = source.node
        source.node.views += 1
        source.node.writers += section.writable
    return section


def image_section(source: SectionSource, protect: int, attributes: int) -> Section:
    """A section over a PE file."""
    if not source.size:
        raise NtError(Status.INVALID_FILE_FOR_SECTION)
    image = ImageFile(source.fd, source.size, source.nt_path)
    section = Section(image.size, protect, SEC_IMAGE | SEC_FILE, -1, source.nt_path)
    section.image = image
    if source.node is not None:
        section.node = source.node
        source.node.images += 1
    return section


def check_section_arguments(size: int, protect: int, attributes: int, has_file: bool) -> None:
    """The parameter checks of NtCreateSection, in its order."""
    if not is_valid_protection(protect):
        raise NtError(Status.INVALID_PAGE_PROTECTION)
    kind = attributes & (SEC_IMAGE | SEC_RESERVE | SEC_COMMIT | SEC_FILE)
    if kind == SEC_IMAGE:
        if not has_file:
            raise NtError(Status.INVALID_FILE_FOR_SECTION)
    elif kind in (SEC_RESERVE, SEC_COMMIT):
        if not has_file and protect & 0xFF in _WRITE_COPY and kind == SEC_RESERVE:
            raise NtError(Status.INVALID_PAGE_PROTECTION)
    else:
        raise NtError(Status.INVALID_PARAMETER_6)
    if attributes & SEC_LARGE_PAGES or (kind == SEC_IMAGE and attributes & SEC_WRITECOMBINE):
        raise NtError(Status.INVALID_PARAMETER_6)
    if size < 0:
        raise NtError(Status.INVALID_PARAMETER_4)
