"""Changes in a host folder, told by the host's kernel (inotify(7)): those of guests and those of others."""

from __future__ import annotations

import ctypes
import os
import struct

from nexus.nt.io.path_beneath import open_beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MODIFIED, ATTRIBUTES = 0x2, 0x4  # IN_MODIFY, IN_ATTRIB
MOVED_FROM, MOVED_TO, CREATED, DELETED = 0x40, 0x80, 0x100, 0x200
OVERFLOWED, IGNORED, FOLDER = 0x4000, 0x8000, 0x4000_0000
NAMES = MOVED_FROM | MOVED_TO | CREATED | DELETED
MOST_FOLDERS = 4096
_ONLY_DIRECTORY, _DO_NOT_FOLLOW_UNLINKED = 0x0100_0000, 0x0400_0000  # IN_ONLYDIR, IN_EXCL_UNLINK
_BUFFER = 64 << 10
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class Change:
    """One event: the host names from the watched folder on, IN_* bits, what joins the halves of a move."""

    __slots__ = ("cookie", "mask", "names")

    def __init__(self, names: tuple[str, ...], mask: int, cookie: int) -> None:
        self.names = names
        self.mask = mask
        self.cookie = cookie


class HostWatch:
    """Watches an open folder, and with `tree` those below it that are `visible` (by their names from it on);
    `fd` is readable while there are changes.

    Raises OSError when the host refuses. Folders beyond MOST_FOLDERS are not watched, which counts as an
    overflow.
    """

    __slots__ = ("_folder", "_mask", "_names", "_visible", "fd", "tree")

    def __init__(
        self, folder: int, mask: int, tree: bool, visible: Callable[[tuple[str, ...]], bool]
    ) -> None:
        self.fd = _checked(_libc.inotify_init1(_NONBLOCK_CLOEXEC))
        self.tree = tree
        self._folder = folder
        self._visible = visible
        self._mask = mask | (NAMES if tree else 0) | _ONLY_DIRECTORY | _DO_NOT_FOLLOW_UNLINKED
        self._names: dict[int, tuple[str, ...]] = {}
        try:
            self._add(folder, ())
        except BaseException:
            self.close()
            raise

    def _add(self, folder: int, names: tuple[str, ...]) -> bool:
        """Watch a folder given by descriptor and, for a tree, what is below; False when it was too much."""
        if len(self._names) >= MOST_FOLDERS:
            return False
        path = f"/proc/self/fd/{folder}".encode()
        self._names[_checked(_libc.inotify_add_watch(self.fd, path, self._mask))] = names
        if not self.tree:
            return True
        with os.scandir(path) as entries:
            below = [os.fsdecode(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
        return all([self._add_below((*names, name)) for name in below])

    def _add_below(self, names: tuple[str, ...]) -> bool:
        if not self._visible(names):
            return True
        try:
            opened = open_beneath(self._folder, names, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # gone already, or not ours to read
            return True
        try:
            return self._add(opened, names)
        finally:
            os.close(opened)

    def changes(self) -> Iterator[Change]:
        """What has happened since the last time."""
        while True:
            try:
                data = os.read(self.fd, _BUFFER)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watched, mask, cookie, length = _EVENT.unpack_from(data, at)
                name = os.fsdecode(data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0"))
                at += _EVENT.size + length
                if mask & IGNORED:
                    self._names.pop(watched, None)
                    continue
                above = self._names.get(watched, ())
                names = (*above, name) if name else above
                yield Change(names, mask, cookie)
                new = self.tree and mask & FOLDER and mask & (CREATED | MOVED_TO)
                if new and not self._add_below(names):
                    yield Change((), OVERFLOWED, 0)

    def close(self) -> None:
        os.close(self.fd)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
