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

LOOK = 'call void asm sideeffect "lock orb $$0, ($0)", "r,~{memory},~{flags}"('
"""With a host pointer and `)`: faults unless a byte can be written, which stays as it is."""
# The host stores the halves one after the other: across pages only when both are known to be writable.
_STORE_512 = f"""
br label %start
%start:
%host = ptrtoint $p to i64
%in = and i64 %host, 4095
%crosses = icmp ugt i64 %in, 4032
br i1 %crosses, label %look, label %go
%look:
{LOOK}$p)
%rest = sub i64 4096, %in
%other = getelementptr i8, $p, i64 %rest
{LOOK}ptr %other)
br label %go
%go:
%x = bitcast i512 {{value}} to <8 x i64>
%l = shufflevector <8 x i64> %x, <8 x i64> poison, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
%h = shufflevector <8 x i64> %x, <8 x i64> poison, <4 x i32> <i32 4, i32 5, i32 6, i32 7>
%second = getelementptr i8, $p, i64 32
store volatile <4 x i64> %h, ptr %second, align 1
store volatile <4 x i64> %l, $p, align 1
"""
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
        _value = "$c" if _index else "$b"
        row(
            f"store.{_t}{_x}",
            f"i64{_i} {_t} ->",
            _STORE_512.replace("{value}", _value) if _t is V512 else f"store {_t.llvm} {_value}, $p, align 1",
            lambda w, memory, address, value: memory.store(address, w // 8, value),
            "Store, little-endian, any alignment.",
            effect=STORE,
            imm=True,
            address=1 + _index,
            bits=_t.bits,
        )

for _t in (V128, V256):
    row(
        f"clear.{_t}",
        "->",
        "",
        None,
        f"Zero what is above the low {_t.bits} bits of vector slot imm.",
        effect=STATE,
        imm=True,
        bits=_t.bits,
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
