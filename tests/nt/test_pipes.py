"""Named pipes. Expected statuses: the NT documentation and Wine's own pipe tests."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from fake_machine import Machine
from nexus.nt.status import Status
from nexus.nt.wait import Wait

READ_WRITE, SYNC = 0xC0000000, 0x100000
SYNCHRONOUS = 0x20
LISTEN, DISCONNECT, PEEK, TRANSCEIVE, WAIT = 0x110008, 0x110004, 0x11400C, 0x11C017, 0x110018


class Pipes:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.handle, self.iosb, self.buffer = machine.put(8), machine.put(16), machine.put(0x1000)

    def server(
        self,
        options: int = 0,
        message: int = 0,
        sharing: int = 3,
        maximum: int = 255,
        quota: int = 100,
        disposition: int = 3,
    ) -> Any:
        machine = self.machine
        name, timeout = machine.attributes("\\??\\pipe\\Test"), machine.put(struct.pack("<q", -10_000_000))
        arguments = (self.handle, READ_WRITE | SYNC, name, self.iosb, sharing, disposition, options)
        modes = (message, message, 0)
        status = machine.NtCreateNamedPipeFile(*arguments, *modes, maximum, quota, quota, timeout)
        return machine.memory.u64(self.handle) if status == 0 else status

    def client(self, options: int = 0) -> Any:
        machine = self.machine
        name = machine.attributes("\\??\\PIPE\\test")
        status = machine.NtOpenFile(self.handle, READ_WRITE | SYNC, name, self.iosb, 7, options)
        return machine.memory.u64(self.handle) if status == 0 else status

    def pair(self, **options: int) -> tuple[int, int]:
        return self.server(**options), self.client()

    def write(self, handle: int, data: bytes, iosb: int = 0) -> int:
        at = self.machine.put(data)
        status: int = self.machine.NtWriteFile(handle, 0, 0, 0, iosb or self.iosb, at, len(data), 0, 0)
        return status

    def read(self, handle: int, length: int) -> tuple[Any, bytes]:
        self.machine.memory.write(self.iosb, bytes(16))
        status = self.machine.NtReadFile(handle, 0, 0, 0, self.iosb, self.buffer, length, 0, 0)
        return status, self.got()

    def got(self) -> bytes:
        return self.machine.memory.read(self.buffer, self.machine.memory.u64(self.iosb + 8))

    def control(self, handle: int, code: int, data: bytes = b"", length: int = 0x1000) -> Any:
        machine = self.machine
        return machine.NtFsControlFile(
            handle, 0, 0, 0, self.iosb, code, machine.put(data), len(data), self.buffer, length
        )

    def set_message_read(self, handle: int) -> int:
        data = self.machine.put(struct.pack("<II", 1, 0))
        status: int = self.machine.NtSetInformationFile(handle, self.iosb, data, 8, 23)
        return status


@pytest.fixture
def pipes(machine: Machine) -> Pipes:
    return Pipes(machine)


def test_bytes_flow_both_ways(pipes: Pipes) -> None:
    server, client = pipes.pair()
    assert pipes.write(server, b"hello ") == Status.SUCCESS
    assert pipes.write(server, b"world") == Status.SUCCESS
    assert pipes.read(client, 8) == (Status.SUCCESS, b"hello wo")
    assert pipes.read(client, 8) == (Status.SUCCESS, b"rld")
    assert pipes.write(client, b"back") == Status.SUCCESS
    assert pipes.read(server, 8) == (Status.SUCCESS, b"back")


def test_read_pends_until_data_comes(pipes: Pipes) -> None:
    server, client = pipes.pair()
    assert pipes.read(client, 8)[0] == Status.PENDING
    other = pipes.machine.put(16)
    assert pipes.write(server, b"late", other) == Status.SUCCESS
    assert pipes.machine.memory.u32(pipes.iosb) == Status.SUCCESS
    assert pipes.got() == b"late"


def test_synchronous_read_waits(pipes: Pipes) -> None:
    server = pipes.server(options=SYNCHRONOUS)
    client = pipes.client()
    waiting = pipes.read(server, 8)[0]
    assert isinstance(waiting, Wait)
    pipes.write(client, b"now", pipes.machine.put(16))
    assert waiting.satisfied(pipes.machine.thread) is not None
    assert pipes.got() == b"now"


def test_a_write_beyond_the_quota_pends(pipes: Pipes) -> None:
    server, client = pipes.pair(quota=10)
    other = pipes.machine.put(16)
    assert pipes.write(server, b"x" * 25, other) == Status.PENDING
    assert pipes.read(client, 10) == (Status.SUCCESS, b"x" * 10)
    assert pipes.machine.memory.u64(other + 8) == 0
    assert pipes.read(client, 10) == (Status.SUCCESS, b"x" * 10)
    assert pipes.machine.memory.read(other, 16) == struct.pack("<IxxxxQ", 0, 25)


def test_messages(pipes: Pipes) -> None:
    server, client = pipes.pair(message=1)
    assert pipes.set_message_read(client) == Status.SUCCESS
    pipes.write(server, b"first")
    pipes.write(server, b"")
    pipes.write(server, b"second")
    assert pipes.read(client, 3) == (Status.BUFFER_OVERFLOW, b"fir")
    assert pipes.read(client, 100) == (Status.SUCCESS, b"st")
    assert pipes.read(client, 100) == (Status.SUCCESS, b"")
    assert pipes.read(client, 100) == (Status.SUCCESS, b"second")


def test_peek(pipes: Pipes) -> None:
    server, client = pipes.pair()
    pipes.write(server, b"abc")
    assert pipes.control(client, PEEK) == Status.SUCCESS
    assert pipes.got() == struct.pack("<4I", 3, 3, 0, 0) + b"abc"
    assert pipes.read(client, 100) == (Status.SUCCESS, b"abc")
    assert pipes.control(client, PEEK, length=15) == Status.INFO_LENGTH_MISMATCH


def test_transceive(pipes: Pipes) -> None:
    server, client = pipes.pair(message=1)
    assert pipes.control(client, TRANSCEIVE, b"question") == Status.INVALID_READ_MODE
    pipes.set_message_read(client)
    assert pipes.control(client, TRANSCEIVE, b"question") == Status.PENDING
    iosb, pipes.iosb = pipes.iosb, pipes.machine.put(16)
    assert pipes.read(server, 100) == (Status.SUCCESS, b"question")
    pipes.write(server, b"answer")
    pipes.iosb = iosb
    assert pipes.got() == b"answer"


def test_closing_leaves_what_was_written(pipes: Pipes) -> None:
    server, client = pipes.pair()
    pipes.write(server, b"rest")
    pipes.machine.process.handles.close(server)
    assert pipes.write(client, b"x") == Status.PIPE_CLOSING
    assert pipes.read(client, 100) == (Status.SUCCESS, b"rest")
    assert pipes.read(client, 100)[0] == Status.PIPE_BROKEN
    assert pipes.read(client, 0)[0] == Status.PIPE_BROKEN
    assert pipes.client() == Status.OBJECT_NAME_NOT_FOUND


def test_closing_ends_a_pending_read(pipes: Pipes) -> None:
    server, client = pipes.pair()
    assert pipes.read(client, 8)[0] == Status.PENDING
    pipes.machine.process.handles.close(server)
    assert pipes.machine.memory.u32(pipes.iosb) == Status.PIPE_BROKEN


def test_listen_and_disconnect(pipes: Pipes) -> None:
    server = pipes.server()
    assert pipes.read(server, 1)[0] == Status.PIPE_LISTENING
    assert pipes.control(server, LISTEN) == Status.PENDING
    listening, pipes.iosb = pipes.iosb, pipes.machine.put(16)
    client = pipes.client()
    assert pipes.machine.memory.u32(listening) == Status.SUCCESS
    assert pipes.control(server, LISTEN) == Status.PIPE_CONNECTED
    pipes.write(server, b"lost")
    assert pipes.control(server, DISCONNECT) == Status.SUCCESS
    assert pipes.read(client, 8)[0] == Status.PIPE_DISCONNECTED
    assert pipes.client() == Status.PIPE_NOT_AVAILABLE
    assert pipes.control(server, LISTEN) == Status.PENDING
    assert pipes.client() > 0
    assert pipes.control(client, LISTEN) == Status.ILLEGAL_FUNCTION


def test_instances(pipes: Pipes) -> None:
    assert pipes.client() == Status.OBJECT_NAME_NOT_FOUND
    pipes.server(maximum=2)
    assert pipes.server(maximum=2, sharing=1) == Status.ACCESS_DENIED
    pipes.server(maximum=2)
    assert pipes.server(maximum=2) == Status.INSTANCE_NOT_AVAILABLE
    pipes.client()
    pipes.client()
    assert pipes.client() == Status.PIPE_NOT_AVAILABLE
    assert pipes.server(sharing=0) == Status.INVALID_PARAMETER


def test_waiting_for_an_instance(pipes: Pipes) -> None:
    machine = pipes.machine
    first = pipes.server()
    pipes.client()
    folder = machine.attributes("\\??\\PIPE\\")
    machine.NtOpenFile(pipes.handle, 0x80 | SYNC, folder, pipes.iosb, 7, 0)
    root = machine.memory.u64(pipes.handle)
    name = "Test".encode("utf-16-le")
    request = struct.pack("<qIB", -1_000_000, len(name), 1) + b"\0" + name
    assert pipes.control(root, WAIT, request) == Status.PENDING
    waiting, pipes.iosb = pipes.iosb, machine.put(16)
    pipes.server()
    assert machine.memory.u32(waiting) == Status.SUCCESS
    assert pipes.control(root, WAIT, request) == Status.SUCCESS
    pipes.client()
    assert pipes.control(root, WAIT, request) == Status.PENDING
    machine.kernel.clock.advance(2_000_000)
    machine.kernel.run_timers()
    assert machine.memory.u32(pipes.iosb) == Status.IO_TIMEOUT
    assert first


def test_information(pipes: Pipes) -> None:
    server, client = pipes.pair(quota=50)
    pipes.write(client, b"12345")
    pipes.machine.NtQueryInformationFile(server, pipes.iosb, pipes.buffer, 40, 24)
    assert struct.unpack("<10I", pipes.got()) == (0, 2, 255, 1, 50, 5, 50, 50, 3, 1)
    pipes.machine.NtQueryInformationFile(client, pipes.iosb, pipes.buffer, 100, 9)
    assert pipes.got()[4:].decode("utf-16-le") == "\\Test"
