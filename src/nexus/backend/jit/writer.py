"""One block of a region as LLVM text.

A guest access is inline assembly with a second way out (`callbr`), taken by the signal handler when it fails:
there the registers are stored as they were before the instruction, which the interpreter then does. Flags
that nobody reads are not among them.

An address is compared with the window's top, without its displacement, unless `bounds.py` has found that it
need not; one that is not below leaves as well. The window's guards are larger than any displacement.
"""

from __future__ import annotations

from nexus.backend.interp.handlers import CONVENTION
from nexus.backend.jit import access, unit
from nexus.backend.jit.bounds import BASE, NOTHING
from nexus.backend.jit.flags import ALL_FLAGS, liveness, waits
from nexus.backend.jit.sums import signed
from nexus.backend.llvm.expand import expand
from nexus.ir.ops import CONTROL, LOAD, STORE
from nexus.ir.state import SLOTS, VECTOR_BYTES
from nexus.ir.types import I1, I64, V128, V256, V512, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.jit.lower import Function
    from nexus.ir.ops.table import Row
    from nexus.ir.values import Value

    # base and index ("" for none), times the index is taken, displacement
    Place = tuple[str, str, int, int]

_PC, _BUDGET = SLOTS["pc"], SLOTS["budget"]
_COMPARED = 4  # targets of a computed jump
_MOST_BITS = 10  # of a table of targets
_SMALL_STEPS = ("add.i64", "sub.i64")


def label(number: int) -> str:
    """Where a block begins."""
    return f"b{number:x}"


def entrance(pc: int) -> str:
    """Where a block is entered from outside: past the look at the budget, so that every entry gets on."""
    return f"o{pc:x}"


class Writer:
    """One block. `scalars` and `vectors` hold what slots are at this point, if not what they were at its
    start."""

    def __init__(self, function: Function, number: int, before: Writer | None) -> None:
        """`before` is the block that is the only way to this one, if there is one."""
        self.f = function
        self.number = number
        self.block = block = function.region.blocks[number]
        self.values: dict[Value, str] = {}
        self.scalars: dict[int, str] = {}
        self.vectors: dict[int, str] = {}
        self.origins: dict[str, tuple[str, int]] = {}  # of a sum with a constant
        self.extended: dict[str, str] = {}  # numbers, extended by zeros
        self.memory: dict[Place, tuple[str, Type]] = {}  # what lies there
        self.pending: tuple[Row, list[str]] | None = None  # the flags are those of this row
        self.changed: set[int] = set()
        self.changed_vectors: set[int] = set()
        if before is not None:
            for name in ("scalars", "vectors", "origins", "extended", "memory"):
                setattr(self, name, dict(getattr(before, name)))
            self.pending = before.pending
        self.users: dict[Value, list[Value]] = {}
        for op in block.ops:
            for arg in op.args:
                self.users.setdefault(arg, []).append(op)
        self.instruction = block.start
        region = function.region
        self.live = liveness(block, region.live_out(number))
        self.live_here = self.live[0]

    def write(self) -> None:
        f, block, number = self.f, self.block, self.number
        cost = len(block.marks)
        if number in f.region.entries:
            self.enter(cost)
        f.do(f"{label(number)}:")
        row = f.pending[number]
        if row is not None and self.pending is None:
            operands = [f.op(f"load i64, ptr %flags{place}") for place in range(len(row.operands))]
            types = [type.llvm for type in row.operands]
            self.pending = (
                row,
                [
                    operand if type == "i64" else f.op(f"trunc i64 {operand} to {type}")
                    for operand, type in zip(operands, types, strict=True)
                ],
            )
        left = self.get(_BUDGET)
        if number in f.region.headers:
            spent, go = f.new_label(), f.new_label()
            over = f.op(f"icmp slt i64 {left}, 0")
            f.do(f"br i1 {over}, label %{spent}, label %{go}, !prof !1")
            f.do(f"{spent}:")
            self.leave_by(unit.SPENT)
            f.do(f"{go}:")
        self.set(_BUDGET, f.op(f"sub i64 {left}, {cost}"))
        if number in f.region.entries:
            self.save()
            f.do(f"br label %e{number:x}")
            f.do(f"e{number:x}:")
            self.scalars.clear()
            self.changed.clear()
        until = f.region.ends[number]
        marks = [mark for mark in block.marks if mark[0] < until]
        ends = [*(at for at, _ in marks[1:]), until][: len(marks)]
        for (start, address), end in zip(marks, ends, strict=True):
            self.instruction = address
            self.live_here = self.live[start]
            for index in range(start, end):
                self.emit(block.ops[index], index)
        if until < len(block.ops):
            self.instruction = block.marks[len(marks)][1]
            self.live_here = self.live[until]
            self.give_up()
        elif not block.marks or block.ops[-1].row.effect != CONTROL:
            raise AssertionError("a block without an end")

    def enter(self, cost: int) -> None:
        """The way in from outside."""
        f = self.f
        f.do(f"{entrance(self.number)}:")
        self.check(-1, self.number)
        f.do(f"store i64 {f.op(f'sub i64 {self.get(_BUDGET)}, {cost}')}, ptr %s{_BUDGET}")
        f.do(f"br label %e{self.number:x}")
        self.scalars.clear()

    def check(self, source: int, target: int) -> None:
        """What has to be true on the way to a block (`bounds.py`), or the interpreter does its first
        instruction."""
        f, before = self.f, (self.instruction, self.live_here, dict(self.scalars))
        wrong = []
        for slot in f.bounds.sizes.get((source, target), ()):
            wrong.append(f"icmp ugt i64 {self.get(slot)}, {(1 << 32) - 1}")
        for terms, constant in f.bounds.checks.get((source, target), ()):
            sum = str(constant)
            for slot, count in terms:
                part = self.get(slot)
                if count != 1:
                    part = f.op(f"mul i64 {part}, {count}")
                sum = f.op(f"add i64 {part}, {sum}")
            wrong.append(f"icmp uge i64 {sum}, %top")
        if not wrong:
            return
        self.instruction, self.live_here = f.region.blocks[target].start, f.region.live_in[target]
        refused = f.new_label()
        for condition in wrong:
            on = f.new_label()
            f.do(f"br i1 {f.op(condition)}, label %{refused}, label %{on}, !prof !1")
            f.do(f"{on}:")
        after = f.new_label()
        f.do(f"br label %{after}")
        f.do(f"{refused}:")
        self.leave_by(unit.STEP)
        f.do(f"{after}:")
        self.instruction, self.live_here, self.scalars = before

    # slots -----------------------------------------------------------------------------------------

    def get(self, slot: int) -> str:
        value = self.scalars.get(slot)
        if value is None:
            if slot in ALL_FLAGS and self.pending is not None:
                self.scalars.update(self.flags())
                return self.scalars[slot]
            value = self.scalars[slot] = self.f.op(f"load i64, ptr %s{slot}")
        return value

    def set(self, slot: int, value: str) -> None:
        if slot in ALL_FLAGS and self.pending is not None:
            self.settle()
        self.scalars[slot] = value
        self.changed.add(slot)

    def flags(self) -> dict[int, str]:
        """The flags of the row that they are pending of."""
        assert self.pending is not None
        f, (row, operands) = self.f, self.pending
        f.count += 1
        out = expand(row, f"e{f.count}.", operands, "", "", self._no_field)
        f.lines += out.lines
        return {SLOTS[name]: value for name, value in out.new.items()}

    @staticmethod
    def _no_field(name: str) -> str:
        raise AssertionError(f"flags that depend on {name}")

    def settle(self) -> None:
        """Compute flags that are pending, as if the row had done that."""
        for slot in ALL_FLAGS:
            self.get(slot)
        self.changed |= ALL_FLAGS
        self.pending = None

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

    def clear(self, slot: int) -> None:
        """Zero a vector slot above its low 128 bits: what the region does not use of it in memory."""
        f, whole = self.f, self.f.slots.vectors.get(slot, access.held(V128))
        lanes = int(whole[1 : whole.index(" ")])
        if lanes > 2:
            old = self.vectors.get(slot) or f.op(f"load {whole}, ptr %x{slot}")
            kept = ", ".join(f"i32 {min(lane, 2) + (lane >= 2) * (lanes - 2)}" for lane in range(lanes))
            zeros = f"{whole} zeroinitializer"
            self.vectors[slot] = f.op(f"shufflevector {whole} {old}, {zeros}, <{lanes} x i32> <{kept}>")
            self.changed_vectors.add(slot)
        for lane in range(lanes, VECTOR_BYTES // 8, 2):
            at = f.op(f"getelementptr i8, ptr %xat{slot}, i64 {8 * lane}")
            f.do(f"store <2 x i64> zeroinitializer, ptr {at}, align 16")

    def save(self) -> None:
        """Hand everything on to the next blocks."""
        f, inside = self.f, self.f.region.targets(self.number)
        if self.pending is not None:
            row, operands = self.pending
            for place, (operand, type) in enumerate(zip(operands, row.operands, strict=True)):
                wide = operand if type is I64 else f.op(f"zext {type.llvm} {operand} to i64")
                f.do(f"store i64 {wide}, ptr %flags{place}")
            if any(f.pending[number] is None and f.region.live_in[number] for number in inside):
                self.settle()
        for slot in self.changed:
            self.f.do(f"store i64 {self.scalars[slot]}, ptr %s{slot}")
        for slot in self.changed_vectors:
            self.f.do(f"store {self.f.slots.vectors[slot]} {self.vectors[slot]}, ptr %x{slot}")

    # ways out --------------------------------------------------------------------------------------

    def store_state(self, live: frozenset[int]) -> None:
        """What the guest sees, with those flags that are live."""
        f, flags = self.f, {}
        if self.pending is not None and not live <= self.scalars.keys():
            flags = self.flags()
        for slot in sorted(f.slots.written):
            if slot not in ALL_FLAGS or slot in live:
                value = self.scalars.get(slot) or flags.get(slot) or f.op(f"load i64, ptr %s{slot}")
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
        way = f.op(
            f"getelementptr i8, ptr %base, i64 {unit.ways_at(len(f.region.jumps)) + unit.WAY * number}"
        )
        self.dispatch(f.op(f"load ptr, ptr {way}"))

    def give_up(self) -> None:
        """Leave the instruction to the interpreter, which then goes on by itself."""
        if self.instruction == self.number:
            self.f.stuck.add(self.number)
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
            self.clear(op.imm)
        elif head == "lea":
            root, offset = self.root(op), op.imm >> 2
            self.values[op] = f.op(f"add i64 {root}, {offset}") if offset else root
            self.derive(self.values[op], root, offset)
        elif head == "zext" and self.values[op.args[0]] in self.extended and op.type is I64:
            self.values[op] = self.extended[self.values[op.args[0]]]
        elif row.effect in (LOAD, STORE):
            self.access(op, index)
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
            wide = value if type is I64 else self.extended.get(value)
            self.set(op.imm, wide or f.op(f"zext {type.llvm} {value} to i64"))

    def plain(self, op: Value) -> None:
        """A row by its template."""
        f, row = self.f, op.row
        arguments = [self.values[arg] for arg in op.args]
        if waits(row):
            self.pending = row, arguments
            for slot in ALL_FLAGS:
                self.scalars.pop(slot, None)
            self.changed -= ALL_FLAGS
            return
        f.count += 1
        out = expand(row, f"e{f.count}.", arguments, str(op.imm), "", lambda name: self.get(SLOTS[name]))
        f.lines += out.lines
        if row.result is not None:
            self.values[op] = out.result
        for name, value in out.new.items():
            self.set(SLOTS[name], value)
        if row.name in _SMALL_STEPS and op.args[1].row.name == "const.i64":
            number = signed(op.args[1].imm)
            self.derive(out.result, arguments[0], number if row.name == "add.i64" else -number)

    def derive(self, value: str, source: str, offset: int) -> None:
        """Note that a value is another and a constant."""
        root, more = self.origins.get(source, (source, 0))
        if abs(more + offset) < access.MOST:
            self.origins[value] = root, more + offset

    def root(self, op: Value) -> str:
        """The guest address of an op without its displacement."""
        f, base = self.f, self.values[op.args[0]]
        if op.row.address == 1:
            return base
        index, scale = self.values[op.args[1]], op.imm & 3
        return f.op(f"add i64 {base}, {f.op(f'shl i64 {index}, {scale}') if scale else index}")

    def place(self, op: Value) -> Place:
        """The guest address of an op as an instruction can have it."""
        base, index, scale, displacement = op.args[0], None, op.imm & 3, op.imm >> 2
        if op.row.address == 2:
            index = op.args[1]
        elif base.row.name == "lea.i64x" and abs(displacement + (base.imm >> 2)) < access.MOST:
            displacement += base.imm >> 2
            base, index, scale = base.args[0], base.args[1], base.imm & 3
        root, more = self._apart(self.values[base], displacement)
        if index is None:
            return root, "", 0, more
        second, times = self.values[index], 1 << scale
        origin, offset = self.origins.get(second, (second, 0))
        if abs(more + offset * times) < access.MOST:
            second, more = origin, more + offset * times
        return root, second, times, more

    def _apart(self, base: str, displacement: int) -> tuple[str, int]:
        """A base and a displacement, with what is constant of the one in the other; "" for no base."""
        root, more = self.origins.get(base, (base, 0))
        if abs(displacement + more) >= access.MOST:
            return base, displacement
        if root[0] != "%" and abs(signed(int(root)) + more + displacement) < access.MOST:
            return "", signed(int(root)) + more + displacement
        return root, more + displacement

    def access(self, op: Value, index: int) -> None:
        f, row = self.f, op.row
        where = self.place(op)
        type = row.result if row.effect == LOAD else row.operands[-1]
        assert type is not None
        pieces, aligned = access.pieces(type), ".aligned." in row.name
        if row.effect == LOAD and where in self.memory and not aligned:
            known, kind = self.memory[where]
            if kind is type:
                self.values[op] = known
                return
        failed, look = f.new_label(), f.bounds.looks[self.number][index]
        if look != NOTHING:
            root, on = self.values[op.args[0]] if look == BASE else self.root(op), f.new_label()
            f.do(f"br i1 {f.op(f'icmp ult i64 {root}, %top')}, label %{on}, label %{failed}, !prof !2")
            f.do(f"{on}:")
        size, step = type.bits // 8, pieces[0].bits // 8
        lane = access.is_lane(op, self.users.get(op, []))
        value = "" if row.effect == LOAD else self.values[op.args[-1]]
        parts = self.split(value, type) if value else [""] * len(pieces)
        loaded = []
        for number, (piece, part) in enumerate(zip(pieces, parts, strict=True)):
            at = (*where[:3], where[3] + number * step)
            last = number + 1 == len(pieces)
            loaded.append(self.guarded(piece, aligned, at, part, failed, last, lane))
        if row.effect == LOAD:
            value = self.values[op] = loaded[0] if lane else self.joined(loaded, type)
        else:
            self.memory = {
                known: (held, kind)
                for known, (held, kind) in self.memory.items()
                if known[:3] == where[:3] and not known[3] - size < where[3] < known[3] + kind.bits // 8
            }
        self.memory[where] = value, type

    def guarded(
        self, type: Type, aligned: bool, where: Place, value: str, failed: str, last: bool, lane: bool
    ) -> str:
        """One instruction that may fail: a load, or a store of `value`; returns what it loads. The `last` one
        of an access is followed by what is done then."""
        f, held, kind = self.f, access.held(type), "x" if type.is_vector or lane else "r"
        if lane:
            held = access.LANES[type][0]
            value = value and f.op(f"bitcast {type.llvm} {value} to {held}")
        base, index, times, displacement = where
        arguments = [f"{held if kind == 'x' else type.llvm} {value}"] if value else []
        numbers = {
            part: len(arguments) + (not value) + at for at, part in enumerate(filter(None, (base, index)))
        }
        arguments += [f"i64 {part}" for part in numbers]
        place = access.place(displacement, numbers.get(base, 0), numbers.get(index, 0), times)
        text = (access.store if value else access.load)(type, aligned, place, lane)
        text = access.note(len(arguments) + (not value)) + text
        constraints = ",".join([*([kind] if value else [f"={kind}"]), *["r"] * len(numbers), "!i"])
        on, name = f.new_label(), f"%a{f.count}"
        result = "void" if value else held
        f.do(
            f'{"" if value else name + " = "}callbr {result} asm sideeffect "{text}", "{constraints}"'
            f"({', '.join(arguments)}) to label %{on} [label %{failed}]"
        )
        if last:
            f.do(f"{failed}:")
            self.leave_by(unit.STEP)
        f.do(f"{on}:")
        return f.op(f"bitcast {held} {name} to {type.llvm}") if lane and not value else name

    def joined(self, parts: list[str], type: Type) -> str:
        """The value of a type from what its pieces are in registers."""
        f = self.f
        if type is I64:
            return parts[0]
        if not type.is_vector:
            value = f.op(f"trunc i64 {parts[0]} to {type.llvm}")
            self.extended[value] = parts[0]
            return value
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
        inside = f.region.ways[self.number]
        edges: dict[str, int] = {}

        def way(pc: int) -> str:
            if pc in inside and not f.bounds.has_checks(self.number, inside[pc]):
                return label(inside[pc])
            edges[out := f.new_label()] = pc
            return out

        if op.row.name == "goto":
            f.do(f"br label %{way(op.imm)}")
        elif op.row.name == "branch":
            taken, other = way(op.imm), way(self.block.ops[index + 1].imm)
            f.do(f"br i1 {self.values[op.args[0]]}, label %{taken}, label %{other}")
        else:
            target, elsewhere = self.values[op.args[0]], f.new_label()
            self.choose(target, {pc: way(pc) for pc in inside}, elsewhere)
            f.do(f"{elsewhere}:")
            self.store_state(ALL_FLAGS)
            f.do(f"store i64 {target}, ptr %target")
            number = f.region.jumps.index(self.block.start)
            self.dispatch(f.op(f"getelementptr i8, ptr %base, i64 {unit.JUMPS + unit.JUMP * number}"))
        for edge, pc in edges.items():
            f.do(f"{edge}:")
            if pc in inside:
                self.check(self.number, inside[pc])
                f.do(f"br label %{label(inside[pc])}")
            else:
                self.leave(pc, ALL_FLAGS)

    def choose(self, target: str, places: dict[int, str], elsewhere: str) -> None:
        """Go to the label of a target: one compare after the other, or by a table if there are many."""
        f = self.f
        shift, bits = hashed(list(places))
        if len(places) <= _COMPARED or not bits:
            cases = " ".join(f"i64 {pc}, label %{place}" for pc, place in places.items())
            f.do(f"switch i64 {target}, label %{elsewhere} [ {cases} ]")
            return
        part = f.op(f"and i64 {f.op(f'lshr i64 {target}, {shift}')}, {(1 << bits) - 1}")
        labels = {pc: f.new_label() for pc in places}
        cases = " ".join(f"i64 {pc >> shift & (1 << bits) - 1}, label %{labels[pc]}" for pc in places)
        f.do(f"switch i64 {part}, label %{elsewhere} [ {cases} ]")
        for pc, place in places.items():
            f.do(f"{labels[pc]}:")
            f.do(f"br i1 {f.op(f'icmp eq i64 {target}, {pc}')}, label %{place}, label %{elsewhere}")


def hashed(targets: list[int]) -> tuple[int, int]:
    """The shift and the number of bits by which addresses differ, few of them; no bits if they need many."""
    for bits in range(1, _MOST_BITS + 1):
        for shift in range(_MOST_BITS + 1):
            if len({target >> shift & (1 << bits) - 1 for target in targets}) == len(targets):
                return shift, bits
    return 0, 0
