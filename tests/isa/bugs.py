"""Fifty wrong meanings of instructions, one per entry, which `nexus fuzz isa` has to find.

A bug changes the ops that a semantics function emits: another row, other operands, another immediate. Each
is of the kind that is made in earnest: a flag from the wrong operation, rounding instead of truncating, a
count that is not masked, signed for unsigned, a width too small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nexus.ir.values import Block, Value
from nexus.isa.x86.ins import Ins

Op = tuple[str, tuple[Value, ...], int]
Change = Callable[[Block, Op], Op]
_emit = Block.emit


class Bug:
    """`change` is done to every op that `mnemonic` emits; `seldom`: most states do not show it."""

    def __init__(self, mnemonic: str, what: str, change: Change, seldom: bool = False) -> None:
        self.mnemonic = mnemonic
        self.what = what
        self.change = change
        self.seldom = seldom

    def __repr__(self) -> str:
        return f"{self.mnemonic}: {self.what}"

    def planted(self, function: Callable[[Ins], None]) -> Callable[[Ins], None]:
        """The semantics with the bug in it."""

        def wrong(i: Ins) -> None:
            def emit(block: Block, name: str, *args: Value, imm: int = 0) -> Value:
                name, args, imm = self.change(block, (name, args, imm))
                return _emit(block, name, *args, imm=imm)

            setattr(Block, "emit", emit)  # noqa: B010 - a method cannot be assigned to
            try:
                function(i)
            finally:
                setattr(Block, "emit", _emit)  # noqa: B010

        return wrong


def row(old: str, new: str) -> Change:
    """Another row: a part of the name is exchanged."""
    return lambda block, op: (op[0].replace(old, new), op[1], op[2]) if old in op[0] else op


def swapped(name: str, first: int = 0, second: int = 1) -> Change:
    """Two operands exchanged."""

    def change(block: Block, op: Op) -> Op:
        args = list(op[1])
        if op[0].startswith(name):
            args[first], args[second] = args[second], args[first]
        return op[0], tuple(args), op[2]

    return change


def immediate(name: str, new: Callable[[int], int]) -> Change:
    """Another immediate."""
    return lambda block, op: (op[0], op[1], new(op[2])) if op[0].startswith(name) else op


def operand(name: str, which: int, new: Callable[[Value], Any]) -> Change:
    """Another operand, computed from the right one."""

    def change(block: Block, op: Op) -> Op:
        if not op[0].startswith(name):
            return op
        setattr(Block, "emit", _emit)  # noqa: B010 - what `new` emits is meant
        args = tuple(new(value) if n == which else value for n, value in enumerate(op[1]))
        return op[0], args, op[2]

    return change


def nearest(block: Block, op: Op) -> Op:
    """Rounding to nearest, whatever the row's name says."""
    name, kept, rest = op[0].partition("v.round")
    return (name + kept + "8" + rest.lstrip("0123456789") if kept else op[0]), op[1], op[2]


BUGS = [
    # flags
    Bug("ADC", "flags as if there were no carry", row("flags.adc", "flags.add")),
    Bug("SBB", "flags as if there were no borrow", row("flags.sbb", "flags.sub")),
    Bug("INC", "flags of DEC", row("flags.inc", "flags.dec")),
    Bug("DEC", "flags of INC", row("flags.dec", "flags.inc")),
    Bug("CMP", "flags of the subtraction the other way round", swapped("flags.sub")),
    Bug("NEG", "flags of a - 0", swapped("flags.sub")),
    Bug("XADD", "flags of a subtraction", row("flags.add", "flags.sub")),
    Bug("CMPXCHG", "flags of the comparison the other way round", swapped("flags.sub")),
    Bug("SHL", "flags of SHR", row("flags.shl", "flags.shr")),
    Bug("SHR", "flags of SAR", row("flags.shr", "flags.sar")),
    Bug("ROL", "flags of ROR", row("flags.rol", "flags.ror")),
    Bug("RCL", "flags of RCR", row("flags.rcl", "flags.rcr")),
    Bug("SHLD", "flags of SHRD", row("flags.shld", "flags.shrd")),
    Bug("COMISS", "quiet NaNs do not raise IE", row("flags.comi", "flags.ucomi"), seldom=True),
    Bug("UCOMISD", "quiet NaNs raise IE", row("flags.ucomi", "flags.comi"), seldom=True),
    Bug("PTEST", "CF of the other operand's complement", swapped("flags.test")),
    Bug("SAHF", "flags of the low byte of AX", operand("flags.from.low", 0, lambda value: value << 8)),
    Bug("BLSR", "CF clear instead of set", row("eq.", "ne.")),
    Bug("ADCX", "the carry beyond is compared signed", row("ult.", "slt.")),
    Bug("SCASB", "compared the other way round", swapped("flags.sub")),
    # rounding, floating point
    Bug("CVTSS2SI", "truncates", row("v.cvt.", "v.cvtt.")),
    Bug("CVTTPS2DQ", "rounds", row("v.cvtt.", "v.cvt.")),
    Bug("ROUNDSD", "to nearest, whatever is asked for", nearest),
    Bug("MINPS", "operands exchanged: the wrong one of two zeros or NaNs", swapped("v.min"), seldom=True),
    Bug("MAXSD", "operands exchanged: the wrong one of two zeros or NaNs", swapped("v.max"), seldom=True),
    Bug("ADDPS", "the payload of the other NaN", swapped("v.add"), seldom=True),
    Bug("CMPPD", "unordered is not below", row("v.cmp_nlt", "v.cmp_le")),
    Bug("FSUB", "reversed", swapped("x87.sub")),
    Bug("FDIVR", "not reversed", swapped("x87.div")),
    # masks and immediates
    Bug("BEXTR", "a length of seven bits", operand("and.", 0, lambda value: value & 127)),
    Bug("BT", "the bit beside", operand("ne.", 0, lambda value: value & ~1)),
    Bug("PALIGNR", "one byte further", immediate("v.align", lambda imm: imm + 1)),
    Bug(
        "PSHUFD",
        "the last element from lane 0",
        immediate("v.permute", lambda imm: imm & 0x3F),
    ),
    Bug("PEXTRW", "an index of two bits", immediate("v.extract.i16", lambda imm: imm & 3)),
    Bug("BLENDVPS", "the mask's complement", swapped("v.blend_sign", 0, 1)),
    Bug("PCLMULQDQ", "always the low half of the second operand", immediate("v.clmul", lambda imm: imm & 1)),
    Bug("SARX", "a count of six bits", operand("sar.i32", 1, lambda value: value ^ 1)),
    Bug("INSERTPS", "does not clear lanes", immediate("v.insertps", lambda imm: imm & 0xF0)),
    # widths and signs
    Bug("MOVZX", "sign-extends bytes", row("zext.i8", "sext.i8")),
    Bug("MOVSX", "zero-extends words", row("sext.i16", "zext.i16")),
    Bug("MOVSXD", "zero-extends", row("sext.i32", "zext.i32")),
    Bug("CMOVL", "not below, signed", row("cond.l", "cond.b")),
    Bug("SETBE", "CF only", row("cond.be", "cond.b")),
    Bug("PMOVSXBW", "zero-extends", row("v.sext.i8", "v.zext.i8")),
    Bug("PMULHW", "unsigned", row("v.smul_high", "v.umul_high")),
    Bug("PADDSB", "wraps around", row("v.sadd_sat", "v.add")),
    Bug("PACKSSWB", "saturates unsigned", row("v.pack_s.", "v.pack_u.")),
    Bug("PMINSW", "unsigned", row("v.smin", "v.umin")),
    Bug("PMAXUB", "signed", row("v.umax", "v.smax")),
    Bug("SHA256RNDS2", "the halves of the state exchanged", swapped("v.sha256_rounds")),
]
AVX512_BUGS = [
    # masks
    Bug("VPADDD", "the mask's complement is merged", swapped("v.merge", 0, 2)),
    Bug("VPSUBQ", "zeroing keeps what it should clear", row("v.zero.i64", "v.zero.i32")),
    Bug("VPCMPUD", "signed", row("v.ugt", "v.sgt")),
    Bug("VPTESTMW", "of bytes", row("v.eq.i16", "v.eq.i8")),
    Bug("KSHIFTLW", "one place further", operand("shl.i16", 1, lambda count: count + 1)),
    Bug("KUNPCKBW", "one place too low", operand("shl.i16", 1, lambda count: count - 1)),
    Bug("VPCOMPRESSQ", "expands", row("v.compress", "v.expand")),
    Bug("VPEXPANDW", "compresses", row("v.expand", "v.compress")),
    # elements
    Bug("VPERMT2D", "the tables exchanged", swapped("v.permute_two", 0, 2)),
    Bug("VALIGND", "one element further", immediate("v.align_all", lambda imm: imm + 1)),
    Bug("VPTERNLOGQ", "or for exclusive or", row("xor.", "or.")),
    Bug("VPMOVUSDB", "saturates signed", row("v.narrow_u", "v.narrow_s")),
    Bug("VPROLVD", "to the right", row("v.fshl", "v.fshr")),
    Bug("VPLZCNTQ", "of doublewords", row("v.lzcnt.i64", "v.lzcnt.i32")),
    Bug("VPCONFLICTD", "of quadwords", row("v.conflict.i32", "v.conflict.i64")),
    Bug("VPMADD52HUQ", "the low half", row("v.madd52_high", "v.madd52_low")),
    Bug("VPDPBUSDS", "wraps around", row("v.dot_sat", "v.dot")),
    Bug("VDBPSADBW", "the second operand's bytes not chosen", immediate("v.permute", lambda imm: 0xE4)),
]
