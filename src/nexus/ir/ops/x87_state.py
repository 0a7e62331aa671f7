"""The x87 register stack, MMX's view of it, MXCSR, and the FXSAVE image.

Which slot an x87 register lives in is known only at run time (`ftop`), so these rows reach it through `$state`.

An x87 value in the IR is a v128: the 80 bits, and from bit 96 on the status word that its computation raised
(exceptions, stack fault, condition codes). Only `x87.set`, `x87.push` and `x87.done` change the guest's status,
after the last access of the instruction. Rounding and precision are those of the host's control word, which the
engine has loaded from `fcw` with every exception masked; what an unmasked one forbids is left undone here.
"""

from __future__ import annotations

from nexus.ir.ops.table import LOAD, STORE, row
from nexus.ir.state import FIRST_X87, SCALAR_SLOTS, SLOTS, VECTOR_BYTES, VECTOR_OFFSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.oracle import Memory

    State = dict[int, int]

STATUS = 96  # where the status word begins in an x87 value
INDEFINITE = 0xFFFF_C000_0000_0000_0000
VALUE = (1 << 80) - 1
STACK_FAULT, EXCEPTIONS, SUMMARY = 0x40, 0x3F, 0x8080  # SF; IE..PE; ES and B
UNDERFLOW, OVERFLOW = 0x41, 0x241  # stack faults: IE, SF, and C1 for an overflow
CONTROL_BITS, CONTROL_ONE = 0x1F3F, 0x40  # of the control word: those that exist, and the reserved one that reads as 1
STATUS_BITS = 0x477F  # of the status word, without TOP and the summary
C1, C2, CODES = 0x200, 0x400, 0x4700
INHERITED = 0x7F  # of the status of an operand: exceptions and stack fault
NO_QUOTIENT = 0x8000  # in the status of an x87 value: FPREM gave a NaN
BLOCKING = 0x07  # IE, DE, ZE: unmasked they leave the operands as they are

_FCW, _FSW, _FTOP, _FTAG = (SLOTS[name] for name in ("fcw", "fsw", "ftop", "ftag"))
_REGISTERS = VECTOR_OFFSET + FIRST_X87 * VECTOR_BYTES
_FIRST = SCALAR_SLOTS + FIRST_X87


def _register(name: str, number: str) -> str:
    """`%name`: the host address of physical x87 register `number` (an i64 below 8)."""
    return (
        f"%{name}.o = shl i64 {number}, 6\n%{name}.b = add i64 %{name}.o, {_REGISTERS}\n"
        f"%{name} = getelementptr i8, ptr $state, i64 %{name}.b\n"
    )


def _field(name: str) -> str:
    """`%name`: the state field; `%name.p` its host address."""
    return (
        f"%{name}.p = getelementptr i8, ptr $state, i64 {8 * SLOTS[name]}\n%{name} = load i64, ptr %{name}.p, align 8\n"
    )


def _in_use(tag: str, number: str) -> str:
    return f"%{tag}.s = lshr i64 %ftag, {number}\n%{tag} = trunc i64 %{tag}.s to i1\n"


# reading -----------------------------------------------------------------------------------------------


def _get(w: int, state: State, imm: int) -> int:
    number = state.get(_FTOP, 0) + imm & 7
    if state.get(_FTAG, 0) >> number & 1 or imm & 8:
        return state.get(_FIRST + number, 0) & VALUE
    return INDEFINITE | UNDERFLOW << STATUS


row(
    "x87.get",
    "-> v128",
    _field("ftop")
    + _field("ftag")
    + "%n1 = add i64 %ftop, $imm\n%n = and i64 %n1, 7\n"
    + _register("r", "%n")
    + "%v1 = load i128, ptr %r, align 16\n"
    + f"%v = and i128 %v1, {VALUE}\n"
    + _in_use("used", "%n")
    + "%raw1 = and i64 $imm, 8\n%raw = icmp ne i64 %raw1, 0\n%good = or i1 %used, %raw\n"
    + f"$d = select i1 %good, i128 %v, i128 {INDEFINITE | UNDERFLOW << STATUS}",
    _get,
    "ST(imm); an empty register gives the indefinite NaN and a stack fault. With bit 3 of imm: whatever it holds.",
    imm=True,
    indirect=True,
)
row(
    "x87.empty",
    "-> i64",
    _field("ftop")
    + _field("ftag")
    + "%n1 = add i64 %ftop, $imm\n%n = and i64 %n1, 7\n"
    + _in_use("used", "%n")
    + "%not = xor i1 %used, true\n$d = zext i1 %not to i64",
    lambda w, state, imm: ~(state.get(_FTAG, 0) >> (state.get(_FTOP, 0) + imm & 7)) & 1,
    "Whether ST(imm) is empty.",
    imm=True,
    indirect=True,
)

# changing ----------------------------------------------------------------------------------------------
#
# imm: bits 0-2 the register to set, 3-4 how many registers to pop, 5-7 which condition codes the value defines

ONLY_C1, ALL_CODES, QUOTIENT, NO_CODES, RANGE = (mode << 5 for mode in range(5))
"""The condition codes that are replaced: C1 alone; all; all, but C1 and C2 without a quotient (FPREM); none, but C1 on a
stack fault (FCMOV, FCOMI); C1 and C2 (trigonometry)."""
_CODES_OF = ((2, 2), (15, 15), (15, 6), (0, 2), (6, 6))  # as C3 C2 C1 C0, without and with a stack fault
_CODE_TABLE = sum(codes << 4 * (2 * mode + fault) for mode, both in enumerate(_CODES_OF) for fault, codes in enumerate(both))


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
_FIELDS = _field("fcw") + _field("fsw") + _field("ftop") + _field("ftag")
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
    fsw = state.get(_FSW, 0) & ~codes | status
    unmasked = ~state.get(_FCW, 0) & EXCEPTIONS
    state[_FSW] = fsw | SUMMARY if fsw & unmasked else fsw
    return status & BLOCKING & unmasked != 0


def _stored(value: int) -> int:
    return INDEFINITE if value >> STATUS & STACK_FAULT else value & VALUE


def _pop(state: State, count: int) -> None:
    for _ in range(count):
        top = state.get(_FTOP, 0)
        state[_FTAG] = state.get(_FTAG, 0) & ~(1 << top)
        state[_FTOP] = top + 1 & 7


def _set(w: int, state: State, value: int, imm: int) -> None:
    if merge_status(state, value, imm):
        return
    number = state.get(_FTOP, 0) + imm & 7
    slot = _FIRST + number
    state[slot] = state.get(slot, 0) >> 128 << 128 | _stored(value)
    state[_FTAG] = state.get(_FTAG, 0) | 1 << number
    _pop(state, imm >> 3 & 3)


def _done(w: int, state: State, value: int, imm: int) -> None:
    if not merge_status(state, value, imm):
        _pop(state, imm >> 3 & 3)


def _push(w: int, state: State, value: int, imm: int) -> None:
    number = state.get(_FTOP, 0) - 1 & 7
    if state.get(_FTAG, 0) >> number & 1 and not value >> STATUS & STACK_FAULT:
        value = OVERFLOW << STATUS
    if merge_status(state, value, imm):
        return
    slot = _FIRST + number
    state[slot] = state.get(slot, 0) >> 128 << 128 | _stored(value)
    state[_FTAG] = state.get(_FTAG, 0) | 1 << number
    state[_FTOP] = number


row(
    "x87.set",
    "v128 ->",
    _FIELDS
    + _MERGE
    + "%n1 = add i64 %ftop, $imm\n%n = and i64 %n1, 7\n"
    + _register("r", "%n")
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
    + _in_use("full", "%n")
    + _MERGE.replace("%st2 = trunc i128 %st1 to i64", _OVERFLOWS)
    + _register("r", "%n")
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
    lambda w, state, value, imm: None if state.get(_FSW, 0) & C2 else _push(w, state, value, imm),
    "Push the value as `x87.push` does, but do nothing at all while C2 is set (FPTAN, FSINCOS out of range).",
    imm=True,
    indirect=True,
)


def _room(w: int, state: State, value: int) -> int:
    full = state.get(_FTAG, 0) >> (state.get(_FTOP, 0) - 1 & 7) & 1
    return OVERFLOW << STATUS if full and not value >> STATUS & STACK_FAULT else value


row(
    "x87.room",
    "v128 -> v128",
    _field("ftop")
    + _field("ftag")
    + "%n1 = add i64 %ftop, 7\n%n = and i64 %n1, 7\n"
    + _in_use("full", "%n")
    + f"%st1 = lshr i128 $a, {STATUS}\n"
    + _OVERFLOWS
    + f"\n$d = select i1 %over, i128 {OVERFLOW << STATUS}, i128 $a",
    _room,
    "The value, or a stack overflow if there is no room for a push.",
    indirect=True,
)


def _put(w: int, state: State, value: int, imm: int) -> None:
    slot = _FIRST + (state.get(_FTOP, 0) + imm & 7)
    state[slot] = state.get(slot, 0) >> 128 << 128 | value & VALUE


row(
    "x87.put",
    "v128 ->",
    _field("ftop")
    + "%n1 = add i64 %ftop, $imm\n%n = and i64 %n1, 7\n"
    + _register("r", "%n")
    + f"%v = and i128 $a, {VALUE}\nstore i128 %v, ptr %r, align 16",
    _put,
    "The bits of ST(imm), and nothing else (FRSTOR).",
    imm=True,
    indirect=True,
)


def full_tags(registers: list[int], used: int) -> int:
    """The tag word of FNSTENV from the eight physical registers: 0 valid, 1 zero, 2 special, 3 empty."""
    word = 0
    for i, value in enumerate(registers):
        exponent, significand = value >> 64 & 0x7FFF, value & (1 << 64) - 1
        if not used >> i & 1:
            tag = 3
        elif exponent == 0 and significand == 0:
            tag = 1
        else:
            tag = 2 if exponent in (0, 0x7FFF) or not significand >> 63 else 0
        word |= tag << 2 * i
    return word


def _tags_template() -> str:
    text = _field("ftag") + "%w0 = add i64 0, 0\n"
    for i in range(8):
        text += _register(f"r{i}", str(i)) + f"%m{i} = load i64, ptr %r{i}, align 16\n"
        text += f"%q{i} = getelementptr i8, ptr %r{i}, i64 8\n%e1{i} = load i16, ptr %q{i}, align 8\n"
        text += f"%e{i} = and i16 %e1{i}, 32767\n%ez{i} = icmp eq i16 %e{i}, 0\n%mz{i} = icmp eq i64 %m{i}, 0\n"
        text += f"%z{i} = and i1 %ez{i}, %mz{i}\n%et{i} = icmp eq i16 %e{i}, 32767\n%un{i} = icmp sge i64 %m{i}, 0\n"
        text += f"%s1{i} = or i1 %ez{i}, %et{i}\n%s{i} = or i1 %s1{i}, %un{i}\n%a{i} = select i1 %s{i}, i64 2, i64 0\n"
        text += f"%b{i} = select i1 %z{i}, i64 1, i64 %a{i}\n" + _in_use(f"u{i}", str(i))
        text += f"%c{i} = select i1 %u{i}, i64 %b{i}, i64 3\n%d{i} = shl i64 %c{i}, {2 * i}\n"
        text += f"%w{i + 1} = or i64 %w{i}, %d{i}\n"
    return text + "$d = add i64 %w8, 0"


row(
    "x87.tags",
    "-> i64",
    _tags_template,
    lambda w, state: full_tags([state.get(_FIRST + i, 0) for i in range(8)], state.get(_FTAG, 0)),
    "The two-bit tags of all registers, as FNSTENV stores them.",
    indirect=True,
)
def summary(fsw: int, fcw: int) -> int:
    """The status word with the summary bits that follow from it and the control word."""
    return fsw & STATUS_BITS | (SUMMARY if fsw & ~fcw & EXCEPTIONS else 0)


def control(word: int) -> int:
    """A control word as the processor takes it."""
    return word & CONTROL_BITS | CONTROL_ONE


# From %c and %s, loaded words: %cw and %fw, what becomes of them; and the host takes %cw with all exceptions masked.
_CONTROL = f"""
%cw1 = and i64 %c, {CONTROL_BITS}
%cw = or i64 %cw1, {CONTROL_ONE}
%hc1 = trunc i64 %cw to i16
%hc = or i16 %hc1, {EXCEPTIONS}
%hcp = alloca i16, align 2
store i16 %hc, ptr %hcp, align 2
call void asm sideeffect "fldcw $0", "*m,~{{fpsr}}"(ptr elementtype(i16) %hcp)
%open1 = xor i64 %cw, -1
%open = and i64 %open1, {EXCEPTIONS}
%raised = and i64 %s, %open
%any = icmp ne i64 %raised, 0
%clean = and i64 %s, {STATUS_BITS}
%with = or i64 %clean, {SUMMARY}
%fw = select i1 %any, i64 %with, i64 %clean
"""
row(
    "x87.control",
    "i64 ->",
    "%c = and i64 $a, 65535\n%s = add i64 $fsw, 0\n"
    + _CONTROL
    + "$new.fcw = add i64 %cw, 0\n$new.fsw = add i64 %fw, 0",
    lambda w, state, a: {"fcw": control(a), "fsw": summary(state["fsw"], a)},
    "Load the control word, for the guest and the host; the status word's summary bits follow.",
    reads=("fsw",),
    writes=("fcw", "fsw"),
)

# MMX ---------------------------------------------------------------------------------------------------

row(
    "mmx.get",
    "-> v128",
    "%n = and i64 $imm, 7\n" + _register("r", "%n") + "%v = load i64, ptr %r, align 16\n$d = zext i64 %v to i128",
    lambda w, state, imm: state.get(_FIRST + (imm & 7), 0) & (1 << 64) - 1,
    "MMX register imm, zero above its 64 bits.",
    imm=True,
    indirect=True,
)


def _enter(w: int, state: State) -> None:
    state[_FTOP], state[_FTAG] = 0, 255


def _mmx_put(w: int, state: State, value: int, imm: int) -> None:
    slot = _FIRST + (imm & 7)
    state[slot] = state.get(slot, 0) >> 128 << 128 | value & (1 << 64) - 1 | 0xFFFF << 64
    _enter(w, state)


_ENTER = _field("ftop") + _field("ftag") + "store i64 0, ptr %ftop.p, align 8\nstore i64 255, ptr %ftag.p, align 8\n"
row(
    "mmx.put",
    "v128 ->",
    "%n = and i64 $imm, 7\n"
    + _register("r", "%n")
    + f"%low1 = and i128 $a, {(1 << 64) - 1}\n%v = or i128 %low1, {0xFFFF << 64}\nstore i128 %v, ptr %r, align 16\n"
    + _ENTER,
    _mmx_put,
    "MMX register imm := the low 64 bits; every x87 register is in use from now on, and the top is 0.",
    imm=True,
    indirect=True,
)
row("mmx.enter", "->", _ENTER, _enter, "What every MMX instruction does to the x87 stack.", indirect=True)

# MXCSR -------------------------------------------------------------------------------------------------

row(
    "mxcsr.read",
    "-> i64",
    "%p = alloca i32, align 4\ncall void @llvm.x86.sse.stmxcsr(ptr %p)\n%h = load i32, ptr %p, align 4\n"
    "%s = and i32 %h, 63\n%w = zext i32 %s to i64\n$d = or i64 $mxcsr, %w",
    lambda w, state: (state["mxcsr"], {}),
    "MXCSR with the exceptions raised until now.",
    reads=("mxcsr",),
)
row(
    "mxcsr.load",
    "i64 ->",
    "%p = alloca i32, align 4\n%n = trunc i64 $a to i32\n%m = or i32 %n, 8064\nstore i32 %m, ptr %p, align 4\n"
    "call void @llvm.x86.sse.ldmxcsr(ptr %p)\n$new.mxcsr = and i64 $a, 65535",
    lambda w, state, a: {"mxcsr": a & 0xFFFF},
    "Load MXCSR, for the guest and the host.",
    writes=("mxcsr",),
)

# FXSAVE ------------------------------------------------------------------------------------------------

FX_BYTES = 512
_FX_REGISTERS, _FX_XMM = 32, 160
_MXCSR = SLOTS["mxcsr"]


def _fx_save(w: int, state: State, memory: Memory, address: int) -> None:
    top = state.get(_FTOP, 0)
    fsw = state.get(_FSW, 0) & 0xC7FF | top << 11
    memory.store(address, 8, state.get(_FCW, 0) | fsw << 16 | state.get(_FTAG, 0) << 32)
    memory.store(address + 8, 8, 0)
    memory.store(address + 16, 8, 0)
    memory.store(address + 24, 8, state.get(_MXCSR, 0) | 0xFFFF << 32)
    for i in range(8):
        memory.store(address + _FX_REGISTERS + 16 * i, 16, state.get(_FIRST + (top + i & 7), 0) & VALUE)
    for i in range(16):
        memory.store(address + _FX_XMM + 16 * i, 16, state.get(SCALAR_SLOTS + i, 0) & (1 << 128) - 1)


def _fx_load(w: int, state: State, memory: Memory, address: int) -> None:
    words = [memory.load(address + 16 * i, 16) for i in range(26)]
    state[_FCW] = control(words[0])
    state[_FSW] = summary(words[0] >> 16, state[_FCW])
    top = state[_FTOP] = words[0] >> 27 & 7
    state[_FTAG] = words[0] >> 32 & 255
    state[_MXCSR] = words[1] >> 64 & 0xFFFF
    for i in range(8):
        state[_FIRST + (top + i & 7)] = words[2 + i] & VALUE
    for i in range(16):
        slot = SCALAR_SLOTS + i
        state[slot] = state.get(slot, 0) >> 128 << 128 | words[10 + i]


def _at(name: str, base: str, offset: int) -> str:
    return f"%{name} = getelementptr i8, ptr {base}, i64 {offset}\n"


def _fx_template(save: bool) -> str:
    text = "%area = select i1 true, $p, $p\n" + _field("ftop")
    lines = []
    if save:
        text += _field("fcw") + _field("fsw") + _field("ftag") + _field("mxcsr")
        text += "%t1 = shl i64 %ftop, 11\n%w1 = and i64 %fsw, 51199\n%w2 = or i64 %w1, %t1\n%w3 = shl i64 %w2, 16\n"
        text += "%g1 = shl i64 %ftag, 32\n%h1 = or i64 %fcw, %w3\n%h = or i64 %h1, %g1\n"
        text += "%hp = alloca i32, align 4\ncall void @llvm.x86.sse.stmxcsr(ptr %hp)\n%hm = load i32, ptr %hp, align 4\n"
        text += "%hs = and i32 %hm, 63\n%hw = zext i32 %hs to i64\n%mx = or i64 %mxcsr, %hw\n%m = or i64 %mx, 281470681743360\n"
        for offset, value in ((0, "%h"), (8, "0"), (16, "0"), (24, "%m")):
            text += _at(f"q{offset}", "%area", offset) + f"store i64 {value}, ptr %q{offset}, align 1\n"
    else:
        # a fault must come before anything changes: the image crosses one page boundary at most
        text += _at("last", "%area", FX_BYTES - 1) + "%probe = load volatile i8, ptr %last, align 1\n"
        text += _at("q24", "%area", 24) + "%h = load volatile i64, ptr %area, align 1\n%mx = load i32, ptr %q24, align 1\n"
        text += _field("fcw") + _field("fsw") + _field("ftag") + _field("mxcsr")
        text += "%c = and i64 %h, 65535\n%s = lshr i64 %h, 16\n" + _CONTROL
        text += "store i64 %cw, ptr %fcw.p, align 8\nstore i64 %fw, ptr %fsw.p, align 8\n%t1 = lshr i64 %h, 27\n%top = and i64 %t1, 7\n"
        text += "store i64 %top, ptr %ftop.p, align 8\n%g1 = lshr i64 %h, 32\n%g = and i64 %g1, 255\n"
        text += "store i64 %g, ptr %ftag.p, align 8\n%m1 = and i32 %mx, 65535\n%m2 = zext i32 %m1 to i64\n"
        text += "store i64 %m2, ptr %mxcsr.p, align 8\n%mm = or i32 %m1, 8064\n%hp = alloca i32, align 4\n"
        text += "store i32 %mm, ptr %hp, align 4\ncall void @llvm.x86.sse.ldmxcsr(ptr %hp)\n"
    top = "%ftop" if save else "%top"
    for i in range(8):
        text += f"%n{i}a = add i64 {top}, {i}\n%n{i} = and i64 %n{i}a, 7\n" + _register(f"r{i}", f"%n{i}")
        text += _at(f"s{i}", "%area", _FX_REGISTERS + 16 * i)
        lines.append((f"%r{i}", f"%s{i}", VALUE))
    for i in range(16):
        text += _at(f"x{i}", "$state", VECTOR_OFFSET + i * VECTOR_BYTES) + _at(f"y{i}", "%area", _FX_XMM + 16 * i)
        lines.append((f"%x{i}", f"%y{i}", 0))
    for index, (register, place, mask) in enumerate(lines):
        source, target = (register, place) if save else (place, register)
        text += f"%k{index} = load i128, ptr {source}, align 1\n"
        value = f"%k{index}"
        if mask:
            value = f"%j{index}"
            text += f"{value} = and i128 %k{index}, {mask}\n"
        text += f"store i128 {value}, ptr {target}, align 1\n"
    return text


row(
    "fx.save",
    "i64 ->",
    lambda: _fx_template(save=True),
    _fx_save,
    "Store the FXSAVE64 image (Intel SDM volume 1, 10.5.1); last opcode and pointers are zero.",
    effect=STORE,
    imm=True,
    address=1,
    indirect=True,
    bits=FX_BYTES * 8,
)
row(
    "fx.load",
    "i64 ->",
    lambda: _fx_template(save=False),
    _fx_load,
    "Load the FXSAVE64 image; reserved bits of MXCSR must have been refused before.",
    effect=LOAD,
    imm=True,
    address=1,
    indirect=True,
    bits=FX_BYTES * 8,
)
