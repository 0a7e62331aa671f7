"""Opening a host path beneath a folder without ever leaving it: no links, no `..`, no mount tricks of /proc.

`openat2` does it in one call where the host kernel has it (5.6); otherwise every component is opened on its
own with O_NOFOLLOW. Callers pass names that are already free of links, so meeting one means that somebody
changed the folder meanwhile: the call fails.
"""

from __future__ import annotations

import ctypes
import errno
import os

_SYS_OPENAT2 = 437
_RESOLVE = 0x02 | 0x04 | 0x08  # RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
_PATH_ONLY = os.O_CLOEXEC | os.O_NOFOLLOW
_ALWAYS = _PATH_ONLY | os.O_NONBLOCK | os.O_NOCTTY

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _Kernel:
    """Whether openat2 works here; learnt by the first call that finds it missing or forbidden."""

    has_openat2 = True


def open_beneath(root: int, names: tuple[str, ...], flags: int, mode: int = 0o666) -> int:
    """A descriptor of `root`/names; raises OSError. `flags` gets O_CLOEXEC, O_NOFOLLOW and O_NONBLOCK
    added.
    """
    flags |= _PATH_ONLY if flags & os.O_PATH else _ALWAYS  # openat2 takes few flags beside O_PATH
    if not names:
        return os.open(".", flags, mode, dir_fd=root)
    if not _Kernel.has_openat2:
        return _walk(root, names, flags, mode)
    how = _OpenHow(flags, mode if flags & os.O_CREAT else 0, _RESOLVE)
    path = os.fsencode("/".join(names))
    while True:
        fd = _syscall(_SYS_OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        if code == errno.ENOSYS or (code == errno.EPERM and not _probe(root)):
            _Kernel.has_openat2 = False
            return _walk(root, names, flags, mode)
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code))


def _probe(root: int) -> bool:
    """False when a seccomp filter answers EPERM to every openat2."""
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE)
    fd = _syscall(_SYS_OPENAT2, root, b".", ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        return False
    os.close(fd)
    return True


def _walk(root: int, names: tuple[str, ...], flags: int, mode: int) -> int:
    fd = root
    try:
        for name in names[:-1]:
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            if fd != root:
                os.close(fd)
            fd = below
        last = os.open(names[-1], flags, mode, dir_fd=fd)
    finally:
        if fd != root:
            os.close(fd)
    return last
