"""The x86-64 registers of a guest thread: slot numbers, and a Python view on the state bytes.

The general registers are scalar slots 0..15 in hardware order, the ZMM registers vector slots 0..31 with the
XMM registers as their low parts, the mask registers k0..k7 scalar slots, the x87 registers vector slots
32..39 in physical order. EFLAGS is kept in pieces
(`ir/state.py`): the six arithmetic flags in five split values, DF by itself, the rest in slot `eflags`.
"""

from __future__ import annotations

from nexus.ir.state import FIRST_X87, SLOTS, STATE_BYTES, VECTOR_BYTES, VECTOR_OFFSET

GPR_NAMES = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)

PC, CF, OF, NZ, PF, AF, DF = (SLOTS[name] for name in ("pc", "cf", "of", "nz", "pf", "af", "df"))
EFLAGS, MXCSR, FCW, FSW = (SLOTS[name] for name in ("eflags", "mxcsr", "fcw", "fsw"))
FTOP, FTAG, FS_BASE, GS_BASE = (SLOTS[name] for name in ("ftop", "ftag", "fs_base", "gs_base"))
K0 = SLOTS["k0"]  # k1..k7 follow
MASKS, VECTORS = 8, 32  # how many there are
CS, SS, DS, ES, FS, GS = (SLOTS[name] for name in ("cs", "ss", "ds", "es", "fs", "gs"))

FLAG_CF, FLAG_PF, FLAG_AF, FLAG_ZF, FLAG_SF = 1 << 0, 1 << 2, 1 << 4, 1 << 6, 1 << 7
FLAG_TF, FLAG_IF, FLAG_DF, FLAG_OF, FLAG_NT = 1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 14
FLAG_RF, FLAG_AC, FLAG_ID = 1 << 16, 1 << 18, 1 << 21
SPLIT_FLAGS = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF | FLAG_DF
EFLAGS_MASK = 0x3F7FD7
ALWAYS_SET = 1 << 1
SF_FORCED = 1 << 8  # in slot pf, see ir/state.py

DEFAULT_FCW = 0x37F  # what FNINIT leaves
DEFAULT_MXCSR = 0x1F80
MXCSR_MASK = 0xFFFF
_U64 = (1 << 64) - 1
_PADDING = bytes(6)  # behind an x87 register in memory
_XMM_AT = tuple(VECTOR_OFFSET + number * VECTOR_BYTES for number in range(16))


def _slot(name: str, bits: int = 64) -> property:
    index, mask = SLOTS.get(name, GPR_NAMES.index(name) if name in GPR_NAMES else -1), (1 << bits) - 1

    def fget(self: CpuState) -> int:
        return self.slots[index]

    def fset(self: CpuState, value: int) -> None:
        self.slots[index] = value & mask

    return property(fget, fset, doc=f"Slot {index}, {bits} bits.")


class CpuState:
    """The registers of one guest thread on `buffer`, at least STATE_BYTES of writable memory."""

    __slots__ = ("buffer", "slots")

    def __init__(self, buffer: bytearray | memoryview | None = None) -> None:
        if buffer is None:
            buffer = bytearray(STATE_BYTES)
        self.buffer = memoryview(buffer).cast("B")[:STATE_BYTES]
        if len(self.buffer) != STATE_BYTES:
            raise ValueError(f"a CPU state takes {STATE_BYTES} bytes, got {len(self.buffer)}")
        self.slots = self.buffer[:VECTOR_OFFSET].cast("Q")

    rax, rcx, rdx, rbx = _slot("rax"), _slot("rcx"), _slot("rdx"), _slot("rbx")
    rsp, rbp, rsi, rdi = _slot("rsp"), _slot("rbp"), _slot("rsi"), _slot("rdi")
    r8, r9, r10, r11 = _slot("r8"), _slot("r9"), _slot("r10"), _slot("r11")
    r12, r13, r14, r15 = _slot("r12"), _slot("r13"), _slot("r14"), _slot("r15")
    rip = _slot("pc")
    fs_base, gs_base = _slot("fs_base"), _slot("gs_base")
    mxcsr, fcw = _slot("mxcsr", 32), _slot("fcw", 16)
    cs, ss, ds = _slot("cs", 16), _slot("ss", 16), _slot("ds", 16)
    es, fs, gs = _slot("es", 16), _slot("fs", 16), _slot("gs", 16)
    cf, of, nz, pf, af, df = (
        _slot("cf"), _slot("of"), _slot("nz"), _slot("pf"), _slot("af"), _slot("df"),
    )  # fmt: skip

    def reset(self) -> None:
        """Everything zero, then what a fresh 64-bit user-mode thread has: control words, selectors, IF."""
        self.buffer[:] = bytes(STATE_BYTES)
        self.eflags = FLAG_IF
        self.fcw, self.mxcsr = DEFAULT_FCW, DEFAULT_MXCSR
        self.cs, self.ss, self.ds, self.es = 0x33, 0x2B, 0x2B, 0x2B
        self.fs, self.gs = 0x53, 0x2B

    def gpr(self, number: int) -> int:
        return self.slots[number & 15]

    def set_gpr(self, number: int, value: int) -> None:
        self.slots[number & 15] = value & _U64

    @property
    def eflags(self) -> int:
        """EFLAGS as hardware shows it, put together from the split values."""
        slots = self.slots
        nz, pf = slots[NZ], slots[PF]
        flags = slots[EFLAGS] & ~SPLIT_FLAGS | ALWAYS_SET
        flags |= FLAG_CF if slots[CF] else 0
        flags |= FLAG_PF if (pf & 255).bit_count() % 2 == 0 else 0
        flags |= FLAG_AF if slots[AF] else 0
        flags |= FLAG_ZF if nz == 0 else 0
        flags |= FLAG_SF if nz >> 63 or pf & SF_FORCED else 0
        flags |= FLAG_DF if slots[DF] else 0
        return flags | (FLAG_OF if slots[OF] else 0)

    @eflags.setter
    def eflags(self, flags: int) -> None:
        slots = self.slots
        slots[CF] = 1 if flags & FLAG_CF else 0
        slots[OF] = 1 if flags & FLAG_OF else 0
        slots[AF] = 1 if flags & FLAG_AF else 0
        slots[DF] = 1 if flags & FLAG_DF else 0
        slots[NZ] = 0 if flags & FLAG_ZF else _U64 if flags & FLAG_SF else 1
        both = FLAG_ZF | FLAG_SF
        slots[PF] = (0 if flags & FLAG_PF else 1) | (SF_FORCED if flags & both == both else 0)
        slots[EFLAGS] = flags & 0xFFFFFFFF & ~SPLIT_FLAGS | ALWAYS_SET

    @property
    def fsw(self) -> int:
        """The x87 status word including TOP."""
        return self.slots[FSW] & 0xC7FF | (self.slots[FTOP] & 7) << 11

    @fsw.setter
    def fsw(self, value: int) -> None:
        self.slots[FSW] = value & 0xC7FF
        self.slots[FTOP] = value >> 11 & 7

    def _vector(self, slot: int) -> int:
        return VECTOR_OFFSET + slot * VECTOR_BYTES

    def xmm(self, number: int) -> bytes:
        at = self._vector(number)
        return bytes(self.buffer[at : at + 16])

    def set_xmm(self, number: int, value: bytes) -> None:
        """Replace the low 128 bits; the upper lanes stay, as legacy SSE leaves them."""
        if len(value) != 16:
            raise ValueError("an XMM register has 16 bytes")
        at = self._vector(number)
        self.buffer[at : at + 16] = value

    def ymm(self, number: int) -> bytes:
        at = self._vector(number)
        return bytes(self.buffer[at : at + 32])

    def set_ymm(self, number: int, value: bytes) -> None:
        """Replace the low 256 bits."""
        if len(value) != 32:
            raise ValueError("a YMM register has 32 bytes")
        at = self._vector(number)
        self.buffer[at : at + 32] = value

    def vector(self, number: int) -> bytes:
        """All 512 bits of a vector register."""
        at = self._vector(number)
        return bytes(self.buffer[at : at + VECTOR_BYTES])

    def set_vector(self, number: int, value: bytes) -> None:
        """Replace all 512 bits."""
        if len(value) != VECTOR_BYTES:
            raise ValueError(f"a ZMM register has {VECTOR_BYTES} bytes")
        at = self._vector(number)
        self.buffer[at : at + VECTOR_BYTES] = value

    def k(self, number: int) -> int:
        """A mask register."""
        return self.slots[K0 + number]

    def set_k(self, number: int, value: int) -> None:
        self.slots[K0 + number] = value & _U64

    def st(self, number: int) -> bytes:
        """The 80 bits of ST(number)."""
        at = self._vector(FIRST_X87 + (self.slots[FTOP] + number & 7))
        return bytes(self.buffer[at : at + 10])

    def set_st(self, number: int, value: bytes) -> None:
        if len(value) != 10:
            raise ValueError("an x87 register has 10 bytes")
        at = self._vector(FIRST_X87 + (self.slots[FTOP] + number & 7))
        self.buffer[at : at + 10] = value

    def fxsave(self) -> bytes:
        """The 512-byte FXSAVE64 image (Intel SDM volume 1, table 10-2); last opcode and pointers are zero."""
        slots, buffer = self.slots, self.buffer
        words = slots[FCW] & 0xFFFF | self.fsw << 16 | (slots[FTAG] & 255) << 32
        head = words.to_bytes(24, "little") + (slots[MXCSR] & 0xFFFFFFFF | MXCSR_MASK << 32).to_bytes(
            8, "little"
        )
        stack = [self._vector(FIRST_X87 + (slots[FTOP] + i & 7)) for i in range(8)]
        x87 = b"".join([bytes(buffer[at : at + 10]) + _PADDING for at in stack])
        xmm = b"".join([buffer[at : at + 16] for at in _XMM_AT])
        return (head + x87 + xmm).ljust(512, b"\0")

    def fxrstor(self, image: bytes) -> None:
        """Load an FXSAVE64 image; reserved MXCSR bits are dropped (hardware would raise #GP)."""
        if len(image) < 416:
            raise ValueError("an FXSAVE image has 512 bytes")
        self.fcw = int.from_bytes(image[0:2], "little")
        self.fsw = int.from_bytes(image[2:4], "little")
        self.slots[FTAG] = image[4]
        self.mxcsr = int.from_bytes(image[24:28], "little") & MXCSR_MASK
        for i in range(8):
            self.set_st(i, bytes(image[32 + 16 * i : 42 + 16 * i]))
        for i in range(16):
            self.set_xmm(i, bytes(image[160 + 16 * i : 176 + 16 * i]))
