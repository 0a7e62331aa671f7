"""The flags an arithmetic instruction leaves, one row per kind of result.

A row sets all five split values at once (`ir/state.py`), so that an engine needs one step for them and
LLVM can drop each on its own. `cond.*` reads them back.
"""

from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import family, row
from nexus.ir.state import FLAGS
from nexus.ir.types import INTEGERS


def _rest(w: int, result: int, a: int, b: int) -> dict[str, int]:
    return {"nz": signed(result, w) & (1 << 64) - 1, "pf": result & 255, "af": (a ^ b ^ result) >> 4 & 1}


def add_flags(w: int, a: int, b: int, carry: int = 0) -> dict[str, int]:
    """Flags of a + b + carry, by the rules of the manual's ADD and ADC."""
    total = a + b + carry
    result = total & (1 << w) - 1
    return {"cf": total >> w, "of": (a ^ result) & (b ^ result) & 1 << w - 1 != 0, **_rest(w, result, a, b)}


def sub_flags(w: int, a: int, b: int, borrow: int = 0) -> dict[str, int]:
    """Flags of a - b - borrow, by the rules of the manual's SUB and SBB."""
    result = (a - b - borrow) & (1 << w) - 1
    return {"cf": a < b + borrow, "of": (a ^ b) & (a ^ result) & 1 << w - 1 != 0, **_rest(w, result, a, b)}


def product_flags(w: int, a: int, b: int, signs: bool) -> dict[str, int]:
    """Flags of the low half of a product, of signed numbers if `signs`."""
    product = signed(a, w) * signed(b, w) if signs else a * b
    result = product & (1 << w) - 1
    lost = (signed(result, w) if signs else result) != product
    return {"cf": lost, "of": lost, **_rest(w, result, 0, 0), "af": 0}


_RESULT = "$new.nz = {sext %r}\n%pf = {zext %r}\n$new.pf = and i64 %pf, 255\n"
_AF = """
%ab = xor {T} $a, $b
%abr = xor {T} %ab, %r
%half = lshr {T} %abr, 4
%af = and {T} %half, 1
$new.af = {zext %af}
"""
_ADD = """
%ar = xor {T} $a, %r
%br = xor {T} $b, %r
%ov = and {T} %ar, %br
%of = lshr {T} %ov, {m}
$new.of = {zext %of}
"""
_SUB = _ADD.replace("%br = xor {T} $b, %r", "%br = xor {T} $a, $b")

family(
    INTEGERS,
    "flags.add.{t}",
    "{t} {t} ->",
    "%r = add {T} $a, $b\n%c = icmp ult {T} %r, $a\n$new.cf = zext i1 %c to i64\n" + _ADD + _RESULT + _AF,
    lambda w, state, a, b: add_flags(w, a, b),
    "The flags of a + b.",
    writes=FLAGS,
)
family(
    INTEGERS,
    "flags.sub.{t}",
    "{t} {t} ->",
    "%r = sub {T} $a, $b\n%c = icmp ult {T} $a, $b\n$new.cf = zext i1 %c to i64\n" + _SUB + _RESULT + _AF,
    lambda w, state, a, b: sub_flags(w, a, b),
    "The flags of a - b.",
    writes=FLAGS,
)
family(
    INTEGERS,
    "flags.adc.{t}",
    "{t} {t} ->",
    """
%cin1 = icmp ne i64 $cf, 0
%cin = zext i1 %cin1 to {T}
%s = add {T} $a, $b
%c1 = icmp ult {T} %s, $a
%r = add {T} %s, %cin
%c2 = icmp ult {T} %r, %s
%c = or i1 %c1, %c2
$new.cf = zext i1 %c to i64
"""
    + _ADD
    + _RESULT
    + _AF,
    lambda w, state, a, b: add_flags(w, a, b, state["cf"]),
    "The flags of a + b + CF.",
    reads=("cf",),
    writes=FLAGS,
)
family(
    INTEGERS,
    "flags.sbb.{t}",
    "{t} {t} ->",
    """
%cin1 = icmp ne i64 $cf, 0
%cin = zext i1 %cin1 to {T}
%s = sub {T} $a, $b
%c1 = icmp ult {T} $a, $b
%r = sub {T} %s, %cin
%c2 = icmp ult {T} %s, %cin
%c = or i1 %c1, %c2
$new.cf = zext i1 %c to i64
"""
    + _SUB
    + _RESULT
    + _AF,
    lambda w, state, a, b: sub_flags(w, a, b, state["cf"]),
    "The flags of a - b - CF.",
    reads=("cf",),
    writes=FLAGS,
)
family(
    INTEGERS,
    "flags.logic.{t}",
    "{t} ->",
    "%r = add {T} $a, 0\n$new.cf = add i64 0, 0\n$new.of = add i64 0, 0\n$new.af = add i64 0, 0\n" + _RESULT,
    lambda w, state, a: {"cf": 0, "of": 0, **_rest(w, a, 0, 0), "af": 0},
    "The flags of and, or, xor, test with this result: CF, OF (and AF, undefined on hardware) are 0.",
    writes=FLAGS,
)
for _name, _intrinsic, _signed in (("imul", "smul", True), ("mul", "umul", False)):
    family(
        INTEGERS,
        f"flags.{_name}.{{t}}",
        "{t} {t} ->",
        f"%m = call {{{{T}}, i1}} @llvm.{_intrinsic}.with.overflow.{{t}}({{T}} $a, {{T}} $b)"
        """
%r = extractvalue {{T}, i1} %m, 0
%v = extractvalue {{T}, i1} %m, 1
$new.cf = zext i1 %v to i64
$new.of = zext i1 %v to i64
$new.af = add i64 0, 0
""" + _RESULT,
        lambda w, state, a, b, signs=_signed: product_flags(w, a, b, signs),
        "The flags of a product: CF and OF if it does not fit; the others (undefined) are of its low half.",
        writes=FLAGS,
    )
family(
    INTEGERS,
    "flags.result.{t}",
    "{t} ->",
    "%r = add {T} $a, 0\n" + _RESULT,
    lambda w, state, a: {"nz": signed(a, w) & (1 << 64) - 1, "pf": a & 255},
    "ZF, SF and PF of a result; CF, OF and AF stay.",
    writes=("nz", "pf"),
)

_ZF = "%z = icmp eq i64 $nz, 0\n"
_SF = "%force = shl i64 $pf, 55\n%signs = or i64 $nz, %force\n%s = icmp slt i64 %signs, 0\n"
_SO = _SF + "%o = icmp ne i64 $of, 0\n%l = xor i1 %s, %o\n"
_PF = "%low = trunc i64 $pf to i8\n%pop = call i8 @llvm.ctpop.i8(i8 %low)\n%odd = trunc i8 %pop to i1\n"


def _zf(state: dict[str, int]) -> bool:
    return state["nz"] == 0


def _sf(state: dict[str, int]) -> bool:
    return bool(state["nz"] >> 63 | state["pf"] >> 8 & 1)


def _pf(state: dict[str, int]) -> bool:
    return (state["pf"] & 255).bit_count() % 2 == 0


_CONDITIONS = {
    "o": (("of",), "$d = icmp ne i64 $of, 0", lambda s: s["of"] != 0),
    "b": (("cf",), "$d = icmp ne i64 $cf, 0", lambda s: s["cf"] != 0),
    "e": (("nz",), "$d = icmp eq i64 $nz, 0", _zf),
    "be": (
        ("cf", "nz"),
        _ZF + "%c = icmp ne i64 $cf, 0\n$d = or i1 %c, %z",
        lambda s: s["cf"] != 0 or _zf(s),
    ),
    "s": (("nz", "pf"), _SF + "$d = or i1 %s, false", _sf),
    "p": (("pf",), _PF + "$d = xor i1 %odd, true", _pf),
    "l": (("nz", "pf", "of"), _SO + "$d = or i1 %l, false", lambda s: _sf(s) != (s["of"] != 0)),
    "le": (("nz", "pf", "of"), _SO + _ZF + "$d = or i1 %l, %z", lambda s: _zf(s) or _sf(s) != (s["of"] != 0)),
}
for _name, (_reads, _text, _test) in _CONDITIONS.items():
    row(
        f"cond.{_name}",
        "-> i1",
        _text,
        lambda w, state, test=_test: (int(test(state)), {}),
        f"Condition code {_name.upper()} of the flags; its opposite is xor with 1.",
        reads=_reads,
    )
