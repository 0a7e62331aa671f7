"""Mailslots: one reader, any number of writers, and messages that arrive whole.

The end that creates a mailslot reads from it, whoever opens its name writes into it. Everything stays inside
this kernel. Rules: Microsoft's documentation of mailslots; where Windows differs between its versions, those
since Windows 8, as Wine's tests (kernel32 mailslot, ntdll file and om) describe them.
"""

from __future__ import annotations

import struct
from collections import deque

from nexus.base.errors import GuestFault
from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_DEVICE_MAILSLOT, FILE_OPENED, FileObject, OpenRequest, Operation
from nexus.nt.io.path import upcase, wide
from nexus.nt.namespace import Device
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call
    from nexus.nt.kernel import Kernel

_NAME_INFORMATION, _QUERY_INFORMATION, _SET_INFORMATION = 9, 26, 27
_NO_MESSAGE = 0xFFFF_FFFF
_FOREVER = -1  # a read timeout; others are NT times
_AT_ONCE = -1  # relative, 100 ns
_DEVICE_PATH = "\\Device\\Mailslot"


class MailslotDevice(Device):
    """`\\\\Device\\\\Mailslot`."""

    __slots__ = ("kernel", "slots")

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.slots: dict[str, Mailslot] = {}

    def open(self, request: OpenRequest) -> tuple[FileObject, int]:
        """A writer, or the file system itself."""
        name = request.rest.removeprefix("\\")
        if not name:
            return MailslotFolder(self, request), FILE_OPENED
        slot = self.slots.get(upcase(name))
        if slot is None:
            raise NtError(Status.OBJECT_NAME_NOT_FOUND)
        return MailslotWriter(slot, request), FILE_OPENED

    def create(self, name: str, desired: int, options: int, message_size: int, timeout: int) -> Mailslot:
        """The reading end of a new mailslot; without a name nobody can write into it."""
        if upcase(name) in self.slots:
            raise NtError(Status.OBJECT_NAME_COLLISION)
        slot = Mailslot(self, name, FileObject.type.map_access(desired), options, message_size, timeout)
        if name:
            self.slots[upcase(name)] = slot
        return slot


class _Read:
    """A pending read and its deadline."""

    __slots__ = ("buffer", "length", "op")

    def __init__(self, op: Operation, buffer: int, length: int) -> None:
        self.op = op
        self.buffer = buffer
        self.length = length

    def expired(self) -> None:
        self.op.complete(Status.IO_TIMEOUT)


class Mailslot(FileObject):
    """The reading end. `timeout` is how long reads wait: an NT time, or -1 for ever."""

    __slots__ = ("device", "message_size", "messages", "slot_name", "timeout")

    device_type = FILE_DEVICE_MAILSLOT

    def __init__(
        self, device: MailslotDevice, name: str, granted: int, options: int, message_size: int, timeout: int
    ) -> None:
        super().__init__(granted, 7, options)
        self.device = device
        self.slot_name = name
        self.message_size = message_size
        self.timeout = timeout
        self.messages: deque[bytes] = deque()

    @property
    def path(self) -> str:
        return f"{_DEVICE_PATH}\\{self.slot_name}"

    def read(self, op: Operation, buffer: int, length: int, offset: int | None) -> int:
        kernel = self.device.kernel
        request = _Read(op, buffer, length)
        status = op.pend(request)
        self._serve()
        if not op.ended and self.timeout != _FOREVER:
            deadline = kernel.clock.deadline(self.timeout or _AT_ONCE)
            if deadline is not None:
                kernel.timers.add(deadline, request)
        return status

    def write(self, op: Operation, data: bytes, offset: int | None) -> int:
        raise NtError(Status.INVALID_PARAMETER)

    def post(self, data: bytes) -> None:
        """A message arrives."""
        self.device.kernel.commitment.charge(len(data))
        self.messages.append(data)
        self._serve()

    def _serve(self) -> None:
        """Give messages to pending reads; a read that has too little room fails and leaves its message."""
        while self.messages and self.pending:
            op = self.pending[0]
            request = op.state
            assert isinstance(request, _Read)
            self.device.kernel.timers.remove(request)
            data = self.messages[0]
            if len(data) > request.length:
                op.complete(Status.BUFFER_TOO_SMALL)
                continue
            try:
                op.write(request.buffer, data)
            except GuestFault:
                op.complete(Status.ACCESS_VIOLATION)
                continue
            self._forget_first()
            op.complete(Status.SUCCESS, len(data))

    def _forget_first(self) -> None:
        self.device.kernel.commitment.refund(len(self.messages.popleft()))

    def cancel(self, op: Operation) -> None:
        self.pending.remove(op)
        assert isinstance(op.state, _Read)
        self.device.kernel.timers.remove(op.state)

    def query(self, kind: int, length: int, granted: int) -> bytes | None:
        if kind == _NAME_INFORMATION:
            if length < 8:
                raise NtError(Status.INFO_LENGTH_MISMATCH)
            name = wide("\\" + self.slot_name)
            return struct.pack("<I", len(name)) + name
        if kind != _QUERY_INFORMATION:
            return super().query(kind, length, granted)
        following = len(self.messages[0]) if self.messages else _NO_MESSAGE
        return struct.pack("<4Iq", self.message_size, 0, following, len(self.messages), self.timeout)

    def set_information(self, call: Call, kind: int, data: bytes) -> bool:
        if kind != _SET_INFORMATION:
            return False
        if len(data) < 8:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        (self.timeout,) = struct.unpack_from("<q", data)
        return True

    def closed(self) -> None:
        while self.messages:
            self._forget_first()
        if self.device.slots.get(upcase(self.slot_name)) is self:
            del self.device.slots[upcase(self.slot_name)]


class MailslotWriter(FileObject):
    """A writing end. What it writes after the reading end was closed is lost."""

    __slots__ = ("slot",)

    device_type = FILE_DEVICE_MAILSLOT

    def __init__(self, slot: Mailslot, request: OpenRequest) -> None:
        super().__init__(
            request.desired | (FileObject.type.all if request.maximum else 0), request.share, request.options
        )
        self.slot = slot

    @property
    def path(self) -> str:
        return self.slot.path

    def read(self, op: Operation, buffer: int, length: int, offset: int | None) -> int:
        raise NtError(Status.INVALID_PARAMETER)

    def write(self, op: Operation, data: bytes, offset: int | None) -> int:
        if self.slot.handle_count:
            self.slot.post(data)
        op.information = len(data)
        return Status.SUCCESS

    def query(self, kind: int, length: int, granted: int) -> bytes | None:
        if kind in (_NAME_INFORMATION, _QUERY_INFORMATION):
            return self.slot.query(kind, length, granted)
        return super().query(kind, length, granted)


class MailslotFolder(FileObject):
    """An open handle to the mailslot file system or its root folder."""

    __slots__ = ("device", "root")

    device_type = FILE_DEVICE_MAILSLOT

    def __init__(self, device: MailslotDevice, request: OpenRequest) -> None:
        super().__init__(
            request.desired | (FileObject.type.all if request.maximum else 0), request.share, request.options
        )
        self.device = device
        self.root = request.rest == "\\"

    @property
    def path(self) -> str:
        return _DEVICE_PATH + ("\\" if self.root else "")

    def open_relative(self, request: OpenRequest) -> tuple[FileObject, int]:
        if request.rest and not self.root:
            raise NtError(Status.OBJECT_NAME_INVALID)
        return self.device.open(request)
