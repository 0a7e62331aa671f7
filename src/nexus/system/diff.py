"""`nexus diff BYTES`: a piece of code from many states on T0, T1 (or T2) and the oracle.

The two engines run in lockstep (`machine/twin.py`); where the code ends, the oracle has run it too, and its
registers and memory are compared with T0's. The oracle has no say where a row has none, or where floating
point does not round to nearest.
"""

from __future__ import annotations

import random

from nexus.base.errors import GuestFault, UsageError
from nexus.ir import oracle
from nexus.ir.ops import CONTROL
from nexus.ir.state import SLOTS, Exit
from nexus.isa.x86 import fuzz
from nexus.isa.x86.compare import BY_NAME, ROUNDING, STICKY, BytesMemory, State, from_dict, to_dict
from nexus.isa.x86.decode import instructions
from nexus.isa.x86.fuzz_state import AT, MEMORY, MEMORY_SIZE
from nexus.isa.x86.registers import CpuState
from nexus.machine.host import PAGE
from nexus.machine.lowering import lower_block
from nexus.machine.states import same, side_by_side
from nexus.machine.stop import FetchFault, Stop
from nexus.machine.twin import Divergence, TwinVcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window

LONGEST = 10_000  # instructions that a piece of code may take
_SYSCALL = b"\x0f\x05"
_EXIT, _PC = SLOTS["exit"], SLOTS["pc"]


class Bench:
    """A window with the code, the memory that random states point into, and nothing else."""

    def __init__(self, code: bytes, seed: int, against: str) -> None:
        self._window = Window()
        self._window.map(MEMORY, MEMORY_SIZE, READ | WRITE)
        self._window.map(AT & -PAGE, -(-(len(code) + PAGE) // PAGE) * PAGE, READ | EXECUTE)
        self._window.write_forced(AT, code + _SYSCALL)
        self._vcpu = TwinVcpu(self._window, against)
        self._memory = fuzz.common_memory(seed)
        self._states = fuzz.States(random.Random(seed))
        self.checked = 0  # states that the oracle had a say about
        self.endless = 0  # states with which the code did not end

    def close(self) -> None:
        self._vcpu.close()
        self._window.close()

    def run(self) -> None:
        """One more state; raises Divergence."""
        state = self._states.draw()
        state.rip = AT
        before = bytes(state.buffer)
        self._window.write_forced(MEMORY, self._memory)
        stop = self._vcpu.run(state, LONGEST)
        if stop.kind == Exit.BUDGET:
            self.endless += 1
            return
        values = to_dict(CpuState(bytearray(before)))
        memory = BytesMemory(self._memory)
        if self._on_oracle(values, memory):
            self.checked += 1
            self._compare(before, state, stop, values, bytes(memory.data))

    def _on_oracle(self, values: State, memory: BytesMemory) -> bool:
        """Run the code to its end on the oracle; False where it has no say."""
        for _ in range(LONGEST):
            pc = values.get(_PC, 0)
            try:
                block, _ = lower_block(self._window, pc, LONGEST, set())
            except FetchFault:
                return True
            plain = not from_dict(values).mxcsr & ROUNDING
            for op in block.ops:
                name, effect = op.row.name, op.row.effect
                if op.row.oracle is None and effect != CONTROL and name.partition(".")[0] not in BY_NAME:
                    return False
                if not plain and (".f32" in name or ".f64" in name):
                    return False
            oracle.run(block, values, memory)
            if values[_EXIT] not in (Exit.LINK, Exit.LOOKUP):
                return values[_EXIT] != Exit.HELPER
        return False

    def _compare(self, before: bytes, state: CpuState, stop: Stop, values: State, memory: bytes) -> None:
        other = from_dict(values)
        other.mxcsr = other.mxcsr & ~STICKY | state.mxcsr & STICKY  # plain arithmetic leaves none
        wrong = []
        if values[_EXIT] != stop.kind and not stop.execute:
            wrong.append(f"* stop    {stop!r}  exit {values[_EXIT]}")
        try:
            ours = self._window.read(MEMORY, MEMORY_SIZE)
        except GuestFault:
            ours = b""
        if ours != memory:
            at = next(n for n in range(MEMORY_SIZE) if ours[n : n + 1] != memory[n : n + 1])
            wrong.append(f"* [{MEMORY + at:#x}] {ours[at : at + 16].hex()}  {memory[at : at + 16].hex()}")
        if wrong or not same(state, other):
            table = side_by_side(CpuState(bytearray(before)), state, other, ("T0", "oracle"))
            raise Divergence("\n".join(["T0 and the oracle disagree:", *table, *wrong]), AT)


def diff_bytes(code: bytes, states: int, seed: int, against: str = "t1") -> str:
    """Compare `code` from so many random states; what to say if they agree. Raises Divergence.

    `code` is whole instructions."""
    whole = sum(instruction.len for instruction in instructions(code, AT))
    if whole != len(code):
        raise UsageError(f"{code[whole:].hex(' ')} ends in the middle of an instruction")
    bench = Bench(code, seed, against)
    try:
        for _ in range(states):
            bench.run()
    finally:
        bench.close()
    more = f", {bench.endless} did not end within {LONGEST:,} instructions" if bench.endless else ""
    names = f"T0 and {against.upper()}"
    return f"{names} agree on {states} states (seed {seed}), the oracle on {bench.checked} of them{more}"
