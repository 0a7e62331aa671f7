"""Builds the stencils: `python -m nexus.backend.stencils.build FILE`, in a process of its own.

What is kept of each is its code without the final jump to `next`, and its holes. A stencil that needs data of
its own or calls something is left out, as is one that does not keep the rules of `violations`; the
interpreter's handler does what it would have done.
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
    RegisterExt,
)

from nexus.backend import cache
from nexus.backend.interp.records import variants
from nexus.backend.llvm.compile import compile_object
from nexus.backend.stencils import source
from nexus.backend.stencils.layout import IMMEDIATE_BIAS, PIN_REGISTERS
from nexus.backend.stencils.store import CORE, pack
from nexus.base.errors import NexusError
from nexus.ir.ops import LOAD, ROWS, STORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.stencils.store import Hole, Stencil
    from nexus.ir.ops.table import Row

_WRITES = (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)
_PINS = tuple(getattr(Register, name) for name in PIN_REGISTERS)
_KEPT = {*_PINS, Register.R12, Register.RDX}
_SIZES = {1: 8, 2: 4, 4: 4, 10: 4, 11: 4}  # relocation kind -> bytes
_RELATIVE = (2, 4)
_NAMES = (*source.HOLES, "h_lit", "h_exit", "h_copy", "next", "taken", "leave")


def functions(elf: bytes) -> dict[str, tuple[bytes, list[Hole] | None]]:
    """The code of each function and its holes, None for a function that refers to something else."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    (count,) = struct.unpack_from("<H", elf, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, table + 64 * i) for i in range(count)]
    symbols: list[tuple[str, int, int, int]] = []
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind == 2:
            strings = sections[link][4]
            for at in range(offset, offset + size, 24):
                name_at, info, _, home, value, length = struct.unpack_from("<IBBHQQ", elf, at)
                name = elf[strings + name_at : elf.index(0, strings + name_at)].decode()
                symbols.append((name, home if info & 15 == 2 else 0, value, length))
    out: dict[str, tuple[bytes, list[Hole] | None]] = {}
    relocations: dict[int, list[tuple[int, int, str, int]]] = {}
    for _, kind, _, _, offset, size, _, info, *_ in sections:
        if kind == 4:
            for at in range(offset, offset + size, 24):
                where, what, addend = struct.unpack_from("<QQq", elf, at)
                relocations.setdefault(info, []).append(
                    (where, what & 0xFFFFFFFF, symbols[what >> 32][0], addend)
                )
    for each in relocations.values():
        each.sort()
    for name, home, value, length in symbols:
        if not home:
            continue
        begin = sections[home][4] + value
        found: list[Hole] | None = []
        for where, kind, symbol, addend in relocations.get(home, ()):
            if value <= where < value + length:
                if symbol not in _NAMES or kind not in _SIZES:
                    found = None
                    break
                assert found is not None
                found.append((where - value, _SIZES[kind], symbol, addend + 4 * (kind in _RELATIVE)))
        out[name] = elf[begin : begin + length], found
    return out


def violations(code: bytes, shape: str, row: Row | None) -> list[str]:
    """What a stencil may not do: touch a pinned register that its shape does not name, if other registers are
    to be put in place of those that it names; write a register that has to survive a fault before the row's
    last access to the guest's memory; change r12 (the state)."""
    factory, formatter = InstructionInfoFactory(), Formatter(FormatterSyntax.NASM)
    named = {_PINS[int(letter)] for letter in shape if letter != "m"}
    accesses = row is not None and row.effect in (LOAD, STORE)
    found, written = [], ""
    for instruction in Decoder(64, code):
        text = f"{instruction.ip:#x}: {formatter.format(instruction)}"
        info = factory.info(instruction)
        if written and accesses and any(memory.base != Register.R12 for memory in info.used_memory()):
            found.append(f"{text} accesses memory after {written}")
        for used in info.used_registers():
            full = RegisterExt.full_register(used.register)
            if named and full in _PINS and full not in named:
                found.append(f"{text} uses a register that is not an operand")
            if used.access in _WRITES and full == Register.R12:
                found.append(f"{text} changes the state's register")
            if used.access in _WRITES and full in _KEPT:
                written = text
    return found


def finish(code: bytes, holes: list[Hole]) -> Stencil:
    """Without the last jump if it goes to `next`."""
    if holes and holes[-1][2] == "next" and holes[-1][0] == len(code) - 4 and code[-5] == 0xE9:
        return code[:-5], tuple(holes[:-1])
    return code, tuple(holes)


def build(file: str) -> bytes:
    """Compile and check; the contents of the file of that name."""
    text, index = source.module(ROWS.values())
    found = functions(compile_object(text, reloc="static", codemodel="kernel"))
    rows = {v.name: v.row for row in ROWS.values() for v in variants(row)}
    stencils: dict[str, dict[str, Stencil]] = {}
    for symbol, (name, shape) in index.items():
        code, holes = found[symbol]
        if holes is None:
            continue
        row = rows.get(name)
        if row is not None and violations(code, shape, row):
            continue
        holes = [(at, size, what, more + IMMEDIATE_OFFSET.get(what, 0)) for at, size, what, more in holes]
        stencils.setdefault(name, {})[shape] = finish(code, holes)
    missing = [
        name for name, shapes in source.CONTROL_SHAPES.items() if set(shapes) - set(stencils.get(name, ()))
    ]
    if missing or any(name not in stencils for name in CORE):
        raise NexusError(f"the compiler did not make what T1 cannot do without: {', '.join(missing)}")
    forms = {}
    for row in ROWS.values():
        for v in variants(row):
            result, operands = source.operands(v)
            form = (
                0 if result is None else 1 + result.is_vector,
                tuple(1 + t.is_vector for t in operands[:3]),
            )
            forms[v.name] = form, v.size, v.branches, source.limit(v)
    return pack(file, forms, stencils)


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
