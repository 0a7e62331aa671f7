"""Far transfers and far pointers, as far as a 64-bit user program can make them.

It can stay in its own code segment, 0x33, or go to the one of 32-bit programs, 0x23, which needs a 32-bit
engine and stops as unimplemented; every other selector is #GP.
"""

from __future__ import annotations

from iced_x86 import Code, Mnemonic

from nexus.ir.state import Exit
from nexus.ir.types import I16, I32, I64, Type
from nexus.ir.values import Address, Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import GENERAL_PROTECTION, Ins
from nexus.isa.x86.semantics.moves import check_selector
from nexus.isa.x86.semantics.system import USER_FLAGS, merge_flags
from nexus.isa.x86.table import semantics

CODE_64, CODE_32 = 0x33, 0x23
STACKS = (0x2B, 0x53)  # selectors that SS can have: data with RPL 3

# iced's encoding -> operand size
_SIZES = {
    **dict.fromkeys((Code.JMP_M1616, Code.CALL_M1616, Code.RETFW, Code.RETFW_IMM16, Code.IRETW), I16),
    **dict.fromkeys((Code.JMP_M1632, Code.CALL_M1632, Code.RETFD, Code.RETFD_IMM16, Code.IRETD), I32),
    **dict.fromkeys((Code.JMP_M1664, Code.CALL_M1664, Code.RETFQ, Code.RETFQ_IMM16, Code.IRETQ), I64),
}


def size_of(i: Ins) -> Type:
    """The operand size of a far transfer."""
    return _SIZES[i.raw.code]


def _enter_code(i: Ins, selector: Value, any_rpl: bool) -> None:
    """#GP unless the selector (i16) is that of a code segment of ours; the 32-bit one stops."""
    mask = 0xFFFC if any_rpl else 0xFFFF
    drop = 3 if any_rpl else 0
    wide = (selector & mask).ne(CODE_64 & ~drop)
    i.block.trap_if(wide & (selector & mask).ne(CODE_32 & ~drop), Exit.PRIVILEGED, GENERAL_PROTECTION)
    i.block.trap_if(wide, Exit.UNIMPLEMENTED)


def _canonical(i: Ins, target: Value) -> None:
    """#GP for a target that is no address, before anything is done."""
    i.block.trap_if(target.ne((target << 16).sar(16)), Exit.PRIVILEGED, GENERAL_PROTECTION)


def _pointer(i: Ins, type: Type) -> tuple[Value, Value]:
    """The far pointer that operand 0 is in memory: offset (as i64) and selector."""
    where = i.memory()
    offset = i.block.load(type, where).zext(I64)
    return offset, i.block.load(I16, where.plus(type.bits // 8))


def jump(i: Ins) -> None:
    """JMP through a far pointer."""
    target, selector = _pointer(i, size_of(i))
    _enter_code(i, selector, any_rpl=True)
    i.jump(target)


def call(i: Ins) -> None:
    """CALL through a far pointer: CS and the return address are pushed at the operand size."""
    type = size_of(i)
    target, selector = _pointer(i, type)
    _enter_code(i, selector, any_rpl=True)
    step = type.bits // 8
    rsp = i.get(r.RSP)
    i.block.store(Address(rsp, -step), i.const(type, CODE_64))
    i.block.store(Address(rsp, -2 * step), i.const(type, i.next))
    i.block.put(r.RSP, rsp - 2 * step)
    i.jump(target)


@semantics("RETF")
def retf(i: Ins) -> None:
    type = size_of(i)
    step, rsp = type.bits // 8, i.get(r.RSP)
    selector = i.block.load(type, Address(rsp, step)).resize(I16)  # first, as on AMD's processors
    target = i.block.load(type, Address(rsp)).zext(I64)
    _enter_code(i, selector, any_rpl=False)
    _canonical(i, target)
    i.block.put(r.RSP, rsp + (2 * step + (i.immediate(0) if i.count else 0)))
    i.jump(target)


@semantics("IRET", "IRETD", "IRETQ")
def iret(i: Ins) -> None:
    """A return within ring 3: five words from the stack. #GP with NT set, as in long mode."""
    type = size_of(i)
    step, rsp = type.bits // 8, i.get(r.RSP)
    words = [i.block.load(type, Address(rsp, n * step)) for n in range(5)]
    target, flags, stack = words[0].zext(I64), words[2].zext(I64), words[3].zext(I64)
    cs, ss = words[1].resize(I16), words[4].resize(I16)
    nested = (i.get(r.EFLAGS) & r.FLAG_NT).ne(0)
    no_stack = ss.ne(STACKS[0]) & ss.ne(STACKS[1])
    i.block.trap_if(nested | no_stack, Exit.PRIVILEGED, GENERAL_PROTECTION)
    _enter_code(i, cs, any_rpl=False)
    _canonical(i, target)
    changeable = USER_FLAGS | (r.FLAG_RF if type is not I16 else 0)
    merged = merge_flags(i, flags, changeable & type.mask)
    i.block.put(r.RSP, stack)
    i.block.put(r.SS, ss)
    i.block.emit("flags.from.word", merged)
    i.jump(target)


@semantics("LSS", "LFS", "LGS")
def load_far_pointer(i: Ins) -> None:
    """A general register and a segment register from memory."""
    where, type = i.memory(), i.type(0)
    offset = i.block.load(type, where)
    selector = i.block.load(I16, where.plus(type.bits // 8))
    slot = {Mnemonic.LSS: r.SS, Mnemonic.LFS: r.FS, Mnemonic.LGS: r.GS}[i.raw.mnemonic]
    check_selector(i, slot, selector)
    i.write(0, offset)
    i.block.put(slot, selector)
