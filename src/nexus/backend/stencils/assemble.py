"""The records of a block as host code.

One stencil per record, in the shape that says which of its slots are pinned. Where there is no such stencil,
pinned operands are put into their slots before and taken from there after; where there is none at all, the
interpreter's handler runs on a copy of the record, followed by a record that comes back (`enter_code`).

Branches to other blocks are `jmp rel32` (or a `jcc`), the displacement aligned so that it can be changed at
once. They lead to exits at the end of the code until they are linked.

Host code is kept between runs, so it has no address in it. What it refers to outside of itself is
the code that the piece of memory begins with, and its data PIECE bytes behind it; `HostCode` tells where.
"""

from __future__ import annotations

import struct

from nexus.backend.stencils.code import HostCode
from nexus.backend.stencils.layout import PIECE, PIN_OF
from nexus.base.errors import NexusError
from nexus.ir.state import VECTOR_BYTES, VECTOR_OFFSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.stencils.store import Form, Stencil

    Shapes = dict[str, Stencil]
    # offset of a pointer in the records -> offset of its link record, target
    Links = dict[int, tuple[int, int]]

_CONTROLS = {"enter": 32, "goto": 32, "branch": 32, "link": 32, "jump": 16, "trap_if": 32, "exit": 16}
_QUAD = (1 << 64) - 1
_NOPS = (b"", b"\x90", b"\x66\x90", b"\x0f\x1f\x00")
_RECORD = 16


class Plan:
    """What is known of the records of one handler. `slots`: for the result and a, b, c whether it is absent
    (0), a scalar (1) or a vector (2)."""

    __slots__ = ("below", "branches", "made", "name", "shapes", "size", "slots")

    def __init__(self, name: str, form: Form, shapes: Shapes) -> None:
        (result, operands), self.size, self.branches, self.below = form
        self.name = name
        self.shapes = shapes
        self.slots = (result, *operands)
        self.made: dict[tuple[int, ...], tuple[Stencil, tuple[int, ...], int] | None] = {}


class Assembler:
    """Makes host code of records. `handlers` are the interpreter's, by address."""

    def __init__(
        self,
        forms: dict[str, Form],
        stencils: dict[str, Shapes],
        handlers: dict[int, str],
        leave: int,
    ) -> None:
        """`leave` is the address of `leave_code`."""
        self._forms = forms
        self._stencils = stencils
        self._handlers = handlers
        self.leave = leave
        self._plans: dict[int, Plan] = {}
        # code of short records that refer to nothing outside themselves, by the record's two words
        self.ready: dict[tuple[int, int], bytes] = {}
        self._controls: dict[tuple[str, int], Stencil] = {}
        self._moves: dict[tuple[int, bool], bytes] = {}

    def assemble(self, records: bytes, links: Links, at: int) -> HostCode:
        """The host code, to lie at `at`."""
        return _Assembly(self, records, links, at).code()

    # the parts -------------------------------------------------------------------------------------

    def plan(self, handler: int) -> Plan:
        found = self._plans.get(handler)
        if found is None:
            name = self._handlers[handler]
            if name in _CONTROLS:
                form: Form = (0, ()), _CONTROLS[name], False, 0
            else:
                form = self._forms[name]
            found = self._plans[handler] = Plan(name, form, self._stencils.get(name, {}))
        return found

    def control(self, name: str, slot: int) -> Stencil:
        """A control stencil; `slot` is its operand's, if it has one."""
        shapes = self._stencils[name]
        key = name, slot if slot in PIN_OF and "m1" in shapes else -1
        found = self._controls.get(key)
        if found is None:
            if key[1] >= 0:
                found = _registers(shapes["m1"], {1: PIN_OF[slot]})
            else:
                found = shapes["mm" if "mm" in shapes else "m"]
            self._controls[key] = found
        return found

    def special(self, name: str) -> Stencil:
        return self._stencils[name][""]

    def move(self, slot: int, spill: bool) -> bytes:
        """Put a pinned register into its slot, or take it from there."""
        found = self._moves.get((slot, spill))
        if found is None:
            stencil = self._stencils["put.i64"]["m1" if spill else "0m"]
            code, holes = _registers(stencil, {1 if spill else 0: PIN_OF[slot]})
            found = self._moves[slot, spill] = _filled(code, holes, {"h_d": 8 * slot, "h_a": 8 * slot})
        return found

    def choose(self, plan: Plan, slots: tuple[int, ...]) -> tuple[Stencil, tuple[int, ...], int] | None:
        """The stencil for slots (-1 where there is none), the pinned slots to spill before it, the one to
        take back after it or -1; None if the interpreter has to do it."""
        if slots in plan.made:
            return plan.made[slots]
        found = plan.made[slots] = self._choose(plan, slots)
        return found

    def _choose(self, plan: Plan, slots: tuple[int, ...]) -> tuple[Stencil, tuple[int, ...], int] | None:
        if not plan.shapes:
            return None
        result, *operands = slots
        pinned = {
            index + 1 for index, slot in enumerate(operands) if plan.slots[index + 1] == 1 and slot in PIN_OF
        }
        to_pin = plan.slots[0] == 1 and result in PIN_OF
        while True:
            place = "m"
            same = [index for index in sorted(pinned) if operands[index - 1] == result] if to_pin else []
            if to_pin:
                place = str(same[0]) if same else "0"
            dropped = set(same[1:])
            shape = place + "".join(
                str(i + 1) if i + 1 in pinned - dropped else "m" for i in range(len(plan.slots) - 1)
            )
            stencil = plan.shapes.get(shape)
            if stencil is not None:
                mapping = {index: PIN_OF[operands[index - 1]] for index in pinned - dropped}
                if place == "0":
                    mapping[0] = PIN_OF[result]
                try:
                    made = _registers(stencil, mapping)
                except ValueError:
                    made = None
                if made is not None:
                    in_memory = {
                        slot
                        for index, slot in enumerate(operands)
                        if plan.slots[index + 1] == 1 and slot in PIN_OF and index + 1 not in pinned - dropped
                    }
                    back = result if plan.slots[0] == 1 and result in PIN_OF and not to_pin else -1
                    return made, tuple(sorted(in_memory)), back
            if to_pin:
                to_pin = False
            elif pinned:
                pinned = set()
            else:
                return None


class _Assembly:
    """One block."""

    __slots__ = ("assembler", "at", "code_", "data", "later", "links", "out", "records", "words")

    def __init__(self, assembler: Assembler, records: bytes, links: Links, at: int) -> None:
        self.assembler = assembler
        self.records = records
        self.words = memoryview(records).cast("Q")
        self.links = links
        self.at = at
        self.data = 0  # bytes of it so far
        self.code_ = HostCode()
        self.out = self.code_.data
        self.later: list[tuple[int, str, dict[str, int]]] = []  # displacement, stencil, values

    def code(self) -> HostCode:
        words, assembler, out = self.words, self.assembler, self.out
        at, size = 0, len(self.records)
        result, ready = self.code_, assembler.ready
        offsets, places = result.offsets, result.records
        while at < size:
            index = at >> 3
            made = ready.get((words[index], words[index + 1]))
            if made is not None:
                offsets.append(len(out))
                places.append(at)
                out += made
                at += _RECORD
                continue
            plan = assembler.plan(words[index])
            name = plan.name
            if name == "link":  # these come after everything else
                break
            offsets.append(len(out))
            places.append(at)
            packed = words[index + 1]
            if name in _CONTROLS:
                self.control(name, at, packed)
            else:
                self.operation(plan, at, packed)
            at += plan.size
        offsets.append(len(out))
        places.append(at)
        for site, name, values in self.later:
            begin = len(out)
            if name == "link":
                values["h_exit"] = begin
                result.sites.append(site)
                result.exits.append(begin)
                result.targets.append(values["h_lit"])
            self.emit(assembler.control(name, -1), values)
            struct.pack_into("<i", out, site, begin - site - 4)
        if self.data > len(out):
            raise AssertionError("a block has more data than code, so it would reach into the next one's")
        return result

    def operation(self, plan: Plan, at: int, packed: int) -> None:
        slots = tuple(packed >> 8 * index & 255 if kind else -1 for index, kind in enumerate(plan.slots))
        immediate = (packed >> 32 ^ 0x80000000) - 0x80000000
        fits = not plan.below or 0 <= immediate < plan.below
        chosen = self.assembler.choose(plan, slots) if fits else None
        if chosen is None:
            self.outside(plan, at)
            return
        stencil, spilled, back = chosen
        begin = len(self.out)
        for slot in spilled:
            self.out += self.assembler.move(slot, True)
        values = {"h_imm": immediate}
        for hole, kind, slot in zip(("h_d", "h_a", "h_b", "h_c"), plan.slots, slots, strict=False):
            values[hole] = 8 * slot if kind == 1 else VECTOR_OFFSET + VECTOR_BYTES * slot
        if plan.size > _RECORD:
            values["h_lit"] = self.words[(at >> 3) + 2]
        if plan.branches:
            self.branch(stencil, values, at)
        else:
            self.emit(stencil, values)
        if back >= 0:
            self.out += self.assembler.move(back, False)
        if plan.size == _RECORD and not plan.branches:
            key = self.words[at >> 3], packed
            self.assembler.ready[key] = bytes(self.out[begin:])

    def outside(self, plan: Plan, at: int) -> None:
        """Let the interpreter do it."""
        if plan.branches:
            raise AssertionError(f"{plan.name} branches to records, so the interpreter cannot do it in place")
        self.emit(self.assembler.special("outside"), {"h_copy": PIECE + self.data})
        self.code_.copies.extend((self.data, at, plan.size, len(self.out)))
        self.data += plan.size + _RECORD

    def branch(self, stencil: Stencil, values: dict[str, int], at: int) -> None:
        """A stencil that goes to `taken` or on, and the jump that is taken then."""
        self.emit(stencil, values, at + 16)
        self.jump(at + 24)

    def jump(self, pointer: int) -> None:
        """Go to a block that may not be there yet."""
        self.out += _NOPS[-(self.at + len(self.out) + 1) % 4] + b"\xe9\0\0\0\0"
        _, target = self.links[pointer]
        self.later.append((len(self.out) - 4, "link", {"h_lit": target & _QUAD}))

    def control(self, name: str, at: int, packed: int) -> None:
        words, index = self.words, at >> 3
        slot = packed >> 8 & 255
        if name == "goto":
            self.jump(at + 16)
            return
        stencil = self.assembler.control(name, slot)
        values = {"h_a": 8 * slot, "h_imm": (packed >> 32 ^ 0x80000000) - 0x80000000}
        if name == "branch":
            self.branch(stencil, values, at)
        elif name in ("enter", "trap_if"):
            cold = {"h_imm": values["h_imm"], "h_lit": words[index + 2]}
            self.emit(stencil, values, -1, ("spent" if name == "enter" else "trap", cold))
        else:
            self.emit(stencil, values)

    def emit(
        self,
        stencil: Stencil,
        values: dict[str, int],
        pointer: int = -1,
        cold: tuple[str, dict[str, int]] | None = None,
    ) -> None:
        """Append a stencil. `taken` leads to the exit for the pointer, or to the stencil `cold`."""
        code, holes = stencil
        out = self.out
        if pointer >= 0:
            first = next(at for at, _, what, _ in holes if what == "taken")
            out += _NOPS[-(self.at + len(out) + first) % 4]
        begin = len(out)
        out += code
        for at, size, what, more in holes:
            where = begin + at
            if what == "next":
                struct.pack_into("<i", out, where, len(out) - where - 4)
            elif what == "leave":
                self.code_.bases.append(where)
                struct.pack_into("<i", out, where, self.assembler.leave - (self.at + where + 4))
            elif what in ("h_exit", "h_copy"):  # offsets, made relative to the instruction
                struct.pack_into("<i", out, where, values[what] - (where + 4))
            elif what == "taken":
                if cold is not None:
                    self.later.append((where, *cold))
                else:
                    _, aim = self.links[pointer]
                    self.later.append((where, "link", {"h_lit": aim & _QUAD}))
            elif size == 4:
                struct.pack_into("<i", out, where, values[what] + more)
            else:
                struct.pack_into("<Q", out, where, values[what] + more & _QUAD)


def _registers(stencil: Stencil, mapping: dict[int, int]) -> Stencil:
    if all(old == new for old, new in mapping.items()):
        return stencil
    from nexus.backend.stencils.registers import substitute

    return substitute(stencil, mapping)


def _filled(code: bytes, holes: tuple[tuple[int, int, str, int], ...], values: dict[str, int]) -> bytes:
    out = bytearray(code)
    for at, _, what, more in holes:
        if what not in values:
            raise NexusError(f"a move between a register and its slot has a hole for {what}")
        struct.pack_into("<i", out, at, values[what] + more)
    return bytes(out)
