"""NtCreateNamedPipeFile; everything else about pipes goes through the file syscalls."""

from __future__ import annotations

from nexus.abi.pointer import In
from nexus.abi.types import i64, u32, uptr
from nexus.nt.errors import NtError
from nexus.nt.io.file import FILE_CREATED, SYNCHRONOUS
from nexus.nt.io.pipe_device import PipeDevice, PipeFolder
from nexus.nt.status import Status
from nexus.nt.syscall import NewHandle, ObjectAttributes, syscall
from nexus.nt.syscalls.file import iosb_write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.attributes import Attributes
    from nexus.nt.call import Call


def _name(call: Call, attributes: Attributes) -> tuple[PipeDevice, str]:
    """The pipe file system and the name in it; an empty name makes a pipe that only its handles can reach."""
    root, name = attributes.root, attributes.name or ""
    if isinstance(root, PipeFolder):
        if name and not root.root:
            raise NtError(Status.OBJECT_NAME_INVALID)
        return root.device, name
    if not name:
        raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
    found = call.kernel.namespace.parse(name, root)
    if not isinstance(found.object, PipeDevice):
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
    device, name = _name(call, attributes)
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
    try:
        iosb_write(call, iosb, Status.SUCCESS, information)
        call.give_handle(handle, server, desired, attributes)
    except BaseException:
        if not server.handle_count:
            server.closed()
        raise
