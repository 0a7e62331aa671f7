"""Which guest slots live in host registers while T1 code runs, and what else is in a register.

The order is that of LLVM's `preserve_none` convention: r12 r13 r14 r15 rdi rsi rdx rcx r8 r9; rax, rbx, r10
and r11 are free for what a stencil computes, and fewer make it spill. The window's host address is in GS.
"""

from nexus.backend.interp.layout import LOOKUP_BYTES
from nexus.ir.state import FIRST_TEMP

PIECE = 64 << 20  # bytes of host code at most; its data begins that far behind, each block's at its place
FRONT = 16  # bytes in front of kept code: jumps to what a piece begins with, at the same places as there
TABLE_AT = LOOKUP_BYTES  # the table of host code lies behind that of records

# LLVM parameter -> host register; `top` is the guest's highest address plus one
PARAMETERS = ("state", "p0", "p1", "p2", "p3", "p4", "top", "p5", "p6", "p7")
PIN_PARAMETERS = tuple(name for name in PARAMETERS if name[0] == "p")
PIN_REGISTERS = ("R13", "R14", "R15", "RDI", "RSI", "RCX", "R8", "R9")  # of p0..p7, as iced names them

# the scalar slot in each: rax rcx rdx rsp rbp rsi rdi, and the first temporary
PINNED = (0, 1, 2, 4, 5, 6, 7, FIRST_TEMP)
PIN_OF = {slot: index for index, slot in enumerate(PINNED)}

# where the registers are in the host's ucontext_t, as indices of its general registers:
# r8 r9 r10 r11 r12 r13 r14 r15 rdi rsi rbp rbx rdx rax rcx
_CONTEXT = {"R8": 0, "R9": 1, "R13": 5, "R14": 6, "R15": 7, "RDI": 8, "RSI": 9, "RCX": 14}
PIN_CONTEXT = tuple(_CONTEXT[name] for name in PIN_REGISTERS)

IMMEDIATE_BIAS = 94742947  # so that LLVM cannot take an immediate, being a symbol's address, for not zero
"""Nothing compares with this number, so what LLVM concludes about that symbol is never wrong."""
