"""Saving registry keys to files and loading them from there, in this kernel's own format
(`registry_store`).
"""

from __future__ import annotations

import os

from nexus.abi.types import u32, uptr
from nexus.nt import access
from nexus.nt.attributes import Attributes
from nexus.nt.cm import registry_store
from nexus.nt.cm.registry import Key, KeyObject
from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_OPEN, FILE_SYNCHRONOUS_IO_NONALERT, FileObject
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.place import host_failure
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, ObjectAttributes, syscall
from nexus.nt.syscalls.key import start_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

SE_BACKUP_PRIVILEGE, SE_RESTORE_PRIVILEGE = 17, 18
SE_PRIVILEGE_ENABLED = 2
REG_FORCE_RESTORE = 8
_MAX_HIVE = 1 << 26


def _require(call: Call, privilege: int) -> None:
    token = call.thread.token or call.process.token
    if not token.privileges.get(privilege, 0) & SE_PRIVILEGE_ENABLED:
        raise NtError(Status.PRIVILEGE_NOT_HELD)


def _write_all(file: DiskFile, data: bytes) -> None:
    file.io.disk.charge(max(0, len(data) - file.size))
    try:
        os.ftruncate(file.fd, 0)
        view, done = memoryview(data), 0
        while done < len(data):
            done += os.pwrite(file.fd, view[done:], done)
    except OSError as error:
        raise host_failure(error) from error
    file.io.touched_file(file, True)


@syscall
def NtSaveKey(
    call: Call, key: Handle[KeyObject, 0], file: Handle[FileObject, access.FILE_WRITE_DATA]
) -> None:
    """Write a key and what is below it to a file."""
    _require(call, SE_BACKUP_PRIVILEGE)
    if not isinstance(file, DiskFile) or file.is_directory:
        raise NtError(Status.INVALID_PARAMETER)
    _write_all(file, registry_store.text_of(key.live).encode("utf-8"))


def _text_of(file: FileObject) -> str:
    if not isinstance(file, DiskFile) or file.is_directory:
        raise NtError(Status.INVALID_PARAMETER)
    return os.pread(file.fd, _MAX_HIVE, 0).decode("utf-8", "replace")


def _check(key: Key, text: str) -> None:
    """Refuse what NtSaveKey has not written before anything is changed."""
    try:
        registry_store.fill(Key(key.name, None), text)
    except ValueError as error:
        raise NtError(Status.NOT_REGISTRY_FILE) from error


def _load(call: Call, target: Attributes, source: Attributes) -> None:
    desired = access.FILE_READ_DATA | access.SYNCHRONIZE
    file, _ = call.kernel.io.open(call, source, desired, 7, FILE_OPEN, FILE_SYNCHRONOUS_IO_NONALERT)
    try:
        text = _text_of(file)
    finally:
        file.closed()
    _require(call, SE_RESTORE_PRIVILEGE)
    registry = call.kernel.io.registry
    now = call.kernel.clock.system()
    key, _made = registry.create(target.name or "", start_of(call, target), now)
    _check(key, text)
    registry_store.fill(key, text)
    registry.note("load", key.path)
    registry.changed(key, 1, now)


@syscall
def NtLoadKey(call: Call, target: ObjectAttributes, source: ObjectAttributes) -> None:
    """Put what NtSaveKey wrote under a key."""
    _load(call, target, source)


@syscall
def NtLoadKey2(call: Call, target: ObjectAttributes, source: ObjectAttributes, flags: u32) -> None:
    """See NtLoadKey."""
    _load(call, target, source)


@syscall
def NtLoadKeyEx(
    call: Call,
    target: ObjectAttributes,
    source: ObjectAttributes,
    flags: u32,
    trust: uptr,
    event: uptr,
    desired: u32,
    root: uptr,
    iosb: uptr,
) -> None:
    """See NtLoadKey; application hives (REG_APP_HIVE) are loaded like others and `root` is not filled in."""
    _load(call, target, source)


@syscall
def NtUnloadKey(call: Call, target: ObjectAttributes) -> None:
    """Take a loaded key away with everything below it."""
    _require(call, SE_RESTORE_PRIVILEGE)
    registry = call.kernel.io.registry
    key = registry.open(target.name or "", start_of(call, target))
    if key.parent is None or key.parent is registry.root:
        raise NtError(Status.ACCESS_DENIED)
    registry.note("unload", key.path)
    for below in key.walk():
        below.deleted = True
    key.parent.remove(key)
    registry.changed(key.parent, 1, call.kernel.clock.system())


@syscall
def NtRestoreKey(
    call: Call, key: Handle[KeyObject, 0], file: Handle[FileObject, access.FILE_READ_DATA], flags: u32
) -> None:
    """Replace what a key holds by what NtSaveKey wrote. Keys that are open below it are deleted ones then,
    with REG_FORCE_RESTORE and without.
    """
    _require(call, SE_RESTORE_PRIVILEGE)
    if flags & ~REG_FORCE_RESTORE:
        raise call.unsupported(f"NtRestoreKey with flags {flags:#x}", "src/nexus/nt/syscalls/hive.py")
    text = _text_of(file)
    live, registry = key.live, call.kernel.io.registry
    _check(live, text)
    for child in list(live.subkeys.values()):
        for below in child.walk():
            below.deleted = True
        live.remove(child)
    live.values.clear()
    registry_store.fill(live, text)
    registry.note("load", live.path)
    registry.changed(live, 1, call.kernel.clock.system())


@syscall
def NtReplaceKey(call: Call, target: ObjectAttributes, key: uptr, saved: ObjectAttributes) -> None:
    """Replacing a hive's file is not written yet."""
    _require(call, SE_RESTORE_PRIVILEGE)
    raise call.unsupported("NtReplaceKey", "nexus/nt/syscalls/hive.py")
