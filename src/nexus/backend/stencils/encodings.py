"""SSE's instructions in the encodings of AVX.

A processor takes a hundred nanoseconds or so to go from instructions of AVX that have left something in the
upper halves of vector registers to those of SSE, and as long to go back (measured on a Zen 3).
"""

from __future__ import annotations

from iced_x86 import Code, Decoder, EncodingKind, Instruction, OpKind, Register, RegisterExt

from nexus.backend.stencils.registers import NUMBER, decoded, encoded, factory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.stencils.store import Stencil

_MOVED_IN = {  # scalar moves, which have two operands with memory and three with registers
    Code.MOVSS_XMM_XMMM32: (Code.VEX_VMOVSS_XMM_XMM_XMM, Code.VEX_VMOVSS_XMM_M32),
    Code.MOVSD_XMM_XMMM64: (Code.VEX_VMOVSD_XMM_XMM_XMM, Code.VEX_VMOVSD_XMM_M64),
}
_MOVED_OUT = {Code.MOVSS_XMMM32_XMM: Code.VEX_VMOVSS_M32_XMM, Code.MOVSD_XMMM64_XMM: Code.VEX_VMOVSD_M64_XMM}
_CODES: dict[int, str] = {value: name for name, value in vars(Code).items() if name.isupper()}


def with_avx(stencil: Stencil) -> Stencil | None:
    """The stencil with the encodings of AVX for those of SSE, which zero the upper halves of the registers
    that they write; None if there is an instruction that has none."""
    steps = decoded(stencil)
    for step in steps:
        instruction = step.instruction
        legacy = instruction.encoding == EncodingKind.LEGACY
        if legacy and any(RegisterExt.is_xmm(u.register) for u in factory.info(instruction).used_registers()):
            changed = _with_avx(instruction)
            if changed is None:
                return None
            step.instruction = changed
    try:
        return encoded(steps)
    except ValueError:  # the code has grown
        return None


def _with_avx(instruction: Instruction) -> Instruction | None:
    changed, code = instruction.copy(), instruction.code
    memory = OpKind.MEMORY in (instruction.op0_kind, instruction.op1_kind)
    if code in _MOVED_IN and memory:
        changed.code = _MOVED_IN[code][1]
        return changed
    if code in _MOVED_OUT and memory:
        changed.code = _MOVED_OUT[code]
        return changed
    name, _, operands = _CODES[code].partition("_")
    same, more = (getattr(Code, f"VEX_V{name}_{first}{operands}", None) for first in ("", "XMM_"))
    if code in _MOVED_IN:
        more = _MOVED_IN[code][0]
    if same is not None:
        changed.code = same
        return changed
    chosen = getattr(Code, f"VEX_V{name}_XMM_{operands}_XMM", None)  # by xmm0, which SSE does not name
    if more is None and chosen is not None:
        more = chosen
        changed.op3_kind = OpKind.REGISTER
        changed.op3_register = Register.XMM0
    if more is None or instruction.op0_kind != OpKind.REGISTER:
        return None
    changed.code = more
    for index in range(instruction.op_count, 1, -1):  # the first one is a source, too
        kind = instruction.op_kind(index - 1)
        changed.set_op_kind(index, kind)
        if kind == OpKind.REGISTER:
            changed.set_op_register(index, instruction.op_register(index - 1))
    changed.op1_kind = OpKind.REGISTER
    changed.op1_register = instruction.op0_register
    return changed


def zeroes(stencil: Stencil, name: str) -> bool:
    """Does it write a vector register in a way that zeroes the upper half?"""
    return any(
        instruction.encoding == EncodingKind.VEX
        and instruction.op0_kind == OpKind.REGISTER
        and instruction.op0_register == NUMBER[name]
        for instruction in Decoder(64, stencil[0])
    )
