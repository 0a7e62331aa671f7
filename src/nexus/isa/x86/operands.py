"""Tables from iced's register and size numbers to ours."""

from __future__ import annotations

from iced_x86 import MemorySize, MemorySizeInfo, OpKind, Register

from nexus.ir.types import I8, I16, I32, I64, INTEGER_OF_BITS, V128, V256, V512, VECTORS, Type
from nexus.isa.x86 import registers as r

# iced general register -> (slot, width, bit at which it starts: 8 for AH..BH)
GENERAL: dict[int, tuple[int, Type, int]] = {}
for _number in range(16):
    GENERAL[Register.RAX + _number] = (_number, I64, 0)
    GENERAL[Register.EAX + _number] = (_number, I32, 0)
    GENERAL[Register.AX + _number] = (_number, I16, 0)
for _number in range(4):
    GENERAL[Register.AL + _number] = (_number, I8, 0)
    GENERAL[Register.AH + _number] = (_number, I8, 8)
for _number in range(12):
    GENERAL[Register.SPL + _number] = (4 + _number, I8, 0)

# iced vector register -> (number, width)
VECTOR: dict[int, tuple[int, Type]] = {}
for _first, _type in ((Register.XMM0, V128), (Register.YMM0, V256), (Register.ZMM0, V512)):
    for _number in range(32):
        VECTOR[_first + _number] = (_number, _type)

MASK: dict[int, int] = {Register.K0 + n: r.K0 + n for n in range(r.MASKS)}
"""iced mask register -> slot"""

SEGMENT: dict[int, int] = {
    Register.ES: r.ES,
    Register.CS: r.CS,
    Register.SS: r.SS,
    Register.DS: r.DS,
    Register.FS: r.FS,
    Register.GS: r.GS,
}
SEGMENT_BASE = {Register.FS: r.FS_BASE, Register.GS: r.GS_BASE}

MEMORY_TYPE: dict[int, Type] = {}
"""iced memory size -> the type of one access; sizes that are no access of ours (FXSAVE areas) are absent."""
_VECTOR_OF_BITS = {t.bits: t for t in VECTORS}
for _name in dir(MemorySize):
    if _name.isupper():
        _size = getattr(MemorySize, _name)
        _bits = MemorySizeInfo(_size).size * 8
        if _bits in _VECTOR_OF_BITS or (_bits >= 8 and _bits in INTEGER_OF_BITS):
            MEMORY_TYPE[_size] = _VECTOR_OF_BITS.get(_bits) or INTEGER_OF_BITS[_bits]

IMMEDIATES = {
    OpKind.IMMEDIATE8: I8,
    OpKind.IMMEDIATE8_2ND: I8,
    OpKind.IMMEDIATE16: I16,
    OpKind.IMMEDIATE32: I32,
    OpKind.IMMEDIATE64: I64,
    OpKind.IMMEDIATE8TO16: I16,
    OpKind.IMMEDIATE8TO32: I32,
    OpKind.IMMEDIATE8TO64: I64,
    OpKind.IMMEDIATE32TO64: I64,
}

# implicit memory operands of string instructions: kind -> (base register slot, 32-bit address, segment may
# be overridden)
STRING_OPERANDS = {
    OpKind.MEMORY_SEG_RSI: (r.RSI, False, True),
    OpKind.MEMORY_SEG_ESI: (r.RSI, True, True),
    OpKind.MEMORY_SEG_RDI: (r.RDI, False, True),
    OpKind.MEMORY_SEG_EDI: (r.RDI, True, True),
    OpKind.MEMORY_ESRDI: (r.RDI, False, False),
    OpKind.MEMORY_ESEDI: (r.RDI, True, False),
}
MEMORY_KINDS = frozenset((OpKind.MEMORY, *STRING_OPERANDS))
