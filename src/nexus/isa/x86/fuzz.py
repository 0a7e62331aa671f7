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
    EncodingKind,
    Instruction,
    InstructionInfoFactory,
    MemorySizeInfo,
    Mnemonic,
    OpCodeInfo,
    OpKind,
    Register,
)

from nexus.ir.ops.vector import signed, split
from nexus.isa.x86 import features
from nexus.isa.x86 import registers as r
from nexus.isa.x86.fuzz_operands import CODE, Aim, random_operands
from nexus.isa.x86.fuzz_state import AT, MEMORY, MEMORY_SIZE, States, place
from nexus.isa.x86.operands import GENERAL, SEGMENT, SEGMENT_BASE, VECTOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any as Numbered  # a number of one of iced's enums, which its stubs call classes

    from iced_x86 import UsedMemory

BARRED = 0x40000  # nothing is mapped from the end of that memory to here
U64 = (1 << 64) - 1


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
    """An instruction with its operands: `code` at AT. `case` gives it a state; `wide`: with what only AVX-512
    has."""

    __slots__ = ("_aim", "_bits", "_lane", "_uses", "code", "instruction", "wide")

    def __init__(self, code: bytes, instruction: Instruction, aim: Aim) -> None:
        self.code = code
        self.instruction = instruction
        self.wide = is_wide(instruction)
        self._aim = aim
        memory = _INFO.info(instruction).used_memory()
        self._uses = [_use(used) for used in memory]
        gathers = [used for used in memory if used.vsib_size]
        # bits of an index and bytes of an element of a gather
        self._lane = (
            (8 * gathers[0].vsib_size, MemorySizeInfo(gathers[0].memory_size).element_size)
            if gathers
            else None
        )
        bits = instruction.mnemonic in _BIT_STRINGS and instruction.op0_kind == OpKind.MEMORY
        self._bits = bits and instruction.op1_kind == OpKind.REGISTER

    def case(self, states: States) -> Case | None:
        """The instruction on a random state in which every access is one that host and engines survive; None
        if that could not be had."""
        rng, raw = states.rng, self.instruction
        for _ in range(40):
            state = states.draw(self.wide)
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
        if self._lane is not None:
            return _gathered(raw, state, *self._lane)
        for base, index, scale, displacement, mask, segment, size in self._uses:
            address = displacement + _register(base, state) + _register(index, state) * scale
            address &= mask
            if segment >= 0:
                address += state.slots[segment]
            if raw.is_string_instruction:
                count = (state.rcx & mask) if raw.has_rep_prefix or raw.has_repne_prefix else 1
                address -= count * size if state.df else 0
                size *= count + 1
            out.append((address & U64, size))
        if self._bits:
            slot, width, _ = GENERAL[raw.op1_register]
            offset = state.gpr(slot) & width.mask
            offset -= (offset >> width.bits - 1) << width.bits
            address, size = out[0]
            out[0] = (address + (offset >> {16: 4, 32: 5, 64: 6}[width.bits]) * size & U64, size)
        return out


def _gathered(raw: Instruction, state: r.CpuState, bits: int, size: int) -> list[tuple[int, int]]:
    """The accesses of a gather or scatter with indices of so many bits: those of the lanes that the mask
    takes, in a vector or in a mask register."""
    number, type = VECTOR[raw.memory_index]
    indices = split(int.from_bytes(state.vector(number), "little") & type.mask, bits, type.bits)
    if raw.op_mask:
        lanes = VECTOR[raw.op1_register if raw.op0_kind == OpKind.MEMORY else raw.op0_register][1].bits
        taken = state.k(raw.op_mask - Register.K0)
        masks = [taken >> n & 1 for n in range(lanes // (8 * size))]
    else:
        mask_register = int.from_bytes(state.ymm(VECTOR[raw.op2_register][0]), "little")
        masks = [lane >> 8 * size - 1 for lane in split(mask_register, 8 * size, 256)]
    mask = 0xFFFFFFFF if raw.memory_base in _NARROW else U64
    base = raw.memory_displacement + _register(raw.memory_base, state)
    places = (base + signed(index, bits) * raw.memory_index_scale & mask for index in indices)
    return [(at, size) for at, chosen in zip(places, masks, strict=False) if chosen]


def is_wide(raw: Instruction) -> bool:
    """Whether an instruction has to do with what only AVX-512 has."""
    masks = range(Register.K0, Register.K0 + r.MASKS)
    return raw.encoding == EncodingKind.EVEX or any(raw.op_register(n) in masks for n in range(raw.op_count))


def _use(used: UsedMemory) -> tuple[int, int, int, int, int, int, int]:
    """Base, index, scale, displacement, mask of the address size, slot of the segment's base, size."""
    narrow = used.base in _NARROW or used.index in _NARROW
    return (
        used.base,
        used.index,
        used.scale,
        used.displacement,
        0xFFFFFFFF if narrow else U64,
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
    target = AT + 0x100 + rng.randrange(0xE00)
    raw = case.instruction
    if raw.is_jmp_far_indirect or raw.is_call_far_indirect:
        _prepare_far(rng, case)
        return
    if raw.op_count and raw.op0_kind == OpKind.REGISTER and raw.op0_register in GENERAL:
        case.state.set_gpr(GENERAL[raw.op0_register][0], target)
    places = [address for address, _ in reversed(accesses(case))]
    case.patches = [
        (at, target.to_bytes(8, "little")) for at in places if at >= MEMORY and at + 8 <= MEMORY + MEMORY_SIZE
    ]


def _prepare_far(rng: random.Random, case: Case) -> None:
    """Far transfers find a place in the code pages and, mostly, selectors that can be had."""
    raw = case.instruction
    target = (AT + 0x100 + rng.randrange(0xE00) | (rng.random() < 0.05) << 62).to_bytes(8, "little")
    cs, ss = (rng.choice((good,) * 6 + (0x28, 0x30, 0, 0x1233)) for good in (0x33, 0x2B))
    size = {Mnemonic.IRETD: 4, Mnemonic.IRET: 2}.get(raw.mnemonic, 8)
    if raw.mnemonic == Mnemonic.RETF:
        size = raw.stack_pointer_increment - (raw.immediate(0) if raw.op_count else 0) >> 1
    elif raw.mnemonic in (Mnemonic.JMP, Mnemonic.CALL):
        size = MemorySizeInfo(raw.memory_size).size - 2
    words = [target, cs.to_bytes(8, "little")]
    if raw.mnemonic in (Mnemonic.IRET, Mnemonic.IRETD, Mnemonic.IRETQ):
        flags = rng.getrandbits(32) & ~r.FLAG_TF
        words += [flags.to_bytes(8, "little"), place(rng).to_bytes(8, "little"), ss.to_bytes(8, "little")]
    image = b"".join(word[:size] for word in words).ljust(48, b"\0")
    at = accesses(case)[0][0]
    if MEMORY <= at <= MEMORY + MEMORY_SIZE - 48:
        case.patches = [(at + n, image[n : n + 8]) for n in range(0, 8 * -(-size * len(words) // 8), 8)]


def _prepare_selector(rng: random.Random, case: Case) -> None:
    """Moves to segment registers get selectors that exist on Windows and on Linux, and some that do not."""
    raw = case.instruction
    if raw.op_count == 2 and raw.op0_register in SEGMENT and raw.op1_register in GENERAL:
        case.state.set_gpr(GENERAL[raw.op1_register][0], rng.choice((0x2B, 0x2B, 0x33, 0, 3, 0x1233)))


def _prepare_line(rng: random.Random, case: Case) -> None:
    """CLZERO has its address in RAX."""
    case.state.rax = place(rng)


def _prepare_table(rng: random.Random, case: Case) -> None:
    """XLATB has its table in RBX."""
    case.state.rbx = place(rng)


PREPARE: dict[int, Callable[[random.Random, Case], None]] = {
    **dict.fromkeys((Mnemonic.CALL, Mnemonic.JMP, Mnemonic.RET), _prepare_target),
    **dict.fromkeys((Mnemonic.RETF, Mnemonic.IRET, Mnemonic.IRETD, Mnemonic.IRETQ), _prepare_far),
    Mnemonic.MOV: _prepare_selector,
    Mnemonic.CLZERO: _prepare_line,
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
        if not usable(decoded):
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
