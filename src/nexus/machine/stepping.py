"""What the flags TF and AC ask for at every instruction; imported only when a guest sets one of them.

With AC an access must be aligned to its size, vectors to 16 bytes at most, as on AMD's processors (the
manuals leave vectors open). The engines do not look: here the addresses are computed before the instruction
runs.
"""

from __future__ import annotations

from iced_x86 import EncodingKind, Instruction, InstructionInfoFactory, MemorySizeInfo, Mnemonic

from nexus.isa.x86.operands import GENERAL, SEGMENT_BASE
from nexus.isa.x86.registers import FLAG_ZF, CpuState

_U64 = (1 << 64) - 1
_INFO = InstructionInfoFactory()
_LARGEST = 16
# areas: the alignment of their fields; a far pointer's is that of its offset
_AREAS = {6: 4, 10: 8, 14: 2, 28: 4, 94: 2, 108: 4, 512: 4}
_UNALIGNED = frozenset((
    Mnemonic.MOVUPS, Mnemonic.MOVUPD, Mnemonic.MOVDQU, Mnemonic.LDDQU,
    Mnemonic.PCMPISTRI, Mnemonic.PCMPISTRM, Mnemonic.PCMPESTRI, Mnemonic.PCMPESTRM,
    Mnemonic.SHA1MSG1, Mnemonic.SHA1MSG2, Mnemonic.SHA1NEXTE, Mnemonic.SHA1RNDS4,
    Mnemonic.SHA256MSG1, Mnemonic.SHA256MSG2, Mnemonic.SHA256RNDS2,
))  # fmt: skip
"""Legacy instructions with 16-byte operands that need no alignment; at all others it is #GP without it."""


def misaligned(instruction: Instruction, state: CpuState) -> bool:
    """Whether an access of the instruction is one that AC forbids. Element accesses of gathers and masked
    moves are not looked at."""
    if instruction.is_string_instruction and _repeats(instruction) and not state.rcx:
        return False
    legacy = instruction.encoding == EncodingKind.LEGACY
    for used in _INFO.info(instruction).used_memory():
        size = MemorySizeInfo(used.memory_size).size
        if size == _LARGEST and legacy and instruction.mnemonic not in _UNALIGNED:
            continue
        alignment = _AREAS.get(size, min(size, _LARGEST))
        if used.vsib_size or not alignment or alignment & (alignment - 1):
            continue
        address = used.displacement + _register(used.base, state) + _register(used.index, state) * used.scale
        if used.segment in SEGMENT_BASE:
            address += state.slots[SEGMENT_BASE[used.segment]]
        if address % alignment:
            return True
    return False


def _register(register: int, state: CpuState) -> int:
    if register not in GENERAL:
        return 0
    slot, type, start = GENERAL[register]
    return state.slots[slot] >> start & type.mask


def _repeats(instruction: Instruction) -> bool:
    return instruction.has_rep_prefix or instruction.has_repne_prefix


class OneTurn:
    """Lets a repeated string instruction make one turn, after which TF traps: the count is one meanwhile."""

    def __init__(self, instruction: Instruction, state: CpuState) -> None:
        self._instruction = instruction
        self._mask = 0xFFFFFFFF if _narrow(instruction) else _U64
        count = state.rcx & self._mask
        self._left = count - 1 if instruction.is_string_instruction and _repeats(instruction) and count else 0
        if self._left:
            state.rcx = 1

    def finish(self, state: CpuState) -> None:
        """Put the count right, and the program counter back if there is more to do."""
        if not self._left:
            return
        if state.rip == self._instruction.ip:  # it faulted
            state.rcx = self._left + 1
            return
        state.rcx = self._left
        equal = bool(state.eflags & FLAG_ZF)
        compares = self._instruction.mnemonic in _COMPARING
        if not compares or equal == (not self._instruction.has_repne_prefix):
            state.rip = self._instruction.ip


_COMPARING = frozenset((
    Mnemonic.CMPSB, Mnemonic.CMPSW, Mnemonic.CMPSD, Mnemonic.CMPSQ,
    Mnemonic.SCASB, Mnemonic.SCASW, Mnemonic.SCASD, Mnemonic.SCASQ,
))  # fmt: skip


def _narrow(instruction: Instruction) -> bool:
    """Whether the count is ECX."""
    return any(
        used.base in GENERAL and GENERAL[used.base][1].bits == 32
        for used in _INFO.info(instruction).used_memory()
    )
