"""Making named pipes and mailslots; everything else about them goes through the file syscalls."""

from __future__ import annotations

from nexus.abi.pointer import In
from nexus.abi.types import i64, u32, uptr
from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_CREATED, SYNCHRONOUS
from nexus.nt.io.mailslot import MailslotDevice, MailslotFolder
from nexus.nt.io.pipe_device import PipeDevice, PipeFolder
from nexus.nt.namespace import Device
from nexus.nt.status import Status
from nexus.nt.syscall import NewHandle, ObjectAttributes, syscall
from nexus.nt.syscalls.file import give_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from nexus.nt.attributes import Attributes
    from nexus.nt.call import Call

    D = TypeVar("D", bound=Device)


def _place(call: Call, attributes: Attributes, device: type[D]) -> tuple[D, str]:
    """The file system of that class and the name in it; an empty name makes what only its handles reach."""
    root, name = attributes.root, attributes.name or ""
    if attributes.root_handle and attributes.name is None:
        raise NtError(Status.OBJECT_NAME_INVALID)
    if attributes.root_handle and root is None:
        raise NtError(Status.INVALID_HANDLE)
    if isinstance(root, PipeFolder | MailslotFolder) and isinstance(root.device, device):
        if name and not root.root:
            raise NtError(Status.OBJECT_NAME_INVALID)
        return root.device, name
    if not name:
        raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
    try:
        found = call.kernel.namespace.parse(name, root)
    except NtError as error:
        if error.status == Status.OBJECT_NAME_NOT_FOUND:  # a new name in an object directory
            raise NtError(Status.OBJECT_NAME_INVALID) from error
        raise
    if not isinstance(found.object, device):
        raise NtError(Status.OBJECT_NAME_INVALID)
    rest = found.rest.removeprefix("\\")
    if not rest:
        raise NtError(Status.OBJECT_NAME_INVALID)
    return found.object, rest


@syscall
def NtCreateNamedPipeFile(
    call: Call,
    handle: NewHandle,
    desired: u32,
    attributes: ObjectAttributes,
    iosb: uptr,
    sharing: u32,
    disposition: u32,
    options: u32,
    message_mode: u32,
    message_read: u32,
    nonblocking: u32,
    maximum: u32,
    inbound_quota: u32,
    outbound_quota: u32,
    timeout: In[i64] | None,
) -> None:
    """The server end of a new instance of a named pipe."""
    if options & SYNCHRONOUS == SYNCHRONOUS:
        raise NtError(Status.INVALID_PARAMETER)
    device, name = _place(call, attributes, PipeDevice)
    server, information = device.create(
        call,
        name,
        desired,
        sharing,
        disposition,
        options,
        bool(message_mode),
        bool(message_read),
        bool(nonblocking),
        maximum,
        (inbound_quota, outbound_quota),
        timeout.read() if timeout is not None else 0,
    )
    if information == FILE_CREATED and attributes.security is not None:
        server.security = attributes.security
    give_file(call, handle, server, desired, attributes, iosb, information)


@syscall
def NtCreateMailslotFile(
    call: Call,
    handle: NewHandle,
    desired: u32,
    attributes: ObjectAttributes,
    iosb: uptr,
    options: u32,
    quota: u32,
    message_size: u32,
    timeout: In[i64] | None,
) -> None:
    """The reading end of a new mailslot; without a timeout reads wait for ever."""
    device, name = _place(call, attributes, MailslotDevice)
    if not desired:
        raise NtError(Status.ACCESS_DENIED)
    slot = device.create(name, desired, options, message_size, timeout.read() if timeout is not None else -1)
    slot.security = attributes.security
    give_file(call, handle, slot, desired, attributes, iosb, FILE_CREATED)
