"""Access to the guest thread's state (`ir/state.py`), memory, and the ends of a block.

The backends know these rows by name where a slot access needs no code of its own; the templates are what
an engine without such knowledge runs.
"""

from nexus.ir.ops.table import CONTROL, LOAD, PURE, STATE, STORE, TRAP, row
from nexus.ir.types import I1, INTEGERS, V128, V256, V512

for _t in (I1, *INTEGERS, V128, V256, V512):
    row(
        f"get.{_t}",
        f"-> {_t}",
        "",
        None,
        "The low part of state slot imm.",
        effect=STATE,
        imm=True,
        bits=_t.bits,
    )
    row(f"put.{_t}", f"{_t} ->", "", None, "Set state slot imm.", effect=STATE, imm=True, bits=_t.bits)

for _index in (0, 1):
    _x, _i = ("x", " i64") if _index else ("", "")
    row(
        f"lea.i64{_x}",
        f"i64{_i} -> i64",
        "$d = add i64 $p, 0",
        None,
        "The address itself, without access.",
        effect=PURE,
        imm=True,
        address=1 + _index,
    )
    for _t in (*INTEGERS, V128, V256, V512):
        row(
            f"load.{_t}{_x}",
            f"i64{_i} -> {_t}",
            f"$d = load {_t.llvm}, $p, align 1",
            lambda w, memory, address: memory.load(address, w // 8),
            "Load, little-endian, any alignment.",
            effect=LOAD,
            imm=True,
            address=1 + _index,
            bits=_t.bits,
        )
        row(
            f"store.{_t}{_x}",
            f"i64{_i} {_t} ->",
            f"store {_t.llvm} {'$c' if _index else '$b'}, $p, align 1",
            lambda w, memory, address, value: memory.store(address, w // 8, value),
            "Store, little-endian, any alignment.",
            effect=STORE,
            imm=True,
            address=1 + _index,
            bits=_t.bits,
        )

row(
    "clear.v128",
    "->",
    "",
    None,
    "Zero what is above the low 128 bits of vector slot imm.",
    effect=STATE,
    imm=True,
    bits=V128.bits,
    avx=True,
)

row("goto", "->", "", None, "Continue at guest address imm.", effect=CONTROL, imm=True)
row(
    "branch",
    "i1 ->",
    "",
    None,
    "Continue at guest address imm if the operand is 1; a goto follows.",
    effect=CONTROL,
    imm=True,
)
row("jump", "i64 ->", "", None, "Continue at the guest address in the operand.", effect=CONTROL)
row(
    "exit",
    "->",
    "",
    None,
    "Leave the engine: kind in the low 8 bits of imm, argument above.",
    effect=CONTROL,
    imm=True,
)
row("trap_if", "i1 ->", "", None, "Leave the engine as exit does if the operand is 1.", effect=TRAP, imm=True)
