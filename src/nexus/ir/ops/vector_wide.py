"""What vectors above 128 bits bring: halves, lanes that cross the 128-bit parts, a count of its own for every
lane, accesses under a mask."""

from __future__ import annotations

from nexus.base.errors import GuestFault
from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import LOAD, STORE, row
from nexus.ir.ops.vector import BUILT, by_parts, each, holding, join, lanes, split
from nexus.ir.types import INTEGERS, V128, V256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.oracle import Memory

for _t in BUILT[1:]:
    _half_type = holding(_t.bits // 2)
    _n = _t.bits // 64
    _whole, _half = f"<{_n} x i64>", f"<{_n // 2} x i64>"
    for _name, _from in (("low", 0), ("high", _n // 2)):
        _places = ", ".join(f"i32 {_from + i}" for i in range(_n // 2))
        row(
            f"v.{_name}.{_t}",
            f"{_t} -> {_half_type}",
            f"%x = bitcast {_t.llvm} $a to {_whole}\n"
            f"%h = shufflevector {_whole} %x, {_whole} poison, <{_n // 2} x i32> <{_places}>\n"
            f"$d = bitcast {_half} %h to {_half_type.llvm}",
            lambda w, a, at=64 * _from: a >> at,
            f"The {_name} half.",
        )
    _places = ", ".join(f"i32 {i}" for i in range(_n))
    row(
        f"v.join.{_t}",
        f"{_half_type} {_half_type} -> {_t}",
        f"%x = bitcast {_half_type.llvm} $a to {_half}\n%y = bitcast {_half_type.llvm} $b to {_half}\n"
        f"%z = shufflevector {_half} %x, {_half} %y, <{_n} x i32> <{_places}>\n"
        f"$d = bitcast {_whole} %z to {_t.llvm}",
        lambda w, a, b: a | b << w // 2,
        "A vector of its low and its high half.",
    )
for _t in BUILT:
    for _i in INTEGERS:
        _n = _t.bits // _i.bits
        if _t is V128 and _i.bits == 64:
            continue  # in vector_move.py
        row(
            f"v.splat.{_i}.{_t}",
            f"{_i} -> {_t}",
            f"%x = insertelement <{_n} x {_i}> poison, {_i} $a, i64 0\n"
            f"%y = shufflevector <{_n} x {_i}> %x, <{_n} x {_i}> poison, <{_n} x i32> zeroinitializer\n"
            f"$d = bitcast <{_n} x {_i}> %y to {_t.llvm}",
            lambda w, a, bits=_i.bits, n=_n: join([a] * n, bits),
            "The integer in every lane.",
        )

# crossing the parts ------------------------------------------------------------------------------------

row(
    "v.permute_all.i32.v256",
    "v256 v256 -> v256",
    "%x = bitcast i256 $a to <8 x i32>\n%y = bitcast i256 $b to <8 x i32>\n"
    "%r = call <8 x i32> @llvm.x86.avx2.permd(<8 x i32> %x, <8 x i32> %y)\n"
    "$d = bitcast <8 x i32> %r to i256",
    lambda w, a, b: join((split(a, 32, w)[i & 7] for i in split(b, 32, w)), 32),
    "32-bit lanes of a chosen by the low three bits of b's lanes (VPERMD).",
)
row(
    "v.permute_quads.v256",
    "v256 -> v256",
    """
%k1 = insertelement <4 x i64> poison, i64 $imm, i64 0
%ks = shufflevector <4 x i64> %k1, <4 x i64> poison, <4 x i32> zeroinitializer
%s = lshr <4 x i64> %ks, <i64 0, i64 2, i64 4, i64 6>
%f = and <4 x i64> %s, splat (i64 3)
%two = mul <4 x i64> %f, splat (i64 8589934594)
%place = add <4 x i64> %two, splat (i64 4294967296)
%y = bitcast <4 x i64> %place to <8 x i32>
%x = bitcast i256 $a to <8 x i32>
%r = call <8 x i32> @llvm.x86.avx2.permd(<8 x i32> %x, <8 x i32> %y)
$d = bitcast <8 x i32> %r to i256
""",
    lambda w, a, imm: join((split(a, 64, w)[imm >> at & 3] for at in (0, 2, 4, 6)), 64),
    "64-bit lanes chosen by the four fields of imm (VPERMQ).",
    imm=True,
)
by_parts("v.permute_quads.v256")

# every lane its own way --------------------------------------------------------------------------------


def _lookup(lane: int) -> Callable[..., int]:
    """Inside each 128 bits, lanes of a chosen by b: VPERMILPS looks at bits 0 and 1, VPERMILPD at bit 1."""

    def oracle(width: int, a: int, b: int) -> int:
        values, order, count = split(a, lane, width), split(b, lane, width), 128 // lane
        where = (i - i % count + (c & 3 if lane == 32 else c >> 1 & 1) for i, c in enumerate(order))
        return join((values[at] for at in where), lane)

    return oracle


for _kind, _bits, _letter in (("float", 32, "s"), ("double", 64, "d")):
    for _t in BUILT[:2]:
        _values = f"<{_t.bits // _bits} x {_kind}>"
        _by = f"<{_t.bits // _bits} x i{_bits}>"
        row(
            f"v.lookup.i{_bits}.{_t}",
            f"{_t} {_t} -> {_t}",
            f"%x = bitcast {_t.llvm} $a to {_values}\n%y = bitcast {_t.llvm} $b to {_by}\n"
            f"%r = call {_values} @llvm.x86.avx.vpermilvar.p{_letter}{'.256' if _t is V256 else ''}"
            f"({_values} %x, {_by} %y)\n$d = bitcast {_values} %r to {_t.llvm}",
            _lookup(_bits),
            "Lanes of a, inside each 128 bits, chosen by b's lanes (VPERMILPS, VPERMILPD).",
            avx=True,
        )
    by_parts(f"v.lookup.i{_bits}.v256")
for _name, _llvm, _shift in (
    ("shlv", "shl", lambda w, a, b: a << b if b < w else 0),
    ("shrv", "lshr", lambda w, a, b: a >> b if b < w else 0),
):
    lanes(
        "i16 i32 i64",
        f"v.{_name}.{{e}}.{{v}}",
        "{v} {v} -> {v}",
        "%ok = icmp ult {L} %b, splat ({e} {b})\n%k = select {bools} %ok, {L} %b, {L} zeroinitializer\n"
        f"%s = {_llvm} {{L}} %a, %k\n%d = select {{bools}} %ok, {{L}} %s, {{L}} zeroinitializer",
        each(_shift),
        "Lanes of a shifted by the counts in b; 0 when a count reaches the lane (VPSLLV, VPSRLV).",
        avx=True,
    )
lanes(
    "i16 i32 i64",
    "v.sarv.{e}.{v}",
    "{v} {v} -> {v}",
    "%k = call {L} @llvm.umin.v{n}{e}({L} %b, {L} splat ({e} {m}))\n%d = ashr {L} %a, %k",
    each(lambda w, a, b: signed(a, w) >> min(b, w - 1)),
    "Lanes of a shifted right, arithmetic, by the counts in b, which saturate (VPSRAVD).",
    avx=True,
)

# under a mask ------------------------------------------------------------------------------------------


def _masked_load(lane: int) -> Callable[..., int]:
    def oracle(width: int, memory: Memory, address: int, mask: int) -> int:
        size, out = lane // 8, []
        for index, chosen in enumerate(split(mask, lane, width)):
            out.append(memory.load(address + index * size, size) if chosen >> lane - 1 else 0)
        return join(out, lane)

    return oracle


def _masked_store(lane: int) -> Callable[..., None]:
    def oracle(width: int, memory: Memory, address: int, mask: int, value: int) -> None:
        size = lane // 8
        chosen = [index for index, m in enumerate(split(mask, lane, width)) if m >> lane - 1]
        for index in chosen:
            try:
                memory.load(address + index * size, size)
            except GuestFault as fault:
                raise GuestFault(fault.address, write=True) from None
        for index in chosen:
            memory.store(address + index * size, size, split(value, lane, width)[index])

    return oracle


for _t in BUILT[:2]:
    for _bits, _letter in ((32, "d"), (64, "q")):
        _masked, _wide = f"<{_t.bits // _bits} x i{_bits}>", ".256" if _t is V256 else ""
        _ready = f"%m = bitcast {_t.llvm} $b to {_masked}\n"
        row(
            f"load.mask.i{_bits}.{_t}",
            f"i64 {_t} -> {_t}",
            f"{_ready}%r = call {_masked} @llvm.x86.avx2.maskload.{_letter}{_wide}($p, {_masked} %m)\n"
            f"$d = bitcast {_masked} %r to {_t.llvm}",
            _masked_load(_bits),
            "The lanes whose mask lane is negative, 0 in the others, which are not accessed.",
            effect=LOAD,
            imm=True,
            address=1,
            bits=_t.bits,
            avx=True,
        )
        row(
            f"store.mask.i{_bits}.{_t}",
            f"i64 {_t} {_t} ->",
            f"{_ready}%v = bitcast {_t.llvm} $c to {_masked}\n"
            f"call void @llvm.x86.avx2.maskstore.{_letter}{_wide}($p, {_masked} %m, {_masked} %v)",
            _masked_store(_bits),
            "Store the lanes whose mask lane is negative; the others are not accessed.",
            effect=STORE,
            imm=True,
            address=1,
            bits=_t.bits,
            avx=True,
        )
for _i in INTEGERS:
    row(
        f"load.if.{_i}",
        f"i64 i1 {_i} -> {_i}",
        f"br label %start\n%start:\nbr i1 $b, label %yes, label %no\n"
        f"%yes:\n%loaded = load {_i}, $p, align 1\nbr label %no\n"
        f"%no:\n$d = phi {_i} [ %loaded, %yes ], [ $c, %start ]",
        lambda w, memory, address, wanted, other: memory.load(address, w // 8) if wanted else other,
        "Load where the i1 is 1, else the last operand, without access.",
        effect=LOAD,
        imm=True,
        address=1,
        bits=_i.bits,
    )
