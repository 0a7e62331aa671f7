"""Names between guest and host, and search expressions (expected values: FsRtlIsNameInExpression's
documentation).
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.nt.io.path import (
    BadName,
    from_dos_mask,
    guest_name,
    host_name,
    matches,
    short_name,
    split_path,
    upcase,
)

HOST_BYTES = st.binary(min_size=1, max_size=60).filter(
    lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b"..")
)


@given(HOST_BYTES)
def test_every_host_name_survives_the_round_trip(raw: bytes) -> None:
    name = raw.decode("utf-8", "surrogateescape")
    if any(0xF000 <= ord(c) <= 0xF0FF for c in name):
        return  # the private block itself is what the mapping uses
    guest = guest_name(name)
    assert not set(guest) & set('<>:"/\\|?*') and guest[-1] not in ". "
    assert host_name(guest) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "a:b", "a?", "a*", 'a"', "a<", "a|b", "a\x01", "x" * 256, "\ud800"]
)
def test_names_windows_forbids(name: str) -> None:
    with pytest.raises(BadName):
        host_name(name)


def test_components() -> None:
    assert split_path("\\dir\\file.txt\\") == ["dir", "file.txt"]
    assert split_path("\\\\dir") == ["dir"]
    assert split_path("\\") == split_path("\\\\") == []
    for bad in ("\\\\\\dir", "\\dir\\\\file", "dir\\\\"):
        with pytest.raises(BadName):
            split_path(bad)
    assert split_path("\\dir\\file::$DATA") == ["dir", "file"]


def test_upcase_changes_no_length() -> None:
    assert upcase("straße") == "STRAßE"
    assert upcase("éa") == "ÉA"
    assert upcase("\u0131") == "\u0131"


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "anything", True),
        ("*.C", "a.c", True),
        ("*.C", "a.cc", False),
        ("*.*", "noext", False),
        ("<.C", "a.b.c", True),
        ("<", "noext", True),
        ("<", "a.txt", False),
        ("<", "a.b", False),
        ("A?C", "abc", True),
        ("A?C", "ac", False),
        ("<TMP", "n.tmp", True),
        (">", ".", True),
        (">>", "a.", True),
        (">", "a.", False),
        ('.."', "..", False),
        ("A>>", "a", True),
        ("A>>", "abcd", False),
        ("A>>.TXT", "ab.txt", True),
        ('ABC"', "abc", True),
        ('ABC"', "abc.", True),
        ('ABC"TXT', "abc.txt", True),
        ('<"*', "noext", True),
        ('<"*', "a.b", True),
        ("", "a", False),
        ("********A", "bbbbbbbbbbbbbbbbba", True),
    ],
)
def test_search_expressions(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


@given(st.text(min_size=1, max_size=60))
def test_short_names_have_the_form(name: str) -> None:
    short = short_name(name)
    base, _, extension = short.partition(".")
    assert len(base) <= 8 and len(extension) <= 3 and not set(short) & set(" +,;=[]")
    assert short == short_name(name.lower()) or not name.isascii()


def test_names_that_are_short_already() -> None:
    for name in ("A", "readme.txt", "12345678.123", ".", ".."):
        assert short_name(name) == ""
    assert short_name("longfilename.longext").startswith("LONG~")
    assert short_name("longfilename.longext").endswith(".LON")
    assert short_name("two words") != ""


@pytest.mark.parametrize(
    ("mask", "expression"),
    [("*.*", '<"*'), ("*.txt", "<.txt"), ("a?.*", 'a>"*'), ("..*", '."*'), ("*", "*"), ("a.b", "a.b")],
)
def test_masks_of_dos_programs(mask: str, expression: str) -> None:
    assert from_dos_mask(mask) == expression


@pytest.mark.parametrize(
    ("mask", "found", "missed"),
    [
        ("*.*", ("a", "a.a", "..a", "."), ()),
        (".*.*", (".", "..", ".a", ".a.a"), ("a", "a.a")),
    ],
)
def test_what_masks_of_dos_programs_find(mask: str, found: tuple[str, ...], missed: tuple[str, ...]) -> None:
    """Wine's test_FindFirstFile_wildcards."""
    expression = upcase(from_dos_mask(mask))
    assert [name for name in (*found, *missed) if matches(expression, name)] == list(found)
