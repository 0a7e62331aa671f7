"""`nexus fuzz isa` finds each of fifty bugs, within few cases, and some more where the model is the judge."""

from __future__ import annotations

import pytest
from iced_x86 import Mnemonic

from isa import harness
from isa.bugs import AVX512_BUGS, BUGS, Bug
from nexus.isa.x86.table import SEMANTICS
from nexus.system import fuzz_isa

CASES, STATES = 512, 16


@pytest.fixture(scope="module")
def prover() -> fuzz_isa.Prover:
    harness.host()
    return fuzz_isa.Prover()


@pytest.mark.parametrize("bug", BUGS + AVX512_BUGS, ids=repr)
def test_bug_is_found(bug: Bug, prover: fuzz_isa.Prover, monkeypatch: pytest.MonkeyPatch) -> None:
    number = getattr(Mnemonic, bug.mnemonic)
    monkeypatch.setitem(SEMANTICS, number, bug.planted(SEMANTICS[number]))
    for part in range(8 if bug.seldom else 2):
        found = prover.chunk(bug.mnemonic, 1, part, CASES, STATES, report=False)
        if found.different:
            return
    pytest.fail(f"not found: {bug}")


def test_there_are_fifty() -> None:
    assert len({repr(bug) for bug in BUGS}) == len(BUGS) == 50


def test_without_bugs_nothing_is_found(prover: fuzz_isa.Prover) -> None:
    for mnemonic in {bug.mnemonic for bug in BUGS + AVX512_BUGS}:
        found = prover.chunk(mnemonic, 1, 0, 32, STATES)
        assert not found.different, found.first
