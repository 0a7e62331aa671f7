"""A small linker: one relocatable x86-64 ELF object, as LLVM emits it, becomes a flat position-independent
image.

Read-only sections come first, writable ones start on a page of their own. Every reference must be relative
and stay inside the object; anything else is an error that names the symbol.
"""

from __future__ import annotations

import struct

from nexus.base.errors import NexusError

PAGE = 4096
_ALLOC, _WRITE = 2, 1
_PROGBITS, _SYMTAB, _RELA, _NOBITS = 1, 2, 4, 8
_PC32, _PLT32, _GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX, _PC64 = 2, 4, 9, 41, 42, 24


class Image:
    """`code` is the bytes to map, writable from `data` on; `symbols` are offsets into it, `sizes` those of
    functions; `sections` gives the place and size of each by its name."""

    __slots__ = ("code", "data", "sections", "sizes", "symbols")

    def __init__(
        self,
        code: bytes,
        data: int,
        symbols: dict[str, int],
        sizes: dict[str, int],
        sections: dict[str, tuple[int, int]],
    ) -> None:
        self.code = code
        self.data = data
        self.sections = sections
        self.symbols = symbols
        self.sizes = sizes


class _Section:
    __slots__ = ("align", "flags", "info", "kind", "link", "name", "offset", "size")

    def __init__(self, elf: bytes, at: int) -> None:
        self.name, self.kind, self.flags, _, self.offset, self.size, self.link, self.info, self.align, _ = (
            struct.unpack_from("<IIQQQQIIQQ", elf, at)
        )


def link(elf: bytes) -> Image:
    """Link the object file `elf`."""
    if elf[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", elf, 16) != (1, 62):
        raise NexusError("the object to link is not a relocatable x86-64 ELF file")
    (table,) = struct.unpack_from("<Q", elf, 40)
    (count,) = struct.unpack_from("<H", elf, 60)
    sections = [_Section(elf, table + 64 * index) for index in range(count)]
    out, base, data = _place(elf, sections)
    symbols: list[tuple[str, int | None]] = []
    names: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for section in sections:
        if section.kind != _SYMTAB:
            continue
        strings = sections[section.link].offset
        for at in range(section.offset, section.offset + section.size, 24):
            name_at, info, _, home, value, size = struct.unpack_from("<IBBHQQ", elf, at)
            name = elf[strings + name_at : elf.index(0, strings + name_at)].decode()
            where = base[home] + value if home in base else None
            symbols.append((name, where))
            if where is not None and name and info & 15 != 3:
                names[name] = where
                if info & 15 == 2:
                    sizes[name] = size
    for section in sections:
        if section.kind == _RELA and section.info in base:
            for at in range(section.offset, section.offset + section.size, 24):
                offset, info, addend = struct.unpack_from("<QQq", elf, at)
                name, where = symbols[info >> 32]
                if where is None:
                    raise NexusError(
                        f"the compiled code needs {name or 'an absolute address'}, which it does not contain"
                    )
                _relocate(out, info & 0xFFFFFFFF, base[section.info] + offset, where, addend, name)
    (index,) = struct.unpack_from("<H", elf, 62)
    titles = sections[index].offset
    placed = {
        elf[titles + section.name : elf.index(0, titles + section.name)].decode(): (base[at], section.size)
        for at, section in enumerate(sections)
        if at in base
    }
    return Image(bytes(out), data, names, sizes, placed)


def _place(elf: bytes, sections: list[_Section]) -> tuple[bytearray, dict[int, int], int]:
    """Copy the sections that a program needs; where each went, and where the writable ones begin."""
    out = bytearray()
    base: dict[int, int] = {}
    data = 0
    for writable in (0, _WRITE):
        if writable:
            out += bytes(-len(out) % PAGE)
            data = len(out)
        for index, section in enumerate(sections):
            wanted = section.kind in (_PROGBITS, _NOBITS) and section.flags & _ALLOC
            if wanted and section.flags & _WRITE == writable:
                out += bytes(-len(out) % max(section.align, 1))
                base[index] = len(out)
                filled = section.kind == _PROGBITS
                out += elf[section.offset : section.offset + section.size] if filled else bytes(section.size)
    out += bytes(-len(out) % PAGE)
    return out, base, data


def _relocate(out: bytearray, kind: int, at: int, target: int, addend: int, name: str) -> None:
    relative = target + addend - at
    if kind in (_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX):
        if out[at - 2] == 0x8B:  # mov symbol@GOT(%rip), reg -> lea symbol(%rip), reg
            out[at - 2] = 0x8D
        elif out[at - 2 : at] == b"\xff\x15":  # call *symbol@GOT(%rip) -> addr32 call symbol
            out[at - 2 : at] = b"\x67\xe8"
        else:
            raise NexusError(
                f"the compiled code reaches {name} through a table in a way the linker does not know"
            )
    elif kind == _PC64:
        struct.pack_into("<q", out, at, relative)
        return
    elif kind not in (_PC32, _PLT32):
        raise NexusError(
            f"the compiled code has a relocation of kind {kind} against {name}, which is not relative"
        )
    struct.pack_into("<i", out, at, relative)
