"""How the meaning of an element becomes the meaning of an instruction: the few shapes that most have.

A maker takes an instruction and gives its `Meaning`, a function of a `Run`. `TABLE` has a maker per mnemonic;
modules add to it with `define`. Functions of elements get plain ints; those of floating point get the `Env`
first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from iced_x86 import Instruction, Mnemonic

from isa.model.machine import Elements, Form, Meaning, Run, is_mask
from isa.model.softfloat import Env
from nexus.ir.state import SLOTS

Maker = Callable[[Instruction], Meaning]
Function = Callable[..., Any]
TABLE: dict[int, Maker] = {}
_MXCSR = SLOTS["mxcsr"]


def define(names: str, maker: Maker) -> None:
    """Put mnemonics into the table; one that is there already is a mistake."""
    for name in names.split():
        number = getattr(Mnemonic, name)
        if number in TABLE:
            raise ValueError(f"{name} is defined twice")
        TABLE[number] = maker


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


def saturate(value: int, bits: int, is_signed: bool) -> int:
    """The nearest number that has so many bits, as a pattern."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    return max(low, min(high, value)) & (1 << bits) - 1


def lanes(
    function: Function,
    widths: Sequence[int],
    out: int,
    *,
    sources: Sequence[int] | None = None,
    imm: bool = False,
    env: bool = False,
    suppressed: bool = True,
) -> Maker:
    """Each element of operand 0 (`out` bits) from the elements at the same place in the sources, so many bits
    each in `widths`.

    `sources`: operand numbers, by default those behind operand 0. `imm`: the immediate is the last argument.
    `env`: the function rounds or raises. `suppressed`: an element of memory that the mask has not, is not
    accessed. An operand 0 that is a mask register gets one bit per element.
    """
    widest = max(*widths, out) if out else max(widths)

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // widest
        numbers = sources if sources is not None else range(1, 1 + len(widths))
        reads = [
            form.vector(n, width, count, count if suppressed else 0)
            for n, width in zip(numbers, widths, strict=True)
        ]
        call = with_immediate(function, form.imm) if imm else function
        if is_mask(raw.op0_register):
            return _masking(form, reads, call, count, env)
        write = form.result(0, out, count)

        def run(state: Run) -> None:
            lists = [read(state) for read in reads]
            write(state, evaluate(state, form, call, lists, count, env))

        return concluded(form, run) if env else run

    return make


def with_immediate(function: Function, imm: int) -> Function:
    """The function with the immediate as its last argument."""
    return lambda *arguments: function(*arguments, imm)


def evaluate(
    run: Run, form: Form, function: Function, lists: Sequence[Elements], count: int, env: bool
) -> Elements:
    """The function of each element that the mask has, 0 for the others (they raise nothing)."""
    call = partial(function, run.env) if env else function
    active = form.active(run, count)
    if active == (1 << count) - 1:
        return list(map(call, *lists))
    columns: Iterable[tuple[int, ...]] = zip(*lists, strict=True)
    return [call(*column) if active >> i & 1 else 0 for i, column in enumerate(columns)]


def _masking(form: Form, reads: Sequence[Function], call: Function, count: int, env: bool) -> Meaning:
    write = form.mask_result(0, count)

    def run(state: Run) -> None:
        bits = evaluate(state, form, call, [read(state) for read in reads], count, env)
        write(state, sum(1 << i for i, bit in enumerate(bits) if bit))

    return concluded(form, run) if env else run


def concluded(form: Form, run: Meaning) -> Meaning:
    """With the environment of floating point around it: MXCSR or the rounding of the encoding before, the
    exceptions raised after, unless they are suppressed."""

    def around(state: Run) -> None:
        state.env = Env(state.slots[_MXCSR], form.rounding)
        run(state)
        if not form.quiet:
            state.slots[_MXCSR] |= state.env.flags

    return around


def scalar(
    function: Function, widths: Sequence[int], out: int, *, sources: Sequence[int], imm: bool = False,
    above: int = 1,
) -> Maker:  # fmt: skip
    """The lowest element of operand 0 from the lowest ones of the sources, in floating point; the rest of the
    low 128 bits comes from operand `above`."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        reads = [form.scalar(n, width) for n, width in zip(sources, widths, strict=True)]
        call = with_immediate(function, form.imm) if imm else function
        bit = is_mask(raw.op0_register)
        write = form.mask_result(0, 1) if bit else form.scalar_result(0, out, above)

        def run(state: Run) -> None:
            values = [read(state) for read in reads]
            write(state, call(state.env, *values) if form.active(state, 1) else 0)

        return concluded(form, run)

    return make


def whole(
    function: Function, widths: Sequence[int], out: int, *, sources: Sequence[int] | None = None,
    imm: bool = False, suppressed: bool = False, lane: int = 0,
) -> Maker:  # fmt: skip
    """All elements of operand 0 from all of the sources: the function gets lists and gives one. `lane`: it is
    done for each so many bits by themselves. `suppressed` as in `lanes`, for memory with elements as in the
    result."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        size = form.bytes * 8
        numbers = sources if sources is not None else range(1, 1 + len(widths))
        kl = size // out if suppressed else 0
        reads = [form.vector(n, width, size // width, kl) for n, width in zip(numbers, widths, strict=True)]
        call = with_immediate(function, form.imm) if imm else function
        if lane and size > lane:
            call = _per_lane(call, widths, lane, size // lane)
        if is_mask(raw.op0_register):
            to_mask = form.mask_result(0, size // out)

            def compare(state: Run) -> None:
                bits = call(*[read(state) for read in reads])
                to_mask(state, sum(1 << i for i, bit in enumerate(bits) if bit))

            return compare
        write = form.result(0, out, size // out)
        return lambda state: write(state, call(*[read(state) for read in reads]))

    return make


def _per_lane(function: Function, widths: Sequence[int], lane: int, lanes_: int) -> Function:
    counts = [lane // width for width in widths]

    def call(*lists: Elements) -> Elements:
        out: Elements = []
        for n in range(lanes_):
            parts = (
                whole_list[n * count : (n + 1) * count]
                for whole_list, count in zip(lists, counts, strict=True)
            )
            out += function(*parts)
        return out

    return call


def accumulating(
    maker: Callable[..., Maker], function: Function, widths: Sequence[int], **options: Any
) -> Maker:
    """A maker whose operand 0 is the first source too; `widths` has it first."""
    return maker(function, widths, widths[0], sources=range(len(widths)), **options)
