"""The entry behind `__wine_unix_call_dispatcher`: unix calls of all libraries (see `nt.unixcall`)."""

from __future__ import annotations

from nexus.abi.types import u32, u64, uptr
from nexus.nt.call import Call
from nexus.nt.status import Status
from nexus.nt.syscall import syscall
from nexus.nt.unix.unixcall import LIBRARIES
from nexus.nt.unix.unixlibs import unixlib_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@syscall
def unix_call(call: Call, handle: u64, number: u32, parameters: uptr) -> Any:
    """Call function `number` of the unix half that `handle` names."""
    name = unixlib_name(handle)
    if name is None:
        return Status.INVALID_HANDLE
    library = LIBRARIES.get(name)
    if library is None:
        raise call.unsupported(f"unix call {number} of {name}", "src/nexus/nt/unix/unixcall.py")
    return library(call, number, parameters)
