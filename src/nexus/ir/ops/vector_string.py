"""The comparisons of SSE4.2's string instructions (PCMPESTRI and its kin).

One row per aggregation and lane type gives IntRes1 of the manual as a bit mask: lengths are operands,
polarity and the form of the output are plain scalar ops around it (`semantics/sse_string.py`).
"""

from __future__ import annotations

from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import row
from nexus.ir.ops.vector import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LANES = {8: "<16 x i8>", 16: "<8 x i16>"}


def _splat(name: str, value: str, bits: int) -> str:
    n = 128 // bits
    return (
        f"%{name}.one = insertelement {_LANES[bits]} poison, i{bits} {value}, i64 0\n"
        f"%{name} = shufflevector {_LANES[bits]} %{name}.one, {_LANES[bits]} poison, <{n} x i32> "
        f"zeroinitializer\n"
    )


def _template(kind: str, bits: int, is_signed: bool) -> str:
    """Column i of the boolean matrix is element i of a against every element of b, as an n-bit integer."""
    n, lanes = 128 // bits, _LANES[bits]
    ge, le = ("sge", "sle") if is_signed else ("uge", "ule")
    text = f"%x = bitcast i128 $a to {lanes}\n%y = bitcast i128 $b to {lanes}\n"
    # masks of the valid elements: lengths are at most n, so the shift is in range
    for name, operand in (("va", "$c"), ("vb", "$e")):
        text += (
            f"%{name}w = call i64 @llvm.umin.i64(i64 {operand}, i64 {n})\n%{name}s = shl i64 1, %{name}w\n"
        )
        text += f"%{name}m = sub i64 %{name}s, 1\n%{name} = trunc i64 %{name}m to i{n}\n"
    if kind == "each":
        text += f"%q1 = icmp eq {lanes} %x, %y\n%q = bitcast <{n} x i1> %q1 to i{n}\n"
        text += f"%both = and i{n} %va, %vb\n%hit = and i{n} %q, %both\n"
        text += f"%any = or i{n} %va, %vb\n%neither = xor i{n} %any, -1\n%r = or i{n} %hit, %neither\n"
        return text + f"$d = zext i{n} %r to i64"
    text += f"%r0 = add i{n} 0, {-1 if kind == 'ordered' else 0}\n"
    for i in range(0, n, 2 if kind == "ranges" else 1):
        text += f"%e{i} = extractelement {lanes} %x, i64 {i}\n" + _splat(f"s{i}", f"%e{i}", bits)
        before = f"%r{i}"
        after = f"%r{i + (2 if kind == 'ranges' else 1)}"
        if kind == "ranges":
            text += f"%f{i} = extractelement {lanes} %x, i64 {i + 1}\n" + _splat(f"t{i}", f"%f{i}", bits)
            text += f"%g{i} = icmp {ge} {lanes} %y, %s{i}\n%h{i} = icmp {le} {lanes} %y, %t{i}\n"
            text += f"%m{i} = and <{n} x i1> %g{i}, %h{i}\n"
        else:
            text += f"%m{i} = icmp eq {lanes} %y, %s{i}\n"
        text += f"%q{i} = bitcast <{n} x i1> %m{i} to i{n}\n"
        valid_at = i + 1 if kind == "ranges" else i  # both ends of a range must be valid
        text += f"%k{i} = lshr i{n} %va, {valid_at}\n%v{i} = trunc i{n} %k{i} to i1\n"
        if kind == "ordered":
            # element i of a must equal element j + i of b; one of a beyond its end matches anything
            text += f"%w{i} = and i{n} %q{i}, %vb\n%u{i} = lshr i{n} %w{i}, {i}\n"
            beyond = ((1 << n) - 1) ^ ((1 << n - i) - 1)
            # an element of b beyond the vector is not looked at: it counts as equal
            text += f"%p{i} = or i{n} %u{i}, {beyond}\n%z{i} = select i1 %v{i}, i{n} %p{i}, i{n} -1\n"
            text += f"{after} = and i{n} {before}, %z{i}\n"
        else:
            text += f"%w{i} = and i{n} %q{i}, %vb\n%z{i} = select i1 %v{i}, i{n} %w{i}, i{n} 0\n"
            text += f"{after} = or i{n} {before}, %z{i}\n"
    return text + f"$d = zext i{n} %r{n} to i64"


def compare_strings(
    kind: str, bits: int, is_signed: bool, a: list[int], b: list[int], la: int, lb: int
) -> int:
    """IntRes1, literally by the manual's table of comparisons (Intel SDM volume 2, 4.1)."""
    n = 128 // bits
    if is_signed:
        a, b = [signed(x, bits) for x in a], [signed(x, bits) for x in b]
    la, lb = min(la, n), min(lb, n)
    result = 0
    for j in range(n):
        if kind == "any":
            hit = j < lb and any(a[i] == b[j] for i in range(la))
        elif kind == "ranges":
            hit = j < lb and any(a[i] <= b[j] <= a[i + 1] for i in range(0, la - 1, 2))
        elif kind == "each":
            hit = (j >= la and j >= lb) or (j < la and j < lb and a[j] == b[j])
        else:
            hit = all(j + i < lb and a[i] == b[j + i] for i in range(la) if j + i < n)
        result |= hit << j
    return result


def _later(kind: str, bits: int, is_signed: bool) -> Callable[[], str]:
    return lambda: _template(kind, bits, is_signed)


def _oracle(kind: str, bits: int, is_signed: bool) -> Callable[..., int]:
    return lambda w, a, b, la, lb: compare_strings(
        kind, bits, is_signed, split(a, bits, 128), split(b, bits, 128), la, lb
    )


for _bits in (8, 16):
    for _kind in ("any", "ranges", "each", "ordered"):
        for _sign in ("u", "s") if _kind == "ranges" else ("i",):
            row(
                f"v.string_{_kind}.{_sign}{_bits}.v128",
                "v128 v128 i64 i64 -> i64",
                _later(_kind, _bits, _sign == "s"),
                _oracle(_kind, _bits, _sign == "s"),
                "Where elements of b meet the set, ranges or string a; c and e are the numbers of valid "
                "elements of a and b.",
            )
    _n = 128 // _bits
    row(
        f"v.string_length.i{_bits}.v128",
        "v128 -> i64",
        f"%x = bitcast i128 $a to {_LANES[_bits]}\n%z = icmp eq {_LANES[_bits]} %x, zeroinitializer\n"
        f"%m = bitcast <{_n} x i1> %z to i{_n}\n%w = zext i{_n} %m to i64\n%s = or i64 %w, {1 << _n}\n"
        "$d = call i64 @llvm.cttz.i64(i64 %s, i1 true)",
        lambda w, a, bits=_bits: [*split(a, bits, 128), 0].index(0),
        "Elements before the first zero.",
    )
    row(
        f"v.bit_lanes.i{_bits}.v128",
        "i64 -> v128",
        f"%t = trunc i64 $a to i{_n}\n%m = bitcast i{_n} %t to <{_n} x i1>\n"
        f"%x = sext <{_n} x i1> %m to {_LANES[_bits]}\n"
        f"$d = bitcast {_LANES[_bits]} %x to i128",
        lambda w, a, bits=_bits: sum(((1 << bits) - 1) << i * bits for i in range(128 // bits) if a >> i & 1),
        "All ones in each lane whose bit is set.",
    )
