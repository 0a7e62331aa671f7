"""The stencils, ready to use: loads the built file, or has it built, and makes host code in memory it is
given.

The memory has two addresses: `write` to put code there, `run` where the same pages are executable. It begins
with `base_code` (`source.py`) and the records that compute pending flags. PIECE bytes behind `run` is memory
for data, which is not executable.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import zlib
from contextlib import suppress

from nexus.backend import cache
from nexus.backend.interp import engine as interp
from nexus.backend.stencils import layout
from nexus.backend.stencils.layout import FRONT, PIECE
from nexus.backend.stencils.store import DamagedStencils, Stencils
from nexus.base.errors import NexusError
from nexus.ir.state import PENDING_VECTORS, SCALAR_SLOTS, SLOTS, VECTOR_BYTES, VECTOR_OFFSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus.backend.interp.engine import Interpreter
    from nexus.backend.stencils.assemble import Assembler
    from nexus.backend.stencils.code import HostCode, Note
    from nexus.backend.stencils.emitter import Links

_MADE_BY = ("build", "layout", "registers", "source", "store", "tidy")
_SOURCES = tuple(f"backend/stencils/{name}.py" for name in _MADE_BY)
_AT_HWCAP2, _FSGSBASE = 26, 2

_libc = ctypes.CDLL(None)
_libc.getauxval.restype = ctypes.c_ulong
_libc.getauxval.argtypes = (ctypes.c_ulong,)


def claim(interpreter: Interpreter, begin: int, end: int, piece: int) -> None:
    """From now on, the interpreter's fault handler takes these host addresses for code of T1, each `piece`
    bytes (a power of two) one engine's."""
    bounds = (ctypes.c_uint64 * 3).from_address(interpreter.symbols["native"])
    bounds[0], bounds[1], bounds[2] = begin, end, piece - 1


def available() -> bool:
    """May this process set its GS base?"""
    return bool(_libc.getauxval(_AT_HWCAP2) & _FSGSBASE)


class Engine:
    """T1 over one piece of memory."""

    def __init__(self, stencils: Stencils, interpreter: Interpreter, write: int, run: int) -> None:
        self._stencils, self._interpreter, self._run = stencils, interpreter, run
        self._move = write - run
        code, holes = stencils.core["base_code"]
        table = len(code) + -len(code) % 32
        base = bytearray(code)
        for at, _, _, _ in holes:  # where that table is
            struct.pack_into("<Q", base, at, run + table)
        base = base.ljust(table + 32, b"\0")  # numbers begin at 1
        for number, name in enumerate(layout.DEFERRED):
            a, b = SLOTS["pending_a"], SLOTS["pending_b"]
            if name in layout.COMPARING:
                a, b = PENDING_VECTORS
            if number >= len(layout.FULL):
                a = b = SLOTS["pending_c"]
            base += struct.pack(
                "<4Q", interpreter.symbols[name], a << 8 | b << 16, run + layout.SETTLE_NEXT, 0
            )
        self.put(base, run)
        self.enter = run + layout.ENTER
        self.first = run + len(base)
        self._assembler: Assembler | None = None
        self._memory = ctypes.create_string_buffer(32 + 16)
        self._records = ctypes.addressof(self._memory) + 15 & -16  # for `_compute`

    @property
    def ready(self) -> bool:
        """Can it assemble without loading what that needs first?"""
        return self._assembler is not None

    def assemble(self, records: bytes, links: Links, at: int) -> HostCode:
        """Host code for a block's records, to run at `at`."""
        if self._assembler is None:
            from nexus.backend.stencils.assemble import Assembler
            from nexus.backend.stencils.plan import Plans

            built = self._stencils
            handlers = {address: name for name, address in self._interpreter.symbols.items()}
            self._assembler = Assembler(Plans(built, handlers), self._run)
        return self._assembler.assemble(records, links, at)

    def put(self, code: bytes | bytearray, at: int) -> None:
        """Copy host code to where it runs."""
        ctypes.memmove(at + self._move, bytes(code), len(code))

    def read(self, at: int, size: int) -> bytes:
        """Host code as it is now, links included."""
        return ctypes.string_at(at, size)

    def front(self, at: int) -> bytes:
        """FRONT bytes at `at` that lead to what the piece begins with."""
        jumps = (b"\xe9" + struct.pack("<i", self._run - (at + 5)) for _ in layout.ENTRIES)
        return b"".join(jumps).ljust(FRONT, b"\xcc")

    def put_way_back(self, at: int, record: int) -> int:
        """Host code that goes on at a record, with everything in the state as at a block's end; how many
        bytes it takes, or its data does."""
        code, holes = self._stencils.core["outside"]
        changed = bytearray(code)
        for where, _, what, _ in holes:
            to = PIECE if what == "h_copy" else self._run + layout.OUTSIDE - at
            struct.pack_into("<i", changed, where, to - (where + 4))
        self.put(changed, at)
        going = struct.pack("<QQQ", self._interpreter.symbols["goto"], 0, record)
        ctypes.memmove(at + PIECE, going, len(going))
        return max(len(changed), len(going))

    def put_copies(self, copies: Sequence[int], records: int, at: int) -> None:
        """The data of the host code at `at`: copies of the block's records, which lie at `records`, each with
        one that comes back to the host code (`HostCode.copies`)."""
        for index in range(0, len(copies), 4):
            data, record, size, back = copies[index : index + 4]
            ctypes.memmove(at + PIECE + data, records + record, size)
            returning = struct.pack("<QQ", self.enter, at + back)
            ctypes.memmove(at + PIECE + data + size, returning, len(returning))

    def put_constants(self, constants: Sequence[int], at: int) -> None:
        """The constants of the host code at `at` (`HostCode.constants`)."""
        for index in range(0, len(constants), 3):
            data, place, size = constants[index : index + 3]
            ctypes.memmove(at + PIECE + data, self._stencils.pool[place : place + size], size)

    def restore(self, code: HostCode, offset: int, state: int) -> None:
        """After a fault at an offset of a block's code: make of the state, which lies at `state`, what the
        block's records know."""
        difference = code.difference(offset)
        if difference is None:
            return
        from nexus.backend.stencils.plan import place

        full, part, exchanged = difference
        for kind, one, other, size in code.swaps if exchanged else ():
            places = [state + place(kind, slot) for slot in (one, other)]
            contents = [ctypes.string_at(at, size) for at in places]
            ctypes.memmove(places[0], contents[1], size)
            ctypes.memmove(places[1], contents[0], size)
        for note in (full, part):
            if note is not None:
                self._compute(note, state)

    def _compute(self, note: Note, state: int) -> None:
        """The flags of a note, by the interpreter's handler."""
        number, operands = note
        name = layout.DEFERRED[number]
        slots = (ctypes.c_uint64 * SCALAR_SLOTS).from_address(state)
        first, second = SLOTS["pending_a"], SLOTS["pending_b"]
        if name in layout.COMPARING:
            first, second = PENDING_VECTORS
            for slot, (source, *_) in zip(PENDING_VECTORS, operands, strict=True):
                to, there = (state + VECTOR_OFFSET + VECTOR_BYTES * each for each in (slot, source))
                ctypes.memmove(to, there, VECTOR_BYTES)
        else:
            for slot, (source, other, sign, constant) in zip((first, second), operands, strict=False):
                value = slots[source] if source >= 0 else 0
                value += sign * slots[other] if other >= 0 else 0
                slots[slot] = value + constant & (1 << 64) - 1
        symbols = self._interpreter.symbols
        left = [SLOTS[field] for field in ("exit", "exit_arg", "exit_at")]
        before = [slots[slot] for slot in left]
        records = struct.pack("<4Q", symbols[name], first << 8 | second << 16, symbols["exit"], 0)
        ctypes.memmove(self._records, records, len(records))
        self._interpreter.run(state, self._records)
        for slot, value in zip(left, before, strict=True):
            slots[slot] = value

    def link(self, site: int, target: int) -> None:
        """Make the jump with its displacement at `site` go to `target`."""
        ctypes.c_int32.from_address(site + self._move).value = target - site - 4


def key() -> str:
    """Names the file: what the interpreter is made of, and what makes stencils of that."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    text = b""
    for name in _SOURCES:
        with open(os.path.join(root, name), "rb") as source:
            text += source.read()
    return f"{interp.key()}-{zlib.crc32(text):08x}"


_loaded: dict[str, Stencils] = {}


def path_of(base: str | None = None) -> str:
    """Where the stencils are in the code cache under `base`, or will be."""
    return os.path.join(cache.folder(base), f"stencils-{key()}.bin")


def load(base: str | None = None) -> Stencils:
    """The stencils, built first if they are not there."""
    path = path_of(base)
    found = load_if_there(path)
    if found is None:
        _build(path)
        found = load_if_there(path)
        assert found is not None
    return found


def load_if_there(path: str) -> Stencils | None:
    """The stencils in a file; None if it is not there, or damaged, and then it is removed if it may be."""
    if path not in _loaded:
        try:
            with open(path, "rb") as file:
                _loaded[path] = Stencils(os.path.basename(path), file.read())
        except FileNotFoundError:
            return None
        except DamagedStencils:
            with suppress(PermissionError):  # behind the second wall; the next run removes it
                os.unlink(path)
            return None
    return _loaded[path]


def build_meanwhile(path: str) -> int:
    """Start building the file and come back at once; returns the process, which outlives this one."""
    command, environment = _builder(path, "--meanwhile")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in range(3)]
        return os.posix_spawn(command[0], command, environment, file_actions=actions, setsid=True)
    finally:
        os.close(null)


def _builder(path: str, *options: str) -> tuple[list[str], dict[str, str]]:
    """The command that builds, and its environment: a process of its own, since an error of LLVM can end the
    process it happens in."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    command = [sys.executable, "-m", "nexus.backend.stencils.build", path, *options]
    return command, {**os.environ, "PYTHONPATH": root}


def _build(path: str) -> None:
    import subprocess

    command, environment = _builder(path)
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise NexusError(
            f"the stencils could not be built (exit {result.returncode}):\n{result.stderr.strip()}"
        )
