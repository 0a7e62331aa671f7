"""The walk from a guest's name to a place: one name after the other, from an opened folder.

A link is never followed by the host: its target is walked again from the top of the volume, so the rights
that count are those of the file itself, wherever the name led.
"""

from __future__ import annotations

import os
import stat

from nexus.nt.errors import NtError
from nexus.nt.io.path import BadName, guest_name, host_name
from nexus.nt.io.place import MountNode, Place, Root
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nexus.nt.io.volume import Volume

MAX_LINKS = 40


class Walk:
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
        self.node: MountNode | None = self.volume.top
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
