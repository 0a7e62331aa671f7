"""One instruction as a compiled region. What T2 leaves to the interpreter is run there, from the state in
which it was left, which has to be the one before the instruction."""

from __future__ import annotations

import ctypes

from isa import harness
from nexus.backend.jit.lower import Unfit
from nexus.ir.state import SLOTS, Exit
from nexus.ir.values import Block
from nexus.isa.x86 import compare, fuzz
from nexus.isa.x86.compare import Result, State
from t0 import T0, architectural
from t2 import T2

_ENDS = (SLOTS["exit"], SLOTS["exit_arg"], SLOTS["pc"])


def run(case: fuzz.Case, t2: T2) -> tuple[Result, bool]:
    """What a case does, and whether compiled code did it all."""
    ctypes.memmove(t2.memory, compare.patched(harness.MEMORY, case), fuzz.MEMORY_SIZE)
    compiled = True

    def one(block: Block, state: State) -> State:
        nonlocal compiled
        try:
            out = t2.run(block, state)
            if out[SLOTS["exit"]] != Exit.STEP:
                return out
            left = {slot: value for slot, value in architectural(out).items() if slot not in _ENDS}
            begun = {slot: value for slot, value in architectural(state).items() if slot not in _ENDS}
            assert left == begun, compare.describe(case, ["the state in which it was left"])
        except Unfit:
            pass
        compiled = False
        t2.load(state)
        out = t2.go(T0.place(t2, block))
        if out.get(SLOTS["exit"]) == Exit.FAULT:
            fault = t2.engine.fault(t2.state)
            out[SLOTS["fault_address"]], out[SLOTS["fault_write"]] = fault.address, int(fault.write)
        return out

    return compare.run_blocks(case, one, lambda: bytes(t2.memory)), compiled
