"""x87 arithmetic, done by the host's x87 unit: pure functions on the values of `x87_state.py`.

Each row loads its operands, runs the instruction itself and takes result and status word, so that rounding,
precision control, NaNs, exceptions and the bits of transcendental results are a processor's own. The
transcendental ones have no oracle: the manual promises an accuracy, not bits.
"""

from __future__ import annotations

from nexus.ir.ops import float_model as model
from nexus.ir.ops import x87_model as oracle
from nexus.ir.ops.float_model import CHOP, F80, NEAREST
from nexus.ir.ops.table import row
from nexus.ir.ops.x87_state import C1, CODES, EXCEPTIONS, INHERITED, NO_QUOTIENT, STATUS, VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CLOBBERS = ",".join(f"~{{st({n})}}" if n else "~{st}" for n in range(8)) + ",~{fpsr},~{memory}"


def _host(code: str, sources: list[tuple[str, str]], result: str) -> str:
    """LLVM text that stores the operands, runs `code`, and has the status word in %sw.

    Condition codes that the instruction leaves alone come out as 0.
    In `code`, $0 is the result's memory (type `result`), $1 the status word's, $2 ... those of `sources`,
    pairs of LLVM type and value.
    """
    text = (
        f"%rp = alloca {result}, align 16\n%sp = alloca i16, align 2\nstore {result} 0, ptr %rp, align 16\n"
    )
    arguments = f"ptr elementtype({result}) %rp, ptr elementtype(i16) %sp"
    for index, (kind, value) in enumerate(sources):
        text += f"%m{index} = alloca {kind}, align 16\nstore {kind} {value}, ptr %m{index}, align 16\n"
        arguments += f", ptr elementtype({kind}) %m{index}"
    constraints = "=*m,=*m" + ",*m" * len(sources)
    body = "fld1\\0Aftst\\0Afstp %st(0)\\0Afnclex\\0A" + code.replace("\n", "\\0A")
    text += f'call void asm sideeffect "{body}", "{constraints},{_CLOBBERS}"({arguments})\n'
    return text + f"%out = load {result}, ptr %rp, align 16\n%sw = load i16, ptr %sp, align 2\n"


def _joined(operands: str, result: str = "i128", codes: int = C1) -> str:
    """%out and %sw, with what x87 operands had raised, as the x87 value $d; `codes` are those that mean
    something."""
    text = "%raw = and i128 %out, VALUE\n" if result == "i128" else f"%raw = zext {result} %out to i128\n"
    text += (
        f"%sw1 = and i16 %sw, {codes | EXCEPTIONS}\n%sw2 = zext i16 %sw1 to i128\n"
        f"%st0 = shl i128 %sw2, {STATUS}\n"
    )
    mask = INHERITED << STATUS
    last = 0
    for letter in operands:
        text += f"%in{letter} = and i128 ${letter}, {mask}\n%st{last + 1} = or i128 %st{last}, %in{letter}\n"
        last += 1
    return (text + f"$d = or i128 %raw, %st{last}").replace("VALUE", str(VALUE))


def _row(
    name: str,
    signature: str,
    code: str,
    sources: list[tuple[str, str]],
    oracle: Callable[..., Any] | None,
    doc: str,
    result: str = "i128",
    codes: int = C1,
) -> None:
    operands = "".join(
        letter for letter, t in zip("ab", signature.partition("->")[0].split(), strict=False) if t == "v128"
    )
    row(
        name,
        signature,
        lambda: _host(code, sources, result) + _joined(operands, result, codes),
        oracle,
        doc,
    )


_PAIR = [("i128", "$a"), ("i128", "$b")]


def _two(
    name: str, code: str, function: Callable[[int, int], tuple[int, int]], doc: str, codes: int = C1
) -> None:
    """`code` finds a in ST(0) and b in ST(1), and leaves its result in ST(0) and one register below it."""
    _row(
        f"x87.{name}",
        "v128 v128 -> v128",
        f"fldt $3\nfldt $2\n{code}\nfnstsw $1\nfstpt $0\nfstp %st(0)",
        _PAIR,
        oracle.binary(function),
        doc,
        codes=codes,
    )


_two("add", "fadd %st(1), %st", lambda a, b: model.add(F80, a, b, x87=True), "a + b.")
_two("sub", "fsub %st(1), %st", lambda a, b: model.add(F80, a, b, negate=True, x87=True), "a - b.")
_two("mul", "fmul %st(1), %st", lambda a, b: model.multiply(F80, a, b, x87=True), "a * b.")
_two("div", "fdiv %st(1), %st", lambda a, b: model.divide(F80, a, b, x87=True), "a / b.")
_two("scale", "fscale", oracle.scale, "a * 2**trunc(b) (FSCALE).")


def _remainder(name: str, nearest: bool) -> None:
    """With the mark for a NaN, which has no quotient."""
    code = f"fldt $3\nfldt $2\nf{name}\nfnstsw $1\nfstpt $0\nfstp %st(0)"
    mark = "%e1 = lshr i128 %out, 64\n%e = and i128 %e1, 32767\n%nan = icmp eq i128 %e, 32767\n"
    mark += f"%m = select i1 %nan, i128 {NO_QUOTIENT << STATUS}, i128 0\n$d = or i128 %marked, %m"
    row(
        f"x87.{name}",
        "v128 v128 -> v128",
        lambda: (
            _host(code, _PAIR, "i128") + _joined("ab", codes=CODES).replace("$d =", "%marked =") + "\n" + mark
        ),
        oracle.binary(lambda a, b: oracle.remainder(a, b, nearest)),
        f"Partial remainder, quotient {'to nearest' if nearest else 'truncated'} (F{name.upper()}).",
    )


_remainder("prem", nearest=False)
_remainder("prem1", nearest=True)
for _name, _doc in (("patan", "arctan(b / a)"), ("yl2x", "b * log2(a)"), ("yl2xp1", "b * log2(a + 1)")):
    _row(
        f"x87.{_name}",
        "v128 v128 -> v128",
        f"fldt $3\nfldt $2\nf{_name}\nfnstsw $1\nfstpt $0",
        _PAIR,
        None,
        f"{_doc} (F{_name.upper()}).",
    )


def _one(
    name: str, code: str, function: Callable[[int], tuple[int, int]] | None, doc: str, codes: int = C1
) -> None:
    """`code` finds a in ST(0) and leaves its result there."""
    _row(
        f"x87.{name}",
        "v128 -> v128",
        f"fldt $2\n{code}\nfnstsw $1\nfstpt $0",
        [("i128", "$a")],
        oracle.unary(function) if function else None,
        doc,
        codes=codes,
    )


_one("sqrt", "fsqrt", lambda a: model.square_root(F80, a), "Square root.")
_one("rndint", "frndint", lambda a: model.round_integral(F80, a), "Rounded to an integral value.")
_one("2xm1", "f2xm1", None, "2**a - 1 (F2XM1).")
_one("sin", "fsin", None, "Sine; C2 and a itself when it is out of range.", CODES)
_one("cos", "fcos", None, "Cosine; C2 and a itself when it is out of range.", CODES)

# The one pushed last is in ST(0). Out of range (C2) nothing is pushed and a stays.
for _name, _code, _kept in (
    ("tan", "fptan", 1),
    ("tan.one", "fptan", 0),  # 1.0, or the NaN that the operand was
    ("sincos.sin", "fsincos", 1),
    ("sincos.cos", "fsincos", 0),
):
    _row(
        f"x87.{_name}",
        "v128 -> v128",
        f"fldt $2\n{_code}\nfnstsw $1\ntestb $$4, 1+$1\njne 1f\nfstp %st({1 - _kept})\n1:\nfstpt $0",
        [("i128", "$a")],
        None,
        f"One result of {_code.upper()}, the one in ST({_kept}); C2 and a itself when it is out of range.",
        codes=CODES,
    )


def _extraction(exponent: bool) -> Callable[[int], tuple[int, int]]:
    return lambda a: oracle.extract(a, exponent)


def _comparison(quiet: bool) -> Callable[[int, int], tuple[int, int]]:
    return lambda a, b: oracle.compare(a, b, quiet)


for _name, _code, _exponent in (("exponent", "fstp %st(0)", True), ("significand", "fstp %st(1)", False)):
    _one(
        f"xtract.{_name}",
        f"fxtract\nfnstsw $1\n{_code}",
        _extraction(_exponent),
        f"The {_name} of a (FXTRACT).",
    )

for _name, _code, _quiet in (("com", "fcomp %st(1)", False), ("ucom", "fucomp %st(1)", True)):
    _row(
        f"x87.{_name}",
        "v128 v128 -> v128",
        f"fldt $3\nfldt $2\n{_code}\nfnstsw $1\nfstp %st(0)",
        _PAIR,
        oracle.binary(_comparison(_quiet)),
        f"The condition codes of comparing a with b "
        f"({'quietly' if _quiet else 'a quiet NaN is invalid too'}).",
        codes=CODES,
    )

# memory formats ------------------------------------------------------------------------------------------

for _bits, _letter in ((32, "s"), (64, "l")):
    _row(
        f"x87.from_f{_bits}",
        f"i{_bits} -> v128",
        f"fld{_letter} $2\nfnstsw $1\nfstpt $0",
        [(f"i{_bits}", "$a")],
        lambda w, a, bits=_bits: oracle.loaded(a, bits),
        "A float from memory.",
    )
    _row(
        f"x87.to_f{_bits}",
        "v128 -> v128",
        f"fldt $2\nfstp{_letter} $0\nfnstsw $1",
        [("i128", "$a")],
        lambda w, a, bits=_bits: oracle.stored(a, bits),
        "A float for memory, in the low bits.",
        result=f"i{_bits}",
    )
for _bits, _letter in ((16, "s"), (32, "l"), (64, "ll")):
    _row(
        f"x87.from_i{_bits}",
        f"i{_bits} -> v128",
        f"fild{_letter} $2\nfnstsw $1\nfstpt $0",
        [(f"i{_bits}", "$a")],
        lambda w, a, bits=_bits: oracle.loaded_integer(a, bits),
        "A signed integer from memory.",
    )
    for _name, _code, _mode in (("to", "fistp", NEAREST), ("chop", "fisttp", CHOP)):
        _row(
            f"x87.{_name}_i{_bits}",
            "v128 -> v128",
            f"fldt $2\n{_code}{_letter} $0\nfnstsw $1",
            [("i128", "$a")],
            lambda w, a, bits=_bits, mode=_mode: oracle.stored_integer(a, bits, mode),
            f"A signed integer for memory, in the low bits, "
            f"{'rounded' if _mode == NEAREST else 'truncated'}.",
            result=f"i{_bits}",
        )
_row(
    "x87.from_bcd",
    "v128 -> v128",
    "fbld $2\nfnstsw $1\nfstpt $0",
    [("i128", "$a")],
    oracle.unary(oracle.from_bcd),
    "A packed decimal from memory.",
)
_row(
    "x87.to_bcd",
    "v128 -> v128",
    "fldt $2\nfbstp $0\nfnstsw $1",
    [("i128", "$a")],
    oracle.unary(oracle.to_bcd),
    "A packed decimal for memory.",
)

# the significands that rounding to nearest gives (Intel SDM volume 1, table 8-10)
for _name, _doc, _value in (
    ("1", "1.0", 0x3FFF_8000_0000_0000_0000),
    ("l2t", "log2(10)", 0x4000_D49A_784B_CD1B_8AFE),
    ("l2e", "log2(e)", 0x3FFF_B8AA_3B29_5C17_F0BC),
    ("pi", "pi", 0x4000_C90F_DAA2_2168_C235),
    ("lg2", "log10(2)", 0x3FFD_9A20_9A84_FBCF_F799),
    ("ln2", "ln(2)", 0x3FFE_B172_17F7_D1CF_79AC),
):
    _row(
        f"x87.const.{_name}",
        "-> v128",
        f"fld{_name}\nfnstsw $1\nfstpt $0",
        [],
        lambda w, value=_value: value,
        f"{_doc}, rounded by the control word.",
    )

# without the host ------------------------------------------------------------------------------------------

_SIGN = 1 << 79
row(
    "x87.negate",
    "v128 -> v128",
    f"$d = xor i128 $a, {_SIGN}",
    lambda w, a: a ^ _SIGN,
    "The other sign (FCHS); raises nothing.",
)
row(
    "x87.absolute",
    "v128 -> v128",
    f"$d = and i128 $a, {((1 << 128) - 1) ^ _SIGN}",
    lambda w, a: a & ~_SIGN,
    "Sign cleared (FABS); raises nothing.",
)
row(
    "x87.examine",
    "v128 i64 -> v128",
    lambda: (
        _host("fldt $2\nfxam\nfnstsw $1\nfstpt $0", [("i128", "$a")], "i128").replace("%sw =", "%class =")
        + "%gone = icmp ne i64 $b, 0\n%sign = and i16 %class, 512\n"
        + f"%none = or i16 %sign, {oracle.C0 | oracle.C3}\n%sw = select i1 %gone, i16 %none, i16 %class\n"
        + _joined("", codes=CODES)
    ),
    lambda w, a, empty: oracle.examine(a, empty) | a & VALUE,
    "The class of a as condition codes (FXAM); b is 1 for an empty register.",
)
row(
    "flags.x87",
    "v128 ->",
    f"""
%s1 = lshr i128 $a, {STATUS}
%s = trunc i128 %s1 to i64
%c0 = lshr i64 %s, 8
$new.cf = and i64 %c0, 1
%c2 = lshr i64 %s, 10
%p = and i64 %c2, 1
$new.pf = xor i64 %p, 1
%c3 = lshr i64 %s, 14
%z = and i64 %c3, 1
$new.nz = xor i64 %z, 1
$new.of = add i64 0, 0
$new.af = add i64 0, 0
""",
    lambda w, state, a: {
        "cf": a >> STATUS + 8 & 1,
        "pf": (a >> STATUS + 10 & 1) ^ 1,
        "nz": (a >> STATUS + 14 & 1) ^ 1,
        "of": 0,
        "af": 0,
    },
    "EFLAGS from condition codes: CF = C0, PF = C2, ZF = C3, the others 0 (FCOMI).",
    writes=("cf", "of", "nz", "pf", "af"),
)
