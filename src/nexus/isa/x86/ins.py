"""`Ins`: one instruction while its IR is being built, with its operands as IR values.

Semantics functions get an `Ins` and use nothing of iced directly. The order inside one function is always
the same: read operands, compute, `write` (memory stores happen here), then flags; so nothing the guest can
see changes before the last access that can fault.
"""

from __future__ import annotations

from iced_x86 import EncodingKind, Instruction, OpKind, Register

from nexus.base.errors import Unsupported
from nexus.ir.state import Exit
from nexus.ir.types import I1, I8, I16, I32, I64, V128, Type
from nexus.ir.values import Address, Block, Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.operands import (
    GENERAL,
    IMMEDIATES,
    MASK,
    MEMORY_KINDS,
    MEMORY_TYPE,
    SEGMENT,
    SEGMENT_BASE,
    STRING_OPERANDS,
    VECTOR,
)

# condition codes 0, 2, 4, ...; the odd ones are their opposites
_CONDITIONS = ("o", "b", "e", "be", "s", "p", "l", "le")


class Ins:
    """`raw` is iced's instruction, `address` its guest address, `next` the one after it.

    `vex`: it is one of AVX or AVX-512, whose first operand is only written, and which clears the rest of a
    vector register that it writes. `evex`: it has what the encoding of AVX-512 has. `mask`: the slot of its
    mask register, 0 without one; `zeroing`: what the mask leaves out is cleared, not kept."""

    __slots__ = ("_address", "address", "block", "ended", "evex", "mask", "next", "raw", "vex", "zeroing")

    def __init__(self, raw: Instruction, block: Block) -> None:
        self.raw = raw
        self.block = block
        self.address: int = raw.ip
        self.next: int = raw.next_ip
        self.ended = False
        self.vex = raw.encoding != EncodingKind.LEGACY
        self.evex = raw.encoding == EncodingKind.EVEX
        self.mask = MASK[raw.op_mask] if self.evex and raw.op_mask else 0
        self.zeroing: bool = self.evex and raw.zeroing_masking
        self._address: Address | None = None

    # what the operands are -------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """Number of operands."""
        return int(self.raw.op_count)

    def is_memory(self, n: int) -> bool:
        return self.raw.op_kind(n) in MEMORY_KINDS

    def is_register(self, n: int) -> bool:
        return bool(self.raw.op_kind(n) == OpKind.REGISTER)

    def is_general(self, n: int) -> bool:
        return self.is_register(n) and self.raw.op_register(n) in GENERAL

    def is_vector(self, n: int) -> bool:
        return self.is_register(n) and self.raw.op_register(n) in VECTOR

    def is_mask(self, n: int) -> bool:
        return self.is_register(n) and self.raw.op_register(n) in MASK

    def is_immediate(self, n: int) -> bool:
        return self.raw.op_kind(n) in IMMEDIATES

    def type(self, n: int) -> Type:
        """The type of an operand as encoded: register width, memory size, or the immediate's extended
        width."""
        kind = self.raw.op_kind(n)
        if kind == OpKind.REGISTER:
            register = self.raw.op_register(n)
            if register in GENERAL:
                return GENERAL[register][1]
            if register in VECTOR:
                return VECTOR[register][1]
            if register in SEGMENT:
                return I16
            if register in MASK:
                return I64
        elif kind in MEMORY_KINDS:
            found = MEMORY_TYPE.get(self.raw.memory_size)
            if found is not None:
                return found
        elif kind in IMMEDIATES:
            return IMMEDIATES[kind]
        raise self.unsupported(f"operand {n}")

    def unsupported(self, what: str) -> Unsupported:
        return Unsupported(f"{what} of `{self.raw}`", f"{self.address:#x}", "src/nexus/isa/x86")

    def general(self, n: int) -> int:
        """Slot (0..15) of a general register operand."""
        return GENERAL[self.raw.op_register(n)][0]

    def vector(self, n: int) -> int:
        """Number of a vector register operand."""
        return VECTOR[self.raw.op_register(n)][0]

    def immediate(self, n: int) -> int:
        """An immediate operand, sign-extended by iced to its type and given as unsigned of that type."""
        return int(self.raw.immediate(n)) & IMMEDIATES[self.raw.op_kind(n)].mask

    # values ----------------------------------------------------------------------------------------

    def const(self, type: Type, number: int) -> Value:
        return self.block.const(type, number)

    def get(self, slot: int, type: Type = I64) -> Value:
        """The low part of a scalar slot."""
        return self.block.get(type, slot)

    def set(self, slot: int, value: Value) -> None:
        """Write a general register by the sub-register rules: 32 bits clear the upper half, 8 and 16 keep
        the rest."""
        if value.type is I8 or value.type is I16:
            value = self.block.emit(f"deposit.{value.type}", self.block.get(I64, slot), value)
        self.block.put(slot, value)

    def get_flag(self, slot: int) -> Value:
        """A flag that is kept as 0 or 1 (CF, OF, AF, DF) as i1."""
        return self.block.get(I1, slot)

    def set_flag(self, slot: int, value: Value | int) -> None:
        self.block.put(slot, self.block.const(I1, value) if isinstance(value, int) else value)

    def read(self, n: int, type: Type | None = None) -> Value:
        """Operand `n` as a value of its width; `type` overrides the width (low part of a register, size of
        a load)."""
        kind = self.raw.op_kind(n)
        if kind == OpKind.REGISTER:
            register = self.raw.op_register(n)
            if register in GENERAL:
                slot, width, start = GENERAL[register]
                if start:
                    return self.block.emit("extract.h8", self.block.get(I64, slot))
                return self.block.get(type or width, slot)
            if register in VECTOR:
                number, width = VECTOR[register]
                return self.block.get(type or width, number)
            if register in SEGMENT:
                return self.block.get(type or I16, SEGMENT[register])
            if register in MASK:
                return self.block.get(type or I64, MASK[register])
            raise self.unsupported(f"operand {n}")
        if kind in MEMORY_KINDS:
            return self.block.load(type or self.type(n), self.memory(n))
        if kind in IMMEDIATES:
            return self.block.const(type or IMMEDIATES[kind], self.immediate(n))
        raise self.unsupported(f"operand {n}")

    def read_modify(self, n: int) -> Value:
        """`read` of an operand that is written too: a fault counts as one of writing."""
        if self.is_memory(n):
            return self.block.load(self.type(n), self.memory(n), modify=True)
        return self.read(n)

    def write(self, n: int, value: Value) -> None:
        """Operand `n` := value. A memory operand is stored; above the value a vector register keeps what it
        has, or is cleared by an instruction of AVX; a mask register is cleared."""
        kind = self.raw.op_kind(n)
        if kind == OpKind.REGISTER:
            register = self.raw.op_register(n)
            if register in GENERAL:
                slot, _, start = GENERAL[register]
                if start:
                    value = self.block.emit("deposit.h8", self.block.get(I64, slot), value)
                    self.block.put(slot, value)
                else:
                    self.set(slot, value)
                return
            if register in VECTOR:
                self.set_vector(VECTOR[register][0], value)
                return
            if register in MASK:
                self.block.put(MASK[register], value)
                return
        elif kind in MEMORY_KINDS:
            self.block.store(self.memory(n), value)
            return
        raise self.unsupported(f"operand {n} as destination")

    def set_vector(self, number: int, value: Value) -> None:
        """Write a vector register; above the value it keeps what it has, or is cleared by an instruction of
        AVX."""
        self.block.put(number, value)
        if self.vex and value.type is not None:
            self.block.clear(number, value.type)

    # addresses -------------------------------------------------------------------------------------

    def memory(self, n: int = -1) -> Address:
        """The effective address of the memory operand (there is at most one explicit one), segment base
        included.

        `n` matters only for string instructions, which have two implicit ones.
        """
        if n >= 0:
            implicit = STRING_OPERANDS.get(self.raw.op_kind(n))
            if implicit is not None:
                slot, narrow, overridable = implicit
                base = self.get(slot, I32).zext(I64) if narrow else self.get(slot)
                return Address(self.segmented(base) if overridable else base)
        if self._address is None:
            self._address = self._effective(segment=True)
        return self._address

    def offset(self) -> Value:
        """The effective address without segment base, as LEA computes it."""
        return self.block.address(self._effective(segment=False))

    def is_narrow(self) -> bool:
        """Whether the memory operand has the 32-bit address size."""
        register = self.raw.memory_base or self.raw.memory_index
        if register == Register.RIP:
            return False
        if register == Register.EIP:
            return True
        return GENERAL[register][1] is I32 if register in GENERAL else bool(self.raw.memory_displ_size == 4)

    def base(self) -> Value | None:
        """The base register of the memory operand, if there is one."""
        register = self.raw.memory_base
        return self.get(GENERAL[register][0]) if register else None

    def based_on_rsp(self) -> bool:
        """Whether the memory operand's base is the stack pointer."""
        return self.raw.memory_base in (Register.RSP, Register.ESP)

    def flat(self, n: int = -1) -> Address:
        """`memory`, with index and displacement already added up: for rows that take a plain pointer."""
        where = self.memory(n)
        if where.index is not None or where.disp:
            where = Address(self.block.address(where))
        return where

    def segmented(self, base: Value) -> Value:
        """An offset plus the base of the segment that the instruction names (only FS and GS have one)."""
        slot = SEGMENT_BASE.get(self.raw.memory_segment)
        return base if slot is None else self.get(slot) + base

    def _effective(self, segment: bool) -> Address:
        raw = self.raw
        base, index, disp = raw.memory_base, raw.memory_index, raw.memory_displacement
        slot = SEGMENT_BASE.get(raw.memory_segment) if segment else None
        if base in (Register.RIP, Register.EIP):
            where = Address(self.const(I64, disp))
        elif self.is_narrow():
            where = Address(self._narrow_sum(base, index, raw.memory_index_scale, disp))
        else:
            signed = disp - (1 << 64) if disp >> 63 else disp
            where = Address(
                self.get(GENERAL[base][0]) if base else None,
                signed,
                self.get(GENERAL[index][0]) if index else None,
                raw.memory_index_scale.bit_length() - 1 if index else 0,
            )
            if where.base is None and not -(1 << 31) <= signed < 1 << 31:
                where.base, where.disp = self.const(I64, disp), 0
        if slot is not None:
            where.base = self.get(slot) if where.base is None else self.get(slot) + where.base
        return where

    def _narrow_sum(self, base: int, index: int, scale: int, disp: int) -> Value:
        """The 32-bit address size: everything modulo 2**32."""
        total: Value | None = self.get(GENERAL[base][0], I32) if base else None
        if index:
            part = self.get(GENERAL[index][0], I32) * scale
            total = part if total is None else total + part
        if total is None:
            return self.const(I64, disp & I32.mask)
        if disp:
            total = total + (disp & I32.mask)
        return total.zext(I64)

    # conditions, flags -----------------------------------------------------------------------------

    def condition(self, code: int) -> Value:
        """Condition code 0..15 (O NO B NB E NE BE A S NS P NP L NL LE G) as i1."""
        value = self.block.emit(f"cond.{_CONDITIONS[code >> 1]}")
        return value ^ 1 if code & 1 else value

    def flags(self, kind: str, *args: Value) -> None:
        """Emit row flags.<kind>.<type of the first operand>; only after the last access of the
        instruction."""
        self.block.emit(f"flags.{kind}.{args[0].type}", *args)

    def set_zero_flag(self, zero: Value) -> None:
        """ZF := the i1; CF, OF, SF, PF and AF stay as they are."""
        self.block.emit("flags.zero", zero)

    # ends ------------------------------------------------------------------------------------------

    def goto(self, target: int) -> None:
        self.block.goto(target)
        self.ended = True

    def branch(self, condition: Value, taken: int, otherwise: int | None = None) -> None:
        self.block.branch(condition, taken, self.next if otherwise is None else otherwise)
        self.ended = True

    def jump(self, target: Value) -> None:
        self.block.jump(target)
        self.ended = True

    def exit(self, kind: int, argument: int = 0, at: int | None = None) -> None:
        """Leave the engine; the guest continues at `at` (default: the next instruction)."""
        self.block.exit(kind, self.next if at is None else at, argument)
        self.ended = True

    def trap(self, kind: int, argument: int = 0) -> None:
        """Raise unconditionally: pc stays at this instruction."""
        self.exit(kind, argument, self.address)

    def require_aligned(self, where: Address, size: int) -> None:
        """#GP unless the address is a multiple of `size`."""
        low = self.block.address(where) & (size - 1)
        self.block.trap_if(low.ne(0), Exit.PRIVILEGED, GENERAL_PROTECTION)

    def helper(self, number: int) -> None:
        """Let the host do the instruction: entry `number` of isa/x86/helpers.py."""
        self.exit(Exit.HELPER, number)

    def checked_helper(self, number: int, operands: int = 0) -> None:
        """The same for one that may raise an exception; `operands` (8 bits) tell it what to work on."""
        length = self.next - self.address
        self.exit(Exit.HELPER, number | operands << 8 | length << 16)


# arguments of Exit.PRIVILEGED
PRIVILEGED_INSTRUCTION = 0  # an instruction for ring 0
GENERAL_PROTECTION = 1  # #GP for another reason: misaligned vector operand, non-canonical target

__all__ = [
    "GENERAL_PROTECTION",
    "I1",
    "I8",
    "I16",
    "I32",
    "I64",
    "PRIVILEGED_INSTRUCTION",
    "V128",
    "Address",
    "Exit",
    "Ins",
    "Value",
    "r",
]
