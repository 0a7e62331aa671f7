"""EFLAGS as one word, for pushf, popf, syscall, lahf and sahf: put together and taken apart."""

from nexus.ir.ops.table import family, row
from nexus.ir.state import FLAGS
from nexus.ir.types import I16, I32, I64

_SPLIT = 0xCD5  # CF PF AF ZF SF DF OF
_NAMES = (*FLAGS, "df", "eflags")
_U64 = (1 << 64) - 1


def _word(w: int, state: dict[str, int]) -> tuple[int, dict[str, int]]:
    nz, pf = state["nz"], state["pf"]
    word = (
        state["eflags"] & ~_SPLIT | 2 | state["cf"] | state["af"] << 4 | state["df"] << 10 | state["of"] << 11
    )
    word |= ((pf & 255).bit_count() % 2 == 0) << 2 | (nz == 0) << 6 | (nz >> 63 | pf >> 8 & 1) << 7
    return word, {}


row(
    "flags.word",
    "-> i64",
    f"""
%rest = and i64 $eflags, {~_SPLIT & 0xFFFFFFFF}
%low = trunc i64 $pf to i8
%ones = call i8 @llvm.ctpop.i8(i8 %low)
%odd = and i8 %ones, 1
%even = xor i8 %odd, 1
%p0 = zext i8 %even to i64
%p = shl i64 %p0, 2
%a = shl i64 $af, 4
%z1 = icmp eq i64 $nz, 0
%z0 = zext i1 %z1 to i64
%z = shl i64 %z0, 6
%force = shl i64 $pf, 55
%signs = or i64 $nz, %force
%s0 = lshr i64 %signs, 63
%s = shl i64 %s0, 7
%d = shl i64 $df, 10
%o = shl i64 $of, 11
%w1 = or i64 %rest, 2
%w2 = or i64 %w1, $cf
%w3 = or i64 %w2, %p
%w4 = or i64 %w3, %a
%w5 = or i64 %w4, %z
%w6 = or i64 %w5, %s
%w7 = or i64 %w6, %d
$d = or i64 %w7, %o""",
    _word,
    "EFLAGS as hardware shows it.",
    reads=_NAMES,
)

_APART = """
$new.cf = and i64 $a, 1
%p0 = lshr i64 $a, 2
%p1 = and i64 %p0, 1
%p = xor i64 %p1, 1
%af0 = lshr i64 $a, 4
$new.af = and i64 %af0, 1
%zs = and i64 $a, 192
%zf0 = and i64 $a, 64
%zf = icmp ne i64 %zf0, 0
%sf0 = and i64 $a, 128
%sf = icmp ne i64 %sf0, 0
%nonzero = select i1 %sf, i64 -1, i64 1
$new.nz = select i1 %zf, i64 0, i64 %nonzero
%both = icmp eq i64 %zs, 192
%forced = select i1 %both, i64 256, i64 0
$new.pf = or i64 %p, %forced
"""


def _low(word: int) -> dict[str, int]:
    zero, sign = word >> 6 & 1, word >> 7 & 1
    return {
        "cf": word & 1,
        "pf": (word >> 2 & 1 ^ 1) | (zero & sign) << 8,
        "af": word >> 4 & 1,
        "nz": 0 if zero else _U64 if sign else 1,
    }


row(
    "flags.from.low",
    "i64 ->",
    _APART,
    lambda w, state, a: _low(a),
    "Set CF, PF, AF, ZF, SF from the low byte of an EFLAGS word.",
    writes=("cf", "pf", "af", "nz"),
)
row(
    "flags.from.word",
    "i64 ->",
    _APART
    + f"""
%d0 = lshr i64 $a, 10
$new.df = and i64 %d0, 1
%o0 = lshr i64 $a, 11
$new.of = and i64 %o0, 1
%keep = and i64 $a, {~_SPLIT & 0xFFFFFFFF}
$new.eflags = or i64 %keep, 2""",
    lambda w, state, a: {
        **_low(a),
        "df": a >> 10 & 1,
        "of": a >> 11 & 1,
        "eflags": a & ~_SPLIT & 0xFFFFFFFF | 2,
    },
    "Set all of EFLAGS from a word.",
    writes=_NAMES,
)
_SIGN = "%force = shl i64 $pf, 55\n%signs = or i64 $nz, %force\n%s = icmp slt i64 %signs, 0"


def _set_zero(w: int, state: dict[str, int], zero: int) -> dict[str, int]:
    sign = state["nz"] >> 63 | state["pf"] >> 8 & 1
    return {"nz": 0 if zero else _U64 if sign else 1, "pf": state["pf"] & 255 | (sign & zero) << 8}


row(
    "flags.zero",
    "i1 ->",
    f"""
{_SIGN}
%parity = and i64 $pf, 255
%both = and i1 %s, $a
%forced = select i1 %both, i64 256, i64 0
$new.pf = or i64 %parity, %forced
%nonzero = select i1 %s, i64 -1, i64 1
$new.nz = select i1 $a, i64 0, i64 %nonzero""",
    _set_zero,
    "ZF := the operand; all other flags stay.",
    reads=("nz", "pf"),
    writes=("nz", "pf"),
)
family(
    (I16, I32, I64),
    "flags.count.{t}",
    "{t} ->",
    "$new.cf = add i64 0, 0\n$new.of = add i64 0, 0\n$new.af = add i64 0, 0\n$new.nz = {zext $a}\n"
    "$new.pf = add i64 1, 0",
    lambda w, state, a: {"cf": 0, "of": 0, "af": 0, "nz": a, "pf": 1},
    "ZF: the operand, not negative, is 0; all others cleared (POPCNT).",
    writes=FLAGS,
)
