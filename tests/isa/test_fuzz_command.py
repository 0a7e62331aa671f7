"""`nexus fuzz isa`: the whole vCPU against the host, and that it sees an error."""

from __future__ import annotations

import pytest
from iced_x86 import Mnemonic

from isa import harness
from nexus.base.errors import UsageError
from nexus.isa.x86 import fuzz
from nexus.isa.x86.ins import Ins
from nexus.isa.x86.table import SEMANTICS
from nexus.system import fuzz_isa
from nexus.system.fuzz import Finding


@pytest.fixture(autouse=True)
def _one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixed addresses can be mapped once per process: share the harness's."""
    processor = harness.host()
    monkeypatch.setattr(fuzz_isa.native, "map_fixed", lambda address, size: None)
    monkeypatch.setattr(fuzz_isa.native, "Native", lambda: processor)


def test_the_vcpu_agrees_with_the_host() -> None:
    groups = ["arithmetic", "strings", "flow", "BSF"]
    assert fuzz_isa.fuzz_isa(groups, 60, seed=3) == 240


def test_a_wrong_instruction_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(i: Ins) -> None:
        i.write(0, i.read(1).zext(i.type(0)) + 1)

    monkeypatch.setitem(SEMANTICS, Mnemonic.MOVZX, wrong)
    with pytest.raises(Finding, match="cases differ from the host"):
        fuzz_isa.fuzz_isa(["MOVZX"], 20, seed=3)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="no instructions are called 'nonsense'") as caught:
        fuzz_isa.fuzz_isa(["nonsense"], 1, seed=1)
    assert "arithmetic" in caught.value.hint


def _sequence(seed: int) -> list[tuple[bytes, bytes]]:
    return [(case.code, bytes(case.state.buffer)) for case in fuzz.random_cases("bits", 30, seed)]


def test_cases_repeat_with_their_seed() -> None:
    assert _sequence(5) == _sequence(5) != _sequence(6)
