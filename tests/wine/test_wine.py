"""Wine's tests on our kernel: nothing may fail that does not fail on stock Wine."""

from __future__ import annotations

import os
import tomllib

import pytest

from wine.suite import PROMISED, run

with open(os.path.join(os.path.dirname(__file__), "stock.toml"), "rb") as _file:
    STOCK = tomllib.load(_file)
# Where fewer checks run here, and why; elsewhere at least nine of ten must.
FEWER = {
    ("ntdll", "reg"): "one check per subkey of keys in HKLM\\Software, where an installed Wine has thousands",
    ("ntdll", "virtual"): "the processor shown to guests has no AVX state to copy",
}
_GROUPS = [(version, dll, group) for version in STOCK for dll, groups in PROMISED.items() for group in groups]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("version", "dll", "group"), _GROUPS)
def test_group(version: str, dll: str, group: str, tmp_path: object) -> None:
    stock = STOCK[version][dll][group]
    outcome, ended = run(version, dll, group, str(tmp_path), 600)
    assert not ended
    assert outcome.complete
    assert (dll, group) in FEWER or outcome.executed >= 0.9 * stock["executed"]
    assert not set(outcome.failed) - set(stock["failed"])
