"""Unix calls: what Wine's DLLs ask of the host half of theirs. Each library answers with one function here.

A library's function gets (call, number, address of the parameters) and returns the NTSTATUS (or whatever
integer the call is defined to return). What it does not know it must refuse loudly with `call.unsupported`.
"""

from __future__ import annotations

from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nexus.nt.call import Call

LIBRARIES: dict[str, Callable[[Call, int, int], Any]] = {}


def ntdll(call: Call, number: int, parameters: int) -> int:
    """ntdll's own unix calls; their numbers depend on the version."""
    names = call.process.version.unix_calls
    name = names[number] if number < len(names) else str(number)
    if name == "system_time_precise":
        call.memory.write(parameters, call.kernel.clock.system().to_bytes(8, "little"))
        return Status.SUCCESS
    if name == "wine_dbg_write":
        text = call.memory.u64(parameters)
        length = call.memory.u32(parameters + 8)
        call.kernel.debug_output(call.memory.read(text, min(length, 0x10000)))
        return length
    if name == "load_so_dll":  # there are no host libraries for a guest to load
        return Status.INVALID_IMAGE_FORMAT
    if name == "unwind_builtin_dll":  # no code of the host is ever on a guest's stack
        return Status.UNSUCCESSFUL
    raise call.unsupported(f"ntdll's unix call {name}", "src/nexus/nt/unix/unixcall.py")


LIBRARIES["ntdll.dll"] = ntdll


def _later(module: str, name: str) -> Callable[[Call, int, int], Any]:
    """A library whose module is loaded by its first call."""

    def library(call: Call, number: int, parameters: int) -> Any:
        from importlib import import_module

        loaded = LIBRARIES[f"{name}.dll"] = getattr(import_module(module), name)
        return loaded(call, number, parameters)

    return library


for _name in ("bcrypt", "crypt32", "ws2_32"):
    LIBRARIES[f"{_name}.dll"] = _later(f"nexus.nt.unix.{_name}", _name)
