"""The LLVM text of a region: one function of the interpreter's convention.

Every slot that the region uses is an `alloca`, filled at the entry, which LLVM turns into SSA values; they
go back to the state where the region is left. A guest access is inline assembly with a second way out
(`callbr`), taken by the signal handler when it fails: there the registers are stored as they were before the
instruction, which the interpreter then does. Flags that nobody reads are not among them.

Addresses: `root + constant`, where the root is compared with the window's top once and replaced by one that
always faults if it lies above; constants are small enough for the guards around the window (`NEAR`). That
is a fault too where only the sum is a good address; the interpreter does not mind.
"""

from __future__ import annotations

from nexus.backend.interp.handlers import CONVENTION, PARAMETERS
from nexus.backend.jit import unit
from nexus.backend.jit.region import ALL_FLAGS, Region, liveness
from nexus.backend.llvm.expand import declarations, expand
from nexus.ir.ops import CONTROL, LOAD, STORE
from nexus.ir.state import SLOTS, VECTOR_BYTES, VECTOR_OFFSET
from nexus.ir.types import I1, I64, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.values import Block, Value

FAR = 1 << 31  # above the top, where an access faults with every constant
NEAR = 1 << 30  # constants are less than that; the window's guards are larger than FAR + NEAR
ACCESSES = ".nexus.accesses"  # the section of the table

_PC, _BUDGET = SLOTS["pc"], SLOTS["budget"]
_LOADS = {
    "i8": "movzbl {}, ${{0:k}}",
    "i16": "movzwl {}, ${{0:k}}",
    "i32": "movl {}, $0",
    "i64": "movq {}, $0",
}
_STORES = {"i8": "movb $0, {}", "i16": "movw $0, {}", "i32": "movl $0, {}", "i64": "movq $0, {}"}
_PAIR = "<2 x i64>"  # a vector in a register
_OUTSIDE = ("x87", "fx", "mmx", "mxcsr", "string", "atomic", "cpuid")
_SMALL_STEPS = ("add.i64", "sub.i64")


class Unfit(Exception):
    """The region begins with an instruction that is left to the interpreter."""


def lower(region: Region) -> tuple[str, list[int]]:
    """The module's text and the ways out, in the order of their numbers; raises Unfit.

    Entries that begin with an instruction which is left to the interpreter are taken out of the region.
    """
    while True:
        function = _Function(region)
        text = function.text()
        kept = [pc for pc in region.entries if pc not in function.stuck]
        if kept == region.entries:
            return text, list(function.ways)
        if region.entries[0] not in kept:
            raise Unfit(f"{region.entries[0]:#x}")
        region.entries = kept


def _label(pc: int) -> str:
    return f"b{pc:x}"


def _entrance(pc: int) -> str:
    """Where a block is entered from outside: past the look at the budget, so that every entry gets on."""
    return f"e{pc:x}"


def is_outside(op: Value) -> bool:
    """Whether the instruction of an op is left to the interpreter."""
    head = op.row.name.partition(".")[0]
    return head in _OUTSIDE or op.row.indirect or head == "exit"


class _Slots:
    """What of the state the blocks of a region use, and which of it they write. Vector slots have the LLVM
    type of their widest use."""

    def __init__(self, region: Region) -> None:
        scalars = {_BUDGET}
        widths: dict[int, int] = {}
        self.written = {_BUDGET}
        self.written_vectors: set[int] = set()
        for block in region.blocks.values():
            for op in block.ops:
                head, row = op.row.name.partition(".")[0], op.row
                if head in ("get", "put"):
                    type = row.operands[0] if head == "put" else row.result
                    assert type is not None
                    if type.is_vector:
                        widths[op.imm] = max(widths.get(op.imm, 0), type.bits)
                    else:
                        scalars.add(op.imm)
                    if head == "put":
                        (self.written_vectors if type.is_vector else self.written).add(op.imm)
                scalars.update(SLOTS[name] for name in (*row.reads, *row.writes))
                self.written.update(SLOTS[name] for name in row.writes)
        self.scalars = sorted(scalars - {_PC})
        self.vectors = {slot: f"<{bits // 64} x i64>" for slot, bits in sorted(widths.items())}
        self.written.discard(_PC)


class _Function:
    """The function under construction: lines of text, and what its blocks share."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.lines: list[str] = []
        self.count = 0
        self.ways: dict[int, int] = {}
        self.stuck: set[int] = set()  # entries that would lead to themselves without a step forward
        self.slots = _Slots(region)

    def op(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"%v{self.count} = {text}")
        return f"%v{self.count}"

    def do(self, text: str) -> None:
        self.lines.append(text)

    def new_label(self) -> str:
        self.count += 1
        return f"l{self.count}"

    def field(self, name: str, offset: int) -> None:
        self.do(f"{name} = getelementptr inbounds i8, ptr %state, i64 {offset}")

    def text(self) -> str:
        region = self.region
        self.do("entry:")
        self.field("%pc", 8 * _PC)
        self.field("%target", 8 * unit.TARGET)
        for slot in self.slots.scalars:
            self.field(f"%at{slot}", 8 * slot)
            self.do(f"%s{slot} = alloca i64")
            self.do(f"store i64 {self.op(f'load i64, ptr %at{slot}')}, ptr %s{slot}")
        for slot, type in self.slots.vectors.items():
            self.field(f"%xat{slot}", VECTOR_OFFSET + VECTOR_BYTES * slot)
            self.do(f"%x{slot} = alloca {type}")
            value = self.op(f"load {type}, ptr %xat{slot}, align 16")
            self.do(f"store {type} {value}, ptr %x{slot}")
        self.do(f"%far = add i64 %top, {FAR}")
        base = self.op(f"getelementptr i8, ptr %record, i64 {unit.BASE_POINTER}")
        self.do(f"%base = load ptr, ptr {base}")
        number = self.op(f"getelementptr i8, ptr %record, i64 {unit.ENTRY_NUMBER}")
        cases = " ".join(
            f"i32 {index}, label %{_entrance(pc)}" for index, pc in enumerate(region.entries) if index
        )
        chosen = self.op(f"load i32, ptr {number}")
        self.do(f"switch i32 {chosen}, label %{_entrance(region.entries[0])} [ {cases} ]")
        for pc, block in region.blocks.items():
            _Writer(self, pc, block).write()
        body = "\n  ".join(self.lines)
        text = f"define {CONVENTION} void @unit({PARAMETERS}) #0 {{\n  {body}\n}}\n"
        return (
            text
            + declarations(text)
            + '!0 = !{}\n!1 = !{!"branch_weights", i32 1, i32 10000}\n'
            + 'attributes #0 = { nounwind "no-builtins" }\nattributes #1 = { cold }\n'
        )


class _Writer:
    """One block. `scalars` and `vectors` hold what slots are at this point, if not what they were at its
    start."""

    def __init__(self, function: _Function, pc: int, block: Block) -> None:
        self.f = function
        self.pc = pc
        self.block = block
        self.values: dict[Value, str] = {}
        self.scalars: dict[int, str] = {}
        self.vectors: dict[int, str] = {}
        self.changed: set[int] = set()
        self.changed_vectors: set[int] = set()
        self.origins: dict[str, tuple[str, int]] = {}  # of a sum with a constant
        self.bounded: dict[str, str] = {}
        self.instruction = pc
        region = function.region
        self.live = liveness(block, region.live_out(pc))
        self.live_here = self.live[0]

    def write(self) -> None:
        f, block, pc = self.f, self.block, self.pc
        cost = len(block.marks)
        f.do(f"{_label(pc)}:")
        if pc in f.region.headers:
            left = f.op(f"load i64, ptr %s{_BUDGET}")
            spent = f.new_label()
            over = f.op(f"icmp slt i64 {left}, {cost}")
            f.do(f"br i1 {over}, label %{spent}, label %{_entrance(pc)}, !prof !1")
            f.do(f"{spent}:")
            self.leave_by(unit.SPENT)
        else:
            f.do(f"br label %{_entrance(pc)}")
        f.do(f"{_entrance(pc)}:")
        self.scalars.clear()
        self.vectors.clear()
        self.set(_BUDGET, f.op(f"sub i64 {self.get(_BUDGET)}, {cost}"))
        marks = block.marks
        ends = [at for at, _ in marks[1:]] + [len(block.ops)]
        for (start, address), end in zip(marks, ends, strict=True):
            self.instruction = address
            self.live_here = self.live[start]
            if any(map(is_outside, block.ops[start:end])):
                self.give_up()
                return
            for index in range(start, end):
                self.emit(block.ops[index], index)
        if not block.marks or block.ops[-1].row.effect != CONTROL:
            raise AssertionError("a block without an end")

    # slots -----------------------------------------------------------------------------------------

    def get(self, slot: int) -> str:
        value = self.scalars.get(slot)
        if value is None:
            value = self.scalars[slot] = self.f.op(f"load i64, ptr %s{slot}")
        return value

    def set(self, slot: int, value: str) -> None:
        self.scalars[slot] = value
        self.changed.add(slot)

    def get_vector(self, slot: int, type: Type) -> str:
        f, whole = self.f, self.f.slots.vectors[slot]
        value = self.vectors.get(slot)
        if value is None:
            value = self.vectors[slot] = f.op(f"load {whole}, ptr %x{slot}")
        pairs = f"<{type.bits // 64} x i64>"
        if pairs != whole:
            mask = ", ".join(f"i32 {lane}" for lane in range(type.bits // 64))
            value = f.op(f"shufflevector {whole} {value}, {whole} poison, <{type.bits // 64} x i32> <{mask}>")
        return f.op(f"bitcast {pairs} {value} to {type.llvm}")

    def set_vector(self, slot: int, type: Type, value: str) -> None:
        f, whole = self.f, self.f.slots.vectors[slot]
        lanes, count = type.bits // 64, int(whole[1 : whole.index(" ")])
        value = f.op(f"bitcast {type.llvm} {value} to <{lanes} x i64>")
        if lanes < count:
            old = self.vectors.get(slot) or f.op(f"load {whole}, ptr %x{slot}")
            fill = ", ".join(f"i32 {min(lane, lanes - 1)}" for lane in range(count))
            wide = f.op(
                f"shufflevector <{lanes} x i64> {value}, <{lanes} x i64> poison, <{count} x i32> <{fill}>"
            )
            both = ", ".join(f"i32 {lane if lane < lanes else count + lane}" for lane in range(count))
            value = f.op(f"shufflevector {whole} {wide}, {whole} {old}, <{count} x i32> <{both}>")
        self.vectors[slot] = value
        self.changed_vectors.add(slot)

    def save(self) -> None:
        """Hand everything on to the next block."""
        for slot in self.changed:
            self.f.do(f"store i64 {self.scalars[slot]}, ptr %s{slot}")
        for slot in self.changed_vectors:
            self.f.do(f"store {self.f.slots.vectors[slot]} {self.vectors[slot]}, ptr %x{slot}")

    # ways out --------------------------------------------------------------------------------------

    def store_state(self, live: frozenset[int]) -> None:
        """What the guest sees, with those flags that are live."""
        f = self.f
        for slot in sorted(f.slots.written):
            if slot not in ALL_FLAGS or slot in live:
                value = self.scalars.get(slot) or f.op(f"load i64, ptr %s{slot}")
                f.do(f"store i64 {value}, ptr %at{slot}")
        for slot in sorted(f.slots.written_vectors):
            type = f.slots.vectors[slot]
            value = self.vectors.get(slot) or f.op(f"load {type}, ptr %x{slot}")
            f.do(f"store {type} {value}, ptr %xat{slot}, align 16")

    def dispatch(self, record: str) -> None:
        f = self.f
        handler = f.op(f"load ptr, ptr {record}, align 16")
        arguments = f"ptr %state, ptr {record}, ptr %window, i64 %top"
        f.do(f"musttail call {CONVENTION} void {handler}({arguments}) #1")
        f.do("ret void")

    def leave(self, pc: int, live: frozenset[int]) -> None:
        """Go on outside, at a guest address."""
        f = self.f
        self.store_state(live)
        number = f.ways.setdefault(pc, len(f.ways))
        way = f.op(f"getelementptr i8, ptr %base, i64 {unit.WAYS + unit.WAY * number}")
        self.dispatch(f.op(f"load ptr, ptr {way}"))

    def give_up(self) -> None:
        """Leave the instruction to the interpreter, which then goes on by itself."""
        if self.instruction == self.pc:
            self.f.stuck.add(self.pc)
        self.leave(self.instruction, self.live_here)

    def leave_by(self, record: int) -> None:
        """Leave before the current instruction, by one of the unit's records."""
        f = self.f
        self.store_state(self.live_here)
        f.do(f"store i64 {self.instruction}, ptr %pc")
        self.dispatch(f.op(f"getelementptr i8, ptr %base, i64 {record}"))

    # ops -------------------------------------------------------------------------------------------

    def emit(self, op: Value, index: int) -> None:
        """The text of one op."""
        f, row = self.f, op.row
        head = row.name.partition(".")[0]
        if head == "const":
            self.values[op] = str(bool(op.imm)).lower() if op.type is I1 else str(op.imm)
        elif head == "get":
            assert op.type is not None
            if op.type.is_vector:
                self.values[op] = self.get_vector(op.imm, op.type)
            else:
                wide = self.get(op.imm)
                self.values[op] = wide if op.type is I64 else f.op(f"trunc i64 {wide} to {op.type.llvm}")
        elif head == "put":
            self.put(op)
        elif head == "lea":
            root, offset = self.address(op)
            self.values[op] = f.op(f"add i64 {root}, {offset}") if offset else root
        elif row.effect in (LOAD, STORE):
            self.access(op)
        elif head in ("goto", "branch", "jump"):
            self.end(op, index)
        elif head == "trap_if":
            trap, go = f.new_label(), f.new_label()
            f.do(f"br i1 {self.values[op.args[0]]}, label %{trap}, label %{go}, !prof !1")
            f.do(f"{trap}:")
            self.leave_by(unit.STEP)
            f.do(f"{go}:")
        else:
            self.plain(op)

    def put(self, op: Value) -> None:
        f, type, value = self.f, op.row.operands[0], self.values[op.args[0]]
        if type.is_vector:
            self.set_vector(op.imm, type, value)
        elif op.imm != _PC:  # told apart by how the block ends
            self.set(op.imm, value if type is I64 else f.op(f"zext {type.llvm} {value} to i64"))

    def plain(self, op: Value) -> None:
        """A row by its template."""
        f, row = self.f, op.row
        arguments = [self.values[arg] for arg in op.args]
        f.count += 1
        out = expand(row, f"e{f.count}.", arguments, str(op.imm), "", lambda name: self.get(SLOTS[name]))
        f.lines += out.lines
        if row.result is not None:
            self.values[op] = out.result
        for name, value in out.new.items():
            self.set(SLOTS[name], value)
        if row.name in _SMALL_STEPS and op.args[1].row.name == "const.i64":
            number = op.args[1].imm
            number -= number >> 63 << 64
            root, offset = self.origins.get(arguments[0], (arguments[0], 0))
            offset += number if row.name == "add.i64" else -number
            if abs(offset) < NEAR:
                self.origins[out.result] = root, offset

    def address(self, op: Value) -> tuple[str, int]:
        """The guest address of an op: a value and a constant to add."""
        f, offset, scale = self.f, op.imm >> 2, op.imm & 3
        base = self.values[op.args[0]]
        if op.row.address == 2:
            index = self.values[op.args[1]]
            if scale:
                index = f.op(f"shl i64 {index}, {scale}")
            return f.op(f"add i64 {base}, {index}"), offset
        root, more = self.origins.get(base, (base, 0))
        return root, offset + more

    def access(self, op: Value) -> None:
        f, row = self.f, op.row
        root, offset = self.address(op)
        if abs(offset) >= NEAR or root[0] != "%":
            root, offset = f.op(f"add i64 {root}, {offset}"), 0
        bounded = self.bounded.get(root)
        if bounded is None:
            below = f.op(f"icmp ult i64 {root}, %top")
            bounded = self.bounded[root] = f.op(f"select i1 {below}, i64 {root}, i64 %far")
        type = row.result if row.effect == LOAD else row.operands[-1]
        assert type is not None
        place = f"{offset or ''}({{}},{{}})"
        on, failed = f.new_label(), f.new_label()
        if row.effect == LOAD:
            name = f"%load{f.count}"
            text, kind, held = _load(type, ".aligned." in row.name, place.format("$1", "$2"))
            f.do(
                f'{name} = callbr {held} asm sideeffect "{_note(3)}{text}", "={kind},r,r,!i"'
                f"(ptr %window, i64 {bounded}) to label %{on} [label %{failed}]"
            )
        else:
            value = self.values[op.args[-1]]
            text, kind, held = _store(type, ".aligned." in row.name, place.format("$1", "$2"))
            if type.is_vector:
                value = f.op(f"bitcast {type.llvm} {value} to {held}")
            f.do(
                f'callbr void asm sideeffect "{_note(3)}{text}", "{kind},r,r,!i"'
                f"({held} {value}, ptr %window, i64 {bounded}) to label %{on} [label %{failed}]"
            )
        f.do(f"{failed}:")
        self.leave_by(unit.STEP)
        f.do(f"{on}:")
        if row.effect == LOAD:
            self.values[op] = f.op(f"bitcast {held} {name} to {type.llvm}") if type.is_vector else name

    def end(self, op: Value, index: int) -> None:
        """A jump, or one or two direct ways on."""
        f = self.f
        if op.row.name == "goto" and index and self.block.ops[index - 1].row.name == "branch":
            return
        self.save()
        outside: dict[str, int] = {}

        def way(pc: int) -> str:
            if pc in f.region.blocks:
                return _label(pc)
            label = f.new_label()
            outside[label] = pc
            return label

        if op.row.name == "goto":
            f.do(f"br label %{way(op.imm)}")
        elif op.row.name == "branch":
            taken, other = way(op.imm), way(self.block.ops[index + 1].imm)
            f.do(f"br i1 {self.values[op.args[0]]}, label %{taken}, label %{other}")
        else:
            target, label = self.values[op.args[0]], f.new_label()
            sites = f.region.targets(self.pc)
            cases = " ".join(f"i64 {site}, label %{_label(site)}" for site in sites)
            f.do(f"switch i64 {target}, label %{label} [ {cases} ]")
            f.do(f"{label}:")
            self.store_state(ALL_FLAGS)
            f.do(f"store i64 {target}, ptr %target")
            self.dispatch("%base")
        for label, pc in outside.items():
            f.do(f"{label}:")
            self.leave(pc, ALL_FLAGS)


def _note(operand: int) -> str:
    """The assembler's lines that enter the next instruction into the table, with the label operand."""
    return (
        f".pushsection {ACCESSES},\\22a\\22,@progbits\\0A.long .Laccess${{:uid}}-.\\0A"
        f".long ${{{operand}:l}}-.\\0A.popsection\\0A.Laccess${{:uid}}:\\0A"
    )


def _load(type: Type, aligned: bool, place: str) -> tuple[str, str, str]:
    """The instruction, the kind of register and the LLVM type it has there."""
    if type.is_vector:
        return f"{'movaps' if aligned else 'movups'} {place}, $0", "x", _PAIR
    return _LOADS[type.name].format(place), "r", type.llvm


def _store(type: Type, aligned: bool, place: str) -> tuple[str, str, str]:
    if type.is_vector:
        return f"{'movaps' if aligned else 'movups'} $0, {place}", "x", _PAIR
    return _STORES[type.name].format(place), "r", type.llvm
