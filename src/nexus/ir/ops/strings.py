"""Runs of string elements: what x86's repeated string instructions do, a page at most per step.

Operands: destination address (the row's address), source address or value, count of elements left. The result
is how many elements were done: as many as stay within one page on both sides, at least one if any is left.
So a step either happens whole or faults at its first element with nothing done, and its time is bounded. The
direction is DF; addresses beyond the guest's window are clamped like those of a plain access.
"""

from __future__ import annotations

from nexus.ir.ops.flags import _AF, _RESULT, _SUB, sub_flags
from nexus.ir.ops.table import LOAD, STORE, family
from nexus.ir.state import FLAGS
from nexus.ir.types import INTEGERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PAGE = 4096
State = dict[str, int]


def reach(address: int, size: int, down: int) -> int:
    """Elements from `address` on that lie within its page; 1 if the first one crosses its end."""
    offset = address % PAGE
    if offset + size > PAGE:
        return 1
    return offset // size + 1 if down else (PAGE - offset) // size


# %reachX from address `FROM`; %by is the signed step
_REACH = """
%offX = and i64 FROM, 4095
%upX = sub i64 4096, %offX
%aboveX = udiv i64 %upX, {w/8}
%belowX0 = udiv i64 %offX, {w/8}
%belowX = add i64 %belowX0, 1
%sideX = select i1 %down, i64 %belowX, i64 %aboveX
%crossX = icmp ult i64 %upX, {w/8}
%reachX = select i1 %crossX, i64 1, i64 %sideX
"""
_DOWN = "%down = icmp ne i64 $df, 0\n%by = select i1 %down, i64 -{w/8}, i64 {w/8}\n"
_ONE_SIDE = _DOWN + _REACH.replace("X", "1").replace("FROM", "$a")
_ONE_SIDE += "%n = call i64 @llvm.umin.i64(i64 $c, i64 %reach1)\n"
_TWO_SIDES = (
    _DOWN + _REACH.replace("X", "1").replace("FROM", "$a") + _REACH.replace("X", "2").replace("FROM", "$b")
)
_TWO_SIDES += """
%n1 = call i64 @llvm.umin.i64(i64 $c, i64 %reach1)
%n = call i64 @llvm.umin.i64(i64 %n1, i64 %reach2)
%clamped = call i64 @llvm.umin.i64(i64 $b, i64 $top)
%second = add i64 $window, %clamped
%source = inttoptr i64 %second to ptr
"""
_LOOP = """
br label %start
%start:
br label %head
%head:
%i = phi i64 [ 0, %start ], [ %next, %body ]
%at = phi i64 [ 0, %start ], [ %on, %body ]
%end = icmp eq i64 %i, %n
br i1 %end, label %done, label %body
%body:
%to = getelementptr i8, $p, i64 %at
BODY
%next = add i64 %i, 1
%on = add i64 %at, %by
br label %head
%done:
$d = add i64 %i, 0
"""


def _steps(w: int, state: State, count: int, *addresses: int) -> tuple[int, int]:
    """(elements in this step, signed bytes from one to the next)."""
    size = w // 8
    n = min([count, *(reach(address, size, state["df"]) for address in addresses)])
    return n, -size if state["df"] else size


def _movs(w: int, state: State, memory: Any, to: int, source: int, count: int) -> tuple[int, State]:
    n, by = _steps(w, state, count, to, source)
    for i in range(n):
        memory.store(to + i * by, w // 8, memory.load(source + i * by, w // 8))
    return n, {}


def _stos(w: int, state: State, memory: Any, to: int, value: int, count: int) -> tuple[int, State]:
    n, by = _steps(w, state, count, to)
    for i in range(n):
        memory.store(to + i * by, w // 8, value)
    return n, {}


def _per_width(text: str) -> dict[int, str]:
    return {t.bits: text.replace("{w/8}", str(t.bits // 8)) for t in INTEGERS}


_MOVS = _per_width(
    _TWO_SIDES
    + _LOOP.replace(
        "BODY",
        "%from = getelementptr i8, ptr %source, i64 %at\n%element = load {T}, ptr %from, align 1\n"
        "store {T} %element, ptr %to, align 1",
    )
)
_STOS = _per_width(_ONE_SIDE + _LOOP.replace("BODY", "store {T} $b, ptr %to, align 1"))

for _t in INTEGERS:
    family(
        (_t,),
        "string.copy.{t}",
        "i64 i64 i64 -> i64",
        _MOVS[_t.bits],
        _movs,
        "Copy elements in order (REP MOVS).",
        effect=STORE,
        imm=True,
        address=1,
        reads=("df", "window", "top"),
    )
    family(
        (_t,),
        "string.fill.{t}",
        "i64 {t} i64 -> i64",
        _STOS[_t.bits],
        _stos,
        "Store the second operand again and again (REP STOS).",
        effect=STORE,
        imm=True,
        address=1,
        reads=("df",),
    )

# comparing and loading: these leave flags, or the accumulator, of the last element done -------------------

_COMPARE_LOOP = """
br label %start
%start:
br label %head
%head:
%i = phi i64 [ 0, %start ], [ %next, %body ]
%at = phi i64 [ 0, %start ], [ %on, %body ]
%x = phi {T} [ 0, %start ], [ %first, %body ]
%y = phi {T} [ 0, %start ], [ %other, %body ]
%stop = phi i1 [ false, %start ], [ %hit, %body ]
%all = icmp eq i64 %i, %n
%end = or i1 %all, %stop
br i1 %end, label %done, label %body
%body:
%to = getelementptr i8, $p, i64 %at
%other = load {T}, ptr %to, align 1
FIRST
%hit = icmp RELATION {T} %first, %other
%next = add i64 %i, 1
%on = add i64 %at, %by
br label %head
%done:
$d = add i64 %i, 0
%none = icmp eq i64 %n, 0
%r = sub {T} %x, %y
%below = icmp ult {T} %x, %y
%new_cf = zext i1 %below to i64
"""
_FROM_MEMORY = "%from = getelementptr i8, ptr %source, i64 %at\n%first = load {T}, ptr %from, align 1"


def _flags_of_last() -> str:
    text = (_SUB + _RESULT + _AF).replace("$a", "%x").replace("$b", "%y")
    for flag in FLAGS:
        text = text.replace(f"$new.{flag} =", f"%new_{flag} =")
    return text + "".join(f"\n$new.{flag} = select i1 %none, i64 ${flag}, i64 %new_{flag}" for flag in FLAGS)


def _compare(
    w: int, state: State, memory: Any, to: int, first: Any, count: int, sides: tuple[int, ...], until: bool
) -> tuple[int, State]:
    """Compare `first(offset)` with the elements at `to` until the equality is `until`."""
    n, by = _steps(w, state, count, *sides)
    flags = {flag: state[flag] for flag in FLAGS}
    for i in range(n):
        y = memory.load(to + i * by, w // 8)
        x = first(i * by)
        flags = sub_flags(w, x, y)
        if (x == y) == until:
            return i + 1, flags
    return n, flags


def _cmps(until: bool) -> Any:
    def oracle(w: int, state: State, memory: Any, to: int, source: int, count: int) -> tuple[int, State]:
        return _compare(
            w, state, memory, to, lambda at: memory.load(source + at, w // 8), count, (to, source), until
        )

    return oracle


def _scas(until: bool) -> Any:
    def oracle(w: int, state: State, memory: Any, to: int, value: int, count: int) -> tuple[int, State]:
        return _compare(w, state, memory, to, lambda at: value, count, (to,), until)

    return oracle


def _lods(w: int, state: State, memory: Any, source: int, count: int) -> tuple[int, State]:
    n, by = _steps(w, state, count, source)
    if n == 0:
        return 0, {"r0": state["r0"]}
    memory.load(source, w // 8)
    value = memory.load(source + (n - 1) * by, w // 8)
    kept = 0 if w == 32 else state["r0"] & ~((1 << w) - 1)
    return n, {"r0": kept | value}


_LODS = (
    _DOWN
    + _REACH.replace("X", "1").replace("FROM", "$a")
    + """
%n = call i64 @llvm.umin.i64(i64 $b, i64 %reach1)
br label %start
%start:
%none = icmp eq i64 %n, 0
br i1 %none, label %done, label %some
%some:
%touch = load volatile {T}, $p, align 1
%more = sub i64 %n, 1
%at = mul i64 %more, %by
%last = getelementptr i8, $p, i64 %at
%value = load {T}, ptr %last, align 1
%wide = {zext %value}
%kept = and i64 $r0, KEEP
%whole = or i64 %kept, %wide
br label %done
%done:
$new.r0 = phi i64 [ $r0, %start ], [ %whole, %some ]
$d = add i64 %n, 0
"""
)
for _t in INTEGERS:
    for _relation, _until, _word in (("ne", False, "equal"), ("eq", True, "different")):
        family(
            (_t,),
            f"string.compare_while_{_word}.{{t}}",
            "i64 i64 i64 -> i64",
            (
                _TWO_SIDES + _COMPARE_LOOP.replace("FIRST", _FROM_MEMORY).replace("RELATION", _relation)
            ).replace("{w/8}", str(_t.bits // 8))
            + _flags_of_last(),
            _cmps(_until),
            f"Flags of source - destination, element by element while {_word} (REP CMPS).",
            effect=LOAD,
            imm=True,
            address=1,
            reads=("df", "window", "top", *FLAGS),
            writes=FLAGS,
        )
        family(
            (_t,),
            f"string.scan_while_{_word}.{{t}}",
            "i64 {t} i64 -> i64",
            (
                _ONE_SIDE
                + _COMPARE_LOOP.replace("FIRST", "%first = add {T} $b, 0").replace("RELATION", _relation)
            ).replace("{w/8}", str(_t.bits // 8))
            + _flags_of_last(),
            _scas(_until),
            f"Flags of the second operand - destination, element by element while {_word} (REP SCAS).",
            effect=LOAD,
            imm=True,
            address=1,
            reads=("df", *FLAGS),
            writes=FLAGS,
        )
    family(
        (_t,),
        "string.load.{t}",
        "i64 i64 -> i64",
        _LODS.replace("{w/8}", str(_t.bits // 8)).replace(
            "KEEP", str(0 if _t.bits >= 32 else -(1 << _t.bits))
        ),
        _lods,
        "Load elements from the address into r0, so that the last one stays (REP LODS).",
        effect=LOAD,
        imm=True,
        address=1,
        reads=("df", "r0"),
        writes=("r0",),
    )
