"""NtQueryInformationThread and NtSetInformationThread; the classes are in `nexus.nt.ps.info_thread`."""

from __future__ import annotations

from nexus.abi.types import i32, u32, uptr
from nexus.nt.ps.info_thread import query_thread, set_thread
from nexus.nt.syscall import Out, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call


@syscall
def NtQueryInformationThread(
    call: Call, thread: uptr, kind: i32, buffer: uptr, length: u32, returned: Out[u32] | None
) -> None:
    """Facts about a thread."""
    query_thread(call, thread, kind, buffer, length, returned)


@syscall
def NtSetInformationThread(call: Call, thread: uptr, kind: i32, buffer: uptr, length: u32) -> None:
    """Change a property of a thread."""
    set_thread(call, thread, kind, buffer, length)
