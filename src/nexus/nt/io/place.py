"""Places: resolved names of a volume, and the granted host folders that they lie beneath.

A `Place` holds link-free names beneath one opened folder (`Root`); opening it goes through `open_beneath`,
which fails if anything changed since it was resolved.
"""

from __future__ import annotations

import errno
import os
import stat

from nexus.base.errors import NexusError, host_failed
from nexus.nt.errors import NtError
from nexus.nt.io.path import guest_name
from nexus.nt.io.path_beneath import open_beneath
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from nexus.nt.io.volume import Volume

    T = TypeVar("T")

_STATUS_OF_ERRNO = {
    errno.EACCES: Status.ACCESS_DENIED,
    errno.EPERM: Status.ACCESS_DENIED,
    errno.EROFS: Status.ACCESS_DENIED,
    errno.ELOOP: Status.ACCESS_DENIED,
    errno.ENOENT: Status.OBJECT_NAME_NOT_FOUND,
    errno.ENOTDIR: Status.OBJECT_PATH_NOT_FOUND,
    errno.EEXIST: Status.OBJECT_NAME_COLLISION,
    errno.EISDIR: Status.FILE_IS_A_DIRECTORY,
    errno.ENOTEMPTY: Status.DIRECTORY_NOT_EMPTY,
    errno.ENOSPC: Status.DISK_FULL,
    errno.EDQUOT: Status.DISK_FULL,
    errno.EFBIG: Status.DISK_FULL,
    errno.EMFILE: Status.TOO_MANY_OPENED_FILES,
    errno.ENFILE: Status.TOO_MANY_OPENED_FILES,
    errno.ENAMETOOLONG: Status.OBJECT_NAME_INVALID,
    errno.EXDEV: Status.NOT_SAME_DEVICE,
    errno.EBUSY: Status.SHARING_VIOLATION,
    errno.ETXTBSY: Status.SHARING_VIOLATION,
    errno.EINVAL: Status.INVALID_PARAMETER,
    errno.EIO: Status.IO_DEVICE_ERROR,
    errno.ENOMEM: Status.NO_MEMORY,
    errno.EPIPE: Status.PIPE_DISCONNECTED,
    errno.EMLINK: Status.TOO_MANY_LINKS,
}


def host_failure(error: OSError) -> NtError:
    """The NTSTATUS of a failed host call."""
    return NtError(_STATUS_OF_ERRNO.get(error.errno or 0, Status.UNSUCCESSFUL))


class Grant:
    """A host folder or file the guest may read, and may write if `write`; `read=False` hides it."""

    __slots__ = ("path", "read", "write")

    def __init__(self, path: str, read: bool = True, write: bool = False) -> None:
        self.path = os.path.realpath(path)
        self.read = read
        self.write = write


class Refusals:
    """What was refused, by host path, for the lines at exit: `seen` maps path -> "read" or "write"."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    def add(self, path: str, kind: str) -> None:
        if kind == "write" or path not in self.seen:
            self.seen[path] = kind


class Root:
    """An opened host folder that names are resolved beneath. `names` lead from it to the granted file,
    if it is one.
    """

    __slots__ = ("fd", "host", "names", "overlay", "read", "write")
    snapshot_descriptors = ("fd",)

    def __init__(self, host: str, read: bool, write: bool, overlay: bool = False) -> None:
        self.overlay = overlay  # of the sysroot: no flag could make it writable
        self.host = host
        self.read = read
        self.write = write
        if os.path.isdir(host):
            self.names: tuple[str, ...] = ()
            folder = host
        else:
            folder, name = os.path.split(host)
            self.names = (name,)
        try:
            self.fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            hint = host_failed(error).hint or "name an existing folder"
            raise NexusError(f"cannot open {host}: {error.strerror}", hint=hint) from error

    def close(self) -> None:
        """Give the descriptor back. May be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class MountNode:
    """One host folder on the way to a granted one."""

    __slots__ = ("children", "root")

    def __init__(self) -> None:
        self.children: dict[str, MountNode] = {}
        self.root: Root | None = None


class Place:
    """A resolved name of a volume, existing (`info` is its lstat) or not (`info` is None)."""

    __slots__ = ("info", "names", "path", "root", "virtual", "volume")

    def __init__(
        self,
        volume: Volume,
        root: Root | None,
        names: tuple[str, ...],
        path: tuple[str, ...],
        info: os.stat_result | None,
        virtual: list[str] | None = None,
    ) -> None:
        self.volume = volume
        self.root = root
        self.names = names  # beneath root, link-free, host spelling
        self.path = path  # from the top of the volume, host spelling
        self.info = info
        self.virtual = virtual  # guest names of the children of a folder that only leads to grants

    @property
    def guest_path(self) -> str:
        """`\\\\dir\\\\file`, `\\\\` for the top."""
        return "\\" + "\\".join(map(guest_name, self.path))

    @property
    def host_path(self) -> str:
        if self.root is None:
            return "/" + "/".join(self.path)
        return os.path.join(self.root.host, *self.names[len(self.root.names) :])

    @property
    def is_directory(self) -> bool:
        return self.virtual is not None or (self.info is not None and stat.S_ISDIR(self.info.st_mode))

    @property
    def writable(self) -> bool:
        return self.root is not None and self.root.write

    def on_opened_parent(self, use: Callable[[str], T]) -> T:
        """Call `use` with a path that names this file through its opened folder."""
        parent, name = self.open_parent()
        try:
            return use(f"/proc/self/fd/{parent}/{name}")
        finally:
            os.close(parent)

    def refuse(self, kind: str) -> NtError:
        """Record that `kind` ("read" or "write") was not granted here, and the error to raise."""
        if self.root is None or not self.root.overlay:
            self.volume.refusals.add(self.host_path, kind)
        return NtError(Status.ACCESS_DENIED)

    def open(self, flags: int, mode: int = 0o666) -> int:
        """A host descriptor of the file; only regular files and folders are ever opened."""
        if self.root is None:
            raise NtError(Status.ACCESS_DENIED)
        try:
            fd = open_beneath(self.root.fd, self.names, flags, mode)
        except OSError as error:
            raise host_failure(error) from error
        kind = os.fstat(fd).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            os.close(fd)
            raise self.refuse("read")
        return fd

    def open_parent(self) -> tuple[int, str]:
        """(descriptor of the folder holding this name, host name in it); the caller closes the descriptor."""
        if self.root is None or not self.names:
            raise NtError(Status.ACCESS_DENIED)
        flags = os.O_PATH | os.O_DIRECTORY
        try:
            return open_beneath(self.root.fd, self.names[:-1], flags), self.names[-1]
        except OSError as error:
            raise host_failure(error) from error
