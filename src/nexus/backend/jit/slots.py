"""What a block of a region knows of the guest's state, and leaving the region with that."""

from __future__ import annotations

from nexus.backend.interp.handlers import CONVENTION
from nexus.backend.jit import access, unit
from nexus.backend.jit.flags import ALL_FLAGS, liveness
from nexus.backend.llvm.expand import expand
from nexus.ir.state import SLOTS, VECTOR_BYTES
from nexus.ir.types import I64, V128, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.jit.lower import Function
    from nexus.ir.ops.table import Row
    from nexus.ir.values import Value

    # base and index ("" for none), times the index is taken, displacement
    Place = tuple[str, str, int, int]


class Slots:
    """One block. `scalars` and `vectors` hold what slots are at this point, if not what they were at its
    start."""

    def __init__(self, function: Function, number: int, before: Slots | None) -> None:
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

    def leave_by(self, record: int) -> None:
        """Leave before the current instruction, by one of the unit's records."""
        f = self.f
        self.store_state(self.live_here)
        f.do(f"store i64 {self.instruction}, ptr %pc")
        self.dispatch(f.op(f"getelementptr i8, ptr %base, i64 {record}"))
