"""Conversions between floating-point formats, and between them and whole numbers.

Facts: Intel SDM volume 2, the operation section and the exceptions of each instruction.
"""

from __future__ import annotations

from collections.abc import Callable

from iced_x86 import Instruction, MemorySizeInfo, OpKind, Register

from isa.model import special
from isa.model.machine import Form, Meaning
from isa.model.shapes import Function, concluded, define, lanes, scalar, signed, whole
from isa.model.softfloat import DOUBLE, HALF, SINGLE, ZERO, Env, Format

FORMATS = {"S": SINGLE, "D": DOUBLE, "H": HALF}
_INTEGERS = {"DQ": (32, True), "UDQ": (32, False), "QQ": (64, True), "UQQ": (64, False)}
_WORDS = {"W": (16, True), "UW": (16, False)}


def _format_change(f: Format, to: Format, tells: bool = True) -> Function:
    return lambda env, x: f.convert(env, x, to, tells)


def _float_pair(names: str, f: Format, to: Format) -> None:
    define(names, lanes(_format_change(f, to), (f.bits,), to.bits, env=True))


_float_pair("VCVTPS2PD", SINGLE, DOUBLE)
_float_pair("VCVTPD2PS", DOUBLE, SINGLE)
_float_pair("VCVTPH2PSX", HALF, SINGLE)
_float_pair("VCVTPH2PD", HALF, DOUBLE)
_float_pair("VCVTPS2PHX", SINGLE, HALF)
_float_pair("VCVTPD2PH", DOUBLE, HALF)
define("VCVTPH2PS", lanes(_format_change(HALF, SINGLE, tells=False), (16,), 32, env=True))


def _to_half(env: Env, x: int, imm: int) -> int:
    """VCVTPS2PH has its rounding in the immediate, or from MXCSR."""
    kept = env.rounding
    env.rounding = kept if imm & 4 else imm & 3
    out = SINGLE.convert(env, x, HALF)
    env.rounding = kept
    return out


define("VCVTPS2PH", lanes(_to_half, (32,), 16, imm=True, env=True))
for _from, _to in ("SD", "DS", "SH", "HS", "DH", "HD"):
    _f, _g = FORMATS[_from], FORMATS[_to]
    define(f"VCVTS{_from}2S{_to}", scalar(_format_change(_f, _g), (_f.bits,), _g.bits, sources=(2,)))


# whole numbers --------------------------------------------------------------------------------------------


def _to_integer(f: Format, bits: int, is_signed: bool, truncates: bool) -> Function:
    return lambda env, x: f.to_int(env, x, bits, is_signed, ZERO if truncates else None)


def _from_integer(f: Format, bits: int, is_signed: bool) -> Function:
    return lambda env, x: f.from_int(env, signed(x, bits) if is_signed else x)


for _letter, _f in FORMATS.items():
    for _name, (_bits, _signed) in (_INTEGERS | _WORDS if _letter == "H" else _INTEGERS).items():
        for _t, _truncates in (("", False), ("T", True)):
            _function = _to_integer(_f, _bits, _signed, _truncates)
            define(f"VCVT{_t}P{_letter}2{_name}", lanes(_function, (_f.bits,), _bits, env=True))
        _function = _from_integer(_f, _bits, _signed)
        define(f"VCVT{_name}2P{_letter}", lanes(_function, (_bits,), _f.bits, env=True))


def _register_bits(raw: Instruction, n: int) -> int:
    """32 or 64 bits of a general register, or of memory."""
    if raw.op_kind(n) == OpKind.MEMORY:
        return MemorySizeInfo(raw.memory_size).size * 8
    return 64 if Register.RAX <= raw.op_register(n) < Register.RAX + 16 else 32


def _to_general(f: Format, is_signed: bool, truncates: bool) -> Callable[[Instruction], Meaning]:
    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        bits = _register_bits(raw, 0)
        read, put = form.scalar(1, f.bits), form.integer_result(0, bits)
        call = _to_integer(f, bits, is_signed, truncates)
        return concluded(form, lambda run: put(run, call(run.env, read(run))))

    return make


def _from_general(f: Format, is_signed: bool) -> Callable[[Instruction], Meaning]:
    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        bits = _register_bits(raw, 2)
        read, put = form.integer(2, bits), form.scalar_result(0, f.bits, 1)
        call = _from_integer(f, bits, is_signed)
        return concluded(form, lambda run: put(run, call(run.env, read(run))))

    return make


for _letter, _f in FORMATS.items():
    for _name, _signed in (("SI", True), ("USI", False)):
        define(f"VCVTS{_letter}2{_name}", _to_general(_f, _signed, False))
        define(f"VCVTTS{_letter}2{_name}", _to_general(_f, _signed, True))
        define(f"VCVT{_name}2S{_letter}", _from_general(_f, _signed))


# BF16 -------------------------------------------------------------------------------------------------------


def _two_to_bfloat(a: list[int], b: list[int]) -> list[int]:
    """The second operand is the lower half."""
    return [special.to_bfloat(x) for x in b + a]


define("VCVTNEPS2BF16", lanes(special.to_bfloat, (32,), 16))
define("VCVTNE2PS2BF16", whole(_two_to_bfloat, (32, 32), 16))
