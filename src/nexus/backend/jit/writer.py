"""One block of a region as LLVM text.

A guest access is inline assembly with a second way out (`callbr`), taken by the signal handler when it fails:
there the registers are stored as they were before the instruction, which the interpreter then does. Flags
that nobody reads are not among them.

Addresses: `root + constant`, where the root is compared with the window's top once and replaced by one that
always faults if it lies above; constants are small enough for the guards around the window (`access.NEAR`).
That is a fault too where only the sum is a good address; the interpreter does not mind.
"""

from __future__ import annotations

from nexus.backend.interp.handlers import CONVENTION
from nexus.backend.jit import access, unit
from nexus.backend.jit.region import ALL_FLAGS, liveness
from nexus.backend.llvm.expand import expand
from nexus.ir.ops import CONTROL, LOAD, STORE
from nexus.ir.state import SLOTS, VECTOR_BYTES
from nexus.ir.types import I1, I64, TYPES, V256, V512, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.jit.lower import Function
    from nexus.ir.values import Value

_PC, _BUDGET = SLOTS["pc"], SLOTS["budget"]
_OUTSIDE = ("x87", "fx", "mmx", "mxcsr", "string", "atomic", "cpuid")
_PARTLY = ("load.mask.", "store.mask.", "load.if.", "v.compress.", "v.expand.")
_SMALL_STEPS = ("add.i64", "sub.i64")


def label(pc: int) -> str:
    """Where a block begins."""
    return f"b{pc:x}"


def entrance(pc: int) -> str:
    """Where a block is entered from outside: past the look at the budget, so that every entry gets on."""
    return f"e{pc:x}"


def is_outside(op: Value) -> bool:
    """Whether the instruction of an op is left to the interpreter."""
    head = op.row.name.partition(".")[0]
    partly = op.row.name.startswith(_PARTLY)
    return head in _OUTSIDE or op.row.indirect or head == "exit" or partly


class Writer:
    """One block. `scalars` and `vectors` hold what slots are at this point, if not what they were at its
    start."""

    def __init__(self, function: Function, pc: int, before: Writer | None) -> None:
        """`before` is the block that is the only way to this one, if there is one."""
        self.f = function
        self.pc = pc
        self.block = block = function.region.blocks[pc]
        self.values: dict[Value, str] = {}
        self.scalars: dict[int, str] = {}
        self.vectors: dict[int, str] = {}
        self.origins: dict[str, tuple[str, int]] = {}  # of a sum with a constant
        self.bounded: dict[str, str] = {}  # by the root
        self.memory: dict[tuple[str, int, str], str] = {}  # by root, constant and type: what lies there
        self.changed: set[int] = set()
        self.changed_vectors: set[int] = set()
        if before is not None:
            for name in ("scalars", "vectors", "origins", "bounded", "memory"):
                setattr(self, name, dict(getattr(before, name)))
        self.instruction = pc
        region = function.region
        self.live = liveness(block, region.live_out(pc))
        self.live_here = self.live[0]

    def write(self) -> None:
        f, block, pc = self.f, self.block, self.pc
        cost = len(block.marks)
        f.do(f"{label(pc)}:")
        if pc in f.region.headers:
            left = f.op(f"load i64, ptr %s{_BUDGET}")
            spent = f.new_label()
            over = f.op(f"icmp slt i64 {left}, {cost}")
            f.do(f"br i1 {over}, label %{spent}, label %{entrance(pc)}, !prof !1")
            f.do(f"{spent}:")
            self.leave_by(unit.SPENT)
        else:
            f.do(f"br label %{entrance(pc)}")
        f.do(f"{entrance(pc)}:")
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

    def clear(self, slot: int, bits: int) -> None:
        """Zero a vector slot above its low bits: what the region does not use of it in memory."""
        f, whole = self.f, self.f.slots.vectors[slot]
        lanes, keep = int(whole[1 : whole.index(" ")]), bits // 64
        if lanes > keep:
            old = self.vectors.get(slot) or f.op(f"load {whole}, ptr %x{slot}")
            kept = ", ".join(f"i32 {lane if lane < keep else lanes}" for lane in range(lanes))
            zeros = f"{whole} zeroinitializer"
            self.vectors[slot] = f.op(f"shufflevector {whole} {old}, {zeros}, <{lanes} x i32> <{kept}>")
            self.changed_vectors.add(slot)
        for lane in range(lanes, VECTOR_BYTES // 8, 2):
            at = f.op(f"getelementptr i8, ptr %xat{slot}, i64 {8 * lane}")
            f.do(f"store <2 x i64> zeroinitializer, ptr {at}, align 16")

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
        elif head == "clear":
            self.clear(op.imm, row.bits)
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
            if abs(offset) < access.NEAR:
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
        if abs(offset) >= access.NEAR or root[0] != "%":
            root, offset = f.op(f"add i64 {root}, {offset}"), 0
        bounded = self.bounded.get(root)
        if bounded is None:
            below = f.op(f"icmp ult i64 {root}, %top")
            bounded = self.bounded[root] = f.op(f"select i1 {below}, i64 {root}, i64 %far")
        type = row.result if row.effect == LOAD else row.operands[-1]
        assert type is not None
        pieces, aligned = access.pieces(type), ".aligned." in row.name
        places = [f"{offset + at or ''}($1,$2)" for at in range(0, type.bits // 8, pieces[0].bits // 8)]
        key = root, offset, type.name
        if row.effect == LOAD:
            if key in self.memory and not aligned:
                self.values[op] = self.memory[key]
                return
            parts = [
                self.guarded(access.load(piece, aligned, place), piece, bounded, "")
                for piece, place in zip(pieces, places, strict=True)
            ]
            self.memory[key] = self.values[op] = self.joined(parts, type)
            return
        value = self.values[op.args[-1]]
        for piece, place, part in zip(pieces, places, self.split(value, type), strict=True):
            self.guarded(access.store(piece, aligned, place), piece, bounded, part)
        self.memory = {
            (other, at, name): known
            for (other, at, name), known in self.memory.items()
            if other == root and not at - type.bits // 8 < offset < at + TYPES[name].bits // 8
        }
        self.memory[key] = value

    def guarded(self, instruction: str, type: Type, bounded: str, value: str) -> str:
        """One instruction that may fail: a load, or a store of `value`; returns what it loads."""
        f, held, kind = self.f, access.held(type), "x" if type.is_vector else "r"
        on, failed = f.new_label(), f.new_label()
        ways = f"to label %{on} [label %{failed}]"
        name = f"%a{f.count}"
        text = access.note(3) + instruction
        if value:
            arguments = f"({held} {value}, ptr %window, i64 {bounded})"
            f.do(f'callbr void asm sideeffect "{text}", "{kind},r,r,!i"{arguments} {ways}')
        else:
            arguments = f"(ptr %window, i64 {bounded})"
            f.do(f'{name} = callbr {held} asm sideeffect "{text}", "={kind},r,r,!i"{arguments} {ways}')
        f.do(f"{failed}:")
        self.leave_by(unit.STEP)
        f.do(f"{on}:")
        return name

    def joined(self, parts: list[str], type: Type) -> str:
        """The value of a type from what its pieces are in registers."""
        f = self.f
        if not type.is_vector:
            return parts[0]
        whole = parts[0]
        if len(parts) > 1:
            lanes = ", ".join(f"i32 {lane}" for lane in range(8))
            pair = f"{access.held(V256)} {parts[0]}, {access.held(V256)} {parts[1]}"
            whole = f.op(f"shufflevector {pair}, <8 x i32> <{lanes}>")
        return f.op(f"bitcast {access.held(type)} {whole} to {type.llvm}")

    def split(self, value: str, type: Type) -> list[str]:
        """The pieces of a value."""
        f = self.f
        if not type.is_vector:
            return [value]
        whole = f.op(f"bitcast {type.llvm} {value} to {access.held(type)}")
        if type is not V512:
            return [whole]
        halves = []
        for first in (0, 4):
            lanes = ", ".join(f"i32 {first + lane}" for lane in range(4))
            halves.append(f.op(f"shufflevector <8 x i64> {whole}, <8 x i64> poison, <4 x i32> <{lanes}>"))
        return halves

    def end(self, op: Value, index: int) -> None:
        """A jump, or one or two direct ways on."""
        f = self.f
        if op.row.name == "goto" and index and self.block.ops[index - 1].row.name == "branch":
            return
        self.save()
        outside: dict[str, int] = {}

        def way(pc: int) -> str:
            if pc in f.region.blocks:
                return label(pc)
            outside[out := f.new_label()] = pc
            return out

        if op.row.name == "goto":
            f.do(f"br label %{way(op.imm)}")
        elif op.row.name == "branch":
            taken, other = way(op.imm), way(self.block.ops[index + 1].imm)
            f.do(f"br i1 {self.values[op.args[0]]}, label %{taken}, label %{other}")
        else:
            target, elsewhere = self.values[op.args[0]], f.new_label()
            sites = f.region.targets(self.pc)
            cases = " ".join(f"i64 {site}, label %{label(site)}" for site in sites)
            f.do(f"switch i64 {target}, label %{elsewhere} [ {cases} ]")
            f.do(f"{elsewhere}:")
            self.store_state(ALL_FLAGS)
            f.do(f"store i64 {target}, ptr %target")
            self.dispatch("%base")
        for out, pc in outside.items():
            f.do(f"{out}:")
            self.leave(pc, ALL_FLAGS)
