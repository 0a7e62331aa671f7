"""Rewrites keep the meaning of random blocks, and what a fault in the middle shows."""

from __future__ import annotations

import random

import pytest

from nexus.ir import oracle
from nexus.ir.rewrite import PASSES, rewrite
from nexus.ir.text import parse, show
from nexus.ir.values import Block
from nexus.ir.verify import verify
from random_block import random_block, random_state
from t0 import MEMORY_SIZE, BytesMemory, architectural


def outcome(block: Block, seed: int) -> tuple[dict[int, int], bytes]:
    """State and memory after running a block on the oracle."""
    state = random_state(seed)
    memory = BytesMemory(random.Random(seed).randbytes(MEMORY_SIZE // 16) * 16)
    oracle.run(block, state, memory)
    return architectural(state, "fault_address", "fault_write"), bytes(memory.data)


@pytest.mark.parametrize("name", [*PASSES, "all"])
def test_the_meaning_stays(name: str) -> None:
    change = PASSES.get(name, rewrite)
    for seed in range(200):
        block = random_block(seed)
        before = show(block)
        expected = outcome(block, seed)
        change(block)
        verify(block)
        assert outcome(block, seed) == expected, f"seed {seed}\n{before}\nbecame\n{show(block)}"


def test_text_reads_back_what_it_prints() -> None:
    for seed in range(100):
        block = random_block(seed)
        again = parse(show(block))
        assert show(again) == show(block)
        assert outcome(again, seed) == outcome(block, seed)
