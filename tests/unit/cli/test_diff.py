"""`nexus diff`: bytes on T0, T1 and the oracle, programs on T0 and T1."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.base.errors import NexusError, UsageError
from nexus.cli import diff
from nexus.ir.ops import ROWS
from nexus.machine import native
from nexus.machine.twin import Divergence


@pytest.fixture(autouse=True)
def t1() -> None:
    try:
        native.prepare()
    except NexusError as reason:
        pytest.skip(f"not run: {reason}")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert diff.main(list(words)) == 0
    return capsys.readouterr().out


def test_engines_and_oracle_agree(capsys: pytest.CaptureFixture[str]) -> None:
    # add rax,rbx; mov [rsi],rax; push rcx
    text = printed(capsys, "--states", "20", "--seed", "3", "48", "01", "d8", "488906", "51")
    assert text == "T0 and T1 agree on 20 states (seed 3), the oracle on 20 of them\n"


def test_code_that_does_not_end_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--states", "2", "ebfe")
    assert "2 did not end within 10,000 instructions" in text


def test_where_the_oracle_has_no_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert "the oracle on 0 of them" in printed(capsys, "--states", "3", "0fa2")  # cpuid


def test_a_planted_bug_in_a_stencil_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    there: Any = native.built()
    built = there.stencils
    monkeypatch.setitem(built, "store.i64", built["store.i32"])
    with pytest.raises(Divergence) as caught:
        diff.main(["4889 07"])  # mov [rdi],rax
    text = str(caught.value)
    assert "mov [rdi],rax" in text and " before            T0                T1\n" in text
    assert caught.value.exit_code == 1


def test_a_planted_bug_in_a_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both engines are made of the row, so it is the oracle that disagrees."""
    monkeypatch.setattr(ROWS["bswap.i64"], "oracle", lambda bits, value: value)
    with pytest.raises(Divergence, match=r"T0 and the oracle disagree:\n +before +T0 +oracle\n[^*]*\* rdx "):
        diff.main(["480fca"])  # bswap rdx


def test_what_is_refused() -> None:
    for words, message in (
        (["48 0"], "the last byte has one digit"),
        (["48"], "48 ends in the middle"),
        (["--seed", "x", "90"], "--seed needs a whole number"),
        (["--states", "3", "no-such-program.exe"], "--states and --seed go with bytes"),
        (["--against=t0", "90"], "--against is t1 or t2"),
        (["--engine=t0", "90"], "unknown option --engine"),
    ):
        with pytest.raises(UsageError, match=message):
            diff.main(words)
