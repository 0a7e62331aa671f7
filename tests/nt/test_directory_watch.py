"""NtNotifyChangeDirectoryFile. Actions and layout: FILE_NOTIFY_INFORMATION in Microsoft's documentation."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from fake_machine import Machine
from nexus.nt.io.place import Grant
from nexus.nt.io.volume import Volume
from nexus.nt.status import Status

LIST_DIRECTORY, SYNC = 0x1, 0x100000
DIRECTORY, SYNCHRONOUS, DELETE_ON_CLOSE = 0x1, 0x20, 0x1000
FILE_NAME, DIR_NAME, ATTRIBUTES, LAST_WRITE = 0x1, 0x2, 0x4, 0x10
ADDED, REMOVED, MODIFIED, RENAMED_FROM, RENAMED_TO = 1, 2, 3, 4, 5
UNTOUCHED = 0xDEADBEEF


class Watched:
    """The folder `host`, granted as X:, and an asynchronous handle to it."""

    def __init__(self, machine: Machine, host: Path) -> None:
        self.machine, self.host = machine, host
        self.volume = Volume("X", "HarddiskVolume9")
        self.volume.mount([], Grant(str(host), write=True))
        machine.kernel.io.add_volume(self.volume)
        self.iosb, self.buffer = machine.put(16), machine.put(0x400)
        self.handle = self.open("\\??\\X:\\", LIST_DIRECTORY | SYNC, 1, DIRECTORY)

    def open(self, name: str, access: int, disposition: int, options: int) -> int:
        machine = self.machine
        out, iosb = machine.put(8), machine.put(16)
        attributes = machine.attributes(name)
        status = machine.NtCreateFile(out, access, attributes, iosb, 0, 0, 7, disposition, options, 0, 0)
        assert status == Status.SUCCESS, hex(status)
        return machine.memory.u64(out)

    def wait(self, filter: int = FILE_NAME, tree: bool = False, length: int = 0x400) -> int:
        self.machine.memory.write(self.iosb, struct.pack("<QQ", UNTOUCHED, 0))
        status: int = self.machine.NtNotifyChangeDirectoryFile(
            self.handle, 0, 0, 0, self.iosb, self.buffer, length, filter, tree
        )
        return status

    @property
    def status(self) -> int:
        return self.machine.memory.u64(self.iosb) & 0xFFFF_FFFF

    def seen(self) -> list[tuple[int, str]]:
        """What the call has reported, once the poller has looked."""
        self.machine.kernel.poller.poll(0)
        assert self.status == Status.SUCCESS
        data = self.machine.memory.read(self.buffer, self.machine.memory.u64(self.iosb + 8))
        found = []
        while data:
            following, action, length = struct.unpack_from("<III", data)
            found.append((action, data[12 : 12 + length].decode("utf-16-le")))
            data = data[following:] if following else b""
        return found


@pytest.fixture
def watched(machine: Machine, tmp_path: Path) -> Watched:
    return Watched(machine, tmp_path)


def test_a_synchronous_handle_is_not_waited_for(watched: Watched) -> None:
    """FindFirstChangeNotification opens one, wants STATUS_PENDING and waits for the handle."""
    watched.handle = watched.open("\\??\\X:\\", LIST_DIRECTORY | SYNC, 1, DIRECTORY | SYNCHRONOUS)
    assert watched.wait() == Status.PENDING
    (watched.host / "new").write_bytes(b"")
    assert watched.seen() == [(ADDED, "new")]


def test_what_others_do_on_the_host_is_seen(watched: Watched) -> None:
    assert watched.wait() == Status.PENDING
    watched.machine.kernel.poller.poll(0)
    assert watched.status == UNTOUCHED
    (watched.host / "new").write_bytes(b"")
    assert watched.seen() == [(ADDED, "new")]
    assert watched.wait() == Status.PENDING
    (watched.host / "new").unlink()
    assert watched.seen() == [(REMOVED, "new")]


def test_changes_between_two_calls_are_kept(watched: Watched) -> None:
    watched.wait()
    (watched.host / "a").write_bytes(b"")
    assert watched.seen() == [(ADDED, "a")]
    (watched.host / "a").rename(watched.host / "b")
    (watched.host / "a:b").write_bytes(b"")
    watched.wait()
    assert watched.seen() == [(RENAMED_FROM, "a"), (RENAMED_TO, "b"), (ADDED, "a\uf03ab")]


def test_what_guests_do_is_told_at_once(watched: Watched) -> None:
    watched.wait()
    handle = watched.open("\\??\\X:\\mine", 0x40000000 | 0x10000 | SYNC, 2, 0x20 | DELETE_ON_CLOSE)
    assert watched.status == Status.SUCCESS
    assert watched.seen() == [(ADDED, "mine")]
    watched.machine.NtClose(handle)
    watched.wait()
    assert watched.seen() == [(REMOVED, "mine")]


def test_only_what_the_filter_names(watched: Watched) -> None:
    file = watched.host / "a"
    file.write_bytes(b"")
    watched.wait(DIR_NAME | LAST_WRITE)
    file.chmod(0o600)
    (watched.host / "b").write_bytes(b"")
    (watched.host / "folder").mkdir()
    assert watched.seen() == [(ADDED, "folder")]
    file.write_bytes(b"x")
    watched.wait(DIR_NAME | LAST_WRITE)
    assert watched.seen()[0] == (MODIFIED, "a")


def test_attributes(watched: Watched) -> None:
    (watched.host / "a").write_bytes(b"")
    watched.wait(ATTRIBUTES)
    os.utime(watched.host / "a", (1, 1))
    assert watched.seen() == [(MODIFIED, "a")]


def test_a_tree_with_folders_that_come_later(watched: Watched) -> None:
    (watched.host / "old" / "older").mkdir(parents=True)
    watched.wait(FILE_NAME | DIR_NAME, tree=True)
    (watched.host / "old" / "older" / "a").write_bytes(b"")
    assert watched.seen() == [(ADDED, "old\\older\\a")]
    (watched.host / "new").mkdir()
    watched.wait(FILE_NAME | DIR_NAME, tree=True)
    assert watched.seen() == [(ADDED, "new")]
    (watched.host / "new" / "b").write_bytes(b"")
    watched.wait(FILE_NAME | DIR_NAME, tree=True)
    assert watched.seen() == [(ADDED, "new\\b")]


def test_a_hidden_folder_stays_hidden(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    watched = Watched(machine, tmp_path)
    watched.volume.mount(["secret"], Grant(str(tmp_path / "secret"), read=False))
    watched.wait(tree=True)
    (tmp_path / "secret" / "a").write_bytes(b"")
    (tmp_path / "b").write_bytes(b"")
    assert watched.seen() == [(ADDED, "b")]


def test_too_small_a_buffer_asks_to_look_for_oneself(watched: Watched) -> None:
    watched.wait(length=16)
    (watched.host / "a long name").write_bytes(b"")
    watched.machine.kernel.poller.poll(0)
    assert watched.status == Status.NOTIFY_ENUM_DIR


def test_nothing_is_left_behind(watched: Watched) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watched.wait()
    assert watched.machine.kernel.poller
    watched.machine.NtClose(watched.handle)
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert not watched.machine.kernel.poller
