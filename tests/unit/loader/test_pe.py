"""The PE reader against images assembled byte by byte here, and against damage done to them."""

from __future__ import annotations

from struct import pack

import pytest

from nexus.base.errors import BadImage
from nexus.loader import directories, pe
from nexus.loader.formats import describe
from nexus.loader.pe import NotPortableExecutable, parse
from nexus.loader.runnable import check_program

FILE_ALIGNMENT = 0x200


def build(
    *,
    machine: int = 0x8664,
    characteristics: int = 0x22,
    subsystem: int = 3,
    directories: dict[int, tuple[int, int]] | None = None,
    text: bytes = b"\xc3",
    data: bytes = b"",
    image_base: int = 0x140000000,
    entry: int = 0x1000,
) -> bytearray:
    """A small 64-bit image as the PE specification lays it out: headers, .text at 0x1000, .data at 0x2000."""
    table = [(0, 0)] * 16
    for index, value in (directories or {}).items():
        table[index] = value
    size_text, size_data = (-(-max(len(b), 1) // FILE_ALIGNMENT) * FILE_ALIGNMENT for b in (text, data))
    dos = b"MZ" + bytes(0x3A) + pack("<I", 0x80) + bytes(0x40)
    header = pack("<4sHHIIIHH", b"PE\0\0", machine, 2, 0x5F000000, 0, 0, 240, characteristics)
    optional = pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        0x20B, 14, 0, size_text, size_data, 0, entry, 0x1000,
        image_base, 0x1000, FILE_ALIGNMENT, 6, 0, 0, 0, 6, 1, 0, 0x3000, 0x400, 0, subsystem, 0x8160,
        0x100000, 0x1000, 0x100000, 0x1000, 0, 16,
    )  # fmt: skip
    optional += b"".join(pack("<II", *entry_) for entry_ in table)
    sections = pack("<8sIIIIIIHHI", b".text", len(text), 0x1000, size_text, 0x400, 0, 0, 0, 0, 0x60000020)
    sections += pack(
        "<8sIIIIIIHHI",
        b".data",
        max(len(data), 0x10),
        0x2000,
        size_data,
        0x400 + size_text,
        0,
        0,
        0,
        0,
        0xC0000040,
    )
    head = (dos + header + optional + sections).ljust(0x400, b"\0")
    return bytearray(head + text.ljust(size_text, b"\0") + data.ljust(size_data, b"\0"))


def test_header_fields_come_out_as_written() -> None:
    image = parse(build(image_base=0x180000000))
    assert (image.machine, image.image_base, image.entry_point) == (0x8664, 0x180000000, 0x1000)
    assert (image.subsystem, image.dll_characteristics) == (3, 0x8160)
    assert (image.stack_reserve, image.heap_commit) == (0x100000, 0x1000)
    assert [(s.name, s.address, s.file_offset) for s in image.sections] == [
        (".text", 0x1000, 0x400),
        (".data", 0x2000, 0x600),
    ]


def test_imports_by_name_and_by_ordinal() -> None:
    table = pack("<IIIII", 0x2040, 0, 0, 0x2030, 0x2060) + bytes(20)
    data = table.ljust(0x30, b"\0") + b"KERNEL32.dll\0\0\0\0"
    data += pack("<QQQ", 0x2080, 1 << 63 | 7, 0) + bytes(8)
    data = data.ljust(0x80, b"\0") + b"\0\0ExitProcess\0"
    found = directories.imports(parse(build(data=data, directories={pe.IMPORT: (0x2000, 40)})))
    assert [(str(i), i.slot) for i in found["KERNEL32.dll"]] == [("ExitProcess", 0x2060), ("#7", 0x2068)]


def test_exports_with_forward() -> None:
    names = b"mod.dll\0One\0Two\0NTDLL.Three\0"
    at = 0x2000 + 40
    body = pack("<IIIIIIIIIII", 0, 0, 0, at + 20, 5, 2, 2, at, at + 8, at + 16, 0)[:40]
    body += pack("<II", 0x1000, at + 36) + pack("<II", at + 28, at + 32) + pack("<HH", 0, 1) + names
    found = directories.exports(parse(build(data=body, directories={pe.EXPORT: (0x2000, len(body))})))
    assert [(e.name, e.ordinal, e.address, e.forward) for e in found] == [
        ("One", 5, 0x1000, ""),
        ("Two", 6, at + 36, "NTDLL.Three"),
    ]


def test_relocations_leave_out_padding() -> None:
    block = pack("<IIHHHH", 0x1000, 16, 0xA010, 0xA020, 0, 0)
    found = list(directories.relocations(parse(build(data=block, directories={pe.BASERELOC: (0x2000, 16)}))))
    assert found == [(0x1000, [(10, 0x10), (10, 0x20)])]


def test_read_gives_zeros_behind_the_stored_bytes() -> None:
    image = parse(build(text=b"\x90" * 0x300))
    assert image.read(0x12F8, 16) == b"\x90" * 8 + bytes(8)
    with pytest.raises(BadImage):
        image.read(0x2FF8, 16)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "not-mz"),
        (b"MZ", "truncated"),
        (b"MZ" + bytes(0x3E), "dos"),
        (b"MZ" + bytes(0x3A) + pack("<I", 0x40) + b"NE" + bytes(64), "win16"),
        (b"MZ" + bytes(0x3A) + pack("<I", 0x40) + b"LE" + bytes(64), "win16"),
        (b"MZ" + bytes(0x3A) + pack("<I", 0x40) + b"PE\0\0" + bytes(8), "truncated"),
    ],
)
def test_unusable_headers_are_named(content: bytes, kind: str) -> None:
    with pytest.raises(NotPortableExecutable) as caught:
        parse(content)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("offset", "value", "kind"),
    [
        (0x80 + 6, pack("<H", 97), "contradictory"),  # NumberOfSections above the loader's limit
        (0x80 + 20, pack("<H", 8), "contradictory"),  # SizeOfOptionalHeader
        (0x98, pack("<H", 0x1234), "contradictory"),  # Magic
        (0x98 + 16, pack("<I", 0x9000), "contradictory"),  # AddressOfEntryPoint
        (0x98 + 24, pack("<Q", 0x140000001), "contradictory"),  # ImageBase
        (0x98 + 32, pack("<I", 3), "contradictory"),  # SectionAlignment
        (0x98 + 56, pack("<I", 0), "contradictory"),  # SizeOfImage
        (0x98 + 60, pack("<I", 0x2800), "truncated"),  # SizeOfHeaders
        (0x188 + 16, pack("<I", 0x100000), "truncated"),  # SizeOfRawData of .text
        (0x188 + 8, pack("<I", 0x5000), "contradictory"),  # VirtualSize of .text reaches over .data
    ],
)
def test_contradictions_are_found(offset: int, value: bytes, kind: str) -> None:
    content = build()
    content[offset : offset + len(value)] = value
    with pytest.raises(NotPortableExecutable) as caught:
        parse(content)
    assert caught.value.kind == kind


def test_every_truncation_is_refused() -> None:
    content = build(data=b"x" * 0x200)
    for size in range(len(content) - 0x200):  # the last 512 bytes are rounding, as on Windows
        with pytest.raises(BadImage):
            parse(content[:size])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELF\2\1\1" + bytes(11) + pack("<H", 62) + bytes(40), ["ELF", "64-bit x86", "Linux"]),
        (b"\xcf\xfa\xed\xfe" + bytes(60), ["Mach-O"]),
        (b"\xca\xfe\xba\xbe\0\0\0\2", ["Mach-O"]),
        (b"\xca\xfe\xba\xbe\0\0\0\x34", ["Java"]),
        (b"#!/usr/bin/env python3\nprint()\n", ["script", "python3"]),
        (b"PK\x03\x04" + bytes(30), ["zip"]),
        (b"@echo off\r\n", ["text"]),
        (b"", ["empty"]),
        (bytes(range(256)), ["unknown"]),
    ],
)
def test_other_files_are_described(content: bytes, words: list[str]) -> None:
    text = describe(content)
    for word in words:
        assert word in text
    with pytest.raises(BadImage) as caught:
        check_program(content, "a.exe")
    assert "a.exe" in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (build(machine=0x14C), "32-bit x86"),
        (build(machine=0xAA64), "ARM64"),
        (build(machine=0xA641), "ARM64EC"),
        (build(characteristics=0x2022), "DLL"),
        (build(subsystem=1), "driver"),
        (build(subsystem=2), "GUI"),
        (build(subsystem=10), "UEFI"),
        (build(directories={pe.COM_DESCRIPTOR: (0x2000, 72)}), ".NET"),
        (
            build(data=pack("<I196xQ", 0x140, 1), directories={10: (0x2000, 0x140)}),
            "ARM64EC",
        ),
        (b"MZ" + bytes(0x3E), "DOS"),
    ],
)
def test_programs_for_elsewhere_are_refused_with_the_reason(content: bytes, words: str) -> None:
    with pytest.raises(BadImage, match=words) as caught:
        check_program(content)
    assert caught.value.hint


def test_a_console_program_is_accepted() -> None:
    assert check_program(build()).entry_point == 0x1000
