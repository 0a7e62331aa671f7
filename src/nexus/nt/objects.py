"""Kernel objects: what a handle names, what a thread waits for, what has a name in the object directory.

A class of kernel objects sets `type` (its `ObjectType`) and may override
    is_signaled_for(thread)   would a wait by this thread be satisfied now?
    acquire(thread)           a wait was satisfied: consume the signal; the result reaches `then` of the Wait
    last_handle_closed()      the handle count fell to zero
    handle_closed(process)    one handle of a process was closed
Setting `signaled` or calling `notify()` makes the waiting threads look again, in the order in which they
began.
"""

from __future__ import annotations

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from nexus.nt.namespace import Directory
    from nexus.nt.ps.process import Process
    from nexus.nt.ps.thread import Thread

_SPECIFIC_AND_STANDARD = 0x001F_FFFF


class ObjectType:
    """A type of kernel object: its NT name, what the generic rights stand for, and the rights that exist:
    `all` of them and `more`, which no generic right gives. `implied` are pairs: who gets the first gets the
    second with it.
    """

    __slots__ = ("all", "execute", "implied", "index", "name", "read", "valid", "write")
    known: ClassVar[list[ObjectType]] = []

    def __init__(
        self,
        name: str,
        *,
        read: int,
        write: int,
        execute: int,
        all: int,
        more: int = 0,
        implied: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.name = name
        self.read = access.READ_CONTROL | read
        self.write = access.READ_CONTROL | write
        self.execute = access.READ_CONTROL | execute
        self.all = all
        self.valid = all | more
        self.implied = implied
        self.index = len(ObjectType.known) + 2  # indices of NtQueryObject start here, as on Windows
        ObjectType.known.append(self)

    def map_access(self, desired: int) -> int:
        """Replace generic rights (and MAXIMUM_ALLOWED) by this type's own; drop those that do not exist."""
        granted = desired & ~0xF200_0000
        if desired & access.GENERIC_READ:
            granted |= self.read
        if desired & access.GENERIC_WRITE:
            granted |= self.write
        if desired & access.GENERIC_EXECUTE:
            granted |= self.execute
        if desired & (access.GENERIC_ALL | access.MAXIMUM_ALLOWED):
            granted |= self.all
        for right, follows in self.implied:
            if granted & right:
                granted |= follows
        return granted & (_SPECIFIC_AND_STANDARD | access.ACCESS_SYSTEM_SECURITY)

    def __repr__(self) -> str:
        return f"ObjectType({self.name})"


class KernelObject:
    """Base of all kernel objects."""

    __slots__ = ("_signaled", "directory", "handle_count", "name", "permanent", "security", "waiters")

    type = ObjectType(
        "Type", read=0, write=0, execute=0, all=access.STANDARD_RIGHTS_REQUIRED | 1, more=access.SYNCHRONIZE
    )
    waitable = True

    def __init__(self, signaled: bool = False) -> None:
        self._signaled = signaled
        self.name = ""
        self.directory: Directory | None = None
        self.permanent = False
        self.handle_count = 0
        self.security: bytes | None = None  # a self-relative security descriptor, when one was given
        self.waiters: list[Thread] = []

    @property
    def signaled(self) -> bool:
        return self._signaled

    @signaled.setter
    def signaled(self, value: bool) -> None:
        self._signaled = value
        if value and self.waiters:
            self.notify()

    def notify(self) -> None:
        """Let the waiting threads see whether they are satisfied now, first come first served."""
        for thread in list(self.waiters):
            thread.check_wait()

    def is_signaled_for(self, thread: Thread) -> bool:
        return self._signaled

    def acquire(self, thread: Thread) -> object:
        return None

    def abandoned(self) -> bool:
        """Was the signal left by an owner that died? (mutants)"""
        return False

    def handle_closed(self, process: Process) -> None:
        """One handle that `process` had is gone."""

    def last_handle_closed(self) -> None:
        """No handle is left; temporary objects lose their name before this is called."""

    @property
    def path(self) -> str:
        """The full name in the object directory, or an empty string."""
        if not self.name:
            return ""
        parent = self.directory.path if self.directory is not None else ""
        return f"{parent.rstrip(chr(92))}\\{self.name}" if parent else self.name

    def __repr__(self) -> str:
        return f"{self.type.name}({self.path!r})" if self.name else f"{self.type.name}()"


def require_waitable(target: KernelObject) -> KernelObject:
    if not target.waitable:
        raise NtError(Status.OBJECT_TYPE_MISMATCH)
    return target
