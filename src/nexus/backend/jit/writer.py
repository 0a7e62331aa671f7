"""One block of a region as LLVM text: its ops, its end and the ways into it."""

from __future__ import annotations

from nexus.backend.jit import access, unit
from nexus.backend.jit.flags import ALL_FLAGS, waits
from nexus.backend.jit.memory import Accesses
from nexus.backend.jit.sums import signed
from nexus.backend.llvm.expand import expand
from nexus.ir.ops import CONTROL, LOAD, STORE
from nexus.ir.state import SLOTS
from nexus.ir.types import I1, I64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.values import Value

_PC, _BUDGET = SLOTS["pc"], SLOTS["budget"]
_COMPARED = 4  # targets of a computed jump
_MOST_BITS = 10  # of a table of targets
_BITWISE = ("and.", "or.", "xor.", "andn.")
_SMALL_STEPS = ("add.i64", "sub.i64")


def label(number: int) -> str:
    """Where a block begins."""
    return f"b{number:x}"


def entrance(pc: int) -> str:
    """Where a block is entered from outside: past the look at the budget, so that every entry gets on."""
    return f"o{pc:x}"


class Writer(Accesses):
    """The whole of a block."""

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

    def give_up(self) -> None:
        """Leave the instruction to the interpreter, which then goes on by itself."""
        if self.instruction == self.number:
            self.f.stuck.add(self.number)
        self.leave(self.instruction, self.live_here)

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
        elif op in self.values:  # spread over a vector by its load
            pass
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
        kind = row.result
        lanes = (
            access.held(kind) if kind is not None and kind.is_vector and row.name.startswith(_BITWISE) else ""
        )
        if lanes and kind is not None:
            arguments = [f.op(f"bitcast {kind.llvm} {value} to {lanes}") for value in arguments]
        f.count += 1
        out = expand(row, f"e{f.count}.", arguments, str(op.imm), "", lambda name: self.get(SLOTS[name]))
        if lanes and kind is not None:  # LLVM would do it with numbers of that many bits
            lines = [line.replace(kind.llvm, lanes).replace(", -1", ", splat (i64 -1)") for line in out.lines]
            f.lines += lines
            self.values[op] = f.op(f"bitcast {lanes} {out.result} to {kind.llvm}")
            return
        f.lines += out.lines
        if row.result is not None:
            self.values[op] = out.result
        for name, value in out.new.items():
            self.set(SLOTS[name], value)
        if row.name in _SMALL_STEPS and op.args[1].row.name == "const.i64":
            number = signed(op.args[1].imm)
            self.derive(out.result, arguments[0], number if row.name == "add.i64" else -number)

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
