"""Lists over the whole machine: processes with their threads, and all open handles."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call
    from nexus.nt.ps.process import Process
    from nexus.nt.ps.thread import Thread

_THREAD = struct.Struct("<qqqI4xQQQiiIII4x")
_HEAD_SIZE = 0x100
_WAITING, _READY = 5, 1
_WAIT_USER_REQUEST = 6
_FIRST_OBJECT, _OBJECT_STEP = 0xFFFF_8000_0000_0000, 0x100


def process_list(call: Call, buffer: int, *, extended: bool = False) -> bytes:
    """SYSTEM_PROCESS_INFORMATION of every process, each followed by its threads and its name, for `buffer`.

    `extended` adds to each thread what SYSTEM_EXTENDED_THREAD_INFORMATION has more.
    """
    parts: list[bytes] = []
    processes = call.kernel.processes
    at = buffer
    for process in processes:
        part = _process(process, at, extended)
        following = len(part) if process is not processes[-1] else 0
        parts.append(struct.pack("<I", following) + part[4:])
        at += len(part)
    return b"".join(parts)


def _process(process: Process, at: int, extended: bool) -> bytes:
    name = process.image_name.rsplit("\\", 1)[-1].encode("utf-16-le", "surrogatepass")
    threads = b"".join(_thread(thread, extended) for thread in process.threads)
    head = struct.pack("<II", 0, len(process.threads)).ljust(0x20, b"\0")
    head += struct.pack("<qqq", process.created_at, 0, 0)
    head += struct.pack("<HHIQ", len(name), len(name) + 2, 0, at + _HEAD_SIZE + len(threads))
    head += struct.pack("<i4xQQI", process.base_priority, process.id, process.parent_id, len(process.handles))
    body = head.ljust(_HEAD_SIZE, b"\0") + threads + name + b"\0\0"
    return body + bytes(-len(body) % 8)


def _thread(thread: Thread, extended: bool) -> bytes:
    waiting = thread.wait is not None
    row = _THREAD.pack(
        0,
        0,
        thread.created_at,
        0,
        thread.start_address,
        thread.process.id,
        thread.id,
        thread.priority,
        thread.base_priority,
        0,
        _WAITING if waiting else _READY,
        _WAIT_USER_REQUEST if waiting else 0,
    )
    if not extended:
        return row
    base, size = thread.stack
    return row + struct.pack("<QQQQ24x", base + size, base, thread.start_address, thread.teb)


def _entries(call: Call) -> list[tuple[int, int, int, int, int, int]]:
    """(process id, handle, type index, attributes, granted access, object number) of every handle."""
    found = []
    numbers: dict[int, int] = {}
    for process in call.kernel.processes:
        for handle, entry in process.handles.items():
            number = numbers.setdefault(id(entry.object), _FIRST_OBJECT + _OBJECT_STEP * len(numbers))
            found.append((process.id, handle, entry.object.type.index, entry.flags, entry.access, number))
    return found


def handle_list(call: Call) -> bytes:
    """SYSTEM_HANDLE_INFORMATION."""
    rows = [
        struct.pack("<HHBBHQI4x", owner & 0xFFFF, 0, kind, flags, handle & 0xFFFF, number, granted)
        for owner, handle, kind, flags, granted, number in _entries(call)
    ]
    return struct.pack("<I4x", len(rows)) + b"".join(rows)


def handle_list_ex(call: Call) -> bytes:
    """SYSTEM_HANDLE_INFORMATION_EX."""
    rows = [
        struct.pack("<QQQIHHII", number, owner, handle, granted, 0, kind, flags, 0)
        for owner, handle, kind, flags, granted, number in _entries(call)
    ]
    return struct.pack("<QQ", len(rows), 0) + b"".join(rows)
