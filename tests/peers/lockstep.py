"""T0 and Unicorn side by side on the same guest, until they disagree.

`LockstepVcpu` is a vCPU like any other, so a kernel can be booted on it. A stretch of instructions runs on
Unicorn first, which notes what it overwrites; that is undone, the same stretch runs on T0, and registers and
the written memory are compared. A stretch that differs is repeated instruction by instruction. Flags that an
instruction leaves undefined, and what CPUID and the time stamp counter say, are T0's; a stretch with such an
instruction, or a repeated one, which the engines count differently, is done one by one from the start.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any

from iced_x86 import Instruction, Mnemonic, RflagsBits
from unicorn import UC_HOOK_BLOCK, UC_HOOK_MEM_WRITE, Uc

from nexus.ir.state import SLOTS, Exit
from nexus.isa.x86.decode import decode, instructions
from nexus.isa.x86.registers import GPR_NAMES, CpuState
from nexus.machine import vcpu as t0
from nexus.machine.host import PAGE
from nexus.machine.stop import Stop
from nexus.machine.window import Window
from peers import unicorn_cpu

_BUDGET = SLOTS["budget"]
_OURS = {Mnemonic.CPUID, Mnemonic.RDTSC, Mnemonic.RDTSCP, Mnemonic.XGETBV}
_EFLAGS = {
    RflagsBits.OF: 1 << 11,
    RflagsBits.SF: 1 << 7,
    RflagsBits.ZF: 1 << 6,
    RflagsBits.AF: 1 << 4,
    RflagsBits.CF: 1 << 0,
    RflagsBits.PF: 1 << 2,
}
_COMPARED_FLAGS = 0xCD5
_MXCSR_EXCEPTIONS = 0x3F
_COMPARING = {0xA6, 0xA7, 0xAE, 0xAF}  # cmps and scas, which can end before rcx is 0


class Divergence(Exception):
    """The engines disagree about an instruction; the message shows how."""


class LockstepVcpu:
    """T0, checked against Unicorn `stretch` instructions at a time."""

    def __init__(self, window: Window, stretch: int = 64) -> None:
        self.window = window
        self.stretch = stretch
        self.instructions = 0
        self.recent: deque[int] = deque(maxlen=12)
        self._unicorn = unicorn_cpu.Vcpu(window)
        forget = window.on_code_write
        self._t0 = t0.Vcpu(window)
        drop = window.on_code_write
        assert forget is not None and drop is not None

        def on_code_write(page: int) -> None:
            drop(page)
            forget(page)

        window.on_code_write = on_code_write
        self._journal: list[tuple[int, bytes]] = []
        self._special = False  # has Unicorn met a block with an instruction to be done by itself?
        self._known_blocks: dict[tuple[int, int], bool] = {}
        self._unicorn.watch(UC_HOOK_MEM_WRITE, self._on_write)
        self._unicorn.watch(UC_HOOK_BLOCK, self._on_block)
        window.on_change.append(lambda start, end: self._known_blocks.clear())

    def close(self) -> None:
        self._t0.close()
        self._unicorn.close()

    def run(self, state: CpuState, budget: int) -> Stop:
        left = budget
        while left > 0:
            size = min(self.stretch, left)
            stop = self._compare(state, size)
            left -= size
            if stop.kind != Exit.BUDGET:
                return stop
        return Stop(Exit.BUDGET)

    def _compare(self, state: CpuState, size: int) -> Stop:
        before = bytes(state.buffer)
        self.recent.append(state.rip)
        if size == 1:
            instruction = self._instruction(state.rip)
            repeated = bool(instruction.has_rep_prefix or instruction.has_repne_prefix)
        else:
            repeated = False
        theirs, their_stop, their_memory = self._run_unicorn(before, size, repeated)
        if self._special and size > 1:
            return self._singly(state, size)
        ours, used = self._run_t0(state, size, repeated)
        difference = self._difference(state, ours, theirs, their_stop, their_memory, used)
        self.instructions += used
        if not difference:
            return ours
        if size > 1:
            for address, data in reversed(self._journal):
                self._poke(address, data)
            state.buffer[:] = before
            return self._singly(state, size)
        if self._explained(before, state, theirs, difference):
            return ours
        raise Divergence(self._report(before, state, difference))

    def _singly(self, state: CpuState, size: int) -> Stop:
        stop = Stop(Exit.BUDGET)
        while size and stop.kind == Exit.BUDGET:
            stop = self._compare(state, 1)
            size -= 1
        return stop

    def _run_unicorn(
        self, before: bytes, size: int, repeated: bool
    ) -> tuple[CpuState, Stop, dict[int, bytes]]:
        """Run on Unicorn, a repeated instruction to its end, and leave memory as it was."""
        while True:
            theirs = CpuState(bytearray(before))
            self._journal.clear()
            self._special = False
            admitted = self._unicorn.admitted
            start = theirs.rip
            stop = self._unicorn.run(theirs, size)
            while repeated and stop.kind == Exit.BUDGET and theirs.rip == start:
                stop = self._unicorn.run(theirs, 1 if self._compares(start) else theirs.rcx or 1)
            written = {address: self._peek(address, len(data)) for address, data in self._journal}
            for address, data in reversed(self._journal):
                self._poke(address, data)
            if self._unicorn.admitted == admitted:
                return theirs, stop, written

    def _run_t0(self, state: CpuState, size: int, repeated: bool) -> tuple[Stop, int]:
        """Run exactly `size` instructions on T0, unless something stops it."""
        left = size
        start = state.rip
        while True:
            stop = self._t0.run(state, left)
            left = state.slots[_BUDGET]
            if stop.kind == Exit.BUDGET and repeated and state.rip == start:
                left = 1  # T0 does repeated instructions in chunks
            elif stop.kind != Exit.BUDGET or left <= 0:
                return stop, size - left

    def _on_block(self, _uc: Uc, address: int, size: int, _data: Any) -> None:
        key = (address, size)
        special = self._known_blocks.get(key)
        if special is None:
            special = self._known_blocks[key] = any(
                instruction.mnemonic in _OURS or instruction.has_rep_prefix or instruction.has_repne_prefix
                for instruction in instructions(self.window.read_forced(address, size), address)
            )
        self._special |= special

    # memory ----------------------------------------------------------------------------------------

    def _on_write(self, _uc: Uc, _kind: int, address: int, size: int, _value: int, _data: Any) -> None:
        if self.window.access(address) and self.window.access(address + size - 1):
            self._journal.append((address, self._peek(address, size)))

    def _peek(self, address: int, size: int) -> bytes:
        return ctypes.string_at(self.window.host + address, size)

    def _poke(self, address: int, data: bytes) -> None:
        for page in range(address & -PAGE, address + len(data), PAGE):
            self.window.admit(page, True)
        ctypes.memmove(self.window.host + address, data, len(data))

    # comparing -------------------------------------------------------------------------------------

    def _difference(
        self,
        ours: CpuState,
        our_stop: Stop,
        theirs: CpuState,
        their_stop: Stop,
        their_memory: dict[int, bytes],
        used: int,
    ) -> list[str]:
        out = []
        if (our_stop.kind, our_stop.address) != (their_stop.kind, their_stop.address):
            out.append(f"stop {our_stop} {their_stop} after {used}")
        for name in ("rip", *GPR_NAMES, "mxcsr"):
            a, b = getattr(ours, name), getattr(theirs, name)
            if name == "mxcsr":  # Unicorn does not keep the exception bits
                a, b = a & ~_MXCSR_EXCEPTIONS, b & ~_MXCSR_EXCEPTIONS
            if a != b:
                out.append(f"{name} {a:#x} {b:#x}")
        if (ours.eflags ^ theirs.eflags) & _COMPARED_FLAGS:
            out.append(f"eflags {ours.eflags:#x} {theirs.eflags:#x}")
        for number in range(16):
            if ours.xmm(number) != theirs.xmm(number):
                out.append(f"xmm{number} {ours.xmm(number).hex()} {theirs.xmm(number).hex()}")
        for address, data in their_memory.items():
            mine = self._peek(address, len(data))
            if mine != data:
                out.append(f"[{address:#x}] {mine.hex()} {data.hex()}")
        return out

    def _explained(self, before: bytes, ours: CpuState, theirs: CpuState, difference: list[str]) -> bool:
        """May the engines differ in this way after this instruction?"""
        instruction = self._instruction(CpuState(bytearray(before)).rip)
        if instruction.mnemonic in _OURS:
            return True
        if len(difference) == 1 and difference[0].startswith("eflags"):
            undefined = sum(bit for flag, bit in _EFLAGS.items() if instruction.rflags_undefined & flag)
            return not (ours.eflags ^ theirs.eflags) & _COMPARED_FLAGS & ~undefined
        return False

    def _compares(self, rip: int) -> bool:
        instruction = self._instruction(rip)
        return self.window.read_forced(rip, instruction.len)[-1] in _COMPARING

    def _instruction(self, rip: int) -> Instruction:
        size = min(15, PAGE - rip % PAGE)
        code = self.window.read_forced(rip, size)
        if size < 15 and self.window.access(rip + size) is not None:
            code += self.window.read_forced(rip + size, 15 - size)
        return decode(code, rip)

    def _report(self, before: bytes, ours: CpuState, difference: list[str]) -> str:
        old = CpuState(bytearray(before))
        instruction = self._instruction(old.rip)
        code = self.window.read_forced(old.rip, max(instruction.len, 1)).hex(" ")
        registers = " ".join(f"{name}={old.gpr(number):#x}" for number, name in enumerate(GPR_NAMES))
        return "\n".join(
            [
                f"{old.rip:#x}: {instruction} ({code}), after {self.instructions} instructions",
                *(f"  {line}   (T0, Unicorn)" for line in difference),
                f"before: {registers} eflags={old.eflags:#x}",
                "recently: " + " ".join(f"{rip:#x}" for rip in self.recent),
            ]
        )
