"""Volumes: what of the host a guest may see, and how an NT path becomes a host file.

`Volume("Z")` mirrors the host's tree: only granted folders (`Grant`) and the folders above them exist.
`Volume("C")` is one private folder plus read-only overlays (the sysroot's DLLs appear in
windows\\\\system32).

Resolution walks host names one by one from an opened folder and never follows a link on its own: a link's
target is walked again from the top of the volume, so the rights that count are those of the file itself,
wherever the name led. The result, a `Place`, holds link-free names beneath one opened folder (`Root`);
opening it goes through `open_beneath`, which fails if anything changed meanwhile.

Lookup ignores case and keeps it: the exact spelling wins, else the first match in byte order.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from nexus.base.errors import NexusError
from nexus.nt.errors import NtError
from nexus.nt.io.path import BadName, guest_name, host_name, short_name, upcase
from nexus.nt.io.path_beneath import open_beneath
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

MAX_LINKS = 40
_NEVER = ("proc", "sys", "dev")
_SETTLED = 20_000_000  # ns; a folder changed this recently may change again within the same timestamp

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


_HINTS = {
    errno.ENOENT: "name an existing folder",
    errno.ENOTDIR: "name an existing folder",
    errno.EMFILE: "raise the limit with: ulimit -n",
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
            hint = _HINTS.get(error.errno or 0, "")
            raise NexusError(f"cannot open {host}: {error.strerror}", hint=hint) from error

    def close(self) -> None:
        """Give the descriptor back. May be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class _Node:
    """One host folder on the way to a granted one."""

    __slots__ = ("children", "root")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
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


class _Walk:
    """One resolution. `path` is where it has come, `pending` the names still to go (last one first).

    Beneath a granted folder (`root`), `names` lead from it to here and `fd` is this folder; above any grant
    there is only `node`, the place in the tree of mounts. A link's target is put in front of what is
    pending and the walk starts again from the top.
    """

    __slots__ = ("fd", "info", "links", "names", "node", "path", "pending", "root", "volume")

    def __init__(self, volume: Volume, components: Iterable[str]) -> None:
        self.volume = volume
        self.pending: list[
            tuple[str, bool]
        ] = []  # (name, whether it comes from a link: then it is the host's)
        for component in components:
            try:
                self.pending.append((host_name(component), False))
            except BadName:
                raise NtError(Status.OBJECT_NAME_INVALID) from None
        self.pending.reverse()
        self.links = 0
        self.fd = -1
        self.restart([])

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def restart(self, target: list[str]) -> None:
        """Go on from the top of the volume with these host names first."""
        self.close()
        self.pending += [(part, True) for part in reversed(target)]
        self.path: list[str] = []
        self.node: _Node | None = self.volume.top
        self.root = self.volume.top.root
        self.names = self.root.names if self.root is not None else ()
        self.info: os.stat_result | None = None

    def follow(self, target: list[str]) -> None:
        """Go where a link leads."""
        self.links += 1
        if self.links > MAX_LINKS:
            raise NtError(Status.ACCESS_DENIED)
        self.restart(target)

    def run(self) -> Place:
        while self.pending:
            name, literal = self.pending.pop()
            if name == "..":
                self.restart(self.path[:-1])
            elif name != ".":
                if self.root is None:
                    self.step_above(name, literal)
                else:
                    self.step_beneath(self.root, name, literal)
        return self.place()

    def step_above(self, name: str, literal: bool) -> None:
        """One name above any grant: only the way to grants is there, and links that lead into it."""
        volume = self.volume
        real = volume.virtual_child(self.node, name, literal)
        if real is not None:
            self.enter(real)
            return
        target = volume.virtual_link(self.path, name)
        if target is not None:
            self.follow(target)
        elif volume.on_host(self.path, name):
            raise volume.refused(self.path, name, self.pending)
        elif self.pending:
            raise NtError(Status.OBJECT_PATH_NOT_FOUND)
        else:
            self.path.append(name)
            self.node = None

    def step_beneath(self, root: Root, name: str, literal: bool) -> None:
        """One name in a granted folder."""
        volume = self.volume
        if not root.read:
            raise volume.refused(self.path, name, self.pending)
        if self.fd < 0:
            self.fd = volume.folder(root, self.names)
        real, self.info = volume.child(self.fd, name, literal)
        if self.info is not None and stat.S_ISLNK(self.info.st_mode):
            self.follow(volume.target(self.fd, real, self.path))
            return
        self.enter(real)

    def enter(self, real: str) -> None:
        """Go into (or end at) the child with that real name; grants below have their own rights."""
        self.path.append(real)
        self.node = self.node.children.get(real) if self.node is not None else None
        if self.node is not None and self.node.root is not None:
            self.close()
            self.root, self.names, self.info = self.node.root, self.node.root.names, None
            if not self.root.read:
                raise self.volume.refused(self.path, "", self.pending)
        elif self.root is not None:
            self.enter_real(real)

    def enter_real(self, real: str) -> None:
        overlaid = self.volume.overlaid(self.path) if self.info is None else None
        if overlaid is not None:
            self.root, self.names, self.info = overlaid.root, overlaid.names, overlaid.info
        elif self.info is None and self.pending:
            raise NtError(Status.OBJECT_PATH_NOT_FOUND)
        else:
            self.names = (*self.names, real)
        self.volume.check_kind(self.info, self.path, bool(self.pending))
        if self.pending:
            self.descend(real)

    def descend(self, name: str) -> None:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            below = os.open(name, flags, dir_fd=self.fd)
        except OSError as error:
            raise NtError(Status.OBJECT_PATH_NOT_FOUND) from error
        self.close()
        self.fd = below

    def place(self) -> Place:
        node, root, path = self.node, self.root, tuple(self.path)
        if root is None:
            if node is None:
                return Place(self.volume, None, (), path, None)
            children = sorted(guest_name(name) for name in node.children)
            return Place(self.volume, None, (), path, None, children)
        if self.info is None and ((node is not None and node.root is root) or not path):
            self.info = self.volume.root_info(root, self.path)
        return Place(self.volume, root, self.names, path, self.info)


class Volume:
    """One drive. `letter` is its drive letter, `device` its NT device name, `serial` its volume serial
    number.
    """

    def __init__(self, letter: str, device: str, label: str = "", refusals: Refusals | None = None) -> None:
        self.letter = letter
        self.device = device
        self.label = label
        self.serial = int.from_bytes(f"nx{letter}:".encode(), "little")
        self.guid = f"6e780000-0000-0000-0000-0000000000{ord(letter):02x}"
        self.refusals = refusals if refusals is not None else Refusals()
        self.top = _Node()
        self._quiet = False
        self._overlays: dict[tuple[str, ...], list[tuple[Root, Container[str] | None]]] = {}
        self._listings: dict[tuple[int, int], tuple[int, dict[str, str]]] = {}

    # building --------------------------------------------------------------------------------------

    def mount(self, names: Sequence[str], grant: Grant) -> None:
        """Make a granted host folder appear at `names` (host spelling) of this volume."""
        node = self.top
        for name in names:
            node = node.children.setdefault(name, _Node())
        self._root_at(node, grant.path, grant.read, grant.write)

    @staticmethod
    def _root_at(node: _Node, host: str, read: bool, write: bool) -> None:
        root = Root(host, read, write)
        if node.root is not None:
            node.root.close()
        node.root = root

    def grant(self, grant: Grant) -> None:
        """Mount a granted host path at its own host path (the Z: drive)."""
        names = [part for part in grant.path.split("/") if part]
        if names and names[0] in _NEVER:
            raise NexusError(
                f"{grant.path} cannot be granted", hint="devices and /proc are never shown to a guest"
            )
        self.mount(names, grant)

    def protect(self, path: str) -> None:
        """Take away writing from a host path and all grants in it, whatever was granted. Call after the
        grants.
        """
        node, root = self.top, self.top.root
        for name in (part for part in os.path.realpath(path).split("/") if part):
            if root is None and name not in node.children:
                return  # no grant leads there, and a node would show the way to it
            node = node.children.setdefault(name, _Node())
            root = node.root or root
        if root is not None and os.path.exists(path):
            self._root_at(node, os.path.realpath(path), root.read, False)
        todo = [node]
        while todo:
            below = todo.pop()
            if below.root is not None:
                below.root.write = False
            todo.extend(below.children.values())

    def overlay(self, names: Sequence[str], folder: str, only: Container[str] | None = None) -> None:
        """Show the files of a host folder, lower-case names, read-only inside the guest folder `names`: all
        of them or only some.
        """
        root = Root(os.path.realpath(folder), True, False, overlay=True)
        self._overlays.setdefault(tuple(map(upcase, names)), []).append((root, only))

    def close(self) -> None:
        """Give the descriptors back. May be called again."""
        todo = [self.top]
        while todo:
            node = todo.pop()
            if node.root is not None:
                node.root.close()
            todo.extend(node.children.values())
        for roots in self._overlays.values():
            for root, _ in roots:
                root.close()

    # looking up ------------------------------------------------------------------------------------

    def find(self, components: Iterable[str], quiet: bool = False) -> Place:
        """Resolve guest components; `quiet` records no refusals.

        Raises NtError: the path leads nowhere, is refused, or has a bad name.
        """
        self._quiet = quiet
        walk = _Walk(self, components)
        try:
            return walk.run()
        finally:
            walk.close()

    def refused(self, path: list[str], name: str, pending: list[tuple[str, bool]]) -> NtError:
        whole = [*path, *([name] if name else []), *(part for part, _ in reversed(pending))]
        if not self._quiet:
            self.refusals.add("/" + "/".join(whole), "read")
        return NtError(Status.ACCESS_DENIED)

    @staticmethod
    def on_host(path: list[str], name: str) -> bool:
        """Whether the host has a name beside the way to a grant: absent names are absent, others refused."""
        return os.path.lexists("/" + "/".join([*path, name]))

    @staticmethod
    def virtual_child(node: _Node | None, name: str, literal: bool) -> str | None:
        if node is None or name in node.children:
            return name if node is not None else None
        if literal:
            return None
        wanted = upcase(guest_name(name))
        names = sorted(node.children)
        for spelled in (upcase, short_name):
            for real in names:
                if spelled(guest_name(real)) == wanted:
                    return real
        return None

    @staticmethod
    def virtual_link(path: list[str], name: str) -> list[str] | None:
        """Where a host link beside the way to a grant leads, as components from the top; None if it is
        no link.
        """
        here = "/" + "/".join(path)
        try:
            target = os.readlink(os.path.join(here, name))
        except OSError:
            return None
        return [part for part in os.path.normpath(os.path.join(here, target)).split("/") if part]

    def target(self, fd: int, name: str, path: list[str]) -> list[str]:
        """Components from the top of the volume of a link's target; `..` is left for the walk."""
        try:
            target = os.readlink(name, dir_fd=fd)
        except OSError as error:
            raise host_failure(error) from error
        parts = [part for part in target.split("/") if part]
        if target.startswith("/"):
            if self.top.root is not None and self.top.root.host != "/":
                raise self.refused(path, name, [])  # a private drive has no host tree around it
            return parts
        if parts.count("..") > len(path) and self.top.root is not None:
            raise self.refused(path, name, [])
        return [*path, *parts]

    def folder(self, root: Root, names: tuple[str, ...]) -> int:
        try:
            return open_beneath(root.fd, names, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NtError(Status.OBJECT_PATH_NOT_FOUND) from error
            raise host_failure(error) from error

    def child(self, fd: int, name: str, literal: bool) -> tuple[str, os.stat_result | None]:
        """The real name and lstat of a folder's child; the name as given and None if there is none."""
        try:
            return name, os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise host_failure(error) from error
        if literal:
            return name, None
        listing = self._listing(fd)
        wanted = upcase(guest_name(name))
        real = listing.get(wanted)
        if real is None and "~" in wanted:
            real = next(
                (host for host in sorted(listing.values()) if short_name(guest_name(host)) == wanted), None
            )
        if real is None:
            return name, None
        try:
            return real, os.stat(real, dir_fd=fd, follow_symlinks=False)
        except OSError:
            return name, None  # removed since it was listed

    def _listing(self, fd: int) -> dict[str, str]:
        """Upper-cased guest name -> host name of a folder, cached until the folder's timestamp moves."""
        info = os.fstat(fd)
        key = info.st_dev, info.st_ino
        known = self._listings.get(key)
        if known is not None and known[0] == info.st_mtime_ns:
            return known[1]
        try:
            readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        except OSError:
            return {}  # a folder that can be passed but not listed: only exact names are found
        try:
            entries = sorted(os.listdir(readable), reverse=True)
        finally:
            os.close(readable)
        listing = {upcase(guest_name(entry)): entry for entry in entries}
        if len(self._listings) > 4096:
            self._listings.clear()
        if abs(time.time_ns() - info.st_mtime_ns) > _SETTLED:
            self._listings[key] = info.st_mtime_ns, listing
        return listing

    def overlaid(self, path: list[str]) -> Place | None:
        roots = self._overlays.get(tuple(map(upcase, path[:-1])))
        if roots is None:
            return None
        name = path[-1].lower()
        for root, only in roots:
            if only is not None and name not in only:
                continue
            try:
                info = os.stat(name, dir_fd=root.fd)
            except OSError:
                continue
            if stat.S_ISREG(info.st_mode):
                return Place(self, root, (name,), tuple(path), info)
        return None

    def overlaid_names(self, place: Place) -> list[str]:
        """Names that overlays add to a folder."""
        names: set[str] = set()
        for root, only in self._overlays.get(tuple(map(upcase, place.path)), ()):
            names.update(name for name in os.listdir(root.host) if only is None or name in only)
        return sorted(names)

    def check_kind(self, info: os.stat_result | None, path: list[str], more: bool) -> None:
        if info is None:
            return
        if path[0] in _NEVER and self.top.root is not None and self.top.root.host == "/":
            raise self.refused(path, "", [])
        if stat.S_ISDIR(info.st_mode):
            return
        if more:
            raise NtError(Status.OBJECT_PATH_NOT_FOUND)
        if not stat.S_ISREG(info.st_mode):
            raise self.refused(path, "", [])

    def root_info(self, root: Root, path: list[str]) -> os.stat_result | None:
        try:
            if not root.names:
                info = os.fstat(root.fd)
            else:
                info = os.stat(root.names[-1], dir_fd=root.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        self.check_kind(info, path or [""], False)
        return info

    def refreshed(self, place: Place) -> Place:
        """The same place with its facts looked up again."""
        if place.virtual is not None or place.root is None:
            return place
        return self.find([guest_name(name) for name in place.path])

    def holds_mount(self, place: Place) -> bool:
        """Whether a folder is, or leads to, a mounted one: it must keep its name."""
        node: _Node | None = self.top
        for name in place.path:
            node = node.children.get(name) if node is not None else None
        return node is not None

    def leads_on(self, place: Place) -> list[str]:
        """Host names of mounted children of a real folder."""
        node: _Node | None = self.top
        for name in place.path:
            node = node.children.get(name) if node is not None else None
        return sorted(node.children) if node is not None else []
