"""Vector rows: how they are named, written and widened.

A vector value is a bag of bits; the row says how it is divided. Names are `v.<op>.<lane>.<vector>`:
`v.add.i32.v128` adds four 32-bit lanes, `v.add.f32x1.v128` the lowest lane only and keeps the others of its
first operand (x86's scalar instructions). Bitwise rows have no lanes and are called like the scalar ones,
`xor.v128`, so that the operators of `Value` reach them.

`lanes` writes a row per lane type and per vector type in `BUILT`. Rows that shuffle do it inside each
128-bit part, as x86 does at every width. A template that names lane counts or instructions of x86 is for
128 bits, or for 256 where AVX has the same; the rows of wider vectors do the same to each part (`by_parts`).
"""

from __future__ import annotations

import re

from nexus.ir.ops.scalar import signed
from nexus.ir.ops.table import ROWS, Row, family, row
from nexus.ir.types import V128, V256, V512, VECTORS, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Oracle = Callable[..., Any]

BUILT = VECTORS
LONG_ENOUGH = {V128: V128, V256: V128, V512: V256}
"""The type of the source of a row that makes lanes of such a vector out of lanes of half their width."""
LLVM_LANES = {"f16": "half", "f32": "float", "f64": "double"}
_AT_MOST_256 = re.compile(r"@llvm\.x86\.|\basm\b")
LANE_BITS = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "i128": 128, "f16": 16, "f32": 32, "f64": 64}


def holding(bits: int) -> Type:
    """The shortest vector type with room for so many bits."""
    return next(t for t in BUILT if t.bits >= bits)


def split(value: int, lane: int, width: int) -> list[int]:
    """The lanes of a vector, lowest first."""
    mask = (1 << lane) - 1
    return [value >> at & mask for at in range(0, width, lane)]


def join(values: Iterable[int], lane: int) -> int:
    """The inverse of `split`; each value is cut to the lane."""
    mask, result = (1 << lane) - 1, 0
    for index, value in enumerate(values):
        result |= (value & mask) << index * lane
    return result


def each(function: Callable[..., int]) -> Callable[[int], Oracle]:
    """An oracle that applies `function(lane bits, x, y, ...)` to the corresponding lanes."""

    def make(lane: int) -> Oracle:
        def oracle(width: int, *vectors: int) -> int:
            columns = zip(*(split(v, lane, width) for v in vectors), strict=True)
            return join((function(lane, *column) for column in columns), lane)

        return oracle

    return make


def parts(vectors: int, function: Callable[..., int]) -> Callable[[int], Oracle]:
    """An oracle that applies `function(lane bits, lanes of a, lanes of b, ..., other operands)` to each
    128-bit part; the first `vectors` operands are vectors. The function returns the 128 bits of its part."""

    def make(lane: int) -> Oracle:
        def oracle(width: int, *operands: int) -> int:
            rest = operands[vectors:]
            results = []
            for at in range(0, width, 128):
                lists = [split(v >> at & (1 << 128) - 1, lane, 128) for v in operands[:vectors]]
                results.append(function(lane, *lists, *rest))
            return join(results, 128)

        return oracle

    return make


def _indices(numbers: Iterable[int]) -> str:
    return "<" + ", ".join(f"i32 {n}" for n in numbers) + ">"


def _shuffles(lane: int, width: int) -> dict[str, str]:
    """Constant index vectors over the concatenation of two vectors, inside each 128-bit part."""
    count, per = width // lane, max(128 // lane, 1)
    part = [(i // per) * per for i in range(count)]
    inside = [i % per for i in range(count)]
    half = per // 2

    def pick(choose: Callable[[int], int]) -> list[int]:
        """`choose` maps a place inside a part to an index into its two source parts, 0 .. 2 * per - 1."""
        found = [choose(i) for i in inside]
        return [base + f if f < per else base + count + f - per for base, f in zip(part, found, strict=True)]

    return {
        "{even}": _indices(pick(lambda i: 2 * i)),
        "{odd}": _indices(pick(lambda i: 2 * i + 1)),
        "{low}": _indices(pick(lambda i: i // 2 + per * (i % 2))),
        "{high}": _indices(pick(lambda i: half + i // 2 + per * (i % 2))),
        "{both}": _indices(range(2 * count)) if per < 2 else _indices(_interleaved(count, per)),
        **{f"{{byte{n}}}": _indices(i & -8 | n for i in range(count)) for n in range(8)},
        "{powers}": "<" + ", ".join(f"i16 {1 << i % 8}" for i in range(count)) + ">",
        "{alternate}": _indices(i if i % 2 == 0 else count + i for i in range(count)),
    }


def _interleaved(count: int, per: int) -> list[int]:
    """All lanes of a and b, part by part: a's part 0, b's part 0, a's part 1, ..."""
    order: list[int] = []
    for base in range(0, count, per):
        order += [*range(base, base + per), *range(count + base, count + base + per)]
    return order


def lanes(
    kinds: str,
    name: str,
    signature: str,
    template: str,
    oracle: Callable[[int], Oracle] | None,
    doc: str,
    wide: bool = True,
    parts: bool | None = None,
    only: Type | None = None,
    **kw: Any,
) -> None:
    """Add a row per lane type in `kinds` and vector type in `BUILT` (not `wide`: of 128 bits only; `only` of
    one; `parts` tells whether wider ones are done `by_parts`, where the template does not show it).

    In name and signature: `{v}` vector type, `{e}` lane name. In the template also `{V}` the vector's LLVM
    integer, `{E}` LLVM lane, `{b}` its bits, `{m}` bits - 1, `{h}` bits / 2, `{n}` lane count, `{2n}` twice
    that, `{L}` = <n x E>, `{I}` = <n x ib>, `{E2}` = i2b, `{B}` = <n x i2b>, `{bools}` = <n x i1>, `{bytes}`
    the vector's bytes, `{s}` the letters of x86's float intrinsics, and the index vectors of `_shuffles`.
    `{mask b}` makes `%m`, of type {bools}, from the i64 operand b. Vector operands stand ready as `%a`, `%b`,
    `%c` of type {L}; the template defines `%d` of type {L}, unless
    it defines `$d` itself. `oracle` gets the lane's bits and makes the row's oracle.
    """
    longer = _SHORT.sub(_longer, template)
    fixed = _FIXED.search(longer) is not None if parts is None else parts
    halves = _AT_MOST_256.search(longer) is not None
    types = BUILT[:1] if fixed or not wide else BUILT[:2] if halves else BUILT
    for vector in types if only is None else (only,):
        for kind in kinds.split():
            full = signature.replace("{v}", vector.name).replace("{e}", kind)
            row(
                name.replace("{v}", vector.name).replace("{e}", kind),
                full,
                _later(template if vector is V128 else longer, full, kind, vector),
                oracle(LANE_BITS[kind]) if oracle else None,
                doc,
                bits=vector.bits,
                **kw,
            )
            if wide and (fixed or (vector is V256 and halves)):
                by_parts(name.replace("{v}", vector.name).replace("{e}", kind))


_FIXED = re.compile(r"<\d+ x|@llvm\.x86\.(?!avx)|\basm\b")
# intrinsics of SSE that AVX has for 256 bits, under another name
_SHORT = re.compile(
    r"@llvm\.x86\.(?:(?:\{sse\}|sse\d*)\.((?:min|max|cmp|addsub|round|rcp|rsqrt)\.p(?:\{s\}|[sd]))"
    r"|ssse3\.(pshuf\.b)\.128)\("
)


def _longer(match: re.Match[str]) -> str:
    name, bytewise = match.groups()
    return f"@llvm.x86.avx2.{bytewise}(" if bytewise else f"@llvm.x86.avx.{name}.256("


def by_parts(name: str) -> None:
    """Add rows that do what the row `name` does to each part of that size of wider vectors."""
    base = ROWS[name]
    part = base.result
    assert part is not None
    for wide in BUILT[BUILT.index(part) + 1 :]:
        types = [wide.name if t is part else t.name for t in base.operands]
        row(
            name.replace(part.name, wide.name),
            f"{' '.join(types)} -> {wide.name}",
            _template_of_parts(base, part, wide),
            _oracle_of_parts(base, part, wide) if base.oracle else None,
            base.doc,
            imm=base.has_imm,
            bits=wide.bits,
        )


def _template_of_parts(base: Row, type: Type, wide: Type) -> Callable[[], str]:
    per = type.bits // 64
    whole, part = f"<{wide.bits // 64} x i64>", f"<{per} x i64>"
    letters = [letter for letter, t in zip("abc", base.operands, strict=False) if t is type]

    def make() -> str:
        lines = [f"%w.{letter} = bitcast {wide.llvm} ${letter} to {whole}" for letter in letters]
        done = []
        for at in range(0, wide.bits // 64, per):
            mark = f"p{at}."
            text = re.sub(r"%([A-Za-z_])", rf"%{mark}\1", base.template)
            for letter in letters:
                lines += (
                    f"%v{mark}{letter} = shufflevector {whole} %w.{letter}, {whole} poison, "
                    f"<{per} x i32> {_indices(range(at, at + per))}",
                    f"%i{mark}{letter} = bitcast {part} %v{mark}{letter} to {type.llvm}",
                )
                text = re.sub(rf"\${letter}\b", f"%i{mark}{letter}", text)
            lines += (
                re.sub(r"\$d\b", f"%i{mark}d", text),
                f"%v{mark}d = bitcast {type.llvm} %i{mark}d to {part}",
            )
            done.append(f"%v{mark}d")
        size, level = per, 0
        while len(done) > 1:
            joined = []
            for index in range(0, len(done), 2):
                joined.append(f"%j{level}.{index}")
                lines.append(
                    f"{joined[-1]} = shufflevector <{size} x i64> {done[index]}, <{size} x i64> "
                    f"{done[index + 1]}, <{2 * size} x i32> {_indices(range(2 * size))}"
                )
            done, size, level = joined, 2 * size, level + 1
        return "\n".join([*lines, f"$d = bitcast {whole} {done[0]} to {wide.llvm}"])

    return make


def _oracle_of_parts(base: Row, type: Type, wide: Type) -> Oracle:
    def oracle(width: int, *operands: int) -> int:
        out = 0
        for at in range(0, width, type.bits):
            part = [
                value >> at & type.mask if t is type else value
                for value, t in zip(operands, base.operands, strict=False)
            ]
            assert base.oracle is not None
            out |= (base.oracle(type.bits, *part, *operands[len(part) :]) & type.mask) << at
        return out

    return oracle


def mask_text(letter: str, count: int) -> str:
    """`%m`: one i1 per lane, from the low bits of the i64 operand."""
    if count == 64:
        return f"%m = bitcast i64 ${letter} to <64 x i1>"
    return f"%ms = trunc i64 ${letter} to i{count}\n%m = bitcast i{count} %ms to <{count} x i1>"


def _later(template: str, signature: str, kind: str, vector: Type) -> Callable[[], str]:
    return lambda: _expanded(template, signature, kind, vector)


def _expanded(template: str, signature: str, kind: str, vector: Type) -> str:
    """The template for one lane type, its operands cast from, and its result to, the plain integer."""
    bits = LANE_BITS[kind]
    count, element = vector.bits // bits, LLVM_LANES.get(kind, kind)
    lane_vector = f"<{count} x {element}>"
    names = {
        "{v}": vector.name,
        "{V}": vector.llvm,
        "{e}": kind,
        "{E}": element,
        "{b}": str(bits),
        "{m}": str(bits - 1),
        "{h}": str(bits // 2),
        "{n}": str(count),
        "{2n}": str(2 * count),
        "{L}": lane_vector,
        "{I}": f"<{count} x i{bits}>",
        "{E2}": f"i{2 * bits}",
        "{B}": f"<{count} x i{2 * bits}>",
        "{bools}": f"<{count} x i1>",
        "{bytes}": str(vector.bits // 8),
        "{s}": "d" if kind == "f64" else "s",
        "{sse}": "sse2" if kind == "f64" else "sse",
        **{f"{{mask {letter}}}": mask_text(letter, count) for letter in "bc"},
        **_shuffles(bits, vector.bits),
    }
    for key, value in names.items():
        template = template.replace(key, value)
    before = ""
    for letter, operand in zip("abc", signature.partition("->")[0].split(), strict=False):
        if operand == vector.name and f"%{letter}" in template:
            before += f"%{letter} = bitcast {vector.llvm} ${letter} to {lane_vector}\n"
    after = (
        ""
        if "$d =" in template or "%d =" not in template
        else f"\n$d = bitcast {lane_vector} %d to {vector.llvm}"
    )
    return before + template.strip() + after


family(BUILT, "and.{t}", "{t} {t} -> {t}", "$d = and {T} $a, $b", lambda w, a, b: a & b, "Bitwise and.")
family(BUILT, "or.{t}", "{t} {t} -> {t}", "$d = or {T} $a, $b", lambda w, a, b: a | b, "Bitwise or.")
family(
    BUILT, "xor.{t}", "{t} {t} -> {t}", "$d = xor {T} $a, $b", lambda w, a, b: a ^ b, "Bitwise exclusive or."
)
family(
    BUILT,
    "andn.{t}",
    "{t} {t} -> {t}",
    "%n = xor {T} $a, -1\n$d = and {T} %n, $b",
    lambda w, a, b: ~a & b,
    "Bitwise and of the complement of a with b.",
)
family(
    BUILT,
    "select.{t}",
    "i1 {t} {t} -> {t}",
    "$d = select i1 $a, {T} $b, {T} $c",
    lambda w, c, a, b: a if c else b,
    "The second operand where the first is 1, else the third.",
)

__all__ = [
    "BUILT",
    "LANE_BITS",
    "LONG_ENOUGH",
    "by_parts",
    "each",
    "holding",
    "join",
    "lanes",
    "mask_text",
    "parts",
    "signed",
    "split",
]
