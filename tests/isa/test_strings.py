"""Repeated string instructions over pages, up to a fault in the middle, and their share of the budget."""

from __future__ import annotations

import pytest

import t0
from isa import harness
from nexus.ir.state import SLOTS, Exit
from nexus.isa.x86 import compare, fuzz

END = fuzz.MEMORY + fuzz.MEMORY_SIZE

LONG_RUNS = {
    "forwards over several pages": ("f3a4", {"rsi": 0x10123, "rdi": 0x15321, "rcx": 0x3456}),
    "backwards over several pages": ("f348a5", {"rsi": 0x14FF9, "rdi": 0x1E001, "rcx": 0x600, "df": 1}),
    "overlapping, so that a pattern spreads": ("f3a4", {"rsi": 0x11FF0, "rdi": 0x11FF3, "rcx": 0x2345}),
    "elements that cross pages": ("f348a5", {"rsi": 0x10003, "rdi": 0x15005, "rcx": 0x500}),
    "32-bit addresses": ("67f3a5", {"rsi": 0xFF00010123, "rdi": 0xAA00015321, "rcx": 0xBB00000345}),
    "fill": ("f3ab", {"rax": 0x11223344, "rdi": 0x11001, "rcx": 0x1234}),
    "fill backwards": ("f366ab", {"rax": 0x1122, "rdi": 0x1E001, "rcx": 0x1234, "df": 1}),
    "load": ("f3ac", {"rsi": 0x11001, "rcx": 0x2345, "rax": 0x1234567890}),
    "scan for a byte": ("f2ae", {"rax": 0x61, "rdi": 0x10040, "rcx": 0x4000}),
    "scan while equal": ("f3ae", {"rax": 0x61, "rdi": 0x10040, "rcx": 0x4000}),
    "compare": ("f3a6", {"rsi": 0x10000, "rdi": 0x10000, "rcx": 0x5000}),
    "nothing to do": ("f3a4", {"rsi": 1, "rdi": 2, "rcx": 0, "eflags": 0x8D7}),
    "nothing to do, 32-bit addresses": ("67f3a4", {"rsi": 1 << 40, "rdi": 2 << 40, "rcx": 7 << 40}),
    "reads beyond the end": ("f3a4", {"rsi": END - 0x1234, "rdi": 0x11000, "rcx": 0x2000}),
    "writes beyond the end": ("f348a5", {"rsi": 0x11000, "rdi": END - 0x1233, "rcx": 0x2000}),
    "fills beyond the end": ("f348ab", {"rax": 5, "rdi": END - 0x1233, "rcx": 0x2000}),
    "scans beyond the end": ("f266af", {"rax": 0x1234, "rdi": END - 0x33, "rcx": 0x2000}),
    "compares beyond the end": ("f3a6", {"rsi": END - 0x33, "rdi": END - 0x33, "rcx": 0x2000}),
    "writes below the start": ("f3aa", {"rax": 5, "rdi": fuzz.MEMORY + 0x123, "rcx": 0x2000, "df": 1}),
}


@pytest.mark.parametrize("name", LONG_RUNS)
def test_long_runs_end_as_on_the_host(name: str) -> None:
    code, registers = LONG_RUNS[name]
    case = harness.case(code, **registers)
    expected = harness.run_host(case)
    for engine, run in harness.ENGINES.items():
        assert not compare.differences(case, expected, run(case)), engine


def test_a_long_run_gives_the_budget_back_at_page_ends() -> None:
    """A repeated instruction counts once per page: with a budget of 3 it stops after three steps,
    resumable."""
    case = harness.case("f3aa", rax=7, rdi=0x10800, rcx=0x5000)
    engine = t0.shared()
    record = engine.place(compare.block_of(case))
    engine.load(compare.to_dict(case.state), budget=3)
    counts = []
    for _ in range(3):
        state = engine.go(record)
        assert state[SLOTS["exit"]] == Exit.LINK
        counts.append(0x5000 - state.get(1, 0))
    assert counts == [0x800, 0x1800, 0x2800]
    assert engine.go(record)[SLOTS["exit"]] == Exit.BUDGET
