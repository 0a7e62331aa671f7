"""Sockets as files of the AFD device: state, waiting operations, event selection.

The host's socket is always non-blocking; an operation that cannot go on keeps its `Operation` and the
kernel's poller wakes it. Every address is checked against the network rules before the host sees it.
"""

from __future__ import annotations

import errno
import select
import socket
import struct

from nexus.base.errors import GuestFault, NotReversible
from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_DEVICE_NAMED_PIPE, FileObject, Operation
from nexus.nt.net.socket_address import (
    HOST_FAMILIES,
    WS_SOCK_DGRAM,
    WS_SOCK_STREAM,
    Address,
    failure,
    from_host,
    status_of,
)
from nexus.nt.poller import BROKEN, READABLE, WRITABLE, Watch
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.io.device_io import IoManager
    from nexus.nt.sync import Event

AFD_POLL_READ, AFD_POLL_OOB, AFD_POLL_WRITE, AFD_POLL_HUP = 0x1, 0x2, 0x4, 0x8
AFD_POLL_RESET, AFD_POLL_CLOSE, AFD_POLL_CONNECT, AFD_POLL_ACCEPT, AFD_POLL_CONNECT_ERR = (
    0x10,
    0x20,
    0x40,
    0x80,
    0x100,
)
_INPUT = AFD_POLL_READ | AFD_POLL_OOB | AFD_POLL_HUP | AFD_POLL_ACCEPT
_OUTPUT = AFD_POLL_WRITE | AFD_POLL_CONNECT | AFD_POLL_CONNECT_ERR
EVENT_BITS = 13

UNCONNECTED, CONNECTING, CONNECTED, LISTENING, CONNECTIONLESS = range(5)
MAX_RECEIVE = 0x10_0000
_MSG_PARTIAL = 0x8000


class Waiting:
    """What an operation waits for: `wants` is READABLE or WRITABLE (or 0), `go_on` tries again."""

    __slots__ = ()
    wants = 0

    def go_on(self, op: Operation, events: int) -> int:
        """The operation's status; STATUS_PENDING while it cannot go on."""
        return Status.PENDING

    def dropped(self) -> None:
        """The operation was cancelled or has ended."""


class Receive(Waiting):
    """A pending receive: where the data, the sender's address and the flags go."""

    __slots__ = ("address", "address_length", "buffers", "flags", "flags_out", "op", "socket")

    def __init__(
        self,
        socket: SocketFile,
        op: Operation,
        buffers: list[tuple[int, int]],
        flags: int,
        address: int = 0,
        address_length: int = 0,
        flags_out: int = 0,
    ) -> None:
        self.socket = socket
        self.op = op
        self.buffers = buffers
        self.flags = flags
        self.address = address
        self.address_length = address_length
        self.flags_out = flags_out

    wants = READABLE

    def go_on(self, op: Operation, events: int) -> int:
        return self.socket.receive_now(self) if events & (READABLE | BROKEN) else Status.PENDING

    def dropped(self) -> None:
        self.socket.io.kernel.timers.remove(self)

    def expired(self) -> None:
        """SO_RCVTIMEO passed."""
        self.op.abandon(Status.IO_TIMEOUT)


class Send(Waiting):
    """A pending send."""

    __slots__ = ("address", "data", "done", "flags", "op", "socket")

    def __init__(
        self, socket: SocketFile, op: Operation, data: bytes, flags: int, address: Address | None
    ) -> None:
        self.socket = socket
        self.op = op
        self.data = data
        self.flags = flags
        self.address = address
        self.done = 0

    wants = WRITABLE

    def go_on(self, op: Operation, events: int) -> int:
        return self.socket.send_now(self) if events & (WRITABLE | BROKEN) else Status.PENDING

    def dropped(self) -> None:
        self.socket.io.kernel.timers.remove(self)

    def expired(self) -> None:
        """SO_SNDTIMEO passed."""
        self.op.abandon(Status.IO_TIMEOUT)


class Connect(Waiting):
    """A pending connect; `data` is sent once it stands (ConnectEx)."""

    __slots__ = ("data", "done", "socket")

    def __init__(self, socket: SocketFile, data: bytes) -> None:
        self.socket = socket
        self.data = data
        self.done = 0

    wants = WRITABLE

    def go_on(self, op: Operation, events: int) -> int:
        file = self.socket
        if file.connect_error:
            return status_of(file.connect_error)
        if file.state != CONNECTED:
            return Status.PENDING
        while self.done < len(self.data):
            try:
                self.done += file.host.send(self.data[self.done :])
            except BlockingIOError:
                return Status.PENDING
            except OSError as error:
                raise failure(error) from error
        op.information = self.done
        return Status.SUCCESS


class Poller(Waiting):
    """An IOCTL_AFD_POLL that this socket is part of."""

    __slots__ = ()

    def mask_of(self, file: SocketFile) -> int:
        raise NotImplementedError

    def try_again(self) -> None:
        raise NotImplementedError


class SocketFile(FileObject):
    """One socket handle's object. `sock` is None until IOCTL_AFD_WINE_CREATE."""

    __slots__ = (
        "bound",
        "connect_error",
        "connected_at",
        "errors",
        "event",
        "event_mask",
        "exclusive",
        "family",
        "io",
        "kind",
        "nonblocking",
        "peer",
        "pending_events",
        "pollers",
        "protocol",
        "read_closed",
        "receive_timeout",
        "reported_events",
        "reuse",
        "send_timeout",
        "sock",
        "state",
        "watch",
        "write_closed",
    )

    device_type = FILE_DEVICE_NAMED_PIPE

    def __init__(self, io: IoManager, granted: int, share: int, options: int) -> None:
        super().__init__(granted, share, options)
        self.io = io
        self.sock: socket.socket | None = None
        self.family = self.kind = self.protocol = 0
        self.state = UNCONNECTED
        self.nonblocking = self.bound = self.reuse = self.exclusive = False
        self.read_closed = self.write_closed = False
        self.peer: Address | None = None
        self.connected_at = 0
        self.connect_error = 0
        self.receive_timeout = self.send_timeout = 0
        self.event: Event | None = None
        self.event_mask = 0
        self.pending_events = 0
        self.reported_events = 0
        self.errors = [0] * EVENT_BITS
        self.pollers: list[Poller] = []
        self.watch: Watch | None = None

    # making ------------------------------------------------------------------------------------------

    def create(self, family: int, kind: int, protocol: int) -> None:
        """IOCTL_AFD_WINE_CREATE."""
        if self.sock is not None:
            raise NtError(Status.INVALID_PARAMETER)
        host_family = HOST_FAMILIES.get(family)
        if host_family is None or kind not in (WS_SOCK_STREAM, WS_SOCK_DGRAM):
            raise NtError(Status.NOT_SUPPORTED if kind != 3 else Status.ACCESS_DENIED)  # 3: SOCK_RAW
        host_kind = socket.SOCK_STREAM if kind == WS_SOCK_STREAM else socket.SOCK_DGRAM
        try:
            sock = socket.socket(host_family, host_kind, protocol)
            if host_family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        except OSError as error:
            raise failure(error) from error
        self.adopt(sock, family, kind, protocol)

    def adopt(self, sock: socket.socket, family: int, kind: int, protocol: int) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.family, self.kind, self.protocol = family, kind, protocol
        if kind == WS_SOCK_DGRAM:
            self.state = CONNECTIONLESS

    def snapshot_outside(self) -> None:
        """See `nt/graph.py`."""
        if self.sock is not None:
            raise NotReversible(
                "the program has a socket, and what it sent and received cannot be taken back"
            )

    @property
    def host(self) -> socket.socket:
        if self.sock is None:
            raise NtError(Status.INVALID_HANDLE)
        return self.sock

    def check_address(self, address: Address) -> None:
        """Raise STATUS_ACCESS_DENIED for an address that no rule allows."""
        rules = self.io.network
        if rules is None or not rules.may_use(address[0], address[1]):
            raise NtError(Status.ACCESS_DENIED)

    # what is ready -----------------------------------------------------------------------------------

    def events(self) -> int:
        """The AFD_POLL_* conditions that hold now. Notices when a connect has ended."""
        sock = self.sock
        if sock is None or self.state == UNCONNECTED:
            return AFD_POLL_CONNECT_ERR if self.connect_error else 0
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN | select.POLLOUT | select.POLLPRI)
        ready = dict(poll.poll(0)).get(sock.fileno(), 0)
        if self.state == LISTENING:
            return AFD_POLL_ACCEPT if ready & select.POLLIN else 0
        if self.state == CONNECTING:
            if not ready & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                return 0
            self.connect_ended(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            if self.connect_error:
                return AFD_POLL_CONNECT_ERR
        found = 0
        if ready & select.POLLPRI:
            found |= AFD_POLL_OOB
        if ready & (select.POLLIN | select.POLLHUP):
            found |= self._input(sock)
        if ready & select.POLLERR and self.kind == WS_SOCK_STREAM:
            found |= AFD_POLL_RESET
        if ready & select.POLLOUT and not self.write_closed:
            found |= AFD_POLL_WRITE
        if self.state == CONNECTED:
            found |= AFD_POLL_CONNECT
        return found

    def _input(self, sock: socket.socket) -> int:
        try:
            data = sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return 0
        except OSError as error:
            if self.kind == WS_SOCK_DGRAM:
                return AFD_POLL_READ
            return AFD_POLL_RESET if error.errno == errno.ECONNRESET else AFD_POLL_HUP
        if data or self.kind == WS_SOCK_DGRAM:
            return AFD_POLL_READ
        return AFD_POLL_HUP

    def connect_ended(self, error: int) -> None:
        self.connect_error = error
        if error:
            self.state = UNCONNECTED
            self.errors[8] = error
        else:
            self.state = CONNECTED
            self.connected_at = self.io.kernel.clock.monotonic()

    # waiting -----------------------------------------------------------------------------------------

    def update(self) -> None:
        """Watch the host's socket for exactly what somebody waits for."""
        if self.sock is None:
            return
        wanted = 0
        for op in self.pending:
            if isinstance(op.state, Waiting):
                wanted |= op.state.wants
        mask = self.event_mask & ~self.reported_events
        for poller in self.pollers:
            mask |= poller.mask_of(self)
        connecting = self.state == CONNECTING
        if mask & _INPUT and self.state != UNCONNECTED and not connecting:
            wanted |= READABLE
        if mask & _OUTPUT and (
            connecting or (mask & AFD_POLL_WRITE and self.state in (CONNECTED, CONNECTIONLESS))
        ):
            wanted |= WRITABLE
        if self.watch is not None and self.watch.events == wanted:
            return
        self.unwatch()
        if wanted:
            self.watch = self.io.kernel.poller.watch(self.sock.fileno(), wanted, self._ready)

    def unwatch(self) -> None:
        if self.watch is not None:
            self.io.kernel.poller.unwatch(self.watch)
            self.watch = None

    def _ready(self, events: int) -> None:
        if self.state == CONNECTING:
            self.events()  # notices the end of the connect
        for op in list(self.pending):
            state = op.state
            if not isinstance(state, Waiting):
                continue
            try:
                status = state.go_on(op, events)
            except NtError as error:
                status = error.status
            except GuestFault:
                status = Status.ACCESS_VIOLATION
            if status != Status.PENDING:
                state.dropped()
                op.complete(status, op.information)
        self.report(self.events())
        for poller in list(self.pollers):
            poller.try_again()
        self.update()

    def report(self, events: int) -> None:
        """Tell the selected event about conditions that were not reported since they were last re-enabled."""
        new = events & self.event_mask & ~self.reported_events
        if new:
            self.pending_events |= new
            self.reported_events |= new
            if self.event is not None:
                self.event.signaled = True

    def enable(self, events: int) -> None:
        """The guest did what re-enables these conditions."""
        self.reported_events &= ~events
        self.pending_events &= ~events
        if self.event_mask & events:
            self.report(self.events() & events)
        self.update()

    def pend(self, op: Operation, state: Waiting, timeout: int = 0) -> int:
        """Keep an operation; `timeout` in milliseconds, 0 for none."""
        status = op.pend(state)
        if timeout and isinstance(state, Receive | Send):
            kernel = self.io.kernel
            kernel.timers.add(kernel.clock.monotonic() + timeout * 10_000, state)
        self.update()
        return status

    def cancel(self, op: Operation) -> None:
        if op in self.pending:
            self.pending.remove(op)
        if isinstance(op.state, Waiting):
            op.state.dropped()
        self.update()

    # data --------------------------------------------------------------------------------------------

    def receive_now(self, state: Receive) -> int:
        """One attempt; STATUS_PENDING when nothing has come yet."""
        if self.state in (UNCONNECTED, CONNECTING, LISTENING):
            raise NtError(Status.INVALID_CONNECTION)
        total = min(sum(length for _, length in state.buffers), MAX_RECEIVE)
        try:
            data, _, flags, sender = self.host.recvmsg(total, 0, state.flags)
        except BlockingIOError:
            if self.read_closed:
                raise NtError(Status.PIPE_DISCONNECTED) from None
            return Status.PENDING
        except OSError as error:
            raise failure(error) from error
        op, left = state.op, data
        for address, length in state.buffers:
            if not left:
                break
            op.write(address, left[:length])
            left = left[length:]
        if state.address and sender:
            packed = from_host(sender)
            room = int.from_bytes(op.process.window.read(state.address_length, 4), "little")
            op.write(state.address, packed[:room])
            op.write(state.address_length, struct.pack("<I", len(packed)))
        truncated = bool(flags & socket.MSG_TRUNC)
        if state.flags_out:
            op.write(state.flags_out, struct.pack("<I", _MSG_PARTIAL if truncated else 0))
        op.information = len(data)
        if not op.immediate:
            self.enable(AFD_POLL_READ | AFD_POLL_OOB)
        return Status.BUFFER_OVERFLOW if truncated else Status.SUCCESS

    def receive(self, state: Receive, wait: bool) -> int:
        status = Status.PENDING
        if not any(isinstance(op.state, Receive) for op in self.pending):
            status = self.receive_now(state)
        if status == Status.PENDING:
            if not wait:
                raise NtError(Status.DEVICE_NOT_READY)
            return self.pend(state.op, state, self.receive_timeout)
        self.enable(AFD_POLL_READ | AFD_POLL_OOB)
        return status

    def send_now(self, state: Send) -> int:
        if self.write_closed:
            raise NtError(Status.PIPE_DISCONNECTED)
        if self.state in (UNCONNECTED, CONNECTING, LISTENING):
            raise NtError(Status.INVALID_CONNECTION)
        sock, op = self.host, state.op
        while True:
            try:
                if state.address is not None and self.kind == WS_SOCK_DGRAM:
                    state.done += sock.sendto(state.data, state.flags, state.address)
                else:
                    state.done += sock.send(state.data[state.done :], state.flags | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                op.information = state.done
                return Status.PENDING
            except OSError as error:
                raise failure(error) from error
            if state.done >= len(state.data) or self.kind == WS_SOCK_DGRAM:
                op.information = state.done
                return Status.SUCCESS

    def send(self, state: Send, wait: bool) -> int:
        status = Status.PENDING
        if not any(isinstance(op.state, Send) for op in self.pending):
            status = self.send_now(state)
        self.bound = True
        if status != Status.PENDING:
            return status
        if wait:
            return self.pend(state.op, state, self.send_timeout)
        self.enable(AFD_POLL_WRITE)
        if state.done:
            return Status.SUCCESS
        raise NtError(Status.DEVICE_NOT_READY)

    def read(self, op: Operation, buffer: int, length: int, offset: int | None) -> int:
        return self.receive(Receive(self, op, [(buffer, length)], 0), True)

    def write(self, op: Operation, data: bytes, offset: int | None) -> int:
        return self.send(Send(self, op, data, 0, None), True)

    def control(self, op: Operation, code: int, data: bytes, buffer: int, length: int) -> int:
        from nexus.nt.net.afd import (
            control,  # the control codes know all about sockets, sockets only their name
        )

        return control(self, op, code, data, buffer, length)

    def closed(self) -> None:
        self.unwatch()
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        for poller in list(self.pollers):
            poller.try_again()
