"""What is not compared when instructions run here and on the host, and why: the one table of it.

Everything else has to be the same: registers, flags, vector and x87 registers, control words, memory, and how
the instruction ended.
"""

from __future__ import annotations

from iced_x86 import Code, Instruction, MemorySizeInfo, Mnemonic, OpKind, RflagsBits

from nexus.isa.x86 import registers as r
from nexus.isa.x86.operands import GENERAL

_SYSTEM = "asks the operating system, or tells what the machine is"
_TIME = "reads a clock, or the entropy of the host"
_HOST_BASE = "changes what the host's own code needs at once"
_SELECTORS = "the host's descriptor tables are Linux's; tests/isa/test_system.py has Windows's values"
_IMAGE = "stores fields that differ by processor; tests/isa/test_images.py compares the rest"

# mnemonic -> why no single run of it is compared with the host
NOT_COMPARED: dict[str, str] = {
    **dict.fromkeys(("SYSCALL", "SYSENTER", "SYSEXIT", "SYSEXITQ", "CPUID", "XGETBV"), _SYSTEM),
    **dict.fromkeys(("UD0", "UD1", "HLT", "CLI", "STI", "IN", "OUT"), _SYSTEM),
    **dict.fromkeys(("INSB", "INSW", "INSD", "OUTSB", "OUTSW", "OUTSD"), _SYSTEM),
    **dict.fromkeys(("INT", "INT1", "INT3"), "a signal of the host's kernel, like the end of a run"),
    **dict.fromkeys(("RDTSC", "RDTSCP", "RDRAND", "RDSEED", "RDPID", "RDPRU"), _TIME),
    **dict.fromkeys(("RDFSBASE", "WRFSBASE", "WRGSBASE", "RDGSBASE"), _HOST_BASE),
    **dict.fromkeys(("LAR", "LSL", "VERR", "VERW"), _SELECTORS),
    **dict.fromkeys(("SGDT", "SIDT", "SLDT", "SMSW", "STR"), "refused here (UMIP), answered by Linux"),
    **dict.fromkeys(("RDSSPD", "RDSSPQ", "RESERVEDNOP", "ENDBR32", "CLDEMOTE", "PREFETCHWT1"),
                    "a hint with encodings that older processors take for others"),
    **dict.fromkeys(("FXSAVE", "FXSAVE64", "FNSTENV", "FNSAVE"), _IMAGE),
    **dict.fromkeys(("XSAVE", "XSAVE64", "XSAVEC", "XSAVEC64", "XSAVEOPT", "XSAVEOPT64"), _IMAGE),
    **dict.fromkeys(("XRSTOR", "XRSTOR64"), "random headers are no headers; see tests/isa/test_images.py"),
    "MASKMOVQ": "some processors switch to MMX even if it faults",
}  # fmt: skip

# encodings that processors take differently: AMD's ignore REX.W here, and offsets have 32 bits
VENDORS_DIFFER = frozenset((
    Code.JMP_M1664, Code.CALL_M1664, Code.LSS_R64_M1664, Code.LFS_R64_M1664, Code.LGS_R64_M1664,
))  # fmt: skip

# the access that fails first, and what was stored by then, is the processor's choice
MANY_ACCESSES = frozenset((
    Mnemonic.ENTER, Mnemonic.FLDENV, Mnemonic.FRSTOR, Mnemonic.FXRSTOR, Mnemonic.FXRSTOR64,
))  # fmt: skip
# whether a frame with a bad selector is refused for that, or for a stack that cannot be read behind it
FAR_RETURNS = frozenset((Mnemonic.RETF, Mnemonic.IRET, Mnemonic.IRETD, Mnemonic.IRETQ))

# a near branch to an address that is none is done here and faults there; hardware refuses to make it
NEAR_INDIRECT = frozenset((Mnemonic.CALL, Mnemonic.JMP, Mnemonic.RET))

# flags that the manual leaves undefined ----------------------------------------------------------------

_BITS = {
    RflagsBits.OF: r.FLAG_OF,
    RflagsBits.SF: r.FLAG_SF,
    RflagsBits.ZF: r.FLAG_ZF,
    RflagsBits.AF: r.FLAG_AF,
    RflagsBits.CF: r.FLAG_CF,
    RflagsBits.PF: r.FLAG_PF,
}
_SHIFTS = frozenset((Mnemonic.SHL, Mnemonic.SAL, Mnemonic.SHR, Mnemonic.SAR))
_ROTATES = frozenset((Mnemonic.ROL, Mnemonic.ROR, Mnemonic.RCL, Mnemonic.RCR))
_DOUBLES = frozenset((Mnemonic.SHLD, Mnemonic.SHRD))
COUNTED = _SHIFTS | _ROTATES | _DOUBLES
"""Mnemonics whose undefined flags depend on the count."""


def undefined_flags(raw: Instruction, state: r.CpuState) -> int:
    """The EFLAGS bits that mean nothing after an instruction that began in `state`."""
    if raw.mnemonic in COUNTED:
        return _undefined_by_count(raw, state.rcx)
    mask = 0
    for bit, flag in _BITS.items():
        if raw.rflags_undefined & bit:
            mask |= flag
    return mask


def _undefined_by_count(raw: Instruction, rcx: int) -> int:
    last = raw.op_count - 1
    count = rcx if raw.op_kind(last) == OpKind.REGISTER else raw.immediate(last)
    bits = (
        MemorySizeInfo(raw.memory_size).size * 8
        if raw.op0_kind == OpKind.MEMORY
        else GENERAL[raw.op0_register][1].bits
    )
    count &= 63 if bits == 64 else 31
    if count == 0:
        return 0
    mask = r.FLAG_OF if count > 1 else 0
    if raw.mnemonic in _ROTATES:
        return mask
    mask |= r.FLAG_AF
    beyond = count >= bits if raw.mnemonic in _SHIFTS else count > bits
    if beyond and raw.mnemonic in _DOUBLES:
        return r.SPLIT_FLAGS & ~r.FLAG_DF
    if beyond and raw.mnemonic != Mnemonic.SAR:
        mask |= r.FLAG_CF
    return mask
