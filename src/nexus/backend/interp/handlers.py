"""The LLVM text of the handlers, one function per variant of `records.py`. Imported only to build the blob.

Every handler is `preserve_none` with four arguments - state (r12), record (r13), host address of the guest's
window (r14), top of the guest's addresses (r15) - and ends in a tail call to the next record's handler.
Guest accesses go to window + umin(address, top): what lies at `top` is never accessible, so every address
outside faults, and the exact guest address is computed again from the record (`engine.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nexus.backend.interp import layout, records
from nexus.backend.interp.pairs import operands_of
from nexus.backend.interp.records import Variant
from nexus.backend.llvm.compile import features
from nexus.backend.llvm.expand import declarations, expand
from nexus.ir.ops.table import PURE, Row
from nexus.ir.state import SLOTS, VECTOR_BYTES, VECTOR_OFFSET, Exit
from nexus.ir.types import I1, I64, Type

CONVENTION = "preserve_nonecc"
PARAMETERS = "ptr %state, ptr %record, ptr %window, i64 %top"
_ALIGN = {"i8": 1, "i32": 4, "i64": 8}


class Writer:
    """The body of one handler under construction."""

    def __init__(self, bitwise: bool = False) -> None:
        """`bitwise`: the row only moves or combines bits, which LLVM would do with integers; whoever reads
        the vector next then waits until all of them have reached memory."""
        self.lines: list[str] = []
        self.count = 0
        self.bitwise = bitwise

    def op(self, text: str) -> str:
        """Emit an instruction with a result; return its name."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"{name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.lines.append(text)

    def record_field(self, offset: int, kind: str) -> str:
        where = self.op(f"getelementptr i8, ptr %record, i64 {offset}")
        return self.op(f"load {kind}, ptr {where}, align {_ALIGN[kind]}, !invariant.load !0")

    def slot(self, offset: int, vector: bool) -> str:
        """The host address of the slot that the record names at `offset`."""
        index = self.op(f"zext i8 {self.record_field(offset, 'i8')} to i64")
        if not vector:
            return self.op(f"getelementptr inbounds i64, ptr %state, i64 {index}")
        base = self.op(f"getelementptr inbounds i8, ptr %state, i64 {VECTOR_OFFSET}")
        return self.op(f"getelementptr inbounds [{VECTOR_BYTES} x i8], ptr {base}, i64 {index}")

    def read(self, offset: int, type: Type) -> str:
        where = self.slot(offset, type.is_vector)
        if self.bitwise and type.is_vector:
            whole = self.op(f"load volatile {quads(type)}, ptr {where}, align 16")
            return self.op(f"bitcast {quads(type)} {whole} to {type.llvm}")
        if type is I1:
            return self.op(f"trunc i8 {self.op(f'load i8, ptr {where}, align 8')} to i1")
        return self.op(f"load {type.llvm}, ptr {where}, align {16 if type.is_vector else 8}")

    def write(self, offset: int, type: Type, value: str) -> None:
        where = self.slot(offset, type.is_vector)
        if self.bitwise and type.is_vector:
            whole = self.op(f"bitcast {type.llvm} {value} to {quads(type)}")
            self.do(f"store volatile {quads(type)} {whole}, ptr {where}, align 16")
        elif type.is_vector:
            self.do(f"store {type.llvm} {value}, ptr {where}, align 16")
        else:
            wide = value if type is I64 else self.op(f"zext {type.llvm} {value} to i64")
            self.do(f"store i64 {wide}, ptr {where}, align 8")

    def field(self, name: str) -> str:
        """The host address of a named state field."""
        return self.op(f"getelementptr inbounds i64, ptr %state, i64 {SLOTS[name]}")

    def load_field(self, name: str) -> str:
        return self.op(f"load i64, ptr {self.field(name)}, align 8")

    def store_field(self, name: str, value: str | int) -> None:
        self.do(f"store i64 {value}, ptr {self.field(name)}, align 8")

    def immediate(self, type: Type = I64) -> str:
        narrow = self.record_field(12, "i32")
        if type.bits == 32:
            return narrow
        return self.op(f"{'sext' if type.bits > 32 else 'trunc'} i32 {narrow} to {type.llvm}")

    def literal(self, type: Type = I64, second: bool = False) -> str:
        wide = self.record_field(24 if second else 16, "i64")
        return wide if type is I64 else self.op(f"trunc i64 {wide} to {type.llvm}")

    def record_pointer(self, second: bool = False) -> str:
        """The record that the literal points to; links are patched, so this load must not be moved."""
        where = self.op(f"getelementptr i8, ptr %record, i64 {24 if second else 16}")
        return self.op(f"load ptr, ptr {where}, align 8")

    def leave(self, kind: str | int, argument: str | int = 0) -> None:
        self.store_field("exit", kind)
        self.store_field("exit_arg", argument)
        self.store_field("exit_at", self.op("ptrtoint ptr %record to i64"))
        self.do("ret void")

    def leave_packed(self) -> None:
        """Leave with the kind and argument that the record's immediate packs."""
        packed = self.op(f"zext i32 {self.record_field(12, 'i32')} to i64")
        self.leave(self.op(f"and i64 {packed}, 255"), self.op(f"lshr i64 {packed}, 8"))

    def dispatch(self, record: str) -> None:
        handler = self.op(f"load ptr, ptr {record}, align 16")
        self.do(f"musttail call {CONVENTION} void {handler}(ptr %state, ptr {record}, ptr %window, i64 %top)")
        self.do("ret void")

    def next(self, long: bool) -> None:
        self.dispatch(self.op(f"getelementptr i8, ptr %record, i64 {32 if long else 16}"))

    def dispatch_either(self, condition: str) -> None:
        self.do(f"br i1 {condition}, label %yes, label %no")
        self.do("yes:")
        self.dispatch(self.record_pointer())
        self.do("no:")
        self.dispatch(self.record_pointer(second=True))

    def pointer(self, v: Variant, operands: list[str]) -> str:
        """The operand `$p`: the guest address for `lea`, else the host pointer; `$a` becomes the effective
        address."""
        address = self.op(f"add i64 {operands[0]}, {self.immediate()}")
        if v.row.address == 2:
            scaled = self.op(f"shl i64 {operands[1]}, {v.scale}")
            address = self.op(f"add i64 {address}, {scaled}")
        operands[0] = address
        return address if v.row.effect == PURE else self.access(v.row, address)

    def access(self, row: Row, address: str) -> str:
        """The host pointer for a guest address, with the record noted for the fault handler."""
        record = self.op("ptrtoint ptr %record to i64")
        self.do(f"store volatile i64 {record}, ptr {self.field('exit_at')}, align 8")
        if row.align:
            good = self.op(f"icmp eq i64 {self.op(f'and i64 {address}, {row.align - 1}')}, 0")
            address = self.op(f"select i1 {good}, i64 {address}, i64 %top")
        clamped = self.op(f"call i64 @llvm.umin.i64(i64 {address}, i64 %top)")
        return "ptr " + self.op(f"getelementptr i8, ptr %window, i64 {clamped}")

    def clear(self, offset: int, width: int) -> None:
        """Zero the vector slot that the record names at `offset` above its low bits."""
        slot = self.slot(offset, True)
        for at in range(width // 8, VECTOR_BYTES, 16):
            where = self.op(f"getelementptr inbounds i8, ptr {slot}, i64 {at}")
            self.do(f"store <2 x i64> zeroinitializer, ptr {where}, align 16")

    def function(self, name: str, avx: bool = False) -> str:
        body = "\n  ".join(self.lines)
        return f'define {CONVENTION} void @"{name}"({PARAMETERS}) #{int(avx)} {{\n  {body}\n}}\n'


def quads(type: Type) -> str:
    return f"<{type.bits // 64} x i64>"


def _operand_offset(index: int) -> int:
    return 9 + index if index < 3 else 24 + index - 3


def handler(v: Variant, writer: Writer | None = None) -> str:
    """The function of a row's variant."""
    row = v.row
    w = writer or Writer(records.head(row) in records.BITWISE)
    if records.head(row) in ("put", "clear"):
        if row.operands:
            w.write(8, row.operands[0], w.read(9, row.operands[0]))
        else:
            w.clear(8, row.bits)
        w.next(long=False)
        return w.function(v.name, row.avx)
    operands = []
    for index, type in enumerate(row.operands):
        if v.imm_last and index == len(row.operands) - 1:
            operands.append(w.literal(type) if row.address else w.immediate(type))
        else:
            operands.append(w.read(_operand_offset(index), type))
    pointer = w.pointer(v, operands) if row.address else ""
    immediate = ""
    if row.has_imm and not row.address:
        immediate = w.literal() if v.imm_wide else w.immediate()
    out = expand(row, "", operands, immediate, pointer, w.load_field)
    w.lines += out.lines
    for name, value in out.new.items():
        w.store_field(name, value)
    if v.branches:
        w.dispatch_either(out.result)
    else:
        if row.result is not None:
            w.write(8, row.result, out.result)
        w.next(v.long)
    return w.function(v.name, row.avx)


def pair_handler(v: Variant, writer: Writer | None = None) -> str:
    """The function of a variant that does two rows."""
    w, first, second = writer or Writer(), v.row, v.second
    assert second is not None
    types = operands_of(first, second).operands
    operands = [
        w.read(_operand_offset(index), type) for index, type in enumerate(types[: len(types) - v.imm_last])
    ]
    if v.imm_last:
        operands.append(w.immediate(types[-1]))
    before = expand(first, "first.", operands[: len(first.operands)], "", "", w.load_field)
    w.lines += before.lines
    if first.result is not None:
        operands = [before.result]
    after = expand(
        second,
        "second.",
        operands[: len(second.operands)],
        "",
        "",
        lambda name: before.new[name] if name in before.new else w.load_field(name),
    )
    w.lines += after.lines
    for name, value in (*before.new.items(), *after.new.items()):
        w.store_field(name, value)
    if v.branches:
        w.dispatch_either(after.result)
    else:
        result, type = (
            (before.result, first.result) if first.result is not None else (after.result, second.result)
        )
        assert type is not None
        w.write(8, type, result)
        w.next(v.long)
    return w.function(v.name)


def jump(w: Writer, go: Callable[[str], None], table_at: int = 0) -> None:
    """Go to the position that the lookup table has for operand a, a guest address; without one, leave. The
    table lies `table_at` bytes behind the address in the state, and `exit_arg` tells which one it was."""
    target = w.read(9, I64)
    mixed = w.op(f"mul i64 {target}, {layout.LOOKUP_MULTIPLIER}")
    index = w.op(f"lshr i64 {mixed}, {64 - layout.LOOKUP_BITS}")
    table = w.op(f"inttoptr i64 {w.load_field('lookup')} to ptr")
    first = w.op(f"getelementptr i8, ptr {table}, i64 {table_at}")
    entry = w.op(f"getelementptr {{ i64, ptr }}, ptr {first}, i64 {index}")
    known = w.op(f"load i64, ptr {entry}, align 16")
    w.do(f"br i1 {w.op(f'icmp eq i64 {known}, {target}')}, label %hit, label %miss")
    w.do("hit:")
    where = w.op(f"getelementptr i8, ptr {entry}, i64 8")
    go(w.op(f"load ptr, ptr {where}, align 8"))
    w.do("miss:")
    w.store_field("pc", target)
    w.leave(Exit.LOOKUP, table_at)


def controls() -> str:
    """The control records of `records.py`."""
    out = []

    w = Writer()
    where = w.op(f"getelementptr i8, ptr %record, i64 {layout.COUNT}")
    count = w.op(f"sub i64 {w.op(f'load i64, ptr {where}, align 8')}, 1")
    w.do(f"store i64 {count}, ptr {where}, align 8")
    w.do(f"br i1 {w.op(f'icmp slt i64 {count}, 0')}, label %hot, label %warm, !prof !1")
    w.do("hot:")
    w.store_field("pc", w.literal())
    w.leave(Exit.HOT)
    w.do("warm:")
    budget = w.op(f"sub i64 {w.load_field('budget')}, {w.immediate()}")
    w.do(f"br i1 {w.op(f'icmp slt i64 {budget}, 0')}, label %spent, label %go, !prof !1")
    w.do("spent:")
    w.store_field("pc", w.literal())
    w.leave(Exit.BUDGET)
    w.do("go:")
    w.store_field("budget", budget)
    w.next(long=True)
    out.append(w.function("enter"))

    w = Writer()
    w.dispatch(w.record_pointer())
    out.append(w.function("goto"))

    w = Writer()
    w.dispatch_either(w.read(9, I1))
    out.append(w.function("branch"))

    w = Writer()
    w.store_field("pc", w.literal())
    w.leave(Exit.LINK)
    out.append(w.function("link"))

    w = Writer()
    jump(w, w.dispatch)
    out.append(w.function("jump"))

    w = Writer()
    w.do(f"br i1 {w.read(9, I1)}, label %trap, label %go")
    w.do("trap:")
    w.store_field("pc", w.literal())
    w.leave_packed()
    w.do("go:")
    w.next(long=True)
    out.append(w.function("trap_if"))

    w = Writer()
    w.leave_packed()
    out.append(w.function("exit"))
    return "".join(out)


def module(rows: Iterable[Row]) -> str:
    """All handlers, then the attributes they share; `runtime.py` supplies the rest of the blob."""
    parts = [controls()]
    for row in rows:
        for v in records.variants(row):
            parts.append(handler(v) if v.second is None else pair_handler(v))
    text = "".join(parts)
    tail = '!0 = !{}\n!1 = !{!"branch_weights", i32 1, i32 1000000}\n'
    return text + declarations(text) + tail + attributes()


def attributes(more: str = "") -> str:
    """Of functions: #0 for all, #1 for those of rows with `avx`."""
    common = f'nounwind "no-builtins" {more}'
    return (
        f"attributes #0 = {{ {common} }}\n"
        f'attributes #1 = {{ {common} "target-features"="{features(avx=True)}" }}\n'
    )


__all__ = ["CONVENTION", "PARAMETERS", "Writer", "attributes", "handler", "module"]
