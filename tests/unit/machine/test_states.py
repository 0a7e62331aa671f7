"""Two states as a table."""

from __future__ import annotations

from nexus.isa.x86.registers import CpuState
from nexus.machine.states import same, side_by_side


def test_what_differs_is_marked() -> None:
    before, one, other = CpuState(), CpuState(), CpuState()
    for state in (before, one, other):
        state.reset()
    assert same(one, other)
    one.rcx, other.rcx = 1, 2
    one.set_xmm(3, bytes(15) + b"\1")
    other.eflags = one.eflags | 1
    assert not same(one, other)
    lines = side_by_side(before, one, other, ("T0", "T1"))
    assert [line.split()[1] for line in lines if line.startswith("*")] == ["rcx", "eflags", "v3"]
    assert lines[2] == "* rcx     0000000000000000  0000000000000001  0000000000000002"
    assert lines[-1] == f"* v3      01{'00' * 15}  {'00' * 16}"
    assert len(lines) == 1 + 18 + 1


def test_vectors_are_as_wide_as_they_have_to_be() -> None:
    before, one, other = CpuState(), CpuState(), CpuState()
    other.buffer[2048 + 64 * 5 + 20] = 7  # v5, in its second 16 bytes
    assert (
        side_by_side(before, one, other, ("", ""))[-1] == f"* v5      {'00' * 32}  {'00' * 11}07{'00' * 20}"
    )
