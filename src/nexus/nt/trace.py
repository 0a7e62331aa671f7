"""The decoded record of syscalls: `nexus trace`. One line per call, written when it returns, with its
result.
"""

from __future__ import annotations

from nexus.base.errors import GuestFault
from nexus.nt.attributes import read_unicode_string
from nexus.nt.errors import NtError
from nexus.nt.status import status_name
from nexus.nt.wait import Resume, UserCallback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.nt.hook import Hook
    from nexus.nt.ps.crash import Crash
    from nexus.nt.ps.thread import Thread
    from nexus.nt.syscall import Syscall


class Trace:
    """`write` receives finished lines; `only` restricts them to these names."""

    __slots__ = ("_open", "calls", "only", "write")

    def __init__(self, write: Callable[[str], None], only: frozenset[str] | None = None) -> None:
        self.write = write
        self.only = only
        self._open: dict[int, str] = {}
        self.calls: list[Hook] = []  # exported functions that are traced too (`nt/trace_calls.py`)

    def enter(self, thread: Thread, entry: Syscall, raw: tuple[int, int, int, int], stack: int) -> None:
        if self.only is None or entry.name in self.only:
            self._open[thread.id] = format_call(thread, entry, raw, stack)

    def leave(self, thread: Thread, result: object) -> None:
        line = self._open.pop(thread.id, None)
        if line is None:
            return
        if isinstance(result, UserCallback):
            shown = f"(calls the guest's function {result.index})"
        elif isinstance(result, Resume):
            shown = "(registers set)"
        else:
            shown = status_name(result if isinstance(result, int) else 0)
        self.write(f"[{thread.process.id:x}:{thread.id:x}] {line} = {shown}")

    def exception(self, thread: Thread, crash: Crash) -> None:
        where = thread.process.describe_address(crash.address)
        detail = ", ".join(f"{value:#x}" for value in crash.parameters[:4])
        self.write(f"[{thread.process.id:x}:{thread.id:x}] exception {crash.name}({detail}) at {where}")


def format_call(thread: Thread, entry: Syscall, raw: tuple[int, int, int, int], stack: int) -> str:
    """`NtClose(handle=0x24)` with every argument masked to its type and strings shown."""
    try:
        values = entry.raw_arguments(thread.call, raw, stack)
    except GuestFault:
        values = list(raw)
    parts = []
    for (name, kind), value in zip(entry.parameters, values, strict=False):
        parts.append(f"{name}={_show(thread, kind.text, kind.mask, value)}")
    return f"{entry.name}({', '.join(parts)})"


def _show(thread: Thread, kind: str, mask: int, value: int) -> str:
    value &= mask
    kind = kind.removesuffix(" | None")
    memory = thread.process.window
    try:
        if value and kind == "UnicodeString":
            return repr(read_unicode_string(memory, value))
        if value and kind == "ObjectAttributes":
            name = memory.u64(value + 16)
            root = memory.u64(value + 8)
            text = repr(read_unicode_string(memory, name)) if name else "unnamed"
            return f"{root:#x}:{text}" if root else text
        if value and kind.startswith("Handle["):
            return f"{value:#x}{_name_of(thread, value)}"
    except (GuestFault, NtError):
        return f"{value:#x}?"
    return f"{value:#x}" if value > 9 else str(value)


def _name_of(thread: Thread, handle: int) -> str:
    try:
        path = thread.process.handles.entry(handle).object.path
    except NtError:
        return ""
    return f"<{path}>" if path else ""
