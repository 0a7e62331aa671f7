"""The vCPU: runs a guest thread's state until something happens that only a kernel can answer."""

from __future__ import annotations

import ctypes
import os
from time import perf_counter_ns

from nexus.base.errors import GuestFault, Unsupported
from nexus.ir.state import SLOTS, Exit
from nexus.isa.x86 import helpers
from nexus.isa.x86.registers import FLAG_AC, FLAG_TF, CpuState
from nexus.machine import faults, floats, host
from nexus.machine.faults import SIGBUS
from nexus.machine.stop import FetchFault, Stop
from nexus.machine.translation import Translations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.machine.tiers import Policy
    from nexus.machine.translation import Translation
    from nexus.machine.window import Window

_PC, _EFLAGS, _ZERO = SLOTS["pc"], SLOTS["eflags"], SLOTS["zero"]
_WINDOW, _TOP, _LOOKUP, _BUDGET = SLOTS["window"], SLOTS["top"], SLOTS["lookup"], SLOTS["budget"]
_MXCSR = SLOTS["mxcsr"]
_FAULT_ADDRESS = SLOTS["fault_address"]
_EXIT, _EXIT_ARG, _EXIT_AT = SLOTS["exit"], SLOTS["exit_arg"], SLOTS["exit_at"]
_STEPPED = FLAG_TF | FLAG_AC  # with these, every instruction is looked at
_UNKNOWN_ADDRESS = (1 << 64) - 1  # what a #GP reports, which has no address
_GENERAL_PROTECTION = 1  # argument of a #GP that is not for a ring-0 instruction (`isa/x86/ins.py`)
_CANONICAL_END, _KERNEL_HALF = 1 << 47, (1 << 64) - (1 << 47)


class _Hooked(Exception):
    """The next instruction has a hook."""


class Vcpu:
    """Runs threads of one window. `machine` is what the guest sees of the machine around it: its clock, its
    entropy, what CPUID answers.

    `engine` is "t0", the interpreter, "t1", which has host code for what runs often, or "t2", which also has
    hot regions compiled; `policy` says how often (`tiers.py`)."""

    def __init__(self, window: Window, engine: str = "t0", policy: Policy | None = None) -> None:
        self.window = window
        self.machine = helpers.Machine(perf_counter_ns, os.urandom, window.read, window.write)
        self._engine = faults.acquire()
        self._compiling = engine == "t2"
        if engine != "t0":
            from nexus.machine.tiers import USUAL, TieredTranslations

            self.translations: Translations = TieredTranslations(window, self._engine, policy or USUAL)
        else:
            self.translations = Translations(window, self._engine)
        self._execute: Callable[[int, int], None] = self._engine.run  # from a record until an exit
        window.copy = self._engine.copy
        self._closed = False

    def close(self) -> None:
        """Give the translations back. The vCPU must not be used afterwards."""
        if not self._closed:
            self._closed = True
            self.translations.close()
            self.window.copy = host.copy
            faults.release()

    def hook(self, address: int) -> None:
        """Stop with HOOK from now on when a thread is about to execute an address."""
        self.translations.hook(address)

    def unhook(self, address: int) -> None:
        self.translations.hooks.discard(address)

    def run(self, state: CpuState, budget: int, past_hook: bool = False) -> Stop:
        """Execute about `budget` instructions, at least one, or until something happens. After a HOOK,
        `past_hook` goes on.

        With TF set it is one instruction and a TRAP. A stop for the BUDGET is between blocks, unless the
        first block has more instructions than the budget; then it is after exactly so many. What is left of
        the budget stays in the state.
        """
        slots = state.slots
        at = ctypes.addressof(ctypes.c_char.from_buffer(state.buffer))
        if at & 15:
            raise ValueError("the state of a thread has to be 16-aligned")
        slots[_WINDOW], slots[_TOP] = self.window.host, self.window.top
        slots[_LOOKUP], slots[_ZERO] = self._jump_table(), 0
        slots[_BUDGET] = budget
        try:
            if slots[_EFLAGS] & _STEPPED:
                if not past_hook and slots[_PC] in self.translations.hooks:
                    return Stop(Exit.HOOK)
                return self._step(state, at)
            if past_hook:
                stop = self._once(state, at, 1, True)
                if stop is not None:
                    return stop
            return self._run(state, at, budget)
        except _Hooked:
            return Stop(Exit.HOOK)
        except FetchFault as fault:
            slots[_PC] = fault.pc
            return _memory_fault(fault.address, 1, False, True, 0)

    def _run(self, state: CpuState, at: int, budget: int) -> Stop:
        slots, run, translations = state.slots, self._execute, self.translations
        alone = translations.floats
        self._look_at_mxcsr(slots[_MXCSR])
        block = self._enter(slots[_PC])
        while True:
            result = alone.get(block.start)
            if result is None:
                run(at, block.record)
            elif self._raises(state, at, block.record, result):
                return Stop(Exit.FP_ERROR, floats.VECTOR)
            kind = slots[_EXIT]
            if kind == Exit.LINK:
                stub, generation = slots[_EXIT_AT], translations.generation
                block = self._enter(slots[_PC])
                if generation == translations.generation and result is None and block.start not in alone:
                    translations.link(stub, block)
            elif kind == Exit.LOOKUP:
                block = self._enter(slots[_PC])
                if translations.watching:
                    self._note(slots[_EXIT_ARG], slots[_EXIT_AT], block.start)
                    slots[_LOOKUP] = self._jump_table()
                elif block.start not in alone:
                    translations.remember(block, slots[_EXIT_ARG])
            elif kind == Exit.HOT:
                translations.heat(self._enter(slots[_PC]))
                block = self._enter(slots[_PC])
            elif kind == Exit.BUDGET:
                if self._compiling:
                    self._sample(slots[_PC])
                if budget_left(state) < budget:
                    return Stop(Exit.BUDGET)
                return self._once(state, at, budget, True) or Stop(Exit.BUDGET)
            else:
                stop = self._stopped(state, at)
                if stop is not None:
                    return stop
                if slots[_EFLAGS] & _STEPPED:
                    return self._step(state, at)
                self._look_at_mxcsr(slots[_MXCSR])
                block = self._enter(slots[_PC])

    def _sample(self, pc: int) -> None:
        """A slice has ended at `pc`."""
        translations = self.translations
        if translations.hot is None:
            from nexus.machine.compiled import Hot

            translations.hot = Hot(translations)
        if not translations.floats_alone:
            translations.hot.sample(pc)

    def _jump_table(self) -> int:
        """The table that computed jumps look in."""
        translations = self.translations
        return (translations.lookup_once if translations.watching else translations.lookup).address

    def _note(self, table: int, position: int, target: int) -> None:
        """A computed jump has been seen, that of a record if it has looked in the first table."""
        assert self.translations.hot is not None
        self.translations.hot.note(0 if table else position, target)

    def _look_at_mxcsr(self, mxcsr: int) -> None:
        """Has the guest unmasked a floating-point exception for the first time?"""
        if floats.unmasked(mxcsr) and not self.translations.floats_alone:
            self.translations.isolate_floats()

    def _raises(self, state: CpuState, at: int, record: int, result: floats.Result) -> bool:
        """Run an instruction that may raise a floating-point exception; whether it did."""
        if not floats.unmasked(state.slots[_MXCSR]):
            self._execute(at, record)
            return False
        saved = floats.begin(state)
        self._execute(at, record)
        return floats.finish(state, saved, result)

    def _enter(self, pc: int) -> Translation:
        if pc in self.translations.hooks:
            raise _Hooked
        return self.translations.find(pc)

    def _step(self, state: CpuState, at: int) -> Stop:
        """One instruction as TF and AC want it: #AC before it, or the trap after it."""
        from nexus.machine import stepping
        from nexus.machine.lowering import instruction_at

        flags = state.slots[_EFLAGS]
        instruction, _ = instruction_at(self.window, state.slots[_PC])
        if flags & FLAG_AC and stepping.misaligned(instruction, state):
            return Stop(Exit.ALIGNMENT)
        if not flags & FLAG_TF:
            return self._once(state, at, 1, True) or Stop(Exit.BUDGET)
        turn = stepping.OneTurn(instruction, state)
        stop = self._once(state, at, 1, True)
        turn.finish(state)
        return stop or Stop(Exit.TRAP)

    def _once(self, state: CpuState, at: int, instructions: int, locked: bool) -> Stop | None:
        """At most so many instructions, as long as there is no branch; None if nothing happened in them."""
        slots = state.slots
        slots[_BUDGET] = max(budget_left(state), instructions)
        result = None
        if floats.unmasked(slots[_MXCSR]):
            from nexus.machine.lowering import float_result

            result, instructions = float_result(self.window, slots[_PC]), 1
        record = self.translations.once(slots[_PC], instructions, locked)
        slots[_LOOKUP] = self.translations.lookup_once.address
        try:
            if result is None:
                self._execute(at, record)
            elif self._raises(state, at, record, result):
                return Stop(Exit.FP_ERROR, floats.VECTOR)
        finally:
            slots[_LOOKUP] = self._jump_table()
        if slots[_EXIT] in (Exit.LINK, Exit.LOOKUP):
            return None
        return self._stopped(state, at)

    def _stopped(self, state: CpuState, at: int) -> Stop | None:
        """An exit that is not the engine's own: the stop it is for the kernel, None if it is settled here."""
        slots = state.slots
        kind = slots[_EXIT]
        if kind == Exit.FAULT:
            return self._fault(state, at)
        if kind == Exit.HELPER:
            return self._helper(state, slots[_EXIT_ARG])
        if kind == Exit.PRIVILEGED and slots[_EXIT_ARG] == _GENERAL_PROTECTION:
            return Stop(Exit.FAULT, 0, _UNKNOWN_ADDRESS)
        if kind == Exit.STEP:
            return self._once(state, at, 1, True)
        if kind == Exit.UNIMPLEMENTED:
            raise self._unsupported(slots[_PC])
        return Stop(kind, slots[_EXIT_ARG])

    def _helper(self, state: CpuState, argument: int) -> Stop | None:
        """An instruction that the host does in Python, and what it raises."""
        try:
            raised = helpers.run(argument, state, self.machine)
        except GuestFault as fault:
            return _memory_fault(fault.address, 1, fault.write, False, 0)
        if raised == Exit.PRIVILEGED:
            return Stop(Exit.FAULT, 0, _UNKNOWN_ADDRESS)
        return None if raised is None else Stop(raised)

    def _fault(self, state: CpuState, at: int) -> Stop | None:
        """A memory access failed: for good, or because we wanted to see the write."""
        slots = state.slots
        position = slots[_EXIT_AT]
        self.translations.restore(position, at)
        slots[_EXIT_AT] = self.translations.record_at(position)
        slots[_PC], not_done = self.translations.locate(slots[_EXIT_AT])
        slots[_BUDGET] += not_done + 1
        if position != slots[_EXIT_AT] and slots[_FAULT_ADDRESS] == self.window.host + self.window.top:
            # host code refuses a base above `top`, wherever the displacement leads; the records know better
            return self._once(state, at, 1, True)
        fault = self._engine.fault(at)
        if slots[_EXIT_ARG] != SIGBUS and self.window.admit(fault.address, fault.write):
            return self._once(state, at, 1, False)
        return _memory_fault(fault.address, fault.size, fault.write, False, slots[_EXIT_ARG])

    def _unsupported(self, pc: int) -> Unsupported:
        """An instruction that the front-end does not know."""
        from nexus.machine.lowering import instruction_at

        instruction, code = instruction_at(self.window, pc)
        text = f"the instruction `{instruction}` ({code.hex(' ')})"
        return Unsupported(text, f"{pc:#x}", "src/nexus/isa/x86/semantics/")


def budget_left(state: CpuState) -> int:
    """What is left of a run's budget; negative where a loop of T2 has gone beyond it."""
    left = state.slots[_BUDGET]
    return left - (left >> 63 << 64)


def _memory_fault(address: int, size: int, write: bool, execute: bool, signal: int) -> Stop:
    """As hardware has it: a non-canonical address is a #GP without one, which Windows calls a read of -1."""
    if address < _KERNEL_HALF and address + size > _CANONICAL_END:
        return Stop(Exit.FAULT, signal, _UNKNOWN_ADDRESS)
    return Stop(Exit.FAULT, signal, address, write, execute)
