"""File objects and operations on them: what all devices have in common.

A `FileObject` is what a file handle refers to. A device's file class implements the operations it has; the
others answer STATUS_INVALID_DEVICE_REQUEST. An operation gets an `Operation`, which carries everything
needed to report its end: it returns a status when it is done at once, or STATUS_PENDING after it has kept the
`Operation`, whose `complete` it calls later. `run` is the frame of every I/O syscall around that.
"""

from __future__ import annotations

import struct

from nexus.base.errors import GuestFault
from nexus.nt import access
from nexus.nt.apc import Apc
from nexus.nt.errors import NtError
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.status import Status
from nexus.nt.wait import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.nt.call import Call
    from nexus.nt.io.completion import IoCompletion
    from nexus.nt.io.device_io import IoManager
    from nexus.nt.ps.process import Process
    from nexus.nt.ps.thread import Thread
    from nexus.nt.sync import Event

FILE_DIRECTORY_FILE = 0x1
FILE_WRITE_THROUGH = 0x2
FILE_SEQUENTIAL_ONLY = 0x4
FILE_NO_INTERMEDIATE_BUFFERING = 0x8
FILE_SYNCHRONOUS_IO_ALERT = 0x10
FILE_SYNCHRONOUS_IO_NONALERT = 0x20
FILE_NON_DIRECTORY_FILE = 0x40
FILE_DELETE_ON_CLOSE = 0x1000
FILE_OPEN_BY_FILE_ID = 0x2000
FILE_OPEN_REPARSE_POINT = 0x20_0000
SYNCHRONOUS = FILE_SYNCHRONOUS_IO_ALERT | FILE_SYNCHRONOUS_IO_NONALERT

FILE_SUPERSEDE, FILE_OPEN, FILE_CREATE, FILE_OPEN_IF, FILE_OVERWRITE, FILE_OVERWRITE_IF = range(6)
FILE_SUPERSEDED, FILE_OPENED, FILE_CREATED, FILE_OVERWRITTEN = range(4)

FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_SHARE_DELETE = 1, 2, 4

FILE_SKIP_COMPLETION_PORT_ON_SUCCESS = 1
FILE_SKIP_SET_EVENT_ON_HANDLE = 2

FILE_DEVICE_CD_ROM = 0x2
FILE_DEVICE_DISK = 0x7
FILE_DEVICE_DISK_FILE_SYSTEM = 0x8
FILE_DEVICE_MAILSLOT = 0xC
FILE_DEVICE_NAMED_PIPE = 0x11
FILE_DEVICE_NULL = 0x15
FILE_DEVICE_NETWORK = 0x12

FIRST_ERROR = 0xC000_0000  # statuses below are warnings: the operation has ended and is reported

_MODE_OPTIONS = 0x3E  # the option bits that FileModeInformation shows


class OpenRequest:
    """What NtCreateFile asked of a device: mapped access, sharing, disposition, options, attributes."""

    __slots__ = (
        "allocation",
        "attributes",
        "call",
        "desired",
        "disposition",
        "ea",
        "maximum",
        "options",
        "rest",
        "root",
        "share",
    )

    def __init__(
        self,
        call: Call,
        rest: str,
        desired: int,
        share: int,
        disposition: int,
        options: int,
        attributes: int = 0,
        allocation: int = 0,
        ea: bytes = b"",
        root: FileObject | None = None,
    ) -> None:
        self.call = call
        self.rest = rest  # the name below the device, with its leading backslash, or ""
        self.maximum = bool(desired & access.MAXIMUM_ALLOWED)
        self.desired = FileObject.type.map_access(desired & ~access.MAXIMUM_ALLOWED)
        self.share = share
        self.disposition = disposition
        self.options = options
        self.attributes = attributes
        self.allocation = allocation
        self.ea = ea
        self.root = root

    @property
    def io(self) -> IoManager:
        return self.call.kernel.io


class FileObject(KernelObject):
    """An open file of some device. `granted` are the rights it was opened with."""

    __slots__ = (
        "completion_flags",
        "completion_key",
        "granted",
        "options",
        "pending",
        "port",
        "position",
        "share",
    )

    type = ObjectType("File", read=0x120089, write=0x120116, execute=0x1200A0, all=0x1F01FF)
    device_type = FILE_DEVICE_DISK
    characteristics = 0

    def __init__(self, granted: int, share: int, options: int) -> None:
        super().__init__(signaled=True)
        self.granted = granted
        self.share = share
        self.options = options
        self.position = 0
        self.port: IoCompletion | None = None
        self.completion_key = 0
        self.completion_flags = 0
        self.pending: list[Operation] = []

    @property
    def synchronous(self) -> bool:
        return bool(self.options & SYNCHRONOUS)

    @property
    def mode(self) -> int:
        return self.options & _MODE_OPTIONS

    @mode.setter
    def mode(self, value: int) -> None:
        self.options = self.options & ~_MODE_OPTIONS | value

    def is_signaled_for(self, thread: Thread) -> bool:
        return self._signaled

    # what a device may implement ---------------------------------------------------------------------

    def read(self, op: Operation, buffer: int, length: int, offset: int | None) -> int:
        """Read `length` bytes to guest address `buffer`; `offset` None means none was given."""
        raise NtError(Status.INVALID_DEVICE_REQUEST)

    def write(self, op: Operation, data: bytes, offset: int | None) -> int:
        raise NtError(Status.INVALID_DEVICE_REQUEST)

    def flush(self, op: Operation) -> int:
        return Status.SUCCESS

    def control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        """NtDeviceIoControlFile; the answer goes to guest address `buffer` of `length` bytes."""
        raise NtError(Status.INVALID_DEVICE_REQUEST)

    def fs_control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        """NtFsControlFile."""
        raise NtError(Status.INVALID_DEVICE_REQUEST)

    def query(self, kind: int, length: int, granted: int) -> bytes | None:
        """An information class that only this device has, or answers differently; None leaves it to the
        others.
        """
        if kind == 8:  # FileAccessInformation
            return struct.pack("<I", granted)
        if kind == 14:  # FilePositionInformation
            return struct.pack("<q", self.position)
        if kind == 16:  # FileModeInformation
            return struct.pack("<I", self.mode)
        if kind == 17:  # FileAlignmentInformation
            return bytes(4)
        if kind == 41:  # FileIoCompletionNotificationInformation
            return struct.pack("<I", self.completion_flags)
        return None

    def set_information(self, call: Call, kind: int, data: bytes) -> bool:
        """Like `query`, for setting; False leaves it to the others."""
        return False

    def cancel(self, op: Operation) -> None:
        """Forget a pending operation; its end is reported by the caller."""

    def closed(self) -> None:
        """The last handle is gone."""

    # ---------------------------------------------------------------------------------------------------

    def handle_closed(self, process: Process) -> None:
        if not self.pending or not self.handle_count:
            return
        if not any(entry.object is self for _, entry in process.handles.items()):
            for op in [op for op in self.pending if op.process is process]:
                op.drop()

    def last_handle_closed(self) -> None:
        for op in list(self.pending):
            op.abandon(Status.CANCELLED)
        self.closed()


class Operation(KernelObject):
    """One I/O request: who asked, and how its end is told (status block, event, APC, completion port).

    It is signalled when it has ended; `status` and `information` are its result.
    """

    __slots__ = (
        "apc",
        "context",
        "event",
        "file",
        "immediate",
        "information",
        "input",
        "iosb",
        "process",
        "state",
        "status",
        "thread",
    )

    def __init__(
        self, call: Call, file: FileObject, event: Event | None, apc: int, context: int, iosb: int
    ) -> None:
        super().__init__()
        self.process = call.process
        self.thread = call.thread
        self.file = file
        self.event = event
        self.apc = apc
        self.context = context
        self.iosb = iosb
        self.status = Status.PENDING
        self.information = 0
        self.input = 0  # guest address of a control code's input
        self.immediate = True  # still inside the syscall that began it
        self.state: object = None  # the device's own data while it is pending

    @property
    def ended(self) -> bool:
        return self.status != Status.PENDING

    def pend(self, state: object = None) -> int:
        """Keep the operation for later."""
        self.state = state
        self.file.pending.append(self)
        return Status.PENDING

    def write(self, address: int, data: bytes) -> None:
        """Put data into the memory of the process that asked; raises GuestFault."""
        self.process.window.write(address, data)

    def complete(self, status: int, information: int = 0) -> None:
        """Report the end."""
        if self.ended:
            return
        self.status, self.information = status, information
        file = self.file
        if self in file.pending:
            file.pending.remove(self)
        if self.process.terminated:
            return
        unreported = status >= FIRST_ERROR and file.synchronous  # only the syscall's result tells of it
        try:
            if not unreported:
                self.report(status, information)
        except GuestFault:
            if self.immediate:
                raise
        if self.event is not None:
            self.event.signaled = True
        elif not file.completion_flags & FILE_SKIP_SET_EVENT_ON_HANDLE:
            file.signaled = True
        if self.apc:
            self.thread.queue_apc(Apc(self.apc, (self.context, self.iosb, 0)))
        elif (
            file.port is not None
            and self.context
            and not (self.immediate and file.completion_flags & FILE_SKIP_COMPLETION_PORT_ON_SUCCESS)
        ):
            file.port.post(file.completion_key, self.context, status, information)
        self.signaled = True

    def abandon(self, status: int) -> None:
        """End a pending operation from outside (cancel, close, end of the thread)."""
        if not self.ended:
            self.file.cancel(self)
            self.complete(status)

    def drop(self) -> None:
        """Forget a pending operation whose owner went away or was called off: no status block, event or
        APC.
        """
        if self.ended:
            return
        self.file.cancel(self)
        if self in self.file.pending:
            self.file.pending.remove(self)
        self.status = Status.CANCELLED
        if self.file.port is not None and self.context and self.event is None and not self.apc:
            self.file.port.post(self.file.completion_key, self.context, Status.CANCELLED, 0, self)
        self.signaled = True

    def report(self, status: int, information: int) -> None:
        """Fill the status block, as far as its process is still there to have one."""
        if self.iosb and not self.process.terminated:  # kernelbase's LockFile passes none
            self.process.window.write(self.iosb, struct.pack("<IxxxxQ", status, information))


def run(
    call: Call,
    file: FileObject,
    event: Event | None,
    apc: int,
    context: int,
    iosb: int,
    work: Callable[[Operation], int],
    wait: bool | None = None,
) -> int | Wait:
    """Begin an operation and give the syscall its result, whether it ended, pends or has to be waited for.

    `wait` says whether the syscall waits for the end; None: on a synchronous handle.
    """
    if apc and file.port is not None:
        raise NtError(Status.INVALID_PARAMETER)
    op = Operation(call, file, event, apc, context, iosb)
    if event is not None:
        event.signaled = False
    before, file.signaled = file.signaled, False
    try:
        status = work(op)
    except NtError as error:
        if error.status < FIRST_ERROR and not op.ended:
            op.complete(error.status, op.information)
            return error.status
        if error.status == Status.END_OF_FILE and not op.ended:
            call.memory.write(iosb, struct.pack("<IxxxxQ", error.status, 0))
            if event is not None:
                event.signaled = True
        file.signaled = before
        raise
    if op.ended:
        return op.status if op.immediate else Status.PENDING
    if status == Status.PENDING:
        op.immediate = False
        if file.synchronous if wait is None else wait:
            alertable = bool(file.options & FILE_SYNCHRONOUS_IO_ALERT)
            return Wait((op,), None, alertable=alertable, then=_synchronous_end, data=(op,))
        return Status.PENDING
    op.complete(status, op.information)
    return status


def _synchronous_end(call: Call, status: int, acquired: object, op: Operation) -> int:
    if not op.ended:  # an APC or alert came first
        op.drop()
        return status
    return op.status
