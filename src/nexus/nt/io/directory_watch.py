"""NtNotifyChangeDirectoryFile: names that appear and vanish below a folder.

Only what guests of this kernel do is seen; what host programs change meanwhile is not reported.
"""

from __future__ import annotations

import struct

from nexus.nt.io.file import Operation
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.path import guest_name, wide
from nexus.nt.io.place import Place
from nexus.nt.status import Status

FILE_NOTIFY_CHANGE_FILE_NAME = 0x1
FILE_NOTIFY_CHANGE_DIR_NAME = 0x2
_ACTIONS = {"added": 1, "removed": 2, "modified": 3, "renamed from": 4, "renamed to": 5}


class DirectoryWatch:
    """The watch of one folder handle: collects changes between the calls that fetch them."""

    __slots__ = ("changes", "filter", "folder", "op", "overflowed", "tree")

    def __init__(self, folder: DiskFile, filter: int, tree: bool) -> None:
        self.folder = folder
        self.filter = filter
        self.tree = tree
        self.changes: list[tuple[int, str]] = []
        self.overflowed = False
        self.op: tuple[Operation, int, int] | None = None  # who waits, its buffer and length

    def changed(self, place: Place, action: str, directory: bool) -> None:
        above = self.folder.place
        depth = len(above.path)
        if place.volume is not above.volume or place.path[:depth] != above.path or len(place.path) <= depth:
            return
        if len(place.path) > depth + 1 and not self.tree:
            return
        wanted = FILE_NOTIFY_CHANGE_DIR_NAME if directory else FILE_NOTIFY_CHANGE_FILE_NAME
        if not self.filter & wanted:
            return
        name = "\\".join(guest_name(part) for part in place.path[depth:])
        self.changes.append((_ACTIONS[action], name))
        if self.op is not None:
            op, buffer, length = self.op
            self.op = None
            self.deliver(op, buffer, length)

    def deliver(self, op: Operation, buffer: int, length: int) -> None:
        """Report what was collected; too small a buffer means STATUS_NOTIFY_ENUM_DIR."""
        out, changes = b"", self.changes
        self.changes = []
        for number, (action, name) in enumerate(changes):
            text = wide(name)
            entry = struct.pack("<III", 0, action, len(text)) + text
            if number + 1 < len(changes):
                entry += bytes(-len(entry) % 4)
                entry = struct.pack("<I", len(entry)) + entry[4:]
            out += entry
        if len(out) > length:
            op.complete(Status.NOTIFY_ENUM_DIR)
            return
        op.write(buffer, out)
        op.complete(Status.SUCCESS, len(out))
