"""Reserve objects: memory set aside for a user APC or a completion packet. This kernel needs none, so they
only are there, and of their type.
"""

from __future__ import annotations

from nexus.abi.types import u32
from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.completion import IoCompletionReserve
from nexus.nt.objects import KernelObject
from nexus.nt.ps.thread import UserApcReserve
from nexus.nt.status import Status
from nexus.nt.syscall import NewHandle, ObjectAttributes, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

_KINDS: tuple[type[KernelObject], ...] = (UserApcReserve, IoCompletionReserve)  # MEMORY_RESERVE_OBJECT_TYPE


@syscall
def NtAllocateReserveObject(
    call: Call, handle: NewHandle, attributes: ObjectAttributes | None, kind: u32
) -> None:
    """A new reserve object; they have no names."""
    if kind >= len(_KINDS):
        raise NtError(Status.INVALID_PARAMETER)
    if attributes is not None and attributes.name:
        raise NtError(Status.OBJECT_NAME_INVALID)
    call.give_handle(handle, _KINDS[kind](), access.GENERIC_READ | access.GENERIC_WRITE, attributes)
