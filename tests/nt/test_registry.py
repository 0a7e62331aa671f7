"""The registry's tree, its store, and the key syscalls (statuses: the NT documentation, checked with
Wine's reg tests).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from fake_machine import Machine
from nexus.base.errors import NexusError
from nexus.nt.cm import registry_defaults, registry_store
from nexus.nt.cm.registry import MAX_NOTED, REG_LINK, Registry
from nexus.nt.io.path import wide
from nexus.nt.io.place import Grant
from nexus.nt.io.volume import Volume
from nexus.nt.status import Status

ALL = 0xF003F
READ = 0x20019
TEST = "\\Registry\\Machine\\Software\\Test"


class Keys:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.registry = machine.kernel.io.registry
        registry_defaults.fill(self.registry, "S-1-5-21-0-0-0-1000", "user", 1, 0)
        self.out, self.length, self.disposition = machine.put(8), machine.put(4), machine.put(4)
        self.buffer = machine.put(0x1000)

    def create(self, name: str, root: int = 0, options: int = 0, access: int = ALL) -> Any:
        at = self.machine.attributes(name, root=root)
        status = self.machine.NtCreateKey(self.out, access, at, 0, 0, options, self.disposition)
        return self.machine.memory.u64(self.out) if status == 0 else status

    def open(self, name: str, root: int = 0, access: int = ALL, flags: int = 0x40) -> Any:
        at = self.machine.attributes(name, root=root, flags=flags)
        status = self.machine.NtOpenKey(self.out, access, at)
        return self.machine.memory.u64(self.out) if status == 0 else status

    def set(self, key: int, name: str, data: bytes, kind: int = 3) -> int:
        at = self.machine.put(data)
        status: int = self.machine.NtSetValueKey(key, self.machine.unicode(name), 0, kind, at, len(data))
        return status

    def query(self, key: int, name: str, kind: int = 2, length: int = 0x1000) -> tuple[int, bytes, int]:
        """(status, what was written, needed length)"""
        self.machine.memory.write(self.buffer, b"\xcc" * 0x100)
        status = self.machine.NtQueryValueKey(
            key, self.machine.unicode(name), kind, self.buffer, length, self.length
        )
        needed = self.machine.memory.u32(self.length)
        return status, self.machine.memory.read(self.buffer, min(length, needed)), needed


@pytest.fixture
def keys(machine: Machine) -> Keys:
    return Keys(machine)


def test_create_open_and_delete(keys: Keys) -> None:
    first = keys.create(TEST)
    assert keys.machine.memory.u32(keys.disposition) == 1
    assert keys.create(TEST.upper()) > 0
    assert keys.machine.memory.u32(keys.disposition) == 2
    below = keys.create("Below", root=first)
    assert keys.open(TEST + "\\bELOW") > 0
    assert keys.machine.NtDeleteKey(first) == Status.ACCESS_DENIED
    assert keys.machine.NtDeleteKey(below) == Status.SUCCESS
    assert keys.set(below, "v", b"") == Status.KEY_DELETED
    assert keys.machine.NtDeleteKey(first) == Status.SUCCESS
    assert keys.open(TEST) == Status.OBJECT_NAME_NOT_FOUND


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("Machine", Status.OBJECT_PATH_SYNTAX_BAD),
        ("\\Foobar", Status.OBJECT_NAME_NOT_FOUND),
        ("\\Foobar\\Machine", Status.OBJECT_PATH_NOT_FOUND),
        ("\\Device\\Null", Status.OBJECT_TYPE_MISMATCH),
        ("\\Registry\\Machine\\None\\Deeper", Status.OBJECT_NAME_NOT_FOUND),
        ("\\Registry\\Machine\\" + "x" * 257, Status.INVALID_PARAMETER),
    ],
)
def test_names(keys: Keys, name: str, status: int) -> None:
    assert keys.open(name) == status
    assert keys.machine.memory.u64(keys.out) == 0


def test_values_and_lengths(keys: Keys) -> None:
    key = keys.create(TEST)
    assert keys.set(key, "Value", b"12345") == Status.SUCCESS
    whole = struct.pack("<III", 0, 3, 5) + b"12345"
    assert keys.query(key, "vALUE") == (Status.SUCCESS, whole, 17)
    assert keys.query(key, "value", length=14) == (Status.BUFFER_OVERFLOW, whole[:14], 17)
    assert keys.query(key, "value", length=11)[::2] == (Status.BUFFER_TOO_SMALL, 17)
    assert keys.query(key, "other")[0] == Status.OBJECT_NAME_NOT_FOUND
    full = keys.query(key, "value", kind=1)[1]
    assert full == struct.pack("<5I", 0, 3, 30, 5, 10) + wide("Value") + b"12345"
    assert keys.query(key, "value", kind=9)[0] == Status.INVALID_PARAMETER
    assert keys.set(key, "x" * 16384, b"") == Status.INVALID_PARAMETER
    reader = keys.open(TEST, access=READ)
    assert keys.set(reader, "v", b"") == Status.ACCESS_DENIED


def test_enumeration_is_sorted_and_ends(keys: Keys) -> None:
    key = keys.create(TEST)
    for name in ("b", "C", "a"):
        keys.create(name, root=key)
    names = []
    index = 0
    while True:
        status = keys.machine.NtEnumerateKey(key, index, 0, keys.buffer, 100, keys.length)
        if status:
            break
        data = keys.machine.memory.read(keys.buffer, keys.machine.memory.u32(keys.length))
        names.append(data[16:].decode("utf-16-le"))
        index += 1
    assert status == Status.NO_MORE_ENTRIES
    assert names == ["a", "b", "C"]
    keys.set(key, "number", b"1234", 4)
    assert keys.machine.NtQueryKey(key, 2, keys.buffer, 44, keys.length) == Status.SUCCESS
    assert struct.unpack("<9I", keys.machine.memory.read(keys.buffer + 8, 36)) == (
        *(0, 0xFFFFFFFF, 0, 3, 2, 0),
        *(1, 12, 4),
    )


def test_volatile_parents(keys: Keys) -> None:
    parent = keys.create(TEST, options=1)
    assert keys.create("Child", root=parent) == Status.CHILD_MUST_BE_VOLATILE
    assert keys.create("Child", root=parent, options=1) > 0


def test_links(keys: Keys) -> None:
    keys.create("\\Registry\\Machine\\Software\\Target")
    link = keys.create(TEST, options=2)
    assert keys.open(TEST) == Status.OBJECT_NAME_NOT_FOUND
    assert keys.set(link, "Other", b"", 1) == Status.ACCESS_DENIED
    assert keys.set(link, "SymbolicLinkValue", wide("\\Registry\\Machine\\Software\\Target"), REG_LINK) == 0
    through = keys.open(TEST)
    keys.set(through, "seen", b"1")
    assert keys.registry.open("\\Registry\\Machine\\Software\\Target").value("seen").data == b"1"
    itself = keys.open(TEST, flags=0x140)
    assert keys.query(itself, "SymbolicLinkValue")[0] == Status.SUCCESS
    current = keys.registry.open("\\Registry\\Machine\\System\\CurrentControlSet\\Control")
    assert current.path == "\\REGISTRY\\Machine\\System\\ControlSet001\\Control"


def test_a_link_to_itself_ends(keys: Keys) -> None:
    link = keys.create(TEST, options=2)
    keys.set(link, "SymbolicLinkValue", wide(TEST), REG_LINK)
    assert keys.open(TEST) == Status.NAME_TOO_LONG


def test_rename(keys: Keys) -> None:
    key = keys.create(TEST)
    keys.create("\\Registry\\Machine\\Software\\Taken")
    assert keys.machine.NtRenameKey(key, keys.machine.unicode("Taken")) == Status.CANNOT_DELETE
    assert keys.machine.NtRenameKey(key, keys.machine.unicode("a\\b")) == Status.INVALID_PARAMETER
    assert keys.machine.NtRenameKey(key, keys.machine.unicode("New")) == Status.SUCCESS
    assert keys.open(TEST) == Status.OBJECT_NAME_NOT_FOUND
    assert keys.open("\\Registry\\Machine\\Software\\nEW") > 0


def test_notification(keys: Keys) -> None:
    machine = keys.machine
    key = keys.create(TEST)
    event = machine.new_handle("NtCreateEvent", 0x1F0003, 0, 0, 0)
    now = machine.put(bytes(8))
    assert machine.NtNotifyChangeKey(key, event, 0, 0, 0, 5, 0, 0, 0, 1) == Status.PENDING
    assert machine.NtWaitForSingleObject(event, 0, now) == Status.TIMEOUT
    keys.set(key, "v", b"1")
    assert machine.NtWaitForSingleObject(event, 0, now) == Status.SUCCESS
    assert machine.NtNotifyChangeKey(key, event, 0, 0, 0, 5, 0, 0, 0, 1) == Status.PENDING
    keys.set(key, "v", b"1")  # nothing changes
    assert machine.NtWaitForSingleObject(event, 0, now) == Status.TIMEOUT
    machine.process.handles.close(key)
    assert machine.NtWaitForSingleObject(event, 0, now) == Status.SUCCESS


def test_store_keeps_everything_but_volatile_keys(tmp_path: Path) -> None:
    registry = Registry()
    registry_defaults.fill(registry, "S-1", "user", 2, 5)
    odd = registry.root.ensure("Machine").add('we"ird]|\\name'.replace("\\", "/") + "\ud800\u00e9\n")
    odd.class_name = "a class"
    odd.set("", 1, b"\0\1")
    odd.set('q"uote', 7, b"")
    path = str(tmp_path / "registry")
    registry_store.save(registry, path)
    again = Registry()
    assert registry_store.load(again, path)
    before = [(k.path, k.class_name, k.link, [(v.name, v.type, v.data) for v in k.values.values()])
              for k in registry.root.walk() if "Hardware\\" not in k.path + "\\"]  # fmt: skip
    after = [(k.path, k.class_name, k.link, [(v.name, v.type, v.data) for v in k.values.values()])
             for k in again.root.walk()]  # fmt: skip
    assert before == after
    assert [p.name for p in tmp_path.iterdir()] == ["registry"]


def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    path = tmp_path / "registry"
    assert not registry_store.load(Registry(), str(path))
    for text in ("", "garbage", "nexus registry 1\n[x", 'nexus registry 1\n"v" 1 zz'):
        path.write_text(text)
        with pytest.raises(NexusError):
            registry_store.load(Registry(), str(path))


def test_writes_are_noted_once_each() -> None:
    registry = Registry()
    machine = registry.root.add("MACHINE", 0)
    key, _ = registry.create("App", machine, 1)
    for data in (b"1", b"2"):
        registry.set_value(key, "Name", 1, data, 2)
    registry.delete_value(key, "name", 3)
    registry.rename(key, "Other", 4)
    registry.delete(key, 5)
    path = "\\REGISTRY\\MACHINE\\"
    assert list(registry.noted) == [
        ("create", path + "App", None),
        ("set", path + "App", "Name"),
        ("delete value", path + "App", "name"),
        ("rename", path + "App", "Other"),
        ("delete", path + "Other", None),
    ]
    for number in range(MAX_NOTED + 1):
        registry.note("set", path, str(number))
    assert len(registry.noted) == MAX_NOTED


def test_restore_replaces_what_a_key_holds(tmp_path: Path) -> None:
    machine = Machine()
    volume = Volume("X", "HarddiskVolume9")
    volume.mount([], Grant(str(tmp_path), write=True))
    machine.kernel.io.add_volume(volume)
    registry = machine.kernel.io.registry
    key, _ = registry.create("App", registry.root.add("MACHINE", 0), 1)
    registry.set_value(key, "Kept", 1, b"1", 2)
    registry.create("Below", key, 2)
    handle, iosb = machine.put(8), machine.put(16)
    attributes = machine.attributes("\\Registry\\Machine\\App")
    assert machine.NtOpenKey(handle, ALL, attributes) == Status.SUCCESS
    opened = machine.memory.u64(handle)
    name = machine.attributes("\\??\\X:\\saved")
    assert machine.NtCreateFile(handle, 0xC0100000, name, iosb, 0, 0, 7, 2, 0x20, 0, 0) == Status.SUCCESS
    file = machine.memory.u64(handle)
    assert machine.NtRestoreKey(opened, file, 0) == Status.PRIVILEGE_NOT_HELD
    for privilege in (17, 18):  # SeBackupPrivilege, SeRestorePrivilege
        machine.process.token.privileges[privilege] = 2
    assert machine.NtSaveKey(opened, file) == Status.SUCCESS
    below = key.child("Below")
    registry.set_value(key, "New", 1, b"2", 3)
    registry.create("Other", key, 3)
    assert machine.NtRestoreKey(opened, file, 8) == Status.SUCCESS
    assert list(key.values) == ["KEPT"] and list(key.subkeys) == ["BELOW"]
    assert below is not None and below.deleted and key.child("Below") is not below
    (tmp_path / "saved").write_bytes(b"something else")
    assert machine.NtRestoreKey(opened, file, 0) == Status.NOT_REGISTRY_FILE
    assert list(key.values) == ["KEPT"]
