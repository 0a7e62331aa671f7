"""The handles under which Wine's DLLs call their unix halves, which this kernel answers itself.

A DLL asks for its handle once (NtQueryVirtualMemory, Wine's class 1000) and passes it with every call. The
calls of each library are answered by `unix_call`; a DLL that is not listed has no unix half here and is told
so.
"""

from __future__ import annotations

LIBRARIES = ("ntdll.dll", "ws2_32.dll", "bcrypt.dll", "crypt32.dll", "dnsapi.dll")
_FIRST, _STEP = 0x1000, 0x10


def unixlib_handle(name: str) -> int:
    """The handle of a DLL's unix half, 0 when it has none."""
    lower = name.lower()
    return _FIRST + _STEP * LIBRARIES.index(lower) if lower in LIBRARIES else 0


def unixlib_name(handle: int) -> str | None:
    """The DLL whose unix half a handle means."""
    index, rest = divmod(handle - _FIRST, _STEP)
    return LIBRARIES[index] if not rest and 0 <= index < len(LIBRARIES) else None
