"""Questions about segment selectors: LAR, LSL, VERR, VERW.

The answers are those of the four user segments of 64-bit Windows.
"""

from __future__ import annotations

from nexus.ir.types import I16, I32, I64
from nexus.ir.values import Value
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.table import semantics

# selector without its RPL -> (access rights as LAR gives them, limit)
DESCRIPTORS = {
    0x20: (0xCFFB00, 0xFFFFFFFF),  # 32-bit code
    0x28: (0xCFF300, 0xFFFFFFFF),  # data
    0x30: (0x20FB00, 0),  # 64-bit code
    0x50: (0x40F300, 0x3C00),  # the 32-bit TEB
}
DATA = (0x28, 0x50)


def _known(selector: Value, among: tuple[int, ...]) -> Value:
    """Whether the selector, whatever its RPL, is one of these."""
    index = selector & 0xFFFC
    found = index.eq(among[0])
    for other in among[1:]:
        found = found | index.eq(other)
    return found


def _look_up(i: Ins, field: int) -> None:
    """Operand 0 := the field of the descriptor, ZF set; an unknown selector only clears ZF."""
    selector = i.read(1, I16)
    index, known = selector & 0xFFFC, _known(selector, tuple(DESCRIPTORS))
    type = i.type(0)
    value = i.const(I32, 0)
    for number, descriptor in DESCRIPTORS.items():
        value = index.eq(number).select(i.const(I32, descriptor[field]), value)
    if type is I16:
        i.write(0, known.select(value.trunc(I16), i.read(0)))
    else:
        whole = i.get(i.general(0))
        i.block.put(i.general(0), known.select(value.zext(I64), whole))
    i.set_zero_flag(known)


@semantics("LAR")
def lar(i: Ins) -> None:
    _look_up(i, 0)


@semantics("LSL")
def lsl(i: Ins) -> None:
    _look_up(i, 1)


@semantics("VERR")
def verr(i: Ins) -> None:
    i.set_zero_flag(_known(i.read(0, I16), tuple(DESCRIPTORS)))


@semantics("VERW")
def verw(i: Ins) -> None:
    i.set_zero_flag(_known(i.read(0, I16), DATA))
