"""Where nexus keeps its own things: the checkout it runs from and one cache folder.

On the start path of `run`, so nothing but `os` is imported. Everything under the cache may be deleted at any
time; it is rebuilt or downloaded again.
"""

from __future__ import annotations

import os
import stat

from nexus.base.errors import NexusError

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHECKOUT = os.path.dirname(os.path.dirname(PACKAGE))


def cache_folder() -> str:
    """`NEXUS_CACHE`, else `nexus` under `XDG_CACHE_HOME` or `~/.cache`. Not created."""
    chosen = os.environ.get("NEXUS_CACHE")
    if chosen:
        return os.path.abspath(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "nexus")


def private_folder(*parts: str) -> str:
    """A folder below the cache, created with mode 0700; refuses one that somebody else can write.

    Translated code and packages are executed from here, so a folder owned by another user, or writable by
    the group or by everybody, is an error and never repaired silently.
    """
    root = cache_folder()
    path = os.path.join(root, *parts)
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
        os.makedirs(path, mode=0o700, exist_ok=True)
        seen = os.stat(path)
    except OSError as error:
        raise NexusError(
            f"the cache folder {path} cannot be used: {error.strerror}",
            hint="set NEXUS_CACHE to a folder you can write",
        ) from None
    if seen.st_uid != os.geteuid() or seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NexusError(
            f"the cache folder {path} can be written by others",
            hint=f"make it yours alone (chmod go-w {path}) or set NEXUS_CACHE to another folder",
        )
    return path
