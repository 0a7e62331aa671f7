"""Integer arithmetic, comparison, selection and conversion."""

from nexus.ir.ops.table import family, row
from nexus.ir.types import I1, I8, I16, I32, I64, INTEGERS


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


for _t in (I1, *INTEGERS):
    _text = "$d = add i64 $imm, 0" if _t is I64 else f"$d = trunc i64 $imm to {_t}"
    row(f"const.{_t}", f"-> {_t}", _text, lambda w, imm: imm, "The immediate.", imm=True)

family(
    INTEGERS, "add.{t}", "{t} {t} -> {t}", "$d = add {T} $a, $b", lambda w, a, b: a + b, "Sum, modulo 2**w."
)
family(
    INTEGERS,
    "sub.{t}",
    "{t} {t} -> {t}",
    "$d = sub {T} $a, $b",
    lambda w, a, b: a - b,
    "Difference, modulo 2**w.",
)
family(
    INTEGERS,
    "mul.{t}",
    "{t} {t} -> {t}",
    "$d = mul {T} $a, $b",
    lambda w, a, b: a * b,
    "Product, modulo 2**w.",
)
family(INTEGERS, "and.{t}", "{t} {t} -> {t}", "$d = and {T} $a, $b", lambda w, a, b: a & b, "Bitwise and.")
family(INTEGERS, "or.{t}", "{t} {t} -> {t}", "$d = or {T} $a, $b", lambda w, a, b: a | b, "Bitwise or.")
family(
    INTEGERS,
    "xor.{t}",
    "{t} {t} -> {t}",
    "$d = xor {T} $a, $b",
    lambda w, a, b: a ^ b,
    "Bitwise exclusive or.",
)

_SHIFT = """
%in = icmp ult {T} $b, {w}
%n = select i1 %in, {T} $b, {T} 0
%s = %OP {T} $a, %n
$d = select i1 %in, {T} %s, {T} %OUT"""
family(
    INTEGERS,
    "shl.{t}",
    "{t} {t} -> {t}",
    _SHIFT.replace("%OP", "shl").replace("%OUT", "0"),
    lambda w, a, b: a << b if b < w else 0,
    "Shift left; 0 when the count reaches the width.",
)
family(
    INTEGERS,
    "shr.{t}",
    "{t} {t} -> {t}",
    _SHIFT.replace("%OP", "lshr").replace("%OUT", "0"),
    lambda w, a, b: a >> b if b < w else 0,
    "Logical shift right; 0 when the count reaches the width.",
)
family(
    INTEGERS,
    "sar.{t}",
    "{t} {t} -> {t}",
    "%n = call {T} @llvm.umin.{t}({T} $b, {T} {m})\n$d = ashr {T} $a, %n",
    lambda w, a, b: signed(a, w) >> min(b, w - 1),
    "Arithmetic shift right; the count saturates at w - 1.",
)
_ROTATE = "%n = and {T} $b, {m}\n$d = call {T} @llvm.%FSH.{t}({T} $a, {T} $a, {T} %n)"
family(
    INTEGERS,
    "rotl.{t}",
    "{t} {t} -> {t}",
    _ROTATE.replace("%FSH", "fshl"),
    lambda w, a, b: a << b % w | a >> (w - b % w),
    "Rotate left by the count modulo w.",
)
family(
    INTEGERS,
    "rotr.{t}",
    "{t} {t} -> {t}",
    _ROTATE.replace("%FSH", "fshr"),
    lambda w, a, b: a >> b % w | a << (w - b % w),
    "Rotate right by the count modulo w.",
)

_COMPARE = {
    "eq": ("Equal.", lambda w, a, b: a == b),
    "ne": ("Not equal.", lambda w, a, b: a != b),
    "ult": ("Unsigned less than.", lambda w, a, b: a < b),
    "ule": ("Unsigned less than or equal.", lambda w, a, b: a <= b),
    "slt": ("Signed less than.", lambda w, a, b: signed(a, w) < signed(b, w)),
    "sle": ("Signed less than or equal.", lambda w, a, b: signed(a, w) <= signed(b, w)),
}
for _name, (_doc, _oracle) in _COMPARE.items():
    family(INTEGERS, _name + ".{t}", "{t} {t} -> i1", f"$d = icmp {_name} {{T}} $a, $b", _oracle, _doc)

family(INTEGERS, "zero.{t}", "{t} -> i1", "$d = icmp eq {T} $a, 0", lambda w, a: a == 0, "Is it zero?")
family(
    INTEGERS,
    "negative.{t}",
    "{t} -> i1",
    "$d = icmp slt {T} $a, 0",
    lambda w, a: signed(a, w) < 0,
    "Is it less than zero, as a signed number?",
)

for _wide in (I64, I32, I16, I8, I1):
    for _narrow in (I1, I8, I16, I32):
        if _narrow.bits >= _wide.bits:
            continue
        _n, _w = _narrow.name, _wide.name
        row(f"zext.{_n}.{_w}", f"{_n} -> {_w}", f"$d = zext {_n} $a to {_w}", lambda w, a: a, "Zero-extend.")
        row(
            f"sext.{_n}.{_w}",
            f"{_n} -> {_w}",
            f"$d = sext {_n} $a to {_w}",
            lambda w, a, n=_narrow.bits: signed(a, n),
            "Sign-extend.",
        )
        row(
            f"trunc.{_w}.{_n}",
            f"{_w} -> {_n}",
            f"$d = trunc {_w} $a to {_n}",
            lambda w, a: a,
            "Keep the low bits.",
        )

family(
    (I1, *INTEGERS),
    "select.{t}",
    "i1 {t} {t} -> {t}",
    "$d = select i1 $a, {T} $b, {T} $c",
    lambda w, c, a, b: a if c else b,
    "The second operand where the first is 1, else the third.",
)
for _name, _op in (("and", "Both."), ("or", "Either."), ("xor", "Exactly one.")):
    row(
        f"{_name}.i1",
        "i1 i1 -> i1",
        f"$d = {_name} i1 $a, $b",
        {"and": lambda w, a, b: a & b, "or": lambda w, a, b: a | b, "xor": lambda w, a, b: a ^ b}[_name],
        _op,
    )
