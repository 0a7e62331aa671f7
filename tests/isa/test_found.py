"""Recorded cases: single runs of the host's processor that are repeated wherever the tests run.

`nexus fuzz isa` writes such a file for what differs; the first ones here were recorded one per group.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from isa import harness
from nexus.isa.x86 import casefile, compare

FILES = sorted(Path(__file__).with_name("found").glob("*.case"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_recorded_case(file: Path) -> None:
    case, expected = casefile.read(file.read_text(encoding="utf-8"))
    for name, run in harness.ENGINES.items():
        if name != "oracle" or compare.has_oracle(case):
            assert not compare.differences(case, expected, run(case), sticky=name != "oracle"), name


def test_there_are_some() -> None:
    assert len(FILES) >= 12
