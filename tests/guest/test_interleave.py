"""`--deterministic` gives one interleaving of threads, whichever engine runs which block."""

from __future__ import annotations

import os
from typing import Any

import pytest

import cross
import nexus
from nexus.machine import native
from nexus.machine.tiers import AT_ONCE, Policy
from nexus.machine.vcpu import Vcpu

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
SOURCE = os.path.join(os.path.dirname(__file__), "interleave.c")
WAYS: dict[str, dict[str, Any]] = {
    "t1": {"engine": "t1"},
    "host code at once": {"cpu": lambda window: Vcpu(window, "t1", AT_ONCE)},
    "host code in the middle": {"cpu": lambda window: Vcpu(window, "t1", Policy(700, 400, 5))},
}


def output(program: str, **how: Any) -> str:
    win = nexus.windows(deterministic=7, **how)
    return win.run(program, cwd=os.path.dirname(program), timeout=110).text


def test_the_interleaving_does_not_depend_on_the_engine() -> None:
    try:
        native.prepare()
    except native.NexusError as reason:
        pytest.skip(f"not run: {reason}")
    program = cross.build(SOURCE)
    expected = output(program, engine="t0")
    changes = int(expected.split()[3])
    assert changes > 8, "the threads have to be interrupted for this to say anything"
    for name, how in WAYS.items():
        assert output(program, **how) == expected, name
