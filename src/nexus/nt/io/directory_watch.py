"""NtNotifyChangeDirectoryFile: what changes in a folder, by guests or by anybody else on the host."""

from __future__ import annotations

import struct

from nexus.base.errors import NotReversible
from nexus.nt.io import host_watch
from nexus.nt.io.file import Operation
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.host_watch import Change, HostWatch
from nexus.nt.io.path import guest_name, wide
from nexus.nt.io.place import Place, host_failure
from nexus.nt.poller import READABLE
from nexus.nt.status import Status

FILE_NOTIFY_CHANGE_FILE_NAME = 0x1
FILE_NOTIFY_CHANGE_DIR_NAME = 0x2
_NAMES = FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_DIR_NAME
_CONTENT = 0x18  # FILE_NOTIFY_CHANGE_SIZE and LAST_WRITE
_ATTRIBUTES = 0x164  # ATTRIBUTES, LAST_ACCESS, CREATION and SECURITY
_ADDED, _REMOVED, _MODIFIED, _RENAMED_FROM, _RENAMED_TO = range(1, 6)  # FILE_ACTION_*
_MOST_CHANGES = 4096


class DirectoryWatch:
    """The watch of one folder handle: collects changes between the calls that fetch them."""

    __slots__ = ("_host", "_watch", "changes", "filter", "folder", "op", "overflowed")

    def __init__(self, folder: DiskFile, filter: int, tree: bool) -> None:
        """Raises NtError when the host watches no more folders."""
        self.folder = folder
        self.filter = filter
        self.changes: list[tuple[int, str]] = []
        self.overflowed = False
        self.op: tuple[Operation, int, int] | None = None  # who waits, its buffer and length
        self._host: HostWatch | None = None
        if folder.fd < 0:  # a folder that only leads to grants never changes
            return
        mask = (
            (host_watch.NAMES if filter & _NAMES else 0)
            | (host_watch.MODIFIED if filter & _CONTENT else 0)
            | (host_watch.ATTRIBUTES if filter & _ATTRIBUTES else 0)
        )
        try:
            self._host = HostWatch(folder.fd, mask, tree, self._visible)
        except OSError as error:
            raise host_failure(error) from error
        poller = folder.io.kernel.poller
        self._watch = poller.watch(self._host.fd, READABLE, lambda events: self.collect(), passive=True)

    def snapshot_outside(self) -> None:
        """See `nt/graph.py`."""
        if self._host is not None:
            raise NotReversible(
                f"the program watches the folder {self.folder.dos_path}; what the host has told of it "
                "cannot be told again"
            )

    def _visible(self, names: tuple[str, ...]) -> bool:
        """Whether a folder below has no rules of its own: what is mounted there may be hidden."""
        place = self.folder.place
        below = Place(place.volume, place.root, (), (*place.path, *names), None)
        return not place.volume.holds_mount(below)

    def wait(self, op: Operation, buffer: int, length: int) -> None:
        """Report the next changes to `op`."""
        self.op = op, buffer, length
        if self._host is not None:
            self._watch.passive = False

    def forget(self, op: Operation) -> None:
        """`op` waits no more."""
        if self.op is not None and self.op[0] is op:
            self.op = None
            if self._host is not None:
                self._watch.passive = True

    def collect(self) -> None:
        """Fetch what has happened and report it to who waits."""
        if self._host is None:
            return
        found = list(self._host.changes())
        for number, change in enumerate(found):
            self._add(change, found[number - 1 : number], found[number + 1 : number + 2])
        if self.op is not None and (self.changes or self.overflowed):
            op, buffer, length = self.op
            self.forget(op)
            self.deliver(op, buffer, length)

    def _add(self, change: Change, before: list[Change], after: list[Change]) -> None:
        mask = change.mask
        if mask & host_watch.OVERFLOWED or len(self.changes) >= _MOST_CHANGES:
            self.overflowed = True
            return
        moved = [other for other in (*before, *after) if change.cookie and other.cookie == change.cookie]
        if mask & host_watch.MOVED_FROM:
            action = _RENAMED_FROM if moved else _REMOVED
        elif mask & host_watch.MOVED_TO:
            action = _RENAMED_TO if moved else _ADDED
        elif mask & (host_watch.CREATED | host_watch.DELETED):
            action = _ADDED if mask & host_watch.CREATED else _REMOVED
        else:
            action = _MODIFIED
        if action != _MODIFIED:
            folder = mask & host_watch.FOLDER
            wanted = FILE_NOTIFY_CHANGE_DIR_NAME if folder else FILE_NOTIFY_CHANGE_FILE_NAME
            if not self.filter & wanted:
                return
        if change.names:
            self.changes.append((action, "\\".join(map(guest_name, change.names))))

    def deliver(self, op: Operation, buffer: int, length: int) -> None:
        """Report what was collected; what was too much for the buffer or the host is told by
        STATUS_NOTIFY_ENUM_DIR.
        """
        out, changes = b"", self.changes
        self.changes, overflowed, self.overflowed = [], self.overflowed, False
        for number, (action, name) in enumerate(changes):
            text = wide(name)
            entry = struct.pack("<III", 0, action, len(text)) + text
            if number + 1 < len(changes):
                entry += bytes(-len(entry) % 4)
                entry = struct.pack("<I", len(entry)) + entry[4:]
            out += entry
        if overflowed or len(out) > length:
            op.complete(Status.NOTIFY_ENUM_DIR)
            return
        op.write(buffer, out)
        op.complete(Status.SUCCESS, len(out))

    def close(self) -> None:
        """The folder's last handle is gone."""
        if self._host is not None:
            self.folder.io.kernel.poller.unwatch(self._watch)
            self._host.close()
            self._host = None
