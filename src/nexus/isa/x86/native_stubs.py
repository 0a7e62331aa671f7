"""The machine code that `native.py` runs around a guest instruction, and the memory that they share.

`entry` saves the host's registers and raises a breakpoint; from then on everything happens in the signal
handler: it copies what the last case left out of the signal's context, writes down which quadwords of the
cases' memory are no longer what they were and puts them back, and loads the next case into the same context,
so that the return from the signal starts it. After the last case it returns to `entry`'s caller instead.
"""

from __future__ import annotations

from iced_x86 import BlockEncoder, Code, Instruction, MemoryOperand, Register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Numbered  # a number of one of iced's enums, which its stubs call classes

CONTROL = 0x70000000  # stubs, then variables; far from where programs and the C library lie
CONTROL_SIZE = 0x2000
_VARIABLES = CONTROL + 0x1000
NEXT_IN, END_IN, NEXT_OUT, LOG_AT, ACTIVE, HOST_RSP, HOST_FS, HOST_GS = (_VARIABLES + 8 * n for n in range(8))
HOST_FX = _VARIABLES + 0x200
MOST = 256  # cases in one go
RECORD = 1024
INPUTS = CONTROL + 0x10000
OUTPUTS = INPUTS + MOST * RECORD
PRISTINE = OUTPUTS + MOST * RECORD
LOG = CONTROL + 0x200000
LOG_SIZE = 16 << 20  # touched where it is used only

# Input record: 18 registers in the order of the context (below), GS base, number of patches and up to six of
# them (address, quadword), the FXSAVE image, the upper halves of the YMM registers.
IN_GS, IN_COUNT, IN_PATCHES = 144, 152, 160
MOST_PATCHES = 6
# Output record: signal number, address, 23 words of the context, end of the log, selectors; then as above.
OUT_ADDRESS, OUT_REGISTERS, OUT_LOG, OUT_SELECTORS = 8, 16, 200, 208
FX, UPPER = 256, 768
FX_BYTES, UPPER_BYTES = 512, 256

# ucontext_t: the order of its registers, and offsets (asm/sigcontext_64.h)
ORDER = (8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4)
_REGISTERS, _RSP, _RIP, _FLAGS, _FPU = 40, 160, 168, 176, 224
RIP_INDEX, FLAGS_INDEX, ERROR_INDEX, TRAP_INDEX = 16, 17, 19, 20
_XSTATE_BV, _YMM = 512, 576  # in the state behind the FXSAVE image
_IMAGE_QUADS = 52  # of the FXSAVE image, what the kernel has not put its own words into
_HOST_FLAGS = 0x202
_KEPT_BY_KERNEL = 0x204000  # ID, NT

_R = Register
_KEPT = (_R.RBX, _R.RBP, _R.R12, _R.R13, _R.R14, _R.R15)


class _Text:
    """Instructions in a row, with labels; the numbers of iced's operands are given as plain ints."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self._next = 1
        self._pending = 0

    def label(self) -> int:
        """A label for a place that is still to come."""
        self._next += 1
        return self._next << 32

    def here(self, label: int) -> None:
        self._pending = label

    def add(self, instruction: Instruction) -> None:
        if self._pending:
            instruction.ip, self._pending = self._pending, 0
        self.instructions.append(instruction)

    def load(self, register: Numbered, where: MemoryOperand) -> None:
        self.add(Instruction.create_reg_mem(Code.MOV_R64_RM64, register, where))

    def store(self, where: MemoryOperand, register: Numbered) -> None:
        self.add(Instruction.create_mem_reg(Code.MOV_RM64_R64, where, register))

    def move(self, to: Numbered, source: Numbered) -> None:
        self.add(Instruction.create_reg_reg(Code.MOV_R64_RM64, to, source))

    def number(self, register: Numbered, value: int) -> None:
        self.add(Instruction.create_reg_i32(Code.MOV_RM64_IMM32, register, value))

    def address(self, register: Numbered, where: MemoryOperand) -> None:
        self.add(Instruction.create_reg_mem(Code.LEA_R64_M, register, where))

    def plus(self, register: Numbered, value: int) -> None:
        self.add(Instruction.create_reg_i32(Code.ADD_RM64_IMM32, register, value))

    def copy(self, quads: int) -> None:
        """RDI := RSI, so many quadwords."""
        self.number(_R.RCX, quads)
        self.add(Instruction.create_rep_movsq(64))

    def jump(self, code: Numbered, label: int) -> None:
        self.add(Instruction.create_branch(code, label))

    def encode(self, at: int) -> bytes:
        encoder = BlockEncoder(64)
        encoder.add_many(self.instructions)
        return bytes(encoder.encode(at))


def _absolute(address: int) -> MemoryOperand:
    return MemoryOperand(displ=address, displ_size=8)


def _field(base: Numbered, offset: int) -> MemoryOperand:
    return MemoryOperand(base=base, displ=offset, displ_size=8)


def entry(at: int, has_bases: bool) -> bytes:
    """Save what the host's code wants back, then leave it to the handler."""
    text = _Text()
    for register in _KEPT:
        text.add(Instruction.create_reg(Code.PUSH_R64, register))
    text.add(Instruction.create_mem(Code.FXSAVE64_M512BYTE, _absolute(HOST_FX)))
    text.store(_absolute(HOST_RSP), _R.RSP)
    for code, place in ((Code.RDFSBASE_R64, HOST_FS), (Code.RDGSBASE_R64, HOST_GS)) if has_bases else ():
        text.add(Instruction.create_reg(code, _R.RAX))
        text.store(_absolute(place), _R.RAX)
    text.add(Instruction.create(Code.INT3))
    return text.encode(at)


def back(at: int) -> bytes:
    """Where the host's code goes on after the last case."""
    text = _Text()
    text.add(Instruction.create_mem(Code.FXRSTOR64_M512BYTE, _absolute(HOST_FX)))
    for register in reversed(_KEPT):
        text.add(Instruction.create_reg(Code.POP_R64, register))
    text.add(Instruction.create(Code.RETNQ))
    return text.encode(at)


def handler(at: int, back_at: int, memory: int, memory_size: int, has_bases: bool, has_ymm: bool) -> bytes:
    """The signal handler: RDI number, RSI information, RDX context."""
    text = _Text()
    load_next, finish, done = text.label(), text.label(), text.label()
    text.number(_R.RAX, _HOST_FLAGS)  # without the case's alignment checks
    text.add(Instruction.create_reg(Code.PUSH_R64, _R.RAX))
    text.add(Instruction.create(Code.POPFQ))
    text.move(_R.R8, _R.RDX)
    text.move(_R.R9, _R.RSI)
    text.load(_R.R10, _field(_R.R8, _FPU))
    text.load(_R.RBX, _absolute(NEXT_OUT))
    text.load(_R.RAX, _absolute(ACTIVE))
    text.add(Instruction.create_reg_reg(Code.TEST_RM64_R64, _R.RAX, _R.RAX))
    text.jump(Code.JE_REL32_64, load_next)
    _write_result(text, has_ymm)
    _compare_memory(text, memory, memory_size)
    text.plus(_R.RBX, RECORD)
    text.store(_absolute(NEXT_OUT), _R.RBX)
    text.here(load_next)
    text.number(_R.RAX, 1)
    text.store(_absolute(ACTIVE), _R.RAX)
    if has_bases:  # loading a selector changes the bases
        text.load(_R.RAX, _absolute(HOST_FS))
        text.add(Instruction.create_reg(Code.WRFSBASE_R64, _R.RAX))
        text.load(_R.RAX, _absolute(HOST_GS))
        text.add(Instruction.create_reg(Code.WRGSBASE_R64, _R.RAX))
    text.load(_R.R11, _absolute(NEXT_IN))
    text.load(_R.RAX, _absolute(END_IN))
    text.add(Instruction.create_reg_reg(Code.CMP_R64_RM64, _R.R11, _R.RAX))
    text.jump(Code.JE_REL32_64, finish)
    _load_case(text, has_bases, has_ymm)
    text.plus(_R.R11, RECORD)
    text.store(_absolute(NEXT_IN), _R.R11)
    text.jump(Code.JMP_REL32_64, done)
    text.here(finish)
    text.number(_R.RAX, back_at)
    text.store(_field(_R.R8, _RIP), _R.RAX)
    text.load(_R.RAX, _absolute(HOST_RSP))
    text.store(_field(_R.R8, _RSP), _R.RAX)
    text.number(_R.RAX, _HOST_FLAGS)
    text.store(_field(_R.R8, _FLAGS), _R.RAX)
    text.here(done)
    _set_own_flags(text)
    text.add(Instruction.create(Code.RETNQ))
    return text.encode(at)


def _set_own_flags(text: _Text) -> None:
    """The kernel leaves NT and ID as they are when a signal returns: set them as the context has them."""
    text.load(_R.RAX, _field(_R.R8, _FLAGS))
    text.add(Instruction.create_reg_i32(Code.AND_RM64_IMM32, _R.RAX, _KEPT_BY_KERNEL))
    text.add(Instruction.create_reg_i32(Code.OR_RM64_IMM32, _R.RAX, _HOST_FLAGS))
    text.add(Instruction.create_reg(Code.PUSH_R64, _R.RAX))
    text.add(Instruction.create(Code.POPFQ))


def _write_result(text: _Text, has_ymm: bool) -> None:
    """From the context (r8), its extended state (r10) and the signal's information (r9) to [rbx]."""
    text.store(_field(_R.RBX, 0), _R.RDI)
    text.load(_R.RAX, _field(_R.R9, 16))
    text.store(_field(_R.RBX, OUT_ADDRESS), _R.RAX)
    text.address(_R.RSI, _field(_R.R8, _REGISTERS))
    text.address(_R.RDI, _field(_R.RBX, OUT_REGISTERS))
    text.copy(23)
    text.move(_R.RSI, _R.R10)
    text.address(_R.RDI, _field(_R.RBX, FX))
    text.copy(FX_BYTES // 8)
    if has_ymm:
        text.address(_R.RSI, _field(_R.R10, _YMM))
        text.address(_R.RDI, _field(_R.RBX, UPPER))
        text.copy(UPPER_BYTES // 8)
    for index, segment in enumerate((_R.DS, _R.ES, _R.FS, _R.GS)):
        where = _field(_R.RBX, OUT_SELECTORS + 2 * index)
        text.add(Instruction.create_mem_reg(Code.MOV_RM16_SREG, where, segment))


def _compare_memory(text: _Text, memory: int, size: int) -> None:
    """Log (address behind it, value) of each quadword that is not as in the pristine copy, and restore it."""
    again, end = text.label(), text.label()
    text.number(_R.RSI, memory)
    text.number(_R.RDI, PRISTINE)
    text.number(_R.RCX, size // 8)
    text.load(_R.RDX, _absolute(LOG_AT))
    text.here(again)
    compare = Instruction.create_repe_cmpsq(64)
    text.add(compare)
    text.jump(Code.JE_REL32_64, end)
    text.load(_R.RAX, _field(_R.RSI, -8))
    text.store(_field(_R.RDX, 0), _R.RSI)
    text.store(_field(_R.RDX, 8), _R.RAX)
    text.plus(_R.RDX, 16)
    text.load(_R.RAX, _field(_R.RDI, -8))
    text.store(_field(_R.RSI, -8), _R.RAX)
    text.add(Instruction.create_reg_reg(Code.TEST_RM64_R64, _R.RCX, _R.RCX))
    text.jump(Code.JNE_REL32_64, again)
    text.here(end)
    text.store(_absolute(LOG_AT), _R.RDX)
    text.store(_field(_R.RBX, OUT_LOG), _R.RDX)


def _load_case(text: _Text, has_bases: bool, has_ymm: bool) -> None:
    """From the input record [r11] into the context; then its patches into memory."""
    patch, patched = text.label(), text.label()
    text.move(_R.RSI, _R.R11)
    text.address(_R.RDI, _field(_R.R8, _REGISTERS))
    text.copy(18)
    if has_bases:
        text.load(_R.RAX, _field(_R.R11, IN_GS))
        text.add(Instruction.create_reg(Code.WRGSBASE_R64, _R.RAX))
    text.address(_R.RSI, _field(_R.R11, FX))
    text.move(_R.RDI, _R.R10)
    text.copy(_IMAGE_QUADS)
    if has_ymm:
        text.address(_R.RSI, _field(_R.R11, UPPER))
        text.address(_R.RDI, _field(_R.R10, _YMM))
        text.copy(UPPER_BYTES // 8)
        text.add(Instruction.create_mem_i32(Code.OR_RM64_IMM32, _field(_R.R10, _XSTATE_BV), 7))
    text.load(_R.RCX, _field(_R.R11, IN_COUNT))
    text.address(_R.RSI, _field(_R.R11, IN_PATCHES))
    text.here(patch)
    text.add(Instruction.create_branch(Code.JRCXZ_REL8_64, patched))
    text.load(_R.RDI, _field(_R.RSI, 0))
    text.load(_R.RAX, _field(_R.RSI, 8))
    text.store(_field(_R.RDI, 0), _R.RAX)
    text.plus(_R.RSI, 16)
    text.plus(_R.RCX, -1)
    text.jump(Code.JMP_REL32_64, patch)
    text.here(patched)
