"""Runs one instruction on the host's own processor, from given register states, and survives what it does.

For comparing with the engines; x86-64 Linux hosts only. Code and data lie at fixed low addresses, the same
that the engines use, so that addresses in registers mean the same on both sides. Every run ends in a signal
- the breakpoint behind the instruction, or the fault it raised - whose handler copies the registers out and
starts the next run (`native_stubs.py`).
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct

from iced_x86 import CpuidFeature, Instruction

from nexus.ir.state import VECTOR_BYTES, VECTOR_OFFSET, Exit
from nexus.isa.x86 import native_stubs as stubs
from nexus.isa.x86 import registers as r
from nexus.isa.x86.fuzz_state import MEMORY, MEMORY_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Patches = Sequence[tuple[int, bytes]]

CODE = 0x50000  # the instruction lies in the middle of two pages of breakpoints
CODE_SIZE = 0x2000
_BREAKPOINT = 0xCC
SIGNALS = (4, 5, 7, 8, 11)  # ILL, TRAP, BUS, FPE, SEGV
# trap numbers; a non-canonical stack address is #SS (12), any other #GP (13)
_DEBUG, _BREAK = 1, 3
_TRAPS = {0: Exit.DIVIDE, 6: Exit.ILLEGAL, 12: Exit.PRIVILEGED, 13: Exit.PRIVILEGED, 14: Exit.FAULT}
_TRAPS.update({16: Exit.FP_ERROR, 17: Exit.ALIGNMENT, 19: Exit.FP_ERROR})
LOADED_FLAGS = r.SPLIT_FLAGS | r.FLAG_TF | r.FLAG_NT | r.FLAG_AC | r.FLAG_ID
"""The flags that a run begins with; the rest is the host's."""

_MAP = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x104000  # MAP_FIXED_NOREPLACE, MAP_NORESERVE
_INPUT = struct.Struct("<20Q")
_OUTPUT = struct.Struct("<26Q4H")
_COMPARED = ((0, 5), (24, 28), (32, 160))  # of the FXSAVE image; not the last instruction and MXCSR's mask
_UPPER = [
    (VECTOR_OFFSET + n * VECTOR_BYTES, stubs.FX + 160 + 16 * n, stubs.UPPER + 16 * n) for n in range(16)
]


# iced's feature -> the name in /proc/cpuinfo where it is not the same in lower case; "" is always there
_FEATURE_NAMES = {
    **dict.fromkeys(("INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486", "X64"), ""),
    **dict.fromkeys(("FPU287", "FPU387", "MULTIBYTENOP", "PAUSE", "CET_IBT"), ""),
    "CMPXCHG16B": "cx16",
    "LZCNT": "abm",
    "CLFSH": "clflush",
    "PREFETCHW": "3dnowprefetch",
    "SSE3": "pni",
    "SHA": "sha_ni",
}
_FEATURES = {number: name for name, number in vars(CpuidFeature).items() if isinstance(number, int)}


class Unavailable(Exception):
    """This host cannot run x86-64 instructions for us; the message says why."""


class _Sigaction(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class _Stack(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]


def map_fixed(address: int, size: int, executable: bool = False) -> None:
    """Readable and writable memory at exactly this address; raises Unavailable if something is there."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE | (mmap.PROT_EXEC if executable else 0)
    if _libc.mmap(address, size, protection, _MAP, -1, 0) != address:
        raise Unavailable(f"the host does not give memory at {address:#x} (errno {ctypes.get_errno()})")


def host_flags() -> frozenset[str]:
    """The processor's features as /proc/cpuinfo names them."""
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()


class Outcome:
    """How a run ended: `exit` is EXIT_NONE with `pc` where the guest would go on, or the Exit kind of a
    fault."""

    __slots__ = ("address", "exit", "pc", "write")

    def __init__(self, exit: int, pc: int, address: int = 0, write: bool = False) -> None:
        self.exit = exit
        self.pc = pc
        self.address = address
        self.write = write

    def __repr__(self) -> str:
        where = f" at {self.address:#x}, write {self.write}" if self.exit == Exit.FAULT else ""
        return f"exit {self.exit}, pc {self.pc:#x}{where}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        mine = (self.exit, self.pc, self.address, self.write)
        return mine == (other.exit, other.pc, other.address, other.write)


class Ran:
    """What a run left: its end, the registers, and the quadwords of the cases' memory that are otherwise than
    before all cases, by address."""

    __slots__ = ("changed", "outcome", "state")

    def __init__(self, outcome: Outcome, state: r.CpuState, changed: dict[int, int]) -> None:
        self.outcome = outcome
        self.state = state
        self.changed = changed


class Native:
    """The host processor. One per process; `memory` is the cases' memory before them."""

    def __init__(self, memory: bytes = b"") -> None:
        if platform.machine() != "x86_64" or platform.system() != "Linux":
            raise Unavailable("the host is not x86-64 Linux")
        self.features = host_flags()
        self.has_ymm = "avx" in self.features
        bases = "fsgsbase" in self.features
        map_fixed(CODE, CODE_SIZE, executable=True)
        map_fixed(MEMORY, MEMORY_SIZE)
        map_fixed(stubs.CONTROL, stubs.LOG + stubs.LOG_SIZE - stubs.CONTROL, executable=True)
        ctypes.memset(CODE, _BREAKPOINT, CODE_SIZE)
        self.set_memory(memory)
        at = stubs.CONTROL
        back = at
        at = self._put(at, stubs.back(at))
        handler = at
        at = self._put(at, stubs.handler(at, back, MEMORY, MEMORY_SIZE, bases, self.has_ymm))
        self._enter = ctypes.CFUNCTYPE(None)(at)
        self._put(at, stubs.entry(at, bases))
        self._action = _Sigaction(handler=handler, flags=4 | 0x08000000)  # SA_SIGINFO | SA_ONSTACK
        self._stack = ctypes.create_string_buffer(1 << 16)
        stack = _Stack(ctypes.addressof(self._stack), 0, len(self._stack))
        if _libc.sigaltstack(ctypes.byref(stack), None):
            raise Unavailable("no alternate signal stack")
        size = stubs.MOST * stubs.RECORD
        self._inputs = memoryview((ctypes.c_char * size).from_address(stubs.INPUTS)).cast("B")
        self._outputs = memoryview((ctypes.c_char * size).from_address(stubs.OUTPUTS)).cast("B")

    def set_memory(self, memory: bytes) -> None:
        """The cases' memory, MEMORY_SIZE bytes of it, from now on (zeros behind what is given)."""
        for address in (MEMORY, stubs.PRISTINE):
            ctypes.memmove(address, memory.ljust(MEMORY_SIZE, b"\0"), MEMORY_SIZE)

    def has(self, instruction: Instruction) -> bool:
        """Whether this processor has what the instruction needs."""
        names = (_FEATURES[feature] for feature in instruction.cpuid_features())
        wanted = (_FEATURE_NAMES.get(name, name.lower()) for name in names)
        return all(not name or name in self.features for name in wanted)

    def _put(self, at: int, code: bytes) -> int:
        """Code to its place; returns the next free one, aligned."""
        ctypes.memmove(at, code, len(code))
        return at + len(code) + 15 & ~15

    def run(self, code: bytes, state: r.CpuState) -> Outcome:
        """Execute the instruction in `code` at `state.rip` and bring `state` up to date; memory is put
        back."""
        (ran,) = self.run_many(code, [state])
        state.buffer[:] = ran.state.buffer
        return ran.outcome

    def run_many(
        self, code: bytes, states: Sequence[r.CpuState], patches: Sequence[Patches] | None = None
    ) -> list[Ran]:
        """Execute the instruction in `code` at `rip` (the same in all states, within the code pages) once
        from each state, with its patches (address, 8 bytes) in memory; at most `native_stubs.MOST` states.

        Of EFLAGS, LOADED_FLAGS are loaded; FS stays the host's, and so do the selectors.
        """
        at = states[0].rip
        if not CODE <= at <= CODE + CODE_SIZE - len(code):
            raise ValueError("the instruction must lie in the code pages")
        for number, state in enumerate(states):
            self._write_input(number * stubs.RECORD, state, patches[number] if patches else ())
        variables = (ctypes.c_uint64 * 5).from_address(stubs.NEXT_IN)
        variables[:] = [stubs.INPUTS, stubs.INPUTS + len(states) * stubs.RECORD, stubs.OUTPUTS, stubs.LOG, 0]
        ctypes.memmove(at, code, len(code))
        saved = [_Sigaction() for _ in SIGNALS]
        for number, old in zip(SIGNALS, saved, strict=True):
            _libc.sigaction(number, ctypes.byref(self._action), ctypes.byref(old))
        self._enter()
        for number, old in zip(SIGNALS, saved, strict=True):
            _libc.sigaction(number, ctypes.byref(old), None)
        ctypes.memset(at, _BREAKPOINT, len(code))
        log = stubs.LOG
        out = []
        for number, state in enumerate(states):
            ran, log = self._result(number * stubs.RECORD, state, log)
            out.append(ran)
        return out

    def _write_input(self, at: int, state: r.CpuState, patches: Patches) -> None:
        slots, inputs = state.slots, self._inputs
        flags = state.eflags & LOADED_FLAGS | r.FLAG_IF | r.ALWAYS_SET
        registers = [slots[number] for number in stubs.ORDER]
        _INPUT.pack_into(inputs, at, *registers, slots[r.PC], flags, slots[r.GS_BASE], len(patches))
        for number, (address, data) in enumerate(patches):
            place = at + stubs.IN_PATCHES + 16 * number
            inputs[place : place + 16] = address.to_bytes(8, "little") + data
        inputs[at + stubs.FX : at + stubs.UPPER] = state.fxsave()
        if self.has_ymm:
            buffer = state.buffer
            for slot, _, upper in _UPPER:
                inputs[at + upper : at + upper + 16] = buffer[slot + 16 : slot + 32]

    def _result(self, at: int, before: r.CpuState, log: int) -> tuple[Ran, int]:
        output = self._outputs
        words = _OUTPUT.unpack_from(output, at)
        context = words[2:25]
        state = r.CpuState(bytearray(before.buffer))
        slots = state.slots
        for index, number in enumerate(stubs.ORDER):
            slots[number] = context[index]
        flags = before.eflags
        state.eflags = flags & ~LOADED_FLAGS | context[stubs.FLAGS_INDEX] & LOADED_FLAGS
        slots[r.DS], slots[r.ES], slots[r.FS], slots[r.GS] = words[26:30]
        image = at + stubs.FX
        inputs = self._inputs
        for begin, end in _COMPARED:
            if output[image + begin : image + end] != inputs[image + begin : image + end]:
                state.fxrstor(bytes(output[image : image + 512]))
                break
        buffer = state.buffer
        for slot, low, upper in _UPPER:
            buffer[slot : slot + 16] = output[at + low : at + low + 16]
            if self.has_ymm:
                buffer[slot + 16 : slot + 32] = output[at + upper : at + upper + 16]
        changed = {}
        end = words[25]
        if end != log:
            pairs = (ctypes.c_uint64 * ((end - log) // 8)).from_address(log)
            changed = {place - 8: value for place, value in zip(pairs[::2], pairs[1::2], strict=True)}
        outcome = self._outcome(words[0], words[1], context)
        slots[r.PC] = outcome.pc
        return Ran(outcome, state, changed), end

    def _outcome(self, signal: int, address: int, context: tuple[int, ...]) -> Outcome:
        pc, trap = context[stubs.RIP_INDEX], context[stubs.TRAP_INDEX]
        if signal == 5:
            return Outcome(Exit.TRAP, pc) if trap == _DEBUG else Outcome(Exit.NONE, pc - 1)
        kind = _TRAPS.get(trap)
        if kind is None:
            raise Unavailable(f"the host raised trap {trap}, which no engine has")
        if kind == Exit.FAULT:
            return Outcome(kind, pc, address, bool(context[stubs.ERROR_INDEX] & 2))
        return Outcome(kind, pc)


_found: Native | None = None


def processor(memory: bytes = b"") -> Native:
    """The host processor of this process, with this memory for cases; raises Unavailable."""
    global _found
    if _found is None:
        _found = Native(memory)
    else:
        _found.set_memory(memory)
    return _found
