"""Answering information queries: length checks that all of them share."""

from __future__ import annotations

from nexus.nt.errors import NtError
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.pointer import Ptr
    from nexus.nt.call import Call


def pointer(address: int) -> int:
    """An address as a structure holds it: behind a hostile buffer at the end of memory it wraps round."""
    return address & 0xFFFF_FFFF_FFFF_FFFF


def answer(
    call: Call,
    buffer: int,
    length: int,
    returned: Ptr[int] | None,
    data: bytes,
    too_small: int = Status.INFO_LENGTH_MISMATCH,
) -> None:
    """Write `data` to the guest's buffer, or raise `too_small`; either way tell the length that is needed."""
    if returned is not None:
        returned.write(len(data))
    if length < len(data):
        raise NtError(too_small)
    if data:
        call.memory.write(buffer, data)
