"""Services that this machine does not have, refused as Windows refuses them: LPC ports, paging files, LDTs.

These are complete answers, not placeholders: without the privilege or the partner a real system says the
same.
"""

from __future__ import annotations

from nexus.abi.types import u32, uptr
from nexus.nt.call import Call
from nexus.nt.status import Status
from nexus.nt.syscall import Out, UnicodeString, syscall


@syscall
def NtConnectPort(
    call: Call,
    handle: Out[uptr],
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
    handle: Out[uptr],
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
