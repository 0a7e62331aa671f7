"""Compiled regions against the oracle: what a block does, and the state in which it is left."""

from __future__ import annotations

import random

import pytest

from nexus.backend.jit.flags import ALL_FLAGS, liveness
from nexus.backend.jit.lower import Unfit
from nexus.backend.jit.unit import Unit, unpack
from nexus.ir import oracle
from nexus.ir.state import SLOTS, Exit
from nexus.ir.text import show
from nexus.ir.types import I64, INTEGERS
from nexus.ir.values import Address, Block
from random_block import random_block, random_state
from t0 import MEMORY_BASE, MEMORY_SIZE, BytesMemory, architectural
from t2 import shared

_PC = SLOTS["pc"]


def before(block: Block, address: int) -> Block:
    """The instructions of a block in front of one of them."""
    out = Block(block.start)
    end = next(at for at, mark in block.marks if mark == address)
    out.ops = block.ops[:end]
    out.marks = [mark for mark in block.marks if mark[0] < end]
    out.goto(address)
    return out


def check(seed: int) -> int:
    """Run a random block; returns how it was left."""
    t2, state = shared(), random_state(seed)
    data = random.Random(seed + 2).randbytes(MEMORY_SIZE // 16) * 16
    t2.memory[:] = data
    try:
        found = t2.run(random_block(seed), state)
    except Unfit:
        return Exit.NONE
    block, memory = random_block(seed), BytesMemory(data)
    kind, skipped = found[SLOTS["exit"]], frozenset[int]()
    expected = dict(state)
    oracle.run(block, expected, memory)
    if kind == Exit.STEP:  # left to the interpreter, which is about to find the same fault or trap
        assert expected[SLOTS["exit"]] in (Exit.FAULT, Exit.DIVIDE), f"seed {seed}\n{show(block)}"
        assert found[_PC] == expected[_PC]
        at = next(at for at, mark in block.marks if mark == found[_PC])
        skipped = ALL_FLAGS - liveness(block, ALL_FLAGS)[at]
        expected, memory = dict(state), BytesMemory(data)
        oracle.run(before(block, found[_PC]), expected, memory)
        found[SLOTS["exit"]] = expected[SLOTS["exit"]]
    assert without(found, skipped) == without(expected, skipped), f"seed {seed}\n{show(block)}"
    assert t2.memory.raw == bytes(memory.data), f"seed {seed}\n{show(block)}"
    return kind


def without(state: dict[int, int], skipped: frozenset[int]) -> dict[int, int]:
    return {slot: value for slot, value in architectural(state).items() if slot not in skipped}


@pytest.mark.parametrize("ten", range(10))
def test_regions_agree_with_the_oracle(ten: int) -> None:
    kinds = {check(seed) for seed in range(ten * 10, ten * 10 + 10)}
    assert kinds & {Exit.LINK, Exit.LOOKUP, Exit.STEP}


@pytest.mark.parametrize("seed", range(12))
def test_what_was_stored_is_loaded_again(seed: int) -> None:
    """Overlapping stores and loads at constants from two registers, which may be equal."""
    rng, t2 = random.Random(seed), shared()
    state = {0: MEMORY_BASE + 64, 1: MEMORY_BASE + rng.choice((64, 60, 200)), 2: rng.getrandbits(64)}

    def make() -> Block:
        block, rng = Block(0x1000), random.Random(seed + 100)
        for number in range(24):
            block.mark(0x1000 + number)
            where = Address(block.get(I64, rng.randrange(2)), rng.randrange(0, 16, 2))
            type = rng.choice(INTEGERS)
            if rng.random() < 0.5:
                block.store(where, block.get(type, rng.randrange(2, 10)))
            else:
                block.put(rng.randrange(2, 10), block.load(type, where))
        block.mark(0x1100)
        block.goto(0x2000)
        return block

    data = rng.randbytes(MEMORY_SIZE)
    t2.memory[:] = data
    found, expected, memory = t2.run(make(), state), dict(state), BytesMemory(data)
    oracle.run(make(), expected, memory)
    assert architectural(found) == architectural(expected), show(make())
    assert t2.memory.raw == bytes(memory.data)


def test_a_unit_survives_packing() -> None:
    unit = Unit(b"code", 1, [(2, 3), (4, 1)], [0x1000, 0x2000], [0x3000], [0x1000, 0x1010], [0x1010])
    again = unpack(unit.pack())
    for name in Unit.__slots__:
        assert getattr(again, name) == getattr(unit, name)
    with pytest.raises(ValueError, match="length"):
        unpack(unit.pack() + b"x")
