"""Bellum Nexus: run unmodified Windows programs on Linux, from Python, on an own x86 engine and NT kernel.

    import nexus
    win = nexus.windows()
    print(win.run("tool.exe", "--version").text)

Names are loaded on first use, so that `import nexus` costs nothing at the start of `nexus run`.
Read next: `nexus.cli.main` (the command line), `nexus.system.windows` (how a machine is put together).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.base.errors import BadImage, NexusError, NotFound, Unsupported, UsageError
    from nexus.system.permissions import Permissions
    from nexus.system.windows import GuestCrash, GuestTimeout, Result, Windows, windows

__version__ = "0.1.0"

_HOMES = {
    "NexusError": "nexus.base.errors",
    "BadImage": "nexus.base.errors",
    "NotFound": "nexus.base.errors",
    "Unsupported": "nexus.base.errors",
    "UsageError": "nexus.base.errors",
    "Permissions": "nexus.system.permissions",
    "GuestCrash": "nexus.system.windows",
    "GuestTimeout": "nexus.system.windows",
    "Result": "nexus.system.windows",
    "Windows": "nexus.system.windows",
    "windows": "nexus.system.windows",
}

__all__ = [
    "BadImage",
    "GuestCrash",
    "GuestTimeout",
    "NexusError",
    "NotFound",
    "Permissions",
    "Result",
    "Unsupported",
    "UsageError",
    "Windows",
    "__version__",
    "windows",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'nexus' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
