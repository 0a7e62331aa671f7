"""NtQueryInformationProcess and NtSetInformationProcess; the classes are in `nexus.nt.ps.info_process`."""

from __future__ import annotations

from nexus.abi.types import i32, u32, uptr
from nexus.nt.access import PROCESS_SET_INFORMATION
from nexus.nt.ps.info_process import query_process, set_process
from nexus.nt.ps.process import Process
from nexus.nt.syscall import Handle, Out, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call


@syscall
def NtQueryInformationProcess(
    call: Call, process: uptr, kind: i32, buffer: uptr, length: u32, returned: Out[u32] | None
) -> None:
    """Facts about a process."""
    query_process(call, process, kind, buffer, length, returned)


@syscall
def NtSetInformationProcess(
    call: Call, process: Handle[Process, PROCESS_SET_INFORMATION], kind: i32, buffer: uptr, length: u32
) -> None:
    """Change a property of a process."""
    set_process(call, process, kind, buffer, length)
