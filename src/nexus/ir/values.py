"""Values, and the block that owns them.

A block is a straight list of ops in evaluation order, one definition each. Pure ops may be moved,
merged or dropped; ops with an effect happen in list order, and a fault inside one leaves every earlier
effect done and no later one. `marks` ties the list to the guest: `(index of first op, guest address)` per
instruction.

A guest value is not a Python value: `if value:` raises. What is known while translating (widths, prefixes,
immediates) is plain Python and may be branched on.
"""

from __future__ import annotations

from nexus.ir.ops.table import ROWS, Row
from nexus.ir.types import I64, INTEGER_OF_BITS, V256, V512, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Value:
    """One op of a block: its row, operands, immediate; `type` is None for ops without a result.

    `note` and `last` belong to the pass that is at work on the block (text numbers, slots of an engine).
    """

    __slots__ = ("args", "block", "imm", "last", "note", "row", "type")
    note: Any
    last: int

    def __init__(self, block: Block, row: Row, args: tuple[Value, ...], imm: int) -> None:
        self.block = block
        self.row = row
        self.args = args
        self.imm = imm
        self.type = row.result

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self.row.name} is a guest value, known only when the program runs: "
            "use .select(a, b) or a branch op"
        )

    def _binary(self, name: str, other: Value | int) -> Value:
        width = self.type
        assert width is not None
        if isinstance(other, int):
            other = self.block.const(width, other)
        elif other.type is not width:
            raise TypeError(f"{name}: operands are {width} and {other.type}")
        return self.block.emit(f"{name}.{width.name}", self, other)

    def __add__(self, other: Value | int) -> Value:
        return self._binary("add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._binary("sub", other)

    def __mul__(self, other: Value | int) -> Value:
        return self._binary("mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._binary("and", other)

    def __or__(self, other: Value | int) -> Value:
        return self._binary("or", other)

    def __xor__(self, other: Value | int) -> Value:
        return self._binary("xor", other)

    def __lshift__(self, other: Value | int) -> Value:
        return self._binary("shl", other)

    def __rshift__(self, other: Value | int) -> Value:
        """Logical shift; `sar` is the arithmetic one."""
        return self._binary("shr", other)

    def __invert__(self) -> Value:
        return self._binary("xor", -1)

    def __neg__(self) -> Value:
        assert self.type is not None
        return self.block.const(self.type, 0) - self

    def sar(self, other: Value | int) -> Value:
        return self._binary("sar", other)

    def rotl(self, other: Value | int) -> Value:
        return self._binary("rotl", other)

    def rotr(self, other: Value | int) -> Value:
        return self._binary("rotr", other)

    def eq(self, other: Value | int) -> Value:
        return self._binary("eq", other)

    def ne(self, other: Value | int) -> Value:
        return self._binary("ne", other)

    def ult(self, other: Value | int) -> Value:
        return self._binary("ult", other)

    def slt(self, other: Value | int) -> Value:
        return self._binary("slt", other)

    def zext(self, type: Type) -> Value:
        """Zero-extend (or keep) to a wider integer type."""
        return self if self.type is type else self.block.emit(f"zext.{self.type}.{type}", self)

    def sext(self, type: Type) -> Value:
        return self if self.type is type else self.block.emit(f"sext.{self.type}.{type}", self)

    def trunc(self, type: Type) -> Value:
        return self if self.type is type else self.block.emit(f"trunc.{self.type}.{type}", self)

    def resize(self, type: Type) -> Value:
        """Zero-extend or truncate, whichever it takes."""
        assert self.type is not None
        return self.zext(type) if type.bits >= self.type.bits else self.trunc(type)

    def select(self, yes: Value | int, no: Value | int) -> Value:
        """`yes` where this i1 is 1, else `no`; both are always computed."""
        kind = yes.type if isinstance(yes, Value) else no.type if isinstance(no, Value) else None
        if kind is None:
            raise TypeError("select needs at least one guest value to know its width")
        if isinstance(yes, int):
            yes = self.block.const(kind, yes)
        if isinstance(no, int):
            no = self.block.const(kind, no)
        return self.block.emit(f"select.{kind}", self, yes, no)


class Address:
    """base + (index << scale) + disp; every part optional. `base` and `index` are i64 values."""

    __slots__ = ("base", "disp", "index", "scale")

    def __init__(
        self, base: Value | None = None, disp: int = 0, index: Value | None = None, scale: int = 0
    ) -> None:
        self.base = base
        self.index = index
        self.scale = scale
        self.disp = disp

    def plus(self, offset: int) -> Address:
        return Address(self.base, self.disp + offset, self.index, self.scale)


class Block:
    """A translated stretch of guest code under construction, then input of the rewrites and engines."""

    __slots__ = ("cleared", "consts", "end", "marks", "ops", "start", "wide")

    def __init__(self, start: int = 0, wide: bool = True) -> None:
        """`wide`: there may be something in vector registers above bit 256 (the guest has AVX-512)."""
        self.start = start
        self.wide = wide
        self.end = start  # guest address after the last instruction
        self.ops: list[Value] = []
        self.marks: list[tuple[int, int]] = []
        self.consts: dict[int, Value] = {}
        self.cleared: dict[int, int] = {}  # vector slot -> the bits above which it is known to be zero

    def mark(self, address: int) -> None:
        """The ops that follow belong to the guest instruction at `address`."""
        self.marks.append((len(self.ops), address))

    def emit(self, name: str, *args: Value, imm: int = 0) -> Value:
        row = ROWS[name]
        value = Value(self, row, args, imm)
        self.ops.append(value)
        if row.indirect:  # it may write any slot
            self.cleared.clear()
        return value

    def const(self, type: Type, number: int) -> Value:
        """A constant, given signed or unsigned; the same constant is emitted once per block."""
        number &= type.mask
        key = number << 7 | type.bits
        value = self.consts.get(key)
        if value is None:
            value = self.consts[key] = self.emit("const." + type.name, imm=number)
        return value

    # state -----------------------------------------------------------------------------------------

    def get(self, type: Type, slot: int) -> Value:
        """The low part of a scalar slot, or of a vector slot for a vector type."""
        return self.emit(f"get.{type.name}", imm=slot)

    def put(self, slot: int, value: Value) -> None:
        """Scalar slot: store zero-extended to 64 bits. Vector slot: replace the low part, keep the rest."""
        self.emit(f"put.{value.type}", value, imm=slot)
        if slot in self.cleared and value.type is not None and value.type.is_vector:
            self.cleared[slot] = max(self.cleared[slot], value.type.bits)

    def clear(self, slot: int, type: Type) -> None:
        """Zero a vector slot above its low part, unless it is known to be zero there."""
        if type is V512 or (type is V256 and not self.wide):
            return
        if self.cleared.get(slot, V512.bits) > type.bits:
            self.cleared[slot] = type.bits
            self.emit(f"clear.{type}", imm=slot)

    # memory ----------------------------------------------------------------------------------------

    def address(self, where: Address) -> Value:
        """The address as an i64 value (lea)."""
        return self._addressed("lea.i64", where)

    def load(self, type: Type, where: Address, aligned: bool = False, modify: bool = False) -> Value:
        """`aligned`: #GP unless the address is a multiple of the size. `modify`: the place is stored to
        next, and a fault counts as one of writing."""
        if aligned:
            return self._addressed(f"load.aligned.{type.name}", self._flat(where))
        kind = "modify." if modify else ""
        return self._addressed(f"load.{kind}{type.name}", where)

    def store(self, where: Address, value: Value, aligned: bool = False) -> None:
        if aligned:
            self._addressed(f"store.aligned.{value.type}", self._flat(where), value)
        else:
            self._addressed(f"store.{value.type}", where, value)

    def _flat(self, where: Address) -> Address:
        """The same without an index: aligned accesses have rows for that alone."""
        return where if where.index is None else Address(self.address(where))

    def _addressed(self, name: str, where: Address, *operands: Value) -> Value:
        """Emit an addressed row: `name` takes base + disp, `name` + "x" also an index. `imm` packs disp and
        scale."""
        base = where.base if where.base is not None else self.const(I64, 0)
        if not -(1 << 31) <= where.disp < 1 << 31:
            base, where = base + where.disp, Address(base, 0, where.index, where.scale)
        imm = (where.disp << 2) | where.scale
        if where.index is None:
            return self.emit(name, base, *operands, imm=imm)
        return self.emit(name + "x", base, where.index, *operands, imm=imm)

    def drop(self) -> None:
        """The block is done with: its ops refer to it and it to them, which only the collector would find
        out."""
        self.ops.clear()
        self.consts.clear()

    # ends ------------------------------------------------------------------------------------------

    def goto(self, target: int) -> None:
        """Continue at a known guest address."""
        self.emit("goto", imm=target)

    def branch(self, condition: Value, taken: int, otherwise: int) -> None:
        """Continue at `taken` if the i1 is 1, else at `otherwise`."""
        self.emit("branch", condition, imm=taken)
        self.emit("goto", imm=otherwise)

    def jump(self, target: Value) -> None:
        """Continue at a computed guest address."""
        self.emit("jump", target)

    def exit(self, kind: int, pc: int, argument: int = 0) -> None:
        """Leave the engine with `pc` as the guest address to continue at."""
        self.put_pc(pc)
        self.emit("exit", imm=kind | argument << 8)

    def trap_if(self, condition: Value, kind: int, argument: int = 0) -> None:
        """Leave the engine, pc at the current instruction, if the i1 is 1; nothing of it has happened yet."""
        self.emit("trap_if", condition, imm=kind | argument << 8)

    def put_pc(self, pc: int) -> None:
        from nexus.ir.state import SLOTS

        self.put(SLOTS["pc"], self.const(I64, pc))


__all__ = ["INTEGER_OF_BITS", "Address", "Block", "Value"]
