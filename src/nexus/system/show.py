"""What `nexus show` is asked for: bytes, or a place in an .exe or DLL, as stretches of code."""

from __future__ import annotations

import os

from nexus.base.errors import BadImage, NotFound, Unsupported, UsageError
from nexus.isa.x86.decode import LONGEST
from nexus.loader import directories, pe
from nexus.loader.pe import Image
from nexus.machine.stages import Line, Stages, Translator
from nexus.system import packages, sysroot

BASE = 0x1000  # where bytes lie that come without an address
_BLOCK_BYTES = 100 * LONGEST
_MOST_BLOCKS = 2000


class Piece:
    """A stretch of code: `name` for the reader, its bytes and their guest address; `whole` to be shown to the
    end of the bytes, else its first block only."""

    __slots__ = ("address", "code", "name", "whole")

    def __init__(self, name: str, code: bytes, address: int, whole: bool) -> None:
        self.name = name
        self.code = code
        self.address = address
        self.whole = whole


def from_bytes(text: str, address: int = BASE) -> Piece:
    """Hexadecimal bytes, with or without spaces; raises UsageError for anything else."""
    digits = "".join(text.replace(",", " ").split()).removeprefix("0x")
    try:
        code = bytes.fromhex(digits)
    except ValueError:
        hint = 'bytes like "48 01 d8", or EXE!SYMBOL'
        wrong = next((c for c in digits if c not in "0123456789abcdefABCDEF"), "")
        reason = f"{wrong!r} is not a hexadecimal digit" if wrong else "the last byte has one digit only"
        raise UsageError(f"{text!r} is not code: {reason}", hint=hint) from None
    if not code:
        raise UsageError("there are no bytes to show", hint='bytes like "48 01 d8", or EXE!SYMBOL')
    return Piece(code.hex(" "), code, address, True)


def from_image(text: str, wanted: str | None, function: bool) -> Piece:
    """`EXE!SYMBOL`, `EXE!0xADDRESS` (as linked), `EXE!+0xOFFSET` or `EXE` for its entry point.

    EXE is a path, a package, or a program or DLL of the sysroot. With `function` it is all of the function
    that the exception directory says the place is in; without, one block."""
    name, _, place = text.partition("!")
    path = find(name, wanted)
    with open(path, "rb") as file:
        image = pe.parse(file.read())
    if image.machine != pe.MACHINE_AMD64:
        raise Unsupported(f"machine code of kind {image.machine:#x}", name, "src/nexus/isa/")
    offset = resolve(image, place, name)
    start, end = function_at(image, offset) if function else (offset, 0)
    section = image.section_at(start)
    if section is None or not section.characteristics & pe.SCN_EXECUTE:
        raise UsageError(f"{text}: there is no code at {image.image_base + start:#x}")
    limit = section.address + section.virtual_size
    code = image.read(start, (end or min(limit, start + _BLOCK_BYTES)) - start)
    return Piece(
        f"{os.path.basename(path)}!{place or 'entry point'}", code, image.image_base + start, function
    )


def find(name: str, wanted: str | None) -> str:
    """The file that is meant."""
    if packages.is_reference(name):
        return packages.locate(name, False, False)[0]
    if os.path.isfile(name):
        return name
    if "/" in name:
        raise NotFound(f"{name} does not exist")
    folder = sysroot.find(wanted).windows
    for candidate in (name, name + ".dll", name + ".exe"):
        path = os.path.join(folder, candidate.lower())
        if os.path.isfile(path):
            return path
    raise NotFound(f"{name} was not found here, nor in the sysroot")


def resolve(image: Image, place: str, name: str) -> int:
    """The offset of a symbol or address in the image."""
    if not place:
        return image.entry_point
    digits = place.removeprefix("+").lower()
    if place.startswith("+") or digits.startswith("0x"):
        try:
            number = int(digits.removeprefix("0x"), 16)
        except ValueError:
            raise UsageError(f"{place} is not an address", hint="0x140001000 or +0x1000") from None
        return number if place.startswith("+") else number - image.image_base
    for export in directories.exports(image):
        if place in (export.name, f"#{export.ordinal}"):
            if export.forward:
                module, _, function = export.forward.rpartition(".")
                raise UsageError(
                    f"{name}!{place} is forwarded", hint=f"nexus show {module.lower()}!{function}"
                )
            return export.address
    from difflib import get_close_matches

    names = list(directories.export_addresses(image))
    close = get_close_matches(place, names, 1)
    hint = (
        f"did you mean {name}!{close[0]}?" if close else f"it exports {len(names)} names; addresses work too"
    )
    raise UsageError(f"{name} exports no {place}", hint=hint)


def function_at(image: Image, offset: int) -> tuple[int, int]:
    """Begin and end of the function around an offset, by the exception directory; raises UsageError where
    that has none."""
    for begin, end in functions(image):
        if begin <= offset < end:
            return begin, end
    raise UsageError(
        f"the exception directory knows no function at {image.image_base + offset:#x}",
        hint="without --function its first block is shown",
    )


def functions(image: Image) -> list[tuple[int, int]]:
    """(begin, end) of the functions in the exception directory: RUNTIME_FUNCTION of the PE format."""
    from struct import iter_unpack

    start, size = image.directory(pe.EXCEPTION)
    if not start or size < 12:
        return []
    try:
        table = image.read(start, size - size % 12)
    except BadImage:
        return []
    return [(begin, end) for begin, end, _ in iter_unpack("<III", table) if begin < end]


class Shown:
    """The stages of a piece's blocks, and T2's code of them as one region, or why there is none."""

    __slots__ = ("blocks", "region", "why")

    def __init__(self, blocks: list[Stages], region: list[Line], why: str) -> None:
        self.blocks = blocks
        self.region = region
        self.why = why


def translate(piece: Piece) -> Shown:
    """The stages of the piece's first block, or of all of them one after the other."""
    translator = Translator()
    found: list[Stages] = []
    at = 0
    while at < len(piece.code) and len(found) < _MOST_BLOCKS:
        stages = translator.stages(piece.code[at : at + _BLOCK_BYTES], piece.address + at)
        found.append(stages)
        at = stages.block.end - piece.address
        if not piece.whole:
            break
    return Shown(found, *translator.region(found))
