"""Read-modify-write of guest memory, in one step (sequentially consistent) or in two.

The alignment promised to LLVM makes it emit the locked instruction and no library call; up to 64 bits the
x86 instruction itself takes any address.
"""

from __future__ import annotations

from nexus.base.errors import GuestFault
from nexus.ir.ops.table import LOAD, STATE, STORE, row
from nexus.ir.types import INTEGERS, V128

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UPDATES = {
    "xchg": ("Put the operand", lambda old, b: b),
    "add": ("Add the operand", lambda old, b: old + b),
    "sub": ("Subtract the operand", lambda old, b: old - b),
    "and": ("And with the operand", lambda old, b: old & b),
    "or": ("Or with the operand", lambda old, b: old | b),
    "xor": ("Exclusive or with the operand", lambda old, b: old ^ b),
}


def load_modify(w: int, memory: Any, address: int) -> int:
    """A load that counts as a write when it faults, as processors report it."""
    try:
        return int(memory.load(address, w // 8))
    except GuestFault as fault:
        raise GuestFault(fault.address, write=True) from None


def _update(w: int, memory: Any, address: int, operand: int, change: Any) -> int:
    old = load_modify(w, memory, address)
    memory.store(address, w // 8, change(old, operand) & (1 << w) - 1)
    return old


for _t in INTEGERS:
    for _x, _i, _count in (("", "", 1), ("x", " i64", 2)):
        row(
            f"load.modify.{_t}{_x}",
            f"i64{_i} -> {_t}",
            f"$d = load {_t.llvm}, $p, align 1",
            load_modify,
            "Load what will be stored to next: a fault is one of writing.",
            effect=LOAD,
            imm=True,
            address=_count,
            bits=_t.bits,
        )
    for _name, (_doc, _change) in _UPDATES.items():
        row(
            f"atomic.{_name}.{_t}",
            f"i64 {_t} -> {_t}",
            f"$d = atomicrmw {_name} $p, {_t.llvm} $b seq_cst, align {_t.bits // 8}",
            lambda w, memory, address, b, change=_change: _update(w, memory, address, b, change),
            _doc + "; the result is what was there before.",
            effect=STORE,
            imm=True,
            address=1,
            bits=_t.bits,
        )


def _exchange(w: int, memory: Any, address: int, expected: int, new: int) -> int:
    old = load_modify(w, memory, address)
    memory.store(address, w // 8, new if old == expected else old)
    return old


for _t in (*INTEGERS, V128):
    row(
        f"atomic.cmpxchg.{_t}",
        f"i64 {_t} {_t} -> {_t}",
        f"%pair = cmpxchg $p, {_t.llvm} $b, {_t.llvm} $c seq_cst seq_cst, align {_t.bits // 8}\n"
        f"$d = extractvalue {{ {_t.llvm}, i1 }} %pair, 0",
        lambda w, memory, address, expected, new: _exchange(w, memory, address, expected, new),
        "Put the third operand if the second is there; the result is what was. 128 bits: aligned.",
        effect=STORE,
        imm=True,
        address=1,
        bits=_t.bits,
    )

row(
    "fence",
    "->",
    "fence seq_cst",
    lambda w: 0,
    "Every access before it is seen by all before any after it.",
    effect=STATE,
)
