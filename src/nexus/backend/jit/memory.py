"""The guest accesses of a block as LLVM text.

Each is inline assembly with a second way out (`callbr`), taken by the signal handler when it fails: there the
registers are stored as they were before the instruction, which the interpreter then does. Flags that nobody
reads are not among them.

An address is compared with the window's top, without its displacement, unless `bounds.py` has found that it
need not; one that is not below leaves as well. The window's guards are larger than any displacement.
"""

from __future__ import annotations

from nexus.backend.jit import access, unit
from nexus.backend.jit.bounds import BASE, NOTHING
from nexus.backend.jit.slots import Slots
from nexus.backend.jit.sums import signed
from nexus.ir.ops import LOAD
from nexus.ir.types import I64, V256, V512, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.jit.access import Form
    from nexus.backend.jit.slots import Place
    from nexus.ir.values import Value


class Accesses(Slots):
    """A block with what it reads and writes of the guest's memory."""

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
        if row.effect == LOAD and where in self.memory and ".aligned." not in row.name:
            known, kind = self.memory[where]
            if kind is type:
                self.values[op] = known
                return
        failed, look = f.new_label(), f.bounds.looks[self.number][index]
        if look != NOTHING:
            root, on = self.values[op.args[0]] if look == BASE else self.root(op), f.new_label()
            f.do(f"br i1 {f.op(f'icmp ult i64 {root}, %top')}, label %{on}, label %{failed}, !prof !2")
            f.do(f"{on}:")
        if row.effect == LOAD:
            self.load(op, type, where, failed)
        else:
            self.store(op, type, where, failed)

    def load(self, op: Value, type: Type, where: Place, failed: str) -> None:
        f, users = self.f, self.users.get(op, [])
        spread = access.splat(op, users)
        if spread is not None:
            vector, form = spread
            wide = self.guarded(form, where, "", failed, True)
            value = f.op(f"bitcast {access.held(vector)} {wide} to {vector.llvm}")
            self.values.update(dict.fromkeys(users, value))
            return
        lane = access.is_lane(op, users)
        forms = access.loads(type, ".aligned." in op.row.name, lane)
        parts = []
        for number, form in enumerate(forms):
            at = (*where[:3], where[3] + number * type.bits // 8 // len(forms))
            parts.append(self.guarded(form, at, "", failed, number + 1 == len(forms)))
        value = f.op(f"bitcast {forms[0][0]} {parts[0]} to {type.llvm}") if lane else self.joined(parts, type)
        self.values[op] = value
        self.memory[where] = value, type

    def store(self, op: Value, type: Type, where: Place, failed: str) -> None:
        f, value, size = self.f, self.values[op.args[-1]], type.bits // 8
        lane = access.is_lane(op, [])
        forms = access.stores(type, ".aligned." in op.row.name, lane)
        parts = [f.op(f"bitcast {type.llvm} {value} to {forms[0][0]}")] if lane else self.split(value, type)
        for number, (form, part) in enumerate(zip(forms, parts, strict=True)):
            at = (*where[:3], where[3] + number * size // len(forms))
            self.guarded(form, at, part, failed, number + 1 == len(forms))
        self.memory = {
            known: (held, kind)
            for known, (held, kind) in self.memory.items()
            if known[:3] == where[:3] and not known[3] - size < where[3] < known[3] + kind.bits // 8
        }
        self.memory[where] = value, type

    def guarded(self, form: Form, where: Place, value: str, failed: str, last: bool) -> str:
        """One instruction that may fail: a load, or a store of `value`; returns what it loads. The `last` one
        of an access is followed by what is done then."""
        f, (held, kind, text) = self.f, form
        base, index, times, displacement = where
        arguments = [f"{held} {value}"] if value else []
        first = len(arguments) + (not value)
        parts = dict.fromkeys(part for part in (base, index) if part)
        numbers = {part: first + at for at, part in enumerate(parts)}
        arguments += [f"i64 {part}" for part in numbers]
        place = access.place(displacement, numbers.get(base, 0), numbers.get(index, 0), times)
        text = access.note(len(arguments) + (not value)) + text.replace("{}", place)
        constraints = ",".join([kind if value else f"={kind}", *["r"] * len(numbers), "!i"])
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
        return name

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
