"""Host streams as files: standard input, output and error, and the null device.

The guest sees a pipe whatever the host has there. Nothing here blocks: what is not ready pends, and the
kernel's poller says when to go on. The host's descriptors are shared with other processes, so they are never
switched to non-blocking mode; output goes in pieces that a ready pipe always takes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import termios

from nexus.nt.errors import NtError
from nexus.nt.io.file import (
    FILE_DELETE_ON_CLOSE,
    FILE_DEVICE_NAMED_PIPE,
    FILE_DEVICE_NULL,
    FILE_OPENED,
    FILE_SYNCHRONOUS_IO_NONALERT,
    FileObject,
    OpenRequest,
    Operation,
)
from nexus.nt.namespace import Device
from nexus.nt.poller import READABLE, WRITABLE, Watch
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.nt.call import Call
    from nexus.nt.io.device_io import IoManager

_PIECE = 4096  # PIPE_BUF: a pipe that is ready for writing takes this much at once
_MAX_READ = 0x10_0000
FSCTL_PIPE_PEEK = 0x11400C
PIPE_CONNECTED_STATE = 3


def is_ready(fd: int, events: int) -> bool:
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(0))


class HostStream(FileObject):
    """A host descriptor that came with the process. It is never closed here."""

    __slots__ = ("fd", "io", "regular", "watch")

    device_type = FILE_DEVICE_NAMED_PIPE

    def __init__(self, io: IoManager, fd: int, granted: int) -> None:
        super().__init__(granted, 7, FILE_SYNCHRONOUS_IO_NONALERT)
        self.io = io
        self.fd = fd
        self.regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self.watch: Watch | None = None

    def snapshot_outside(self) -> Callable[[], None] | None:
        """See `nt/graph.py`: where a file that is read stands. What has been read from a pipe or a terminal
        is gone, and what was written stays written.
        """
        if not self.regular or fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            return None
        position = os.lseek(self.fd, 0, os.SEEK_CUR)

        def put_back() -> None:
            os.lseek(self.fd, position, os.SEEK_SET)

        return put_back

    def _available(self) -> int:
        """Bytes that can be read now without blocking, as far as the host tells."""
        if self.regular:
            return max(0, os.fstat(self.fd).st_size - os.lseek(self.fd, 0, os.SEEK_CUR))
        try:
            return int(struct.unpack("i", fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4)))[0])
        except OSError:
            return 0

    # reading -----------------------------------------------------------------------------------------

    def read(self, op: Operation, buffer: int, length: int, offset: int | None) -> int:
        if any(isinstance(other.state, _Read) for other in self.pending) or not is_ready(self.fd, READABLE):
            self._watch(READABLE)
            return op.pend(_Read(buffer, length))
        return self._read_now(op, buffer, length)

    def _read_now(self, op: Operation, buffer: int, length: int) -> int:
        if not length:
            if not self._available() and not os.isatty(self.fd):
                raise NtError(Status.PIPE_BROKEN)  # ready with nothing to read is the end
            op.information = 0
            return Status.SUCCESS
        try:
            data = os.read(self.fd, min(length, _MAX_READ))
        except OSError as error:
            raise NtError(Status.PIPE_BROKEN if error.errno == errno.EIO else Status.ACCESS_DENIED) from error
        if not data:
            raise NtError(Status.PIPE_BROKEN)
        op.write(buffer, data)
        op.information = len(data)
        return Status.SUCCESS

    # writing -----------------------------------------------------------------------------------------

    def write(self, op: Operation, data: bytes, offset: int | None) -> int:
        if self.regular:
            self.io.disk.charge(len(data))
        state = _Write(data)
        if any(isinstance(other.state, _Write) for other in self.pending) or not self._write_some(state):
            self._watch(WRITABLE)
            return op.pend(state)
        op.information = len(data)
        return Status.SUCCESS

    def _write_some(self, state: _Write) -> bool:
        """Write what goes without blocking; True when everything is out."""
        piece = len(state.data) if self.regular else _PIECE
        while state.done < len(state.data):
            if not self.regular and not is_ready(self.fd, WRITABLE):
                return False
            try:
                state.done += os.write(self.fd, state.data[state.done : state.done + piece])
            except BlockingIOError:
                return False
            except BrokenPipeError as error:
                self.io.broken_output = True
                raise NtError(Status.PIPE_CLOSING) from error
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                raise NtError(Status.DISK_FULL if full else Status.ACCESS_DENIED) from error
        return True

    # waiting -----------------------------------------------------------------------------------------

    def _watch(self, events: int) -> None:
        if self.watch is None:
            self.watch = self.io.kernel.poller.watch(self.fd, events, self._ready)

    def _ready(self, events: int) -> None:
        for op in list(self.pending):
            try:
                if isinstance(op.state, _Read):
                    if not is_ready(self.fd, READABLE):
                        break
                    op.complete(self._read_now(op, op.state.buffer, op.state.length), op.information)
                elif isinstance(op.state, _Write):
                    if not self._write_some(op.state):
                        break
                    op.complete(Status.SUCCESS, len(op.state.data))
            except NtError as error:
                op.complete(error.status)
        self._settle()

    def _settle(self) -> None:
        if not self.pending and self.watch is not None:
            self.io.kernel.poller.unwatch(self.watch)
            self.watch = None

    def cancel(self, op: Operation) -> None:
        self.pending.remove(op)
        self._settle()

    # facts -------------------------------------------------------------------------------------------

    def query(self, kind: int, length: int, granted: int) -> bytes | None:
        if kind == 5:  # FileStandardInformation
            return struct.pack("<QQIBBxx", _PIECE, 0, 1, 0, 0)
        if kind == 23:  # FilePipeInformation: byte mode, waiting
            return bytes(8)
        if kind == 24:  # FilePipeLocalInformation
            return struct.pack("<10I", 0, 2, 1, 1, _PIECE, 0, _PIECE, _PIECE, PIPE_CONNECTED_STATE, 0)
        return super().query(kind, length, granted)

    def set_information(self, call: Call, kind: int, data: bytes) -> bool:
        if kind != 23:
            return False
        if len(data) < 8:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        if struct.unpack_from("<I", data)[0]:
            raise NtError(Status.INVALID_PARAMETER)  # message mode on a byte stream
        return True

    def fs_control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        if code != FSCTL_PIPE_PEEK:
            raise NtError(Status.INVALID_DEVICE_REQUEST)
        if length < 16:
            raise NtError(Status.INFO_LENGTH_MISMATCH)
        available = self._available()
        if not available and is_ready(self.fd, READABLE) and not os.isatty(self.fd):
            raise NtError(Status.PIPE_BROKEN)
        op.write(buffer, struct.pack("<4I", PIPE_CONNECTED_STATE, available, 0, 0))
        op.information = 16
        return Status.SUCCESS

    def closed(self) -> None:
        self._settle()


class _Read:
    __slots__ = ("buffer", "length")

    def __init__(self, buffer: int, length: int) -> None:
        self.buffer = buffer
        self.length = length


class _Write:
    __slots__ = ("data", "done")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.done = 0


class NullDevice(Device):
    """NUL: takes everything, gives nothing."""

    __slots__ = ()

    def open(self, request: OpenRequest) -> tuple[FileObject, int]:
        if request.rest.strip("\\"):
            raise NtError(Status.OBJECT_NAME_NOT_FOUND)
        if request.options & FILE_DELETE_ON_CLOSE:
            raise NtError(Status.ACCESS_DENIED)
        granted = request.desired | (FileObject.type.all if request.maximum else 0)
        return NullFile(granted, request.share, request.options), FILE_OPENED


class NullFile(FileObject):
    __slots__ = ()

    device_type = FILE_DEVICE_NULL

    def read(self, op: Operation, buffer: int, length: int, offset: int | None) -> int:
        self._check_offset(offset)
        raise NtError(Status.END_OF_FILE)

    def write(self, op: Operation, data: bytes, offset: int | None) -> int:
        self._check_offset(offset)
        op.information = len(data)
        return Status.SUCCESS

    def _check_offset(self, offset: int | None) -> None:
        if offset is None and not self.synchronous:
            raise NtError(Status.INVALID_PARAMETER)

    def query(self, kind: int, length: int, granted: int) -> bytes | None:
        found = super().query(kind, length, granted)
        if found is None and kind == 5:  # FileStandardInformation
            return struct.pack("<QQIBBxx", 0, 0, 1, 0, 0)
        if found is None:
            raise NtError(Status.INVALID_DEVICE_REQUEST)
        return found
