"""XSAVE areas, entropy, direct stores, waiting: what came to x86-64 outside the vector extensions."""

from __future__ import annotations

from iced_x86 import Code

from nexus.ir.state import Exit
from nexus.ir.types import I8, I32, I64, V128
from nexus.ir.values import Address
from nexus.isa.x86 import helpers
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import GENERAL_PROTECTION, Ins
from nexus.isa.x86.semantics.sse_operands import vector_const
from nexus.isa.x86.table import register, semantics

_LINE = 64  # bytes of a cache line


def _area(name: str, number: int, compact: bool) -> None:
    def use(i: Ins) -> None:
        i.block.put(helpers.MEMORY_OPERAND, i.block.address(i.memory()))
        i.checked_helper(number, int(compact))

    register(name, use)


for _name in ("XSAVE", "XSAVEOPT", "XSAVEC", "XRSTOR"):
    for _wide in ("", "64"):
        _number = helpers.XRSTOR if _name == "XRSTOR" else helpers.XSAVE
        _area(_name + _wide, _number, _name == "XSAVEC")


@semantics("RDRAND", "RDSEED")
def rdrand(i: Ins) -> None:
    i.checked_helper(helpers.RANDOM, i.general(0) | i.type(0).bits // 8 << 4)


@semantics("RDPID")
def rdpid(i: Ins) -> None:
    i.block.put(i.general(0), i.const(I64, helpers.PROCESSOR))


@semantics("MOVDIRI")
def movdiri(i: Ins) -> None:
    i.write(0, i.read(1))


@semantics("MOVDIR64B")
def movdir64b(i: Ins) -> None:
    """64 bytes from memory to the aligned address in a register (in ES, which has no base)."""
    target = i.read(0).zext(I64)
    i.require_aligned(Address(target), _LINE)
    source = i.memory(1)
    parts = [i.block.load(V128, source.plus(at)) for at in range(0, _LINE, 16)]
    for number, part in enumerate(parts):
        i.block.store(Address(target, 16 * number), part)


@semantics("CLZERO")
def clzero(i: Ins) -> None:
    """The cache line that RAX points into := 0."""
    base = i.get(r.RAX, I32).zext(I64) if i.raw.code == Code.CLZEROD else i.get(r.RAX)
    line = i.segmented(base & -_LINE)
    zero = vector_const(i, 0)
    for at in range(0, _LINE, 16):
        i.block.store(Address(line, at), zero)


@semantics("UMONITOR")
def umonitor(i: Ins) -> None:
    """A byte is read; nothing is armed, for the waits below end at once."""
    address = i.read(0).zext(I64)
    i.block.load(I8, Address(i.segmented(address)))


@semantics("UMWAIT", "TPAUSE")
def wait(i: Ins) -> None:
    """A wait may end at any time. CF says that the system's limit ended it: 0, like the other flags."""
    control = i.read(0)
    i.block.trap_if((control & ~1).ne(0), Exit.PRIVILEGED, GENERAL_PROTECTION)
    for slot in (r.CF, r.OF, r.AF):
        i.set_flag(slot, 0)
    i.block.put(r.NZ, i.const(I64, 1))
    i.block.put(r.PF, i.const(I64, 1))


@semantics("PTWRITE")
def ptwrite(i: Ins) -> None:
    """Nobody traces the processor: the operand is only read."""
    i.read(0)
