"""Lanes under a mask (AVX-512): a mask is an i64, its lowest bit the lowest lane's.

What a mask leaves out is neither read from memory nor written to it, and does not fault.
"""

from __future__ import annotations

from nexus.base.errors import GuestFault
from nexus.ir.ops.state import LOOK
from nexus.ir.ops.table import LOAD, STORE, row
from nexus.ir.ops.vector import BUILT, join, lanes, split
from nexus.ir.types import INTEGERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.vector import Oracle
    from nexus.ir.oracle import Memory
    from nexus.ir.types import Type

_KINDS = "i8 i16 i32 i64"


def _merge(lane: int) -> Oracle:
    def oracle(width: int, a: int, b: int, mask: int) -> int:
        pairs = zip(split(a, lane, width), split(b, lane, width), strict=True)
        return join((x if mask >> n & 1 else y for n, (x, y) in enumerate(pairs)), lane)

    return oracle


lanes(
    _KINDS,
    "v.merge.{e}.{v}",
    "{v} {v} i64 -> {v}",
    "{mask c}\n%d = select {bools} %m, {L} %a, {L} %b",
    _merge,
    "Lanes of a where the mask has their bit set, else of b.",
    rare=True,
)
lanes(
    _KINDS,
    "v.zero.{e}.{v}",
    "{v} i64 -> {v}",
    "{mask b}\n%d = select {bools} %m, {L} %a, {L} zeroinitializer",
    lambda lane: lambda width, a, mask: _merge(lane)(width, a, 0, mask),
    "Lanes of a where the mask has their bit set, else 0.",
    rare=True,
)


# packing lanes -----------------------------------------------------------------------------------------


def _compress(lane: int) -> Oracle:
    def oracle(width: int, a: int, mask: int) -> int:
        return join((x for n, x in enumerate(split(a, lane, width)) if mask >> n & 1), lane)

    return oracle


def _expand(lane: int) -> Oracle:
    def oracle(width: int, a: int, mask: int) -> int:
        rest = iter(split(a, lane, width))
        return join((next(rest) if mask >> n & 1 else 0 for n in range(width // lane)), lane)

    return oracle


_LOOP = """
br label %start
%start:
%from = alloca {L}, align 64
%to = alloca {L}, align 64
store {L} %a, ptr %from, align 64
store {L} zeroinitializer, ptr %to, align 64
br label %next
%next:
%i = phi i64 [ 0, %start ], [ %j, %next ]
%n = phi i64 [ 0, %start ], [ %n2, %next ]
%s = getelementptr {E}, ptr %from, i64 {read}
%x = load {E}, ptr %s, align 1
%up = lshr i64 $b, %i
%bit = and i64 %up, 1
%yes = trunc i64 %bit to i1
{value}%t = getelementptr {E}, ptr %to, i64 {write}
store {E} %y, ptr %t, align 1
%n2 = add i64 %n, %bit
%j = add i64 %i, 1
%more = icmp ult i64 %j, {n}
br i1 %more, label %next, label %done
%done:
%d = load {L}, ptr %to, align 64
$d = bitcast {L} %d to {V}
"""
# a lane that is not taken is written to its place too, and written over by the next one, or by the zero
for _name, _oracle, _read, _write, _value, _doc in (
    ("compress", _compress, "%i", "%n", "%y = select i1 %yes, {E} %x, {E} 0\n", "packed to the lowest"),
    ("expand", _expand, "%n", "%i", "%y = select i1 %yes, {E} %x, {E} 0\n", "filled by a's lowest in order"),
):
    lanes(
        _KINDS,
        f"v.{_name}.{{e}}.{{v}}",
        "{v} i64 -> {v}",
        _LOOP.replace("{read}", _read).replace("{write}", _write).replace("{value}", _value),
        _oracle,
        f"The lanes that the mask takes, {_doc}; the others are 0.",
        parts=False,
        rare=True,
    )
row(
    "k.first",
    "i64 -> i64",
    "%n = call i64 @llvm.ctpop.i64(i64 $a)\n%all = icmp eq i64 %n, 64\n%k = select i1 %all, i64 0, i64 %n\n"
    "%one = shl i64 1, %k\n%less = sub i64 %one, 1\n$d = select i1 %all, i64 -1, i64 %less",
    lambda w, a: (1 << a.bit_count()) - 1,
    "The mask of as many lanes, the lowest ones.",
    rare=True,
)

# memory ------------------------------------------------------------------------------------------------


def _load(lane: int) -> Callable[..., int]:
    def oracle(width: int, memory: Memory, address: int, mask: int) -> int:
        size, count = lane // 8, width // lane
        return join(
            (memory.load(address + n * size, size) if mask >> n & 1 else 0 for n in range(count)), lane
        )

    return oracle


def _store(lane: int) -> Callable[..., None]:
    def oracle(width: int, memory: Memory, address: int, mask: int, value: int) -> None:
        size = lane // 8
        chosen = [n for n in range(width // lane) if mask >> n & 1]
        for n in chosen:
            try:
                memory.load(address + n * size, size)
            except GuestFault as fault:
                raise GuestFault(fault.address, write=True) from None
        for n in chosen:
            memory.store(address + n * size, size, split(value, lane, width)[n])

    return oracle


# Lane by lane, unless all are taken. Stores first see whether every lane can be written.
_LANE = """
%i{n} = phi i64 [ 0, %{from} ], [ %j{n}, %on{n} ]
%up{n} = lshr i64 $b, %i{n}
%bit{n} = trunc i64 %up{n} to i1
br i1 %bit{n}, label %take{n}, label %on{n}
%take{n}:
%at{n} = mul i64 %i{n}, {size}
%place{n} = getelementptr i8, $p, i64 %at{n}
{do}br label %on{n}
%on{n}:
%j{n} = add i64 %i{n}, 1
%more{n} = icmp ult i64 %j{n}, {count}
br i1 %more{n}, label %lane{n}, label %{to}
"""


def _loop(number: int, before: str, after: str, do: str, bits: int, count: int) -> str:
    text = _LANE.replace("{do}", do).replace("{n}", str(number)).replace("{from}", before)
    text = text.replace("{to}", after).replace("{size}", str(bits // 8)).replace("{count}", str(count))
    return f"%lane{number}:{text}"


def _masked_load_text(vector: Type, bits: int) -> str:
    count = vector.bits // bits
    whole = f"<{count} x i{bits}>"
    do = f"%x = load i{bits}, ptr %place0, align 1\n%to = getelementptr i8, ptr %buffer, i64 %at0\n"
    do += f"store i{bits} %x, ptr %to, align 1\n"
    all_ones = (1 << count) - 1 if count < 64 else -1
    return (
        f"br label %start\n%start:\n%buffer = alloca {whole}, align 64\n"
        f"%low = and i64 $b, {all_ones}\n%all = icmp eq i64 %low, {all_ones}\n"
        f"br i1 %all, label %whole, label %some\n%whole:\n%w = load {whole}, $p, align 1\nbr label %done\n"
        f"%some:\nstore {whole} zeroinitializer, ptr %buffer, align 64\nbr label %lane0\n"
        + _loop(0, "some", "read", do, bits, count)
        + f"%read:\n%r = load {whole}, ptr %buffer, align 64\nbr label %done\n"
        f"%done:\n%v = phi {whole} [ %w, %whole ], [ %r, %read ]\n$d = bitcast {whole} %v to {vector.llvm}"
    )


def _masked_store_text(vector: Type, bits: int) -> str:
    count = vector.bits // bits
    whole = f"<{count} x i{bits}>"
    look = f"{LOOK}ptr %place0)\n"
    if bits > 8:
        look += f"%last = getelementptr i8, ptr %place0, i64 {bits // 8 - 1}\n"
        # the other page of a lane that is on two: its first byte, which is where the host would fault
        look += "%at.last = ptrtoint ptr %last to i64\n%page = and i64 %at.last, -4096\n"
        look += "%at.first = ptrtoint ptr %place0 to i64\n"
        look += "%high = call i64 @llvm.umax.i64(i64 %page, i64 %at.first)\n"
        look += f"%second = inttoptr i64 %high to ptr\n{LOOK}ptr %second)\n"
    do = f"%from = getelementptr i8, ptr %buffer, i64 %at1\n%x = load i{bits}, ptr %from, align 1\n"
    do += f"store i{bits} %x, ptr %place1, align 1\n"
    all_ones = (1 << count) - 1 if count < 64 else -1
    return (
        f"br label %start\n%start:\n%buffer = alloca {whole}, align 64\n"
        f"%v = bitcast {vector.llvm} $c to {whole}\n"
        f"%low = and i64 $b, {all_ones}\n%all = icmp eq i64 %low, {all_ones}\n%host = ptrtoint $p to i64\n"
        f"%in = and i64 %host, 4095\n%crosses = icmp ugt i64 %in, {4096 - vector.bits // 8}\n"
        "%within = xor i1 %crosses, true\n%fast = and i1 %all, %within\n"
        f"br i1 %fast, label %whole, label %some\n%whole:\nstore volatile {whole} %v, $p, align 1\n"
        f"br label %done\n%some:\nstore {whole} %v, ptr %buffer, align 64\n"
        "br i1 %crosses, label %look, label %write\n%look:\nbr label %lane0\n"
        + _loop(0, "look", "write", look, bits, count)
        + "%write:\nbr label %lane1\n"
        + _loop(1, "write", "done", do, bits, count)
        + "%done:"
    )


def _later(make: Callable[[Type, int], str], vector: Type, bits: int) -> Callable[[], str]:
    return lambda: make(vector, bits)


for _t in BUILT:
    for _i in INTEGERS:
        row(
            f"load.mask.k{_i.bits}.{_t}",
            f"i64 i64 -> {_t}",
            _later(_masked_load_text, _t, _i.bits),
            _load(_i.bits),
            "The lanes that the mask takes, 0 in the others, which are not accessed.",
            effect=LOAD,
            imm=True,
            address=1,
            bits=_t.bits,
            avx=True,
            rare=True,
        )
        row(
            f"store.mask.k{_i.bits}.{_t}",
            f"i64 i64 {_t} ->",
            _later(_masked_store_text, _t, _i.bits),
            _store(_i.bits),
            "Store the lanes that the mask takes; the others are not accessed.",
            effect=STORE,
            imm=True,
            address=1,
            bits=_t.bits,
            avx=True,
            rare=True,
        )
