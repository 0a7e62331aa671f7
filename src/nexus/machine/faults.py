"""The host's signals that mean a guest fault, while there is a vCPU to take them.

The engine's handler (`backend/interp/runtime.py`) turns a fault of a guest access into an exit and hands
every other signal to the handler that was there before. The first vCPU of a process puts it in place, the
last one that is closed puts back what was there.
"""

from __future__ import annotations

import ctypes
from _thread import allocate_lock

from nexus.backend.interp import engine as interp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.backend.interp.engine import Interpreter

SIGBUS, SIGSEGV = 7, 11
_SA_SIGINFO, _SA_ONSTACK = 4, 0x08000000

_libc = ctypes.CDLL(None, use_errno=True)


class _Sigaction(ctypes.Structure):
    """struct sigaction of the C library."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_engine: Interpreter | None = None
_users = 0
_lock = allocate_lock()
_before: dict[int, _Sigaction] = {}


def engine() -> Interpreter:
    """The interpreter of this process, loaded when first asked for."""
    global _engine
    if _engine is None:
        _engine = interp.load()
    return _engine


def acquire() -> Interpreter:
    """The interpreter, with its handlers in place until `release`."""
    global _users
    with _lock:
        found = engine()
        if _users == 0:
            for index, number in enumerate((SIGSEGV, SIGBUS)):
                old = _Sigaction()
                _sigaction(number, None, old)
                saved = (ctypes.c_uint64 * 2).from_address(found.previous + 16 * index)
                saved[0], saved[1] = old.handler or 0, old.flags & 0xFFFFFFFF
                _before[number] = old
                ours = _Sigaction(handler=found.on_signal, flags=_SA_SIGINFO | _SA_ONSTACK)
                _sigaction(number, ours, None)
        _users += 1
    return found


def release() -> None:
    """One vCPU less; handlers that somebody else has put over ours stay."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            for number, old in _before.items():
                current = _Sigaction()
                _sigaction(number, None, current)
                if current.handler == engine().on_signal:
                    _sigaction(number, old, None)
            _before.clear()


def _sigaction(number: int, new: _Sigaction | None, old: _Sigaction | None) -> None:
    """sigaction(2); it fails only for a wrong number."""
    if _libc.sigaction(number, new and ctypes.byref(new), old and ctypes.byref(old)):
        raise OSError(ctypes.get_errno(), f"sigaction({number})")
