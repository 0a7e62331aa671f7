"""The state of one guest thread, as every engine lays it out in memory.

256 scalar slots of 8 bytes, then 64 vector slots of 64 bytes. A record or stencil names a slot with one
byte. Rows of the op table name the fields below; an instruction set gives some of them its own names
(`isa/x86/registers.py`: rax is r0).

Flags are five split values, shared by every instruction set:
    cf, of   0 or 1
    nz       the result, sign-extended to 64 bits: ZF is nz == 0, SF is nz < 0
    pf       the result's low byte (PF is its even parity); bit 8 set forces SF, for the one state that
             nz cannot hold (ZF and SF both set, reachable by popf and a restored context)
    af       0 or 1
"""

SCALAR_SLOTS = 256
VECTOR_SLOTS = 64
VECTOR_BYTES = 64
VECTOR_OFFSET = SCALAR_SLOTS * 8
STATE_BYTES = VECTOR_OFFSET + VECTOR_SLOTS * VECTOR_BYTES

FIRST_TEMP, LAST_TEMP = 112, 255
FIRST_VECTOR_TEMP, LAST_VECTOR_TEMP = 40, 61
PENDING_VECTORS = 62, 63  # what `pending_a` and `pending_b` are for flags of vectors
FIRST_X87 = 32  # vector slots 32..39 hold the eight x87 registers, physical order, 80 bits each

FLAGS = ("cf", "of", "nz", "pf", "af")

_NAMED = (
    "pc",  # guest address of the next instruction; exact at every exit
    *FLAGS,
    "df",  # direction flag, 0 or 1
    "eflags",  # the other EFLAGS bits (TF, IF, AC, ID, ...), as in hardware; those of the fields above are 0
    "fs_base",
    "gs_base",
    "mxcsr",
    "fcw",
    "fsw",  # x87 status without TOP
    "ftop",
    "ftag",  # bit i set: physical register i is in use
    "cs",
    "ss",
    "ds",
    "es",
    "fs",
    "gs",
)
_MACHINE = (
    "zero",  # always 0: the base of an address that has none
    "window",  # host address of the guest's window
    "top",  # guest address just above the highest one that is mapped for it; accesses are clamped here
    "budget",  # guest instructions left in this slice (signed)
    "exit",  # why the last run ended: an Exit kind
    "exit_arg",
    "exit_at",  # engine position (T0: record) at which it ended
    "fault_address",  # host address of a memory fault, as the host's MMU reported it
    "fault_write",  # 1 if it was a write
    "host_stack",  # stack pointer to return to
    "host_mxcsr",
    "lookup",  # host address of the table guest address -> engine position
    "pending",  # T1: which flags have still to be computed, see backend/stencils/layout.py; 0 at every exit
    "pending_a",  # their operands
    "pending_b",
    "pending_c",
    "resume",  # T1: host address to go on at once they are computed
    "resume_record",  # or a record
)

SLOTS: dict[str, int] = {f"r{i}": i for i in range(32)}
SLOTS.update({name: 32 + i for i, name in enumerate(_NAMED)})
SLOTS.update({f"k{i}": 64 + i for i in range(8)})
SLOTS.update({name: 80 + i for i, name in enumerate(_MACHINE)})
SLOT_NAMES = {index: name for name, index in SLOTS.items()}
assert max(SLOTS.values()) < FIRST_TEMP and 32 + len(_NAMED) <= 64


class Exit:
    """Why an engine came back. `exit_arg` in parentheses."""

    NONE = 0
    SYSCALL = 1
    FAULT = 2  # memory; fault_address, fault_write
    DIVIDE = 3  # #DE
    ILLEGAL = 4  # #UD
    INTERRUPT = 5  # int n (n); int3 is n = 3, pc is the instruction after
    BUDGET = 6
    LOOKUP = 7  # indirect branch to an untranslated guest address (pc)
    LINK = 8  # direct branch to an untranslated guest address (pc); exit_at is the site to patch
    UNIMPLEMENTED = 9  # an instruction the front-end does not know; pc is its address
    PRIVILEGED = 10  # #GP
    TRAP = 11  # #DB: single step
    FP_ERROR = 12  # #XM or #MF (vector)
    HELPER = 13  # an instruction done by the host in Python, by number (n); pc is the instruction after
    HALT = 14  # a test block ended
    ALIGNMENT = 16  # #AC
    HOOK = 15  # about to execute an address that somebody wants to see reached
    HOT = 17  # a block has run as often as it should in the interpreter (pc); nothing of it is done
    STEP = 18  # compiled code leaves the instruction at pc to the interpreter
