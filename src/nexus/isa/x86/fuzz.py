"""Random single-instruction cases, made from iced's description of the operands of each encoding.

A case is an instruction with a whole register state and patches to a stretch of memory that every engine
has at the same guest addresses; most of its accesses hit that memory, some cross its end, some are
non-canonical. What the result must be is not in it: an engine is compared with another one, or with the
host (`native.py`).
"""

from __future__ import annotations

import random

from iced_x86 import (
    Code,
    Decoder,
    Encoder,
    EncodingKind,
    Instruction,
    InstructionInfoFactory,
    MemorySizeInfo,
    Mnemonic,
    OpCodeInfo,
    OpCodeOperandKind,
    OpKind,
    Register,
    RflagsBits,
)

from nexus.ir.ops.vector import signed, split
from nexus.isa.x86 import registers as r
from nexus.isa.x86.fuzz_state import AT, MEMORY, MEMORY_SIZE, place, random_integer, random_state
from nexus.isa.x86.operands import GENERAL, SEGMENT_BASE, VECTOR
from nexus.isa.x86.table import SEMANTICS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any as Numbered  # a number of one of iced's enums, which its stubs call classes

BARRED = 0x40000  # nothing is mapped from the end of that memory to here
CODE = AT - 0x1000  # branches stay within CODE .. CODE + 0x2000
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


def common_memory(seed: int = 0) -> bytes:
    """The memory before a case, without its patches: random bytes with runs of zeros and ones in between."""
    rng = random.Random(seed)
    out = bytearray(rng.randbytes(MEMORY_SIZE))
    for at in range(0, MEMORY_SIZE, 512):
        out[at : at + 64] = rng.choice((b"\0", b"\xff", b"a")) * 64
    return bytes(out)


# which instructions ------------------------------------------------------------------------------------

# They reach the system, the clock or the host's own FS; single-stepping and ports need other tests as well.
NOT_COMPARABLE = frozenset((
    "SYSCALL", "INT", "INT1", "INT3", "CPUID", "RDTSC", "RDTSCP", "XGETBV", "POPF", "POPFQ", "IRETQ",
    "RDFSBASE", "WRFSBASE", "WRGSBASE", "RDGSBASE", "SYSENTER", "SYSEXIT", "SYSEXITQ", "UD0", "UD1",
    "IN", "OUT", "INSB", "INSW", "INSD", "OUTSB", "OUTSW", "OUTSD", "CLI", "STI", "HLT", "RDSSPD",
    "RDSSPQ", "LAR", "LSL", "VERR", "VERW", "SGDT", "SIDT", "SLDT", "SMSW", "STR",
    "RESERVEDNOP", "ENDBR32", "CLDEMOTE", "PREFETCHWT1",
    # images with fields that differ by processor: instruction pointers, the mask of MXCSR
    "FXSAVE", "FXSAVE64", "FNSTENV", "FNSAVE",
    # some processors switch to MMX even if it faults
    "MASKMOVQ",
))  # fmt: skip
_CODES: dict[int, list[Numbered]] = {}


def names() -> dict[int, str]:
    """iced's mnemonic numbers -> names."""
    return {value: name for name, value in vars(Mnemonic).items() if isinstance(value, int)}


def codes_of(mnemonic: int) -> list[Numbered]:
    """The encodings of a mnemonic that exist in 64-bit user mode: legacy and VEX."""
    if not _CODES:
        values: dict[str, Numbered] = vars(Code)
        for name, code in values.items():
            if not name.isupper():
                continue
            info = OpCodeInfo(code)
            known = info.encoding in (EncodingKind.LEGACY, EncodingKind.VEX)
            if known and info.mode64 and info.cpl3 and info.is_instruction and info.intel_decoder64:
                _CODES.setdefault(info.mnemonic, []).append(code)
    return _CODES.get(mnemonic, [])


def groups() -> dict[str, list[int]]:
    """Module of `semantics/` -> mnemonics that can be compared."""
    out: dict[str, list[int]] = {}
    known = names()
    for mnemonic, function in SEMANTICS.items():
        if known[mnemonic] not in NOT_COMPARABLE:
            out.setdefault(function.__module__.rpartition(".")[2], []).append(mnemonic)
    return out


def random_cases(
    group: str, n: int, seed: int, usable: Callable[[Instruction], bool] = lambda i: True
) -> Iterator[Case]:
    """`n` cases, in turn over the mnemonics of a group (or of the one mnemonic that `group` names).

    `usable` may refuse instructions, for instance those that the host lacks. Same arguments, same cases.
    """
    found = groups()
    mnemonics = found[group] if group in found else [getattr(Mnemonic, group)]
    rng = random.Random(f"{group} {seed}")
    encodings = [code for mnemonic in mnemonics for code in codes_of(mnemonic)]
    made = 0
    while made < n and encodings:
        code = encodings[made % len(encodings)]
        case = _case(rng, code, usable)
        if case is None:
            encodings.remove(code)
        else:
            made += 1
            yield case


# instructions ------------------------------------------------------------------------------------------

_K = OpCodeOperandKind
_REGISTER_KINDS: dict[int, tuple[int, int]] = {}
"""operand kind -> (first register, how many)"""
for _kinds, _first, _count in (
    ("R8_REG R8_OPCODE R8_OR_MEM", Register.AL, 20),
    ("R16_REG R16_RM R16_OPCODE R16_OR_MEM R16_REG_MEM", Register.AX, 16),
    ("R32_REG R32_RM R32_OPCODE R32_OR_MEM R32_REG_MEM R32_VVVV", Register.EAX, 16),
    ("R64_REG R64_RM R64_OPCODE R64_OR_MEM R64_REG_MEM R64_VVVV", Register.RAX, 16),
    ("XMM_REG XMM_RM XMM_OR_MEM XMM_VVVV XMM_IS4", Register.XMM0, 16),
    ("YMM_REG YMM_RM YMM_OR_MEM YMM_VVVV YMM_IS4", Register.YMM0, 16),
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
# memory with a vector of indices: kind -> (first index register, bits of an index)
_VECTOR_INDEX = {
    _K.MEM_VSIB32X: (Register.XMM0, 32),
    _K.MEM_VSIB32Y: (Register.YMM0, 32),
    _K.MEM_VSIB64X: (Register.XMM0, 64),
    _K.MEM_VSIB64Y: (Register.YMM0, 64),
}
_BRANCHES = (_K.BR64_1, _K.BR64_4)
_BIT_STRINGS = (Mnemonic.BT, Mnemonic.BTS, Mnemonic.BTR, Mnemonic.BTC)
_TARGETS = (Mnemonic.CALL, Mnemonic.JMP, Mnemonic.RET)
_INFO = InstructionInfoFactory()


def _case(rng: random.Random, code: Numbered, usable: Callable[[Instruction], bool]) -> Case | None:
    """A case for one encoding, or None if it has operands that are not made here or cannot be used."""
    info = OpCodeInfo(code)
    for _ in range(40):
        state = random_state(rng)
        raw = Instruction()
        raw.code = code
        if not _operands(rng, raw, info, state):
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
        case = Case(data, decoded, state)
        if info.mnemonic in _TARGETS:
            _set_target(rng, case)
        if all(_within(access) for access in accesses(case)):
            return case
    return None


def _operands(rng: random.Random, raw: Instruction, info: OpCodeInfo, state: r.CpuState) -> bool:
    """Fill in random operands; memory is aimed at a random place by changing the registers that it uses."""
    narrow = rng.random() < 0.1
    memory = False
    for n in range(info.op_count):
        kind = info.op_kind(n)
        if (kind in _OR_MEMORY and rng.random() < 0.5) or kind in (_K.MEM, _K.MEM_OFFS):
            raw.set_op_kind(n, OpKind.MEMORY)
            memory = True
        elif kind in _REGISTER_KINDS:
            first, count = _REGISTER_KINDS[kind]
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
            if rng.random() < 0.2:
                state.set_gpr(r.RCX, state.rcx & 63)
        elif kind in _VECTOR_INDEX:
            raw.set_op_kind(n, OpKind.MEMORY)
            _aim_indices(rng, raw, state, *_VECTOR_INDEX[kind])
        elif kind in _BRANCHES:
            raw.set_op_kind(n, OpKind.NEAR_BRANCH64)
            raw.near_branch64 = AT + rng.randrange(-100, 100)
        else:
            return False
    if memory:
        if any(info.op_kind(n) == _K.MEM_OFFS for n in range(info.op_count)):
            raw.memory_displacement, raw.memory_displ_size = place(rng), 8
        else:
            _aim(rng, raw, state, narrow)
    if info.can_use_lock_prefix and raw.op0_kind == OpKind.MEMORY and rng.random() < 0.5:
        raw.has_lock_prefix = True
    if info.can_use_rep_prefix and rng.random() < 0.7:
        if info.can_use_repne_prefix and rng.random() < 0.5:
            raw.has_repne_prefix = True
        else:
            raw.has_rep_prefix = True
    return True


def _immediate(rng: random.Random, bits: int) -> int:
    if bits == 0:
        return 1
    value = random_integer(rng) & (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def _aim(rng: random.Random, raw: Instruction, state: r.CpuState, narrow: bool) -> None:
    """Choose a form of address, and registers and displacement so that it comes out at a random place."""
    target = place(rng)
    first: Numbered = Register.EAX if narrow else Register.RAX
    if not narrow and rng.random() < 0.04:
        target = rng.choice((1 << 63, 0x8000 << 44, _U64 - 15, 0x1234 << 48)) + rng.randrange(1 << 16) & _U64
    if rng.random() < 0.1:
        raw.segment_prefix = Register.GS
        state.gs_base = rng.randrange(0x8000)
        target = target - state.gs_base & _U64
    form = rng.random()
    if form < 0.1 and target < 1 << 31:
        raw.memory_base = Register.RIP
        raw.memory_displacement, raw.memory_displ_size = target, 8
        return
    if form < 0.2 and target < 1 << 31:
        raw.memory_displacement, raw.memory_displ_size = target, 4 if narrow else 8
        return
    disp = rng.choice(
        (0, 0, rng.randrange(-128, 128), rng.randrange(-128, 128), rng.randrange(-(1 << 31), 1 << 31))
    )
    base, index = rng.sample(range(16), 2)
    rest = target - disp
    if form > 0.6 and index != r.RSP:
        raw.memory_index, raw.memory_index_scale = first + index, rng.choice((1, 2, 4, 8))
        rest -= state.gpr(index) * raw.memory_index_scale
    raw.memory_base = first + base
    raw.memory_displacement = disp & (0xFFFFFFFF if narrow else _U64)
    raw.memory_displ_size = (
        0 if disp == 0 and base & 7 != r.RBP else 1 if -128 <= disp < 128 else 4 if narrow else 8
    )
    if narrow:
        rest = rest & 0xFFFFFFFF | rng.getrandbits(32) << 32
    state.set_gpr(base, rest & _U64)


def _aim_indices(rng: random.Random, raw: Instruction, state: r.CpuState, first: Numbered, bits: int) -> None:
    """A base register that points to a random place, and indices that do not lead far away from it."""
    base, index = rng.choice([n for n in range(16) if n != r.RSP]), rng.randrange(16)
    raw.memory_base, raw.memory_index = Register.RAX + base, first + index
    raw.memory_index_scale = rng.choice((1, 2, 4, 8))
    disp = rng.choice((0, rng.randrange(-128, 128), rng.randrange(-(1 << 31), 1 << 31)))
    raw.memory_displacement, raw.memory_displ_size = disp & _U64, 1 if -128 <= disp < 128 else 4
    state.set_gpr(base, place(rng) - disp & _U64)
    lanes = (rng.randrange(-64, 64) & (1 << bits) - 1 for _ in range(256 // bits))
    state.set_ymm(index, b"".join(lane.to_bytes(bits // 8, "little") for lane in lanes))


def _set_target(rng: random.Random, case: Case) -> None:
    """Indirect branches go somewhere into the code pages."""
    target = CODE + 0x100 + rng.randrange(0x1E00)
    raw = case.instruction
    if raw.op0_kind == OpKind.REGISTER and raw.op_count and raw.op0_register in GENERAL:
        case.state.set_gpr(GENERAL[raw.op0_register][0], target)
    places = [address for address, _ in accesses(case)]
    case.patches = [
        (at, target.to_bytes(8, "little")) for at in places if at >= MEMORY and at + 8 <= MEMORY + MEMORY_SIZE
    ]


def accesses(case: Case) -> list[tuple[int, int]]:
    """(address, size) of what the instruction reads or writes, as far as it can be known before."""
    raw, state = case.instruction, case.state
    out = []
    repeats = state.rcx if raw.has_rep_prefix or raw.has_repne_prefix else 1
    for used in _INFO.info(raw).used_memory():
        if used.vsib_size:
            out += _gathered(case, 8 * used.vsib_size, MemorySizeInfo(used.memory_size).element_size)
            continue
        narrow = used.base in range(Register.EAX, Register.R15D + 1) or used.index in range(
            Register.EAX, Register.R15D + 1
        )
        address = used.displacement + _register(used.base, state) + _register(used.index, state) * used.scale
        address &= 0xFFFFFFFF if narrow else _U64
        if used.segment in SEGMENT_BASE:
            address += state.slots[SEGMENT_BASE[used.segment]]
        size = MemorySizeInfo(used.memory_size).size or 64
        if raw.is_string_instruction:
            count = repeats & (0xFFFFFFFF if narrow else _U64)
            address -= count * size if state.df else 0
            size *= count + 1
        out.append((address & _U64, size))
    if raw.mnemonic in _BIT_STRINGS and raw.op0_kind == OpKind.MEMORY and raw.op1_kind == OpKind.REGISTER:
        slot, width, _ = GENERAL[raw.op1_register]
        offset = state.gpr(slot) & width.mask
        offset -= (offset >> width.bits - 1) << width.bits
        address, size = out[0]
        out[0] = (address + (offset >> {16: 4, 32: 5, 64: 6}[width.bits]) * size & _U64, size)
    return out


def _gathered(case: Case, bits: int, size: int) -> list[tuple[int, int]]:
    """The accesses of a gather with indices of so many bits: those of the lanes whose mask is negative."""
    raw, state = case.instruction, case.state
    number, type = VECTOR[raw.memory_index]
    indices = split(int.from_bytes(state.ymm(number), "little"), bits, type.bits)
    masks = split(int.from_bytes(state.ymm(VECTOR[raw.op2_register][0]), "little"), 8 * size, 256)
    base = raw.memory_displacement + _register(raw.memory_base, state)
    places = (base + signed(index, bits) * raw.memory_index_scale & _U64 for index in indices)
    return [(at, size) for at, mask in zip(places, masks, strict=False) if mask >> 8 * size - 1]


def _register(register: int, state: r.CpuState) -> int:
    if register not in GENERAL:
        return 0
    slot, type, start = GENERAL[register]
    return state.gpr(slot) >> start & type.mask


def _within(access: tuple[int, int]) -> bool:
    """Whether an access is one that both sides survive: to the memory, to what is barred, or not
    canonical."""
    address, size = access
    if address >= MEMORY and address + size <= BARRED:
        return True
    top = address >> 47
    return top not in (0, 0x1FFFF) and (address + size) >> 47 not in (0, 0x1FFFF)


# flags that the manual leaves undefined ----------------------------------------------------------------

_BITS = {
    RflagsBits.OF: r.FLAG_OF,
    RflagsBits.SF: r.FLAG_SF,
    RflagsBits.ZF: r.FLAG_ZF,
    RflagsBits.AF: r.FLAG_AF,
    RflagsBits.CF: r.FLAG_CF,
    RflagsBits.PF: r.FLAG_PF,
}
_SHIFTS = {Mnemonic.SHL, Mnemonic.SAL, Mnemonic.SHR, Mnemonic.SAR}
_ROTATES = {Mnemonic.ROL, Mnemonic.ROR, Mnemonic.RCL, Mnemonic.RCR}
_DOUBLES = {Mnemonic.SHLD, Mnemonic.SHRD}


def undefined_flags(case: Case) -> int:
    """The EFLAGS bits that mean nothing after the case; for shifts that depends on the count."""
    raw = case.instruction
    if raw.mnemonic in _SHIFTS | _ROTATES | _DOUBLES:
        last = raw.op_count - 1
        count = case.state.rcx if raw.op_kind(last) == OpKind.REGISTER else raw.immediate(last)
        bits = (
            MemorySizeInfo(raw.memory_size).size * 8
            if raw.op0_kind == OpKind.MEMORY
            else GENERAL[raw.op0_register][1].bits
        )
        count &= 63 if bits == 64 else 31
        if count == 0:
            return 0
        mask = r.FLAG_OF if count > 1 else 0
        if raw.mnemonic in _ROTATES:
            return mask
        mask |= r.FLAG_AF
        beyond = count >= bits if raw.mnemonic in _SHIFTS else count > bits
        if beyond and raw.mnemonic in _DOUBLES:
            return r.SPLIT_FLAGS & ~r.FLAG_DF
        if beyond and raw.mnemonic not in (Mnemonic.SAR,):
            mask |= r.FLAG_CF
        return mask
    mask = 0
    for bit, flag in _BITS.items():
        if raw.rflags_undefined & bit:
            mask |= flag
    return mask


__all__ = [
    "AT", "BARRED", "CODE", "MEMORY", "MEMORY_SIZE", "NOT_COMPARABLE", "Case",
    "accesses", "codes_of", "common_memory", "groups", "names", "random_cases", "undefined_flags",
]  # fmt: skip
