"""Wine's tests on our kernel: nothing may fail that does not fail on stock Wine."""

from __future__ import annotations

import os
import tomllib

import pytest
from wine.suite import PROMISED, Outcome, build

import nexus

with open(os.path.join(os.path.dirname(__file__), "stock.toml"), "rb") as _file:
    STOCK = tomllib.load(_file)
_GROUPS = [(version, dll, group) for version in STOCK for dll, groups in PROMISED.items() for group in groups]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("version", "dll", "group"), _GROUPS)
def test_group(version: str, dll: str, group: str, tmp_path: object) -> None:
    stock = STOCK[version][dll][group]
    result = nexus.windows(sysroot=version).run(build(version, dll, group), group, cwd=str(tmp_path), timeout=600)
    outcome = Outcome(result.stdout)
    assert outcome.complete, result.stdout[-2000:] + result.stderr[-2000:]
    new = set(outcome.failed) - set(stock["failed"])
    assert not new, result.stdout[-4000:].decode(errors="replace")
    assert outcome.executed >= 0.9 * stock["executed"]
