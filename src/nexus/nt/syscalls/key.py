"""Registry syscalls."""

from __future__ import annotations

import struct

from nexus.abi.pointer import In, Out
from nexus.abi.types import boolean, u32, uptr
from nexus.nt import access
from nexus.nt.attributes import Attributes, read_unicode_string
from nexus.nt.cm.registry import MAX_VALUE_NAME, ROOT, Key, KeyObject, Value, Watch
from nexus.nt.errors import NtError
from nexus.nt.io.path import units, upcase, wide
from nexus.nt.status import Status
from nexus.nt.sync import Event
from nexus.nt.syscall import Handle, NewHandle, ObjectAttributes, UnicodeString, syscall
from nexus.nt.wait import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

KEY_WOW64_64KEY = 0x100
KEY_WOW64_32KEY = 0x200

REG_OPTION_VOLATILE = 0x1
REG_OPTION_CREATE_LINK = 0x2
OBJ_OPENLINK = 0x100

REG_CREATED_NEW_KEY = 1
REG_OPENED_EXISTING_KEY = 2

_FILE = "nexus/nt/syscalls/key.py"
_MAX_DATA = 0x1000_0000


def start_of(call: Call, attributes: Attributes) -> Key | None:
    """The key that names are relative to; None for names from the top, which must lead into the registry."""
    if attributes.root is not None:
        if not isinstance(attributes.root, KeyObject):
            raise NtError(Status.OBJECT_TYPE_MISMATCH)
        return attributes.root.live
    if attributes.root_handle:
        raise NtError(Status.INVALID_HANDLE)
    name = attributes.name or ""
    if upcase(name[1:].partition("\\")[0]) != ROOT:
        call.kernel.namespace.parse(name)
        raise NtError(Status.OBJECT_TYPE_MISMATCH)
    return None


def _named(attributes: Attributes | None) -> tuple[Attributes, str]:
    """The attributes and their name: the registry will do without neither."""
    if attributes is None or attributes.name is None:
        raise NtError(Status.ACCESS_VIOLATION)
    return attributes, attributes.name


def _open(call: Call, key: NewHandle, desired: int, attributes: Attributes | None) -> None:
    attributes, name = _named(attributes)
    start = start_of(call, attributes)
    found = call.kernel.io.registry.open(name, start, bool(attributes.flags & OBJ_OPENLINK))
    _give(call, key, found, desired, attributes)


def _give(call: Call, out: NewHandle, key: Key, desired: int, attributes: Attributes) -> None:
    call.give_handle(out, KeyObject(key), desired & ~(KEY_WOW64_32KEY | KEY_WOW64_64KEY), attributes)


@syscall
def NtOpenKey(call: Call, key: NewHandle, desired: u32, attributes: ObjectAttributes | None) -> None:
    """Open an existing key."""
    _open(call, key, desired, attributes)


@syscall
def NtOpenKeyEx(
    call: Call, key: NewHandle, desired: u32, attributes: ObjectAttributes | None, options: u32
) -> None:
    """Open an existing key; OBJ_OPENLINK (not the option of that name) opens a link itself."""
    _open(call, key, desired, attributes)


@syscall
def NtOpenKeyTransacted(
    call: Call, key: NewHandle, desired: u32, attributes: ObjectAttributes | None, transaction: uptr
) -> None:
    """Open an existing key; what is read is the same inside and outside of a transaction."""
    _open(call, key, desired, attributes)


@syscall
def NtOpenKeyTransactedEx(
    call: Call,
    key: NewHandle,
    desired: u32,
    attributes: ObjectAttributes | None,
    options: u32,
    transaction: uptr,
) -> None:
    """See NtOpenKeyTransacted."""
    _open(call, key, desired, attributes)


@syscall
def NtCreateKeyTransacted(
    call: Call,
    key: NewHandle,
    desired: u32,
    attributes: ObjectAttributes | None,
    index: u32,
    class_name: UnicodeString | None,
    options: u32,
    transaction: uptr,
    disposition: Out[u32] | None,
) -> None:
    """Transactions cannot be rolled back here, so none is begun."""
    raise NtError(Status.NOT_SUPPORTED)


@syscall
def NtCreateKey(
    call: Call,
    key: NewHandle,
    desired: u32,
    attributes: ObjectAttributes | None,
    index: u32,
    class_name: UnicodeString | None,
    options: u32,
    disposition: Out[u32] | None,
) -> None:
    """Open a key, or make it when only its last component is missing."""
    attributes, name = _named(attributes)
    if not name and not attributes.root_handle:
        raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
    start = start_of(call, attributes)
    found, made = call.kernel.io.registry.create(
        name,
        start,
        call.kernel.clock.system(),
        volatile=bool(options & REG_OPTION_VOLATILE),
        link=bool(options & REG_OPTION_CREATE_LINK),
        open_link=bool(attributes.flags & OBJ_OPENLINK),
    )
    if made and class_name:
        found.class_name = class_name
    if disposition is not None:
        disposition.write(REG_CREATED_NEW_KEY if made else REG_OPENED_EXISTING_KEY)
    _give(call, key, found, desired, attributes)


@syscall
def NtDeleteKey(call: Call, key: Handle[KeyObject, access.DELETE]) -> None:
    """Delete a key without subkeys; open handles to it stay but are good for nothing."""
    if not key.key.deleted:
        call.kernel.io.registry.delete(key.key, call.kernel.clock.system())


@syscall
def NtRenameKey(call: Call, handle: uptr, name: UnicodeString) -> None:
    """Give a key another name under the same parent."""
    if not name:
        raise NtError(Status.INVALID_PARAMETER)
    key = call.process.handles.resolve(handle, KeyObject, access.KEY_SET_VALUE | access.KEY_CREATE_SUB_KEY)
    call.kernel.io.registry.rename(key.live, name, call.kernel.clock.system())


# reading ---------------------------------------------------------------------------------------------


def _deliver(call: Call, buffer: int, length: int, result: Out[u32], fixed: int, whole: bytes) -> None:
    """Hand out an information structure: as much as fits, the full size in `result`."""
    if length:
        call.memory.write(buffer, whole[:length])
    result.write(len(whole))
    if length < fixed:
        raise NtError(Status.BUFFER_TOO_SMALL)
    if length < len(whole):
        raise NtError(Status.BUFFER_OVERFLOW)


def _key_information(call: Call, key: Key, kind: int) -> tuple[int, bytes]:
    """(size of the fixed part, the structure with its texts) of a KEY_INFORMATION_CLASS."""
    name, class_name = wide(key.name), wide(key.class_name)
    no_offset = 0xFFFF_FFFF
    if kind == 0:  # KeyBasicInformation
        return 16, struct.pack("<QII", key.modified, 0, len(name)) + name
    if kind == 1:  # KeyNodeInformation
        offset = 24 + len(name) if class_name else no_offset
        return 24, struct.pack(
            "<QIIII", key.modified, 0, offset, len(class_name), len(name)
        ) + name + class_name
    if kind == 3:  # KeyNameInformation
        path = wide(key.path)
        return 4, struct.pack("<I", len(path)) + path
    if kind in (2, 4):
        keys, values = key.subkeys.values(), key.values.values()
        longest_name = max((2 * units(k.name) for k in keys), default=0)
        longest_class = max((2 * units(k.class_name) for k in keys), default=0)
        longest_value = max((2 * units(v.name) for v in values), default=0)
        longest_data = max((len(v.data) for v in values), default=0)
        if kind == 2:  # KeyFullInformation
            offset = 44 if class_name else no_offset
            head = (key.modified, 0, offset, len(class_name), len(keys), longest_name, longest_class)
            return 44, struct.pack("<Q9I", *head, len(values), longest_value, longest_data) + class_name
        head = (
            key.modified,
            0,
            len(keys),
            longest_name,
            len(values),
            longest_value,
            longest_data,
        )  # KeyCached
        return 40, struct.pack("<Q7I4x", *head, len(name))
    if kind < 10:
        raise call.unsupported(f"KEY_INFORMATION_CLASS {kind}", _FILE)
    raise NtError(Status.INVALID_PARAMETER)


@syscall
def NtQueryKey(call: Call, handle: uptr, kind: u32, buffer: uptr, length: u32, result: Out[u32]) -> None:
    """Facts about a key; its name may be asked for with any access."""
    if kind != 3 and not call.process.handles.access_of(handle) & access.KEY_QUERY_VALUE:
        raise NtError(Status.ACCESS_DENIED)
    key = call.process.handles.resolve(handle, KeyObject, 0)
    fixed, whole = _key_information(call, key.live, kind)
    _deliver(call, buffer, length, result, fixed, whole)


@syscall
def NtEnumerateKey(
    call: Call,
    key: Handle[KeyObject, access.KEY_ENUMERATE_SUB_KEYS],
    index: u32,
    kind: u32,
    buffer: uptr,
    length: u32,
    result: Out[u32],
) -> None:
    """Facts about the subkey with a number."""
    fixed, whole = _key_information(call, key.live.subkey_at(index), kind)
    _deliver(call, buffer, length, result, fixed, whole)


def _value_information(call: Call, value: Value, kind: int) -> tuple[int, bytes]:
    """(size that must fit, the structure) of a KEY_VALUE_INFORMATION_CLASS."""
    name = wide(value.name)
    if kind == 0:  # KeyValueBasicInformation
        return 12, struct.pack("<III", 0, value.type, len(name)) + name
    if kind in (1, 3):  # KeyValueFullInformation and its form with aligned data
        offset = 20 + len(name)
        padding = -offset % 8 if kind == 3 else 0
        head = struct.pack("<IIIII", 0, value.type, offset + padding, len(value.data), len(name))
        return 20, head + name + bytes(padding) + value.data
    if kind == 2:  # KeyValuePartialInformation
        return 12, struct.pack("<III", 0, value.type, len(value.data)) + value.data
    if kind == 4:  # KeyValuePartialInformationAlign64
        return 8, struct.pack("<II", value.type, len(value.data)) + value.data
    raise NtError(Status.INVALID_PARAMETER)


@syscall
def NtQueryValueKey(
    call: Call,
    key: Handle[KeyObject, access.KEY_QUERY_VALUE],
    name: UnicodeString,
    kind: u32,
    buffer: uptr,
    length: u32,
    result: Out[u32],
) -> None:
    """Read a value by name."""
    live = key.live
    if units(name) > MAX_VALUE_NAME:
        raise NtError(Status.OBJECT_NAME_NOT_FOUND)
    fixed, whole = _value_information(call, live.value(name), kind)
    _deliver(call, buffer, length, result, fixed, whole)


@syscall
def NtEnumerateValueKey(
    call: Call,
    key: Handle[KeyObject, access.KEY_QUERY_VALUE],
    index: u32,
    kind: u32,
    buffer: uptr,
    length: u32,
    result: Out[u32],
) -> None:
    """Read a value by number."""
    fixed, whole = _value_information(call, key.live.value_at(index), kind)
    _deliver(call, buffer, length, result, fixed, whole)


@syscall
def NtQueryMultipleValueKey(
    call: Call,
    key: Handle[KeyObject, access.KEY_QUERY_VALUE],
    entries: uptr,
    count: u32,
    buffer: uptr,
    length: In[u32],
    required: Out[u32] | None,
) -> None:
    """Read several values into one buffer; each entry gets its length, offset and type."""
    live, room, used = key.live, length.read(), 0
    for index in range(min(count, 0x10000)):
        entry = entries + 24 * index
        name = read_unicode_string(call.memory, int.from_bytes(call.memory.read(entry, 8), "little"))
        value = live.value(name)
        start = (used + 7) & ~7
        used = start + len(value.data)
        if used <= room:
            call.memory.write(buffer + start, value.data)
            call.memory.write(entry + 8, struct.pack("<III", len(value.data), start, value.type))
    if required is not None:
        required.write(used)
    if used > room:
        raise NtError(Status.BUFFER_OVERFLOW)


# writing ---------------------------------------------------------------------------------------------


@syscall
def NtSetValueKey(
    call: Call,
    key: Handle[KeyObject, access.KEY_SET_VALUE],
    name: UnicodeString,
    index: u32,
    kind: u32,
    data: uptr,
    size: u32,
) -> None:
    """Store a value."""
    if size > _MAX_DATA:
        raise NtError(Status.INSUFFICIENT_RESOURCES)
    content = call.memory.read(data, size) if size else b""
    call.kernel.io.registry.set_value(key.live, name, kind, content, call.kernel.clock.system())


@syscall
def NtDeleteValueKey(call: Call, key: Handle[KeyObject, access.KEY_SET_VALUE], name: UnicodeString) -> None:
    """Remove a value."""
    call.kernel.io.registry.delete_value(key.live, name, call.kernel.clock.system())


@syscall
def NtSetInformationKey(call: Call, key: Handle[KeyObject, 0], kind: u32, buffer: uptr, length: u32) -> None:
    """Only the last write time can be set."""
    if kind != 0:
        raise call.unsupported(f"NtSetInformationKey class {kind}", _FILE)
    if length < 8:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    key.live.modified = int.from_bytes(call.memory.read(buffer, 8), "little")


@syscall
def NtFlushKey(call: Call, key: Handle[KeyObject, 0]) -> None:
    """Bring the registry to disk, if it is kept."""
    call.kernel.io.save_registry()


# watching --------------------------------------------------------------------------------------------


def _watched(call: Call, status: int, acquired: object, watch: Watch) -> int:
    if status:
        watch.fire(status)
        return status
    return Status.SUCCESS if watch.status == Status.NOTIFY_ENUM_DIR else watch.status


@syscall
def NtNotifyChangeKey(
    call: Call,
    key: Handle[KeyObject, access.KEY_NOTIFY],
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    apc_context: uptr,
    iosb: uptr,
    filter: u32,
    tree: boolean,
    buffer: uptr,
    length: u32,
    asynchronous: boolean,
) -> int | Wait:
    """Wait, or ask to be told, when the key (or what is below it) changes."""
    return NtNotifyChangeMultipleKeys(
        call, key, 0, 0, event, apc, apc_context, iosb, filter, tree, buffer, length, asynchronous
    )


@syscall
def NtNotifyChangeMultipleKeys(
    call: Call,
    key: Handle[KeyObject, access.KEY_NOTIFY],
    count: u32,
    others: uptr,
    event: Handle[Event, access.EVENT_MODIFY_STATE] | None,
    apc: uptr,
    apc_context: uptr,
    iosb: uptr,
    filter: u32,
    tree: boolean,
    buffer: uptr,
    length: u32,
    asynchronous: boolean,
) -> int | Wait:
    """NtNotifyChangeKey; a second key is not supported."""
    if count:
        raise call.unsupported("NtNotifyChangeMultipleKeys with a second key", _FILE)
    if apc:
        raise call.unsupported("NtNotifyChangeKey with an APC", _FILE)
    if asynchronous and event is not None:
        event.signaled = False
    watch = key.watch(filter, bool(tree), event if asynchronous else None)
    if asynchronous:
        return Status.PENDING
    return Wait((watch,), None, then=_watched, data=(watch,))
