"""Random instructions on the oracle, T0 and T1 against the host's processor, or the model of what it lacks.

`nexus fuzz isa` runs the same in volume; a failing case here prints what is needed to repeat it.
"""

from __future__ import annotations

import pytest

from isa import harness, model
from nexus.ir.verify import verify
from nexus.isa.x86 import compare, features, fuzz
from nexus.isa.x86.semantics import SEMANTICS

GROUPS = sorted(features.groups())
CASES = 250


@pytest.mark.parametrize("group", GROUPS)
def test_engines_agree_with_the_host(group: str) -> None:
    failures: list[str] = []
    count = max(CASES, len(features.groups()[group]))
    cases = list(fuzz.random_cases(group, count, seed=1, usable=harness.has_reference))
    reference = harness.reference
    if not cases:  # neither has such instructions: then it is the engines against the oracle
        reference = harness.run_on_oracle
        cases = [case for case in fuzz.random_cases(group, count, seed=1) if compare.has_oracle(case)]
    for case in cases:
        expected = reference(case)
        for name, run in harness.ENGINES.items():
            if name == "oracle" and not compare.has_oracle(case):
                continue
            got = run(case)
            if not harness.on_host(case.instruction):
                expected = model.accepting(case, expected, got)
            sticky = name != "oracle" and reference is harness.reference
            wrong = compare.differences(case, expected, got, sticky=sticky)
            if wrong:
                failures.append(f"{name}: {compare.describe(case, wrong)}")
    assert not failures, "\n".join(failures[:5]) + f"\n{len(failures)} in all"


def test_a_planted_error_is_found() -> None:
    """The comparison sees one wrong bit in a register, in the flags, in memory and in how it ended."""
    case = harness.case("4801d8", rax=5, rbx=7)  # add rax,rbx
    expected = harness.run_host(case)
    assert not compare.differences(case, expected, harness.run_on_oracle(case))
    for spoil in (
        lambda result: setattr(result.state, "rax", result.state.rax ^ 1),
        lambda result: setattr(result.state, "eflags", result.state.eflags ^ 0x800),
        lambda result: setattr(result, "memory", b"?" + result.memory[1:]),
        lambda result: setattr(result.outcome, "pc", 0),
        lambda result: result.state.set_xmm(3, b"\1" * 16),
    ):
        result = harness.run_on_oracle(case)
        spoil(result)
        assert len(compare.differences(case, expected, result)) == 1


def test_blocks_pass_the_verifier() -> None:
    """Nothing architectural changes before the last access that can fault, whatever the operands."""
    names = features.names()
    for mnemonic in SEMANTICS:
        for case in fuzz.random_cases(names[mnemonic], 8, seed=2):
            verify(compare.block_of(case))
