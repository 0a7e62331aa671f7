"""A second meaning of the vector instructions: the reference where the host lacks them.

Written from the manual's operation sections in plain whole numbers, one element after the other, and for
tests only: nothing of `nexus.isa.x86.semantics` or `nexus.ir` computes here; shared are iced's decoding and
the layout of a state. `softfloat` is the arithmetic, `special` what AVX-512 adds to it, `machine` registers,
memory and operands, `shapes` how functions of elements become instructions; the other modules are the
instructions. The same functions serve VEX and EVEX forms, and `tests/isa/test_model.py` holds them against
the host's processor wherever that has the VEX form.

`result` runs a case. What the manual gives only an accuracy for, is in `approximations`.
"""

from __future__ import annotations

from collections import OrderedDict

from iced_x86 import Instruction

from isa.model import convert, crypto, floats, integer, moves, opmask, permute
from isa.model.approximations import accepting
from isa.model.machine import Meaning, Run, Stop
from isa.model.shapes import TABLE
from nexus.ir.state import Exit
from nexus.isa.x86.compare import Result, patched
from nexus.isa.x86.fuzz import Case
from nexus.isa.x86.native import Outcome
from nexus.isa.x86.registers import CpuState

MODULES = (integer, permute, moves, opmask, floats, convert, crypto)
_KEPT = 64
_meanings: OrderedDict[bytes, Meaning] = OrderedDict()


def knows(instruction: Instruction) -> bool:
    """Whether the model has the instruction (VEX and EVEX forms, and those of mask registers)."""
    return instruction.mnemonic in TABLE


def meaning_of(case: Case) -> Meaning:
    meaning = _meanings.get(case.code)
    if meaning is None:
        meaning = _meanings[case.code] = TABLE[case.instruction.mnemonic](case.instruction)
        if len(_meanings) > _KEPT:
            _meanings.popitem(last=False)
    return meaning


def result(case: Case, memory: bytes) -> Result:
    """What the manual says that a case does; `memory` is the common memory of all cases."""
    run = Run(CpuState(bytearray(case.state.buffer)), patched(memory, case))
    try:
        meaning_of(case)(run)
        run.state.rip = case.address + len(case.code)
        outcome = Outcome(Exit.NONE, run.state.rip)
    except Stop as stop:
        outcome = Outcome(stop.exit, case.address, stop.address, stop.write)
    return Result(outcome, run.state, bytes(run.memory))


__all__ = ["MODULES", "accepting", "knows", "meaning_of", "result"]
