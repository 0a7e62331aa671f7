"""Layouts against sizes and offsets of winnt.h and winternl.h."""

from __future__ import annotations

import struct

import pytest

from nexus.abi.struct import Struct, span
from nexus.abi.types import boolean, i16, i64, u8, u16, u32, u64, uptr


class UNICODE_STRING(Struct):
    Length: u16
    MaximumLength: u16
    Buffer: uptr


class CURDIR(Struct):
    DosPath: UNICODE_STRING
    Handle: uptr


class MEMORY_BASIC_INFORMATION(Struct):
    BaseAddress: uptr
    AllocationBase: uptr
    AllocationProtect: u32
    RegionSize: uptr
    State: u32
    Protect: u32
    Type: u32


class Mixed(Struct):
    Kind: u8
    Tag: bytes = span(3)
    Delta: i16
    Big: i64
    Flag: boolean


class Packed(Struct):
    packed = True
    Kind: u8
    Value: u64


class Memory:
    def __init__(self) -> None:
        self.data = bytearray(64)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        self.data[address : address + len(data)] = data


@pytest.mark.parametrize(
    ("kind", "size64", "size32"),
    [
        (UNICODE_STRING, 16, 8),
        (CURDIR, 24, 12),
        (MEMORY_BASIC_INFORMATION, 48, 28),
        (Mixed, 24, 24),
        (Packed, 9, 9),
    ],
)
def test_sizes(kind: type[Struct], size64: int, size32: int) -> None:
    assert (kind.x64.size, kind.x86.size) == (size64, size32)


def test_offsets_follow_the_pointer_width() -> None:
    assert UNICODE_STRING.offset("Buffer") == 8
    assert UNICODE_STRING.x86.offset("Buffer") == 4
    assert MEMORY_BASIC_INFORMATION.offset("RegionSize") == 24
    assert MEMORY_BASIC_INFORMATION.x86.offset("RegionSize") == 12


def test_pack_and_unpack() -> None:
    value = Mixed(Kind=7, Tag=b"abc", Delta=-2, Big=-(1 << 40), Flag=1)
    assert value.pack() == struct.pack("<B3sh2xqB7x", 7, b"abc", -2, -(1 << 40), 1)
    again = Mixed.unpack(value.pack())
    assert (again.Kind, again.Tag, again.Delta, again.Big, again.Flag) == (7, b"abc", -2, -(1 << 40), 1)


def test_nested_structures() -> None:
    value = CURDIR(DosPath=UNICODE_STRING(Length=4, MaximumLength=6, Buffer=0x1234), Handle=9)
    assert value.pack() == struct.pack("<HH4xQQ", 4, 6, 0x1234, 9)
    assert CURDIR.unpack(value.pack()).DosPath.Buffer == 0x1234
    assert CURDIR.x86.pack(value) == struct.pack("<HHII", 4, 6, 0x1234, 9)


def test_fields_not_given_are_zero_and_unknown_ones_are_refused() -> None:
    assert Mixed().pack() == bytes(24)
    with pytest.raises(TypeError, match="no field Missing"):
        Mixed(Missing=1)


def test_reading_and_writing_memory() -> None:
    memory = Memory()
    UNICODE_STRING(Length=2, MaximumLength=4, Buffer=0x55).write(memory, 8)
    assert UNICODE_STRING.read(memory, 8).Buffer == 0x55
    assert memory.data[8:10] == b"\2\0"
