"""Calls of exported functions in the trace: `nexus trace --calls`.

No prototype is known, so the four registers that may hold arguments are shown as they are, together with rax
on return and the place of the call. A call that never returns has `?` for its result. Where an export is
forwarded, what the module that really has it calls there by itself is left out.
"""

from __future__ import annotations

from nexus.nt.hook import Hook, HookCall, module_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.trace import Trace


def trace_calls(trace: Trace, pattern: str) -> Hook:
    """The hook that writes a line for each call of the exports that `module!pattern` means."""

    def called(call: HookCall) -> None:
        home = call.process.module_at(call.address)
        is_forwarded = home is not None and module_key(home.name) != call.module
        if is_forwarded and call.process.module_at(call.return_address) is home:
            return
        shown = ", ".join(f"{value:#x}" for value in call.registers())
        line = f"[{call.process.id:x}:{call.thread.id:x}] {call.module}!{call.name}({shown}) = "
        caller = f" from {call.caller}"
        call.after(lambda result: trace.write(f"{line}{result:#x}{caller}"))
        call.abandoned(lambda: trace.write(f"{line}?{caller}"))

    return Hook(pattern, called)
