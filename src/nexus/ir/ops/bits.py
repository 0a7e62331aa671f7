"""Parts of registers, wide multiplication and division, counting, reversing and gathering bits."""

from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import family, row
from nexus.ir.types import I8, I16, I32, I64, INTEGERS

for _t in (I8, I16):
    row(
        f"deposit.{_t}",
        f"i64 {_t} -> i64",
        f"%keep = and i64 $a, {~_t.mask}\n%low = zext {_t} $b to i64\n$d = or i64 %keep, %low",
        lambda w, a, b, mask=_t.mask: a & ~mask | b,
        "The first operand with its low part replaced.",
    )
row(
    "deposit.h8",
    "i64 i8 -> i64",
    "%keep = and i64 $a, -65281\n%low = zext i8 $b to i64\n%up = shl i64 %low, 8\n$d = or i64 %keep, %up",
    lambda w, a, b: a & ~0xFF00 | b << 8,
    "The first operand with bits 8..15 replaced.",
)
row(
    "extract.h8",
    "i64 -> i8",
    "%down = lshr i64 $a, 8\n$d = trunc i64 %down to i8",
    lambda w, a: a >> 8,
    "Bits 8..15.",
)

# multiplication and division -------------------------------------------------------------------------


def _wide(op: str) -> str:
    return (
        f"%a2 = {op} i64 $a to i128\n%b2 = {op} i64 $b to i128\n%p = mul i128 %a2, %b2\n"
        "%h = lshr i128 %p, 64\n$d = trunc i128 %h to i64"
    )


row(
    "mulhu.i64",
    "i64 i64 -> i64",
    _wide("zext"),
    lambda w, a, b: a * b >> 64,
    "Upper half of the unsigned product.",
)
row(
    "mulhs.i64",
    "i64 i64 -> i64",
    _wide("sext"),
    lambda w, a, b: signed(a, 64) * signed(b, 64) >> 64,
    "Upper half of the signed product.",
)


def truncated(a: int, b: int) -> int:
    """a / b rounded towards zero, 0 when b is 0."""
    return 0 if b == 0 else abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)


row(
    "divu.i64",
    "i64 i64 -> i64",
    "%zero = icmp eq i64 $b, 0\n%by = select i1 %zero, i64 1, i64 $b\n%q = udiv i64 $a, %by\n"
    "$d = select i1 %zero, i64 0, i64 %q",
    lambda w, a, b: truncated(a, b),
    "Unsigned quotient; 0 when the divisor is 0.",
)
row(
    "divs.i64",
    "i64 i64 -> i64",
    """
%zero = icmp eq i64 $b, 0
%minus = icmp eq i64 $b, -1
%bad = or i1 %zero, %minus
%by = select i1 %bad, i64 1, i64 $b
%q = sdiv i64 $a, %by
%neg = sub i64 0, $a
%other = select i1 %zero, i64 0, i64 %neg
$d = select i1 %bad, i64 %other, i64 %q""",
    lambda w, a, b: truncated(signed(a, 64), signed(b, 64)),
    "Signed quotient rounded towards zero; 0 when the divisor is 0, modulo 2**64 for the one overflow.",
)

# The host's division of %n1:%n0 by %v, where %n1 < %v: it cannot trap.
_LONG = """
%pair = call { i64, i64 } asm "divq $4", "={rax},={rdx},0,1,r,~{flags}"(i64 %n0, i64 %n1, i64 %v)
%quotient = extractvalue { i64, i64 } %pair, 0
"""


def _quotient_u(w: int, high: int, low: int, by: int) -> int:
    return 0 if high >= by else (high << 64 | low) // by


def _quotient_s(w: int, high: int, low: int, by: int) -> int:
    q = truncated(signed(high << 64 | low, 128), signed(by, 64))
    return q if -(1 << 63) <= q < 1 << 63 else 0


row(
    "divu.i128",
    "i64 i64 i64 -> i64",
    "%ok = icmp ult i64 $a, $c\n%v = select i1 %ok, i64 $c, i64 1\n"
    "%n1 = select i1 %ok, i64 $a, i64 0\n%n0 = add i64 $b, 0\n"
    + _LONG
    + "$d = select i1 %ok, i64 %quotient, i64 0",
    _quotient_u,
    "Quotient of first:second (high:low) by the third; 0 unless it fits 64 bits.",
)
row(
    "divu.i128.bad",
    "i64 i64 -> i1",
    "$d = icmp uge i64 $a, $b",
    lambda w, high, by: high >= by,
    "Whether dividing 128 bits with this high half by the second operand overflows (or divides by 0).",
)
_SIGNED = (
    """
%ns = ashr i64 $a, 63
%vs = ashr i64 $c, 63
%vx = xor i64 $c, %vs
%va = sub i64 %vx, %vs
%nh = xor i64 $a, %ns
%nl = xor i64 $b, %ns
%na0 = sub i64 %nl, %ns
%carry0 = icmp ult i64 %nl, %ns
%borrow1 = icmp ne i64 %ns, 0
%wrap = icmp eq i64 %nl, -1
%carry1 = and i1 %borrow1, %wrap
%carry = zext i1 %carry1 to i64
%na1 = add i64 %nh, %carry
%ok = icmp ult i64 %na1, %va
%v = select i1 %ok, i64 %va, i64 1
%n1 = select i1 %ok, i64 %na1, i64 0
%n0 = add i64 %na0, 0
"""
    + _LONG
    + """
%qs = xor i64 %ns, %vs
%qx = xor i64 %quotient, %qs
%signed = sub i64 %qx, %qs
%limit = sub i64 9223372036854775807, %qs
%fits = icmp ule i64 %quotient, %limit
%good = and i1 %ok, %fits
"""
).replace("%carry0 = icmp ult i64 %nl, %ns\n", "")
row(
    "divs.i128",
    "i64 i64 i64 -> i64",
    _SIGNED + "$d = select i1 %good, i64 %signed, i64 0",
    _quotient_s,
    "Signed quotient of first:second (high:low) by the third, towards zero; 0 unless it fits 64 bits.",
)


def _signed_overflow(w: int, high: int, low: int, by: int) -> bool:
    q = truncated(signed(high << 64 | low, 128), signed(by, 64))
    return by == 0 or not -(1 << 63) <= q < 1 << 63


row(
    "divs.i128.bad",
    "i64 i64 i64 -> i1",
    _SIGNED + "$d = xor i1 %good, true",
    _signed_overflow,
    "Whether that division overflows or divides by 0.",
)

# counting and reordering bits ------------------------------------------------------------------------

family(
    INTEGERS,
    "ctpop.{t}",
    "{t} -> {t}",
    "$d = call {T} @llvm.ctpop.{t}({T} $a)",
    lambda w, a: a.bit_count(),
    "Bits set.",
)
family(
    INTEGERS,
    "ctlz.{t}",
    "{t} -> {t}",
    "$d = call {T} @llvm.ctlz.{t}({T} $a, i1 false)",
    lambda w, a: w - a.bit_length(),
    "Zeros above the highest bit set; the width for 0.",
)
family(
    INTEGERS,
    "cttz.{t}",
    "{t} -> {t}",
    "$d = call {T} @llvm.cttz.{t}({T} $a, i1 false)",
    lambda w, a: (a & -a).bit_length() - 1 if a else w,
    "Zeros below the lowest bit set; the width for 0.",
)
family(
    (I16, I32, I64),
    "bswap.{t}",
    "{t} -> {t}",
    "$d = call {T} @llvm.bswap.{t}({T} $a)",
    lambda w, a: int.from_bytes(a.to_bytes(w // 8, "little"), "big"),
    "Bytes reversed.",
)


def _pdep(w: int, a: int, mask: int) -> int:
    out = taken = 0
    for bit in range(w):
        if mask >> bit & 1:
            out |= (a >> taken & 1) << bit
            taken += 1
    return out


def _pext(w: int, a: int, mask: int) -> int:
    out = taken = 0
    for bit in range(w):
        if mask >> bit & 1:
            out |= (a >> bit & 1) << taken
            taken += 1
    return out


# Both run over the bits set in the mask, lowest first; %one is the next bit of the packed side.
_SCATTER = """
br label %start
%start:
br label %head
%head:
%left = phi {T} [ $b, %start ], [ %rest, %body ]
%one = phi {T} [ 1, %start ], [ %two, %body ]
%sum = phi {T} [ 0, %start ], [ %more, %body ]
%end = icmp eq {T} %left, 0
br i1 %end, label %done, label %body
%body:
%minus = sub {T} 0, %left
%bit = and {T} %left, %minus
%probe = and {T} $a, %FROM
%hit = icmp ne {T} %probe, 0
%set = select i1 %hit, {T} %TO, {T} 0
%more = or {T} %sum, %set
%rest = xor {T} %left, %bit
%two = shl {T} %one, 1
br label %head
%done:
$d = add {T} %sum, 0
"""
family(
    (I32, I64),
    "pdep.{t}",
    "{t} {t} -> {t}",
    _SCATTER.replace("%FROM", "%one").replace("%TO", "%bit"),
    _pdep,
    "The low bits of the first operand spread to the places set in the second.",
)
family(
    (I32, I64),
    "pext.{t}",
    "{t} {t} -> {t}",
    _SCATTER.replace("%FROM", "%bit").replace("%TO", "%one"),
    _pext,
    "The bits of the first operand at the places set in the second, packed.",
)


def crc32c(w: int, crc: int, data: int) -> int:
    """CRC-32C (polynomial 0x1EDC6F41, reflected 0x82F63B78) over `w` bits of data."""
    crc ^= data & 0xFFFFFFFF
    high = data >> 32
    for step in range(w):
        if step == 32:
            crc ^= high
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


_CRC = """
%wide = {zext $b}
br label %start
%start:
br label %head
%head:
%i = phi i64 [ 0, %start ], [ %next, %body ]
%crc = phi i64 [ %first, %start ], [ %stepped, %body ]
%end = icmp eq i64 %i, {w}
br i1 %end, label %done, label %body
%body:
%low = and i64 %crc, 1
%neg = sub i64 0, %low
%poly = and i64 %neg, 2197175160
%half = lshr i64 %crc, 1
%stepped = xor i64 %half, %poly
%next = add i64 %i, 1
br label %head
%done:
$d = trunc i64 %crc to i32
"""
for _t in INTEGERS:
    family(
        (_t,),
        "crc32c.{t}",
        "i32 {t} -> i32",
        _CRC.replace(
            "br label %start\n%start:",
            "%old = zext i32 $a to i64\n%first = xor i64 %old, %wide\nbr label %start\n%start:",
        ),
        lambda w, crc, data: crc32c(w, crc, data),
        "CRC-32C of the second operand, continued from the first; one bit per step.",
    )
