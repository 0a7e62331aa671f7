"""A few instructions in a row, on the oracle or on T0, from a fresh state."""

from __future__ import annotations

import t0
from isa import harness
from nexus.ir import oracle
from nexus.ir.state import SLOTS, Exit
from nexus.ir.values import Block
from nexus.isa.x86 import fuzz, helpers
from nexus.isa.x86.compare import BytesMemory, State, from_dict, to_dict
from nexus.isa.x86.decode import decode
from nexus.isa.x86.registers import CpuState
from nexus.isa.x86.semantics import lower

MEMORY = fuzz.MEMORY
ENGINES = ("oracle", "t0")


class Ran:
    """Where a program ended: `exit` (an Exit kind, NONE at its end), `state`, and what is in memory."""

    __slots__ = ("exit", "memory", "pc", "state")

    def __init__(self, exit: int, state: CpuState, memory: bytes) -> None:
        self.exit = exit
        self.state = state
        self.pc = state.rip - fuzz.AT
        self.memory = memory

    def read(self, address: int, size: int) -> int:
        return int.from_bytes(self.memory[address - MEMORY : address - MEMORY + size], "little")


def run(engine: str, code: str, memory: bytes = b"", **registers: int | bytes) -> Ran:
    """Run hexadecimal code; RBX is the address of `memory`. Registers by name, `xmm3=` and so on as bytes."""
    data = bytes.fromhex(code)
    state = harness.case("90").state
    state.rbx = MEMORY
    for name, value in registers.items():
        if isinstance(value, bytes):
            state.set_xmm(int(name.removeprefix("xmm")), value.ljust(16, b"\0"))
        else:
            setattr(state, name, value)
    values = to_dict(state)
    bytes_memory = BytesMemory(memory.ljust(fuzz.MEMORY_SIZE, b"\0"))
    if engine == "t0":
        t0.shared().memory[:] = bytes(bytes_memory.data)
    end = fuzz.AT + len(data)
    while values[SLOTS["pc"]] != end:
        block = _block(data, values[SLOTS["pc"]], end)
        values = _step(engine, block, values, bytes_memory)
        if not _goes_on(values):
            break
    kind = Exit.LINK if _goes_on(values) else values.get(SLOTS["exit"], 0)
    after = bytes(t0.shared().memory) if engine == "t0" else bytes(bytes_memory.data)
    return Ran(Exit.NONE if kind == Exit.LINK else kind, from_dict(values), after)


def _goes_on(values: State) -> bool:
    """Whether the exit means that the next block follows, with nothing else to do."""
    kind, argument = values.get(SLOTS["exit"], 0), values.get(SLOTS["exit_arg"], 0)
    return kind in (Exit.LINK, Exit.LOOKUP) or (kind == Exit.HELPER and argument == helpers.MXCSR_LOADED)


def _step(engine: str, block: Block, values: State, memory: BytesMemory) -> State:
    if engine == "t0":
        return t0.shared().run(block, values)
    oracle.run(block, values, memory)
    return values


def _block(data: bytes, at: int, end: int) -> Block:
    """As many instructions as belong into one block."""
    block = Block(at)
    while at != end:
        if lower(decode(data[at - fuzz.AT :], at), block):
            return block
        at = block.end
    block.goto(end)
    return block
