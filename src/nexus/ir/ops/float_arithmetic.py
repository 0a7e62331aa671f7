"""Floating-point arithmetic and comparison on vector lanes, under the guest's MXCSR.

The engine has loaded the guest's MXCSR into the host, so rounding, flush-to-zero and the sticky exception
bits are the hardware's own. The oracles speak for the default MXCSR (nearest, no flushing); other modes are
compared with the host. If two operands are NaN the first one wins, as in x86's instructions.

Where x86 defines more than LLVM's instruction does (which zero, which NaN, which exception, which bits of an
approximation) the row calls the x86 intrinsic; where LLVM may swap operands that matter, it is assembly.
"""

from __future__ import annotations

from nexus.ir.ops import float_model as model
from nexus.ir.ops.float_model import FORMAT_OF_BITS
from nexus.ir.ops.table import row
from nexus.ir.ops.vector import BUILT, LANE_BITS, LLVM_LANES, each, join, lanes, parts
from nexus.ir.state import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.ir.ops.vector import Oracle

_TWO = "{v} {v} -> {v}"
_FLOATS = "f32 f64"


def lowest(function: Callable[..., int]) -> Callable[[int], Oracle]:
    """An oracle for a scalar row: the lowest lanes combined, the other lanes those of the first operand."""

    def make(lane: int) -> Oracle:
        mask = (1 << lane) - 1
        return lambda width, *vectors: (
            (vectors[0] & ~mask) | (function(lane, *(v & mask for v in vectors)) & mask)
        )

    return make


def _binary(name: str, llvm: str, function: Callable[[int, int, int], int], doc: str) -> None:
    """A packed and a scalar row of one LLVM instruction."""
    lanes(
        _FLOATS,
        f"v.{name}.{{e}}.{{v}}",
        _TWO,
        f"%d = {llvm} {{L}} %a, %b",
        each(function),
        doc + " per lane.",
    )
    lanes(
        _FLOATS,
        f"v.{name}.{{e}}x1.{{v}}",
        _TWO,
        f"%x = extractelement {{L}} %a, i64 0\n%y = extractelement {{L}} %b, i64 0\n"
        f"%r = {llvm} {{E}} %x, %y\n"
        "%d = insertelement {L} %a, {E} %r, i64 0",
        lowest(function),
        doc + " of the lowest lanes.",
        wide=False,
    )


_binary("add", "fadd", lambda w, a, b: model.add(FORMAT_OF_BITS[w], a, b)[0], "Sum")
_binary("sub", "fsub", lambda w, a, b: model.add(FORMAT_OF_BITS[w], a, b, negate=True)[0], "Difference")
_binary("mul", "fmul", lambda w, a, b: model.multiply(FORMAT_OF_BITS[w], a, b)[0], "Product")
_binary("div", "fdiv", lambda w, a, b: model.divide(FORMAT_OF_BITS[w], a, b)[0], "Quotient")


def _intrinsic(
    name: str, x86: str, function: Callable[[int, int, int], int], doc: str, more: str = "", avx: bool = False
) -> None:
    """A packed and a scalar row of one x86 intrinsic with two operands."""
    for suffix, form, oracle in (("", "p", each(function)), ("x1", "s", lowest(function))):
        lanes(
            _FLOATS,
            f"v.{name}.{{e}}{suffix}.{{v}}",
            _TWO,
            f"%d = call {{L}} @llvm.x86.{{sse}}.{x86}.{form}{{s}}({{L}} %a, {{L}} %b{more})",
            oracle,
            doc,
            wide=not suffix,
            avx=avx,
        )


def _ordered(w: int, a: int, b: int, wanted: int) -> int:
    return a if model.compare(FORMAT_OF_BITS[w], a, b) == wanted else b


_intrinsic(
    "min",
    "min",
    lambda w, a, b: _ordered(w, a, b, -1),
    "a where a < b, else b (so b for NaN and equal zeros).",
)
_intrinsic(
    "max",
    "max",
    lambda w, a, b: _ordered(w, a, b, 1),
    "a where a > b, else b (so b for NaN and equal zeros).",
)

PREDICATES: dict[int, tuple[str, tuple[int, ...]]] = {
    0x00: ("eq", (0,)), 0x01: ("lt", (-1,)), 0x02: ("le", (-1, 0)), 0x03: ("unord", (2,)),
    0x04: ("neq", (-1, 1, 2)), 0x05: ("nlt", (0, 1, 2)), 0x06: ("nle", (1, 2)), 0x07: ("ord", (-1, 0, 1)),
    0x08: ("eq_uq", (0, 2)), 0x0B: ("false_oq", ()), 0x0C: ("neq_oq", (-1, 1)),
    0x0F: ("true_uq", (-1, 0, 1, 2)),
    0x10: ("eq_os", (0,)), 0x11: ("lt_oq", (-1,)), 0x12: ("le_oq", (-1, 0)), 0x13: ("unord_s", (2,)),
    0x14: ("neq_us", (-1, 1, 2)), 0x15: ("nlt_uq", (0, 1, 2)), 0x16: ("nle_uq", (1, 2)),
    0x17: ("ord_s", (-1, 0, 1)), 0x18: ("eq_us", (0, 2)), 0x1B: ("false_os", ()),
    0x1C: ("neq_os", (-1, 1)), 0x1F: ("true_us", (-1, 0, 1, 2)),
}  # fmt: skip
"""Immediate of VCMPPS (the first 8: of CMPPS) -> name in the row, and for which answers of
`float_model.compare` it holds. The missing ones are others with the operands exchanged."""

for _number, (_predicate, _holds) in PREDICATES.items():

    def _compare(w: int, a: int, b: int, holds: tuple[int, ...] = _holds) -> int:
        return -(model.compare(FORMAT_OF_BITS[w], a, b) in holds)

    _intrinsic(
        f"cmp_{_predicate}",
        "cmp",
        _compare,
        f"All ones where the comparison holds: {_predicate}.",
        f", i8 {_number}",
        avx=_number > 7,
    )


def _square_root(w: int, a: int) -> int:
    return model.square_root(FORMAT_OF_BITS[w], a)[0]


lanes(
    _FLOATS,
    "v.sqrt.{e}.{v}",
    "{v} -> {v}",
    "%d = call {L} @llvm.sqrt.v{n}{e}({L} %a)",
    each(_square_root),
    "Square root per lane.",
)
lanes(
    _FLOATS,
    "v.sqrt.{e}x1.{v}",
    _TWO,
    "%x = extractelement {L} %b, i64 0\n%r = call {E} @llvm.sqrt.{e}({E} %x)\n"
    "%d = insertelement {L} %a, {E} %r, i64 0",
    lowest(lambda w, a, b: _square_root(w, b)),
    "a with the square root of b's lowest lane.",
    wide=False,
)
for _name in ("rcp", "rsqrt"):
    _doc = "Approximate " + ("reciprocal" if _name == "rcp" else "reciprocal square root")
    lanes(
        "f32",
        f"v.{_name}.{{e}}.{{v}}",
        "{v} -> {v}",
        f"%d = call {{L}} @llvm.x86.sse.{_name}.ps({{L}} %a)",
        None,
        _doc + " per lane, the host's; relative error at most 1.5 * 2**-12.",
    )
    lanes(
        "f32",
        f"v.{_name}.{{e}}x1.{{v}}",
        _TWO,
        f"%r = call {{L}} @llvm.x86.sse.{_name}.ss({{L}} %b)\n%x = extractelement {{L}} %r, i64 0\n"
        "%d = insertelement {L} %a, {E} %x, i64 0",
        None,
        _doc + " of b's lowest lane, the other lanes a's.",
        wide=False,
    )


def _pairwise(negate: bool) -> Callable[..., int]:
    def part(lane: int, a: list[int], b: list[int]) -> int:
        fmt, both = FORMAT_OF_BITS[lane], a + b
        sums = (model.add(fmt, both[i], both[i + 1], negate=negate)[0] for i in range(0, len(both), 2))
        return join(sums, lane)

    return part


for _name, _llvm in (("hadd", "fadd"), ("hsub", "fsub")):
    lanes(
        _FLOATS,
        f"v.{_name}.{{e}}.{{v}}",
        _TWO,
        "%x = shufflevector {L} %a, {L} %b, <{n} x i32> {even}\n"
        "%y = shufflevector {L} %a, {L} %b, <{n} x i32> {odd}\n"
        f"%d = {_llvm} {{L}} %x, %y",
        parts(2, _pairwise(_name == "hsub")),
        "Neighbouring lanes combined: a's pairs, then b's.",
    )


def _alternate(lane: int, a: list[int], b: list[int]) -> int:
    fmt = FORMAT_OF_BITS[lane]
    return join(
        (model.add(fmt, x, y, negate=i % 2 == 0)[0] for i, (x, y) in enumerate(zip(a, b, strict=True))), lane
    )


lanes(
    _FLOATS,
    "v.addsub.{e}.{v}",
    _TWO,
    "%d = call {L} @llvm.x86.sse3.addsub.p{s}({L} %a, {L} %b)",
    parts(2, _alternate),
    "Difference in the even lanes, sum in the odd ones.",
)


def _dot(lane: int, a: list[int], b: list[int], imm: int) -> int:
    fmt = FORMAT_OF_BITS[lane]
    terms = [
        model.multiply(fmt, x, y)[0] if imm >> 4 + i & 1 else 0
        for i, (x, y) in enumerate(zip(a, b, strict=True))
    ]
    while len(terms) > 1:
        terms = [model.add(fmt, terms[i], terms[i + 1])[0] for i in range(0, len(terms), 2)]
    return join((terms[0] if imm >> i & 1 else 0 for i in range(len(a))), lane)


_MASK = """
%{m}k = trunc i64 %{m}i to i16
%{m}1 = insertelement <{n} x i16> poison, i16 %{m}k, i64 0
%{m}s = shufflevector <{n} x i16> %{m}1, <{n} x i16> poison, <{n} x i32> zeroinitializer
%{m}b = and <{n} x i16> %{m}s, {powers}
%{m} = icmp ne <{n} x i16> %{m}b, zeroinitializer
"""
for _kind, _parts in (("f32", 4), ("f64", 2)):
    _mask = _MASK.replace("{powers}", "<" + ", ".join(f"i16 {1 << i}" for i in range(_parts)) + ">")
    lanes(
        _kind,
        "v.dot.{e}.{v}",
        _TWO,
        "%takei = lshr i64 $imm, 4\n%givei = and i64 $imm, 15\n"
        + _mask.replace("{m}", "take")
        + _mask.replace("{m}", "give")
        + "%x = select {bools} %take, {L} %a, {L} zeroinitializer\n"
        "%y = select {bools} %take, {L} %b, {L} zeroinitializer\n"
        + '%all = call {L} asm "dpp{s} $$255, $2, $0", "=x,0,x"({L} %x, {L} %y)\n'
        + "%d = select {bools} %give, {L} %all, {L} zeroinitializer",
        parts(2, _dot),
        "Sum of the products of the lanes that imm takes, into the lanes that imm names (DPPS, DPPD).",
        wide=_kind == "f32",
        imm=True,
    )

for _kind in ("f32", "f64"):
    _letters, _bits = ("s" if _kind == "f32" else "d"), LANE_BITS[_kind]
    for _name in ("comi", "ucomi"):
        for _t in BUILT[:1]:
            _vector = f"<{_t.bits // _bits} x {LLVM_LANES[_kind]}>"
            _float = LLVM_LANES[_kind]
            # a compare of LLVM's raises what UCOMI does; COMI also looks at quiet NaNs
            _raise = f'call void asm sideeffect "comis{_letters} $1, $0", "x,x,~{{flags}}"'
            _raise += f"({_float} %p, {_float} %q)\n"

            def _flags(w: int, state: dict[str, int], a: int, b: int, bits: int = _bits) -> dict[str, int]:
                mask = (1 << bits) - 1
                order = model.compare(FORMAT_OF_BITS[bits], a & mask, b & mask)
                return {
                    "cf": int(order in (-1, 2)),
                    "nz": int(order not in (0, 2)),
                    "pf": int(order != 2),
                    "of": 0,
                    "af": 0,
                }

            row(
                f"flags.{_name}.{_kind}",
                f"{_t} {_t} ->",
                f"%x = bitcast {_t.llvm} $a to {_vector}\n%y = bitcast {_t.llvm} $b to {_vector}\n"
                f"%p = extractelement {_vector} %x, i64 0\n%q = extractelement {_vector} %y, i64 0\n"
                f"{_raise if _name == 'comi' else ''}%un = fcmp uno {_float} %p, %q\n"
                f"%lt = fcmp ult {_float} %p, %q\n%eq = fcmp ueq {_float} %p, %q\n"
                "%ne = xor i1 %eq, true\n%ord = xor i1 %un, true\n"
                "$new.cf = zext i1 %lt to i64\n$new.nz = zext i1 %ne to i64\n$new.pf = zext i1 %ord to i64\n"
                "$new.of = add i64 0, 0\n$new.af = add i64 0, 0",
                _flags,
                f"The flags of comparing the lowest lanes ({_name.upper()}S{_letters.upper()}): unordered "
                f"sets ZF, PF and CF.",
                writes=FLAGS,
            )
