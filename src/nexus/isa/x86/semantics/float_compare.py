"""Floating-point comparisons that leave a mask, in a vector or in a mask register: the 8 predicates of SSE
and the 32 of AVX."""

from __future__ import annotations

from nexus.ir.ops.float_arithmetic import PREDICATES
from nexus.ir.ops.vector import LANE_BITS
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.sse_float import sources
from nexus.isa.x86.semantics.sse_operands import control, row, write
from nexus.isa.x86.table import Semantics, register, register_vectors

EXCHANGED = {0x09: 0x06, 0x0A: 0x05, 0x0D: 0x02, 0x0E: 0x01, 0x19: 0x16, 0x1A: 0x15, 0x1D: 0x12, 0x1E: 0x11}
"""Not-greater-or-equal and kin, as what they are with the operands exchanged."""


def _compare(kind: str) -> Semantics:
    def lanes(i: Ins) -> None:
        number = control(i) & (31 if i.vex else 7)
        a, b = sources(i, kind)
        exchanged = number in EXCHANGED
        predicate, _ = PREDICATES[EXCHANGED.get(number, number)]
        mask = i.block.emit(row(i, f"v.cmp_{predicate}.{kind}"), *((b, a) if exchanged else (a, b)))
        if exchanged and kind.endswith("x1"):
            mask = i.block.emit(f"v.blend.i{LANE_BITS[kind[:3]]}.v128", a, mask, imm=1)
        write(i, 0, mask)

    return lanes


cmpsd = _compare("f64x1")
"""Registered in `shared_names.py`."""
register("VCMPSD", cmpsd)
register_vectors("CMPPS", _compare("f32"))
register_vectors("CMPPD", _compare("f64"))
register_vectors("CMPSS", _compare("f32x1"))
