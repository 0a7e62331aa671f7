"""A bcryptprimitives.dll for Wine 8.0, which lacks it: one export, ProcessPrng, answered by advapi32.

Programs built with current Rust and Go import it. The file is written here byte by byte, because no Windows
code is part of the project. Offsets follow Microsoft's "PE Format".
"""

from __future__ import annotations

import struct

NAME = "bcryptprimitives.dll"
BASE = 0x3_6A00_0000
TEXT, DATA, RELOC, END = 0x1000, 0x2000, 0x3000, 0x4000

# ProcessPrng(buffer, size) -> BOOL: SystemFunction036 (RtlGenRandom) takes the same two arguments and
# returns a BOOLEAN, whose upper bytes are undefined.
IAT = DATA + 0x80
CODE = (
    bytes.fromhex("4883ec28 ff15")
    + struct.pack("<i", IAT - (TEXT + 10))
    + bytes.fromhex("0fb6c0 4883c428 c3")
)


def build() -> bytes:
    """The whole file."""
    data = bytearray(0x200)

    def put(offset: int, value: bytes) -> None:
        data[offset : offset + len(value)] = value

    # Export directory at +0: one function, one name.
    put(
        0x00,
        struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, DATA + 0x40, 1, 1, 1, DATA + 0x28, DATA + 0x2C, DATA + 0x30),
    )
    put(0x28, struct.pack("<IIH", TEXT, DATA + 0x60, 0))
    put(0x40, NAME.encode() + b"\0")
    put(0x60, b"ProcessPrng\0")
    # Address table at +0x80, lookup table at +0x90, descriptors at +0xa0.
    for table in (0x80, 0x90):
        put(table, struct.pack("<QQ", DATA + 0xE0, 0))
    put(0xA0, struct.pack("<IIIII", DATA + 0x90, 0, 0, DATA + 0xD0, DATA + 0x80) + bytes(20))
    put(0xD0, b"advapi32.dll\0")
    put(0xE0, struct.pack("<H", 0) + b"SystemFunction036\0")
    relocations = struct.pack("<IIHH", TEXT, 12, 0, 0)

    sections = [
        (b".text", TEXT, CODE, 0x60000020),
        (b".rdata", DATA, bytes(data), 0xC0000040),
        (b".reloc", RELOC, relocations, 0x42000040),
    ]
    directories = [(0, 0)] * 16
    directories[0] = (DATA, 0x80)
    directories[1] = (DATA + 0xA0, 40)
    directories[5] = (RELOC, len(relocations))
    directories[12] = (IAT, 16)
    optional = struct.pack("<HBBIIIII", 0x20B, 1, 0, 0x200, 0x400, 0, 0, TEXT)
    optional += struct.pack(
        "<QIIHHHHHHIIIIHH", BASE, 0x1000, 0x200, 6, 0, 0, 0, 6, 0, 0, END, 0x400, 0, 3, 0x160
    )
    optional += struct.pack("<QQQQII", 0x100000, 0x1000, 0x100000, 0x1000, 0, 16)
    optional += b"".join(struct.pack("<II", *entry) for entry in directories)
    dos = bytearray(0x80)
    dos[0:2] = b"MZ"
    dos[0x3C:0x40] = struct.pack("<I", 0x80)
    dos[0x40:0x51] = b"Wine builtin DLL\0"
    header = (
        bytes(dos)
        + b"PE\0\0"
        + struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, len(optional), 0x2022)
    )
    header += optional
    body = b""
    for name, address, content, flags in sections:
        raw = -len(content) % 0x200 + len(content)
        header += struct.pack(
            "<8sIIIIIIHHI", name, len(content), address, raw, 0x400 + len(body), 0, 0, 0, 0, flags
        )
        body += content.ljust(raw, b"\0")
    return header.ljust(0x400, b"\0") + body
