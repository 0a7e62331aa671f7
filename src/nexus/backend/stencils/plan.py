"""What the assembler looks up for each record: the plan of its handler, and the stencil for its slots, with
the registers in place. Everything is kept once made."""

from __future__ import annotations

import struct

from nexus.backend.stencils.layout import (
    DEFERRED,
    OPERAND_REGISTERS,
    PIN_OF,
    PLACED_VECTORS,
    VECTOR_PIN_OF,
)
from nexus.base.errors import NexusError
from nexus.ir.state import FLAGS, SLOTS, VECTOR_BYTES, VECTOR_OFFSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.stencils.store import Form, Places, Stencil, Stencils

    Shapes = dict[str, Stencil]
    # the stencil, (kind, slot) of pinned slots to spill before it, those to take back after it
    Choice = tuple[Stencil, Places, Places]

CONTROLS = {"enter": 32, "goto": 32, "branch": 32, "link": 32, "jump": 16, "trap_if": 32, "exit": 16}
FLAG_SLOTS = frozenset(SLOTS[name] for name in FLAGS)
# as `source.py` writes them into the forms
NO_ACCESS, BASE, INDEXED = range(3)
NONE, TOUCHES, SETS, DEFERRABLE = range(4)
QUIET = "~"
FIXED = "#"
SCALAR, VECTOR, WIDE = 1, 2, 3
# ways to move a vector register: its lower half by instructions of SSE or AVX, or all of it
SSE, AVX, WHOLE = range(3)
_RECORD = 16
_FIXED = (0, 1)  # immediates that some variants have stencils of their own for
_PINS: dict[int, dict[int, str]] = {SCALAR: PIN_OF, VECTOR: VECTOR_PIN_OF}
_NO_PINS: dict[int, str] = {}


_MOVES = {"put.i64": 1, "add.i64/i": 2, "sub.i64/i": 2, "lea.i64": 2}
_MOVES |= {"flags.add.i64&add.i64/i": 2, "flags.sub.i64&sub.i64/i": 2}


class Plan:
    """What is known of the records of one handler: see `store.Form`. `slots`: the kinds of the result and of
    a, b, c. `passive`: nothing but its two words decides what becomes of a record. `rest`: it does more than
    set flags. `moves`: the result is operand a (1), or that and the immediate (2). `alone`: the variant that
    only sets its flags. `fixed`: plans for one immediate each. `borrows`: slots whose registers its stencils
    in memory use. `long`: it has to do with whole vector registers."""

    __slots__ = (
        "access",
        "alone",
        "below",
        "borrows",
        "branches",
        "count",
        "counted",
        "fixed",
        "flags",
        "imm_last",
        "long",
        "made",
        "made_avx",
        "moves",
        "name",
        "of_result",
        "passive",
        "rest",
        "shapes",
        "size",
        "slots",
        "wild",
    )

    def __init__(self, name: str, form: Form, shapes: Shapes, borrows: Places) -> None:
        kinds, self.size, self.branches, self.below, self.access, writes, *flags = form
        self.flags, self.of_result, self.count, self.imm_last, self.counted = flags
        self.name = name
        self.shapes = shapes
        self.borrows = borrows
        self.alone = ""
        if self.flags >= DEFERRABLE:
            self.alone = DEFERRED[self.flags - DEFERRABLE] + "/i" * (self.imm_last and self.count == 2)
        self.slots = (kinds[0], *kinds[1])
        self.wild = "wild_store" if writes else "wild_load"
        self.rest = self.slots[0] != 0 or self.branches
        self.moves = _MOVES.get(name, 0)
        self.made: dict[tuple[int, ...], Choice | None] = {}
        self.made_avx: dict[tuple[int, ...], Choice | None] = {}
        self.long = WIDE in self.slots or "v256" in name or name.startswith("clear.")
        self.fixed: dict[int, Plan] = {}
        self.passive = (
            name not in CONTROLS
            and self.size == _RECORD
            and self.access == NO_ACCESS
            and not (self.branches or self.flags or self.moves)
            and bool(shapes)
        )


class Plans(dict[int, Plan]):
    """The plan of each handler, by its address; made when first asked for."""

    def __init__(self, built: Stencils, handlers: dict[int, str]) -> None:
        """`handlers` are the interpreter's, by address."""
        super().__init__()
        self._forms = built.forms
        self._stencils = built.stencils
        self._borrows = built.borrows
        self._handlers = handlers
        self._named: dict[str, Plan] = {}
        self._controls: dict[tuple[str, int], Stencil] = {}
        self._moves: dict[tuple[int, int, bool, int, int], bytes] = {}
        self._puts: dict[int, Stencil] = {}
        # code of passive records by their two words
        self.ready: dict[tuple[int, int], bytes] = {}

    def __missing__(self, handler: int) -> Plan:
        plan = self[handler] = self.named(self._handlers[handler])
        return plan

    def named(self, name: str) -> Plan:
        """The plan of a variant."""
        plan = self._named.get(name)
        if plan is None:
            if name in CONTROLS:
                form: Form = (0, ()), CONTROLS[name], False, 0, NO_ACCESS, False, NONE, False, 0, False, False
            else:
                form = self._forms[name]
            shapes = self._stencils.get(name + QUIET) or self._stencils.get(name, {})
            plan = self._named[name] = Plan(name, form, shapes, self._borrows.get(name, ()))
            for number in _FIXED:
                shapes = self._stencils.get(f"{name}{FIXED}{number}", {})
                if shapes:
                    plan.fixed[number] = Plan(name, form, shapes, ())
        return plan

    def special(self, name: str, shape: str) -> Stencil:
        return self._stencils[name][shape]

    def control(self, name: str, slot: int) -> Stencil:
        """A control stencil; `slot` is its operand's, if it has one."""
        shapes = self._stencils[name]
        key = name, slot if slot in PIN_OF and "m1" in shapes else -1
        found = self._controls.get(key)
        if found is None:
            if key[1] >= 0:
                found = _registers(shapes["m1"], {OPERAND_REGISTERS[1]: PIN_OF[slot]})
            else:
                found = next(shapes[shape] for shape in ("mm", "m", "0") if shape in shapes)
            self._controls[key] = found
        return found

    def put(self, slot: int) -> Stencil:
        """From a pinned slot into one in memory."""
        found = self._puts.get(slot)
        if found is None:
            found = _registers(self._stencils["put.i64"]["m1"], {OPERAND_REGISTERS[1]: PIN_OF[slot]})
            self._puts[slot] = found
        return found

    def move(self, kind: int, slot: int, spill: bool, other: int = -1, width: int = SSE) -> bytes:
        """Put a pinned register into its slot, or into another one, or take it from there. Of a vector
        register all or, unless `width` is WHOLE, the lower half."""
        key = kind, slot, spill, other, width if kind == VECTOR else SSE
        found = self._moves.get(key)
        if found is None:
            names = OPERAND_REGISTERS if kind == SCALAR else PLACED_VECTORS
            at = place(kind, slot if other < 0 else other)
            stencil = _registers(
                self._put(kind, width)["m1" if spill else "0m"], {names[1 if spill else 0]: _PINS[kind][slot]}
            )
            found = filled(*self._encoded(stencil, key[-1]), {"h_d": at, "h_a": at})
            self._moves[key] = found
        return found

    def copied(self, kind: int, slot: int, source: int, width: int = SSE, above: int = 0) -> bytes:
        """Copy a slot in memory to another one; of vectors what is `above` bytes behind the beginning."""
        places = {"h_d": place(kind, slot) + above, "h_a": place(kind, source) + above}
        stencil = self._put(kind, width)["mm"]
        return filled(*self._encoded(stencil, width if kind == VECTOR else SSE), places)

    def _put(self, kind: int, width: int) -> dict[str, Stencil]:
        return self._stencils["put.i64" if kind == SCALAR else "put.v256" if width == WHOLE else "put.v128"]

    def _encoded(self, stencil: Stencil, width: int) -> Stencil:
        return _with_avx((stencil, (), ()), "")[0] if width == AVX else stencil

    def take(self, slot: int, source: int) -> bytes:
        """Take a pinned register from a slot in memory."""
        code, holes = _registers(self._stencils["put.i64"]["0m"], {OPERAND_REGISTERS[0]: PIN_OF[slot]})
        return filled(code, holes, {"h_a": 8 * source})

    def choose(self, plan: Plan, slots: tuple[int, ...], avx: bool = False) -> Choice | None:
        """The stencil for slots (-1 where there is none); None if the interpreter has to do it. With `avx` it
        has the encodings of AVX and zeroes the upper half of a result in a register; the same as without if
        there is no such stencil."""
        made = plan.made_avx if avx else plan.made
        if slots in made:
            return made[slots]
        if avx:
            plain = self.choose(plan, slots)
            result = _pin(VECTOR, slots[0]) if plan.slots[0] == VECTOR else ""
            found = plain and _with_avx(plain, "" if (VECTOR, slots[0]) in plain[2] else result)
        else:
            found = _choose(plan, slots)
        made[slots] = found
        return found


def place(kind: int, slot: int) -> int:
    """Where a slot is in the state."""
    return 8 * slot if kind == SCALAR else VECTOR_OFFSET + VECTOR_BYTES * slot


def pinned(kind: int) -> dict[int, str]:
    """The slots of a kind that are in registers."""
    return _PINS[kind]


def _pin(kind: int, slot: int) -> str:
    """The register of a slot, or nothing. A wide vector has its low part there."""
    return _PINS.get(VECTOR if kind == WIDE else kind, _NO_PINS).get(slot, "")


def _choose(plan: Plan, slots: tuple[int, ...]) -> Choice | None:
    """Try shapes with fewer and fewer operands in registers."""
    if not plan.shapes:
        return None
    inside = [i for i, kind in enumerate(plan.slots) if kind in (SCALAR, VECTOR) and _pin(kind, slots[i])]
    attempts: tuple[list[int], ...] = inside, [i for i in inside if i], [i for i in inside if not i], []
    for in_registers in attempts:
        found = _with(plan, slots, in_registers)
        if found is not None:
            return found
    return None


def _with(plan: Plan, slots: tuple[int, ...], in_registers: list[int]) -> Choice | None:
    """With these operands (0: the result) in registers."""
    kinds = plan.slots
    letters: list[str] = []
    mapping: dict[str, str] = {}
    in_memory = set() if in_registers else set(plan.borrows)
    back = set(in_memory)
    first: dict[tuple[int, int], int] = {}  # kind and slot -> operand
    for index in (*range(1, len(kinds)), 0):
        kind, slot = kinds[index], slots[index]
        if index in in_registers:
            same = first.setdefault((kind, slot), index)
            if plan.branches:  # which only read
                same = index
            names = OPERAND_REGISTERS if kind == SCALAR else PLACED_VECTORS
            mapping[names[same]] = _pin(kind, slot)
            letters.append(str(same))
        else:
            letters.append("m")
            if _pin(kind, slot):
                found = SCALAR if kind == SCALAR else VECTOR, slot
                if not index:
                    back.add(found)
                if index or kind != SCALAR:  # its upper half stays
                    in_memory.add(found)
    stencil = plan.shapes.get(letters[-1] + "".join(letters[:-1]))
    if stencil is None:
        return None
    try:
        return _registers(stencil, mapping), tuple(sorted(in_memory)), tuple(sorted(back))
    except ValueError:
        return None


def _with_avx(choice: Choice, result: str) -> Choice:
    """With the encodings of AVX, if there are such and they zero the upper half of the result's register."""
    from nexus.backend.stencils.encodings import with_avx, zeroes

    made = with_avx(choice[0])
    return choice if made is None or (result and not zeroes(made, result)) else (made, *choice[1:])


def _registers(stencil: Stencil, mapping: dict[str, str]) -> Stencil:
    if all(old == new for old, new in mapping.items()):
        return stencil
    from nexus.backend.stencils.registers import substitute

    return substitute(stencil, mapping)


def filled(code: bytes, holes: tuple[tuple[int, int, str, int], ...], values: dict[str, int]) -> bytes:
    """The code of a stencil that only has holes for `values`."""
    out = bytearray(code)
    for at, size, what, more in holes:
        if what not in values:
            raise NexusError(f"a piece of T1's own code has a hole for {what}")
        struct.pack_into("<i" if size == 4 else "<q", out, at, values[what] + more)
    return bytes(out)
