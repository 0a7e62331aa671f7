"""`nexus fuzz isa`: T1 against the host, that it sees an error, and that its cases repeat."""

from __future__ import annotations

import random

import pytest
from iced_x86 import Mnemonic

from isa import harness
from nexus.base.errors import UsageError
from nexus.isa.x86 import casefile, compare, fuzz
from nexus.isa.x86 import registers as r
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.native import Outcome
from nexus.isa.x86.table import SEMANTICS
from nexus.system import fuzz_isa


@pytest.fixture(scope="module")
def prover() -> fuzz_isa.Prover:
    harness.host()
    return fuzz_isa.Prover()


def wrong(i: Ins) -> None:
    i.write(0, i.read(1).zext(i.type(0)) + 1)


def test_t1_agrees_with_the_host(prover: fuzz_isa.Prover) -> None:
    for group in ("arithmetic", "strings", "flow", "BSF", "SSE2"):
        found = fuzz_isa.fuzz_group(prover, group, 200, seed=3)
        assert (found.cases, found.different) == (200, 0), found.first


def test_a_wrong_instruction_is_found(prover: fuzz_isa.Prover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEMANTICS, Mnemonic.MOVZX, wrong)
    found = fuzz_isa.fuzz_group(prover, "MOVZX", 20, seed=3)
    assert found.different > 10  # the others fault


def test_what_differs_is_made_small_and_can_be_run_again(
    prover: fuzz_isa.Prover, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(SEMANTICS, Mnemonic.MOVZX, wrong)
        shown, text = fuzz_isa.fuzz_group(prover, "MOVZX", 20, seed=3).first[0]
        case, expected = casefile.read(text)
        assert "movzx" in shown and prover.wrong(case, expected, True).keys() == {"t1", "t0", "oracle"}
    before = next(line for line in text.splitlines() if line.startswith("before"))
    assert len(before.split()) <= 3, before  # what the operands need, and nothing else
    case, expected = casefile.read(text)
    assert not prover.wrong(case, expected, True)


def test_case_files_say_all_of_a_case(prover: fuzz_isa.Prover) -> None:
    for group in ("SSE2", "FPU", "strings", "flow"):
        for case in fuzz.random_cases(group, 20, seed=4, usable=prover.usable):
            (expected,) = prover.expected([case])
            again, result = casefile.read(casefile.write(case, expected, "a comment"))
            assert again.code == case.code and again.patches == case.patches
            assert not compare.differences(case, expected, result)
            assert not prover.wrong(again, result, True)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="no instructions are called 'nonsense'") as caught:
        fuzz_isa.known_groups(["nonsense"])
    assert "SSE4_1" in caught.value.hint


def _sequence(seed: int) -> list[tuple[bytes, bytes]]:
    return [(case.code, bytes(case.state.buffer)) for case in fuzz.random_cases("bits", 30, seed)]


def test_cases_repeat_with_their_seed() -> None:
    assert _sequence(5) == _sequence(5) != _sequence(6)


def test_states_come_from_a_changing_stock() -> None:
    states = fuzz.States(random.Random(1))
    drawn = [states.draw() for _ in range(100)]
    assert len({bytes(state.buffer) for state in drawn}) == 100


def test_states_have_what_avx512_has_where_asked() -> None:
    """512 bits in each of 32 registers and 8 masks; nothing of it is there otherwise."""
    states = fuzz.States(random.Random(1))
    plain, wide = states.draw(), states.draw(wide=True)
    assert not any(plain.k(n) for n in range(8)) and not any(plain.vector(31))
    assert not any(any(plain.vector(n)[32:]) for n in range(16))
    assert any(wide.k(n) for n in range(8)) and any(wide.vector(31)[48:])
    for change in (lambda s: s.set_k(7, s.k(7) ^ 1), lambda s: s.set_vector(31, bytes(63) + b"\1")):
        other = r.CpuState(bytearray(wide.buffer))
        change(other)
        case = harness.case("90")
        one, two = (compare.Result(Outcome(0, 0), state, b"") for state in (wide, other))
        assert len(compare.differences(case, one, two)) == 1
