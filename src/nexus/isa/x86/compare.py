"""Runs cases of `fuzz.py` on engines and on the host, and says where they differ."""

from __future__ import annotations

from iced_x86 import Mnemonic

from nexus.base.errors import GuestFault
from nexus.ir import oracle
from nexus.ir.ops import CONTROL
from nexus.ir.state import FIRST_X87, SCALAR_SLOTS, SLOTS, VECTOR_BYTES, VECTOR_OFFSET, Exit
from nexus.ir.values import Block
from nexus.isa.x86 import helpers
from nexus.isa.x86 import registers as r
from nexus.isa.x86.decode import decode
from nexus.isa.x86.fuzz import MEMORY, MEMORY_SIZE, U64, Case
from nexus.isa.x86.helpers import FLAGS_LOADED, MXCSR_LOADED, Machine
from nexus.isa.x86.masks import FAR_RETURNS, MANY_ACCESSES, NEAR_INDIRECT, undefined_flags
from nexus.isa.x86.native import LOADED_FLAGS, Outcome, Ran
from nexus.isa.x86.semantics import lower

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    RunBlock = Callable[[Block, dict[int, int]], dict[int, int]]

ARCHITECTURAL_VECTORS = 40  # vector registers and x87
MOST_STEPS = 5000  # of one repeated instruction
MXCSR_BITS, STICKY, ROUNDING = r.MXCSR_MASK, 0x3F, 0xE040
BY_NAME = ("get", "put", "clear", "lea", "trap_if")  # rows that the oracle knows by name
X87_ROUNDING = 0xF00  # precision and rounding control
_REFUSED = {Exit.FAULT, Exit.PRIVILEGED}
GOES_ON = (FLAGS_LOADED, MXCSR_LOADED)
"""Helpers that are no end of an instruction: the machine only gets to see new flags or masks."""
_VECTORS = slice(VECTOR_OFFSET, VECTOR_OFFSET + r.VECTORS * VECTOR_BYTES)
_MASKS = slice(8 * r.K0, 8 * (r.K0 + r.MASKS))
_X87 = slice(VECTOR_OFFSET + FIRST_X87 * VECTOR_BYTES, VECTOR_OFFSET + (FIRST_X87 + 8) * VECTOR_BYTES)
_CONTROL = slice(8 * r.MXCSR, 8 * (r.FTAG + 1))  # MXCSR FCW FSW FTOP FTAG
State = dict[int, int]


class Result:
    """What a case did: how it ended (`argument` of the exit, on engines), the registers, the whole memory."""

    __slots__ = ("argument", "memory", "outcome", "state")

    def __init__(self, outcome: Outcome, state: r.CpuState, memory: bytes, argument: int = 0) -> None:
        self.argument = argument
        self.outcome = outcome
        self.state = state
        self.memory = memory


def patched(memory: bytes, case: Case) -> bytes:
    """The memory before a case."""
    if not case.patches:
        return memory
    out = bytearray(memory)
    for address, data in case.patches:
        out[address - MEMORY : address - MEMORY + len(data)] = data
    return bytes(out)


def of_host(case: Case, ran: Ran, common: bytes) -> Result:
    """A run on the host as a result; `common` is the memory before all cases."""
    memory = common
    if ran.changed:
        changed = bytearray(common)
        for address, value in ran.changed.items():
            changed[address - MEMORY : address - MEMORY + 8] = value.to_bytes(8, "little")
        memory = bytes(changed)
    return Result(canonical(host_outcome(case, ran.outcome)), ran.state, memory)


def to_dict(state: r.CpuState) -> State:
    """The form the oracle runs on: scalar slots, then vector slots, by number."""
    out = {slot: value for slot, value in enumerate(state.slots) if value}
    for slot in range(ARCHITECTURAL_VECTORS):
        at = VECTOR_OFFSET + slot * VECTOR_BYTES
        out[SCALAR_SLOTS + slot] = int.from_bytes(state.buffer[at : at + VECTOR_BYTES], "little")
    return out


def from_dict(values: State) -> r.CpuState:
    state = r.CpuState()
    for slot, value in values.items():
        if slot < SCALAR_SLOTS:
            state.slots[slot] = value
        else:
            at = VECTOR_OFFSET + (slot - SCALAR_SLOTS) * VECTOR_BYTES
            state.buffer[at : at + VECTOR_BYTES] = value.to_bytes(VECTOR_BYTES, "little")
    return state


class BytesMemory:
    """The stretch of guest memory for the oracle."""

    def __init__(self, data: bytes) -> None:
        self.data: bytearray | memoryview = bytearray(data)

    def _at(self, address: int, size: int, write: bool) -> int:
        """The offset of an address, which wraps at 2^64: rows with many elements only add to it."""
        address &= U64
        for byte in range(address, address + size):
            if not MEMORY <= byte < MEMORY + MEMORY_SIZE:
                raise GuestFault(byte & U64, write)
        return address - MEMORY

    def load(self, address: int, size: int) -> int:
        at = self._at(address, size, False)
        return int.from_bytes(self.data[at : at + size], "little")

    def store(self, address: int, size: int, value: int) -> None:
        at = self._at(address, size, True)
        self.data[at : at + size] = value.to_bytes(size, "little")


def block_of(case: Case) -> Block:
    """The case as a block that ends where the next instruction begins."""
    block = Block(case.address)
    if not lower(decode(case.code, case.address), block):
        block.goto(case.address + len(case.code))
    return block


def has_oracle(case: Case) -> bool:
    """Whether the oracle speaks for the case: approximations like RCPPS have none (the host defines them),
    and floating point rounds to nearest there, without flushing denormals."""
    plain = not case.state.mxcsr & ROUNDING
    for op in block_of(case).ops:
        name = op.row.name
        if op.row.oracle is None and op.row.effect != CONTROL and name.partition(".")[0] not in BY_NAME:
            return False
        if not plain and (".f32" in name or ".f64" in name):
            return False
        if name.startswith("x87.") and case.state.fcw & X87_ROUNDING != r.DEFAULT_FCW & X87_ROUNDING:
            return False
    return True


def run_oracle(case: Case, memory: bytes) -> Result:
    data = BytesMemory(memory)

    def run(block: Block, state: State) -> State:
        oracle.run(block, state, data)
        return state

    return run_blocks(case, run, lambda: bytes(data.data), machine_on(data.data))


def run_blocks(
    case: Case, run: RunBlock, memory: Callable[[], bytes], helper_machine: Machine | None = None
) -> Result:
    """Run the case's block with `run`, again as long as the instruction repeats itself."""
    block = block_of(case)
    values = to_dict(case.state)
    for _ in range(MOST_STEPS):
        values = run(block, values)
        if values.get(SLOTS["exit"], 0) != Exit.LINK or values[SLOTS["pc"]] != case.address:
            break
    argument = values.get(SLOTS["exit_arg"], 0)
    state = from_dict(values)
    fault = values.get(SLOTS["fault_address"], 0), bool(values.get(SLOTS["fault_write"], 0))
    outcome = engine_outcome(case, state, *fault, helper_machine)
    return Result(outcome, state, memory(), argument)


def machine_on(data: bytearray | memoryview) -> Machine:
    """What helpers need, on the cases' memory; no clock, no entropy."""
    memory = BytesMemory(b"")
    memory.data = data

    def read(address: int, size: int) -> bytes:
        return memory.load(address, size).to_bytes(size, "little")

    def write(address: int, content: bytes) -> None:
        memory.store(address, len(content), int.from_bytes(content, "little"))

    return Machine(lambda: 0, bytes, read, write)


def engine_outcome(
    case: Case, state: r.CpuState, address: int, write: bool, machine: Machine | None = None
) -> Outcome:
    """What an engine's exit is in the words of a run on the host; `address` and `write` of a FAULT.

    A helper with operands is run, if there is a machine for it; the others are ends of their own.
    """
    kind, argument, pc = state.slots[SLOTS["exit"]], state.slots[SLOTS["exit_arg"]], state.rip
    if kind in (Exit.LINK, Exit.LOOKUP) or (kind == Exit.HELPER and argument in GOES_ON):
        return Outcome(Exit.NONE, pc)
    if kind == Exit.HELPER and argument >> 8 and machine is not None:
        try:
            raised = helpers.run(argument, state, machine)
        except GuestFault as fault:
            return canonical(Outcome(Exit.FAULT, state.rip, fault.address, fault.write))
        return Outcome(Exit.NONE if raised is None else raised, state.rip)
    if kind == Exit.FAULT:
        return canonical(Outcome(kind, case.address, address, write))
    return Outcome(kind, pc)


def canonical(outcome: Outcome) -> Outcome:
    """An access to a non-canonical address is #GP on the host; an engine reports it as a fault with that
    address."""
    if outcome.exit == Exit.FAULT and outcome.address >> 47 not in (0, 0x1FFFF):
        return Outcome(Exit.PRIVILEGED, outcome.pc)
    if outcome.exit == Exit.FAULT and outcome.address == (1 << 64) - 1:
        return Outcome(Exit.PRIVILEGED, outcome.pc)
    return outcome


def host_outcome(case: Case, outcome: Outcome) -> Outcome:
    """A branch to an address without code faults only there: for an engine the branch is done by then."""
    if outcome.exit != Exit.NONE and outcome.pc != case.address:
        return Outcome(Exit.NONE, outcome.pc)
    return outcome


def _same(expected: Result, got: Result) -> bool:
    """Whether nothing at all differs: the quick answer for nearly every case."""
    one, other = expected.state.buffer, got.state.buffer
    return (
        expected.outcome == got.outcome
        and one[:128] == other[:128]
        and one[_VECTORS] == other[_VECTORS]
        and one[_MASKS] == other[_MASKS]
        and one[_X87] == other[_X87]
        and one[_CONTROL] == other[_CONTROL]
        and expected.memory == got.memory
        and expected.state.eflags == got.state.eflags
    )


def differences(case: Case, expected: Result, got: Result, sticky: bool = True) -> list[str]:
    """What `got` has otherwise than `expected`, masks aside; empty when they agree.

    `sticky`: compare the exception bits of MXCSR too; the oracle's plain arithmetic does not leave them.
    """
    if _same(expected, got):
        return []
    out: list[str] = []
    raw = case.instruction
    loose = raw.mnemonic in MANY_ACCESSES and expected.outcome.exit == Exit.FAULT
    if raw.mnemonic == Mnemonic.ENTER and got.outcome.exit == Exit.UNIMPLEMENTED:
        return out  # frames that overlap
    if raw.mnemonic in NEAR_INDIRECT and expected.outcome.exit == Exit.PRIVILEGED:
        done = got.outcome.exit == Exit.NONE and got.outcome.pc >> 47 not in (0, 0x1FFFF)
        if done:
            return out
    if raw.mnemonic in FAR_RETURNS and {expected.outcome.exit, got.outcome.exit} <= _REFUSED:
        return out
    if expected.outcome.exit != got.outcome.exit if loose else expected.outcome != got.outcome:
        out.append(f"outcome: expected {expected.outcome}, got {got.outcome}")
    want, have = expected.state, got.state
    for number, name in enumerate(r.GPR_NAMES):
        if want.gpr(number) != have.gpr(number):
            out.append(f"{name}: expected {want.gpr(number):#x}, got {have.gpr(number):#x}")
    mask = LOADED_FLAGS
    if expected.outcome.exit == Exit.NONE:
        mask &= ~undefined_flags(raw, case.state)
    if (want.eflags ^ have.eflags) & mask:
        out.append(f"eflags: expected {want.eflags & mask:#x}, got {have.eflags & mask:#x}")
    for number in range(r.VECTORS):
        one, other = want.vector(number), have.vector(number)
        if one != other:
            out.append(f"zmm{number}: expected {one[::-1].hex()}, got {other[::-1].hex()}")
    for number in range(r.MASKS):
        if want.k(number) != have.k(number):
            out.append(f"k{number}: expected {want.k(number):#x}, got {have.k(number):#x}")
    out += _x87_differences(want, have, MXCSR_BITS if sticky else MXCSR_BITS & ~STICKY)
    if expected.memory != got.memory and not loose:
        at = next(n for n in range(MEMORY_SIZE) if expected.memory[n] != got.memory[n])
        was, is_now = expected.memory[at : at + 16].hex(), got.memory[at : at + 16].hex()
        out.append(f"memory at {MEMORY + at:#x}: expected {was}, got {is_now}")
    return out


def _x87_differences(want: r.CpuState, have: r.CpuState, mxcsr: int) -> list[str]:
    out = []
    for name, mask in (("fcw", 0xFFFF), ("fsw", 0xFFFF), ("mxcsr", mxcsr)):
        one, other = getattr(want, name) & mask, getattr(have, name) & mask
        if one != other:
            out.append(f"{name}: expected {one:#x}, got {other:#x}")
    if want.slots[r.FTAG] != have.slots[r.FTAG]:
        out.append(f"ftag: expected {want.slots[r.FTAG]:#x}, got {have.slots[r.FTAG]:#x}")
    for number in range(8):
        if want.st(number) != have.st(number):
            out.append(
                f"st{number}: expected {want.st(number)[::-1].hex()}, got {have.st(number)[::-1].hex()}"
            )
    return out


def describe(case: Case, wrong: list[str]) -> str:
    """One failing case with the state it began in, enough to repeat it."""
    state = case.state
    registers = " ".join(f"{name}={state.gpr(n):x}" for n, name in enumerate(r.GPR_NAMES))
    return f"{case!r}\n  before: {registers} eflags={state.eflags:x}\n  " + "\n  ".join(wrong)
