"""What all information classes share: a table of classes, and how an answer meets the caller's buffer.

A class's function returns the bytes of its structure. The rule for the buffer's length is one of
    EXACT      any other length is STATUS_INFO_LENGTH_MISMATCH
    AT_LEAST   a longer buffer is fine
    CUT        the answer is cut to the buffer
    SILENT     like EXACT, and the length that is needed is not told
A class that is not in the table never gets a made-up answer. One that Wine answers stops loudly
(`Unsupported`), because its DLLs and programs count on it; any other is refused with the status Wine gives,
and counted like a stub.
"""

from __future__ import annotations

import os
import struct

from nexus.nt.clock import BOOT_OFFSET, TICKS_PER_SECOND
from nexus.nt.errors import NtError
from nexus.nt.query import pointer
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.abi.pointer import Out
    from nexus.nt.call import Call
    from nexus.nt.kernel import Kernel

EXACT, AT_LEAST, CUT, SILENT = range(4)


class Answer:
    """One information class: its function, its length rule, and the size it needs when nothing can be
    asked.
    """

    __slots__ = ("function", "rule")

    def __init__(self, function: Callable[..., bytes], rule: int = EXACT) -> None:
        self.function = function
        self.rule = rule


def deliver(
    call: Call, content: bytes, rule: int, buffer: int, length: int, returned: Out[int] | None
) -> None:
    """Write an answer to the caller's buffer by the class's rule and tell its size."""
    if returned is not None and (rule != SILENT or length == len(content)):
        returned.write(min(len(content), length) if rule == CUT else len(content))
    if rule == CUT:
        content = content[:length]
    elif length < len(content) or (rule in (EXACT, SILENT) and length != len(content)):
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    if content:
        if not buffer:
            raise NtError(Status.ACCESS_VIOLATION)
        call.memory.write(buffer, content)


def refuse(
    call: Call,
    syscall: str,
    kind: int,
    missing: tuple[int, ...],
    file: str,
    status: int = Status.INVALID_INFO_CLASS,
) -> NtError:
    """The error for a class that is not in the table; `missing` are those Wine answers and we do not yet."""
    name = f"{syscall} class {kind}"
    if kind in missing:
        raise call.unsupported(name, file)
    counts = call.kernel.stub_counts
    counts[name] = counts.get(name, 0) + 1
    return NtError(status)


def unicode_string(text: str, at: int) -> bytes:
    """A UNICODE_STRING whose characters follow it; `at` is the guest address of the whole."""
    content = text.encode("utf-16-le", "surrogatepass")
    return struct.pack("<HHIQ", len(content), len(content) + 2, 0, pointer(at + 16)) + content + b"\0\0"


def read_exactly(call: Call, buffer: int, length: int, size: int, status: int) -> bytes:
    """The caller's structure of a set-class; `status` when it does not have the size."""
    if length != size:
        raise NtError(status)
    return call.memory.read(buffer, size)


def processor_time(kernel: Kernel) -> int:
    """How long processors were busy with the guest, in 100 ns: the host process's time, or all of virtual
    time.
    """
    if kernel.clock.virtual:
        return kernel.clock.monotonic() - BOOT_OFFSET
    times = os.times()
    return int((times.user + times.system) * TICKS_PER_SECOND)
