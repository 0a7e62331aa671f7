"""Random instructions as compiled regions against the host's processor."""

from __future__ import annotations

import pytest

from isa import harness
from isa.compiled import run
from nexus.isa.x86 import compare, features, fuzz
from t2 import shared

GROUPS = sorted(features.groups())
CASES = 5


@pytest.mark.parametrize("group", GROUPS)
def test_compiled_code_agrees_with_the_host(group: str) -> None:
    failures, compiled = [], 0
    for case in fuzz.random_cases(group, CASES, seed=3, usable=harness.on_host):
        result, alone = run(case, shared())
        compiled += alone
        wrong = compare.differences(case, harness.run_host(case), result, sticky=False)
        if wrong:
            failures.append(compare.describe(case, wrong))
    assert not failures, "\n".join(failures)


def test_most_instructions_are_compiled() -> None:
    """The comparison is about compiled code: of the ordinary groups, most of the cases are not left to T0."""
    cases = fuzz.random_cases("BASE", 20, seed=4, usable=harness.on_host)
    alone = [run(case, shared())[1] for case in cases]
    assert sum(alone) > len(alone) // 2
