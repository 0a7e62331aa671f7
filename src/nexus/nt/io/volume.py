"""Volumes: what of the host a guest may see, and how an NT path becomes a host file.

`Volume("Z")` mirrors the host's tree: only granted folders (`Grant`) and the folders above them exist.
`Volume("C")` is one private folder plus read-only overlays (the sysroot's DLLs appear in
windows\\\\system32). `volume_walk.py` is the way from a name to a `Place` (`place.py`).

Lookup ignores case and keeps it: the exact spelling wins, else the first match in byte order.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from nexus.base.errors import NexusError
from nexus.nt.errors import NtError
from nexus.nt.io.path import guest_name, short_name, upcase
from nexus.nt.io.path_beneath import open_beneath
from nexus.nt.io.place import Grant, MountNode, Place, Refusals, Root, host_failure
from nexus.nt.io.volume_walk import Walk
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

_NEVER = ("proc", "sys", "dev")
_SETTLED = 20_000_000  # ns; a folder changed this recently may change again within the same timestamp


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
        self.top = MountNode()
        self._wanted = ""
        self._overlays: dict[tuple[str, ...], list[tuple[Root, Container[str] | None]]] = {}
        self._listings: dict[tuple[int, int], tuple[int, dict[str, str]]] = {}

    # building --------------------------------------------------------------------------------------

    def mount(self, names: Sequence[str], grant: Grant) -> None:
        """Make a granted host folder appear at `names` (host spelling) of this volume."""
        node = self.top
        for name in names:
            node = node.children.setdefault(name, MountNode())
        self._root_at(node, grant.path, grant.read, grant.write)

    @staticmethod
    def _root_at(node: MountNode, host: str, read: bool, write: bool) -> None:
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
            node = node.children.setdefault(name, MountNode())
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

    def find(self, components: Iterable[str], wanted: str = "read") -> Place:
        """Resolve guest components; a refusal on the way is recorded as what is `wanted` ("read", "write", or
        nothing: then it is not recorded).

        Raises NtError: the path leads nowhere, is refused, or has a bad name.
        """
        self._wanted = wanted
        walk = Walk(self, components)
        try:
            return walk.run()
        finally:
            walk.close()

    def refused(self, path: list[str], name: str, pending: list[tuple[str, bool]]) -> NtError:
        whole = [*path, *([name] if name else []), *(part for part, _ in reversed(pending))]
        if self._wanted:
            self.refusals.add("/" + "/".join(whole), self._wanted)
        return NtError(Status.ACCESS_DENIED)

    @staticmethod
    def on_host(path: list[str], name: str) -> bool:
        """Whether the host has a name beside the way to a grant: absent names are absent, others refused."""
        return os.path.lexists("/" + "/".join([*path, name]))

    @staticmethod
    def virtual_child(node: MountNode | None, name: str, literal: bool) -> str | None:
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
        node: MountNode | None = self.top
        for name in place.path:
            node = node.children.get(name) if node is not None else None
        return node is not None

    def leads_on(self, place: Place) -> list[str]:
        """Host names of mounted children of a real folder."""
        node: MountNode | None = self.top
        for name in place.path:
            node = node.children.get(name) if node is not None else None
        return sorted(node.children) if node is not None else []
