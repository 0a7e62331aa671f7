"""Quoting, held against the rules of CommandLineToArgvW written down a second time, the splitting way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.base.errors import UsageError
from nexus.system.command_line import join


def split(line: str) -> list[str]:
    """Microsoft's "Parsing C command-line arguments": 2n backslashes and a quote are n and a delimiter."""
    words: list[str] = []
    at = 0
    program = ""
    quoted = False
    while at < len(line) and (quoted or line[at] not in " \t"):
        if line[at] == '"':
            quoted = not quoted
        else:
            program += line[at]
        at += 1
    words.append(program)
    while True:
        while at < len(line) and line[at] in " \t":
            at += 1
        if at >= len(line):
            return words
        word, quoted = "", False
        while at < len(line) and (quoted or line[at] not in " \t"):
            count = 0
            while at < len(line) and line[at] == "\\":
                count += 1
                at += 1
            if at < len(line) and line[at] == '"':
                word += "\\" * (count // 2)
                if count % 2:
                    word += '"'
                else:
                    quoted = not quoted
                at += 1
            else:
                word += "\\" * count
                if at < len(line) and (quoted or line[at] not in " \t"):
                    word += line[at]
                    at += 1
        words.append(word)


@given(st.lists(st.text(st.sampled_from('ab \t"\\é\n'), max_size=12), max_size=5))
def test_what_is_joined_splits_into_the_same(arguments: list[str]) -> None:
    assert split(join("Z:\\a b\\p.exe", arguments)) == ["Z:\\a b\\p.exe", *arguments]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["a", "b c"], 'p.exe a "b c"'),
        ([""], 'p.exe ""'),
        (['say "hi"'], 'p.exe "say \\"hi\\""'),
        (["a\\b", "a b\\"], 'p.exe a\\b "a b\\\\"'),
    ],
)
def test_examples(arguments: list[str], line: str) -> None:
    assert join("p.exe", arguments) == line


def test_a_raw_line_is_left_alone() -> None:
    assert join("p.exe", ["/c", 'echo "a b'], raw=True) == 'p.exe /c echo "a b'


def test_a_line_that_windows_cannot_hold_is_an_error() -> None:
    with pytest.raises(UsageError, match="32766"):
        join("p.exe", ["x" * 40000])
