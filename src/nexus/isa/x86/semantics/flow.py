"""Control flow: jumps, calls, returns, loops."""

from __future__ import annotations

from iced_x86 import Code, Mnemonic, OpKind

from nexus.ir.types import I32, I64
from nexus.ir.values import Address
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics import far
from nexus.isa.x86.semantics.moves import CONDITIONS, push_value
from nexus.isa.x86.table import register, semantics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NEAR = (OpKind.NEAR_BRANCH64, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH16)


def _is_direct(i: Ins) -> bool:
    return i.raw.op0_kind in _NEAR


@semantics("JMP")
def jmp(i: Ins) -> None:
    if _is_direct(i):
        i.goto(i.raw.near_branch_target)
    elif i.raw.is_jmp_far_indirect:
        far.jump(i)
    else:
        i.jump(i.read(0))


@semantics("CALL")
def call(i: Ins) -> None:
    """The target is read before the return address is stored (call [rsp])."""
    if i.raw.is_call_far_indirect:
        far.call(i)
        return
    target = None if _is_direct(i) else i.read(0)
    push_value(i, i.const(I64, i.next))
    if target is None:
        i.goto(i.raw.near_branch_target)
    else:
        i.jump(target)


@semantics("RET")
def ret(i: Ins) -> None:
    rsp = i.get(r.RSP)
    target = i.block.load(I64, Address(rsp))
    i.block.put(r.RSP, rsp + (8 + (i.immediate(0) if i.count else 0)))
    i.jump(target)


def _jump_on(code: int) -> Callable[[Ins], None]:
    def jcc(i: Ins) -> None:
        i.branch(i.condition(code), i.raw.near_branch_target)

    return jcc


for _code, _name in enumerate(CONDITIONS):
    register(f"J{_name}", _jump_on(_code))


@semantics("JRCXZ", "JECXZ")
def jrcxz(i: Ins) -> None:
    """By address size, rcx or ecx."""
    type = I64 if i.raw.mnemonic == Mnemonic.JRCXZ else I32
    i.branch(i.get(r.RCX, type).eq(0), i.raw.near_branch_target)


_LOOPS_ON_ECX = (Code.LOOP_REL8_64_ECX, Code.LOOPE_REL8_64_ECX, Code.LOOPNE_REL8_64_ECX)


@semantics("LOOP", "LOOPE", "LOOPNE")
def loop(i: Ins) -> None:
    """Count rcx down without touching flags; LOOPE and LOOPNE also look at ZF."""
    type = I32 if i.raw.code in _LOOPS_ON_ECX else I64
    left = i.get(r.RCX, type) - 1
    i.set(r.RCX, left)
    again = left.ne(0)
    if i.raw.mnemonic == Mnemonic.LOOPE:
        again = again & i.condition(4)
    elif i.raw.mnemonic == Mnemonic.LOOPNE:
        again = again & i.condition(5)
    i.branch(again, i.raw.near_branch_target)
