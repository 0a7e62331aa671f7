"""The guest's drives: a private `C:` on the host's disk and `Z:`, the granted parts of the host's tree.

A thrown-away `C:` is a folder in the cache that its process keeps locked; one that nobody has locked was
left by a killed process and is removed by the next run. A kept one (`--drive DIR`) is locked the same way
while it is in use, and everything in it is an ordinary file at any moment, so killing nexus loses nothing
that was written.
"""

from __future__ import annotations

import fcntl
import os

from nexus.base.errors import NexusError
from nexus.base.folders import private_folder
from nexus.nt.io.place import Grant
from nexus.nt.io.volume import Volume
from nexus.system.guest_environment import FOLDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus.nt.io.place import Refusals
    from nexus.system.sysroot import Sysroot

REGISTRY = "windows/system32/config/registry"
PROGRAMS = ("explorer.exe", "hh.exe", "notepad.exe", "regedit.exe", "winhlp32.exe")
"""What lies in the Windows folder itself."""


def _every_folder() -> list[str]:
    """What exists on a fresh C:, each folder after the one it is in."""
    found: dict[str, None] = {}
    for name in FOLDERS:
        parts = name.split("\\")
        found.update(dict.fromkeys("/".join(parts[:count]) for count in range(1, len(parts) + 1)))
    return list(found)


_EVERY_FOLDER = _every_folder()


class Drive:
    """The folder behind `C:`; `kept` tells whether it outlives the run."""

    __slots__ = ("_fd", "folder", "kept")

    def __init__(self, folder: str | None) -> None:
        self.kept = folder is not None
        self.folder, self._fd = _fresh() if folder is None else _opened(os.path.abspath(folder))
        for name in _EVERY_FOLDER:
            try:
                os.mkdir(os.path.join(self.folder, name))
            except FileExistsError:  # a kept drive has them
                continue

    @property
    def registry(self) -> str | None:
        """Where the registry of a kept drive is stored."""
        if not self.kept:
            return None
        path = os.path.join(self.folder, REGISTRY)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def written_files(self) -> int:
        """How many files the guest left on it."""
        return sum(len(files) for _, _, files in os.walk(self.folder))

    def close(self) -> None:
        """Unlock it; remove it unless it is kept. May be called again."""
        if self._fd < 0:
            return
        if not self.kept:
            _remove(self.folder)
        os.close(self._fd)
        self._fd = -1


def volumes(
    drive: Drive, sysroot: Sysroot, grants: Iterable[Grant], protected: Iterable[str], refusals: Refusals
) -> list[Volume]:
    """`C:` with the sysroot's files shown in system32, and `Z:`."""
    private = Volume("C", "HarddiskVolume1", refusals=refusals)
    private.mount([], Grant(drive.folder, True, True))
    for folder in (sysroot.windows, sysroot.nls, sysroot.extra):
        if folder is not None:
            private.overlay(["windows", "system32"], folder)
    private.overlay(["windows"], sysroot.windows, PROGRAMS)
    host = Volume("Z", "HarddiskVolume2", refusals=refusals)
    for grant in grants:
        host.grant(grant)
    for path in protected:
        host.protect(path)
    return [private, host]


def _opened(folder: str) -> tuple[str, int]:
    """A drive that is kept, made if need be, and the descriptor that locks it."""
    os.makedirs(folder, exist_ok=True)
    fd = _open(os.path.realpath(folder))
    if not _lock(fd):
        os.close(fd)
        raise NexusError(
            f"the drive {folder} is in use by another nexus",
            hint="wait for it, or use another folder for --drive",
        )
    return folder, fd


def _fresh() -> tuple[str, int]:
    """A new private drive and the descriptor that locks it; those that nobody locks are removed.

    The folder above is locked meanwhile: a drive that is new and not yet locked must not look forgotten.
    """
    top = private_folder("drives")
    guard = _open(top)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        stale = _stale(top)
        folder = os.path.join(top, f"{os.getpid()}-{os.urandom(4).hex()}")
        os.mkdir(folder, 0o700)
        fd = _open(folder)
        _lock(fd)
    finally:
        os.close(guard)
    for path, held in stale:
        _remove(path)
        os.close(held)
    return folder, fd


def _stale(top: str) -> list[tuple[str, int]]:
    """Drives that no living process holds, and descriptors that hold them now."""
    found = []
    for name in os.listdir(top):
        path = os.path.join(top, name)
        try:
            fd = _open(path)
        except OSError:
            continue
        if _lock(fd):
            found.append((path, fd))
        else:
            os.close(fd)
    return found


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: str) -> None:
    """Most programs leave nothing on it but the folders that it was made with. Behind the second wall the top
    folder cannot be removed; it is the next run's to do.
    """
    try:
        if os.listdir(path):
            for name in reversed(_EVERY_FOLDER):
                os.rmdir(os.path.join(path, name))
        empty = not os.listdir(path)
    except OSError:
        empty = False
    if not empty:
        from shutil import rmtree

        rmtree(path, ignore_errors=True)
        return
    try:
        os.rmdir(path)
    except OSError:
        return
