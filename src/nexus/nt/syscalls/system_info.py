"""NtQuerySystemInformation and its relatives; the classes are in `nexus.nt.info_system`."""

from __future__ import annotations

import struct

from nexus.abi.types import i32, u32, uptr
from nexus.nt.attributes import UNICODE_STRING
from nexus.nt.errors import NtError
from nexus.nt.info_system import query_system, query_system_ex
from nexus.nt.information import deliver, refuse
from nexus.nt.status import Status
from nexus.nt.syscall import Out, Ptr, UnicodeString, stub, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

_POWER_CAPABILITIES, _BATTERY_STATE, _PROCESSOR_POWER, _EXECUTION_STATE = 4, 5, 11, 16
_NOMINAL_MHZ = 3000

_LICENCES = "\\Registry\\Machine\\Software\\Wine\\LicenseInformation"


@syscall
def NtQuerySystemInformation(
    call: Call, kind: i32, buffer: uptr, length: u32, returned: Out[u32] | None
) -> None:
    """Facts about the machine."""
    query_system(call, kind, buffer, length, returned)


@syscall
def RtlGetNativeSystemInformation(
    call: Call, kind: i32, buffer: uptr, length: u32, returned: Out[u32] | None
) -> None:
    """Wine 8's name for what a 64-bit process learns from NtQuerySystemInformation."""
    query_system(call, kind, buffer, length, returned)


@syscall
def NtQuerySystemInformationEx(
    call: Call,
    kind: i32,
    query: uptr,
    query_length: u32,
    buffer: uptr,
    length: u32,
    returned: Out[u32] | None,
) -> None:
    """Facts about the machine that depend on an input."""
    query_system_ex(call, kind, query, query_length, buffer, length, returned)


@syscall
def NtSetSystemInformation(call: Call, kind: i32, buffer: uptr, length: u32) -> None:
    """A guest does not configure the machine."""
    raise NtError(Status.PRIVILEGE_NOT_HELD)


@syscall
def NtQueryLicenseValue(
    call: Call,
    name: Ptr[UNICODE_STRING] | None,
    kind: Out[u32] | None,
    buffer: uptr,
    length: u32,
    returned: Out[u32] | None,
) -> None:
    """A licence value; like Wine's they are values of a registry key."""
    if name is None or returned is None:
        raise NtError(Status.INVALID_PARAMETER)
    string = name.read()
    if not string.Buffer or not string.Length:
        raise NtError(Status.INVALID_PARAMETER)
    key = call.kernel.io.registry.open(_LICENCES)
    value = key.value(
        call.memory.read(string.Buffer, string.Length & ~1).decode("utf-16-le", "surrogatepass")
    )
    if kind is not None:
        kind.write(value.type)
    returned.write(len(value.data))
    if length < len(value.data):
        raise NtError(Status.BUFFER_TOO_SMALL)
    call.memory.write(buffer, value.data)


@syscall
def NtQuerySystemEnvironmentValue(
    call: Call, name: UnicodeString, buffer: uptr, length: u32, returned: Out[u32] | None
) -> None:
    """There is no firmware."""
    raise NtError(Status.NOT_IMPLEMENTED)


@syscall
def NtQuerySystemEnvironmentValueEx(
    call: Call,
    name: UnicodeString,
    vendor: uptr,
    buffer: uptr,
    length: Ptr[u32] | None,
    attributes: Out[u32] | None,
) -> None:
    """There is no UEFI firmware."""
    raise NtError(Status.NOT_IMPLEMENTED)


@syscall
def NtPowerInformation(
    call: Call, kind: i32, query: uptr, query_length: u32, buffer: uptr, length: u32
) -> None:
    """A machine on mains power that never sleeps."""
    if kind == _POWER_CAPABILITIES:
        content = _power_capabilities()
    elif kind == _BATTERY_STATE:
        content = struct.pack("<B31x", 1)  # AcOnLine, no battery
    elif kind == _EXECUTION_STATE:
        content = struct.pack("<I", 0)
    elif kind == _PROCESSOR_POWER:
        rows = [
            struct.pack("<6I", index, _NOMINAL_MHZ, _NOMINAL_MHZ, _NOMINAL_MHZ, 0, 0)
            for index in range(call.kernel.processors)
        ]
        content = b"".join(rows)
    else:
        raise refuse(call, "NtPowerInformation", kind, (), "", Status.NOT_IMPLEMENTED)
    if length < len(content):
        raise NtError(Status.BUFFER_TOO_SMALL)
    deliver(call, content, 1, buffer, length, None)


def _power_capabilities() -> bytes:
    """SYSTEM_POWER_CAPABILITIES: a power button and nothing else."""
    return struct.pack("<B75x", 1)


@stub("the guest cannot keep the host awake, and the host does not fall asleep under it")
def NtSetThreadExecutionState(call: Call, state: u32, previous: Out[u32] | None) -> None:
    """Ask the system to stay awake."""
    if previous is not None:
        previous.write(0x80000000)
