"""File syscalls on a granted host folder. Expected statuses and layouts: the NT documentation, checked
against Wine.
"""

from __future__ import annotations

import os
import resource
import struct
from pathlib import Path

import pytest

from fake_machine import Machine
from file_calls import (
    CREATE,
    DELETE,
    DELETE_ON_CLOSE,
    DIRECTORY,
    NON_DIRECTORY,
    OPEN,
    OPEN_IF,
    OVERWRITE,
    OVERWRITE_IF,
    READ,
    SYNC,
    SYNCHRONOUS,
    WRITE,
    Files,
)
from nexus.nt.io.place import Grant
from nexus.nt.io.volume import Volume
from nexus.nt.status import Status


@pytest.mark.parametrize(
    ("exists", "disposition", "status", "information"),
    [
        (True, 0, Status.SUCCESS, 0),
        (True, OPEN, Status.SUCCESS, 1),
        (True, CREATE, Status.OBJECT_NAME_COLLISION, None),
        (True, OPEN_IF, Status.SUCCESS, 1),
        (True, OVERWRITE, Status.SUCCESS, 3),
        (True, OVERWRITE_IF, Status.SUCCESS, 3),
        (True, 6, Status.INVALID_PARAMETER, None),
        (False, 0, Status.SUCCESS, 2),
        (False, OPEN, Status.OBJECT_NAME_NOT_FOUND, None),
        (False, CREATE, Status.SUCCESS, 2),
        (False, OPEN_IF, Status.SUCCESS, 2),
        (False, OVERWRITE, Status.OBJECT_NAME_NOT_FOUND, None),
        (False, OVERWRITE_IF, Status.SUCCESS, 2),
    ],
)
def test_dispositions(
    files: Files, exists: bool, disposition: int, status: int, information: int | None
) -> None:
    if exists:
        (files.host / "f").write_text("old")
    assert files.create("F", READ | WRITE | SYNC, disposition=disposition) == status
    if information is not None:
        assert files.information == information
        assert (files.host / "f").exists() == exists
        size = (files.host / ("f" if exists else "F")).stat().st_size
        assert size == (3 if exists and disposition in (OPEN, OPEN_IF) else 0)


def test_reading_and_writing_move_the_position(files: Files) -> None:
    handle = files.open("a.txt", READ | WRITE | SYNC, disposition=CREATE)
    assert files.write(handle, b"hello world") == Status.SUCCESS
    assert files.information == 11
    assert files.read(handle, 5)[0] == Status.END_OF_FILE
    assert files.machine.memory.u32(files.iosb) == Status.END_OF_FILE
    assert files.set(handle, 14, struct.pack("<q", 6)) == Status.SUCCESS
    assert files.read(handle, 100) == (Status.SUCCESS, b"world")
    start = files.machine.put(struct.pack("<q", 1))
    assert files.read(handle, 4, start) == (Status.SUCCESS, b"ello")
    assert files.query(handle, 14, 8) == (Status.SUCCESS, struct.pack("<q", 5))
    end = files.machine.put(struct.pack("<q", -1))
    assert files.write(handle, b"!", end) == Status.SUCCESS
    assert (files.host / "a.txt").read_bytes() == b"hello world!"


def test_append_only_handle(files: Files) -> None:
    (files.host / "log").write_bytes(b"one")
    handle = files.open("log", 0x4 | SYNC)
    zero = files.machine.put(struct.pack("<q", 0))
    assert files.write(handle, b"two", zero) == Status.SUCCESS
    assert (files.host / "log").read_bytes() == b"onetwo"
    assert files.read(handle, 1)[0] == Status.ACCESS_DENIED


def test_asynchronous_handle_needs_an_offset_and_sets_the_event(files: Files) -> None:
    (files.host / "f").write_bytes(b"data")
    handle = files.open("f", READ, options=0)
    assert files.read(handle, 4)[0] == Status.INVALID_PARAMETER
    event = files.machine.new_handle("NtCreateEvent", 0x1F0003, 0, 0, 0)
    offset = files.machine.put(struct.pack("<q", 0))
    status = files.machine.NtReadFile(handle, event, 0, 0, files.iosb, files.buffer, 4, offset, 0)
    assert status == Status.PENDING  # and it has ended: asynchronous files answer so since Vista
    assert files.information == 4
    assert files.machine.NtWaitForSingleObject(event, 0, files.machine.put(bytes(8))) == Status.SUCCESS


def test_completion_port_gets_a_packet(files: Files) -> None:
    machine = files.machine
    (files.host / "f").write_bytes(b"data")
    handle = files.open("f", READ, options=0)
    port = machine.new_handle("NtCreateIoCompletion", 0x1F0003, 0, 0)
    assert files.set(handle, 30, struct.pack("<QQ", port, 77)) == Status.SUCCESS
    offset = machine.put(struct.pack("<q", 0))
    assert machine.NtReadFile(handle, 0, 0, 0x1234, files.iosb, files.buffer, 4, offset, 0) == Status.PENDING
    key, value, result = machine.put(8), machine.put(8), machine.put(16)
    assert machine.NtRemoveIoCompletion(port, key, value, result, machine.put(bytes(8))) == Status.SUCCESS
    assert (machine.memory.u64(key), machine.memory.u64(value)) == (77, 0x1234)
    assert machine.memory.read(result, 16) == struct.pack("<IxxxxQ", 0, 4)
    assert machine.NtRemoveIoCompletion(port, key, value, result, machine.put(bytes(8))) == Status.TIMEOUT


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ((READ, 7), (READ, 7), Status.SUCCESS),
        ((READ, 0), (READ, 7), Status.SHARING_VIOLATION),
        ((READ, 1), (READ, 1), Status.SUCCESS),
        ((READ, 1), (WRITE, 7), Status.SHARING_VIOLATION),
        ((WRITE, 7), (READ, 1), Status.SHARING_VIOLATION),
        ((WRITE, 7), (READ, 3), Status.SUCCESS),
        ((READ, 3), (DELETE, 7), Status.SHARING_VIOLATION),
        ((DELETE, 7), (READ, 3), Status.SHARING_VIOLATION),
        ((DELETE, 7), (READ, 7), Status.SUCCESS),
        ((READ, 0), (0x80, 0), Status.SUCCESS),
    ],
)
def test_sharing(files: Files, first: tuple[int, int], second: tuple[int, int], status: int) -> None:
    (files.host / "f").write_text("x")
    files.open("f", first[0] | SYNC, first[1])
    assert files.create("F", second[0] | SYNC, second[1]) == status


def test_delete_on_close_and_delete_pending(files: Files) -> None:
    (files.host / "f").write_text("x")
    first = files.open("f", READ | DELETE | SYNC, options=SYNCHRONOUS | DELETE_ON_CLOSE)
    second = files.open("f", READ | SYNC)
    files.close(first)
    assert (files.host / "f").exists()
    assert files.create("f", READ | SYNC) == Status.DELETE_PENDING
    files.close(second)
    assert not (files.host / "f").exists()


def test_disposition(files: Files) -> None:
    (files.host / "d").mkdir()
    (files.host / "d/f").write_text("x")
    folder = files.open("d", DELETE | SYNC, options=SYNCHRONOUS | DIRECTORY)
    assert files.set(folder, 13, b"\1") == Status.DIRECTORY_NOT_EMPTY
    file = files.open("d\\f", DELETE | SYNC)
    assert files.set(file, 13, b"\1") == Status.SUCCESS
    assert files.query(file, 5, 24)[1][16:22] == struct.pack("<IBB", 0, 1, 0)
    assert files.set(file, 13, b"\0") == Status.SUCCESS
    assert files.set(file, 64, struct.pack("<I", 3)) == Status.SUCCESS  # delete with POSIX semantics
    other = files.create("d\\f", READ | SYNC)
    assert other == Status.DELETE_PENDING
    files.close(file)
    assert not (files.host / "d/f").exists()
    assert files.set(folder, 13, b"\1") == Status.SUCCESS
    files.close(folder)
    assert not (files.host / "d").exists()


def test_read_only_file(files: Files) -> None:
    (files.host / "f").write_text("x")
    (files.host / "f").chmod(0o444)
    handle = files.open("f", READ | DELETE | SYNC)
    assert files.query(handle, 4, 40)[1][32:36] == struct.pack("<I", 0x21)
    assert files.set(handle, 13, b"\1") == Status.CANNOT_DELETE
    files.close(handle)
    assert files.create("f", WRITE | SYNC) == Status.ACCESS_DENIED
    assert files.create("f", READ | SYNC, disposition=OVERWRITE) == Status.ACCESS_DENIED


def test_rename(files: Files) -> None:
    (files.host / "a").write_text("a")
    (files.host / "b").write_text("b")
    (files.host / "sub").mkdir()
    handle = files.open("a", DELETE | SYNC)
    assert files.rename(handle, "\\??\\X:\\b") == Status.OBJECT_NAME_COLLISION
    assert files.rename(handle, "\\??\\X:\\sub\\C", flags=0) == Status.SUCCESS
    assert (files.host / "sub/C").read_text() == "a"
    assert files.rename(handle, "c") == Status.SUCCESS  # only the case changes
    assert [p.name for p in (files.host / "sub").iterdir()] == ["c"]
    assert files.rename(handle, "\\??\\X:\\B", kind=65, flags=1) == Status.SUCCESS
    assert sorted(p.name for p in files.host.iterdir()) == ["B", "sub"]
    assert files.query(handle, 9, 64)[1][4:].decode("utf-16-le") == "\\B"


def test_read_only_grant(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    files = Files(machine, tmp_path, write=False)
    assert files.create("f", WRITE | SYNC) == Status.ACCESS_DENIED
    assert files.create("new", WRITE | SYNC, disposition=CREATE) == Status.ACCESS_DENIED
    assert files.create("f", DELETE | SYNC) == Status.ACCESS_DENIED
    assert set(files.volume.refusals.seen.values()) == {"write"}
    handle = files.open("f", 0x2000000)  # MAXIMUM_ALLOWED
    assert machine.process.handles.access_of(handle) & 0x2 == 0


def test_folders(files: Files) -> None:
    handle = files.open("new", READ | SYNC, disposition=CREATE, options=SYNCHRONOUS | DIRECTORY)
    assert (files.host / "new").is_dir()
    assert files.read(handle, 1)[0] == Status.INVALID_DEVICE_REQUEST
    assert files.create("new", options=SYNCHRONOUS | NON_DIRECTORY) == Status.FILE_IS_A_DIRECTORY
    (files.host / "f").write_text("")
    assert files.create("f", options=SYNCHRONOUS | DIRECTORY) == Status.NOT_A_DIRECTORY
    assert files.create("f\\x") == Status.OBJECT_PATH_NOT_FOUND
    assert files.create("no\\x") == Status.OBJECT_PATH_NOT_FOUND
    assert files.create("no") == Status.OBJECT_NAME_NOT_FOUND
    assert files.create("a*") == Status.OBJECT_NAME_INVALID
    assert files.create("new", options=SYNCHRONOUS | DIRECTORY | NON_DIRECTORY) == Status.INVALID_PARAMETER
    assert files.create("new", 0x1, options=SYNCHRONOUS) == Status.INVALID_PARAMETER


def listing(
    files: Files, handle: int, mask: str | None = None, kind: int = 1, length: int = 0x1000
) -> list[str]:
    machine, names = files.machine, []
    mask_address = machine.unicode(mask) if mask else 0
    while True:
        status = machine.NtQueryDirectoryFile(
            handle, 0, 0, 0, files.iosb, files.buffer, length, kind, 0, mask_address, 0
        )
        if status:
            assert status in (Status.NO_MORE_FILES, Status.NO_SUCH_FILE)
            return names
        data, at = machine.memory.read(files.buffer, files.information), 0
        while True:
            step, size = struct.unpack_from("<I", data, at)[0], struct.unpack_from("<I", data, at + 60)[0]
            names.append(data[at + 64 : at + 64 + size].decode("utf-16-le"))
            if not step:
                break
            at += step


def test_enumerating(files: Files) -> None:
    for name in ("b.txt", "A.txt", "c.c", "_z"):
        (files.host / name).write_text("")
    (files.host / "sub").mkdir()
    folder = files.open("", READ | SYNC, options=SYNCHRONOUS | DIRECTORY)
    assert listing(files, folder) == ["A.txt", "b.txt", "c.c", "sub", "_z"]
    folder = files.open("", READ | SYNC, options=SYNCHRONOUS | DIRECTORY)
    assert listing(files, folder, length=90) == ["A.txt", "b.txt", "c.c", "sub", "_z"]
    folder = files.open("", READ | SYNC, options=SYNCHRONOUS | DIRECTORY)
    assert listing(files, folder, "<.TXT") == ["A.txt", "b.txt"]
    folder = files.open("sub", READ | SYNC, options=SYNCHRONOUS | DIRECTORY)
    assert listing(files, folder) == [".", ".."]
    folder = files.open("sub", READ | SYNC, options=SYNCHRONOUS | DIRECTORY)
    assert listing(files, folder, "x*") == []


def test_locks(files: Files) -> None:
    machine = files.machine
    (files.host / "f").write_bytes(bytes(100))
    one, two = files.open("f", READ | WRITE | SYNC), files.open("f", READ | WRITE | SYNC)
    at, ten = machine.put(struct.pack("<q", 10)), machine.put(struct.pack("<q", 10))
    assert machine.NtLockFile(one, 0, 0, 0, files.iosb, at, ten, 0, 1, 1) == Status.SUCCESS
    assert machine.NtLockFile(two, 0, 0, 0, files.iosb, at, ten, 0, 1, 0) == Status.LOCK_NOT_GRANTED
    assert files.read(two, 5, at)[0] == Status.FILE_LOCK_CONFLICT
    assert files.write(two, b"x", at) == Status.FILE_LOCK_CONFLICT
    assert files.read(one, 5, at)[0] == Status.SUCCESS
    assert machine.NtUnlockFile(two, files.iosb, at, ten, 0) == Status.RANGE_NOT_LOCKED
    assert machine.NtUnlockFile(one, files.iosb, at, ten, 0) == Status.SUCCESS
    assert files.write(two, b"x", at) == Status.SUCCESS


def test_attributes_by_name(files: Files) -> None:
    machine = files.machine
    (files.host / "f").write_bytes(bytes(5000))
    out = machine.put(56)
    assert machine.NtQueryFullAttributesFile(machine.attributes("\\??\\X:\\F"), out) == Status.SUCCESS
    allocation, size, attributes = struct.unpack("<QQI", machine.memory.read(out + 32, 20))
    assert (allocation, size, attributes) == (8192, 5000, 0x20)
    assert (
        machine.NtQueryAttributesFile(machine.attributes("\\??\\X:\\g"), out) == Status.OBJECT_NAME_NOT_FOUND
    )
    assert (
        machine.NtQueryAttributesFile(machine.attributes("\\??\\Q:\\g"), out) == Status.OBJECT_PATH_NOT_FOUND
    )


def test_sizes_of_information(files: Files) -> None:
    (files.host / "f").write_bytes(b"1234")
    handle = files.open("f", READ | SYNC)
    for kind, size in (
        (4, 40),
        (5, 24),
        (6, 8),
        (7, 4),
        (8, 4),
        (14, 8),
        (16, 4),
        (17, 4),
        (34, 56),
        (35, 8),
        (59, 24),
        (68, 72),
    ):
        status, data = files.query(handle, kind, size)
        assert (status, len(data)) == (Status.SUCCESS, size), kind
        assert files.query(handle, kind, size - 1)[0] == Status.INFO_LENGTH_MISMATCH, kind
    assert files.query(handle, 9, 6)[0] == Status.INFO_LENGTH_MISMATCH
    status, data = files.query(handle, 9, 8)
    assert (status, data) == (Status.SUCCESS, b"\4\0\0\0\\\0f\0")
    assert files.query(handle, 18, 1000)[1][96:] == b"\4\0\0\0\\\0f\0"
    assert files.query(handle, 0, 100)[0] == Status.INVALID_INFO_CLASS


def test_an_unknown_class_is_loud(files: Files) -> None:
    from nexus.base.errors import Unsupported

    (files.host / "f").write_bytes(b"1234")
    handle = files.open("f", READ | SYNC)
    with pytest.raises(Unsupported):
        files.query(handle, 33, 100)


def test_disk_limit(files: Files) -> None:
    files.machine.kernel.io.disk.limit = 100
    handle = files.open("f", READ | WRITE | SYNC, disposition=CREATE)
    assert files.write(handle, bytes(90)) == Status.SUCCESS
    assert files.write(handle, bytes(20)) == Status.DISK_FULL
    assert files.set(handle, 20, struct.pack("<q", 0)) == Status.SUCCESS
    assert files.write(handle, bytes(20), files.machine.put(bytes(8))) == Status.SUCCESS


def test_null_device(files: Files) -> None:
    machine = files.machine
    attributes = machine.attributes("\\??\\NUL")
    assert machine.NtOpenFile(files.handle, READ | WRITE | SYNC, attributes, files.iosb, 7, SYNCHRONOUS) == 0
    handle = machine.memory.u64(files.handle)
    assert files.write(handle, b"gone") == Status.SUCCESS
    assert files.read(handle, 4)[0] == Status.END_OF_FILE


def test_host_stream(files: Files) -> None:
    import os

    from nexus.nt.io.file_stream import HostStream

    machine = files.machine
    out, into = os.pipe()
    try:
        stream = HostStream(machine.kernel.io, out, 0x120089)
        handle = machine.process.handles.add(stream, 0x120089)
        waiting = machine.NtReadFile(handle, 0, 0, 0, files.iosb, files.buffer, 100, 0, 0)
        assert not isinstance(waiting, int)
        os.write(into, b"later")
        machine.kernel.poller.poll(1000)
        assert machine.memory.read(files.buffer, 5) == b"later"
        assert files.information == 5
        os.close(into)
        into = -1
        assert files.read(handle, 10)[0] == Status.PIPE_BROKEN
    finally:
        os.close(out)
        if into >= 0:
            os.close(into)


def test_a_file_without_room_for_its_handle_is_closed(files: Files) -> None:
    (files.host / "a").write_bytes(b"x")
    handles = files.machine.process.handles
    limit, handles.limit = handles.limit, 0
    assert files.create("a", share=0) == Status.INSUFFICIENT_RESOURCES
    handles.limit = limit
    assert files.create("a", share=0) == Status.SUCCESS


def test_too_many_files_for_the_host(files: Files) -> None:
    (files.host / "a").write_bytes(b"x")
    assert files.create("a") == Status.SUCCESS  # Python has loaded the files that this needs
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        assert files.create("a") == Status.TOO_MANY_OPENED_FILES
        machine = files.machine
        out, length = machine.put(8), machine.put(struct.pack("<q", 0x1000))
        section = machine.NtCreateSection(out, 0xF001F, 0, length, 4, 0x8000000, 0)
        assert section == Status.TOO_MANY_OPENED_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_mapped_file_that_vanished_leaves_its_number(files: Files) -> None:
    """The host gives the number of a removed file to the next one, which must not count as being deleted."""
    path = files.host / "a"
    path.write_bytes(b"x" * 100)
    machine = files.machine
    handle = files.open("a", READ | DELETE | SYNC, options=SYNCHRONOUS | DELETE_ON_CLOSE)
    section = machine.new_handle("NtCreateSection", 0xF001F, 0, 0, 2, 0x8000000, handle)
    key = next(iter(machine.kernel.io.nodes))
    files.close(handle)
    assert not path.exists()
    files.close(section)
    again = files.host / "b"
    again.write_bytes(b"y")
    info = again.stat()
    stale = machine.kernel.io.nodes.pop(key)
    machine.kernel.io.nodes[info.st_dev, info.st_ino] = stale
    files.open("b")


@pytest.mark.parametrize(("protection", "status"), [(2, Status.SUCCESS), (4, Status.SHARING_VIOLATION)])
def test_who_opens_a_file_that_is_mapped_for_writing_shares_it(
    files: Files, protection: int, status: int
) -> None:
    """Wine's test_file_sharing: PAGE_READWRITE sections demand FILE_SHARE_WRITE, even for no access."""
    (files.host / "a").write_bytes(b"x" * 100)
    handle = files.open("a", READ | WRITE | SYNC)
    files.machine.new_handle("NtCreateSection", 0xF001F, 0, 0, protection, 0x8000000, handle)
    files.close(handle)
    assert files.create("a", SYNC, share=1) == status
    assert files.create("a", SYNC, share=3) == Status.SUCCESS


def test_a_folder_takes_the_place_of_a_file(files: Files) -> None:
    """Wine's test_file_rename_information: the old one is a directory, the new one a file, Replace = TRUE."""
    (files.host / "folder").mkdir()
    (files.host / "folder" / "inside").write_bytes(b"1")
    (files.host / "file").write_bytes(b"2")
    handle = files.open("folder", DELETE | SYNC, options=SYNCHRONOUS | DIRECTORY)
    assert files.rename(handle, "file", flags=1) == Status.SUCCESS
    assert (files.host / "file" / "inside").read_bytes() == b"1"


def test_a_link_to_itself_collides(files: Files) -> None:
    (files.host / "a").write_bytes(b"x")
    handle = files.open("a")
    assert files.rename(handle, "a", kind=11) == Status.OBJECT_NAME_COLLISION
    assert files.rename(handle, "a", kind=11, flags=1) == Status.SUCCESS


@pytest.mark.parametrize(("access", "disposition", "kind"), [(READ, OPEN, "read"), (WRITE, OPEN_IF, "write")])
def test_a_refused_link_tells_what_was_wanted(
    machine: Machine, tmp_path: Path, access: int, disposition: int, kind: str
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.write_bytes(b"x")
    (inside / "link").symlink_to(outside)
    volume = Volume("Y", "HarddiskVolume8")
    volume.grant(Grant(str(inside), write=True))
    machine.kernel.io.add_volume(volume)
    out, iosb = machine.put(8), machine.put(16)
    name = machine.attributes("\\??\\Y:" + str(inside / "link").replace("/", "\\"))
    status = machine.NtCreateFile(out, access, name, iosb, 0, 0, 7, disposition, 0, 0, 0)
    assert status == Status.ACCESS_DENIED
    assert volume.refusals.seen == {str(outside): kind}
