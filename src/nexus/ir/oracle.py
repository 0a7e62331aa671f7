"""Runs a block on plain Python ints: the living definition that every engine is compared with.

State is a dict: scalar slots under their number, vector slots under SCALAR_SLOTS + number; a missing slot
is 0. Memory is anything with `load(address, size) -> int` and `store(address, size, value)` that raises
GuestFault.
"""

from __future__ import annotations

from nexus.base.errors import GuestFault
from nexus.ir.ops.table import CONTROL
from nexus.ir.state import SCALAR_SLOTS, SLOTS, Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from nexus.ir.values import Block, Value

    class Memory(Protocol):
        def load(self, address: int, size: int) -> int: ...
        def store(self, address: int, size: int, value: int) -> None: ...


_QUAD = (1 << 64) - 1
_PC, _EXIT, _ARGUMENT = SLOTS["pc"], SLOTS["exit"], SLOTS["exit_arg"]


class NoMemory:
    """The memory of a block that must not access any."""

    def load(self, address: int, size: int) -> int:
        raise GuestFault(address, write=False)

    def store(self, address: int, size: int, value: int) -> None:
        raise GuestFault(address, write=True)


def run(block: Block, state: dict[int, int], memory: Memory | None = None) -> None:
    """Run `block` once, changing `state` and `memory`.

    Ends like an engine: `exit`, `exit_arg` and `pc` are set; a direct end is LINK, an indirect one LOOKUP,
    a fault FAULT with `pc` at the instruction and the guest address in `fault_address`."""
    memory = memory or NoMemory()
    values: dict[Value, int] = {}
    marks = dict(block.marks)
    pc = block.start
    _leave(state, Exit.NONE)
    for index, op in enumerate(block.ops):
        pc = marks.get(index, pc)
        operands = [values[arg] for arg in op.args]
        if op.row.effect == CONTROL:
            if _control(op, operands, state):
                return
        elif op.row.name == "trap_if":
            if operands[0]:
                state[_PC] = pc
                _leave(state, op.imm & 255, op.imm >> 8)
                return
        else:
            try:
                result = step(op, operands, state, memory)
            except GuestFault as fault:
                state[_PC] = pc
                state[SLOTS["fault_address"]] = fault.address
                state[SLOTS["fault_write"]] = int(fault.write)
                _leave(state, Exit.FAULT)
                return
            if op.type is not None:
                values[op] = result & op.type.mask


def step(op: Value, operands: list[int], state: dict[int, int], memory: Memory) -> int:
    """One op that is not control; returns its result, not yet masked, or 0."""
    row = op.row
    kind, _, _ = row.name.partition(".")
    if kind == "get":
        slot = op.imm + SCALAR_SLOTS if row.result is not None and row.result.is_vector else op.imm
        return state.get(slot, 0)
    if kind == "put":
        type = row.operands[0]
        if type.is_vector:
            slot = op.imm + SCALAR_SLOTS
            state[slot] = state.get(slot, 0) & ~type.mask | operands[0]
        else:
            state[op.imm] = operands[0]
        return 0
    if kind == "clear":
        state[op.imm + SCALAR_SLOTS] = state.get(op.imm + SCALAR_SLOTS, 0) & (1 << row.bits) - 1
        return 0
    if row.address:
        operands = [effective_address(op, operands), *operands[row.address :]]
    if kind == "lea":
        return operands[0]
    if row.oracle is None:
        raise NotImplementedError(f"{row.name} has no oracle")
    arguments: list[object] = [*operands]
    if row.has_imm and not row.address:
        arguments.append(op.imm & _QUAD)
    if row.address:
        arguments.insert(0, memory)
    if row.indirect:
        return int(row.oracle(row.bits, state, *arguments) or 0)
    if not row.reads and not row.writes:
        return int(row.oracle(row.bits, *arguments) or 0)
    found = row.oracle(row.bits, {field: state.get(SLOTS[field], 0) for field in row.reads}, *arguments)
    result, new = found if row.result is not None else (0, found)
    if set(new) != set(row.writes):
        raise ValueError(f"the oracle of {row.name} gives {sorted(new)}, the row writes {sorted(row.writes)}")
    for field, value in new.items():
        state[SLOTS[field]] = int(value) & _QUAD
    return int(result)


def effective_address(op: Value, operands: list[int]) -> int:
    """base + (index << scale) + disp of an addressed op."""
    address = operands[0] + (op.imm >> 2)
    if op.row.address == 2:
        address += operands[1] << (op.imm & 3)
    return address & _QUAD


def _control(op: Value, operands: list[int], state: dict[int, int]) -> bool:
    """Follow goto, branch, jump or exit; False when a branch is not taken."""
    name = op.row.name
    if name == "exit":
        _leave(state, op.imm & 255, op.imm >> 8)
    elif name == "jump":
        state[_PC] = operands[0]
        _leave(state, Exit.LOOKUP)
    elif name == "goto" or operands[0]:
        state[_PC] = op.imm & _QUAD
        _leave(state, Exit.LINK)
    else:
        return False
    return True


def _leave(state: dict[int, int], kind: int, argument: int = 0) -> None:
    state[_EXIT] = kind
    state[_ARGUMENT] = argument
