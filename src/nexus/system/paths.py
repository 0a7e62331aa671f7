"""Host paths and the Windows paths the guest sees them under.

The host's `/` is `Z:`. Names that are illegal on Windows are mapped reversibly by `nexus.nt.io.path`.
"""

from __future__ import annotations

import os

from nexus.base.errors import UsageError
from nexus.nt.io.path import BadName, guest_name, host_name


def to_guest(path: str) -> str:
    """`/home/me/a.txt` -> `Z:\\home\\me\\a.txt`; relative paths are taken from the current folder."""
    whole = os.path.abspath(path)
    return "Z:\\" + "\\".join(guest_name(part) for part in whole.split("/") if part)


def is_guest(path: str) -> bool:
    """Whether a path is written the Windows way: with a drive letter or a backslash at its start."""
    return (len(path) >= 2 and path[0].isalpha() and path[1] == ":") or path.startswith("\\")


def to_host(path: str, drive: str | None = None) -> str:
    """The host path of a `Z:` path, or of a `C:` path when the folder that holds the drive is known."""
    plain = path.replace("/", "\\").removeprefix("\\\\?\\")
    letter, colon, rest = plain.partition(":")
    if not colon or not rest.startswith("\\"):
        raise UsageError(
            f"{path} is not a whole Windows path", hint="it starts with a drive letter, like Z:\\home"
        )
    try:
        parts = [host_name(part) for part in rest.split("\\") if part]
    except BadName:
        raise UsageError(f"{path} holds a name that cannot exist on Windows") from None
    if letter.upper() == "Z":
        return "/" + "/".join(parts)
    if letter.upper() == "C" and drive is not None:
        return os.path.join(os.path.abspath(drive), *parts)
    hint = "give the folder of the drive: --drive DIR" if letter.upper() == "C" else "the guest has C: and Z:"
    raise UsageError(f"{path} has no host path", hint=hint)
