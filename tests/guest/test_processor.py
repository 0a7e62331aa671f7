"""RDTSC and CPUID agree with what the kernel says of time and processors."""

from __future__ import annotations

import os

import pytest

import cross
import nexus

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
SOURCE = os.path.join(os.path.dirname(__file__), "processor.c")


def lines(seed, processors=1):
    program = cross.build(SOURCE)
    win = nexus.windows(deterministic=seed)
    win.settings.processors = processors
    return win.run(program, cwd=os.path.dirname(program), timeout=110).text.splitlines()


@pytest.mark.parametrize("seed", [None, 7])
def test_the_time_stamp_counter_runs_at_two_gigahertz(seed):
    assert lines(seed)[:3] == ["processors: 1 1", "rising: 1", "slept: 1"]


def test_the_time_stamp_counter_repeats_under_a_seed():
    assert lines(3) == lines(3)


def test_processors_are_counted_alike():
    assert lines(1, processors=4)[0] == "processors: 4 4"
