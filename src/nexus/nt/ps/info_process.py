"""The information classes of NtQueryInformationProcess and NtSetInformationProcess."""

from __future__ import annotations

import struct

from nexus.nt.access import (
    PROCESS_QUERY_INFORMATION,
    PROCESS_QUERY_LIMITED_INFORMATION,
    TOKEN_ASSIGN_PRIMARY,
)
from nexus.nt.errors import NtError
from nexus.nt.information import (
    AT_LEAST,
    EXACT,
    SILENT,
    Answer,
    deliver,
    processor_time,
    read_exactly,
    refuse,
    unicode_string,
)
from nexus.nt.mm.memory import zero_bits_limit
from nexus.nt.mm.vad import MEM_RESERVE, PAGE_READWRITE
from nexus.nt.ps.process import Process
from nexus.nt.se.token import Token
from nexus.nt.status import Status
from nexus.nt.versions import WINDOWS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.pointer import Out
    from nexus.nt.call import Call

FILE = "src/nexus/nt/ps/info_process.py"

QUOTA_LIMITS, VM_COUNTERS, DEBUG_PORT = 1, 3, 7
ACCESS_TOKEN, HARD_ERROR_MODE, PRIORITY_CLASS, HANDLE_COUNT, AFFINITY = 9, 12, 18, 20, 21
WOW64, IMAGE_FILE_NAME, DEBUG_OBJECT, EXECUTE_FLAGS = 26, 27, 30, 34
COOKIE, INSTRUMENTATION_CALLBACK, THREAD_STACK, IMAGE_FILE_NAME_WIN32 = 36, 40, 41, 43
HANDLE_TABLE, COMMAND_LINE, POWER_THROTTLING, MANAGE_WRITES = 58, 60, 77, 83
WINE_MAKE_SYSTEM, WINE_LDT_COPY, WINE_GRANT_ADMIN = 1000, 1001, 1002
MISSING = (WINE_LDT_COPY,)
MISSING_TO_SET = (WINE_MAKE_SYSTEM, WINE_GRANT_ADMIN)

_EXECUTE_DISABLE, _EXECUTE_DISABLE_THUNKS, _EXECUTE_PERMANENT = 1, 4, 8
_VM_COUNTERS_SIZE, _VM_COUNTERS_EX_SIZE = 88, 96
_UNLIMITED = 0xFFFF_FFFF_FFFF_FFFF


def target_process(call: Call, handle: int, rights: int) -> Process:
    """The process of a handle; either of the two query rights is enough to ask."""
    if rights == PROCESS_QUERY_INFORMATION:
        granted = call.process.handles.access_of(handle)
        if granted & PROCESS_QUERY_LIMITED_INFORMATION:
            rights = PROCESS_QUERY_LIMITED_INFORMATION
    return call.process.handles.resolve(handle, Process, rights)


def query_process(
    call: Call, handle: int, kind: int, buffer: int, length: int, returned: Out[int] | None
) -> None:
    """NtQueryInformationProcess."""
    if kind in (IMAGE_FILE_NAME, IMAGE_FILE_NAME_WIN32, COMMAND_LINE):
        process = target_process(call, handle, PROCESS_QUERY_INFORMATION)
        text = _command_line(process) if kind == COMMAND_LINE else _image_name(process, kind)
        deliver(call, unicode_string(text, buffer), AT_LEAST, buffer, length, returned)
        return
    if kind == DEBUG_OBJECT:
        _debug_object(call, handle, buffer, length, returned)
        return
    if kind == VM_COUNTERS:
        _vm_counters(call, handle, buffer, length, returned)
        return
    if kind == COOKIE and call.process.handles.pseudo(handle) is not call.process:
        raise NtError(Status.INVALID_PARAMETER)
    answer = _CLASSES.get(kind)
    if answer is None:
        raise refuse(call, "NtQueryInformationProcess", kind, MISSING, FILE)
    try:
        process = target_process(call, handle, PROCESS_QUERY_INFORMATION)
    except NtError:
        size = len(answer.function(call.process))
        if answer.rule in (EXACT, SILENT) and length != size:  # the length is looked at before the handle
            deliver(call, bytes(size), answer.rule, buffer, length, returned)
        if kind == PRIORITY_CLASS and not buffer:
            raise NtError(Status.ACCESS_VIOLATION) from None
        raise
    deliver(call, answer.function(process), answer.rule, buffer, length, returned)


# -- queries with rules of their own ----------------------------------------------------------------------


def dos_path(nt_path: str) -> str:
    """`C:\\...` for `\\??\\C:\\...`."""
    return nt_path[4:] if nt_path.startswith("\\??\\") else nt_path


def _image_name(process: Process, kind: int) -> str:
    if kind == IMAGE_FILE_NAME_WIN32:
        return dos_path(process.image_name)
    return device_path(process.image_name)


def device_path(nt_path: str) -> str:
    """`\\Device\\HarddiskVolumeN\\...` for `\\??\\X:\\...`, N being the drive's place in the alphabet."""
    path = dos_path(nt_path)
    if len(path) < 2 or path[1] != ":":
        return nt_path
    return f"\\Device\\HarddiskVolume{ord(path[0].upper()) - 64}{path[2:]}"


def _command_line(process: Process) -> str:
    return process.command_line


def _debug_object(call: Call, handle: int, buffer: int, length: int, returned: Out[int] | None) -> None:
    """A handle to the debugger's object; a null one, and the status says so, when there is no debugger."""
    if length != 8:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    process = target_process(call, handle, PROCESS_QUERY_INFORMATION)
    call.memory.w64(buffer, 0)
    if returned is not None:
        returned.write(8)
    if process.debug is None:
        raise NtError(Status.PORT_NOT_SET)
    opened = call.process.handles.add(process.debug, process.debug.type.all)
    call.memory.w64(buffer, opened)


def _vm_counters(call: Call, handle: int, buffer: int, length: int, returned: Out[int] | None) -> None:
    """VM_COUNTERS, or VM_COUNTERS_EX when there is room for its last field."""
    if length < _VM_COUNTERS_SIZE:
        if returned is not None:
            returned.write(_VM_COUNTERS_EX_SIZE)
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    process = target_process(call, handle, PROCESS_QUERY_INFORMATION)
    content = vm_counters(process)
    size = _VM_COUNTERS_SIZE if length == _VM_COUNTERS_SIZE else _VM_COUNTERS_EX_SIZE
    call.memory.write(buffer, content[: min(length, size)])
    if returned is not None:
        returned.write(size)
    if length not in (_VM_COUNTERS_SIZE, _VM_COUNTERS_EX_SIZE):
        raise NtError(Status.INFO_LENGTH_MISMATCH)


def vm_counters(process: Process) -> bytes:
    """VM_COUNTERS_EX: committed pages count as the working set."""
    reserved, committed = 0, 0
    for region in process.space.regions:
        reserved += region.size
        for start, end, protect in process.space.pages.runs(region.base, region.end):
            committed += end - start if protect else 0
    return struct.pack(
        "<QQI4x9Q", reserved, reserved, 0, committed, committed, 0, 0, 0, 0, committed, committed, committed
    )


# -- queries of a fixed form ------------------------------------------------------------------------------


def _basic(process: Process) -> bytes:
    """PROCESS_BASIC_INFORMATION; Wine's DLLs look for the priority class where the base priority belongs."""
    return struct.pack(
        "<I4xQQi4xQQ",
        process.exit_status,
        process.peb,
        process.affinity,
        process.base_priority if process.version is WINDOWS else process.priority_class,
        process.id,
        process.parent_id,
    )


def _quota_limits(process: Process) -> bytes:
    return struct.pack("<QQQQQq", _UNLIMITED, _UNLIMITED, 0x32000, 0x159000, _UNLIMITED, -1)


def _io_counters(process: Process) -> bytes:
    return bytes(48)


def _times(process: Process) -> bytes:
    """KERNEL_USER_TIMES: created, exited, in the kernel, in user mode."""
    exited = process.exited_at if process.terminated else 0
    return struct.pack("<qqqq", process.created_at, exited, 0, processor_time(process.kernel))


def _zero_pointer(process: Process) -> bytes:
    return bytes(8)


def _hard_error_mode(process: Process) -> bytes:
    return struct.pack("<I", process.hard_error_mode)


def _priority_class(process: Process) -> bytes:
    return struct.pack("<BB", 0, process.priority_class)


def _handle_count(process: Process) -> bytes:
    return struct.pack("<I", len(process.handles))


def _affinity(process: Process) -> bytes:
    return struct.pack("<Q", process.affinity)


def _session(process: Process) -> bytes:
    return struct.pack("<I", 1)


def _debug_flags(process: Process) -> bytes:
    return struct.pack("<I", process.debug_children)


def _debug_port(process: Process) -> bytes:
    return struct.pack("<q", -1 if process.debug is not None else 0)


def _execute_flags(process: Process) -> bytes:
    return struct.pack("<I", _EXECUTE_DISABLE | _EXECUTE_DISABLE_THUNKS | _EXECUTE_PERMANENT)


def _cookie(process: Process) -> bytes:
    return struct.pack("<I", process.cookie)


def _image_information(process: Process) -> bytes:
    if process.image is None:
        raise NtError(Status.INVALID_PARAMETER)
    return process.image.information()


def _cycle_time(process: Process) -> bytes:
    return struct.pack("<QQ", processor_time(process.kernel), 0)


def _handle_table(process: Process) -> bytes:
    handles = [handle for handle, _ in process.handles.items()]
    return struct.pack(f"<{len(handles)}I", *handles)


_CLASSES = {
    0: Answer(_basic),
    QUOTA_LIMITS: Answer(_quota_limits),
    2: Answer(_io_counters),
    4: Answer(_times),
    DEBUG_PORT: Answer(_debug_port, SILENT),
    HARD_ERROR_MODE: Answer(_hard_error_mode),
    PRIORITY_CLASS: Answer(_priority_class),
    HANDLE_COUNT: Answer(_handle_count),
    AFFINITY: Answer(_affinity),
    24: Answer(_session),
    WOW64: Answer(_zero_pointer, SILENT),
    31: Answer(_debug_flags),
    EXECUTE_FLAGS: Answer(_execute_flags),
    COOKIE: Answer(_cookie),
    37: Answer(_image_information),
    38: Answer(_cycle_time),
    HANDLE_TABLE: Answer(_handle_table, AT_LEAST),
}


# -- setting ----------------------------------------------------------------------------------------------


def set_process(call: Call, process: Process, kind: int, buffer: int, length: int) -> None:
    """NtSetInformationProcess."""
    if kind == ACCESS_TOKEN:
        content = read_exactly(call, buffer, length, 16, Status.INFO_LENGTH_MISMATCH)
        process.token = call.process.handles.resolve(
            int.from_bytes(content[:8], "little"), Token, TOKEN_ASSIGN_PRIMARY
        )
    elif kind == HARD_ERROR_MODE:
        content = read_exactly(call, buffer, length, 4, Status.INVALID_PARAMETER)
        process.hard_error_mode = int.from_bytes(content, "little")
    elif kind == AFFINITY:
        content = read_exactly(call, buffer, length, 8, Status.INVALID_PARAMETER)
        process.affinity = checked_affinity(call, int.from_bytes(content, "little"))
    elif kind == PRIORITY_CLASS:
        content = read_exactly(call, buffer, length, 2, Status.INVALID_PARAMETER)
        process.priority_class = content[1]
    elif kind == EXECUTE_FLAGS:
        raise NtError(Status.INVALID_PARAMETER)  # 64-bit processes cannot change it
    elif kind == THREAD_STACK:
        _allocate_stack(call, buffer, length)
    elif kind == POWER_THROTTLING:
        read_exactly(call, buffer, length, 12, Status.INFO_LENGTH_MISMATCH)
    elif kind == INSTRUMENTATION_CALLBACK:
        _instrument(call, buffer, length)
    elif kind == MANAGE_WRITES:
        raise NtError(Status.NOT_SUPPORTED)
    else:
        raise refuse(call, "NtSetInformationProcess", kind, MISSING_TO_SET, FILE, Status.NOT_IMPLEMENTED)


def _instrument(call: Call, buffer: int, length: int) -> None:
    """PROCESS_INSTRUMENTATION_CALLBACK_INFORMATION, or its callback alone: there can be none."""
    if length < 8:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    if call.memory.u64(buffer + 8 if length >= 16 else buffer):
        raise call.unsupported("an instrumentation callback", FILE)


def checked_affinity(call: Call, mask: int) -> int:
    if not mask or mask >> call.kernel.processors:
        raise NtError(Status.INVALID_PARAMETER)
    return mask


def _allocate_stack(call: Call, buffer: int, length: int) -> None:
    """PROCESS_STACK_ALLOCATION_INFORMATION(_EX): reserve a stack for RtlCreateUserStack."""
    if length not in (24, 40):
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    at = buffer if length == 24 else buffer + 16
    reserve, zero_bits, _ = struct.unpack("<QQQ", call.memory.read(at, 24))
    limits = zero_bits_limit(zero_bits, Status.INVALID_PARAMETER)
    base, _ = call.process.space.allocate(0, reserve, MEM_RESERVE, PAGE_READWRITE, limits)
    call.memory.w64(at + 16, base)
