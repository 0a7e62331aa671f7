"""The x87 register stack.

Which slot an x87 register lives in is known only at run time (`ftop`), so these rows reach it through
`$state`.

An x87 value in the IR is a v128: the 80 bits, and from bit 96 on the status word that its computation raised
(exceptions, stack fault, condition codes). Only `x87.set`, `x87.push` and `x87.done` change the guest's
status, after the last access of the instruction. Rounding and precision are those of the host's control word,
which the engine has loaded from `fcw` with every exception masked; what an unmasked one forbids is left
undone here.
"""

from __future__ import annotations

from nexus.ir.ops.table import row
from nexus.ir.state import FIRST_X87, SCALAR_SLOTS, SLOTS, VECTOR_BYTES, VECTOR_OFFSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    State = dict[int, int]

STATUS = 96  # where the status word begins in an x87 value
INDEFINITE = 0xFFFF_C000_0000_0000_0000
VALUE = (1 << 80) - 1
STACK_FAULT, EXCEPTIONS, SUMMARY = 0x40, 0x3F, 0x8080  # SF; IE..PE; ES and B
UNDERFLOW, OVERFLOW = 0x41, 0x241  # stack faults: IE, SF, and C1 for an overflow
C1, C2, CODES = 0x200, 0x400, 0x4700
INHERITED = 0x7F  # of the status of an operand: exceptions and stack fault
NO_QUOTIENT = 0x8000  # in the status of an x87 value: FPREM gave a NaN
BLOCKING = 0x07  # IE, DE, ZE: unmasked they leave the operands as they are

FCW, FSW, FTOP, FTAG = (SLOTS[name] for name in ("fcw", "fsw", "ftop", "ftag"))
_REGISTERS = VECTOR_OFFSET + FIRST_X87 * VECTOR_BYTES
FIRST = SCALAR_SLOTS + FIRST_X87


def register(name: str, number: str) -> str:
    """`%name`: the host address of physical x87 register `number` (an i64 below 8)."""
    return (
        f"%{name}.o = shl i64 {number}, 6\n%{name}.b = add i64 %{name}.o, {_REGISTERS}\n"
        f"%{name} = getelementptr i8, ptr $state, i64 %{name}.b\n"
    )


def field(name: str) -> str:
    """`%name`: the state field; `%name.p` its host address. The top is cut to its three bits."""
    return (
        f"%{name}.p = getelementptr i8, ptr $state, i64 {8 * SLOTS[name]}\n"
        f"%{name}.l = load i64, ptr %{name}.p, align 8\n"
        f"%{name} = and i64 %{name}.l, {7 if name == 'ftop' else -1}\n"
    )


def in_use(tag: str, number: str) -> str:
    return f"%{tag}.s = lshr i64 %ftag, {number}\n%{tag} = trunc i64 %{tag}.s to i1\n"


# reading -----------------------------------------------------------------------------------------------


def _get(w: int, state: State, imm: int) -> int:
    number = state.get(FTOP, 0) + imm & 7
    if state.get(FTAG, 0) >> number & 1 or imm & 8:
        return state.get(FIRST + number, 0) & VALUE
    return INDEFINITE | UNDERFLOW << STATUS


row(
    "x87.get",
    "-> v128",
    field("ftop")
    + field("ftag")
    + "%n1 = add i64 %ftop, $imm\n%n = and i64 %n1, 7\n"
    + register("r", "%n")
    + "%v1 = load i128, ptr %r, align 16\n"
    + f"%v = and i128 %v1, {VALUE}\n"
    + in_use("used", "%n")
    + "%raw1 = and i64 $imm, 8\n%raw = icmp ne i64 %raw1, 0\n%good = or i1 %used, %raw\n"
    + f"$d = select i1 %good, i128 %v, i128 {INDEFINITE | UNDERFLOW << STATUS}",
    _get,
    "ST(imm); an empty register gives the indefinite NaN and a stack fault. With bit 3 of imm: whatever it "
    "holds.",
    imm=True,
    indirect=True,
)
row(
    "x87.empty",
    "-> i64",
    field("ftop")
    + field("ftag")
    + "%n1 = add i64 %ftop, $imm\n%n = and i64 %n1, 7\n"
    + in_use("used", "%n")
    + "%not = xor i1 %used, true\n$d = zext i1 %not to i64",
    lambda w, state, imm: ~(state.get(FTAG, 0) >> (state.get(FTOP, 0) + imm & 7)) & 1,
    "Whether ST(imm) is empty.",
    imm=True,
    indirect=True,
)

# changing ----------------------------------------------------------------------------------------------
#
# imm: bits 0-2 the register to set, 3-4 how many registers to pop, 5-7 which condition codes the value
# defines

ONLY_C1, ALL_CODES, QUOTIENT, NO_CODES, RANGE = (mode << 5 for mode in range(5))
"""The condition codes that are replaced: C1 alone; all; all, but C1 and C2 without a quotient (FPREM); none,
but C1 on a stack fault (FCMOV, FCOMI); C1 and C2 (trigonometry)."""
_CODES_OF = ((2, 2), (15, 15), (15, 6), (0, 2), (6, 6))  # as C3 C2 C1 C0, without and with a stack fault
_CODE_TABLE = sum(
    codes << 4 * (2 * mode + fault) for mode, both in enumerate(_CODES_OF) for fault, codes in enumerate(both)
)


def pops(count: int) -> int:
    """`imm` of rows that pop."""
    return count << 3


_MERGE = f"""
%st1 = lshr i128 $a, {STATUS}
%st2 = trunc i128 %st1 to i64
%fault1 = and i64 %st2, {STACK_FAULT}
%fault = icmp ne i64 %fault1, 0
%mode1 = lshr i64 $imm, 5
%mode2 = and i64 %mode1, 7
%mode = call i64 @llvm.umin.i64(i64 %mode2, i64 {len(_CODES_OF) - 1})
%at1 = shl i64 %mode, 3
%odd1 = and i64 %st2, {STACK_FAULT | NO_QUOTIENT}
%odd = icmp ne i64 %odd1, 0
%at2 = select i1 %odd, i64 4, i64 0
%at = add i64 %at1, %at2
%nib1 = lshr i64 {_CODE_TABLE}, %at
%nib2 = and i64 %nib1, 7
%nib3 = shl i64 %nib2, 8
%nib4 = and i64 %nib1, 8
%nib5 = shl i64 %nib4, 11
%codes = or i64 %nib3, %nib5
%raise = select i1 %fault, i64 {UNDERFLOW}, i64 {EXCEPTIONS}
%take = or i64 %codes, %raise
%st = and i64 %st2, %take
%clear = xor i64 %codes, -1
%old = and i64 %fsw, %clear
%new = or i64 %old, %st
%open1 = xor i64 %fcw, -1
%open = and i64 %open1, {EXCEPTIONS}
%raised = and i64 %new, %open
%any = icmp ne i64 %raised, 0
%sum = select i1 %any, i64 {SUMMARY}, i64 0
%word = or i64 %new, %sum
store i64 %word, ptr %fsw.p, align 8
%now1 = and i64 %st, {BLOCKING}
%now = and i64 %now1, %open
%blocked = icmp ne i64 %now, 0
%plain = and i128 $a, {VALUE}
%value = select i1 %fault, i128 {INDEFINITE}, i128 %plain
"""
_FIELDS = field("fcw") + field("fsw") + field("ftop") + field("ftag")
_POP = """
%count1 = lshr i64 $imm, 3
%count2 = and i64 %count1, 3
%count = select i1 %blocked, i64 0, i64 %count2
%ones1 = shl i64 1, %count
%ones = sub i64 %ones1, 1
%gone1 = shl i64 %ones, %ftop
%gone2 = lshr i64 %gone1, 8
%gone = or i64 %gone1, %gone2
%stay = xor i64 %gone, -1
%tag1 = and i64 TAG, %stay
%tag = and i64 %tag1, 255
store i64 %tag, ptr %ftag.p, align 8
%top1 = add i64 %ftop, %count
%top = and i64 %top1, 7
store i64 %top, ptr %ftop.p, align 8
"""


def merge_status(state: State, value: int, imm: int) -> bool:
    """Fold the status of an x87 value into the status word; True if an unmasked exception blocks the rest."""
    status = value >> STATUS
    fault = status & STACK_FAULT != 0
    nibble = _CODES_OF[min(imm >> 5 & 7, len(_CODES_OF) - 1)][status & (STACK_FAULT | NO_QUOTIENT) != 0]
    codes = (nibble & 7) << 8 | (nibble & 8) << 11
    status &= codes | (UNDERFLOW if fault else EXCEPTIONS)
    fsw = state.get(FSW, 0) & ~codes | status
    unmasked = ~state.get(FCW, 0) & EXCEPTIONS
    state[FSW] = fsw | SUMMARY if fsw & unmasked else fsw
    return status & BLOCKING & unmasked != 0


def _stored(value: int) -> int:
    return INDEFINITE if value >> STATUS & STACK_FAULT else value & VALUE


def _pop(state: State, count: int) -> None:
    for _ in range(count):
        top = state.get(FTOP, 0)
        state[FTAG] = state.get(FTAG, 0) & ~(1 << top)
        state[FTOP] = top + 1 & 7


def _set(w: int, state: State, value: int, imm: int) -> None:
    if merge_status(state, value, imm):
        return
    number = state.get(FTOP, 0) + imm & 7
    slot = FIRST + number
    state[slot] = state.get(slot, 0) >> 128 << 128 | _stored(value)
    state[FTAG] = state.get(FTAG, 0) | 1 << number
    _pop(state, imm >> 3 & 3)


def _done(w: int, state: State, value: int, imm: int) -> None:
    if not merge_status(state, value, imm):
        _pop(state, imm >> 3 & 3)


def _push(w: int, state: State, value: int, imm: int) -> None:
    number = state.get(FTOP, 0) - 1 & 7
    if state.get(FTAG, 0) >> number & 1 and not value >> STATUS & STACK_FAULT:
        value = OVERFLOW << STATUS
    if merge_status(state, value, imm):
        return
    slot = FIRST + number
    state[slot] = state.get(slot, 0) >> 128 << 128 | _stored(value)
    state[FTAG] = state.get(FTAG, 0) | 1 << number
    state[FTOP] = number


row(
    "x87.set",
    "v128 ->",
    _FIELDS
    + _MERGE
    + "%n1 = add i64 %ftop, $imm\n%n = and i64 %n1, 7\n"
    + register("r", "%n")
    + "%before = load i128, ptr %r, align 16\n%final = select i1 %blocked, i128 %before, i128 %value\n"
    + "store i128 %final, ptr %r, align 16\n%bit = shl i64 1, %n\n"
    + "%mark = select i1 %blocked, i64 0, i64 %bit\n%used = or i64 %ftag, %mark\n"
    + _POP.replace("TAG", "%used"),
    _set,
    "ST(imm & 7) := the value, with its status; then pop.",
    imm=True,
    indirect=True,
)
row(
    "x87.done",
    "v128 ->",
    _FIELDS + _MERGE + _POP.replace("TAG", "%ftag"),
    _done,
    "Take the status of a value that went elsewhere; then pop.",
    imm=True,
    indirect=True,
)
_OVERFLOWS = f"""%st3 = trunc i128 %st1 to i64
%under1 = and i64 %st3, {STACK_FAULT}
%under = icmp eq i64 %under1, 0
%over = and i1 %full, %under
%st2 = select i1 %over, i64 {OVERFLOW}, i64 %st3"""
_PUSH = (
    _FIELDS
    + "%n1 = add i64 %ftop, 7\n%n = and i64 %n1, 7\n"
    + in_use("full", "%n")
    + _MERGE.replace("%st2 = trunc i128 %st1 to i64", _OVERFLOWS)
    + register("r", "%n")
    + "%before = load i128, ptr %r, align 16\n%final = select i1 %blocked, i128 %before, i128 %value\n"
    + "store i128 %final, ptr %r, align 16\n%bit = shl i64 1, %n\n%more = or i64 %ftag, %bit\n"
    + "%tag = select i1 %blocked, i64 %ftag, i64 %more\nstore i64 %tag, ptr %ftag.p, align 8\n"
    + "%top = select i1 %blocked, i64 %ftop, i64 %n\nstore i64 %top, ptr %ftop.p, align 8"
)
row(
    "x87.push",
    "v128 ->",
    _PUSH,
    _push,
    "Push the value, with its status; onto a register in use it is a stack overflow.",
    imm=True,
    indirect=True,
)
_SKIP = """%c2 = and i64 %fsw, 1024
%skip = icmp ne i64 %c2, 0
%kept = select i1 %skip, i64 %fsw, i64 %word
store i64 %kept,"""
row(
    "x87.push_unless_c2",
    "v128 ->",
    _PUSH.replace("store i64 %word,", _SKIP).replace(
        "%blocked = icmp ne i64 %now, 0", "%stop = icmp ne i64 %now, 0\n%blocked = or i1 %stop, %skip"
    ),
    lambda w, state, value, imm: None if state.get(FSW, 0) & C2 else _push(w, state, value, imm),
    "Push the value as `x87.push` does, but do nothing at all while C2 is set (FPTAN, FSINCOS out of range).",
    imm=True,
    indirect=True,
)


def _room(w: int, state: State, value: int) -> int:
    full = state.get(FTAG, 0) >> (state.get(FTOP, 0) - 1 & 7) & 1
    return OVERFLOW << STATUS if full and not value >> STATUS & STACK_FAULT else value


row(
    "x87.room",
    "v128 -> v128",
    field("ftop")
    + field("ftag")
    + "%n1 = add i64 %ftop, 7\n%n = and i64 %n1, 7\n"
    + in_use("full", "%n")
    + f"%st1 = lshr i128 $a, {STATUS}\n"
    + _OVERFLOWS
    + f"\n$d = select i1 %over, i128 {OVERFLOW << STATUS}, i128 $a",
    _room,
    "The value, or a stack overflow if there is no room for a push.",
    indirect=True,
)


def _move_pop(w: int, state: State, imm: int) -> None:
    top, used = state.get(FTOP, 0), state.get(FTAG, 0)
    state[FSW] = state.get(FSW, 0) & ~C1
    if used >> top & 1:
        slot = FIRST + (top + imm & 7)
        state[slot] = state.get(slot, 0) >> 128 << 128 | state.get(FIRST + top, 0) & VALUE
        state[FTAG] = used | 1 << (top + imm & 7)
    _pop(state, 1)


row(
    "x87.move_pop",
    "->",
    field("fsw")
    + field("ftop")
    + field("ftag")
    + "%n1 = add i64 %ftop, $imm\n%n = and i64 %n1, 7\n"
    + register("r", "%n")
    + register("s", "%ftop")
    + in_use("full", "%ftop")
    + "%old = load i128, ptr %r, align 16\n%new = load i128, ptr %s, align 16\n"
    + "%v = select i1 %full, i128 %new, i128 %old\nstore i128 %v, ptr %r, align 16\n"
    + "%b1 = shl i64 1, %n\n%b = select i1 %full, i64 %b1, i64 0\n%g1 = or i64 %ftag, %b\n"
    "%g2 = shl i64 1, %ftop\n"
    + "%g3 = xor i64 %g2, -1\n%g = and i64 %g1, %g3\nstore i64 %g, ptr %ftag.p, align 8\n"
    + "%t1 = add i64 %ftop, 1\n%t = and i64 %t1, 7\nstore i64 %t, ptr %ftop.p, align 8\n"
    + f"%w = and i64 %fsw, {0xFFFF ^ C1}\nstore i64 %w, ptr %fsw.p, align 8",
    _move_pop,
    "ST(imm) := ST(0) unless that is empty, then pop; raises nothing.",
    imm=True,
    indirect=True,
)
