"""Integer arithmetic and logic: add to cmp, inc, dec, neg, not, multiplication, division,
exchange-and-add."""

from __future__ import annotations

from iced_x86 import Register

from nexus.ir.state import Exit
from nexus.ir.types import I8, I16, I32, I64, Type
from nexus.ir.values import Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.semantics.moves import atomic
from nexus.isa.x86.table import register, semantics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ACCUMULATORS = (Register.AL, Register.AX, Register.EAX, Register.RAX)


def carry_in(i: Ins, type: Type) -> Value:
    """CF as a value of the type."""
    return i.get_flag(r.CF).zext(type)


def update(i: Ins, kind: str, operand: Value, compute: Callable[[Value], Value]) -> tuple[Value, Value]:
    """Operand 0 := compute(operand 0), by row atomic.`kind` with `operand` when locked. Returns old and new
    value."""
    if i.raw.has_lock_prefix:
        old = atomic(i, kind, operand)
        return old, compute(old)
    old = i.read_modify(0)
    new = compute(old)
    i.write(0, new)
    return old, new


@semantics("ADD")
def add(i: Ins) -> None:
    b = i.read(1)
    i.flags("add", update(i, "add", b, lambda a: a + b)[0], b)


@semantics("SUB")
def sub(i: Ins) -> None:
    b = i.read(1)
    i.flags("sub", update(i, "sub", b, lambda a: a - b)[0], b)


@semantics("ADC")
def adc(i: Ins) -> None:
    b = i.read(1)
    total = b + carry_in(i, i.type(0))
    i.flags("adc", update(i, "add", total, lambda a: a + total)[0], b)


@semantics("SBB")
def sbb(i: Ins) -> None:
    b = i.read(1)
    total = b + carry_in(i, i.type(0))
    i.flags("sbb", update(i, "sub", total, lambda a: a - total)[0], b)


@semantics("CMP")
def cmp(i: Ins) -> None:
    a = i.read(0)
    i.flags("sub", a, i.read(1))


@semantics("TEST")
def test(i: Ins) -> None:
    a = i.read(0)
    i.flags("logic", a & i.read(1))


@semantics("AND")
def and_(i: Ins) -> None:
    b = i.read(1)
    i.flags("logic", update(i, "and", b, lambda a: a & b)[1])


@semantics("OR")
def or_(i: Ins) -> None:
    b = i.read(1)
    i.flags("logic", update(i, "or", b, lambda a: a | b)[1])


@semantics("XOR")
def xor(i: Ins) -> None:
    if i.is_general(0) and i.is_general(1) and i.raw.op0_register == i.raw.op1_register:
        zero = i.const(i.type(0), 0)  # the idiom: no dependence on the register
        i.write(0, zero)
        i.flags("logic", zero)
        return
    b = i.read(1)
    i.flags("logic", update(i, "xor", b, lambda a: a ^ b)[1])


@semantics("INC")
def inc(i: Ins) -> None:
    i.flags("inc", update(i, "add", i.const(i.type(0), 1), lambda a: a + 1)[0])


@semantics("DEC")
def dec(i: Ins) -> None:
    i.flags("dec", update(i, "sub", i.const(i.type(0), 1), lambda a: a - 1)[0])


@semantics("NOT")
def not_(i: Ins) -> None:
    update(i, "xor", i.const(i.type(0), -1), lambda a: ~a)


@semantics("NEG")
def neg(i: Ins) -> None:
    """Locked: a compare-and-exchange that is tried again, from the same instruction, when another thread
    came between."""
    zero = i.const(i.type(0), 0)
    if not i.raw.has_lock_prefix:
        a = i.read_modify(0)
        i.write(0, zero - a)
        i.flags("sub", zero, a)
        return
    a = i.read_modify(0)
    seen = atomic(i, "cmpxchg", a, zero - a)
    i.flags("sub", zero, a)
    i.branch(seen.eq(a), i.next, i.address)


@semantics("XADD")
def xadd(i: Ins) -> None:
    b = i.read(1)
    if i.raw.has_lock_prefix:
        a = atomic(i, "add", b)
        i.write(1, a)
    elif i.is_memory(0):
        a = i.read_modify(0)
        i.write(0, a + b)
        i.write(1, a)
    else:
        a = i.read(0)
        total = a + b
        i.write(1, a)
        i.write(0, total)  # same register twice: the sum stays
    i.flags("add", a, b)


@semantics("CMPXCHG")
def cmpxchg(i: Ins) -> None:
    """Memory is written in any case, with its old value when unequal; a register then stays whole."""
    type = i.type(0)
    accumulator, new = i.get(r.RAX, type), i.read(1)
    if i.raw.has_lock_prefix:
        old = atomic(i, "cmpxchg", accumulator, new)
        equal = old.eq(accumulator)
    else:
        old = i.read_modify(0)
        equal = old.eq(accumulator)
        if i.is_general(0) and type is I32:
            i.block.put(i.general(0), equal.select(new.zext(I64), i.get(i.general(0))))
        else:
            i.write(0, equal.select(new, old))
    if i.is_memory(0) or i.raw.op0_register not in ACCUMULATORS:
        _keep_or_load(i, equal, old)
    i.flags("sub", accumulator, old)


def _keep_or_load(i: Ins, equal: Value, old: Value) -> None:
    """rAX := old when unequal. When equal all 64 bits stay, so a 32-bit form does not clear the upper half
    then."""
    if old.type is I32:
        i.set(r.RAX, equal.select(i.get(r.RAX), old.zext(I64)))
    else:
        i.set(r.RAX, old)


def _pair(i: Ins, low: Value, high: Value) -> Value:
    return i.block.emit("v.pair.i64.v128", low, high)


@semantics("CMPXCHG8B", "CMPXCHG16B")
def cmpxchg_pair(i: Ins) -> None:
    """rDX:rAX against memory; only ZF changes. The 16-byte form demands alignment."""
    wide = i.type(0).bits == 128
    where = i.flat()
    assert where.base is not None
    equal: Value
    if wide:
        i.require_aligned(where, 16)
        low, high = i.get(r.RAX), i.get(r.RDX)
        new = _pair(i, i.get(r.RBX), i.get(r.RCX))
        old = i.block.emit("atomic.cmpxchg.v128", where.base, _pair(i, low, high), new)
        old_low = i.block.emit("v.extract.i64.v128", old, imm=0)
        old_high = i.block.emit("v.extract.i64.v128", old, imm=1)
        equal = old_low.eq(low) & old_high.eq(high)
        i.set(r.RAX, old_low)
        i.set(r.RDX, old_high)
    else:
        expected = i.get(r.RDX, I32).zext(I64) << 32 | i.get(r.RAX, I32).zext(I64)
        new = i.get(r.RCX, I32).zext(I64) << 32 | i.get(r.RBX, I32).zext(I64)
        old = i.block.emit("atomic.cmpxchg.i64", where.base, expected, new)
        equal = old.eq(expected)
        i.set(r.RAX, equal.select(i.get(r.RAX), old & I32.mask))
        i.set(r.RDX, equal.select(i.get(r.RDX), old >> 32))
    i.set_zero_flag(equal)


# multiplication ----------------------------------------------------------------------------------------


def _wide_type(type: Type) -> Type:
    return {8: I16, 16: I32, 32: I64}[type.bits]


@semantics("MUL")
def mul(i: Ins) -> None:
    b = i.read(0)
    type = i.type(0)
    a = i.get(r.RAX, type)
    if type is I64:
        i.set(r.RAX, a * b)
        i.set(r.RDX, i.block.emit("mulhu.i64", a, b))
    else:
        product = a.zext(_wide_type(type)) * b.zext(_wide_type(type))
        if type is I8:
            i.set(r.RAX, product)
        else:
            i.set(r.RAX, product.trunc(type))
            i.set(r.RDX, (product >> type.bits).trunc(type))
    i.flags("mul", a, b)


@semantics("IMUL")
def imul(i: Ins) -> None:
    type = i.type(0)
    if i.count == 1:
        b, a = i.read(0), i.get(r.RAX, type)
    elif i.count == 2:
        b, a = i.read(1), i.read(0)
    else:
        b, a = i.read(1), i.read(2)
    if i.count > 1:
        i.write(0, a * b)
    elif type is I64:
        i.set(r.RAX, a * b)
        i.set(r.RDX, i.block.emit("mulhs.i64", a, b))
    else:
        product = a.sext(_wide_type(type)) * b.sext(_wide_type(type))
        if type is I8:
            i.set(r.RAX, product)
        else:
            i.set(r.RAX, product.trunc(type))
            i.set(r.RDX, (product >> type.bits).trunc(type))
    i.flags("imul", a, b)


@semantics("MULX")
def mulx(i: Ins) -> None:
    """Unsigned rDX times operand 2, without flags; the high half wins if both destinations are one
    register."""
    type = i.type(0)
    b, a = i.read(2), i.get(r.RDX, type)
    if type is I64:
        low, high = a * b, i.block.emit("mulhu.i64", a, b)
    else:
        product = a.zext(I64) * b.zext(I64)
        low, high = product.trunc(I32), (product >> 32).trunc(I32)
    i.write(1, low)
    i.write(0, high)


# division ----------------------------------------------------------------------------------------------


def _dividend(i: Ins, type: Type, signed: bool) -> Value:
    """AX, DX:AX or EDX:EAX as i64."""
    if type is I8:
        whole = i.get(r.RAX, I16)
        return whole.sext(I64) if signed else whole.zext(I64)
    high, low = i.get(r.RDX, type), i.get(r.RAX, type)
    upper = high.sext(I64) if signed else high.zext(I64)
    return upper << type.bits | low.zext(I64)


def _divide(i: Ins, signed: bool) -> None:
    """Traps #DE before anything changes if the divisor is 0 or the quotient does not fit; all flags stay."""
    type = i.type(0)
    divisor = i.read(0)
    s = "s" if signed else "u"
    if type is I64:
        high, low = i.get(r.RDX), i.get(r.RAX)
        bad = (
            i.block.emit("divs.i128.bad", high, low, divisor)
            if signed
            else i.block.emit("divu.i128.bad", high, divisor)
        )
        i.block.trap_if(bad, Exit.DIVIDE)
        quotient = i.block.emit(f"div{s}.i128", high, low, divisor)
        remainder = low - quotient * divisor
    else:
        dividend = _dividend(i, type, signed)
        wide = divisor.sext(I64) if signed else divisor.zext(I64)
        whole = i.block.emit(f"div{s}.i64", dividend, wide)
        quotient = whole.trunc(type)
        back = quotient.sext(I64) if signed else quotient.zext(I64)
        i.block.trap_if(divisor.eq(0) | back.ne(whole), Exit.DIVIDE)
        remainder = (dividend - whole * wide).trunc(type)
    if type is I8:
        i.set(r.RAX, remainder.zext(I16) << 8 | quotient.zext(I16))
    else:
        i.set(r.RAX, quotient)
        i.set(r.RDX, remainder)


@semantics("DIV")
def div(i: Ins) -> None:
    _divide(i, signed=False)


@semantics("IDIV")
def idiv(i: Ins) -> None:
    _divide(i, signed=True)


# two independent carry chains --------------------------------------------------------------------------


def _add_carry(flag: int) -> Callable[[Ins], None]:
    def adx(i: Ins) -> None:
        """Sum with one flag as carry in and out; the others stay."""
        a, b = i.read(0), i.read(1)
        type = i.type(0)
        carry = i.get_flag(flag).zext(type)
        partial = a + b
        total = partial + carry
        i.write(0, total)
        i.set_flag(flag, partial.ult(a) | total.ult(partial))

    return adx


register("ADCX", _add_carry(r.CF))
register("ADOX", _add_carry(r.OF))
