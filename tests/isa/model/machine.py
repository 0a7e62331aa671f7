"""What a case runs on: registers and memory as the instruction finds them, operands as lists of elements.

`Form` knows the operands of one instruction (decoding is iced's); its methods make functions that read or
write an operand of a `Run`, one case of it. Elements are not negative; element 0 is the lowest.

Facts: Intel SDM volume 2, chapter 2.7 (EVEX: masks, broadcast, rounding, exception classes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from iced_x86 import EncodingKind, Instruction, MemorySizeInfo, OpKind, Register

from isa.model.softfloat import Env
from nexus.ir.state import SLOTS, VECTOR_BYTES, VECTOR_OFFSET, Exit
from nexus.isa.x86.fuzz_state import MEMORY, MEMORY_SIZE
from nexus.isa.x86.registers import CpuState

Elements = list[int]
Read = Callable[["Run"], Elements]
Write = Callable[["Run", Sequence[int]], None]
Meaning = Callable[["Run"], None]

END = MEMORY + MEMORY_SIZE
U64 = (1 << 64) - 1
K0 = SLOTS["k0"]
CODES = {8: "B", 16: "H", 32: "I", 64: "Q"}
ZEROS = bytes(VECTOR_BYTES)
_BASES = {Register.FS: SLOTS["fs_base"], Register.GS: SLOTS["gs_base"]}
_NARROW = range(Register.EAX, Register.R15D + 1)
_PACKERS = {
    (width, count): struct.Struct(f"<{count}{code}")
    for width, code in CODES.items()
    for count in range(1, 512 // width + 1)
}


class Stop(Exception):
    """The instruction is not done: an `exit` of ir/state.Exit, for FAULT with the address."""

    def __init__(self, exit: int, address: int = 0, write: bool = False) -> None:
        super().__init__(exit, address, write)
        self.exit = exit
        self.address = address
        self.write = write


def canonical(address: int) -> bool:
    return address >> 47 in (0, 0x1FFFF)


class Run:
    """One case: its state, which becomes the state after it, and its memory."""

    __slots__ = ("buffer", "env", "memory", "slots", "state", "written")

    def __init__(self, state: CpuState, memory: bytes) -> None:
        self.state = state
        self.buffer = state.buffer
        self.slots = state.slots
        self.memory: bytes | bytearray = memory
        self.written = False
        self.env = Env()

    def check(self, address: int, size: int, write: bool) -> None:
        """Stop unless all bytes can be accessed."""
        if not size or self.accessible(address, size):
            return
        if not canonical(address) or not canonical(address + size - 1 & U64):
            raise Stop(Exit.PRIVILEGED)
        raise Stop(Exit.FAULT, END if MEMORY <= address < END else address, write)

    def load(self, address: int, size: int) -> bytes:
        self.check(address, size, False)
        at = address - MEMORY
        return bytes(self.memory[at : at + size])

    def store(self, address: int, data: bytes) -> None:
        self.check(address, len(data), True)
        if not self.written:
            self.memory, self.written = bytearray(self.memory), True
        at = address - MEMORY
        self.memory[at : at + len(data)] = data  # type: ignore[index]

    def accessible(self, address: int, size: int) -> bool:
        return address >= MEMORY and address + size <= END


def number_of(register: int) -> int:
    """The number of a vector register."""
    for first in (Register.XMM0, Register.YMM0, Register.ZMM0):
        if first <= register < first + 32:
            return register - first
    raise ValueError(f"no vector register: {register}")


def vector_at(register: int) -> int:
    """Where a vector register begins in the state."""
    return VECTOR_OFFSET + number_of(register) * VECTOR_BYTES


def is_vector(register: int) -> bool:
    return Register.XMM0 <= register < Register.XMM0 + 96


def is_mask(register: int) -> bool:
    return Register.K0 <= register <= Register.K7


def general(register: int) -> tuple[int, int]:
    """(slot, bits) of a general register; the high byte registers are no operand of these instructions."""
    for first, bits in ((Register.RAX, 64), (Register.EAX, 32), (Register.AX, 16)):
        if first <= register < first + 16:
            return register - first, bits
    if Register.AL <= register <= Register.BL:
        return register - Register.AL, 8
    if Register.SPL <= register < Register.SPL + 12:
        return register - Register.SPL + 4, 8
    raise ValueError(f"no general register: {register}")


def pack(values: Sequence[int], width: int) -> bytes:
    return _PACKERS[width, len(values)].pack(*values)


def unpack(data: bytes, width: int) -> Elements:
    return memoryview(data).cast(CODES[width]).tolist()


class Form:
    """The operands of an instruction."""

    def __init__(self, raw: Instruction) -> None:
        info = raw.op_code()
        self.raw = raw
        self.name = info.mnemonic
        self.legacy = info.encoding == EncodingKind.LEGACY
        self.bytes = 16 if info.is_lig else 16 << info.l
        self.mask = raw.op_mask - Register.K0 if raw.op_mask else 0
        self.zeroing = raw.zeroing_masking
        self.broadcast = raw.is_broadcast
        self.rounding = raw.rounding_control - 1 if raw.rounding_control else None
        self.quiet = raw.suppress_all_exceptions or self.rounding is not None
        self.operands = [n for n in range(raw.op_count) if raw.op_kind(n) in (OpKind.REGISTER, OpKind.MEMORY)]
        self.memory = next((n for n in self.operands if raw.op_kind(n) == OpKind.MEMORY), -1)
        last = raw.op_count - 1
        self.imm = raw.immediate(last) & 0xFF if last >= 0 and last not in self.operands else 0
        self.address = self._address()

    def register(self, n: int) -> int:
        return self.raw.op_register(n)

    def _address(self) -> Callable[[Run], int]:
        """The address of the memory operand, without a vector of indices."""
        raw = self.raw
        base, index = raw.memory_base, raw.memory_index
        parts: list[tuple[int, int]] = []
        if base not in (Register.NONE, Register.RIP, Register.EIP):
            parts.append((general(base)[0], 1))
        if index != Register.NONE and not is_vector(index):
            parts.append((general(index)[0], raw.memory_index_scale))
        displacement = raw.memory_displacement
        narrow = base in _NARROW or index in _NARROW or base == Register.EIP
        mask = 0xFFFFFFFF if narrow or (not parts and raw.memory_displ_size == 4) else U64
        segment = _BASES.get(raw.memory_segment, -1)

        def address(run: Run) -> int:
            at = displacement
            for slot, scale in parts:
                at += run.slots[slot] * scale
            at &= mask
            return at + run.slots[segment] & U64 if segment >= 0 else at

        return address

    # masks ------------------------------------------------------------------------------------------

    def active(self, run: Run, count: int) -> int:
        """The mask of the elements that are computed."""
        every = (1 << count) - 1
        return run.slots[K0 + self.mask] & every if self.mask else every

    # reading ----------------------------------------------------------------------------------------

    def vector(self, n: int, width: int, count: int, kl: int = 0) -> Read:
        """`count` elements of an operand. `kl`: memory is read only for the active ones of so many elements
        of the mask, the others are 0; without it all of it is read."""
        code, size = CODES[width], width * count // 8
        if n == self.memory:
            return self._memory_vector(width, size, kl)
        at = vector_at(self.register(n))
        end = at + size
        return lambda run: run.buffer[at:end].cast(code).tolist()

    def _memory_vector(self, width: int, size: int, kl: int) -> Read:
        code, address = CODES[width], self.address
        kl = kl if self.mask else 0
        if self.broadcast:
            one = MemorySizeInfo(self.raw.memory_size).size
            times = size // one

            def repeated(run: Run) -> Elements:
                if kl and not self.active(run, kl):
                    return [0] * (size * 8 // width)
                return memoryview(run.load(address(run), one) * times).cast(code).tolist()

            return repeated

        aligned = self.legacy and size == 16

        def plain(run: Run) -> Elements:
            at = address(run)
            if aligned and at & 15:
                raise Stop(Exit.PRIVILEGED)
            if not kl or run.accessible(at, size):
                return memoryview(run.load(at, size)).cast(code).tolist()
            each, active = size // kl, self.active(run, kl)
            parts = [
                run.load(at + each * i & U64, each) if active >> i & 1 else bytes(each) for i in range(kl)
            ]
            return memoryview(b"".join(parts)).cast(code).tolist()

        return plain

    def scalar(self, n: int, width: int, suppressed: bool = True) -> Callable[[Run], int]:
        """The lowest element of an operand; from memory only if the mask has it (0 else)."""
        if n == self.memory:
            size, address = width // 8, self.address

            def load(run: Run) -> int:
                if suppressed and self.mask and not run.slots[K0 + self.mask] & 1:
                    return 0
                return int.from_bytes(run.load(address(run), size), "little")

            return load
        if not is_vector(self.register(n)):
            return self.integer(n, width)
        read = self.vector(n, width, 1)
        return lambda run: read(run)[0]

    def integer(self, n: int, width: int) -> Callable[[Run], int]:
        """The low bits of a general or mask register, or of memory."""
        every = (1 << width) - 1
        if n == self.memory:
            size, address = width // 8, self.address
            return lambda run: int.from_bytes(run.load(address(run), size), "little")
        register = self.register(n)
        slot = K0 + register - Register.K0 if is_mask(register) else general(register)[0]
        return lambda run: run.slots[slot] & every

    # writing ----------------------------------------------------------------------------------------

    def result(self, n: int, width: int, count: int, masked: bool = True) -> Write:
        """Write elements, under the mask if `masked`; what is above them in the register becomes zero
        (in legacy encodings it stays)."""
        if n == self.memory:
            return self._memory_result(width, count)
        at = vector_at(self.register(n))
        packer = _PACKERS[width, count]
        size, code = packer.size, CODES[width]
        zeros, masked = b"" if self.legacy else ZEROS[size:], masked and bool(self.mask)
        end = at + size + len(zeros)

        def write(run: Run, values: Sequence[int]) -> None:
            if masked:
                active = run.slots[K0 + self.mask]
                old = [0] * count if self.zeroing else run.buffer[at : at + size].cast(code).tolist()
                values = [new if active >> i & 1 else old[i] for i, new in enumerate(values)]
            run.buffer[at:end] = packer.pack(*values) + zeros

        return write

    def _memory_result(self, width: int, count: int) -> Write:
        """Store the active elements, if all of them can be."""
        packer, size, address = _PACKERS[width, count], width // 8, self.address

        def write(run: Run, values: Sequence[int]) -> None:
            at, data = address(run), packer.pack(*values)
            active = self.active(run, count)
            if active == (1 << count) - 1:
                run.store(at, data)
                return
            places = [i * size for i in range(count) if active >> i & 1]
            for offset in places:
                run.check(at + offset & U64, size, True)
            for offset in places:
                run.store(at + offset, data[offset : offset + size])

        return write

    def mask_result(self, n: int, count: int) -> Callable[[Run, int], None]:
        """Write a mask of `count` bits, under the mask, zero above."""
        slot = K0 + self.register(n) - Register.K0

        def write(run: Run, value: int) -> None:
            run.slots[slot] = value & self.active(run, count)

        return write

    def scalar_result(self, n: int, width: int, above: int = -1) -> Callable[[Run, int], None]:
        """Write the lowest element under the mask; the others of the low 128 bits come from operand `above`
        (zero without one), what is above those is zero."""
        if n == self.memory:
            store = self._memory_result(width, 1)
            return lambda run, value: store(run, (value,))
        at = vector_at(self.register(n))
        upper = vector_at(self.register(above)) if above >= 0 else -1
        size, mask = width // 8, self.mask

        def write(run: Run, value: int) -> None:
            data = value.to_bytes(size, "little")
            if mask and not run.slots[K0 + mask] & 1:
                data = bytes(size) if self.zeroing else bytes(run.buffer[at : at + size])
            rest = bytes(run.buffer[upper + size : upper + 16]) if upper >= 0 else bytes(16 - size)
            run.buffer[at : at + VECTOR_BYTES] = data + rest + ZEROS[16:]

        return write

    def integer_result(self, n: int, width: int) -> Callable[[Run, int], None]:
        """Write a general register (32 bits clear the upper half), a mask register or memory."""
        if n == self.memory:
            size, address = width // 8, self.address
            return lambda run, value: run.store(address(run), value.to_bytes(size, "little"))
        register = self.register(n)
        every = (1 << width) - 1
        slot = K0 + register - Register.K0 if is_mask(register) else general(register)[0]

        def write(run: Run, value: int) -> None:
            run.slots[slot] = value & every

        return write
