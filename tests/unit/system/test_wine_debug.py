"""The table of debug channels; the expected bytes follow Wine's `struct __wine_debug_channel` and the
documentation of WINEDEBUG.
"""

import struct

import pytest

from nexus.base.errors import UsageError
from nexus.system.wine_debug import debug_options

FIXME, ERR, WARN, TRACE = 1, 2, 4, 8


def table(text: str) -> list[tuple[int, str]]:
    raw = debug_options(text)
    assert len(raw) % 16 == 0
    return [(flags, name.rstrip(b"\0").decode()) for flags, name in struct.iter_unpack("<B15s", raw)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(FIXME | ERR, "")]),
        ("-all", [(0, "")]),
        ("+relay", [(15, "relay"), (FIXME | ERR, "")]),
        ("warn+heap", [(FIXME | ERR | WARN, "heap"), (FIXME | ERR, "")]),
        ("fixme-all", [(ERR, "")]),
        ("relay", [(15, "relay"), (FIXME | ERR, "")]),
        ("-all,trace+file", [(TRACE, "file"), (0, "")]),
        ("err-ntdll,+file", [(15, "file"), (FIXME, "ntdll"), (FIXME | ERR, "")]),
    ],
)
def test_table(text: str, expected: list[tuple[int, str]]) -> None:
    assert table(text) == expected


@pytest.mark.parametrize("text", ["loud+heap", "+", "warn+", "+averylongchannel", "+hé"])
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        debug_options(text)


def test_too_many() -> None:
    with pytest.raises(UsageError):
        debug_options(",".join(f"+c{n}" for n in range(256)))
