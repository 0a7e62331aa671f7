"""Instructions that the manual gives an accuracy for and no bits: which results are as good as the model's.

VRCP14 and VRSQRT14 are within 2**-14 of the exact value, VRCPPH and VRSQRTPH within 2**-11 + 2**-14 (Intel
SDM volume 2). The model rounds the exact value to nearest.
"""

from __future__ import annotations

from iced_x86 import Mnemonic

from isa.model.machine import unpack, vector_at
from isa.model.softfloat import FORMATS, Format
from nexus.ir.state import VECTOR_BYTES
from nexus.isa.x86.compare import Result
from nexus.isa.x86.fuzz import Case
from nexus.isa.x86.registers import CpuState

_BITS = {
    **dict.fromkeys((Mnemonic.VRCP14PS, Mnemonic.VRCP14SS, Mnemonic.VRSQRT14PS, Mnemonic.VRSQRT14SS), 32),
    **dict.fromkeys((Mnemonic.VRCP14PD, Mnemonic.VRCP14SD, Mnemonic.VRSQRT14PD, Mnemonic.VRSQRT14SD), 64),
    **dict.fromkeys((Mnemonic.VRCPPH, Mnemonic.VRCPSH, Mnemonic.VRSQRTPH, Mnemonic.VRSQRTSH), 16),
}


def close(f: Format, exact: int, got: int) -> bool:
    """Whether a pattern is near enough to the one of the exact value."""
    if f.is_nan(exact) or exact & f.magnitude in (0, f.infinity):
        return exact == got
    mantissa, _ = f.parts(exact)
    return abs(exact - got) <= max(1, mantissa >> 14)


def accepting(case: Case, expected: Result, got: Result) -> Result:
    """The expected result, with those elements of `got` in it that are close enough."""
    bits = _BITS.get(case.instruction.mnemonic)
    if bits is None:
        return expected
    at = vector_at(case.instruction.op0_register)
    place = slice(at, at + VECTOR_BYTES)
    wanted, found = (unpack(bytes(result.state.buffer[place]), bits) for result in (expected, got))
    f = FORMATS[bits]
    pairs = zip(wanted, found, strict=True)
    merged = [have if close(f, want, have) else want for want, have in pairs]
    state = CpuState(bytearray(expected.state.buffer))
    state.buffer[place] = b"".join(x.to_bytes(bits // 8, "little") for x in merged)
    return Result(expected.outcome, state, expected.memory)
