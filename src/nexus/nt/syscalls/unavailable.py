"""Services that this machine does not have, refused as Windows refuses them: drivers, LPC, power, tracing.

These are complete answers, not placeholders: without the privilege or the partner a real system says the
same.
"""

from __future__ import annotations

from nexus.abi.types import boolean, u32, uptr
from nexus.nt.call import Call
from nexus.nt.status import Status
from nexus.nt.syscall import NewHandle, UnicodeString, syscall


@syscall
def NtConnectPort(
    call: Call,
    handle: NewHandle,
    name: UnicodeString,
    quality: uptr,
    write_section: uptr,
    read_section: uptr,
    maximum: uptr,
    information: uptr,
    information_length: uptr,
) -> int:
    """There are no LPC servers."""
    return Status.OBJECT_NAME_NOT_FOUND


@syscall
def NtSecureConnectPort(
    call: Call,
    handle: NewHandle,
    name: UnicodeString,
    quality: uptr,
    write_section: uptr,
    sid: uptr,
    read_section: uptr,
    maximum: uptr,
    information: uptr,
    information_length: uptr,
) -> int:
    """There are no LPC servers."""
    return Status.OBJECT_NAME_NOT_FOUND


@syscall
def NtCreatePagingFile(call: Call, name: UnicodeString, minimum: uptr, maximum: uptr, actual: uptr) -> int:
    """Refused: the token does not hold SeCreatePagefilePrivilege."""
    return Status.PRIVILEGE_NOT_HELD


@syscall
def NtSetLdtEntries(
    call: Call, first: u32, low_first: u32, high_first: u32, second: u32, low_second: u32, high_second: u32
) -> int:
    """64-bit processes have no local descriptor table."""
    return Status.NOT_IMPLEMENTED


@syscall
def wine_nt_to_unix_file_name(call: Call, attributes: uptr, name: uptr, size: uptr, disposition: u32) -> int:
    """Refused: a guest does not learn host paths."""
    return Status.NOT_SUPPORTED


@syscall
def wine_unix_to_nt_file_name(call: Call, name: uptr, buffer: uptr, size: uptr) -> int:
    """Refused: a guest does not learn host paths."""
    return Status.NOT_SUPPORTED


@syscall
def NtLoadDriver(call: Call, name: UnicodeString) -> int:
    """Refused: the token does not hold SeLoadDriverPrivilege."""
    return Status.PRIVILEGE_NOT_HELD


@syscall
def NtUnloadDriver(call: Call, name: UnicodeString) -> int:
    """Refused: the token does not hold SeLoadDriverPrivilege."""
    return Status.PRIVILEGE_NOT_HELD


@syscall
def NtShutdownSystem(call: Call, action: u32) -> int:
    """Refused: SeShutdownPrivilege is not enabled."""
    return Status.PRIVILEGE_NOT_HELD


@syscall
def NtInitiatePowerAction(call: Call, action: u32, least: u32, flags: u32, asynchronous: boolean) -> int:
    """Refused: SeShutdownPrivilege is not enabled."""
    return Status.PRIVILEGE_NOT_HELD


@syscall
def NtSetIntervalProfile(call: Call, interval: u32, source: u32) -> int:
    """Refused: the token does not hold SeSystemProfilePrivilege."""
    return Status.PRIVILEGE_NOT_HELD


@syscall
def NtSystemDebugControl(
    call: Call, command: u32, data: uptr, data_length: u32, buffer: uptr, length: u32, returned: uptr
) -> int:
    """There is no kernel debugger."""
    return Status.DEBUGGER_INACTIVE


@syscall
def NtDisplayString(call: Call, text: UnicodeString) -> int:
    """Refused: the boot screen belongs to SeTcbPrivilege."""
    return Status.PRIVILEGE_NOT_HELD


@syscall
def NtTraceControl(
    call: Call, function: u32, data: uptr, data_length: u32, buffer: uptr, length: u32, returned: uptr
) -> int:
    """Event tracing has no sessions and no providers here."""
    return Status.NOT_SUPPORTED
