"""Puts other registers into a stencil: decodes it, replaces the registers, encodes it again.

Only whole pinned registers are exchanged, so the code does the same with the new ones as it did with the old,
as long as it uses no other pinned register (`build.py` checks that) and no instruction has its register by
definition.
"""

from __future__ import annotations

import struct

from iced_x86 import Decoder, Encoder, Instruction, OpKind, Register, RegisterExt

from nexus.backend.stencils.layout import PIN_REGISTERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from iced_x86._iced_x86_py import Register as Number

    from nexus.backend.stencils.store import Hole, Stencil

_MARK = {
    4: 0x12345678,
    8: 0x123456789ABCDEF0,
}  # in the holes meanwhile, so that they stay as wide as they are
_FORMAT = {4: "<I", 8: "<Q"}
_FULL = tuple(getattr(Register, name) for name in PIN_REGISTERS)
_HIGH = (Register.AH, Register.BH, Register.CH, Register.DH)
_NEAR = (OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64)


def _parts(full: Number) -> dict[int, Number]:
    """The register by size."""
    every: Iterable[Number] = (value for name, value in vars(Register).items() if name.isupper())
    return {
        RegisterExt.size(register): register
        for register in every
        if RegisterExt.is_gpr(register)
        and register not in _HIGH
        and RegisterExt.full_register(register) == full
    }


_PARTS = {register: _parts(register) for register in _FULL}


def substitute(stencil: Stencil, mapping: dict[int, int]) -> Stencil:
    """The stencil with pin `mapping[i]` instead of pin i; raises ValueError where that cannot be encoded."""
    code, holes = stencil
    wanted = {_FULL[old]: _FULL[new] for old, new in mapping.items()}
    marked = bytearray(code)
    for at, size, _, _ in holes:
        struct.pack_into(_FORMAT[size], marked, at, _MARK[size])
    out = bytearray()
    starts: dict[int, int] = {}  # old offset of an instruction -> new one
    jumps: list[tuple[int, int, int]] = []  # offset of a displacement, its size, old target
    new_holes: list[Hole] = []
    for instruction in Decoder(64, bytes(marked)):
        old = instruction.ip
        starts[old] = len(out)
        inside = [hole for hole in holes if old <= hole[0] < old + instruction.len]
        encoded = _encode(instruction, wanted)
        if instruction.op_count and instruction.op0_kind in _NEAR:
            size = 4 if inside or len(encoded) > 2 else 1
            if not inside:
                jumps.append((len(out) + len(encoded) - size, size, instruction.near_branch_target))
        searched = 0
        for _, size, what, more in inside:
            relative = what in ("next", "taken", "leave")
            where = (
                len(encoded) - 4
                if relative
                else encoded.index(struct.pack(_FORMAT[size], _MARK[size]), searched)
            )
            searched = where + size
            new_holes.append((len(out) + where, size, what, more))
        out += encoded
    starts[len(code)] = len(out)
    for at, size, target in jumps:
        distance = starts[target] - at - size
        if size == 1 and not -128 <= distance < 128:
            raise ValueError("a jump inside the stencil becomes too long")
        out[at : at + size] = distance.to_bytes(size, "little", signed=True)
    return bytes(out), tuple(new_holes)


def _encode(instruction: Instruction, wanted: dict[Number, Number]) -> bytes:
    changed = instruction.copy()
    for index in range(instruction.op_count):
        if instruction.op_kind(index) == OpKind.REGISTER:
            register = instruction.op_register(index)
            new = _replaced(register, wanted)
            if new != register:
                changed.set_op_register(index, new)
    changed.memory_base = _replaced(instruction.memory_base, wanted)
    changed.memory_index = _replaced(instruction.memory_index, wanted)
    encoder = Encoder(64)
    encoder.encode(changed, instruction.ip)
    encoded: bytes = encoder.take_buffer()
    if instruction.op_count and instruction.op0_kind in _NEAR and len(encoded) != instruction.len:
        raise ValueError("a jump changes its form")
    return encoded


def _replaced(register: Number, wanted: dict[Number, Number]) -> Number:
    if not RegisterExt.is_gpr(register):
        return register
    full = RegisterExt.full_register(register)
    if full not in wanted:
        return register
    if register in _HIGH:
        raise ValueError("the high byte of a register has no equivalent")
    return _PARTS[wanted[full]][RegisterExt.size(register)]
