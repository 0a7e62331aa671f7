"""Flags as a whole, hints and fences, identification, system calls, interrupts, and what only ring 0 may
do."""

from __future__ import annotations

from nexus.ir.state import Exit
from nexus.ir.types import I8, I16, I64
from nexus.ir.values import Address, Value
from nexus.isa.x86 import helpers
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import GENERAL_PROTECTION, PRIVILEGED_INSTRUCTION, Ins
from nexus.isa.x86.semantics.moves import push_value
from nexus.isa.x86.table import register, semantics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Of EFLAGS, what POPF and IRET can change in ring 3 (Intel SDM volume 2, POPF, table 4-16, CPL 3 and IOPL 0).
USER_FLAGS = r.SPLIT_FLAGS | r.FLAG_TF | r.FLAG_NT | r.FLAG_AC | r.FLAG_ID

# flags ---------------------------------------------------------------------------------------------------


def _flag(name: str, slot: int, value: int) -> None:
    def put(i: Ins) -> None:
        i.set_flag(slot, value)

    register(name, put)


for _name, _slot, _value in (("CLC", r.CF, 0), ("STC", r.CF, 1), ("CLD", r.DF, 0), ("STD", r.DF, 1)):
    _flag(_name, _slot, _value)


@semantics("CMC")
def cmc(i: Ins) -> None:
    i.set_flag(r.CF, i.get_flag(r.CF) ^ 1)


@semantics("LAHF")
def lahf(i: Ins) -> None:
    low = i.block.emit("flags.word").trunc(I8)
    i.block.put(r.RAX, i.block.emit("deposit.h8", i.get(r.RAX), low))


@semantics("SAHF")
def sahf(i: Ins) -> None:
    i.block.emit("flags.from.low", i.get(r.RAX) >> 8)


@semantics("PUSHFQ", "PUSHF")
def pushf(i: Ins) -> None:
    """RF and VM read as 0."""
    word = i.block.emit("flags.word") & (r.EFLAGS_MASK & ~r.FLAG_RF)
    push_value(i, word if i.raw.stack_pointer_increment == -8 else word.trunc(I16))


def merge_flags(i: Ins, word: Value, changeable: int) -> Value:
    """The current EFLAGS with the changeable bits from `word`; RF is cleared."""
    old = i.block.emit("flags.word") & (r.EFLAGS_MASK & ~changeable & ~r.FLAG_RF)
    return old | (word & changeable)


@semantics("POPFQ", "POPF")
def popf(i: Ins) -> None:
    """Leaves the engine, since TF may be set now: the instruction after the next one traps then."""
    rsp = i.get(r.RSP)
    if i.raw.stack_pointer_increment == 8:
        word, changeable = i.block.load(I64, Address(rsp)), USER_FLAGS
    else:
        word, changeable = i.block.load(I16, Address(rsp)).zext(I64), USER_FLAGS & 0xFFFF
    merged = merge_flags(i, word, changeable)
    i.block.put(r.RSP, rsp + i.raw.stack_pointer_increment)
    i.block.emit("flags.from.word", merged)
    i.helper(helpers.FLAGS_LOADED)


# nothing to do, or nothing but order -----------------------------------------------------------------------


@semantics(
    "NOP", "PAUSE", "ENDBR64", "ENDBR32", "RDSSPD", "RDSSPQ", "RESERVEDNOP", "CLDEMOTE",
    "PREFETCHNTA", "PREFETCHT0", "PREFETCHT1", "PREFETCHT2", "PREFETCH", "PREFETCHW", "PREFETCHWT1",
    "PREFETCHIT0", "PREFETCHIT1",
    "BNDMK", "BNDCL", "BNDCU", "BNDCN", "BNDMOV", "BNDLDX", "BNDSTX",
)  # fmt: skip
def nop(i: Ins) -> None:
    """Hints. RDSSP leaves its register alone while shadow stacks are off, and MPX, which is withdrawn, takes
    the place of hints."""


@semantics("MFENCE", "LFENCE", "SFENCE", "SERIALIZE")
def fence(i: Ins) -> None:
    i.block.emit("fence")


@semantics("CLFLUSH", "CLFLUSHOPT", "CLWB")
def clflush(i: Ins) -> None:
    """No effect on a coherent machine but the fault of a byte read."""
    i.read(0, I8)


# identification, time, bases ---------------------------------------------------------------------------


@semantics("CPUID")
def cpuid(i: Ins) -> None:
    i.helper(helpers.CPUID)


@semantics("XGETBV")
def xgetbv(i: Ins) -> None:
    i.checked_helper(helpers.XGETBV)


@semantics("RDTSC")
def rdtsc(i: Ins) -> None:
    i.helper(helpers.RDTSC)


@semantics("RDTSCP")
def rdtscp(i: Ins) -> None:
    i.helper(helpers.RDTSCP)


@semantics("SGDT", "SIDT", "SLDT", "SMSW", "STR")
def descriptor_tables(i: Ins) -> None:
    """CPUID reports UMIP, and Windows turns it on: user code does not get to see where the kernel's tables
    are."""
    i.trap(Exit.PRIVILEGED, GENERAL_PROTECTION)


def _segment_base(slot: int) -> tuple[Callable[[Ins], None], Callable[[Ins], None]]:
    def read(i: Ins) -> None:
        i.write(0, i.get(slot, i.type(0)))

    def write(i: Ins) -> None:
        value = i.read(0).zext(I64)
        if i.type(0) is I64:
            i.block.trap_if(value.ne((value << 16).sar(16)), Exit.PRIVILEGED, GENERAL_PROTECTION)
        i.block.put(slot, value)

    return read, write


for _name, _slot in (("FS", r.FS_BASE), ("GS", r.GS_BASE)):
    _read, _write = _segment_base(_slot)
    register(f"RD{_name}BASE", _read)
    register(f"WR{_name}BASE", _write)


# leaving -----------------------------------------------------------------------------------------------


@semantics("SYSCALL")
def syscall(i: Ins) -> None:
    i.block.put(r.R11, i.block.emit("flags.word"))
    i.block.put(r.RCX, i.const(I64, i.next))
    i.exit(Exit.SYSCALL)


@semantics("INT3")
def int3(i: Ins) -> None:
    i.exit(Exit.INTERRUPT, 3)


@semantics("INT")
def interrupt(i: Ins) -> None:
    i.exit(Exit.INTERRUPT, i.immediate(0))


@semantics("INT1")
def int1(i: Ins) -> None:
    i.exit(Exit.TRAP)


@semantics("UD0", "UD1", "UD2", "SYSENTER", "SYSEXIT", "SYSEXITQ")
def illegal(i: Ins) -> None:
    """SYSENTER too, which AMD does not have in 64-bit mode."""
    i.trap(Exit.ILLEGAL)


@semantics("RDPMC", "HLT", "CLI", "STI", "IN", "OUT", "INSB", "INSW", "INSD", "OUTSB", "OUTSW", "OUTSD")
def privileged(i: Ins) -> None:
    """Ring 0, or an I/O privilege that user code does not have."""
    i.trap(Exit.PRIVILEGED, PRIVILEGED_INSTRUCTION)
