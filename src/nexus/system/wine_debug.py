"""`--wine-debug`: what Wine's DLLs print about themselves, in the syntax of WINEDEBUG.

A comma-separated list of `[class]+channel` and `[class]-channel`; without a class all classes are meant, and
the channel `all` is every channel that is not named.
"""

from __future__ import annotations

import struct

from nexus.base.errors import UsageError

CLASSES = {"fixme": 1, "err": 2, "warn": 4, "trace": 8}
_ALL = 15
_NAME_BYTES = 14
_MOST = 255


def debug_options(text: str) -> bytes:
    """The table behind the PEB: one `__wine_debug_channel` (flags, name) per channel in the order of their
    names, then one without a name for all others. An empty text shows errors and fixmes, as Wine does.
    """
    default = CLASSES["fixme"] | CLASSES["err"]
    channels: dict[str, int] = {}
    for option in filter(None, text.split(",")):
        flags, enable, name = _parse(option)
        before = default if name == "all" else channels.get(name, default)
        after = before | flags if enable else before & ~flags
        if name == "all":
            default = after
        else:
            channels[name] = after
    if len(channels) > _MOST:
        raise UsageError(f"--wine-debug names {len(channels)} channels, {_MOST} are possible")
    rows = sorted((name.encode("ascii"), flags) for name, flags in channels.items())
    return b"".join(struct.pack("<B15s", flags, name) for name, flags in [*rows, (b"", default)])


def _parse(option: str) -> tuple[int, bool, str]:
    """(classes, on or off, channel) of one option."""
    sign = next((character for character in option if character in "+-"), "")
    kind, _, name = option.partition(sign) if sign else ("", "", option)
    if kind and kind not in CLASSES:
        raise UsageError(f"--wine-debug: there is no class {kind}", hint=f"classes: {' '.join(CLASSES)}")
    if not name or not name.isascii() or len(name) > _NAME_BYTES:
        raise UsageError(
            f"--wine-debug: {option} names no channel", hint="write class+channel, like warn+heap"
        )
    return CLASSES.get(kind, _ALL), sign != "-", name
