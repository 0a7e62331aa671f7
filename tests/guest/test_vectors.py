"""YMM registers over exceptions and in the contexts of threads, as the Windows SDK's functions show them."""

from __future__ import annotations

import os

import pytest

import cross
import nexus

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
SOURCE = os.path.join(os.path.dirname(__file__), "vectors.c")
EXPECTED = """\
features: 7 1 1
seen: 7 256 1111222233334444 5555666677778888
kept: 1 2 1111222233334444 5555666677778888
changed: 1 2 abcd 5555666677778888
context: 1
got: 1 7 256 7 8
set: 1
went on with: 5 6 7 feed
"""


def test_upper_halves_of_vector_registers() -> None:
    program = cross.build(SOURCE)
    win = nexus.windows()
    assert win.run(program, cwd=os.path.dirname(program), timeout=110).text.replace("\r\n", "\n") == EXPECTED


def test_a_processor_without_avx_has_none() -> None:
    program = cross.build(SOURCE)
    win = nexus.windows(cpu="westmere")
    first = win.run(program, cwd=os.path.dirname(program), timeout=110).text.splitlines()[0]
    assert first == "features: 0 0 0"
