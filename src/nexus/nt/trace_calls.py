"""Calls of exported functions in the trace: `nexus trace --calls`.

No prototype is known, so the four registers that may hold arguments are shown as they are, together with rax
on return and the place of the call. A call that never returns has `?` for its result.
"""

from __future__ import annotations

from nexus.nt.hook import Hook, HookCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.trace import Trace


def trace_calls(trace: Trace, pattern: str) -> Hook:
    """The hook that writes a line for each call of the exports that `module!pattern` means."""

    def called(call: HookCall) -> None:
        shown = ", ".join(f"{value:#x}" for value in call.registers())
        line = f"[{call.process.id:x}:{call.thread.id:x}] {call.module}!{call.name}({shown}) = "
        caller = f" from {call.caller}"
        call.after(lambda result: trace.write(f"{line}{result:#x}{caller}"))
        call.abandoned(lambda: trace.write(f"{line}?{caller}"))

    return Hook(pattern, called)
