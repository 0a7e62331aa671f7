"""What a micro-op is: one row, from which every engine is made.

A row gives a name, a signature, the meaning as LLVM text, the same meaning as a plain Python function
(the oracle) and a line of documentation. Backends never restate a meaning.

Template language. Plain LLVM instructions, one per line, with placeholders:
    $d              the result; the template must define it if the signature has one
    $a $b $c $e ... operands, already of the type in the signature (vectors: iN, bitcast as needed); with an
                    address $a is the effective one
    $imm            the immediate, an i64 value
    $p              the host pointer for a row with an address, with its type, e.g. `load i32, $p, align 1`
    $cf, $r1, ...   a state field listed in `reads`, as i64
    $state          the guest thread's state (`ptr`), for rows that find their slot only when they run
    $new.cf         what to put into a state field listed in `writes`; the template must define each, as i64
    %name           a local value; the backend makes it unique
    %name:          on a line of its own: a label; such a template begins with `br label %start` and `%start:`
Intrinsics need no declaration. Every template is total: no poison, no undefined behaviour, whatever the
operands (LLVM shifts, fptosi and sdiv are guarded in the template).

Oracle: `oracle(bits, *operands, imm)` where operands are unsigned ints and `bits` is the width of the row's
main type; `imm` is passed only if the row has one. Rows with reads/writes take an extra dict of the fields
read (first after bits) and return (result, {field: value}), or only the dict if there is no result.
Addressed rows get the address as operand; their oracle takes a `memory` object first after bits (and after
the fields read, for a row that has both). Results are masked to the result type by the caller.
"""

from __future__ import annotations

from nexus.ir.types import TYPES, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

PURE = 0  # depends on operands only
LOAD = 1  # reads guest memory; can fault
STORE = 2  # writes guest memory; can fault
STATE = 3  # reads or writes state fields
TRAP = 4  # may end the block before the next op
CONTROL = 5  # ends the block


class Row:
    __slots__ = (
        "_template",
        "_type",
        "address",
        "align",
        "avx",
        "bits",
        "doc",
        "effect",
        "has_imm",
        "indirect",
        "name",
        "operands",
        "oracle",
        "reads",
        "result",
        "writes",
    )

    def __init__(
        self,
        name: str,
        signature: str,
        template: str | Callable[[], str],
        oracle: Callable[..., Any] | None,
        doc: str,
        *,
        effect: int = PURE,
        imm: bool = False,
        address: int = 0,
        align: int = 0,
        reads: tuple[str, ...] = (),
        writes: tuple[str, ...] = (),
        bits: int = 0,
        fill_for: Type | None = None,
        indirect: bool = False,
        avx: bool = False,
    ) -> None:
        """`address`: 0 none, 1 base + imm, 2 base + (index << scale) + imm; the address operands come first.
        `align`: a power of two that the address has to be a multiple of; else the access is at `top`.
        `indirect`: the row uses `$state`; its oracle gets the state (see `ir/oracle.py`) in place of the
        fields. `avx`: the template needs AVX2, FMA or F16C of the host, as all vectors above 128 bits do."""
        operands, _, result = signature.partition("->")
        self.name = name
        self.operands: tuple[Type, ...] = tuple(TYPES[t] for t in operands.split())
        self.result: Type | None = TYPES[result.strip()] if result.strip() else None
        self._template = template
        self._type = fill_for
        self.oracle = oracle
        self.doc = doc
        self.effect = STATE if effect == PURE and (reads or writes or indirect) else effect
        self.has_imm = imm
        self.indirect = indirect
        self.address = address
        self.align = align
        types = (*self.operands, self.result) if self.result else self.operands
        self.avx = avx or any(t.bits > 128 for t in types)
        self.reads = reads
        self.writes = writes
        self.bits = bits or (
            self.result.bits if self.result else self.operands[-1].bits if self.operands else 64
        )

    @property
    def template(self) -> str:
        """The LLVM text; a family's text is filled in only here, since running translated code never needs
        it."""
        text = self._template if isinstance(self._template, str) else self._template()
        return text if self._type is None else _fill(text, self._type)

    def __repr__(self) -> str:
        return self.name


ROWS: dict[str, Row] = {}


def row(
    name: str,
    signature: str,
    template: str | Callable[[], str],
    oracle: Callable[..., Any] | None,
    doc: str,
    **kw: Any,
) -> Row:
    """Add one row to the table. A name can be given once."""
    if name in ROWS:
        raise ValueError(f"op {name} is defined twice")
    ROWS[name] = Row(name, signature, template, oracle, doc, **kw)
    return ROWS[name]


def family(
    types: Iterable[Type],
    name: str,
    signature: str,
    template: str,
    oracle: Callable[..., Any] | None,
    doc: str,
    **kw: Any,
) -> None:
    """Add a row per type. In the texts `{t}` is the type's name, `{T}` its LLVM type, `{w}` its width,
    `{m}` width - 1; `{sext %v}` and `{zext %v}` widen a value of the type to i64 (and are a plain copy for
    i64)."""
    for t in types:
        names = name.replace("{t}", t.name), signature.replace("{t}", t.name)
        row(*names, template, oracle, doc, bits=t.bits, fill_for=t, **kw)


def _fill(text: str, t: Type) -> str:
    for key, value in (("{t}", t.name), ("{T}", t.llvm), ("{w}", str(t.bits)), ("{m}", str(t.bits - 1))):
        text = text.replace(key, value)
    for widen in ("sext", "zext"):
        before, *others = text.split("{" + widen + " ")
        for other in others:
            value, _, rest = other.partition("}")
            before += f"add i64 {value}, 0" if t.bits == 64 else f"{widen} {t.llvm} {value} to i64"
            before += rest
        text = before
    return text
