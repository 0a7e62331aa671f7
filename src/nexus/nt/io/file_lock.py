"""Byte-range locks of one file."""

from __future__ import annotations

from nexus.nt.errors import NtError
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.io.file import FileObject, Operation
    from nexus.nt.ps.process import Process


class Lock:
    """A locked range; it belongs to one open file and the process that took it."""

    __slots__ = ("end", "exclusive", "file", "offset", "process")

    def __init__(self, file: FileObject, process: Process, offset: int, length: int, exclusive: bool) -> None:
        if offset < 0 or length < 0 or offset + length > 1 << 64:
            raise NtError(Status.INVALID_LOCK_RANGE)
        self.file = file
        self.process = process
        self.offset = offset
        self.end = offset + length
        self.exclusive = exclusive

    def overlaps(self, offset: int, end: int) -> bool:
        return self.offset < end and offset < self.end


class LockTable:
    """`held` locks, and operations `waiting` for one, first come first served."""

    __slots__ = ("held", "waiting")

    def __init__(self) -> None:
        self.held: list[Lock] = []
        self.waiting: list[tuple[Operation, Lock]] = []

    def take(self, lock: Lock) -> bool:
        """Add the lock unless it conflicts with one that is held."""
        for other in self.held:
            own = (
                other.file is lock.file and not lock.exclusive
            )  # a shared one may lie over one's own exclusive one
            if other.overlaps(lock.offset, lock.end) and (lock.exclusive or (other.exclusive and not own)):
                return False
        self.held.append(lock)
        return True

    def release(self, file: FileObject, offset: int, length: int) -> None:
        mine = [
            lock
            for lock in self.held
            if lock.file is file and lock.offset == offset and lock.end == offset + length
        ]
        if mine:
            self.held.remove(next((lock for lock in mine if lock.exclusive), mine[0]))
            self._grant()
            return
        raise NtError(Status.RANGE_NOT_LOCKED)

    def release_file(self, file: FileObject) -> None:
        if any(lock.file is file for lock in self.held):
            self.held = [lock for lock in self.held if lock.file is not file]
            self._grant()

    def _grant(self) -> None:
        waiting, self.waiting = self.waiting, []
        for op, lock in waiting:
            if self.take(lock):
                op.complete(Status.SUCCESS)
            else:
                self.waiting.append((op, lock))

    def check(self, file: FileObject, process: Process, offset: int, length: int, writing: bool) -> None:
        """Raise STATUS_FILE_LOCK_CONFLICT when reading or writing the range is locked out."""
        for lock in self.held:
            if not lock.overlaps(offset, offset + length):
                continue
            if lock.file is not file and (writing or lock.exclusive):
                raise NtError(Status.FILE_LOCK_CONFLICT)
            if lock.file is file and writing and not lock.exclusive:
                raise NtError(Status.FILE_LOCK_CONFLICT)
