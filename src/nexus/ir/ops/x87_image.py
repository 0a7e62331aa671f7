"""What reaches the x87 unit as a whole: the control word, environments, the FXSAVE image, MMX's view,
MXCSR."""

from __future__ import annotations

from nexus.ir.ops.table import LOAD, STORE, row
from nexus.ir.ops.x87_state import (
    EXCEPTIONS,
    FCW,
    FIRST,
    FSW,
    FTAG,
    FTOP,
    SUMMARY,
    VALUE,
    field,
    in_use,
    register,
)
from nexus.ir.state import SCALAR_SLOTS, SLOTS, VECTOR_BYTES, VECTOR_OFFSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.oracle import Memory

    State = dict[int, int]

CONTROL_BITS = 0x1F3F  # of the control word
CONTROL_ONE = 0x40  # its reserved bit that reads as 1
STATUS_BITS = 0x477F  # of the status word, without TOP and the summary


def _put(w: int, state: State, value: int, imm: int) -> None:
    slot = FIRST + (state.get(FTOP, 0) + imm & 7)
    state[slot] = state.get(slot, 0) >> 128 << 128 | value & VALUE


row(
    "x87.put",
    "v128 ->",
    field("ftop")
    + "%n1 = add i64 %ftop, $imm\n%n = and i64 %n1, 7\n"
    + register("r", "%n")
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
    text = field("ftag") + "%w0 = add i64 0, 0\n"
    for i in range(8):
        text += register(f"r{i}", str(i)) + f"%m{i} = load i64, ptr %r{i}, align 16\n"
        text += f"%q{i} = getelementptr i8, ptr %r{i}, i64 8\n%e1{i} = load i16, ptr %q{i}, align 8\n"
        text += (
            f"%e{i} = and i16 %e1{i}, 32767\n%ez{i} = icmp eq i16 %e{i}, 0\n%mz{i} = icmp eq i64 %m{i}, 0\n"
        )
        text += (
            f"%z{i} = and i1 %ez{i}, %mz{i}\n%et{i} = icmp eq i16 %e{i}, 32767\n"
            f"%un{i} = icmp sge i64 %m{i}, 0\n"
        )
        text += (
            f"%s1{i} = or i1 %ez{i}, %et{i}\n%s{i} = or i1 %s1{i}, %un{i}\n"
            f"%a{i} = select i1 %s{i}, i64 2, i64 0\n"
        )
        text += f"%b{i} = select i1 %z{i}, i64 1, i64 %a{i}\n" + in_use(f"u{i}", str(i))
        text += f"%c{i} = select i1 %u{i}, i64 %b{i}, i64 3\n%d{i} = shl i64 %c{i}, {2 * i}\n"
        text += f"%w{i + 1} = or i64 %w{i}, %d{i}\n"
    return text + "$d = add i64 %w8, 0"


row(
    "x87.tags",
    "-> i64",
    _tags_template,
    lambda w, state: full_tags([state.get(FIRST + i, 0) for i in range(8)], state.get(FTAG, 0)),
    "The two-bit tags of all registers, as FNSTENV stores them.",
    indirect=True,
)


def summary(fsw: int, fcw: int) -> int:
    """The status word with the summary bits that follow from it and the control word."""
    return fsw & STATUS_BITS | (SUMMARY if fsw & ~fcw & EXCEPTIONS else 0)


def control(word: int) -> int:
    """A control word as the processor takes it."""
    return word & CONTROL_BITS | CONTROL_ONE


# From %c and %s, loaded words: %cw and %fw, what becomes of them; and the host takes %cw with all exceptions
# masked.
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
    "%n = and i64 $imm, 7\n"
    + register("r", "%n")
    + "%v = load i64, ptr %r, align 16\n$d = zext i64 %v to i128",
    lambda w, state, imm: state.get(FIRST + (imm & 7), 0) & (1 << 64) - 1,
    "MMX register imm, zero above its 64 bits.",
    imm=True,
    indirect=True,
)


def _enter(w: int, state: State) -> None:
    state[FTOP], state[FTAG] = 0, 255


def _mmx_put(w: int, state: State, value: int, imm: int) -> None:
    slot = FIRST + (imm & 7)
    state[slot] = state.get(slot, 0) >> 128 << 128 | value & (1 << 64) - 1 | 0xFFFF << 64
    _enter(w, state)


_ENTER = (
    field("ftop") + field("ftag") + "store i64 0, ptr %ftop.p, align 8\nstore i64 255, ptr %ftag.p, align 8\n"
)
row(
    "mmx.put",
    "v128 ->",
    "%n = and i64 $imm, 7\n"
    + register("r", "%n")
    + f"%low1 = and i128 $a, {(1 << 64) - 1}\n%v = or i128 %low1, {0xFFFF << 64}\n"
    "store i128 %v, ptr %r, align 16\n" + _ENTER,
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
    "%p = alloca i32, align 4\n%n = trunc i64 $a to i32\n%m = or i32 %n, 8064\n"
    "store i32 %m, ptr %p, align 4\n"
    "call void @llvm.x86.sse.ldmxcsr(ptr %p)\n$new.mxcsr = and i64 $a, 65535",
    lambda w, state, a: {"mxcsr": a & 0xFFFF},
    "Load MXCSR, for the guest and the host.",
    writes=("mxcsr",),
)

row(
    "mxcsr.round",
    "->",
    "%p = alloca i32, align 4\ncall void @llvm.x86.sse.stmxcsr(ptr %p)\n%h = load i32, ptr %p, align 4\n"
    "%c = and i64 $imm, 3\n%r = shl i64 %c, 13\n%r32 = trunc i64 %r to i32\n"
    "%k = and i32 %h, -24577\n%m = or i32 %k, %r32\n"
    "store i32 %m, ptr %p, align 4\ncall void @llvm.x86.sse.ldmxcsr(ptr %p)\n"
    "%old = and i64 $mxcsr, -24577\n$new.mxcsr = or i64 %old, %r",
    None,
    "Round as imm says from here on; other rows have no such mode in the oracle.",
    imm=True,
    reads=("mxcsr",),
    writes=("mxcsr",),
)

# FXSAVE ------------------------------------------------------------------------------------------------

FX_BYTES = 512
_FX_REGISTERS, _FX_XMM = 32, 160
_MXCSR = SLOTS["mxcsr"]


def _fx_save(w: int, state: State, memory: Memory, address: int) -> None:
    top = state.get(FTOP, 0)
    fsw = state.get(FSW, 0) & 0xC7FF | top << 11
    memory.store(address, 8, state.get(FCW, 0) | fsw << 16 | state.get(FTAG, 0) << 32)
    memory.store(address + 8, 8, 0)
    memory.store(address + 16, 8, 0)
    memory.store(address + 24, 8, state.get(_MXCSR, 0) | 0xFFFF << 32)
    for i in range(8):
        memory.store(address + _FX_REGISTERS + 16 * i, 16, state.get(FIRST + (top + i & 7), 0) & VALUE)
    for i in range(16):
        memory.store(address + _FX_XMM + 16 * i, 16, state.get(SCALAR_SLOTS + i, 0) & (1 << 128) - 1)


def _fx_load(w: int, state: State, memory: Memory, address: int) -> None:
    words = [memory.load(address + 16 * i, 16) for i in range(26)]
    state[FCW] = control(words[0])
    state[FSW] = summary(words[0] >> 16, state[FCW])
    top = state[FTOP] = words[0] >> 27 & 7
    state[FTAG] = words[0] >> 32 & 255
    state[_MXCSR] = words[1] >> 64 & 0xFFFF
    for i in range(8):
        state[FIRST + (top + i & 7)] = words[2 + i] & VALUE
    for i in range(16):
        slot = SCALAR_SLOTS + i
        state[slot] = state.get(slot, 0) >> 128 << 128 | words[10 + i]


def _at(name: str, base: str, offset: int) -> str:
    return f"%{name} = getelementptr i8, ptr {base}, i64 {offset}\n"


def _fx_template(save: bool) -> str:
    text = "%area = select i1 true, $p, $p\n" + field("ftop")
    lines = []
    if save:
        text += field("fcw") + field("fsw") + field("ftag") + field("mxcsr")
        text += (
            "%t1 = shl i64 %ftop, 11\n%w1 = and i64 %fsw, 51199\n%w2 = or i64 %w1, %t1\n"
            "%w3 = shl i64 %w2, 16\n"
        )
        text += "%g1 = shl i64 %ftag, 32\n%h1 = or i64 %fcw, %w3\n%h = or i64 %h1, %g1\n"
        text += (
            "%hp = alloca i32, align 4\ncall void @llvm.x86.sse.stmxcsr(ptr %hp)\n"
            "%hm = load i32, ptr %hp, align 4\n"
        )
        text += (
            "%hs = and i32 %hm, 63\n%hw = zext i32 %hs to i64\n%mx = or i64 %mxcsr, %hw\n"
            "%m = or i64 %mx, 281470681743360\n"
        )
        for offset, value in ((0, "%h"), (8, "0"), (16, "0"), (24, "%m")):
            text += _at(f"q{offset}", "%area", offset) + f"store i64 {value}, ptr %q{offset}, align 1\n"
    else:
        # a fault must come before anything changes: the image crosses one page boundary at most
        text += _at("last", "%area", FX_BYTES - 1) + "%probe = load volatile i8, ptr %last, align 1\n"
        text += (
            _at("q24", "%area", 24)
            + "%h = load volatile i64, ptr %area, align 1\n%mx = load i32, ptr %q24, align 1\n"
        )
        text += field("fcw") + field("fsw") + field("ftag") + field("mxcsr")
        text += "%c = and i64 %h, 65535\n%s = lshr i64 %h, 16\n" + _CONTROL
        text += (
            "store i64 %cw, ptr %fcw.p, align 8\nstore i64 %fw, ptr %fsw.p, align 8\n"
            "%t1 = lshr i64 %h, 27\n%top = and i64 %t1, 7\n"
        )
        text += "store i64 %top, ptr %ftop.p, align 8\n%g1 = lshr i64 %h, 32\n%g = and i64 %g1, 255\n"
        text += "store i64 %g, ptr %ftag.p, align 8\n%m1 = and i32 %mx, 65535\n%m2 = zext i32 %m1 to i64\n"
        text += "store i64 %m2, ptr %mxcsr.p, align 8\n%mm = or i32 %m1, 8064\n%hp = alloca i32, align 4\n"
        text += "store i32 %mm, ptr %hp, align 4\ncall void @llvm.x86.sse.ldmxcsr(ptr %hp)\n"
    top = "%ftop" if save else "%top"
    for i in range(8):
        text += f"%n{i}a = add i64 {top}, {i}\n%n{i} = and i64 %n{i}a, 7\n" + register(f"r{i}", f"%n{i}")
        text += _at(f"s{i}", "%area", _FX_REGISTERS + 16 * i)
        lines.append((f"%r{i}", f"%s{i}", VALUE))
    for i in range(16):
        text += _at(f"x{i}", "$state", VECTOR_OFFSET + i * VECTOR_BYTES) + _at(
            f"y{i}", "%area", _FX_XMM + 16 * i
        )
        lines.append((f"%x{i}", f"%y{i}", 0))
    for index, (slot, place, mask) in enumerate(lines):
        source, target = (slot, place) if save else (place, slot)
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
