"""I/O completion port syscalls."""

from __future__ import annotations

import struct

from nexus.abi.pointer import In, Out
from nexus.abi.types import boolean, i64, u32, uptr
from nexus.nt.access import IO_COMPLETION_MODIFY_STATE, IO_COMPLETION_QUERY_STATE
from nexus.nt.errors import NtError
from nexus.nt.io.completion import IoCompletion, IoCompletionReserve, Packet
from nexus.nt.status import Status
from nexus.nt.syscall import Handle, NewHandle, ObjectAttributes, syscall
from nexus.nt.wait import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call


@syscall
def NtCreateIoCompletion(
    call: Call, handle: NewHandle, desired: u32, attributes: ObjectAttributes | None, concurrency: u32
) -> int:
    """A new port (or, with OBJ_OPENIF, the one of that name)."""
    port, status = call.kernel.namespace.create(attributes, IoCompletion, lambda: IoCompletion(concurrency))
    call.give_handle(handle, port, desired, attributes)
    return status


@syscall
def NtOpenIoCompletion(call: Call, handle: NewHandle, desired: u32, attributes: ObjectAttributes) -> None:
    """An existing port by name."""
    call.give_handle(handle, call.kernel.namespace.open(attributes, IoCompletion), desired, attributes)


@syscall
def NtSetIoCompletion(
    call: Call,
    port: Handle[IoCompletion, IO_COMPLETION_MODIFY_STATE],
    key: uptr,
    value: uptr,
    status: u32,
    information: uptr,
) -> None:
    """Put a packet into a port."""
    port.post(key, value, status, information)


@syscall
def NtSetIoCompletionEx(
    call: Call,
    port: Handle[IoCompletion, IO_COMPLETION_MODIFY_STATE],
    reserve: Handle[IoCompletionReserve, 0],
    key: uptr,
    value: uptr,
    status: u32,
    information: uptr,
) -> None:
    """NtSetIoCompletion with memory reserved beforehand, which this kernel does not need."""
    port.post(key, value, status, information)


@syscall
def NtRemoveIoCompletion(
    call: Call,
    port: Handle[IoCompletion, IO_COMPLETION_MODIFY_STATE],
    key: Out[uptr],
    value: Out[uptr],
    iosb: uptr,
    timeout: In[i64] | None,
) -> Wait:
    """Take a packet, waiting for one."""
    return Wait((port.queue,), call.deadline(timeout), then=_removed, data=(port, key, value, iosb))


def _removed(
    call: Call,
    status: int,
    packet: Packet | None,
    port: IoCompletion,
    key: Out[uptr],
    value: Out[uptr],
    iosb: int,
) -> int:
    if packet is None:
        return status
    call.thread.port = port
    key.write(packet.key)
    value.write(packet.value)
    call.memory.write(iosb, struct.pack("<IxxxxQ", packet.status, packet.information))
    return Status.SUCCESS


@syscall
def NtRemoveIoCompletionEx(
    call: Call,
    port: Handle[IoCompletion, IO_COMPLETION_MODIFY_STATE],
    entries: uptr,
    count: u32,
    removed: Out[u32],
    timeout: In[i64] | None,
    alertable: boolean,
) -> Wait | int:
    """Take up to `count` packets (FILE_IO_COMPLETION_INFORMATION), waiting for the first."""
    if not count:
        raise NtError(Status.INVALID_PARAMETER)
    if alertable and call.thread.apcs and call.thread.port is not port:
        removed.write(1)
        return Status.USER_APC  # APCs come before packets until the thread has taken one from this port
    return Wait(
        (port.queue,),
        call.deadline(timeout),
        alertable=bool(alertable),
        then=_removed_many,
        data=(port, entries, count, removed),
    )


def _removed_many(
    call: Call,
    status: int,
    packet: Packet | None,
    port: IoCompletion,
    entries: int,
    count: int,
    removed: Out[u32],
) -> int:
    if packet is None:
        removed.write(1)
        return status
    call.thread.port = port
    packets = [packet]
    while len(packets) < count and port.queue.packets:
        packets.append(port.queue.take())
    data = b"".join(struct.pack("<QQIxxxxQ", p.key, p.value, p.status, p.information) for p in packets)
    call.memory.write(entries, data)
    removed.write(len(packets))
    return Status.SUCCESS


@syscall
def NtQueryIoCompletion(
    call: Call,
    port: Handle[IoCompletion, IO_COMPLETION_QUERY_STATE],
    kind: u32,
    buffer: uptr,
    length: u32,
    result: Out[u32] | None,
) -> None:
    """How many packets wait."""
    if kind != 0:
        raise NtError(Status.INVALID_INFO_CLASS)
    if length != 4:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    call.memory.write(buffer, struct.pack("<I", len(port.queue.packets)))
    if result is not None:
        result.write(4)
