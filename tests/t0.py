"""T0 as tests use it: a small window of guest memory, one state, and state dicts like those of the oracle."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache

from nexus.backend.interp.engine import Interpreter, Lookup, load
from nexus.backend.interp.records import LOOKUP_BYTES
from nexus.base.errors import GuestFault
from nexus.ir.state import FIRST_TEMP, SCALAR_SLOTS, SLOTS, STATE_BYTES, VECTOR_BYTES, VECTOR_OFFSET
from nexus.ir.values import Block
from nexus.machine import host

MEMORY_BASE = 0x10000
MEMORY_SIZE = 0x10000
TOP = 0x40000  # first inaccessible address; guest memory is [MEMORY_BASE, MEMORY_BASE + MEMORY_SIZE)
GUARD = 1 << 32  # bytes on both sides of the window that are never accessible
MACHINE_SLOTS = range(SLOTS["zero"], FIRST_TEMP)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Sigaction(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def catch_faults(engine: Interpreter) -> None:
    """Install the engine's signal handler in this process."""
    for index, number in enumerate((11, 7)):
        old = Sigaction()
        assert _libc.sigaction(number, None, ctypes.byref(old)) == 0
        if old.handler != engine.on_signal:
            saved = (ctypes.c_uint64 * 2).from_address(engine.previous + 16 * index)
            saved[0], saved[1] = old.handler or 0, old.flags & 0xFFFFFFFF
            new = Sigaction(handler=engine.on_signal, flags=4 | 0x08000000)  # SA_SIGINFO | SA_ONSTACK
            assert _libc.sigaction(number, ctypes.byref(new), None) == 0


def anonymous(size: int) -> tuple[mmap.mmap, int]:
    """Fresh zeroed memory and its host address."""
    area = mmap.mmap(-1, size)
    return area, ctypes.addressof(ctypes.c_char.from_buffer(area))


class BytesMemory:
    """The oracle's memory: the same stretch of guest memory as T0's window has."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data.ljust(MEMORY_SIZE, b"\0"))

    def _offset(self, address: int, size: int, write: bool) -> int:
        for at in range(address, address + size):
            if not MEMORY_BASE <= at < MEMORY_BASE + MEMORY_SIZE:
                raise GuestFault(at, write)
        return address - MEMORY_BASE

    def load(self, address: int, size: int) -> int:
        at = self._offset(address, size, False)
        return int.from_bytes(self.data[at : at + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        at = self._offset(address, size, True)
        self.data[at : at + size] = value.to_bytes(size, "little")


class T0:
    """Runs blocks; `memory` is the accessible guest memory."""

    def __init__(self, base: str | None = None) -> None:
        self.engine = load(base)
        catch_faults(self.engine)
        window = host.reserve(TOP + 2 * GUARD) + GUARD
        assert _libc.mprotect(window + MEMORY_BASE, MEMORY_SIZE, mmap.PROT_READ | mmap.PROT_WRITE) == 0
        self.memory = (ctypes.c_char * MEMORY_SIZE).from_address(window + MEMORY_BASE)
        self._state, self.state = anonymous(STATE_BYTES)
        self.slots = (ctypes.c_uint64 * SCALAR_SLOTS).from_address(self.state)
        self.records_area, self.records = anonymous(1 << 20)
        self._lookup, lookup = anonymous(2 * LOOKUP_BYTES)  # T1 has one of its own behind it
        self.lookup = Lookup(lookup)
        Lookup(lookup + LOOKUP_BYTES)
        self._machine = {"window": window, "top": TOP, "lookup": lookup}

    def load(self, state: dict[int, int], budget: int = 1 << 40) -> None:
        """Fill the state; what the dict does not name is 0, but for the control words."""
        ctypes.memset(self.state, 0, STATE_BYTES)
        self.slots[SLOTS["mxcsr"]], self.slots[SLOTS["fcw"]] = 0x1F80, 0x37F
        for slot, value in state.items():
            if slot < SCALAR_SLOTS:
                self.slots[slot] = value
            else:
                at = VECTOR_OFFSET + (slot - SCALAR_SLOTS) * VECTOR_BYTES
                self._state[at : at + VECTOR_BYTES] = value.to_bytes(VECTOR_BYTES, "little")
        for name, value in self._machine.items():
            self.slots[SLOTS[name]] = value
        self.slots[SLOTS["budget"]] = budget

    def place(self, block: Block, offset: int = 0) -> int:
        """Assemble a block into the records; returns the host address of its first record."""
        code = self.engine.assemble(block, self.records + offset)
        self.records_area[offset : offset + len(code.data)] = code.data
        self.code = code
        return self.records + offset

    def run(self, block: Block, state: dict[int, int], budget: int = 1 << 40) -> dict[int, int]:
        """Run a block once from `state`; returns the state after it as the oracle would leave it, zeros
        omitted."""
        record = self.place(block)
        self.load(state, budget)
        return self.go(record)

    def go(self, record: int) -> dict[int, int]:
        self.engine.run(self.state, record)
        return self.result()

    def result(self) -> dict[int, int]:
        out = {slot: value for slot, value in enumerate(self.slots[:FIRST_TEMP]) if value}
        for slot in range(40):
            at = VECTOR_OFFSET + slot * VECTOR_BYTES
            value = int.from_bytes(self._state[at : at + VECTOR_BYTES], "little")
            if value:
                out[SCALAR_SLOTS + slot] = value
        return out


def architectural(state: dict[int, int], *also: str) -> dict[int, int]:
    """Only what a guest can see (and the slots named), zeros omitted: for comparing engine and oracle."""
    keep = {SLOTS[name] for name in ("exit", "exit_arg", *also)}
    control = {SLOTS["mxcsr"], SLOTS["fcw"]}
    return {
        slot: value
        for slot, value in state.items()
        if value and slot not in control and (slot not in MACHINE_SLOTS or slot in keep)
    }


@cache
def shared() -> T0:
    """One T0 for all tests of a process."""
    return T0()
