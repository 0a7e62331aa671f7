"""What each instruction means: functions that build IR, registered by iced mnemonic in `isa/x86/table.py`.

The modules below are imported for their registrations; a new one is added to the list.
"""

from __future__ import annotations

from iced_x86 import EncodingKind, Instruction, RoundingControl

from nexus.base.errors import Unsupported
from nexus.ir.state import Exit
from nexus.ir.values import Block
from nexus.isa.x86.ins import PRIVILEGED_INSTRUCTION, Ins
from nexus.isa.x86.semantics import (
    aes,
    arithmetic,
    avx,
    bits,
    evex_float,
    evex_integer,
    evex_moves,
    extended,
    far,
    float_compare,
    flow,
    fused,
    galois,
    gather,
    half,
    half_convert,
    masking,
    moves,
    opmask,
    refused,
    segments,
    sha,
    shared_names,
    shifts,
    sse4a,
    sse_float,
    sse_integer,
    sse_moves,
    sse_string,
    strings,
    system,
    x87,
    x87_control,
)
from nexus.isa.x86.table import SEMANTICS, Semantics

MODULES = (
    moves,
    arithmetic,
    shifts,
    bits,
    strings,
    flow,
    system,
    segments,
    far,
    extended,
    sse_moves,
    sse_integer,
    sse_float,
    sse_string,
    float_compare,
    avx,
    opmask,
    evex_integer,
    evex_moves,
    gather,
    fused,
    evex_float,
    half,
    half_convert,
    galois,
    aes,
    sha,
    sse4a,
    shared_names,
    x87,
    x87_control,
)

ENCODINGS = (EncodingKind.LEGACY, EncodingKind.VEX, EncodingKind.EVEX)
"""What the functions are made for; other encodings of the same mnemonics are not implemented."""


def lower(instruction: Instruction, block: Block) -> bool:
    """Append the IR of one instruction to `block` and mark where it begins; True when it ended the block.

    An undecodable instruction exits ILLEGAL, one without semantics UNIMPLEMENTED, both with pc at it. Both
    matter only if the guest gets there, so translating never fails.
    """
    i = Ins(instruction, block)
    block.mark(i.address)
    block.end = i.next
    if instruction.is_invalid:
        i.trap(Exit.ILLEGAL)
        return True
    function = SEMANTICS.get(instruction.mnemonic)
    if function is None or instruction.encoding not in ENCODINGS:
        if instruction.is_privileged:
            i.trap(Exit.PRIVILEGED, PRIVILEGED_INSTRUCTION)
        else:
            i.trap(Exit.UNIMPLEMENTED if refused.reason(instruction) is None else Exit.ILLEGAL)
        return True
    try:
        if i.evex and (instruction.rounding_control or instruction.suppress_all_exceptions):
            _rounded(i, function)
        else:
            function(i)
    except Unsupported:  # a form of operands that the function does not know
        i.trap(Exit.UNIMPLEMENTED)
    return i.ended


def _rounded(i: Ins, function: Semantics) -> None:
    """The instruction with the rounding that is in it, if it has one, and without exceptions."""
    mode = _ROUNDINGS.get(i.raw.rounding_control)
    before = masking.begin(i, mode)
    function(i)
    masking.resume(i, before)


_ROUNDINGS = {
    RoundingControl.ROUND_TO_NEAREST: 0,
    RoundingControl.ROUND_DOWN: 1,
    RoundingControl.ROUND_UP: 2,
    RoundingControl.ROUND_TOWARD_ZERO: 3,
}

__all__ = ["ENCODINGS", "SEMANTICS", "lower"]
