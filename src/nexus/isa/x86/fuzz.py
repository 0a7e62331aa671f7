"""Random single-instruction cases, made from iced's description of the operands of each encoding.

A case is an instruction with a whole register state and patches to a stretch of memory that every engine
has at the same guest addresses; most of its accesses hit that memory, some cross its end, some are
non-canonical. What the result must be is not in it: an engine is compared with another one, or with the
host (`native.py`).
"""

from __future__ import annotations

import random

from iced_x86 import (
    Decoder,
    Encoder,
    Instruction,
    InstructionInfoFactory,
    MemorySizeInfo,
    Mnemonic,
    OpCodeInfo,
    OpKind,
    Register,
)

from nexus.isa.x86 import features
from nexus.isa.x86 import registers as r
from nexus.isa.x86.fuzz_operands import CODE, Aim, random_operands
from nexus.isa.x86.fuzz_state import AT, MEMORY, MEMORY_SIZE, States, place
from nexus.isa.x86.operands import GENERAL, SEGMENT_BASE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any as Numbered  # a number of one of iced's enums, which its stubs call classes

    from iced_x86 import UsedMemory

BARRED = 0x40000  # nothing is mapped from the end of that memory to here
_U64 = (1 << 64) - 1


class Case:
    """`code` at `address`, the state before it, and `patches` (address, bytes) on top of the common
    memory."""

    __slots__ = ("address", "code", "instruction", "patches", "state")

    def __init__(self, code: bytes, instruction: Instruction, state: r.CpuState) -> None:
        self.code = code
        self.address = AT
        self.instruction = instruction
        self.state = state
        self.patches: list[tuple[int, bytes]] = []

    def __repr__(self) -> str:
        return f"{self.code.hex()} {self.instruction}"


class Form:
    """An instruction with its operands: `code` at AT. `case` gives it a state."""

    __slots__ = ("_aim", "_bits", "_uses", "code", "instruction")

    def __init__(self, code: bytes, instruction: Instruction, aim: Aim) -> None:
        self.code = code
        self.instruction = instruction
        self._aim = aim
        self._uses = [_use(used) for used in _INFO.info(instruction).used_memory()]
        bits = instruction.mnemonic in _BIT_STRINGS and instruction.op0_kind == OpKind.MEMORY
        self._bits = bits and instruction.op1_kind == OpKind.REGISTER

    def case(self, states: States) -> Case | None:
        """The instruction on a random state in which every access is one that host and engines survive; None
        if that could not be had."""
        rng, raw = states.rng, self.instruction
        for _ in range(40):
            state = states.draw()
            if raw.is_string_instruction and rng.random() < 0.2:
                state.rcx &= 63
            prepare = PREPARE.get(raw.mnemonic)
            case = Case(self.code, raw, state)
            self._aim.at(state, rng)
            if prepare is not None:
                prepare(rng, case)
            if all(within(access) for access in self.accesses(state)):
                return case
        return None

    def accesses(self, state: r.CpuState) -> list[tuple[int, int]]:
        """(address, size) of what the instruction reads or writes, as far as it can be known before."""
        raw = self.instruction
        out = []
        for base, index, scale, displacement, mask, segment, size in self._uses:
            address = displacement + _register(base, state) + _register(index, state) * scale
            address &= mask
            if segment >= 0:
                address += state.slots[segment]
            if raw.is_string_instruction:
                count = (state.rcx & mask) if raw.has_rep_prefix or raw.has_repne_prefix else 1
                address -= count * size if state.df else 0
                size *= count + 1
            out.append((address & _U64, size))
        if self._bits:
            slot, width, _ = GENERAL[raw.op1_register]
            offset = state.gpr(slot) & width.mask
            offset -= (offset >> width.bits - 1) << width.bits
            address, size = out[0]
            out[0] = (address + (offset >> {16: 4, 32: 5, 64: 6}[width.bits]) * size & _U64, size)
        return out


def _use(used: UsedMemory) -> tuple[int, int, int, int, int, int, int]:
    """Base, index, scale, displacement, mask of the address size, slot of the segment's base, size."""
    narrow = used.base in _NARROW or used.index in _NARROW
    return (
        used.base,
        used.index,
        used.scale,
        used.displacement,
        0xFFFFFFFF if narrow else _U64,
        SEGMENT_BASE.get(used.segment, -1),
        MemorySizeInfo(used.memory_size).size or 64,
    )


def common_memory(seed: int = 0) -> bytes:
    """The memory before a case, without its patches: random bytes with runs of zeros and ones in between."""
    rng = random.Random(seed)
    out = bytearray(rng.randbytes(MEMORY_SIZE))
    for at in range(0, MEMORY_SIZE, 512):
        out[at : at + 64] = rng.choice((b"\0", b"\xff", b"a")) * 64
    return bytes(out)


def random_forms(
    codes: Sequence[Numbered], rng: random.Random, usable: Callable[[Instruction], bool] = lambda i: True
) -> Iterator[Form]:
    """Instructions with random operands, in turn over the encodings, without end as long as one can be made.

    `usable` may refuse instructions, for instance those that the host lacks.
    """
    left = list(codes)
    rng.shuffle(left)
    at = 0
    while left:
        at %= len(left)
        form = _form(rng, left[at], usable)
        if form is None:
            del left[at]
        else:
            at += 1
            yield form


def random_cases(
    group: str, n: int, seed: int, usable: Callable[[Instruction], bool] = lambda i: True
) -> Iterator[Case]:
    """`n` cases of a group (`features.encodings`), each of another form. Same arguments, same cases."""
    rng = random.Random(f"{group} {seed}")
    states = States(rng)
    made = 0
    for form in random_forms(features.encodings(group), rng, usable):
        if made == n:
            break
        case = form.case(states)
        if case is not None:
            made += 1
            yield case


_BIT_STRINGS = (Mnemonic.BT, Mnemonic.BTS, Mnemonic.BTR, Mnemonic.BTC)
_INFO = InstructionInfoFactory()
_NARROW = range(Register.EAX, Register.R15D + 1)


# what a state needs besides random registers -----------------------------------------------------------


def _prepare_target(rng: random.Random, case: Case) -> None:
    """Indirect branches go somewhere into the code pages."""
    target = CODE + 0x100 + rng.randrange(0x1E00)
    raw = case.instruction
    if raw.op_count and raw.op0_kind == OpKind.REGISTER and raw.op0_register in GENERAL:
        case.state.set_gpr(GENERAL[raw.op0_register][0], target)
    places = [address for address, _ in accesses(case)]
    case.patches = [
        (at, target.to_bytes(8, "little")) for at in places if at >= MEMORY and at + 8 <= MEMORY + MEMORY_SIZE
    ]


def _prepare_table(rng: random.Random, case: Case) -> None:
    """XLATB has its table in RBX."""
    case.state.rbx = place(rng)


PREPARE: dict[int, Callable[[random.Random, Case], None]] = {
    **dict.fromkeys((Mnemonic.CALL, Mnemonic.JMP, Mnemonic.RET), _prepare_target),
    Mnemonic.XLATB: _prepare_table,
}


def _form(rng: random.Random, code: Numbered, usable: Callable[[Instruction], bool]) -> Form | None:
    """An instruction of one encoding, or None if it has operands that are not made here or cannot be used."""
    info = OpCodeInfo(code)
    for _ in range(40):
        raw = Instruction()
        raw.code = code
        aim = random_operands(rng, raw, info)
        if aim is None:
            return None
        encoder = Encoder(64)
        try:
            encoder.encode(raw, AT)
        except ValueError:  # registers that exclude each other (AH with R8)
            continue
        data = encoder.take_buffer()
        decoded = Decoder(64, data, ip=AT).decode()
        if decoded.code != code or AT <= decoded.near_branch_target < AT + len(data):
            continue
        if decoded.is_jmp_far_indirect or decoded.is_call_far_indirect or not usable(decoded):
            return None
        return Form(data, decoded, aim)
    return None


def accesses(case: Case) -> list[tuple[int, int]]:
    """(address, size) of what the instruction reads or writes, as far as it can be known before."""
    return Form(case.code, case.instruction, Aim()).accesses(case.state)


def _register(register: int, state: r.CpuState) -> int:
    if register not in GENERAL:
        return 0
    slot, type, start = GENERAL[register]
    return state.slots[slot] >> start & type.mask


def within(access: tuple[int, int]) -> bool:
    """Whether an access is one that both sides survive: to the memory, to what is barred, or not
    canonical."""
    address, size = access
    if address >= MEMORY and address + size <= BARRED:
        return True
    top = address >> 47
    return top not in (0, 0x1FFFF) and (address + size) >> 47 not in (0, 0x1FFFF)


__all__ = [
    "AT", "BARRED", "CODE", "MEMORY", "MEMORY_SIZE", "Case", "Form", "States",
    "accesses", "common_memory", "random_cases", "random_forms", "within",
]  # fmt: skip
