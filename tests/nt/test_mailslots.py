"""Mailslots. Expected values: Wine's tests of kernel32 (mailslot) and ntdll (file, om)."""

from __future__ import annotations

import struct

import pytest

from fake_machine import Machine
from nexus.nt.status import Status
from nexus.nt.wait import Wait

READ, WRITE, SYNC = 0x80000000, 0x40000000, 0x100000
SYNCHRONOUS = 0x20
NAME = "\\??\\MAILSLOT\\wine_mailslot_test"
UNTOUCHED = 0xDEADBEEF
NAME_INFORMATION, QUERY_INFORMATION, SET_INFORMATION = 9, 26, 27
FOREVER = -1


class Slots:
    """A mailslot named NAME, and calls on handles of it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.iosb = machine.put(16)
        self.buffer = machine.put(0x100)

    def create(self, timeout: int | None = 0, options: int = SYNCHRONOUS, access: int = READ | SYNC) -> int:
        machine = self.machine
        out = machine.put(8)
        limit = machine.put(struct.pack("<q", timeout)) if timeout is not None else 0
        name = machine.attributes(NAME)
        status = machine.NtCreateMailslotFile(out, access, name, self.iosb, options, 0, 0, limit)
        return machine.memory.u64(out) if status == Status.SUCCESS else -status

    def writer(self, access: int = READ | WRITE) -> int:
        name = self.machine.attributes(NAME)
        return self.machine.new_handle("NtOpenFile", access | SYNC, name, self.iosb, 1, SYNCHRONOUS)

    def read(self, handle: int, length: int = 16) -> object:
        self.machine.memory.write(self.iosb, struct.pack("<QQ", UNTOUCHED, UNTOUCHED))
        return self.machine.NtReadFile(handle, 0, 0, 0, self.iosb, self.buffer, length, 0, 0)

    def write(self, handle: int, data: bytes) -> int:
        status: int = self.machine.NtWriteFile(
            handle, 0, 0, 0, self.iosb, self.machine.put(data), len(data), 0, 0
        )
        return status

    @property
    def status_block(self) -> tuple[int, int]:
        status, information = struct.unpack("<QQ", self.machine.memory.read(self.iosb, 16))
        return status & 0xFFFF_FFFF, information

    def query(self, handle: int) -> tuple[int, ...]:
        """MaximumMessageSize, MailslotQuota, NextMessageSize, MessagesAvailable, ReadTimeout."""
        machine = self.machine
        assert machine.NtQueryInformationFile(handle, self.iosb, self.buffer, 24, QUERY_INFORMATION) == 0
        return struct.unpack("<4Iq", machine.memory.read(self.buffer, 24))

    def expire(self) -> None:
        """Let the time of the earliest timer come."""
        kernel = self.machine.kernel
        due = kernel.timers.next_due()
        assert due is not None
        kernel.clock.advance(due - kernel.clock.monotonic())
        kernel.run_timers()


@pytest.fixture
def slots(machine: Machine) -> Slots:
    return Slots(machine)


def test_messages_come_whole_and_in_order(slots: Slots) -> None:
    slot, writer = slots.create(), slots.writer()
    assert slots.query(slot) == (0, 0, 0xFFFFFFFF, 0, 0)
    for message in (b"a", b"bc", b""):
        assert slots.write(writer, message) == Status.SUCCESS
    assert slots.query(slot)[2:4] == (1, 3)
    for message, after in ((b"a", (2, 2)), (b"bc", (0, 1)), (b"", (0xFFFFFFFF, 0))):
        assert slots.read(slot) == Status.SUCCESS
        assert slots.status_block == (0, len(message))
        assert slots.machine.memory.read(slots.buffer, len(message)) == message
        assert slots.query(slot)[2:4] == after


def test_a_read_with_too_little_room_leaves_the_message(slots: Slots) -> None:
    slot, writer = slots.create(), slots.writer()
    slots.write(writer, b"ab")
    assert slots.read(slot, 1) == Status.BUFFER_TOO_SMALL
    assert slots.status_block == (UNTOUCHED, UNTOUCHED)
    assert slots.query(slot)[2:4] == (2, 1)
    assert slots.query(writer)[2:4] == (2, 1)


def test_an_empty_slot_times_out(slots: Slots) -> None:
    slot = slots.create(timeout=0)
    assert isinstance(slots.read(slot), Wait)
    slots.expire()
    assert slots.machine.outcome() == Status.IO_TIMEOUT
    assert slots.status_block == (UNTOUCHED, UNTOUCHED)


@pytest.mark.parametrize("timeout", [None, FOREVER])
def test_a_slot_that_waits_for_ever(slots: Slots, timeout: int | None) -> None:
    slot = slots.create(timeout)
    assert isinstance(slots.read(slot), Wait)
    assert slots.machine.kernel.timers.next_due() is None


def test_the_timeout_can_be_changed(slots: Slots) -> None:
    slot = slots.create(FOREVER)
    data = slots.machine.put(struct.pack("<q", -5_0000))
    assert slots.machine.NtSetInformationFile(slot, slots.iosb, data, 8, SET_INFORMATION) == Status.SUCCESS
    assert slots.query(slot)[4] == -5_0000
    before = slots.machine.kernel.clock.monotonic()
    assert isinstance(slots.read(slot), Wait)
    assert slots.machine.kernel.timers.next_due() == before + 5_0000


def test_an_asynchronous_read_ends_with_a_message(slots: Slots) -> None:
    slot = slots.create(None, options=0, access=READ | WRITE | SYNC)
    assert slots.write(slot, b"x") == Status.INVALID_PARAMETER
    assert slots.read(slot) == Status.PENDING
    assert slots.status_block == (UNTOUCHED, UNTOUCHED)
    own_iosb, slots.iosb = slots.iosb, slots.machine.put(16)
    slots.write(slots.writer(), b"data")
    slots.iosb = own_iosb
    assert slots.status_block == (0, 4)


def test_each_end_does_its_own(slots: Slots) -> None:
    slot, writer = slots.create(), slots.writer()
    assert slots.write(slot, b"x") == Status.ACCESS_DENIED
    assert slots.read(writer) == Status.INVALID_PARAMETER


def test_names(slots: Slots) -> None:
    machine = slots.machine
    slot = slots.create()
    assert slots.create() == -Status.OBJECT_NAME_COLLISION
    assert slots.create(access=0) == -Status.ACCESS_DENIED
    status = machine.NtQueryInformationFile(slot, slots.iosb, slots.buffer, 0x100, NAME_INFORMATION)
    text = "\\wine_mailslot_test".encode("utf-16-le")
    assert status == Status.SUCCESS
    assert machine.memory.read(slots.buffer, 4 + len(text)) == struct.pack("<I", len(text)) + text
    machine.NtClose(slot)
    out, name = machine.put(8), machine.attributes(NAME)
    assert machine.NtOpenFile(out, WRITE, name, slots.iosb, 1, 0) == Status.OBJECT_NAME_NOT_FOUND
    elsewhere = machine.attributes("\\BaseNamedObjects\\slot")
    status = machine.NtCreateMailslotFile(out, READ, elsewhere, slots.iosb, 0, 0, 0, 0)
    assert status == Status.OBJECT_NAME_INVALID


def test_messages_count_as_memory(slots: Slots) -> None:
    commitment = slots.machine.kernel.commitment
    slot, writer = slots.create(), slots.writer()
    before = commitment.used
    commitment.limit = before + 100
    assert slots.write(writer, bytes(100)) == Status.SUCCESS
    assert slots.write(writer, b"x") == Status.COMMITMENT_LIMIT
    slots.machine.NtClose(slot)
    assert commitment.used == before
    assert slots.write(writer, b"lost") == Status.SUCCESS
    assert commitment.used == before
