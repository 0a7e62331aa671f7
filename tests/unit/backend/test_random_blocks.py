"""Random blocks on T0 and on the oracle: slots, aliases, folded puts, and the state that a fault leaves."""

from __future__ import annotations

import random
import re

import pytest

from nexus.ir import oracle
from nexus.ir.state import SLOTS, Exit
from nexus.ir.text import show
from nexus.ir.verify import verify
from random_block import random_block, random_state
from t0 import MEMORY_SIZE, BytesMemory, architectural, shared


def check(seed: int) -> None:
    block, state, t0 = random_block(seed), random_state(seed), shared()
    verify(block)
    data = random.Random(seed + 2).randbytes(MEMORY_SIZE // 16) * 16
    t0.memory[:] = data
    memory = BytesMemory(data)
    found = t0.run(block, state)
    expected = dict(state)
    oracle.run(block, expected, memory)
    if expected[SLOTS["exit"]] == Exit.FAULT:
        fault = t0.engine.fault(t0.state)
        found[SLOTS["pc"]] = t0.code.address_of(found[SLOTS["exit_at"]] - t0.records)
        found[SLOTS["exit_arg"]] = 0
        assert (fault.address, fault.write) == (
            expected[SLOTS["fault_address"]],
            bool(expected[SLOTS["fault_write"]]),
        )
    assert architectural(found) == architectural(expected), f"seed {seed}\n{show(block)}"
    assert t0.memory.raw == bytes(memory.data), f"seed {seed}\n{show(block)}"


@pytest.mark.parametrize("hundred", range(10))
def test_t0_agrees_with_oracle(hundred: int) -> None:
    for seed in range(hundred * 100, hundred * 100 + 100):
        check(seed)


def test_the_generator_reaches_faults_and_folded_puts() -> None:
    """The comparison above is worth something only if the blocks contain what it is about."""
    exits = set()
    for seed in range(300):
        state = random_state(seed)
        oracle.run(random_block(seed), state, BytesMemory())
        exits.add(state[SLOTS["exit"]])
    assert {Exit.FAULT, Exit.LINK, Exit.LOOKUP, Exit.DIVIDE} <= exits


def test_every_pair_is_met() -> None:
    """The comparison covers the records that do two ops, with and without an immediate."""
    t0 = shared()
    names = {address: name for name, address in t0.engine.symbols.items() if "&" in name}
    met = set()
    for seed in range(4000):
        t0.place(random_block(seed))
        data = t0.code.data
        met |= {names.get(int.from_bytes(data[at : at + 8], "little"), "") for at in range(0, len(data), 16)}
    without_width = {re.sub(r"\.i\d+", "", name) for name in names.values()}
    assert without_width - {re.sub(r"\.i\d+", "", name) for name in met} == set()
