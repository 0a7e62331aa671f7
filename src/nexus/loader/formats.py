"""What a file is, in words, from its first bytes. Only `describe` is for callers."""

from __future__ import annotations

from nexus.base.errors import BadImage
from nexus.loader import pe
from nexus.loader.directories import has_hybrid_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.loader.pe import Data, Image

MACHINES = {
    0x014C: "32-bit x86",
    0x8664: "64-bit x86",
    0xAA64: "ARM64",
    0xA641: "ARM64EC",
    0xA64E: "ARM64X",
    0x01C0: "32-bit ARM",
    0x01C2: "32-bit ARM (Thumb)",
    0x01C4: "32-bit ARM",
    0x0200: "Itanium",
    0x0166: "MIPS",
    0x0184: "Alpha",
    0x01F0: "PowerPC",
    0x0EBC: "EFI byte code",
    0x5032: "32-bit RISC-V",
    0x5064: "64-bit RISC-V",
    0x6264: "LoongArch64",
}

SUBSYSTEMS = {
    1: "driver or native",
    2: "window (GUI)",
    3: "console",
    5: "OS/2",
    7: "POSIX",
    8: "Windows 9x driver",
    9: "Windows CE",
    10: "UEFI application",
    11: "UEFI boot service driver",
    12: "UEFI runtime driver",
    13: "UEFI ROM",
    14: "Xbox",
    16: "Windows boot application",
}

_ELF_MACHINES = {3: "32-bit x86", 40: "32-bit ARM", 62: "64-bit x86", 183: "ARM64", 243: "RISC-V"}

_SIGNATURES: list[tuple[int, bytes, str]] = [
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"\x1f\x8b", "a gzip-compressed file"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard-compressed file"),
    (0, b"\xfd7zXZ\0", "an xz-compressed file"),
    (0, b"BZh", "a bzip2-compressed file"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"MSCF", "a cabinet archive"),
    (0, b"!<arch>\n", "a library archive (.a, .lib or .deb)"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a compound document (an MSI installer or an old Office file)"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\0asm", "a WebAssembly module"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"dex\n", "an Android DEX file"),
    (0, b"BC\xc0\xde", "LLVM bitcode"),
    (0, b"\xfe\xed\xfa\xce", "a Mach-O file (a macOS program)"),
    (0, b"\xfe\xed\xfa\xcf", "a Mach-O file (a macOS program)"),
    (0, b"\xce\xfa\xed\xfe", "a Mach-O file (a macOS program)"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O file (a macOS program)"),
    (257, b"ustar", "a tar archive"),
]


def describe(data: Data) -> str:
    """A noun phrase for what the file is, such as "an ELF file (a Linux program for ARM64)"."""
    start = bytes(data[:512])
    if not start:
        return "an empty file"
    if start[:2] == b"MZ":
        return _describe_mz(data)
    if start[:4] == b"\x7fELF":
        order = "big" if start[5:6] == b"\2" else "little"
        machine = int.from_bytes(start[18:20], "big" if order == "big" else "little")
        return f"an ELF file (a Linux or Unix program for {_ELF_MACHINES.get(machine, f'machine {machine}')})"
    if start[:4] == b"\xca\xfe\xba\xbe":
        # Java class files carry a version >= 45 here, universal binaries a small count of architectures.
        count = int.from_bytes(start[4:8], "big")
        return "a Mach-O universal file (a macOS program)" if count < 40 else "a Java class file"
    if start[:2] == b"#!":
        interpreter = start[2:].split(b"\n", 1)[0].strip().decode("utf-8", "replace")
        return f"a script for {interpreter[:80]}"
    for offset, signature, name in _SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            return name
    return "a text file" if _is_text(start) else "a file of unknown format"


def describe_image(image: Image) -> str:
    """A noun phrase for a PE image, such as "a 64-bit x86 console program"."""
    machine = MACHINES.get(image.machine, f"unknown machine {image.machine:#06x}")
    if image.machine == pe.MACHINE_AMD64 and has_hybrid_code(image):
        machine = "ARM64EC"
    if image.is_dotnet:
        machine = f".NET ({machine})"
    if image.is_dll:
        return f"a {machine} DLL"
    kind = SUBSYSTEMS.get(image.subsystem, f"unknown subsystem {image.subsystem}")
    return f"a {machine} {kind} program"


def _describe_mz(data: Data) -> str:
    try:
        return describe_image(pe.parse(data))
    except pe.NotPortableExecutable as error:
        return {
            "dos": "a DOS program",
            "win16": "a 16-bit Windows or OS/2 program",
            "truncated": "a Windows program that is cut short",
        }.get(error.kind, "a Windows program with contradictory headers")
    except BadImage:
        return "a Windows program with contradictory headers"


def _is_text(start: bytes) -> bool:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    return not any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start)
