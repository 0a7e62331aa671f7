"""Moving lanes: shuffles, packs, blends, extension, and the way between vectors and integers.

Where x86 encodes the arrangement in an immediate, the template computes a byte control from it: one row
serves every immediate, and an optimiser that knows the immediate folds it into a constant shuffle.
"""

from __future__ import annotations

from nexus.base.errors import GuestFault
from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import LOAD, STORE, row
from nexus.ir.ops.vector import BUILT, LONG_ENOUGH, by_parts, each, join, lanes, parts, split
from nexus.ir.ops.vector_integer import clamp_signed, clamp_unsigned
from nexus.ir.types import I8, I16, I32, I64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.vector import Oracle
    from nexus.ir.oracle import Memory

MISALIGNED = (1 << 64) - 1  # what Windows gives as address of an access violation that is a #GP

_TWO = "{v} {v} -> {v}"
_PSHUFB = "call <16 x i8> @llvm.x86.ssse3.pshuf.b.128(<16 x i8> "


def _vector(element: str, values: list[int]) -> str:
    return "<" + ", ".join(f"{element} {v}" for v in values) + ">"


lanes(
    "i8",
    "v.shuffle.{e}.{v}",
    _TWO,
    "%d = call {L} @llvm.x86.ssse3.pshuf.b.128({L} %a, {L} %b)",
    parts(2, lambda lane, a, b: join((0 if c & 0x80 else a[c & 15] for c in b), 8)),
    "Bytes of a chosen by the low four bits of b's bytes; 0 where the byte's top bit is set (PSHUFB).",
)

# Immediate of four 2-bit fields -> <4 x i32> of field numbers -> byte control: lane * 0x04040404 +
# 0x03020100.
_FIELDS = """
%imm32 = trunc i64 $imm to i32
%i1 = insertelement <4 x i32> poison, i32 %imm32, i64 0
%i4 = shufflevector <4 x i32> %i1, <4 x i32> poison, <4 x i32> zeroinitializer
%sh = lshr <4 x i32> %i4, <i32 0, i32 2, i32 4, i32 6>
%field = and <4 x i32> %sh, splat (i32 3)
"""
_DWORDS = (
    "%times = mul <4 x i32> %field, splat (i32 67372036)\n%ctl = add <4 x i32> %times, splat (i32 50462976)\n"
)
_DWORDS += "%control = bitcast <4 x i32> %ctl to <16 x i8>\n"


def _fields(imm: int) -> list[int]:
    return [imm >> at & 3 for at in (0, 2, 4, 6)]


row(
    "v.permute.i32.v128",
    "v128 -> v128",
    f"{_FIELDS}{_DWORDS}%x = bitcast i128 $a to <16 x i8>\n%r = {_PSHUFB}%x, <16 x i8> %control)\n"
    "$d = bitcast <16 x i8> %r to i128",
    parts(1, lambda lane, a, imm: join((a[f] for f in _fields(imm)), 32))(32),
    "32-bit lanes chosen by the four fields of imm (PSHUFD).",
    imm=True,
)
by_parts("v.permute.i32.v128")
for _half, _doc in (("low", "PSHUFLW"), ("high", "PSHUFHW")):
    # 16-bit words of one half: word * 0x0202 + 0x0100, then placed beside the identity of the other half
    _base = 0 if _half == "low" else 8
    _order = [0, 1, 2, 3, 4, 5, 6, 7] if _half == "low" else [4, 5, 6, 7, 0, 1, 2, 3]
    _still = [c for c in range(16) if (c < 8) != (_half == "low")]

    def _words(lane: int, a: list[int], imm: int, high: bool = _half == "high") -> int:
        base = 4 if high else 0
        moved = [a[base + f] for f in _fields(imm)]
        return join(a[:4] + moved if high else moved + a[4:], 16)

    row(
        f"v.permute_{_half}.i16.v128",
        "v128 -> v128",
        _FIELDS
        + "%word = trunc <4 x i32> %field to <4 x i16>\n%times = mul <4 x i16> %word, splat (i16 514)\n"
        + f"%ctl = add <4 x i16> %times, splat (i16 {256 + _base * 257})\n"
        "%moved = bitcast <4 x i16> %ctl to <8 x i8>\n"
        + f"%control = shufflevector <8 x i8> %moved, <8 x i8> {_vector('i8', _still)}, <16 x i32> "
        + _vector("i32", list(range(16)) if _half == "low" else [*range(8, 16), *range(8)])
        + f"\n%x = bitcast i128 $a to <16 x i8>\n%r = {_PSHUFB}%x, <16 x i8> %control)\n"
        + "$d = bitcast <16 x i8> %r to i128",
        parts(1, _words)(16),
        f"16-bit lanes of the {_half} half chosen by imm, the other half stays ({_doc}).",
        imm=True,
    )
    by_parts(f"v.permute_{_half}.i16.v128")
row(
    "v.select2.i32.v128",
    "v128 v128 -> v128",
    f"{_FIELDS}{_DWORDS}%x = bitcast i128 $a to <16 x i8>\n%y = bitcast i128 $b to <16 x i8>\n"
    f"%p = {_PSHUFB}%x, <16 x i8> %control)\n%q = {_PSHUFB}%y, <16 x i8> %control)\n"
    "%r = shufflevector <16 x i8> %p, <16 x i8> %q, <16 x i32> "
    + _vector("i32", [*range(8), *range(24, 32)])
    + "\n$d = bitcast <16 x i8> %r to i128",
    parts(2, lambda lane, a, b, imm: join([(a, a, b, b)[i][f] for i, f in enumerate(_fields(imm))], 32))(32),
    "Two 32-bit lanes of a, then two of b, chosen by imm (SHUFPS).",
    imm=True,
)
by_parts("v.select2.i32.v128")
# %bits: one i1 per lane, the immediate's bits from the lowest on; eight of them over and over.
_BITS = (
    "%k = trunc i64 $imm to i16\n%k1 = insertelement <{n} x i16> poison, i16 %k, i64 0\n"
    "%ks = shufflevector <{n} x i16> %k1, <{n} x i16> poison, <{n} x i32> zeroinitializer\n"
    "%bit = and <{n} x i16> %ks, {powers}\n%bits = icmp ne <{n} x i16> %bit, zeroinitializer\n"
)


def _by_bits(choose: Callable[[int, list[int], list[int]], tuple[int, int]]) -> Callable[[int], Oracle]:
    """An oracle for `_BITS`: `choose(lane number, lanes of a, lanes of b)` gives the results for 0 and 1."""

    def make(lane: int) -> Oracle:
        def oracle(width: int, a: int, b: int, imm: int) -> int:
            one, other = split(a, lane, width), split(b, lane, width)
            return join((choose(i, one, other)[imm >> i % 8 & 1] for i in range(len(one))), lane)

        return oracle

    return make


lanes(
    "i64",
    "v.select2.{e}.{v}",
    _TWO,
    _BITS + "%x = shufflevector {L} %a, {L} %b, <{n} x i32> {low}\n"
    "%y = shufflevector {L} %a, {L} %b, <{n} x i32> {high}\n%d = select {bools} %bits, {L} %y, {L} %x",
    _by_bits(lambda i, a, b: ((a, b)[i % 2][i & -2], (a, b)[i % 2][i | 1])),
    "In each 128 bits a 64-bit lane of a, then one of b, chosen by the bits of imm (SHUFPD).",
    imm=True,
)

for _name, _place, _from in (("unpack_low", "{low}", 0), ("unpack_high", "{high}", 1)):

    def _unpack(lane: int, a: list[int], b: list[int], high: int = _from) -> int:
        start = high * len(a) // 2
        return join((x for pair in zip(a[start:], b[start:], strict=True) for x in pair), lane)

    lanes(
        "i8 i16 i32 i64",
        f"v.{_name}.{{e}}.{{v}}",
        _TWO,
        f"%d = shufflevector {{L}} %a, {{L}} %b, <{{n}} x i32> {_place}",
        parts(2, _unpack),
        f"The lanes of the {('low', 'high')[_from]} halves of a and b in turn.",
    )


def _align(lane: int, a: list[int], b: list[int], imm: int) -> int:
    return join([*b, *a, *[0] * 512][imm:][:16], 8)


_IOTA = _vector("i8", list(range(16)))
lanes(
    "i8",
    "v.align.{e}.{v}",
    _TWO,
    f"""
%k64 = call i64 @llvm.umin.i64(i64 $imm, i64 32)
%k = trunc i64 %k64 to i8
%k1 = insertelement <16 x i8> poison, i8 %k, i64 0
%ks = shufflevector <16 x i8> %k1, <16 x i8> poison, <16 x i32> zeroinitializer
%at = add <16 x i8> %ks, {_IOTA}
%past = icmp ugt <16 x i8> %at, splat (i8 15)
%low = select <16 x i1> %past, <16 x i8> splat (i8 -128), <16 x i8> %at
%at2 = sub <16 x i8> %at, splat (i8 16)
%out = icmp ugt <16 x i8> %at2, splat (i8 15)
%high = select <16 x i1> %out, <16 x i8> splat (i8 -128), <16 x i8> %at2
%x = {_PSHUFB}%b, <16 x i8> %low)
%y = {_PSHUFB}%a, <16 x i8> %high)
%d = or <16 x i8> %x, %y
""",
    parts(2, _align),
    "16 bytes of a:b from byte imm on, a being the upper half (PALIGNR).",
    imm=True,
)


def _narrow(fix: Callable[[int, int], int]) -> Callable[..., int]:
    def part(lane: int, a: list[int], b: list[int]) -> int:
        return join((fix(lane // 2, signed(x, lane)) for x in a + b), lane // 2)

    return part


for _kind, _half, _lows, _highs in (("i16", "i8", -128, 127), ("i32", "i16", -32768, 32767)):
    for _sign in ("s", "u"):
        _low, _high = (_lows, _highs) if _sign == "s" else (0, 2 * _highs + 1)
        lanes(
            _kind,
            f"v.pack_{_sign}.{{e}}.{{v}}",
            _TWO,
            "%both = shufflevector {L} %a, {L} %b, <{2n} x i32> {both}\n"
            f"%lo = call <{{2n}} x {{e}}> @llvm.smax.v{{2n}}{{e}}(<{{2n}} x {{e}}> %both, <{{2n}} x {{e}}> "
            f"splat ({{e}} {_low}))\n"
            f"%hi = call <{{2n}} x {{e}}> @llvm.smin.v{{2n}}{{e}}(<{{2n}} x {{e}}> %lo, <{{2n}} x {{e}}> "
            f"splat ({{e}} {_high}))\n"
            f"%r = trunc <{{2n}} x {{e}}> %hi to <{{2n}} x {_half}>\n"
            f"$d = bitcast <{{2n}} x {_half}> %r to {{V}}",
            parts(2, _narrow(clamp_signed if _sign == "s" else clamp_unsigned)),
            f"Signed lanes of a, then of b, saturated to {'signed' if _sign == 's' else 'unsigned'} half "
            f"lanes.",
        )

for _small, _big in (("i8", 16), ("i8", 32), ("i8", 64), ("i16", 32), ("i16", 64), ("i32", 64)):
    _bits = int(_small[1:])
    for _t in BUILT:
        _n, _from_type = _t.bits // _big, LONG_ENOUGH[_t]
        for _op in ("sext", "zext"):

            def _extend(
                w: int, a: int, bits: int = _bits, big: int = _big, sign: bool = _op == "sext"
            ) -> int:
                values = [a >> i * bits & (1 << bits) - 1 for i in range(w // big)]
                return join((signed(v, bits) if sign else v for v in values), big)

            row(
                f"v.{_op}.{_small}.i{_big}.{_t}",
                f"{_from_type} -> {_t}",
                f"%x = bitcast {_from_type.llvm} $a to <{_from_type.bits // _bits} x {_small}>\n"
                f"%y = shufflevector <{_from_type.bits // _bits} x {_small}> %x, "
                f"<{_from_type.bits // _bits} x {_small}> poison, "
                f"<{_n} x i32> {_vector('i32', list(range(_n)))}\n"
                f"%z = {_op} <{_n} x {_small}> %y to <{_n} x i{_big}>\n"
                f"$d = bitcast <{_n} x i{_big}> %z to {_t.llvm}",
                _extend,
                f"The lowest lanes widened to {_big} bits.",
                bits=_t.bits,
            )


lanes(
    "i16 i32 i64",
    "v.blend.{e}.{v}",
    _TWO,
    _BITS + "%d = select {bools} %bits, {L} %b, {L} %a",
    _by_bits(lambda i, a, b: (a[i], b[i])),
    "Lanes of b where imm has the lane's bit set, else of a; eight bits count, then they repeat.",
    imm=True,
)
lanes(
    "i8 i32 i64",
    "v.blend_sign.{e}.{v}",
    "{v} {v} {v} -> {v}",
    "%yes = icmp slt {L} %c, zeroinitializer\n%d = select {bools} %yes, {L} %b, {L} %a",
    each(lambda w, a, b, c: b if c >> w - 1 else a),
    "Lanes of b where c's lane is negative, else of a.",
)


def _insertps(lane: int, a: list[int], b: list[int], imm: int) -> int:
    a = list(a)
    a[imm >> 4 & 3] = b[imm >> 6 & 3]
    return join((0 if imm >> i & 1 else x for i, x in enumerate(a)), 32)


row(
    "v.insertps.v128",
    "v128 v128 -> v128",
    """
%x = bitcast i128 $a to <4 x i32>
%y = bitcast i128 $b to <4 x i32>
%from1 = lshr i64 $imm, 6
%from = and i64 %from1, 3
%to1 = lshr i64 $imm, 4
%to = and i64 %to1, 3
%e = extractelement <4 x i32> %y, i64 %from
%m = insertelement <4 x i32> %x, i32 %e, i64 %to
%k = trunc i64 $imm to i32
%k1 = insertelement <4 x i32> poison, i32 %k, i64 0
%ks = shufflevector <4 x i32> %k1, <4 x i32> poison, <4 x i32> zeroinitializer
%bit = and <4 x i32> %ks, <i32 1, i32 2, i32 4, i32 8>
%clear = icmp ne <4 x i32> %bit, zeroinitializer
%r = select <4 x i1> %clear, <4 x i32> zeroinitializer, <4 x i32> %m
$d = bitcast <4 x i32> %r to i128
""",
    parts(2, _insertps)(32),
    "A 32-bit lane of b placed into a, then lanes cleared, as imm says (INSERTPS).",
    imm=True,
)

for _i in (I8, I16, I32, I64):
    _n = 128 // _i.bits
    row(
        f"v.extract.{_i}.v128",
        f"v128 -> {_i}",
        f"%x = bitcast i128 $a to <{_n} x {_i}>\n%k = and i64 $imm, {_n - 1}\n"
        f"$d = extractelement <{_n} x {_i}> %x, i64 %k",
        lambda w, a, imm, bits=_i.bits: a >> imm % (128 // bits) * bits,
        "Lane imm.",
        imm=True,
    )
    row(
        f"v.insert.{_i}.v128",
        f"v128 {_i} -> v128",
        f"%x = bitcast i128 $a to <{_n} x {_i}>\n%k = and i64 $imm, {_n - 1}\n"
        f"%r = insertelement <{_n} x {_i}> %x, {_i} $b, i64 %k\n$d = bitcast <{_n} x {_i}> %r to i128",
        lambda w, a, b, imm, bits=_i.bits: (
            a & ~((1 << bits) - 1 << imm % (128 // bits) * bits) | b << imm % (128 // bits) * bits
        ),
        "a with lane imm replaced.",
        imm=True,
    )
    row(
        f"v.from.{_i}.v128",
        f"{_i} -> v128",
        f"$d = zext {_i} $a to i128",
        lambda w, a: a,
        "The integer, zero above it.",
    )
row(
    "v.pair.i64.v128",
    "i64 i64 -> v128",
    "%x = zext i64 $a to i128\n%y = zext i64 $b to i128\n%z = shl i128 %y, 64\n$d = or i128 %x, %z",
    lambda w, a, b: a | b << 64,
    "A vector of its low and its high half.",
)
row(
    "v.splat.i64.v128",
    "i64 -> v128",
    "%x = zext i64 $a to i128\n%z = shl i128 %x, 64\n$d = or i128 %x, %z",
    lambda w, a: a | a << 64,
    "A 64-bit integer in both halves.",
)


def _check(address: int, size: int) -> None:
    if address % size:
        raise GuestFault(MISALIGNED, write=False)


def _load_aligned(width: int, memory: Memory, address: int) -> int:
    _check(address, width // 8)
    return memory.load(address, width // 8)


def _store_aligned(width: int, memory: Memory, address: int, value: int) -> None:
    _check(address, width // 8)
    memory.store(address, width // 8, value)


for _t in BUILT:
    row(
        f"load.aligned.{_t}",
        f"i64 -> {_t}",
        f"$d = load {_t.llvm}, $p, align {_t.bits // 8}",
        _load_aligned,
        "Load; an address that is not a multiple of the size is #GP: the fault is at MISALIGNED.",
        effect=LOAD,
        imm=True,
        address=1,
        align=_t.bits // 8,
        bits=_t.bits,
    )
    row(
        f"store.aligned.{_t}",
        f"i64 {_t} ->",
        f"store {_t.llvm} $b, $p, align {_t.bits // 8}",
        _store_aligned,
        "Store; an address that is not a multiple of the size is #GP: the fault is at MISALIGNED.",
        effect=STORE,
        imm=True,
        address=1,
        align=_t.bits // 8,
        bits=_t.bits,
    )
