"""Random instructions on the vCPU against the host's own processor: `nexus fuzz isa`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from iced_x86 import Instruction

from nexus.base.errors import Unsupported, UsageError
from nexus.ir.state import STATE_BYTES, Exit
from nexus.isa.x86 import fuzz, native
from nexus.isa.x86.compare import Result, canonical, describe, differences, host_outcome, patched
from nexus.isa.x86.native import Outcome
from nexus.isa.x86.registers import CpuState
from nexus.machine.stop import Stop
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window
from nexus.system.fuzz import Finding

_SHOWN = 5
_MOST_STEPS = 5000  # of one repeated instruction
_BREAKPOINT = b"\xcc"


class HostSide:
    """The host's processor, with the cases' memory at the guest's addresses."""

    def __init__(self, memory: bytes) -> None:
        native.map_fixed(fuzz.MEMORY, fuzz.MEMORY_SIZE)
        self._processor = native.Native()
        self._memory = memory

    def has(self, instruction: Instruction) -> bool:
        """Whether this processor has what the instruction needs."""
        return self._processor.has(instruction)

    def run(self, case: fuzz.Case) -> Result:
        ctypes.memmove(fuzz.MEMORY, patched(self._memory, case), fuzz.MEMORY_SIZE)
        state = CpuState(bytearray(case.state.buffer))
        outcome = self._processor.run(case.code, state)
        after = ctypes.string_at(fuzz.MEMORY, fuzz.MEMORY_SIZE)
        return Result(canonical(host_outcome(case, outcome)), state, after)


class GuestSide:
    """A vCPU on a window with nothing but the cases' memory and their code."""

    def __init__(self, memory: bytes) -> None:
        self._memory = memory
        self._window = Window()
        self._window.map(fuzz.MEMORY, fuzz.MEMORY_SIZE, READ | WRITE)
        self._window.map(fuzz.CODE, native.CODE_SIZE, READ | EXECUTE)
        self._vcpu = Vcpu(self._window)
        self._area = ctypes.create_string_buffer(STATE_BYTES + 16)
        aligned = -ctypes.addressof(self._area) % 16
        self._state = CpuState(memoryview(self._area).cast("B")[aligned : aligned + STATE_BYTES])

    def close(self) -> None:
        self._vcpu.close()
        self._window.close()

    def run(self, case: fuzz.Case) -> Result:
        """Step the instruction; a repeated one until it is over."""
        self._window.write_forced(fuzz.MEMORY, patched(self._memory, case))
        before = case.address - fuzz.CODE
        code = _BREAKPOINT * before + case.code
        self._window.write_forced(fuzz.CODE, code.ljust(native.CODE_SIZE, _BREAKPOINT))
        state = self._state
        state.buffer[:] = case.state.buffer
        for _ in range(_MOST_STEPS):
            try:
                stop = self._vcpu.run(state, 1)
            except Unsupported:
                stop = Stop(Exit.UNIMPLEMENTED)
                break
            if stop.kind != Exit.BUDGET or state.rip != case.address:
                break
        outcome = Outcome(Exit.NONE, state.rip)
        if stop.kind != Exit.BUDGET and state.rip == case.address:
            outcome = canonical(Outcome(stop.kind, state.rip, stop.address, stop.write))
        after = self._window.read(fuzz.MEMORY, fuzz.MEMORY_SIZE)
        return Result(outcome, CpuState(bytearray(state.buffer)), after)


def fuzz_isa(groups: Sequence[str], cases: int, seed: int) -> int:
    """Compare `cases` instructions of each group (all groups if none is named); raises Finding.

    Returns how many were compared. A group is a module of `isa/x86/semantics` or one mnemonic.
    """
    known = fuzz.groups()
    mnemonics = set(fuzz.names().values())
    for group in groups:
        if group not in known and group not in mnemonics:
            raise UsageError(
                f"no instructions are called {group!r}", hint=f"groups: {', '.join(sorted(known))}"
            )
    memory = fuzz.common_memory(seed)
    try:
        host = HostSide(memory)
    except native.Unavailable as reason:
        raise Unsupported(f"fuzzing instructions here ({reason})", "nexus fuzz isa") from None
    guest = GuestSide(memory)
    done, found = 0, list[str]()
    try:
        for group in groups or sorted(known):
            for case in fuzz.random_cases(group, cases, seed, host.has):
                done += 1
                wrong = differences(case, host.run(case), guest.run(case))
                if wrong:
                    found.append(describe(case, wrong))
    finally:
        guest.close()
    if found:
        raise Finding("\n".join(found[:_SHOWN]) + f"\n{len(found)} of {done} cases differ from the host")
    return done
