"""The information classes of NtQueryInformationThread and NtSetInformationThread."""

from __future__ import annotations

import struct

from nexus.nt.access import (
    THREAD_QUERY_INFORMATION,
    THREAD_QUERY_LIMITED_INFORMATION,
    THREAD_SET_INFORMATION,
    THREAD_SET_LIMITED_INFORMATION,
    THREAD_SET_THREAD_TOKEN,
    TOKEN_IMPERSONATE,
)
from nexus.nt.errors import NtError
from nexus.nt.information import CUT, EXACT, SILENT, Answer, deliver, processor_time, read_exactly, refuse
from nexus.nt.ps.info_process import checked_affinity
from nexus.nt.ps.peb import TEB_TLS_EXPANSION, TEB_TLS_SLOTS
from nexus.nt.ps.thread import Thread
from nexus.nt.query import pointer
from nexus.nt.se.token import Token
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.abi.pointer import Out
    from nexus.nt.call import Call

    Setter = Callable[[Call, Thread, int, int], None]

FILE = "src/nexus/nt/ps/info_thread.py"
MISSING = (29,)  # 32-bit contexts

PRIORITY, BASE_PRIORITY, AFFINITY, IMPERSONATION_TOKEN, ALIGNMENT_FIXUP = 2, 3, 4, 5, 7
START_ADDRESS, ZERO_TLS_CELL, IDEAL_PROCESSOR, PRIORITY_BOOST = 9, 10, 13, 14
HIDE_FROM_DEBUGGER, BREAK_ON_TERMINATION, GROUP, NAME = 17, 18, 30, 38
POWER_THROTTLING, MANAGE_WRITES = 49, 57
WINE_NATIVE_NAME = 1000

_QUERY_RIGHTS = {
    AFFINITY: THREAD_QUERY_INFORMATION,
    START_ADDRESS: THREAD_QUERY_INFORMATION,
    HIDE_FROM_DEBUGGER: THREAD_QUERY_INFORMATION,
}
_MAXIMUM_PROCESSORS = 64
_TLS_SLOTS, _TLS_EXPANSION_SLOTS = 64, 1024


def query_thread(
    call: Call, handle: int, kind: int, buffer: int, length: int, returned: Out[int] | None
) -> None:
    """NtQueryInformationThread."""
    rights = _QUERY_RIGHTS.get(kind, THREAD_QUERY_LIMITED_INFORMATION)
    if call.process.handles.access_of(handle) & THREAD_QUERY_INFORMATION:  # includes the lesser right
        rights = THREAD_QUERY_INFORMATION
    if kind == NAME:
        _query_name(call, call.process.handles.resolve(handle, Thread, rights), buffer, length, returned)
        return
    if kind in (ALIGNMENT_FIXUP, IDEAL_PROCESSOR):
        raise NtError(Status.INVALID_INFO_CLASS)
    answer = _CLASSES.get(kind)
    if answer is None:
        raise refuse(call, "NtQueryInformationThread", kind, MISSING, FILE, Status.NOT_IMPLEMENTED)
    thread = call.process.handles.resolve(handle, Thread, rights)
    deliver(call, answer.function(thread), answer.rule, buffer, length, returned)


def _query_name(call: Call, thread: Thread, buffer: int, length: int, returned: Out[int] | None) -> None:
    """THREAD_NAME_INFORMATION: the description, which may be empty."""
    text = thread.description.encode("utf-16-le", "surrogatepass")
    if returned is not None:
        returned.write(16 + len(text))
    if length < 16 + len(text) or not buffer:
        raise NtError(Status.BUFFER_TOO_SMALL)
    call.memory.write(buffer, struct.pack("<HHIQ", len(text), len(text), 0, pointer(buffer + 16)) + text)


# -- queries of a fixed form ------------------------------------------------------------------------------


def _basic(thread: Thread) -> bytes:
    """THREAD_BASIC_INFORMATION. Wine's kernelbase reads the relative priority from either priority field."""
    return struct.pack(
        "<I4xQQQQii",
        thread.exit_status,
        thread.teb,
        thread.process.id,
        thread.id,
        thread.affinity,
        thread.base_priority,
        thread.base_priority,
    )


def _times(thread: Thread) -> bytes:
    """KERNEL_USER_TIMES; processor time is not kept per thread."""
    exited = thread.exited_at if thread.terminated else 0
    return struct.pack("<qqqq", thread.created_at, exited, 0, processor_time(thread.kernel))


def _affinity(thread: Thread) -> bytes:
    return struct.pack("<Q", thread.affinity)


def _start_address(thread: Thread) -> bytes:
    return struct.pack("<Q", thread.start_address)


def _is_last(thread: Thread) -> bytes:
    return struct.pack("<I", len(thread.process.threads) == 1)


def _no(thread: Thread) -> bytes:
    return bytes(4)


def _hidden(thread: Thread) -> bytes:
    return struct.pack("<B", thread.hide_from_debugger)


def _is_terminated(thread: Thread) -> bytes:
    return struct.pack("<I", thread.terminated)


def _group(thread: Thread) -> bytes:
    """GROUP_AFFINITY."""
    return struct.pack("<QH6x", thread.affinity, 0)


def _cycle_time(thread: Thread) -> bytes:
    return struct.pack("<QQ", thread.cycles, 0)


def _suspend_count(thread: Thread) -> bytes:
    return struct.pack("<I", thread.suspend_count)


def _ideal_processor(thread: Thread) -> bytes:
    return bytes(4)


_CLASSES = {
    0: Answer(_basic, CUT),
    1: Answer(_times, CUT),
    AFFINITY: Answer(_affinity, CUT),
    START_ADDRESS: Answer(_start_address, CUT),
    12: Answer(_is_last, SILENT),
    PRIORITY_BOOST: Answer(_no, EXACT),
    16: Answer(_no, EXACT),
    HIDE_FROM_DEBUGGER: Answer(_hidden, EXACT),
    BREAK_ON_TERMINATION: Answer(_no, EXACT),
    20: Answer(_is_terminated, EXACT),
    23: Answer(_cycle_time, EXACT),
    GROUP: Answer(_group, CUT),
    33: Answer(_ideal_processor, EXACT),
    35: Answer(_suspend_count, EXACT),
}


# -- setting ----------------------------------------------------------------------------------------------


def set_thread(call: Call, handle: int, kind: int, buffer: int, length: int) -> None:
    """NtSetInformationThread."""
    rights = {
        IMPERSONATION_TOKEN: THREAD_SET_THREAD_TOKEN,
        NAME: THREAD_SET_LIMITED_INFORMATION,
    }.get(kind, THREAD_SET_INFORMATION)
    thread = call.process.handles.resolve(handle, Thread, rights)
    setter = _SETTERS.get(kind)
    if setter is None:
        raise refuse(call, "NtSetInformationThread", kind, MISSING, FILE, Status.NOT_IMPLEMENTED)
    setter(call, thread, buffer, length)


def _set_priority(call: Call, thread: Thread, buffer: int, length: int) -> None:
    content = read_exactly(call, buffer, length, 4, Status.INVALID_PARAMETER)
    value = int.from_bytes(content, "little", signed=True)
    if not 1 <= value <= 31:
        raise NtError(Status.INVALID_PARAMETER)
    thread.priority = value


def _set_base_priority(call: Call, thread: Thread, buffer: int, length: int) -> None:
    content = read_exactly(call, buffer, length, 4, Status.INVALID_PARAMETER)
    value = int.from_bytes(content, "little", signed=True)
    if not -2 <= value <= 2 and value not in (-15, 15):  # idle and time critical stand outside of the range
        raise NtError(Status.INVALID_PARAMETER)
    thread.base_priority = value


def _set_affinity(call: Call, thread: Thread, buffer: int, length: int) -> None:
    content = read_exactly(call, buffer, length, 8, Status.INVALID_PARAMETER)
    mask = int.from_bytes(content, "little") & (1 << call.kernel.processors) - 1
    thread.affinity = checked_affinity(call, mask)


def _set_token(call: Call, thread: Thread, buffer: int, length: int) -> None:
    """Impersonate with a token, or stop to (null handle)."""
    content = read_exactly(call, buffer, length, 8, Status.INVALID_PARAMETER)
    handle = int.from_bytes(content, "little")
    if not handle:
        thread.token = None
        return
    thread.token = call.process.handles.resolve(handle, Token, TOKEN_IMPERSONATE)


def _set_start_address(call: Call, thread: Thread, buffer: int, length: int) -> None:
    content = read_exactly(call, buffer, length, 8, Status.INVALID_PARAMETER)
    thread.start_address = int.from_bytes(content, "little")


def _clear_tls(call: Call, thread: Thread, buffer: int, length: int) -> None:
    """A TLS index was freed: clear its slot in every thread of the process."""
    content = read_exactly(call, buffer, length, 4, Status.INVALID_PARAMETER)
    index = int.from_bytes(content, "little")
    if index >= _TLS_SLOTS + _TLS_EXPANSION_SLOTS:
        raise NtError(Status.INVALID_PARAMETER)
    for other in thread.process.threads:
        if index < _TLS_SLOTS:
            call.memory.w64(other.teb + TEB_TLS_SLOTS + 8 * index, 0)
            continue
        expansion = call.memory.u64(other.teb + TEB_TLS_EXPANSION)
        if expansion:
            call.memory.w64(expansion + 8 * (index - _TLS_SLOTS), 0)


def _hide(call: Call, thread: Thread, buffer: int, length: int) -> None:
    if length:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    thread.hide_from_debugger = True


def _set_group(call: Call, thread: Thread, buffer: int, length: int) -> None:
    content = read_exactly(call, buffer, length, 16, Status.INVALID_PARAMETER)
    mask, group, *reserved = struct.unpack("<QHHHH", content)
    if group or any(reserved):
        raise NtError(Status.INVALID_PARAMETER)
    thread.affinity = checked_affinity(call, mask)


def _set_name(call: Call, thread: Thread, buffer: int, length: int) -> None:
    content = read_exactly(call, buffer, length, 16, Status.INFO_LENGTH_MISMATCH)
    size, _, characters = struct.unpack("<HHxxxxQ", content)
    text = call.memory.read(characters, size & ~1) if size else b""
    thread.description = text.decode("utf-16-le", "surrogatepass")


def _hint(size: int) -> Setter:
    """A class that only advises the scheduler: its argument is checked, then ignored."""

    def check(call: Call, thread: Thread, buffer: int, length: int) -> None:
        read_exactly(call, buffer, length, size, Status.INFO_LENGTH_MISMATCH)

    return check


def _set_ideal_processor(call: Call, thread: Thread, buffer: int, length: int) -> None:
    content = read_exactly(call, buffer, length, 4, Status.INFO_LENGTH_MISMATCH)
    if int.from_bytes(content, "little") > _MAXIMUM_PROCESSORS:
        raise NtError(Status.INVALID_PARAMETER)


def _not_supported(call: Call, thread: Thread, buffer: int, length: int) -> None:
    raise NtError(Status.NOT_SUPPORTED)


_SETTERS: dict[int, Setter] = {
    PRIORITY: _set_priority,
    BASE_PRIORITY: _set_base_priority,
    AFFINITY: _set_affinity,
    IMPERSONATION_TOKEN: _set_token,
    ALIGNMENT_FIXUP: _hint(1),
    START_ADDRESS: _set_start_address,
    ZERO_TLS_CELL: _clear_tls,
    IDEAL_PROCESSOR: _set_ideal_processor,
    PRIORITY_BOOST: _hint(4),
    HIDE_FROM_DEBUGGER: _hide,
    GROUP: _set_group,
    NAME: _set_name,
    POWER_THROTTLING: _hint(12),
    MANAGE_WRITES: _not_supported,
    WINE_NATIVE_NAME: _hint(16),
}
