"""One instruction on every engine: the oracle, T0, T1 and, where it has the feature, the host's processor."""

from __future__ import annotations

import ctypes
from functools import cache

import pytest
from iced_x86 import Decoder, Instruction

import t0
import t1
from isa import model
from nexus.ir.state import SLOTS, Exit
from nexus.ir.values import Block
from nexus.isa.x86 import fuzz, native
from nexus.isa.x86.compare import Result, State, machine_on, of_host, patched, run_blocks, run_oracle
from nexus.isa.x86.registers import CpuState

MEMORY = fuzz.common_memory()


def on_host(instruction: Instruction) -> bool:
    """Whether the host has what the instruction needs."""
    return host().has(instruction)


@cache
def host() -> native.Native:
    """The host's processor; where it is no x86-64 one, the tests that need it are not run, and say so."""
    try:
        return native.processor(MEMORY)
    except native.Unavailable as reason:
        pytest.skip(f"not run: {reason}")


def has_reference(instruction: Instruction) -> bool:
    """Whether the host has it, or the model knows it."""
    return on_host(instruction) or model.knows(instruction)


def reference(case: fuzz.Case) -> Result:
    """What has to come out: the host's result, or the model's where the host lacks the instruction."""
    return run_host(case) if on_host(case.instruction) else model.result(case, MEMORY)


def run_host(case: fuzz.Case) -> Result:
    (ran,) = host().run_many(case.code, [case.state], [case.patches])
    return of_host(case, ran, MEMORY)


def run_t0(case: fuzz.Case) -> Result:
    return run_engine(t0.shared(), case)


def run_t1(case: fuzz.Case) -> Result:
    return run_engine(t1.shared(), case)


def run_engine(engine: t0.T0, case: fuzz.Case) -> Result:
    ctypes.memmove(engine.memory, patched(MEMORY, case), fuzz.MEMORY_SIZE)

    def run(block: Block, state: State) -> State:
        out = engine.run(block, state)
        if out.get(SLOTS["exit"]) == Exit.FAULT:
            fault = engine.engine.fault(engine.state)
            out[SLOTS["fault_address"]], out[SLOTS["fault_write"]] = fault.address, int(fault.write)
        return out

    machine = machine_on(memoryview(engine.memory).cast("B"))
    return run_blocks(case, run, lambda: bytes(engine.memory), machine)


def run_on_oracle(case: fuzz.Case) -> Result:
    return run_oracle(case, patched(MEMORY, case))


def case(code: str, **registers: int) -> fuzz.Case:
    """A case from hexadecimal code; registers by name, `memory_ADDRESS=value` for eight bytes of memory."""
    data = bytes.fromhex(code)
    state = CpuState()
    state.reset()
    state.rip = fuzz.AT
    made = fuzz.Case(data, Decoder(64, data, ip=fuzz.AT).decode(), state)
    for name, value in registers.items():
        if name.startswith("memory_"):
            made.patches.append((int(name.removeprefix("memory_"), 16), value.to_bytes(8, "little")))
        else:
            setattr(state, name, value)
    return made


ENGINES = {"oracle": run_on_oracle, "t0": run_t0, "t1": run_t1}
