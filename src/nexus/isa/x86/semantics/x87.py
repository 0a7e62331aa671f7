"""x87 instructions: loads, stores, arithmetic, comparison, constants, and the transcendental functions.

Every one that waits first takes a pending unmasked exception (#MF). Results carry the status that they raise
(`ir/ops/x87_state.py`); it is folded in by `set_st`, `push` or `done`, after the last access to memory.
"""

from __future__ import annotations

from iced_x86 import MemorySize, Register

from nexus.ir.ops.x87_state import ALL_CODES, INHERITED, NO_CODES, QUOTIENT, RANGE, STATUS, SUMMARY, pops
from nexus.ir.types import I16, I64, INTEGER_OF_BITS
from nexus.ir.values import Value
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import Exit, Ins
from nexus.isa.x86.semantics.sse_operands import lane, vector_const, widen
from nexus.isa.x86.table import register, semantics

_ST = {Register.ST0 + n: n for n in range(8)}
_FORMATS = {
    MemorySize.FLOAT32: ("f32", 32),
    MemorySize.FLOAT64: ("f64", 64),
    MemorySize.INT16: ("i16", 16),
    MemorySize.INT32: ("i32", 32),
    MemorySize.INT64: ("i64", 64),
}


def wait(i: Ins) -> None:
    """#MF if an unmasked exception is pending."""
    pending = i.get(r.FSW) & (SUMMARY & 0x80)
    i.block.trap_if(pending.ne(0), Exit.FP_ERROR)


def st(i: Ins, n: int) -> int:
    """Operand `n` as a stack register number."""
    return _ST[i.raw.op_register(n)]


def get(i: Ins, number: int) -> Value:
    return i.block.emit("x87.get", imm=number)


def set_st(i: Ins, number: int, value: Value, count: int = 0, codes: int = 0) -> None:
    """ST(number) := value, then pop `count` registers."""
    i.block.emit("x87.set", value, imm=number | pops(count) | codes)


def push(i: Ins, value: Value, codes: int = 0) -> None:
    i.block.emit("x87.push", value, imm=codes)


def done(i: Ins, value: Value, count: int = 0, codes: int = 0) -> None:
    i.block.emit("x87.done", value, imm=pops(count) | codes)


def loaded(i: Ins) -> Value:
    """The memory operand as an x87 value."""
    kind, bits = _FORMATS[i.raw.memory_size]
    value = i.block.load(INTEGER_OF_BITS[bits], i.memory())
    return i.block.emit(f"x87.from_{kind}", value)


def _load_80(i: Ins) -> Value:
    low, high = i.block.load(I64, i.memory()), i.block.load(I16, i.memory().plus(8))
    return i.block.emit("v.pair.i64.v128", low, high.zext(I64))


def _store_80(i: Ins, value: Value) -> None:
    """Both parts are probed first, so that nothing is written if one faults."""
    i.block.load(I64, i.memory(), modify=True)
    i.block.load(I16, i.memory().plus(8), modify=True)
    i.block.store(i.memory(), lane(value, 64))
    i.block.store(i.memory().plus(8), lane(value, 16, 4))


# loads, stores, exchange -------------------------------------------------------------------------------


@semantics("FLD", "FILD")
def fld(i: Ins) -> None:
    wait(i)
    if i.is_register(0):
        push(i, get(i, st(i, 0)))
    elif i.raw.memory_size == MemorySize.FLOAT80:
        push(i, _load_80(i))
    else:
        push(i, loaded(i))


@semantics("FBLD")
def fbld(i: Ins) -> None:
    wait(i)
    push(i, i.block.emit("x87.from_bcd", _load_80(i)))


@semantics("FBSTP")
def fbstp(i: Ins) -> None:
    wait(i)
    value = i.block.emit("x87.to_bcd", get(i, 0))
    _store_80(i, value)
    done(i, value, 1)


def _store(name: str, operation: str, count: int) -> None:
    def store(i: Ins) -> None:
        wait(i)
        value = get(i, 0)
        if i.is_register(0):
            set_st(i, st(i, 0), value, count)
        elif i.raw.memory_size == MemorySize.FLOAT80:
            _store_80(i, value)
            done(i, value, count)
        else:
            kind, bits = _FORMATS[i.raw.memory_size]
            value = i.block.emit(f"x87.{operation}_{kind}", value)
            i.block.store(i.memory(), lane(value, bits))
            done(i, value, count)

    register(name, store)


for _name, _operation, _count in (
    ("FST", "to", 0),
    ("FSTP", "to", 1),
    ("FIST", "to", 0),
    ("FISTP", "to", 1),
    ("FISTTP", "chop", 1),
):
    _store(_name, _operation, _count)


@semantics("FSTPNCE")
def fstpnce(i: Ins) -> None:
    """An encoding of FSTP that raises nothing: an empty register is popped and not copied."""
    wait(i)
    i.block.emit("x87.move_pop", imm=st(i, 0))


@semantics("FXCH")
def fxch(i: Ins) -> None:
    wait(i)
    other = st(i, 1)
    first, second = get(i, 0), get(i, other)
    set_st(i, 0, second)
    set_st(i, other, first)


def _conditional(name: str, code: int) -> None:
    """FCMOV: both registers must be in use, whether the move happens or not."""

    def move(i: Ins) -> None:
        wait(i)
        first, second = get(i, 0), get(i, st(i, 1))
        raised = i.block.emit("and.v128", first | second, vector_const(i, INHERITED << STATUS))
        set_st(i, 0, i.condition(code).select(second, first) | raised, codes=NO_CODES)

    register(name, move)


for _name, _code in (("B", 2), ("NB", 3), ("E", 4), ("NE", 5), ("BE", 6), ("NBE", 7), ("U", 10), ("NU", 11)):
    _conditional("FCMOV" + _name, _code)

# arithmetic --------------------------------------------------------------------------------------------


def _arithmetic(name: str, row: str, reverse: bool, count: int) -> None:
    """Forms: memory (ST0 is the other operand), ST0 and ST(i), ST(i) and ST0; the first operand is
    replaced."""

    def compute(i: Ins) -> None:
        wait(i)
        if i.is_memory(0):
            target, other = 0, loaded(i)
        else:
            target, other = st(i, 0), get(i, st(i, 1))
        value = get(i, target)
        pair = (other, value) if reverse else (value, other)
        set_st(i, target, i.block.emit(f"x87.{row}", *pair), count)

    register(name, compute)


for _row in ("add", "mul", "sub", "div"):
    _upper = "F" + _row.upper()
    for _reverse in (False, True) if _row in ("sub", "div") else (False,):
        _suffix = "R" if _reverse else ""
        _arithmetic(_upper + _suffix, _row, _reverse, 0)
        _arithmetic(f"FI{_row.upper()}{_suffix}", _row, _reverse, 0)
        _arithmetic(f"{_upper}{_suffix}P", _row, _reverse, 1)


def _unary(name: str, row: str, codes: int = 0) -> None:
    def compute(i: Ins) -> None:
        wait(i)
        set_st(i, 0, i.block.emit(f"x87.{row}", get(i, 0)), codes=codes)

    register(name, compute)


for _name, _row in (
    ("FCHS", "negate"),
    ("FABS", "absolute"),
    ("FSQRT", "sqrt"),
    ("FRNDINT", "rndint"),
    ("F2XM1", "2xm1"),
):
    _unary(_name, _row)
for _name in ("FSIN", "FCOS"):
    _unary(_name, _name[1:].lower(), RANGE)


def _binary(name: str, row: str, target: int, count: int, codes: int = 0) -> None:
    """ST0 and ST1."""

    def compute(i: Ins) -> None:
        wait(i)
        set_st(i, target, i.block.emit(f"x87.{row}", get(i, 0), get(i, 1)), count, codes)

    register(name, compute)


for _name, _row, _codes in (
    ("FSCALE", "scale", 0),
    ("FPREM", "prem", QUOTIENT),
    ("FPREM1", "prem1", QUOTIENT),
):
    _binary(_name, _row, 0, 0, _codes)
for _name in ("patan", "yl2x", "yl2xp1"):
    _binary("F" + _name.upper(), _name, 1, 1)


def _two_results(i: Ins, first: Value, second: Value, codes: int = 0) -> None:
    """ST0 := first, then push `second`; with C2 (operand out of range) the push is left out."""
    first, second = (i.block.emit("x87.room", value) for value in (first, second))
    set_st(i, 0, first, codes=codes)
    i.block.emit("x87.push_unless_c2" if codes else "x87.push", second, imm=codes)


@semantics("FXTRACT")
def fxtract(i: Ins) -> None:
    wait(i)
    value = get(i, 0)
    _two_results(i, i.block.emit("x87.xtract.exponent", value), i.block.emit("x87.xtract.significand", value))


@semantics("FPTAN")
def fptan(i: Ins) -> None:
    wait(i)
    value = get(i, 0)
    _two_results(i, i.block.emit("x87.tan", value), i.block.emit("x87.tan.one", value), RANGE)


@semantics("FSINCOS")
def fsincos(i: Ins) -> None:
    wait(i)
    value = get(i, 0)
    _two_results(i, i.block.emit("x87.sincos.sin", value), i.block.emit("x87.sincos.cos", value), RANGE)


# comparison --------------------------------------------------------------------------------------------


def _compare(name: str, row: str, count: int, to_flags: bool) -> None:
    def compare(i: Ins) -> None:
        wait(i)
        in_memory = i.count and i.is_memory(0)
        other = loaded(i) if in_memory else get(i, st(i, 1) if i.count > 1 else 1)
        result = i.block.emit(f"x87.{row}", get(i, 0), other)
        if to_flags:
            i.block.emit("flags.x87", result)
        done(i, result, count, NO_CODES if to_flags else ALL_CODES)

    register(name, compare)


for _name, _row in (("FCOM", "com"), ("FUCOM", "ucom"), ("FICOM", "com")):
    _compare(_name, _row, 0, False)
    _compare(_name + "P", _row, 1, False)
    if _name != "FICOM":
        _compare(_name + "PP", _row, 2, False)
        _compare(_name + "I", _row, 0, True)
        _compare(_name + "IP", _row, 1, True)


@semantics("FTST")
def ftst(i: Ins) -> None:
    wait(i)
    done(i, i.block.emit("x87.com", get(i, 0), vector_const(i, 0)), codes=ALL_CODES)


@semantics("FXAM")
def fxam(i: Ins) -> None:
    """Looks at an empty register too."""
    wait(i)
    empty = i.block.emit("x87.empty", imm=0)
    done(i, i.block.emit("x87.examine", get(i, 8), empty), codes=ALL_CODES)


# constants ---------------------------------------------------------------------------------------------


def _constant(name: str) -> None:
    def load(i: Ins) -> None:
        wait(i)
        push(i, i.block.emit(f"x87.const.{name.lower()}"))

    register("FLD" + name, load)


for _name in ("1", "L2T", "L2E", "PI", "LG2", "LN2"):
    _constant(_name)


@semantics("FLDZ")
def fldz(i: Ins) -> None:
    wait(i)
    push(i, widen(i.const(I64, 0)))
