"""Builds the stencils: `python -m nexus.backend.stencils.build FILE`, in a process of its own.

What is kept of each is its code without the final jump to `next` (`tidy.py`), and its holes; constants go to
a pool that all share. A stencil that needs other data or calls something is left out, as is one that does not
keep the rules of `violations`; the interpreter's handler does what it would have done.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from contextlib import suppress

from iced_x86 import (
    Decoder,
    Formatter,
    FormatterSyntax,
    InstructionInfoFactory,
    OpAccess,
    Register,
)

from nexus.backend import cache
from nexus.backend.interp.records import variants
from nexus.backend.llvm.compile import compile_object
from nexus.backend.stencils import layout, source
from nexus.backend.stencils.layout import IMMEDIATE_BIAS, OPERAND_REGISTERS, OPERAND_VECTORS
from nexus.backend.stencils.registers import NUMBER, POOL, full, placed, uses
from nexus.backend.stencils.store import CORE, pack
from nexus.backend.stencils.tidy import tidy
from nexus.base.errors import NexusError
from nexus.ir.ops import LOAD, ROWS, STORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.records import Variant
    from nexus.backend.stencils.store import Form, Hole, Places, Stencil
    from nexus.ir.ops.table import Row

_WRITES = (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)
_SIZES = {1: 8, 2: 4, 4: 4, 10: 4, 11: 4}  # relocation kind -> bytes
_RELATIVE = (2, 4)
_NAMES = (*source.HOLES, "h_lit", "h_exit", "h_copy", "settle", *source.ENDS)
_LONG_ENDS = {name + source.LONG: name for name in source.ENDS}


class Pool:
    """The constants that stencils refer to, 16 bytes for each."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._at: dict[bytes, int] = {}

    def place(self, constant: bytes) -> int:
        """Where it is."""
        if constant not in self._at:
            self._at[constant] = len(self.data)
            self.data += constant.ljust(16, b"\0")
        return self._at[constant]


def functions(elf: bytes, pool: Pool) -> dict[str, tuple[bytes, list[Hole] | None]]:
    """The code of each function and its holes, None for a function that refers to something else."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    (count,) = struct.unpack_from("<H", elf, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, table + 64 * i) for i in range(count)]
    symbols: list[tuple[str, int, int, int]] = []
    constants: dict[int, tuple[int, int]] = {}  # symbol of a constant -> where it is, its size
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind == 2:
            strings = sections[link][4]
            for at in range(offset, offset + size, 24):
                name_at, info, _, home, value, length = struct.unpack_from("<IBBHQQ", elf, at)
                name = elf[strings + name_at : elf.index(0, strings + name_at)].decode()
                if home < count and sections[home][1] == 1 and sections[home][9] in (4, 8, 16):
                    constants[len(symbols)] = sections[home][4] + value, sections[home][9]
                symbols.append((name, home if info & 15 == 2 else 0, value, length))
    out: dict[str, tuple[bytes, list[Hole] | None]] = {}
    relocations: dict[int, list[tuple[int, int, int, int]]] = {}
    for _, kind, _, _, offset, size, _, info, *_ in sections:
        if kind == 4:
            for at in range(offset, offset + size, 24):
                where, what, addend = struct.unpack_from("<QQq", elf, at)
                relocations.setdefault(info, []).append((where, what & 0xFFFFFFFF, what >> 32, addend))
    for each in relocations.values():
        each.sort()
    for name, home, value, length in symbols:
        if not home:
            continue
        begin = sections[home][4] + value
        found: list[Hole] | None = []
        for where, kind, number, addend in relocations.get(home, ()):
            if value <= where < value + length:
                symbol = symbols[number][0]
                symbol = _LONG_ENDS.get(symbol, symbol)
                assert found is not None
                if number in constants and kind in _RELATIVE:
                    at, size = constants[number]
                    behind = _behind(elf[begin : begin + length], where - value)
                    at += addend + 4 + behind
                    found.append((where - value, 4, POOL, pool.place(elf[at : at + size]) << 8 | behind))
                elif symbol in _NAMES and kind in _SIZES:
                    found.append((where - value, _SIZES[kind], symbol, addend + 4 * (kind in _RELATIVE)))
                else:
                    found = None
                    break
        out[name] = elf[begin : begin + length], found
    return out


def _behind(code: bytes, displacement: int) -> int:
    """How many bytes of the instruction follow its displacement."""
    return next(i.next_ip for i in Decoder(64, code) if i.next_ip > displacement) - displacement - 4


def violations(code: bytes, shape: str, row: Row | None) -> list[str]:
    """What a stencil may not do: write an operand's register before the row's last access to the guest's
    memory; change one that is not the result's; change r12 (the state)."""
    factory, formatter = InstructionInfoFactory(), Formatter(FormatterSyntax.NASM)
    named = {
        NUMBER[names[int(n)]] for n in shape if n != "m" for names in (OPERAND_REGISTERS, OPERAND_VECTORS)
    }
    result = {
        NUMBER[names[int(n)]] for n in shape[:1] if n != "m" for names in (OPERAND_REGISTERS, OPERAND_VECTORS)
    }
    accesses = row is not None and row.effect in (LOAD, STORE)
    found, written = [], ""
    for instruction in Decoder(64, code):
        text = f"{instruction.ip:#x}: {formatter.format(instruction)}"
        info = factory.info(instruction)
        if written and accesses and any(memory.base != Register.R12 for memory in info.used_memory()):
            found.append(f"{text} accesses memory after {written}")
        for used in info.used_registers():
            register = full(used.register)
            if used.access in _WRITES and register in named - result:
                found.append(f"{text} changes an operand")
            if used.access in _WRITES and register == Register.R12:
                found.append(f"{text} changes the state's register")
            if used.access in _WRITES and register in named:
                written = text
    return found


def form(v: Variant) -> Form:
    """What the assembler has to know of a variant."""
    result, operands = source.operands(v)
    kinds = source.kind(result), tuple(source.kind(t) for t in operands[:3])
    flags, of_result = source.flags(v)
    access = source.accesses(v.row)
    count = 2 if flags >= source.DEFERRABLE and _flags_row(v).operands[1:] else 1
    writes = v.row.effect == STORE or ".modify." in v.row.name
    counted = flags >= source.DEFERRABLE and source.COUNTED in v.row.name
    return (
        *(kinds, v.size, v.branches, source.limit(v), access, writes),
        *(flags, of_result, count, v.imm_last, counted),
    )


def _flags_row(v: Variant) -> Row:
    if v.second is not None and v.second.name in layout.DEFERRED:
        return v.second
    return v.row


def build(file: str) -> bytes:
    """Compile and check; the contents of the file of that name."""
    text, index = source.module(ROWS.values())
    pool = Pool()
    found = functions(compile_object(text, reloc="static", codemodel="kernel", zero_upper=False), pool)
    rows = {v.name: v.row for row in ROWS.values() for v in variants(row)}
    stencils: dict[str, dict[str, Stencil]] = {}
    borrows: dict[str, Places] = {}
    for symbol, (name, shape) in index.items():
        code, holes = found[symbol]
        if holes is None:
            continue
        row = rows.get(name.partition(source.FIXED)[0].removesuffix(source.QUIET))
        holes = [(at, size, what, more + IMMEDIATE_OFFSET.get(what, 0)) for at, size, what, more in holes]
        made: Stencil = code, tuple(holes)
        if name != "base_code":
            if row is not None and violations(code, shape, row):
                continue
            operands = _operands(shape)
            if name in ("enter", "spent"):
                operands = {OPERAND_REGISTERS[0]: layout.BUDGET}
            try:
                made = tidy(placed(made, operands))
            except ValueError:
                if not may_borrow(made, shape, row):
                    continue
                try:
                    made = tidy(placed(made, {}, borrow=True))
                except ValueError:
                    continue
                if not may_reload(made):
                    continue
                borrows[name] = borrowed(made)
        stencils.setdefault(name, {})[shape] = made
    missing = [
        name for name, shapes in source.CONTROL_SHAPES.items() if set(shapes) - set(stencils.get(name, ()))
    ]
    for row in ROWS.values():
        for v in variants(row):  # a branch that has no stencil is its condition and a branch on that
            if v.branches and not {v.name, v.name + source.QUIET, v.name[:-2]} & set(stencils):
                missing.append(v.name)
    if missing or any(name not in stencils for name in CORE):
        raise NexusError(f"the compiler did not make what T1 cannot do without: {', '.join(missing)}")
    forms = {v.name: form(v) for row in ROWS.values() for v in variants(row)}
    return pack(file, forms, stencils, borrows, bytes(pool.data))


def may_borrow(stencil: Stencil, shape: str, row: Row | None) -> bool:
    """May a stencil use pinned registers, which are in their slots meanwhile? Not if it can fault."""
    return (
        shape == "m" * len(shape)
        and row is not None
        and not row.address
        and all(what in ("next", "taken") or what.startswith("h_") for _, _, what, _ in stencil[1])
    )


def may_reload(stencil: Stencil) -> bool:
    """Is there one place where a stencil is left, the end or a conditional jump there?"""
    code, holes = stencil
    exits = [at for at, _, what, _ in holes if what in ("next", "taken")]
    return exits in ([], [len(code) - 4])


def borrowed(stencil: Stencil) -> Places:
    """The slots of the pinned registers that a stencil uses."""
    scalars = [layout.SLOT_OF[name] for name in uses(stencil, layout.BORROWED)]
    vectors = [layout.VECTOR_SLOT_OF[name] for name in uses(stencil, layout.VECTORS_BORROWED)]
    return (*((source.SCALAR, slot) for slot in scalars), *((source.VECTOR, slot) for slot in vectors))


def _operands(shape: str) -> dict[str, str]:
    """The registers of operands that a shape names, in both kinds, and where they go."""
    numbers = [int(letter) for letter in shape if letter != "m"]
    out = {OPERAND_REGISTERS[n]: OPERAND_REGISTERS[n] for n in numbers}
    return out | {OPERAND_VECTORS[n]: layout.PLACED_VECTORS[n] for n in numbers}


IMMEDIATE_OFFSET = {"h_imm": -IMMEDIATE_BIAS}


def main(path: str, meanwhile: bool) -> None:
    """Build a file; `meanwhile` others want the processor, unless somebody is at it already."""
    if meanwhile:
        os.nice(19)
    with open(f"{path}.building", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if meanwhile else 0))
        except BlockingIOError:
            return
        if not os.path.exists(path):
            cache.write(path, build(os.path.basename(path)))
        with suppress(FileNotFoundError):  # somebody else waited for us
            os.unlink(lock.name)


if __name__ == "__main__":
    main(sys.argv[1], "--meanwhile" in sys.argv)
