"""Random operands for `fuzz.py`, made from iced's description of each encoding."""

from __future__ import annotations

import random

from iced_x86 import (
    EncodingKind,
    Instruction,
    OpCodeInfo,
    OpCodeOperandKind,
    OpKind,
    Register,
    RoundingControl,
)

from nexus.ir.state import VECTOR_BYTES
from nexus.isa.x86 import registers as r
from nexus.isa.x86.fuzz_state import AT, place, random_integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Numbered  # a number of one of iced's enums, which its stubs call classes

CODE = AT - 0x1000  # branches stay within CODE .. CODE + 0x2000
_U64 = (1 << 64) - 1

_K = OpCodeOperandKind
_REGISTER_KINDS: dict[int, tuple[int, int]] = {}
"""operand kind -> (first register, how many)"""
for _kinds, _first, _count in (
    ("R8_REG R8_OPCODE R8_OR_MEM", Register.AL, 20),
    ("R16_REG R16_RM R16_OPCODE R16_OR_MEM R16_REG_MEM", Register.AX, 16),
    ("R32_REG R32_RM R32_OPCODE R32_OR_MEM R32_REG_MEM R32_VVVV", Register.EAX, 16),
    ("R64_REG R64_RM R64_OPCODE R64_OR_MEM R64_REG_MEM R64_VVVV", Register.RAX, 16),
    ("XMM_REG XMM_RM XMM_OR_MEM XMM_VVVV", Register.XMM0, 16),
    ("XMM_IS4 XMM_IS5", Register.XMM0, 16),
    ("YMM_REG YMM_RM YMM_OR_MEM YMM_VVVV YMM_IS4 YMM_IS5", Register.YMM0, 16),
    ("ZMM_REG ZMM_RM ZMM_OR_MEM ZMM_VVVV", Register.ZMM0, 16),
    ("K_REG K_RM K_OR_MEM K_VVVV KP1_REG", Register.K0, 8),
    ("MM_REG MM_RM MM_OR_MEM", Register.MM0, 8),
    ("STI_OPCODE", Register.ST0, 8),
    ("ST0", Register.ST0, 1),
    ("AL", Register.AL, 1),
    ("CL", Register.CL, 1),
    ("AX", Register.AX, 1),
    ("DX", Register.DX, 1),
    ("EAX", Register.EAX, 1),
    ("RAX", Register.RAX, 1),
):
    for _kind in _kinds.split():
        _REGISTER_KINDS[getattr(_K, _kind)] = (_first, _count)
_VECTORS = (Register.XMM0, Register.YMM0, Register.ZMM0)
_OR_MEMORY = {getattr(_K, kind) for kind in dir(_K) if kind.endswith("_OR_MEM")}
_IMMEDIATES = {
    _K.IMM8: (OpKind.IMMEDIATE8, 8),
    _K.IMM8_CONST_1: (OpKind.IMMEDIATE8, 0),
    _K.IMM8SEX16: (OpKind.IMMEDIATE8TO16, 8),
    _K.IMM8SEX32: (OpKind.IMMEDIATE8TO32, 8),
    _K.IMM8SEX64: (OpKind.IMMEDIATE8TO64, 8),
    _K.IMM16: (OpKind.IMMEDIATE16, 16),
    _K.IMM32: (OpKind.IMMEDIATE32, 32),
    _K.IMM32SEX64: (OpKind.IMMEDIATE32TO64, 32),
    _K.IMM64: (OpKind.IMMEDIATE64, 64),
}
_STRINGS = {
    _K.SEG_RSI: (OpKind.MEMORY_SEG_RSI, OpKind.MEMORY_SEG_ESI),
    _K.ES_RDI: (OpKind.MEMORY_ESRDI, OpKind.MEMORY_ESEDI),
    _K.SEG_RDI: (OpKind.MEMORY_SEG_RDI, OpKind.MEMORY_SEG_EDI),
}
# memory with a vector of indices -> the first index register, bits of an index
_GATHERS = {
    _K.MEM_VSIB32X: (Register.XMM0, 32),
    _K.MEM_VSIB32Y: (Register.YMM0, 32),
    _K.MEM_VSIB64X: (Register.XMM0, 64),
    _K.MEM_VSIB64Y: (Register.YMM0, 64),
    _K.MEM_VSIB32Z: (Register.ZMM0, 32),
    _K.MEM_VSIB64Z: (Register.ZMM0, 64),
}
_ROUNDINGS = (
    RoundingControl.ROUND_TO_NEAREST,
    RoundingControl.ROUND_DOWN,
    RoundingControl.ROUND_UP,
    RoundingControl.ROUND_TOWARD_ZERO,
)
_BRANCHES = (_K.BR64_1, _K.BR64_4)


class Aim:
    """How the memory operand of a form comes out at a chosen place: registers by slot, -1 for none.
    `indices` is the vector register with indices of `index_bits`, `index_bytes` of them set."""

    __slots__ = (
        "base",
        "displacement",
        "index",
        "index_bits",
        "index_bytes",
        "indices",
        "narrow",
        "scale",
        "segment",
    )

    def __init__(self) -> None:
        self.base = self.index = self.indices = -1
        self.index_bits = self.index_bytes = 0
        self.scale = self.displacement = 0
        self.narrow = self.segment = False

    def at(self, state: r.CpuState, rng: random.Random) -> None:
        """Change the state so that the address is a random place."""
        if self.segment:
            state.gs_base = rng.randrange(0x8000)
        if self.base < 0:
            return
        if self.indices >= 0:
            mask, size = (1 << self.index_bits) - 1, self.index_bits // 8
            near = (rng.randrange(-64, 64) & mask for _ in range(self.index_bytes // size))
            lanes = b"".join(lane.to_bytes(size, "little") for lane in near)
            state.set_vector(self.indices, lanes.ljust(VECTOR_BYTES, b"\0"))
        target = place(rng)
        if not self.narrow and rng.random() < 0.04:
            target = rng.choice((1 << 63, 0x8000 << 44, _U64 - 15, 0x1234 << 48)) + rng.randrange(1 << 16)
        rest = target - self.displacement - (state.gs_base if self.segment else 0)
        if self.index >= 0:
            rest -= state.slots[self.index] * self.scale
        if self.narrow:
            rest = rest & 0xFFFFFFFF | rng.getrandbits(32) << 32
        state.slots[self.base] = rest & _U64


def random_operands(rng: random.Random, raw: Instruction, info: OpCodeInfo) -> Aim | None:
    """Fill in random operands; returns how to aim the memory operand, None if an operand is of a kind that is
    not made here."""
    narrow = rng.random() < 0.1
    evex = info.encoding == EncodingKind.EVEX
    memory = False
    gathers: tuple[int, int] | None = None
    for n in range(info.op_count):
        kind = info.op_kind(n)
        if (kind in _OR_MEMORY and rng.random() < 0.5) or kind in (_K.MEM, _K.MEM_OFFS):
            raw.set_op_kind(n, OpKind.MEMORY)
            memory = True
        elif kind in _GATHERS:
            raw.set_op_kind(n, OpKind.MEMORY)
            gathers = _GATHERS[kind]
        elif kind in _REGISTER_KINDS:
            first, count = _REGISTER_KINDS[kind]
            if evex and first in _VECTORS:
                count = r.VECTORS
            raw.set_op_kind(n, OpKind.REGISTER)
            setattr(raw, f"op{n}_register", first + rng.randrange(count))
        elif kind in _IMMEDIATES:
            immediate, bits = _IMMEDIATES[kind]
            first8 = n == 0 or raw.op_kind(n - 1) != OpKind.IMMEDIATE8
            if (
                immediate == OpKind.IMMEDIATE8
                and n
                and raw.op_kind(n - 1) in (OpKind.IMMEDIATE8, OpKind.IMMEDIATE16)
            ):
                immediate = OpKind.IMMEDIATE8_2ND
            raw.set_op_kind(n, immediate)
            value = _immediate(rng, bits)
            if immediate == OpKind.IMMEDIATE8_2ND:
                raw.immediate8_2nd = value & 255
            elif first8:
                raw.set_immediate_i64(n, value) if immediate != OpKind.IMMEDIATE64 else raw.set_immediate_u64(
                    n, value & _U64
                )
        elif kind in _STRINGS:
            raw.set_op_kind(n, _STRINGS[kind][narrow])
        elif kind in _BRANCHES:
            raw.set_op_kind(n, OpKind.NEAR_BRANCH64)
            raw.near_branch64 = AT + rng.randrange(-100, 100)
        else:
            return None
    aim = Aim()
    if gathers is not None:
        _vector_address(rng, raw, aim, narrow, *gathers, wide=evex)
    if memory:
        if any(info.op_kind(n) == _K.MEM_OFFS for n in range(info.op_count)):
            raw.memory_displacement, raw.memory_displ_size = place(rng), 8
        else:
            _address(rng, raw, aim, narrow)
    if evex:
        _decorate(rng, raw, info, memory or gathers is not None)
    if info.can_use_lock_prefix and raw.op0_kind == OpKind.MEMORY and rng.random() < 0.5:
        raw.has_lock_prefix = True
    if info.can_use_rep_prefix and rng.random() < 0.7:
        if info.can_use_repne_prefix and rng.random() < 0.5:
            raw.has_repne_prefix = True
        else:
            raw.has_rep_prefix = True
    return aim


def _decorate(rng: random.Random, raw: Instruction, info: OpCodeInfo, memory: bool) -> None:
    """Masks, zeroing, broadcasts and rounding, where the encoding has them."""
    if info.can_use_op_mask_register and (info.require_op_mask_register or rng.random() < 0.6):
        masks: Numbered = Register.K0
        raw.op_mask = masks + rng.randrange(1, 8)
        stores = raw.op0_kind == OpKind.MEMORY
        raw.zeroing_masking = info.can_use_zeroing_masking and not stores and rng.random() < 0.5
    if memory:
        raw.is_broadcast = info.can_broadcast and rng.random() < 0.4
    elif info.can_use_rounding_control and rng.random() < 0.4:
        raw.rounding_control = rng.choice(_ROUNDINGS)
    elif info.can_suppress_all_exceptions and rng.random() < 0.4:
        raw.suppress_all_exceptions = True


def _immediate(rng: random.Random, bits: int) -> int:
    if bits == 0:
        return 1
    value = random_integer(rng) & (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def _vector_address(
    rng: random.Random, raw: Instruction, aim: Aim, narrow: bool, first: int, bits: int, wide: bool
) -> None:
    """A base register, and a vector of indices that do not lead far away from where it points to."""
    base, index = rng.choice([n for n in range(16) if n != r.RSP]), rng.randrange(r.VECTORS if wide else 16)
    registers: Numbered = Register.EAX if narrow else Register.RAX
    vectors: Numbered = first
    raw.memory_base, raw.memory_index = registers + base, vectors + index
    raw.memory_index_scale = rng.choice((1, 2, 4, 8))
    disp = rng.choice((0, rng.randrange(-128, 128), rng.randrange(-(1 << 31), 1 << 31)))
    raw.memory_displacement = disp & (0xFFFFFFFF if narrow else _U64)
    raw.memory_displ_size = 1 if -128 <= disp < 128 else 4 if narrow else 8
    aim.base, aim.displacement, aim.narrow = base, disp, narrow
    aim.indices, aim.index_bits, aim.index_bytes = index, bits, VECTOR_BYTES if wide else 32


def _address(rng: random.Random, raw: Instruction, aim: Aim, narrow: bool) -> None:
    """Choose a form of address; which registers to change so that it comes out at a place, is put into
    `aim`."""
    first: Numbered = Register.EAX if narrow else Register.RAX
    if rng.random() < 0.1:
        raw.segment_prefix = Register.GS
        aim.segment = True
    form = rng.random()
    if form < 0.2:
        if form < 0.1:
            raw.memory_base = Register.RIP
        raw.memory_displacement = place(rng) - (0x4000 if aim.segment else 0)
        raw.memory_displ_size = 4 if narrow and form >= 0.1 else 8
        return
    disp = rng.choice(
        (0, 0, rng.randrange(-128, 128), rng.randrange(-128, 128), rng.randrange(-(1 << 31), 1 << 31))
    )
    base, index = rng.sample(range(16), 2)
    if form > 0.6 and index != r.RSP:
        raw.memory_index, raw.memory_index_scale = first + index, rng.choice((1, 2, 4, 8))
        aim.index, aim.scale = index, raw.memory_index_scale
    raw.memory_base = first + base
    raw.memory_displacement = disp & (0xFFFFFFFF if narrow else _U64)
    raw.memory_displ_size = (
        0 if disp == 0 and base & 7 != r.RBP else 1 if -128 <= disp < 128 else 4 if narrow else 8
    )
    aim.base, aim.displacement, aim.narrow = base, disp, narrow
