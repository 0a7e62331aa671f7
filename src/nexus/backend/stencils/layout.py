"""Which guest registers live in host registers while T1 code runs, and what else is in a register.

    rbx rbp rsi rdi r8 r9 r10 r11 r13 rdx   guest's rax rcx rdx rbx rsp rbp rsi rdi r8 r9
    r14                                     the first temporary
    ymm5..15, ymm3, ymm4                    guest's ymm0..10 and the first two vector temporaries
    r12, r15                                the state, the budget
    rax rcx, ymm0..2                        free for what a stencil computes

rax, rcx and xmm0 are those that instructions most often have by definition. The window's host address is in
GS.
Stencils are compiled with their operands in the registers of OPERAND_REGISTERS, where LLVM's `preserve_none`
convention has its first parameters.

Pending flags. A row that sets all flags, and whose flags are probably overwritten before anybody looks, only
leaves its operands in the slots `pending_a` and `pending_b` and its number (the position in DEFERRED, from
1) in the low half of `pending`. One that sets some leaves `pending_c` and its number in the high half, where
only another that sets the same ones may be. Who needs the flags computes them first: the low half, then the
high one, with the interpreter's handlers. Operands that are vectors are left in `PENDING_VECTORS`.
"""

from nexus.backend.interp.layout import LOOKUP_BYTES
from nexus.ir.state import FIRST_TEMP, FIRST_VECTOR_TEMP

PIECE = 64 << 20  # bytes of host code at most; its data begins that far behind, each block's at its place
FRONT = 32  # bytes in front of kept code: jumps to what a piece begins with, at the same places as there
TABLE_AT = LOOKUP_BYTES  # the table of host code lies behind that of records

OPERAND_REGISTERS = ("R13", "R14", "R15", "RDI")  # the result's, those of operands a, b, c
OPERAND_VECTORS = ("XMM0", "XMM1", "XMM2", "XMM3")
PLACED_VECTORS = ("XMM12", "XMM13", "XMM14", "XMM15")  # where they are in the finished stencil
SCRATCH = ("RAX", "RCX")
VECTOR_SCRATCH = ("XMM0", "XMM1", "XMM2")

STATE, BUDGET = "R12", "R15"
PIN_REGISTERS = ("RBX", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R13", "RDX", "R14")
PINNED = (*range(10), FIRST_TEMP)  # the scalar slot in each
PIN_OF = dict(zip(PINNED, PIN_REGISTERS, strict=True))
VECTOR_PIN_REGISTERS = (*(f"XMM{5 + n}" for n in range(11)), "XMM3", "XMM4")
VECTOR_PINNED = (*range(11), FIRST_VECTOR_TEMP, FIRST_VECTOR_TEMP + 1)  # the vector slot in each
VECTOR_PIN_OF = dict(zip(VECTOR_PINNED, VECTOR_PIN_REGISTERS, strict=True))
SLOT_OF = {register: slot for slot, register in PIN_OF.items()}
VECTOR_SLOT_OF = {register: slot for slot, register in VECTOR_PIN_OF.items()}
# what a stencil may have in addition, that needs more registers than are free
BORROWED = ("RDX", "R14", "R13", "R11", "R10", "R9", "R8")
VECTORS_BORROWED = ("XMM3", "XMM4", "XMM5", "XMM6")

WIDTHS = ("i8", "i16", "i32", "i64")
_FULL = ("add", "sub", "logic", "shl", "shr", "sar", "mul", "imul")
COMPARING = tuple(f"flags.{name}.{kind}" for name in ("comi", "ucomi") for kind in ("f32", "f64"))
FULL = (*(f"flags.{name}.{width}" for name in _FULL for width in WIDTHS), *COMPARING)
COUNTING = tuple(f"flags.{name}.{width}" for name in ("inc", "dec") for width in WIDTHS)
ROTATING = tuple(f"flags.{name}.{width}" for name in ("rol", "ror") for width in WIDTHS)
DEFERRED = (*FULL, *COUNTING, *ROTATING)

# Entries of the code that a piece of T1's memory begins with, each a jump of 5 bytes (`source.base_code`).
ENTRIES = FAULT, LEAVE, ENTER, SETTLE, SETTLE_NEXT, OUTSIDE = range(0, 30, 5)

IMMEDIATE_BIAS = 94742947  # so that LLVM cannot take an immediate, being a symbol's address, for not zero
"""Nothing compares with this number, so what LLVM concludes about that symbol is never wrong."""
