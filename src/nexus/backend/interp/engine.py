"""The interpreter, ready to run: loads its blob, or has it built, and drives it through ctypes.

Several threads may run at once, each with its own state; ctypes releases the GIL meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import zlib

from nexus.backend import cache
from nexus.backend.blob import Blob, DamagedBlob
from nexus.backend.interp.layout import LOOKUP_BITS, LOOKUP_BYTES, LOOKUP_MULTIPLIER
from nexus.base.errors import NexusError
from nexus.ir.state import SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.assemble import Assembler, Code
    from nexus.backend.interp.records import Variant
    from nexus.ir.values import Block

_QUAD = (1 << 64) - 1
_SOURCES = (
    *("ir/types.py", "ir/state.py", "ir/ops"),
    *("backend/blob.py", "backend/link.py", "backend/llvm"),
    *(
        "backend/interp/layout.py",
        "backend/interp/pairs.py",
        "backend/interp/records.py",
        "backend/interp/handlers.py",
        "backend/interp/runtime.py",
        "backend/interp/build.py",
    ),
)


class Fault:
    """A guest access that failed: the first guest address that could not be accessed, as the guest computed
    it, the size of the whole access, and whether it was a write. A misaligned vector (#GP) is a read at
    2**64 - 1."""

    __slots__ = ("address", "size", "write")

    def __init__(self, address: int, size: int, write: bool) -> None:
        self.address = address
        self.size = size
        self.write = write


class Interpreter:
    """One per process. `symbols` are the blob's host addresses, `record_sizes` the length of a record by the
    address of its handler; `on_signal` and `previous` are described in `runtime.py`.

    The op table and the assembler are imported when they are needed first: a process whose translations are
    all in the cache runs without them."""

    def __init__(self, path: str) -> None:
        """`path` is the blob's file, which names everything that this engine is; `base` is where it lies,
        `check` the blob's checksum."""
        blob = Blob(path)
        self.path = path
        self.base = blob.address
        self.check = blob.check
        self._blob = blob
        self.symbols = blob.symbols
        self.record_sizes = blob.notes
        self._assembler: Assembler | None = None
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(blob.symbols["run"])
        self._copy = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
            blob.symbols["guarded_copy"]
        )
        self.on_signal = blob.symbols["on_signal"]
        self.previous = blob.symbols["previous"]
        self._accesses: dict[int, Variant] = {}

    def assemble(self, block: Block, at: int) -> Code:
        """The records of `block` for host address `at`; raises OutOfSlots when it is too long."""
        if self._assembler is None:
            from nexus.backend.interp.assemble import Assembler

            self._assembler = Assembler(self.symbols)
        return self._assembler.assemble(block, at)

    def run(self, state: int, record: int) -> None:
        """Run from a record until an exit; both are host addresses."""
        self._run(state, record)

    def copy(self, to: int, source: int, size: int) -> int:
        """Copy between host addresses; returns how many bytes at the end could not be copied."""
        rest: int = self._copy(to, source, size)
        return rest

    def link(self, stub: int, record: int) -> None:
        """Make the branch that reaches the link record at `stub` go to `record` at once."""
        _quad(_quad(stub + 24).value).value = record

    def unlink(self, stub: int) -> None:
        """Make the branch leave through its link record again."""
        _quad(_quad(stub + 24).value).value = stub

    def _find_accesses(self) -> dict[int, Variant]:
        """The variants that access guest memory, by the address of their handler."""
        from nexus.backend.interp.records import variants
        from nexus.ir.ops import LOAD, ROWS, STORE

        rows = [row for row in ROWS.values() if row.effect in (LOAD, STORE)]
        return {self.symbols[v.name]: v for row in rows for v in variants(row)}

    def fault(self, state: int) -> Fault:
        """The access that ended the last run with FAULT, computed again from its record's operands."""
        if not self._accesses:
            self._accesses = self._find_accesses()
        record = _slot(state, SLOTS["exit_at"])
        variant = self._accesses[_quad(record).value]
        packed = _quad(record + 8).value
        operands = [_slot(state, packed >> shift & 255) for shift in (8, 16, 24)]
        displacement = packed >> 32
        address = operands[0] + displacement - (displacement >> 31 << 32)
        if variant.row.address == 2:
            address += operands[1] << variant.scale
        address &= _QUAD
        size = variant.row.bits // 8
        name = variant.row.name
        write = bool(_slot(state, SLOTS["fault_write"])) or name.startswith("atomic.") or ".modify." in name
        if ".aligned." in name and address % size:
            return Fault(_QUAD, size, False)
        seen = _slot(state, SLOTS["fault_address"]) - _slot(state, SLOTS["window"])
        candidates = [address]
        if name.startswith("string.copy.") and not write:
            candidates = [operands[1]]  # the source
        elif name.startswith("string.compare_"):
            candidates.append(operands[1])  # read after the destination
        top = _slot(state, SLOTS["top"])
        for candidate in candidates:
            if min(candidate, top) <= seen < min(candidate, top) + size:
                return Fault(seen + candidate - min(candidate, top) & _QUAD, size, write)
        return Fault(address, size, write)


class Lookup:
    """The table that `jump` records search, at `address` in LOOKUP_BYTES bytes of zeroed memory,
    16-aligned."""

    __slots__ = ("address",)

    def __init__(self, address: int) -> None:
        self.address = address
        self._vacate(address)

    def _entry(self, pc: int) -> int:
        mixed = (pc * LOOKUP_MULTIPLIER & _QUAD) >> 64 - LOOKUP_BITS
        return self.address + 16 * mixed

    def add(self, pc: int, record: int) -> None:
        """From now on, `pc` is at `record`. Another address with the same entry is forgotten."""
        entry = self._entry(pc)
        _quad(entry + 8).value = record
        _quad(entry).value = pc

    def replace(self, pc: int, record: int) -> None:
        """If `pc` is in the table, it is at `record` from now on."""
        entry = self._entry(pc)
        if _quad(entry).value == pc:
            _quad(entry + 8).value = record

    def remove(self, pc: int) -> None:
        entry = self._entry(pc)
        if _quad(entry).value == pc:
            self._vacate(entry)

    def clear(self) -> None:
        ctypes.memset(self.address, 0, LOOKUP_BYTES)
        self._vacate(self.address)

    def _vacate(self, entry: int) -> None:
        """No address belongs to an empty entry: 0 does not hash to any entry but the first, nor 1 to that
        one."""
        _quad(entry).value = 1 if entry == self.address else 0


def _quad(address: int) -> ctypes.c_uint64:
    return ctypes.c_uint64.from_address(address)


def _slot(state: int, index: int) -> int:
    return _quad(state + 8 * index).value


_key = ""


def key() -> str:
    """Names the blob: a checksum of everything that its code depends on, as it was when first asked for."""
    global _key
    if not _key:
        _key = _key_of_sources()
    return _key


def _key_of_sources() -> str:
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    text = cache.processor()
    for name in _SOURCES:
        path = os.path.join(root, name)
        files = [path]
        if os.path.isdir(path):
            files = sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".py"))
        for file in files:
            with open(file, "rb") as source:
                text += source.read()
    return f"{zlib.crc32(text):08x}{zlib.adler32(text):08x}{len(text):x}"


_loaded: dict[str, Interpreter] = {}  # never dropped: the signal handler is code of the blob


def load(base: str | None = None) -> Interpreter:
    """The process's interpreter, from the code cache under `base`; built first if it is not there."""
    path = os.path.join(cache.folder(base), f"interp-{key()}.blob")
    if path not in _loaded:
        if os.path.exists(path):
            try:
                _loaded[path] = Interpreter(path)
                return _loaded[path]
            except DamagedBlob:
                os.unlink(path)
        _build(path)
        _loaded[path] = Interpreter(path)
    return _loaded[path]


def _build(path: str) -> None:
    """Build the blob in a process of its own, since an error of LLVM can end the process it happens in."""
    import subprocess
    import sys

    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-m", "nexus.backend.interp.build", path]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise NexusError(
            f"the interpreter could not be built (exit {result.returncode}):\n{result.stderr.strip()}"
        )
