"""The LLVM text of the stencils. Imported only to build them.

A stencil's operands are parameters (pinned registers) or slots of the state at an offset that is a hole;
which of them is what is the stencil's *shape*, one letter for the result and each scalar operand: `m` a slot
in memory, a digit a pinned register; the result has the digit of an operand when it is in the same register.
All stencils are `preserve_none` functions with the parameters of `layout.py` that end in a tail call to
`next`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from nexus.backend.interp import handlers, records
from nexus.backend.interp.handlers import CONVENTION, Writer
from nexus.backend.interp.pairs import operands_of
from nexus.backend.interp.records import Variant, head
from nexus.backend.llvm.expand import declarations
from nexus.backend.stencils.layout import IMMEDIATE_BIAS, PARAMETERS, PIN_OF, PIN_PARAMETERS, PINNED, TABLE_AT
from nexus.ir.ops.table import Row
from nexus.ir.state import SLOTS, Exit
from nexus.ir.types import I1, I64, V128, Type

_TYPES = {"state": "ptr"}
SIGNATURE = ", ".join(f"{_TYPES.get(name, 'i64')} %{name}" for name in PARAMETERS)
HOLES = ("h_d", "h_a", "h_b", "h_c", "h_imm")
_HOLE_AT = {8: "h_d", 9: "h_a", 10: "h_b", 11: "h_c"}
_POSITION_AT = {8: 0, 9: 1, 10: 2, 11: 3}
# Rows that are rare, or do much: the interpreter's handler does them.
OUTSIDE = ("string", "x87", "fx", "mmx", "mxcsr", "rcl", "rcr", "crc32c", "pdep", "pext", "cpuid")
SHIFTS = ("shl", "shr", "sar", "rotl", "rotr")
# Rows worth a stencil only with their operands in memory.
UNPINNED = ("atomic", "shld", "shrd", "divs", "divu")


class Stencil(Writer):
    """A handler whose record fields are holes. `where`: for the result and operands a, b, c, `m` or a
    digit."""

    def __init__(self, where: tuple[str, ...], bitwise: bool = False, below: int = 0) -> None:
        """`below`: immediates are less than that, if not 0."""
        super().__init__(bitwise)
        self.below = below
        self.where = where
        self.values = {name: f"%{name}" for name in PIN_PARAMETERS}

    def _pin(self, offset: int) -> str:
        place = self.where[_POSITION_AT[offset]]
        return "" if place == "m" else f"p{place}"

    def slot(self, offset: int, vector: bool) -> str:
        return self.op(
            f"getelementptr inbounds i8, ptr %state, i64 ptrtoint (ptr @{_HOLE_AT[offset]} to i64)"
        )

    def read(self, offset: int, type: Type) -> str:
        pin = "" if type.is_vector else self._pin(offset)
        if not pin:
            return super().read(offset, type)
        return self.values[pin] if type is I64 else self.op(f"trunc i64 {self.values[pin]} to {type.llvm}")

    def write(self, offset: int, type: Type, value: str) -> None:
        pin = "" if type.is_vector else self._pin(offset)
        if not pin:
            super().write(offset, type, value)
        else:
            self.values[pin] = value if type is I64 else self.op(f"zext {type.llvm} {value} to i64")

    def immediate(self, type: Type = I64) -> str:
        wide = self.op(f"add i64 ptrtoint (ptr @h_imm to i64), {IMMEDIATE_BIAS}")
        if self.below:
            self.do(f"call void @llvm.assume(i1 {self.op(f'icmp ult i64 {wide}, {self.below}')})")
        return wide if type is I64 else self.op(f"trunc i64 {wide} to {type.llvm}")

    def literal(self, type: Type = I64, second: bool = False) -> str:
        wide = self.op('call i64 asm "movabsq $$h_lit, $0", "=r"()')
        return wide if type is I64 else self.op(f"trunc i64 {wide} to {type.llvm}")

    def access(self, row: Row, address: str) -> str:
        clamped = self.op(f"call i64 @llvm.umin.i64(i64 {address}, i64 %top)")
        plain = ".aligned." not in row.name and ".mask." not in row.name
        if head(row) in ("load", "store") and plain:
            return "ptr addrspace(256) " + self.op(f"inttoptr i64 {clamped} to ptr addrspace(256)")
        window = self.op(f"inttoptr i64 {self.load_field('window')} to ptr")
        return "ptr " + self.op(f"getelementptr i8, ptr {window}, i64 {clamped}")

    def tail(self, target: str, kind: str = "musttail") -> None:
        values = {**self.values, "state": "%state", "top": "%top"}
        arguments = ", ".join(f"{_TYPES.get(name, 'i64')} {values[name]}" for name in PARAMETERS)
        self.do(f"{kind} call {CONVENTION} void {target}({arguments})")
        self.do("ret void")

    def next(self, long: bool) -> None:
        self.tail("@next")

    def dispatch_either(self, condition: str) -> None:
        self.do(f"br i1 {condition}, label %yes, label %no")
        self.ends()

    def ends(self) -> None:
        """The two ways on after a branch to `yes` or `no`."""
        self.do("yes:")
        self.tail("@taken")
        self.do("no:")
        self.tail("@next")

    def leave(self, kind: str | int, argument: str | int = 0) -> None:
        self.store_field("exit", kind)
        self.store_field("exit_arg", argument)
        self.tail("@leave")

    def leave_packed(self) -> None:
        packed = self.immediate()
        self.leave(self.op(f"and i64 {packed}, 255"), self.op(f"lshr i64 {packed}, 8"))

    def function(self, name: str, avx: bool = False) -> str:
        body = "\n  ".join(self.lines)
        return f'define {CONVENTION} void @"{name}"({SIGNATURE}) #{int(avx)} {{\n  {body}\n}}\n'


def operands(v: Variant) -> tuple[Type | None, tuple[Type, ...]]:
    """The type of the result and those of the operands that are in slots."""
    if head(v.row) == "put":
        return v.row.operands[0], v.row.operands
    if head(v.row) == "clear":
        return V128, ()
    row = v.row if v.second is None else operands_of(v.row, v.second)
    found = row.operands[: len(row.operands) - v.imm_last]
    result = v.row.result
    if result is None and v.second is not None:
        result = v.second.result
    return (None if v.branches else result), found


def shapes(v: Variant) -> list[str]:
    """The shapes that a variant is compiled for; none if the interpreter does it."""
    rows = [v.row] if v.second is None else [v.row, v.second]
    touched = {SLOTS[name] for row in rows for name in (*row.reads, *row.writes)}
    if head(v.row) in OUTSIDE or len(v.row.operands) > 3 or touched & set(PIN_OF) or v.row.indirect:
        return []
    result, found = operands(v)
    places = ["m"] if result is None or result.is_vector else ["m", "0"]
    choices = [
        ("m",) if type.is_vector or head(v.row) in UNPINNED else ("m", str(i + 1))
        for i, type in enumerate(found)
    ]
    out = []
    for chosen in product(*choices):
        out += [place + "".join(chosen) for place in places]
        if len(places) == 2:
            out += [place + "".join(chosen) for place in chosen if place != "m"]
    return out


def limit(v: Variant) -> int:
    """What a constant operand has to be below for the stencils to be right, 0 for any."""
    return v.row.bits if v.imm_last and head(v.row) in SHIFTS else 0


def stencil(v: Variant, shape: str, name: str) -> str:
    below = limit(v)
    w = Stencil((*shape, *"mmmm"), head(v.row) in records.BITWISE, below)
    before = handlers.handler(v, w) if v.second is None else handlers.pair_handler(v, w)
    return before.replace(f'@"{v.name}"', f'@"{name}"', 1)


def _control(name: str, shape: str) -> Stencil:
    w = Stencil((*shape, *"mmmm"))
    if name == "enter":
        left = w.op(f"sub i64 {w.load_field('budget')}, {w.immediate()}")
        w.store_field("budget", left)
        spent = w.op(f"icmp slt i64 {left}, 0")
        w.do(f"br i1 {spent}, label %yes, label %no, !prof !1")
        w.ends()
    elif name == "spent":
        w.store_field("budget", w.op(f"add i64 {w.load_field('budget')}, {w.immediate()}"))
        w.store_field("pc", w.literal())
        w.leave(Exit.BUDGET)
    elif name == "branch":
        w.dispatch_either(w.read(9, I1))
    elif name == "link":
        w.store_field("exit_at", w.op('call i64 asm "leaq h_exit(%rip), $0", "=r"()'))
        w.store_field("pc", w.literal())
        w.leave(Exit.LINK)
    elif name == "jump":
        handlers.jump(w, w.tail, TABLE_AT)
    elif name == "trap_if":
        w.do(f"br i1 {w.read(9, I1)}, label %yes, label %no, !prof !1")
        w.ends()
    elif name == "trap":
        w.store_field("pc", w.literal())
        w.leave_packed()
    else:
        w.leave_packed()
    return w


def _slot_pointer(w: Writer, slot: int) -> str:
    return w.op(f"getelementptr inbounds i64, ptr %state, i64 {slot}")


def _leave() -> str:
    """Put the pinned registers back into the state and return to the interpreter's `run`."""
    w = Stencil(())
    for name, slot in zip(PIN_PARAMETERS, PINNED, strict=True):
        w.do(f"store i64 %{name}, ptr {_slot_pointer(w, slot)}, align 8")
    w.do("ret void")
    return w.function("leave_code")


def _load_all(w: Stencil) -> None:
    for name, slot in zip(PIN_PARAMETERS, PINNED, strict=True):
        w.values[name] = w.op(f"load i64, ptr {_slot_pointer(w, slot)}, align 8")


def _enter_code() -> str:
    """The handler of a record that holds the address of T1 code: enters it. It also goes on after a handler
    of the interpreter that ran in its place."""
    w = Stencil(())
    window = w.load_field("window")
    # wrgsbase rax
    w.do(f'call void asm sideeffect ".byte 0xf3, 0x48, 0x0f, 0xae, 0xd8", "{{rax}}"(i64 {window})')
    _load_all(w)
    where = w.op("getelementptr i8, ptr %record, i64 8")
    w.tail(w.op(f"load ptr, ptr {where}, align 8"), "tail")
    body = "\n  ".join(w.lines)
    return f'define {CONVENTION} void @"enter_code"({handlers.PARAMETERS}) #0 {{\n  {body}\n}}\n'


def _outside() -> str:
    """Run the record at the hole `h_copy` with the interpreter's handler: a copy whose next record comes back
    here, or the first one of a block, where records go on."""
    w = Stencil(())
    for name, slot in zip(PIN_PARAMETERS, PINNED, strict=True):
        w.do(f"store i64 %{name}, ptr {_slot_pointer(w, slot)}, align 8")
    record = w.op('call ptr asm "leaq h_copy(%rip), $0", "=r"()')
    handler = w.op(f"load ptr, ptr {record}, align 16")
    window = w.op(f"inttoptr i64 {w.load_field('window')} to ptr")
    w.do(f"tail call {CONVENTION} void {handler}(ptr %state, ptr {record}, ptr {window}, i64 %top)")
    w.do("ret void")
    return w.function("outside")


CONTROL_SHAPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("enter", "spent", "trap", "link", "exit"), ("m",)),
    **dict.fromkeys(("branch", "jump", "trap_if"), ("mm", "m1")),
}


def module(rows: Iterable[Row]) -> tuple[str, dict[str, tuple[str, str]]]:
    """The text, and for each function's name the variant and shape it is for."""
    parts = [_leave(), _enter_code(), _outside()]
    index: dict[str, tuple[str, str]] = {name: (name, "") for name in ("leave_code", "enter_code", "outside")}
    for name, found in CONTROL_SHAPES.items():
        for shape in found:
            symbol = f"s{len(index)}"
            index[symbol] = name, shape
            parts.append(_control(name, shape).function(symbol))
    for row in rows:
        for v in records.variants(row):
            for shape in shapes(v):
                symbol = f"s{len(index)}"
                index[symbol] = v.name, shape
                parts.append(stencil(v, shape, symbol))
    text = "".join(parts)
    holes = "".join(f"@{name} = external hidden global i8\n" for name in HOLES)
    types = ", ".join(_TYPES.get(name, "i64") for name in PARAMETERS)
    ends = "".join(f"declare {CONVENTION} void @{name}({types})\n" for name in ("next", "taken", "leave"))
    tail = '!0 = !{}\n!1 = !{!"branch_weights", i32 1, i32 1000000}\n'
    tail += handlers.attributes()
    return holes + ends + text + declarations(text) + tail, index


__all__ = ["CONTROL_SHAPES", "module", "operands", "shapes"]
