"""Moving data: mov and its extensions, lea, xchg, the stack, conditional moves, sign extension of the
accumulator."""

from __future__ import annotations

from iced_x86 import Code

from nexus.ir.state import Exit
from nexus.ir.types import I8, I16, I32, I64, Type
from nexus.ir.values import Address, Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import GENERAL_PROTECTION, PRIVILEGED_INSTRUCTION, Ins
from nexus.isa.x86.operands import SEGMENT
from nexus.isa.x86.table import register, semantics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# iced's names of the condition codes 0..15
CONDITIONS = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")
FLAT_SELECTORS = (0x2B, 0x33, 0x53)  # user data, user code (readable), and Windows' 32-bit TEB segment


_FROM_SEGMENT = (Code.MOV_RM16_SREG, Code.MOV_R32M16_SREG, Code.MOV_R64M16_SREG)
_TO_SEGMENT = (Code.MOV_SREG_RM16, Code.MOV_SREG_R32M16, Code.MOV_SREG_R64M16)
_RING_0 = (Code.MOV_R64_CR, Code.MOV_CR_R64, Code.MOV_R64_DR, Code.MOV_DR_R64)
_SPECIAL = frozenset((*_FROM_SEGMENT, *_TO_SEGMENT, *_RING_0))


@semantics("MOV")
def mov(i: Ins) -> None:
    """General registers, memory, immediates; segment registers; control and debug registers are ring 0's."""
    if i.raw.code not in _SPECIAL:
        i.write(0, i.read(1))
    elif i.raw.code in _FROM_SEGMENT:
        selector = i.read(1)
        i.write(0, selector if i.is_memory(0) else selector.zext(i.type(0)))
    elif i.raw.code in _TO_SEGMENT:
        load_segment(i)
    else:
        i.trap(Exit.PRIVILEGED, PRIVILEGED_INSTRUCTION)


def load_segment(i: Ins) -> None:
    """Accept the selectors a 64-bit process has (and null, except for SS); anything else is #GP.

    Bases stay: in 64-bit mode those of ds, es and ss do not count, and the system puts fs and gs back itself.
    """
    slot = SEGMENT[i.raw.op0_register]
    value = i.read(1, I16)
    check_selector(i, slot, value)
    i.block.put(slot, value)


def check_selector(i: Ins, slot: int, value: Value) -> None:
    """#GP for a selector (i16) that the segment register cannot take."""
    wild = value.ne(FLAT_SELECTORS[0])
    if slot != r.SS:
        for other in FLAT_SELECTORS[1:]:
            wild = wild & value.ne(other)
        wild = wild & (value & 0xFFFC).ne(0)
    i.block.trap_if(wild, Exit.PRIVILEGED, GENERAL_PROTECTION)


@semantics("MOVZX")
def movzx(i: Ins) -> None:
    i.write(0, i.read(1).zext(i.type(0)))


@semantics("MOVSX", "MOVSXD")
def movsx(i: Ins) -> None:
    i.write(0, i.read(1).sext(i.type(0)))


@semantics("LEA")
def lea(i: Ins) -> None:
    i.write(0, i.offset().trunc(i.type(0)))


@semantics("XCHG")
def xchg(i: Ins) -> None:
    """With memory it is locked by itself."""
    if i.count == 0:  # 48 90: xchg rax,rax
        return
    memory = 0 if i.is_memory(0) else 1 if i.is_memory(1) else None
    if memory is None:
        first, second = i.read(0), i.read(1)
        i.write(0, second)
        i.write(1, first)
        return
    other = 1 - memory
    value = i.read(other)
    i.write(other, atomic(i, "xchg", value))


def atomic(i: Ins, kind: str, *values: Value) -> Value:
    """Emit an atomic row on the memory operand; the result is the old content."""
    where = i.flat()
    base = where.base
    assert base is not None
    return i.block.emit(f"atomic.{kind}.{values[0].type}", base, *values)


@semantics("MOVBE")
def movbe(i: Ins) -> None:
    value = i.read(1)
    i.write(0, i.block.emit(f"bswap.{value.type}", value))


@semantics("BSWAP")
def bswap(i: Ins) -> None:
    """On 16 bits the manual leaves the result open; processors clear the register."""
    value = i.read(0)
    i.write(0, i.const(I16, 0) if value.type is I16 else i.block.emit(f"bswap.{value.type}", value))


# accumulator sign extension ----------------------------------------------------------------------------


def _widen(name: str, narrow: Type, wide: Type) -> None:
    def extend(i: Ins) -> None:
        i.set(r.RAX, i.get(r.RAX, narrow).sext(wide))

    register(name, extend)


def _sign(name: str, type: Type) -> None:
    def spread(i: Ins) -> None:
        i.set(r.RDX, i.get(r.RAX, type).sar(type.bits - 1))

    register(name, spread)


for _name, _narrow, _wide in (("CBW", I8, I16), ("CWDE", I16, I32), ("CDQE", I32, I64)):
    _widen(_name, _narrow, _wide)
for _name, _type in (("CWD", I16), ("CDQ", I32), ("CQO", I64)):
    _sign(_name, _type)


# stack -------------------------------------------------------------------------------------------------


def push_value(i: Ins, value: Value) -> None:
    """Store below rsp, then move it; the width is the value's."""
    assert value.type is not None
    rsp = i.get(r.RSP)
    size = value.type.bits // 8
    i.block.store(Address(rsp, -size), value)
    i.block.put(r.RSP, rsp - size)


@semantics("PUSH")
def push(i: Ins) -> None:
    """A segment register is pushed as 8 bytes (2 with an operand size prefix); an immediate sign-extended."""
    if i.is_register(0) and i.raw.op0_register in SEGMENT:
        push_value(i, i.read(0).zext(I64 if i.raw.stack_pointer_increment == -8 else I16))
    else:
        push_value(i, i.read(0))


@semantics("POP")
def pop(i: Ins) -> None:
    """A memory destination based on rsp uses the value after the increment."""
    rsp = i.get(r.RSP)
    if i.is_register(0) and i.raw.op0_register in SEGMENT:
        size = i.raw.stack_pointer_increment
        value = i.block.load(I16, Address(rsp))
        slot = SEGMENT[i.raw.op0_register]
        check_selector(i, slot, value)
        i.block.put(r.RSP, rsp + size)
        i.block.put(slot, value)
        return
    type = i.type(0)
    value = i.block.load(type, Address(rsp))
    after = rsp + type.bits // 8
    if i.is_memory(0):
        where = i.memory(0)
        if i.based_on_rsp():
            where = where.plus(type.bits // 8)
        i.block.store(where, value)
        i.block.put(r.RSP, after)
    else:
        i.block.put(r.RSP, after)  # pop rsp: the loaded value wins
        i.write(0, value)


@semantics("ENTER")
def enter(i: Ins) -> None:
    """A frame of immediate 0 bytes; nesting levels copy the outer frame pointers.

    As on hardware the new stack top has to be writable. Unlike hardware, nothing is stored if it is not, or
    if an outer frame cannot be read; outer frames that overlap the new one are refused.
    """
    size, level = i.immediate(0), i.immediate(1) & 31
    operand = I16 if i.raw.code == Code.ENTERW_IMM16_IMM8 else I64
    step = operand.bits // 8
    rsp, rbp = i.get(r.RSP), i.get(r.RBP)
    frame = rsp - step
    last = frame - (step * level + size)
    if level > 1:
        overlap = (rbp - rsp + (step * (level + 1) - 1)).ult(step * 2 * level - 1)
        i.block.trap_if(overlap, Exit.UNIMPLEMENTED)
    pushed = [i.block.load(operand, Address(rbp, -step * n)) for n in range(1, level)]
    if level:
        pushed.append(frame.trunc(operand))
    i.block.load(operand, Address(last), modify=True)
    for n, value in enumerate([rbp.trunc(operand), *pushed], 1):
        i.block.store(Address(rsp, -step * n), value)
    i.block.put(r.RSP, last)
    i.set(r.RBP, frame.trunc(operand))


@semantics("LEAVE")
def leave(i: Ins) -> None:
    operand = I16 if i.raw.code == Code.LEAVEW else I64
    rbp = i.get(r.RBP)
    value = i.block.load(operand, Address(rbp))
    i.block.put(r.RSP, rbp + operand.bits // 8)
    i.set(r.RBP, value)


# conditional moves -------------------------------------------------------------------------------------


def _conditional(code: int) -> tuple[Callable[[Ins], None], Callable[[Ins], None]]:
    def cmov(i: Ins) -> None:
        """The source is always read; a 32-bit destination is zero-extended either way."""
        value = i.read(1)
        i.write(0, i.condition(code).select(value, i.read(0)))

    def set_byte(i: Ins) -> None:
        i.write(0, i.condition(code).zext(I8))

    return cmov, set_byte


for _code, _name in enumerate(CONDITIONS):
    _cmov, _set = _conditional(_code)
    register(f"CMOV{_name}", _cmov)
    register(f"SET{_name}", _set)
