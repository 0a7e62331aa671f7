"""The stencils, ready to use: loads the built file, or has it built, and makes host code in memory it is
given.

The memory has two addresses: `write` to put code there, `run` where the same pages are executable. It begins
with `base_code` (`source.py`), constants, and the records that compute pending flags.
"""

from __future__ import annotations

import ctypes
import os
import struct
import zlib

from nexus.backend import cache
from nexus.backend.interp import engine as interp
from nexus.backend.stencils import layout
from nexus.backend.stencils.assemble import Assembler, HostCode
from nexus.backend.stencils.plan import Plans, filled
from nexus.backend.stencils.store import DamagedStencils, unpack
from nexus.base.errors import NexusError
from nexus.ir.state import SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.engine import Interpreter
    from nexus.backend.stencils.assemble import Links
    from nexus.backend.stencils.store import Form, Places, Stencil

_SOURCES = tuple(f"backend/stencils/{name}.py" for name in ("build", "layout", "registers", "source", "store", "tidy"))
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


class Stencils:
    """What was built: by variant, its form, its stencils by shape, the slots whose registers they borrow, and
    the constants that they refer to."""

    __slots__ = ("borrows", "forms", "pool", "stencils")

    def __init__(self, data: bytes) -> None:
        self.forms: dict[str, Form]
        self.stencils: dict[str, dict[str, Stencil]]
        self.borrows: dict[str, Places]
        self.forms, self.stencils, self.borrows, self.pool = unpack(data)


class Engine:
    """T1 over one piece of memory."""

    def __init__(self, stencils: Stencils, interpreter: Interpreter, write: int, run: int) -> None:
        code, holes = stencils.stencils["base_code"][""]
        pool = len(code) + -len(code) % 64
        table = pool + len(stencils.pool) + -len(stencils.pool) % 32
        self._move = write - run
        self.stencils = stencils.stencils
        self.enter = run + layout.ENTER
        body = filled(code, holes, {"h_lit": run + table})
        body = body.ljust(pool, b"\0") + stencils.pool
        body = body.ljust(table + 32, b"\0")  # numbers begin at 1
        for number, name in enumerate(layout.DEFERRED):
            a, b = (SLOTS["pending_a"], SLOTS["pending_b"])
            if number >= len(layout.FULL):
                a = b = SLOTS["pending_c"]
            settle = interpreter.symbols[name], a << 8 | b << 16, run + layout.SETTLE_NEXT, 0
            body += struct.pack("<4Q", *settle)
        ctypes.memmove(write, body, len(body))
        self.first = run + len(body)
        handlers = {address: name for name, address in interpreter.symbols.items()}
        plans = Plans(stencils, handlers)
        self._assembler = Assembler(plans, run, run + pool, self.enter)

    def assemble(self, records: bytes, links: Links, at: int, data: int) -> tuple[HostCode, bytes]:
        """Host code for a block's records, to run at `at`, and what belongs at the address `data`."""
        return self._assembler.assemble(records, links, at, data)

    def put(self, code: HostCode, at: int) -> None:
        """Copy host code to where it runs."""
        ctypes.memmove(at + self._move, bytes(code.data), len(code.data))

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


def load(base: str | None = None) -> Stencils:
    """The stencils, from the code cache under `base`; built first if they are not there."""
    path = os.path.join(cache.folder(base), f"stencils-{key()}.bin")
    if path not in _loaded:
        if not os.path.exists(path):
            _build(path)
        try:
            _loaded[path] = _read(path)
        except DamagedStencils:
            os.unlink(path)
            _build(path)
            _loaded[path] = _read(path)
    return _loaded[path]


def _read(path: str) -> Stencils:
    with open(path, "rb") as file:
        return Stencils(file.read())


def _build(path: str) -> None:
    """Build in a process of its own, since an error of LLVM can end the process it happens in."""
    import subprocess
    import sys

    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-m", "nexus.backend.stencils.build", path]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise NexusError(
            f"the stencils could not be built (exit {result.returncode}):\n{result.stderr.strip()}"
        )
