"""The LLVM text of the stencils. Imported only to build them.

A stencil's operands are parameters (pinned registers) or slots of the state at an offset that is a hole;
which of them is what is the stencil's *shape*, one letter for the result and each operand: `m` a slot in
memory, a digit a register; two have the same digit when they are in the same register. All stencils are
`preserve_none` functions with the same parameters, a register for the result and for each operand, and end in
a tail call to `next`; parameters that the shape does not name are anything, and their registers free.

An access with a base only relies on the base being not above `top`: the assembler puts a `check` before it,
unless there was one, and displacements stay inside the guards beside the window (`machine/window.py`). With
an index the stencil checks the sum itself and goes to `taken`, an access that faults, if it is outside. A row
that wants its address aligned leaves that to the host's instruction.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from nexus.backend.interp import handlers, records
from nexus.backend.interp.handlers import CONVENTION, Writer, quads
from nexus.backend.interp.pairs import operands_of
from nexus.backend.interp.records import Variant, head
from nexus.backend.llvm.expand import declarations
from nexus.backend.stencils import layout
from nexus.backend.stencils.layout import IMMEDIATE_BIAS, PIN_OF
from nexus.ir.ops.table import PURE, Row
from nexus.ir.state import FLAGS, SLOTS, VECTOR_BYTES, VECTOR_OFFSET, Exit
from nexus.ir.types import I1, I64, V128, V256, Type

SCALARS = tuple(f"p{n}" for n in range(4))
VECTORS = tuple(f"x{n}" for n in range(4))
_PAIR, _FOUR = "<2 x i64>", "<4 x i64>"
_TYPES = {"state": "ptr", **dict.fromkeys(SCALARS, "i64"), **dict.fromkeys(VECTORS, _PAIR)}
# the parameters of a stencil that has to do with whole vector registers, and what its tail calls are named
_LONG_TYPES = {**_TYPES, **dict.fromkeys(VECTORS, _FOUR)}
LONG = "_long"
HOLES = ("h_d", "h_a", "h_b", "h_c", "h_imm")
_HOLE_AT = {8: "h_d", 9: "h_a", 10: "h_b", 11: "h_c"}
_POSITION_AT = {8: 0, 9: 1, 10: 2, 11: 3}
# Rows that are rare, or do much: the interpreter's handler does them.
OUTSIDE = ("string", "x87", "fx", "mmx", "mxcsr", "rcl", "rcr", "crc32c", "pdep", "pext", "cpuid")
SHIFTS = ("shl", "shr", "sar", "rotl", "rotr")
# Kinds of slots. A vector register holds 256 bits of its slot; a wide vector has more, always in memory.
SCALAR, VECTOR, WIDE = range(1, 4)
NO_ACCESS, BASE, INDEXED = range(3)
FIXED = "#"  # after the name of a variant for one immediate, which follows
_FIXED = {"v.extract": (0, 1), "v.insert": (0, 1)}  # by the beginning of the row's name
COUNTED = ".cl."  # in the name of a row of flags that leaves them alone if its last operand is 0
QUIET = "~"  # after the name of a variant that does two rows: these stencils leave the flags out
# what a record means for the flags; deferred ones are COUNT and above
NONE, TOUCHES, SETS, DEFERRABLE = range(4)


class Stencil(Writer):
    """A handler whose record fields are holes. `where`: for the result and operands a, b, c, `m` or a
    digit."""

    def __init__(
        self,
        where: tuple[str, ...],
        bitwise: bool = False,
        below: int = 0,
        quiet: bool = False,
        long: bool = False,
        fixed: int | None = None,
    ) -> None:
        """`below`: immediates are less than that, if not 0. `quiet`: flags are not stored. `long`: it has to
        do with whole vector registers, others with their lower halves. `fixed`: the only immediate it is
        for."""
        super().__init__(bitwise)
        self.below = below
        self.fixed = fixed
        self.quiet = quiet
        self.where = where
        self.types = _LONG_TYPES if long else _TYPES
        self.values = {name: f"%{name}" for name in _TYPES}

    def _pin(self, offset: int, type: Type) -> str:
        place = self.where[_POSITION_AT[offset]]
        return "" if place == "m" else f"{'x' if type.is_vector else 'p'}{place}"

    def slot(self, offset: int, vector: bool) -> str:
        return self.op(
            f"getelementptr inbounds i8, ptr %state, i64 ptrtoint (ptr @{_HOLE_AT[offset]} to i64)"
        )

    def read(self, offset: int, type: Type) -> str:
        pin = self._pin(offset, type)
        if pin and type.is_vector:
            value = self.resized(self.values[pin], self.types[pin], quads(type))
            return self.op(f"bitcast {quads(type)} {value} to {type.llvm}")
        if pin:
            return (
                self.values[pin] if type is I64 else self.op(f"trunc i64 {self.values[pin]} to {type.llvm}")
            )
        return super().read(offset, type)

    def write(self, offset: int, type: Type, value: str) -> None:
        pin = self._pin(offset, type)
        if pin and type.is_vector:
            lanes = self.op(f"bitcast {type.llvm} {value} to {quads(type)}")
            self.values[pin] = self.resized(lanes, quads(type), self.types[pin])
        elif pin:
            self.values[pin] = value if type is I64 else self.op(f"zext {type.llvm} {value} to i64")
        else:
            super().write(offset, type, value)

    def resized(self, value: str, given: str, wanted: str) -> str:
        """Two 64-bit lanes as four, zero above, or the lower two of four."""
        if given == wanted:
            return value
        more, places = ("poison", "<2 x i32> <i32 0, i32 1>")
        if wanted == _FOUR:
            more, places = ("zeroinitializer", "<4 x i32> <i32 0, i32 1, i32 2, i32 3>")
        return self.op(f"shufflevector {given} {value}, {given} {more}, {places}")

    def clear(self, offset: int, width: int) -> None:
        pin = self._pin(offset, V256)
        if pin and width < V256.bits:
            self.values[pin] = self.resized(self.resized(self.values[pin], _FOUR, _PAIR), _PAIR, _FOUR)
        if pin:  # what is above the register is in the slot
            above = self.op(f"getelementptr inbounds i8, ptr {self.slot(offset, True)}, i64 {V256.bits // 8}")
            self.do(f"store {_FOUR} zeroinitializer, ptr {above}, align 16")
        else:
            super().clear(offset, width)

    def store_field(self, name: str, value: str | int) -> None:
        if not (self.quiet and name in FLAGS):
            super().store_field(name, value)

    def immediate(self, type: Type = I64) -> str:
        if self.fixed is not None:
            return str(self.fixed)
        wide = self.op(f"add i64 ptrtoint (ptr @h_imm to i64), {IMMEDIATE_BIAS}")
        if self.below:  # which LLVM then need not test
            wide = self.op(f"and i64 {wide}, {self.below - 1}")
        return wide if type is I64 else self.op(f"trunc i64 {wide} to {type.llvm}")

    def literal(self, type: Type = I64, second: bool = False) -> str:
        wide = self.op('call i64 asm "movabsq $$h_lit, $0", "=r"()')
        return wide if type is I64 else self.op(f"trunc i64 {wide} to {type.llvm}")

    def access(self, row: Row, address: str) -> str:
        if accesses(row) == INDEXED:
            # volatile, or a row that needs `top` as well would hold it in a register of its own
            top = self.op(f"load volatile i64, ptr {self.field('top')}, align 8")
            outside = self.op(f"icmp ugt i64 {address}, {top}")
            self.do(f"br i1 {outside}, label %wild, label %inside, !prof !1")
            self.do("wild:")
            self.tail("@taken")
            self.do("inside:")
        if head(row) in ("load", "store") and ".mask." not in row.name:
            return "ptr addrspace(256) " + self.op(f"inttoptr i64 {address} to ptr addrspace(256)")
        window = self.op(f"inttoptr i64 {self.load_field('window')} to ptr")
        return "ptr " + self.op(f"getelementptr i8, ptr {window}, i64 {address}")

    def tail(self, target: str, kind: str = "musttail") -> None:
        arguments = ", ".join(
            f"{type} {self.values[name] if name == 'state' or name[1] in self.where else 'poison'}"
            for name, type in self.types.items()
        )
        target += LONG if self.types is _LONG_TYPES and target[0] == "@" else ""
        self.do(f"{kind} call {CONVENTION} void {target}({arguments})")
        self.do("ret void")

    def next(self, long: bool) -> None:
        self.tail("@next")

    def dispatch_either(self, condition: str) -> None:
        # so that LLVM does not pass on what it knows of an operand on one of the ways, but the operand
        for place in sorted(set(self.where) - {"m"}):
            for name, type in ((f"p{place}", "i64"), (f"x{place}", self.types[f"x{place}"])):
                kept = self.values[name]
                if kept == f"%{name}" and any(name in line for line in self.lines):
                    register = "r" if type == "i64" else "x"
                    self.values[name] = self.op(
                        f'call {type} asm sideeffect "", "={register},0"({type} {kept})'
                    )
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
        signature = ", ".join(f"{type} %{name}" for name, type in self.types.items())
        return f'define {CONVENTION} void @"{name}"({signature}) #{int(avx)} {{\n  {body}\n}}\n'


def accesses(row: Row) -> int:
    """How the stencils of a row get at the guest's memory."""
    if not row.address or row.effect == PURE:
        return NO_ACCESS
    return BASE if row.address == 1 else INDEXED


def operands(v: Variant) -> tuple[Type | None, tuple[Type, ...]]:
    """The type of the result and those of the operands that are in slots."""
    if head(v.row) == "put":
        return v.row.operands[0], v.row.operands
    if head(v.row) == "clear":
        return V256, ()
    row = v.row if v.second is None else operands_of(v.row, v.second)
    found = row.operands[: len(row.operands) - v.imm_last]
    result = v.row.result
    if result is None and v.second is not None:
        result = v.second.result
    return (None if v.branches else result), found


def kind(type: Type | None) -> int:
    """SCALAR, VECTOR, WIDE or, without one, 0."""
    if type is None:
        return 0
    return SCALAR if not type.is_vector else VECTOR if type in (V128, V256) else WIDE


def is_long(v: Variant) -> bool:
    """Has it to do with whole vector registers?"""
    result, found = operands(v)
    return V256 in (result, *found)


def flags(v: Variant) -> tuple[int, bool]:
    """What a variant means for the flags: NONE, TOUCHES (reads or sets some), SETS (all of them, or
    DEFERRABLE + the position in `layout.DEFERRED`; and whether those are the flags of its result."""
    rows = [v.row] if v.second is None else [v.row, v.second]
    for row in rows:
        name = row.name.replace(COUNTED, ".")
        if name in layout.COMPARING and v.second is None:
            continue  # it also has to raise what it raises, and now
        if name in layout.FULL or (name == row.name and name in layout.DEFERRED):
            return DEFERRABLE + layout.DEFERRED.index(name), row is v.second
    reads = {name for row in rows for name in row.reads} & set(FLAGS)
    writes = {name for row in rows for name in row.writes} & set(FLAGS)
    if writes == set(FLAGS) and not reads and not v.row.address:
        return SETS, False
    return (TOUCHES if reads or writes or v.row.indirect else NONE), False


def shapes(v: Variant) -> list[str]:
    """The shapes that a variant is compiled for; none if the interpreter does it."""
    rows = [v.row] if v.second is None else [v.row, v.second]
    touched = {SLOTS[name] for row in rows for name in (*row.reads, *row.writes)}
    if head(v.row) in OUTSIDE or len(v.row.operands) > 3 or touched & set(PIN_OF) or v.row.indirect:
        return []
    result, found = operands(v)
    if v.imm_wide and any(kind(t) not in (0, SCALAR) for t in (result, *found)):
        return []  # immediates of vectors have 8 bits
    out = []
    for chosen in product(*(("m",) if kind(t) == WIDE else ("m", str(i + 1)) for i, t in enumerate(found))):
        places = ["m"] if result is None or kind(result) == WIDE else ["m", "0"]
        if len(places) == 2:
            places += [p for p, t in zip(chosen, found, strict=True) if p != "m" and kind(t) == kind(result)]
        out += [place + "".join(chosen) for place in places]
        if chosen == ("1", "2") and kind(found[0]) == kind(found[1]) and not v.branches:
            out += [place + "11" for place in places if place != "2"]
    return out


def limit(v: Variant) -> int:
    """What a constant operand has to be below for the stencils to be right, 0 for any."""
    if not v.imm_last:
        return 0
    kind, _, rest = v.row.name.partition(".")
    if kind == "v" and rest.startswith(SHIFTS):  # all lanes by the same
        return int(rest.split(".")[1][1:])
    return v.row.bits if kind in SHIFTS else 0


def fixed(v: Variant) -> tuple[int, ...]:
    """Immediates that a variant has stencils of their own for."""
    if not v.row.has_imm or v.imm_wide:
        return ()
    return next((found for name, found in _FIXED.items() if v.row.name.startswith(name + ".")), ())


def stencil(v: Variant, shape: str, name: str, quiet: bool = False, fixed: int | None = None) -> str:
    w = Stencil((*shape, *"mmmm"), head(v.row) in records.BITWISE, limit(v), quiet, is_long(v), fixed)
    before = handlers.handler(v, w) if v.second is None else handlers.pair_handler(v, w)
    return before.replace(f'@"{v.name}"', f'@"{name}"', 1)


def _control(name: str, shape: str) -> Stencil:
    w = Stencil((*shape, *"mmmm"))
    if name == "enter":  # the budget is in the result's register
        left = w.values["p0"] = w.op(f"sub i64 %p0, {w.immediate()}")
        w.do(f"br i1 {w.op(f'icmp slt i64 {left}, 0')}, label %yes, label %no, !prof !1")
        w.ends()
    elif name == "spent":
        w.values["p0"] = w.op(f"add i64 %p0, {w.immediate()}")
        w.store_field("pc", w.literal())
        w.leave(Exit.BUDGET)
    elif name == "check":  # is an address that is going to be a base not above `top`?
        outside = w.op(f"icmp ugt i64 {w.read(9, I64)}, {w.load_field('top')}")
        w.do(f"br i1 {outside}, label %yes, label %no, !prof !1")
        w.ends()
    elif name in ("wild_load", "wild_store"):  # fault
        wall = w.op(f"inttoptr i64 {w.load_field('top')} to ptr addrspace(256)")
        w.do(
            f"store volatile i8 0, ptr addrspace(256) {wall}"
            if name == "wild_store"
            else f"%none = load volatile i8, ptr addrspace(256) {wall}"
        )
        w.tail("@leave")
    elif name in ("settled", "settled_high"):  # are there pending flags, or such in the high half?
        # each half as wide as it may have been written, or the load waits for that
        high = w.op(f"getelementptr i8, ptr {w.field('pending')}, i64 4")
        number = w.op(f"load volatile i32, ptr {high}, align 4")
        if name == "settled":
            low = w.op(f"load volatile i32, ptr {w.field('pending')}, align 8")
            number = w.op(f"or i32 {number}, {low}")
        w.do(f"br i1 {w.op(f'icmp ne i32 {number}, 0')}, label %yes, label %no, !prof !1")
        w.ends()
    elif name == "settle":
        w.do('call void asm sideeffect "callq settle", ""()')
        w.tail("@next")
    elif name == "pend_high":
        where = w.op(f"getelementptr i8, ptr {w.field('pending')}, i64 4")
        w.do(f"store i32 {w.op(f'trunc i64 {w.immediate()} to i32')}, ptr {where}, align 4")
        w.tail("@next")
    elif name == "clear_above":  # what a register of 256 bits does not hold
        above = w.op(f"getelementptr inbounds i8, ptr {w.slot(8, True)}, i64 {V256.bits // 8}")
        w.do(f"store {_FOUR} zeroinitializer, ptr {above}, align 16")
        w.tail("@next")
    elif name == "outside":
        w.do('call void asm sideeffect "leaq h_copy(%rip), %rax", "~{rax}"()')
        w.tail("@outside")
    elif name == "branch":
        w.dispatch_either(w.read(9, I1))
    elif name == "link":
        w.store_field("exit_at", w.op('call i64 asm "leaq h_exit(%rip), $0", "=r"()'))
        w.store_field("pc", w.literal())
        w.leave(Exit.LINK)
    elif name == "jump":
        handlers.jump(w, w.tail, layout.TABLE_AT)
    elif name == "trap_if":
        w.do(f"br i1 {w.read(9, I1)}, label %yes, label %no, !prof !1")
        w.ends()
    elif name == "trap":
        w.store_field("pc", w.literal())
        w.leave_packed()
    else:
        w.leave_packed()
    return w


def _base_code() -> str:
    """What a piece of T1's memory begins with (`layout.FAULT` and so on; T0's convention is state r12, record
    r13, window r14, top r15).

    fault   after a fault: the host's stack as `run` left it, then leave
    leave   registers into the state, pending flags computed, back to `run`
    enter   the handler of a record that holds the address of host code: enters it. It also goes on after a
            handler of the interpreter that ran in its place
    settle  called by host code: computes pending flags
    settle_next   the handler after each that computes them
    outside       computes pending flags and goes on at the record at rax; one comes back with enter
    """
    at = {name: 8 * index for name, index in SLOTS.items()}
    gprs = [(8 * slot, f"%{pin.lower()}") for slot, pin in PIN_OF.items()]
    gprs.append((at["budget"], f"%{layout.BUDGET.lower()}"))
    places = ((VECTOR_OFFSET + VECTOR_BYTES * s, pin) for s, pin in layout.VECTOR_PIN_OF.items())
    vectors = [(offset, "%" + pin.lower().replace("x", "y", 1)) for offset, pin in places]
    spill = [f"movq {r}, {o}(%r12)" for o, r in gprs] + [f"vmovups {r}, {o}(%r12)" for o, r in vectors]
    spill.append("vzeroupper")
    # where all upper halves are zero they are not loaded: SSE is slow beside them (`encodings.py`)
    uppers = [f"{'por' if index else 'movaps'} {o + 16}(%r12), %xmm0" for index, (o, _) in enumerate(vectors)]
    lower = [f"movaps {o}(%r12), {r.replace('y', 'x', 1)}" for o, r in vectors]
    whole = [f"vmovups {o}(%r12), {r}" for o, r in vectors]
    reload = [*(f"movq {o}(%r12), {r}" for o, r in gprs), *uppers, "ptest %xmm0, %xmm0", "jne 77f"]
    reload += ["vzeroupper", *lower, "jmp 78f", "77:", *whole, "78:"]
    as_t0 = [f"movq {at['window']}(%r12), %r14", f"movq {at['top']}(%r12), %r15"]
    pending, resume, record = at["pending"], at["resume"], at["resume_record"]
    lines = [
        *(f".byte 0xe9; .long {label}f-.-4" for label in (1, 2, 3, 4, 5, 6)),
        *("1:", f"movq {at['host_stack']}(%r12), %rsp", "subq $$8, %rsp"),
        *("2:", *spill, "jmp 5f"),
        *(
            "3:",
            "movq 8(%r13), %rax",
            f"movq {at['window']}(%r12), %rcx",
            "wrgsbase %rcx",
            *reload,
            "jmp *%rax",
        ),
        *("4:", f"popq {resume}(%r12)", *spill),
        "5:",
        *(f"movl {pending}(%r12), %eax", f"movl $$0, {pending}(%r12)", "testl %eax, %eax", "jne 7f"),
        *(f"movl {pending + 4}(%r12), %eax", f"movl $$0, {pending + 4}(%r12)", "testl %eax, %eax", "jne 7f"),
        *(f"movq {record}(%r12), %r13", "testq %r13, %r13", "jne 9f"),
        *(f"movq {resume}(%r12), %rax", "testq %rax, %rax", "jne 8f", "ret"),
        *("7:", *as_t0, "shlq $$5, %rax", "movabsq $$h_lit, %r13", "addq %rax, %r13", "jmp *(%r13)"),
        *("8:", f"movq $$0, {resume}(%r12)", *reload, "jmp *%rax"),
        *("6:", f"movq %rax, {record}(%r12)", *spill, "jmp 5b"),
        *("9:", f"movq $$0, {record}(%r12)", *as_t0, "jmp *(%r13)"),
    ]
    text = "\\0A".join(lines)
    return (
        f'define {CONVENTION} void @"base_code"() #1 naked {{\n  '
        f'call void asm sideeffect "{text}", ""()\n  unreachable\n}}\n'
    )


CONTROL_SHAPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("wild_load", "wild_store", "settled", "settled_high", "settle", "pend_high"), ("m",)),
    **dict.fromkeys(("trap", "link", "exit", "clear_above"), ("m",)),
    **dict.fromkeys(("enter", "spent"), ("0",)),
    **dict.fromkeys(("branch", "trap_if", "check"), ("mm", "m1")),
    "jump": ("m1",),
    "outside": ("",),
}


def module(rows: Iterable[Row]) -> tuple[str, dict[str, tuple[str, str]]]:
    """The text, and for each function's name the variant and shape it is for."""
    parts = [_base_code()]
    index: dict[str, tuple[str, str]] = {"base_code": ("base_code", "")}
    for name, found in CONTROL_SHAPES.items():
        for shape in found:
            symbol = f"s{len(index)}"
            index[symbol] = name, shape
            parts.append(_control(name, shape).function(symbol, name == "clear_above"))
    for row in rows:
        for v in records.variants(row):
            quiet = v.second is not None
            for shape in shapes(v):
                symbol = f"s{len(index)}"
                index[symbol] = v.name + QUIET * quiet, shape
                parts.append(stencil(v, shape, symbol, quiet))
                for number in fixed(v):
                    symbol = f"s{len(index)}"
                    index[symbol] = f"{v.name}{FIXED}{number}", shape
                    parts.append(stencil(v, shape, symbol, quiet, number))
    text = "".join(parts)
    holes = "".join(f"@{name} = external hidden global i8\n" for name in HOLES)
    ends = ""
    for types, ending in ((_TYPES, ""), (_LONG_TYPES, LONG)):
        parameters = ", ".join(types.values())
        ends += "".join(f"declare {CONVENTION} void @{name}{ending}({parameters})\n" for name in ENDS)
    tail = '!0 = !{}\n!1 = !{!"branch_weights", i32 1, i32 1000000}\n'
    # the tuning of a processor for which a LEA of three parts is one step
    tail += handlers.attributes('"tune-cpu"="znver3"')
    return holes + ends + text + declarations(text) + tail, index


ENDS = ("next", "taken", "leave", "outside")

__all__ = ["CONTROL_SHAPES", "module", "operands", "shapes"]
