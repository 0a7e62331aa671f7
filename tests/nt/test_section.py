"""Sections: anonymous memory shared between views, files, images placed and relocated."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from fake_machine import SCRATCH, SCRATCH_SIZE, Machine
from nexus.nt.access import SECTION_MAP_READ
from nexus.nt.errors import NtError
from nexus.nt.mm.memory import ANYWHERE
from nexus.nt.mm.section import SEC_COMMIT, SEC_IMAGE, Section, SectionSource, file_section, image_section
from nexus.nt.mm.vad import MEM_IMAGE, PAGE_EXECUTE_READ, PAGE_READWRITE, Region
from nexus.nt.status import Status

SELF = -1
RESERVE = 0x04000000
COMMIT = 0x08000000
READONLY, READWRITE, WRITECOPY, EXECUTE_READ = 2, 4, 8, 0x20
DIR64 = 10
LINKED_BASE = 0x40_0000


@pytest.fixture(autouse=True)
def scratch_is_a_region(machine: Machine) -> None:
    machine.process.space.regions.add(Region(SCRATCH, SCRATCH_SIZE, PAGE_READWRITE))


def create(machine: Machine, size: int, protect: int = READWRITE, flags: int = COMMIT) -> int:
    length = machine.put(struct.pack("<q", size))
    return int(machine.new_handle("NtCreateSection", 0xF001F, 0, length, protect, flags, 0))


def map_view(
    machine: Machine, section: int, protect: int = READWRITE, size: int = 0, offset: int = 0
) -> tuple[int, int]:
    """(status, base)."""
    base, length = machine.put(8), machine.put(struct.pack("<Q", size))
    start = machine.put(struct.pack("<q", offset))
    status = machine.NtMapViewOfSection(section, SELF, base, 0, 0, start, length, 1, 0, protect)
    return status, machine.memory.u64(base)


def test_views_of_a_section_show_the_same_memory(machine: Machine) -> None:
    section = create(machine, 0x11000)
    _, one = map_view(machine, section)
    status, other = map_view(machine, section, offset=0x10000)
    assert status == Status.SUCCESS
    machine.memory.write(one + 0x10010, b"shared")
    assert machine.memory.read(other + 0x10, 6) == b"shared"
    assert machine.NtUnmapViewOfSection(SELF, one + 0x123) == Status.SUCCESS
    assert machine.memory.read(other + 0x10, 6) == b"shared"
    assert machine.NtUnmapViewOfSection(SELF, one) == Status.NOT_MAPPED_VIEW


def test_a_copy_on_write_view_keeps_its_changes(machine: Machine) -> None:
    section = create(machine, 0x1000)
    _, shared = map_view(machine, section)
    _, private = map_view(machine, section, WRITECOPY)
    machine.memory.write(private, b"mine")
    assert machine.memory.read(shared, 4) == bytes(4)


def test_reserved_sections_are_committed_for_all_views(machine: Machine) -> None:
    section = create(machine, 0x10000, flags=RESERVE)
    _, one = map_view(machine, section)
    _, other = map_view(machine, section)
    base, size = machine.put(struct.pack("<Q", one + 0x1000)), machine.put(struct.pack("<Q", 0x1000))
    assert machine.NtAllocateVirtualMemory(SELF, base, 0, size, 0x1000, READWRITE) == Status.SUCCESS
    machine.memory.write(one + 0x1000, b"x")
    assert machine.memory.read(other + 0x1000, 1) == b"x"


@pytest.mark.parametrize(
    ("size", "protect", "flags", "status"),
    [
        (0, READWRITE, COMMIT, Status.INVALID_PARAMETER_4),
        (0x1000, READWRITE, 0, Status.INVALID_PARAMETER_6),
        (0x1000, READWRITE, COMMIT | RESERVE, Status.INVALID_PARAMETER_6),
        (0x1000, 0x33, COMMIT, Status.INVALID_PAGE_PROTECTION),
        (0x1000, READWRITE, SEC_IMAGE, Status.INVALID_FILE_FOR_SECTION),
        (1 << 60, READWRITE, COMMIT, Status.SECTION_TOO_BIG),
    ],
)
def test_refused_sections(machine: Machine, size: int, protect: int, flags: int, status: int) -> None:
    out, length = machine.put(8), machine.put(struct.pack("<q", size))
    assert machine.NtCreateSection(out, 0xF001F, 0, length, protect, flags, 0) == status
    assert machine.memory.u64(out) == 0


def test_views_need_rights_and_alignment(machine: Machine) -> None:
    section = create(machine, 0x20000)
    assert map_view(machine, section, offset=0x8000)[0] == Status.MAPPED_ALIGNMENT
    assert map_view(machine, section, size=0x30000)[0] == Status.INVALID_VIEW_SIZE
    assert map_view(machine, section, 0x33)[0] == Status.INVALID_PAGE_PROTECTION
    target = machine.process.handles.resolve(section, Section, 0)
    weak = machine.process.handles.add(target, SECTION_MAP_READ)
    assert map_view(machine, weak)[0] == Status.ACCESS_DENIED
    assert map_view(machine, weak, READONLY)[0] == Status.SUCCESS


def source_of(path: Path, name: str = "\\??\\C:\\a.dll") -> SectionSource:
    fd = os.open(path, os.O_RDWR)
    return SectionSource(fd, os.fstat(fd).st_size, name, True)


def test_a_file_view_writes_the_file_and_a_larger_section_grows_it(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"hello")
    section = file_section(source_of(path), 0x2000, READWRITE, SEC_COMMIT)
    region = section.map(machine.process.space, 0, 0, 0, 0, READWRITE, ANYWHERE)
    assert machine.memory.read(region.base, 6) == b"hello\0"
    machine.memory.write(region.base + 0x1FFF, b"!")
    assert path.read_bytes()[-1:] == b"!" and path.stat().st_size == 0x2000
    with pytest.raises(NtError) as refused:
        file_section(source_of(path), 0x3000, READONLY, SEC_COMMIT)
    assert refused.value.status == Status.SECTION_TOO_BIG


def build_dll(file_alignment: int, relocations: bool = True) -> bytes:
    """A DLL with one pointer at 0x2008 (to 0x2000) and a relocation for it."""
    step = file_alignment
    header = b"MZ" + bytes(0x3A) + struct.pack("<I", 0x40)
    characteristics = 0x2022 if relocations else 0x2023
    header += struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 3, 0, 0, 0, 240, characteristics)
    header += struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        0x20B, 0, 0, 0, 0, 0, 0x1000, 0x1000, LINKED_BASE, 0x1000, file_alignment,
        6, 0, 0, 0, 6, 0, 0, 0x4000, step, 0, 3, 0x40, 0x100000, 0x1000, 0x100000, 0x1000, 0, 16,
    )  # fmt: skip
    directories = [(0, 0)] * 16
    directories[5] = (0x3000, 12) if relocations else (0, 0)
    header += b"".join(struct.pack("<II", *entry) for entry in directories)
    for index, (name, flags) in enumerate(
        ((b".text", 0x60000020), (b".data", 0xC0000040), (b".reloc", 0x40000040))
    ):
        address = 0x1000 * (index + 1)
        header += struct.pack(
            "<8sIIIIIIHHI", name, 0x800, address, 0x200, step * (index + 1), 0, 0, 0, 0, flags
        )
    data = bytes(8) + struct.pack("<Q", LINKED_BASE + 0x2000)
    reloc = struct.pack("<IIHH", 0x2000, 12, DIR64 << 12 | 8, 0)
    parts = [header, b"\xc3", data, reloc]
    return b"".join(part.ljust(step, b"\0") for part in parts)


@pytest.mark.parametrize("file_alignment", [0x400, 0x1000])
def test_an_image_is_laid_out_and_relocated(machine: Machine, tmp_path: Path, file_alignment: int) -> None:
    path = tmp_path / "a.dll"
    path.write_bytes(build_dll(file_alignment))
    section = image_section(source_of(path), PAGE_EXECUTE_READ, SEC_IMAGE)
    space = machine.process.space
    space.regions.add(Region(LINKED_BASE, 0x10000, PAGE_READWRITE))
    region = section.map(space, 0, 0, 0, 0, PAGE_EXECUTE_READ, ANYWHERE)
    base = region.base
    assert base != LINKED_BASE and region.kind == MEM_IMAGE
    assert machine.memory.read(base, 2) == b"MZ"
    assert machine.memory.u64(base + 0x40 + 24 + 24) == base
    assert machine.memory.u64(base + 0x2008) == base + 0x2000
    assert machine.memory.read(base + 0x2400, 8) == bytes(8)
    assert [space.pages[base + at] for at in (0, 0x1000, 0x2000, 0x3000)] == [2, 0x20, 8, 2]
    second = section.map(space, 0, 0, 0, 0, PAGE_EXECUTE_READ, ANYWHERE)
    assert machine.memory.u64(second.base + 0x2008) == second.base + 0x2000
    assert path.read_bytes() == build_dll(file_alignment)


def test_an_image_without_relocations_has_one_place(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "a.dll"
    path.write_bytes(build_dll(0x400, relocations=False))
    section = image_section(source_of(path), PAGE_EXECUTE_READ, SEC_IMAGE)
    region = section.map(machine.process.space, 0, 0, 0, 0, PAGE_EXECUTE_READ, ANYWHERE)
    assert region.base == LINKED_BASE
    with pytest.raises(NtError) as refused:
        section.map(machine.process.space, 0, 0, 0, 0, PAGE_EXECUTE_READ, ANYWHERE)
    assert refused.value.status == Status.CONFLICTING_ADDRESSES


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", Status.INVALID_FILE_FOR_SECTION),
        (b"text", Status.INVALID_IMAGE_NOT_MZ),
        (b"MZ" + bytes(0x3E), Status.INVALID_IMAGE_PROTECT),
        (b"MZ" + bytes(0x3A) + struct.pack("<I", 0x40) + b"NE" + bytes(64), Status.INVALID_IMAGE_WIN_16),
        (build_dll(0x400)[:0x500], Status.INVALID_IMAGE_FORMAT),
    ],
)
def test_files_that_are_not_images(tmp_path: Path, content: bytes, status: int) -> None:
    path = tmp_path / "a.dll"
    path.write_bytes(content)
    with pytest.raises(NtError) as refused:
        image_section(source_of(path), PAGE_EXECUTE_READ, SEC_IMAGE)
    assert refused.value.status == status


def test_a_permanent_section_keeps_its_memory_without_handles(machine: Machine) -> None:
    """OBJ_PERMANENT: the object lives until NtMakeTemporaryObject, whatever handles there were."""
    case_insensitive, permanent = 0x40, 0x10
    name = machine.attributes("\\BaseNamedObjects\\kept", case_insensitive | permanent)
    length = machine.put(struct.pack("<q", 0x1000))
    section = machine.new_handle("NtCreateSection", 0xF001F, name, length, READWRITE, COMMIT, 0)
    machine.NtClose(section)
    again = machine.new_handle("NtOpenSection", 0xF001F, machine.attributes("\\BaseNamedObjects\\kept"))
    assert map_view(machine, again)[0] == Status.SUCCESS


def test_a_section_without_room_for_its_handle_is_gone(machine: Machine) -> None:
    out, length = machine.put(8), machine.put(struct.pack("<q", 0x1000))
    before = len(os.listdir("/proc/self/fd"))
    machine.process.handles.limit = 0
    status = machine.NtCreateSection(out, 0xF001F, 0, length, READWRITE, COMMIT, 0)
    assert status == Status.INSUFFICIENT_RESOURCES
    assert len(os.listdir("/proc/self/fd")) == before
