"""The folder where compiled code is kept between runs.

Code found there is executed, so the folder must belong to the user and be writable by nobody else. Files are
written beside their final place and renamed, hence never seen half-written; what is wrong is built again.
"""

from __future__ import annotations

import os
import stat

from nexus.base.errors import NexusError
from nexus.base.folders import cache_folder

PAGES = "pages"  # the part that processes behind the second wall may write (docs/sandbox.md)


def folder(base: str | None = None) -> str:
    """The code folder under `base` (by default the user's cache folder), created and checked."""
    return private(os.path.join(base or cache_folder(), "code"))


def private(path: str) -> str:
    """A folder, created if it is not there; NexusError if somebody else can write to it."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    if not is_private(os.stat(path)):
        raise NexusError(
            f"{path} belongs to somebody else or others may write to it, so code in it cannot be trusted",
            hint=f"chmod 700 {path}, or choose another folder with NEXUS_CACHE",
        )
    return path


def is_private(info: os.stat_result) -> bool:
    """Is it ours, and can nobody else write to it?"""
    return info.st_uid == os.geteuid() and not stat.S_IMODE(info.st_mode) & 0o022


def write(path: str, data: bytes) -> None:
    """Put a file in place at once."""
    temporary = f"{path}.{os.getpid()}.new"
    try:
        with open(temporary, "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask
            file.write(data)
        os.rename(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def processor() -> bytes:
    """What identifies the host's processor model and features for the key of compiled code."""
    with open("/proc/cpuinfo", "rb", buffering=0) as file:
        text = file.read(8192)
    wanted = (b"model name", b"flags")
    return b"\n".join(line for line in text.split(b"\n\n")[0].split(b"\n") if line.startswith(wanted))
