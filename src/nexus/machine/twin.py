"""T0 and another engine side by side on the same guest, until they disagree.

`TwinVcpu` is a vCPU like any other, so a kernel can be booted on it. A stretch runs on T0 in the kernel's
window, then on T1 (or T2) in a second one with the same contents, every block as host code; registers and
memory afterwards are compared. A stretch that differs is done again with a shorter budget, until the one
block is found that does it, and then how much of the block it takes.
"""

from __future__ import annotations

import ctypes
from collections import deque

from nexus.base.errors import NexusError
from nexus.ir.state import SLOTS, STATE_BYTES, Exit
from nexus.isa.x86.registers import CpuState
from nexus.machine import host
from nexus.machine.copies import Copies
from nexus.machine.states import same, side_by_side
from nexus.machine.stop import FetchFault, Stop
from nexus.machine.tiers import AT_ONCE
from nexus.machine.vcpu import Vcpu, budget_left
from nexus.machine.window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from iced_x86 import Instruction

    from nexus.isa.x86.helpers import Machine

_BUDGET = SLOTS["budget"]
_SHOWN = 6  # differences of memory
_WALK = 1000  # instructions that are looked at block by block


class Divergence(NexusError):
    """The engines disagree; the message shows where and how, `rip` is where the block begins."""

    exit_code = 1

    def __init__(self, message: str, rip: int) -> None:
        super().__init__(message)
        self.rip = rip


class _Answers:
    """What the machine around the processor says - clock and entropy - told to both in the same way: what the
    first one is told, the second one is told again."""

    def __init__(self, first: Machine, second: Machine) -> None:
        second.processors, second.cpu = first.processors, first.cpu
        self._first = first
        self._real = first.ticks, first.random_bytes
        ticks: deque[int] = deque()
        entropy: deque[bytes] = deque()

        def tell_ticks() -> int:
            ticks.append(self._real[0]())
            return ticks[-1]

        def tell_entropy(size: int) -> bytes:
            entropy.append(self._real[1](size))
            return entropy[-1]

        first.ticks, first.random_bytes = tell_ticks, tell_entropy
        second.ticks = lambda: ticks.popleft() if ticks else tell_ticks()
        second.random_bytes = lambda size: entropy.popleft() if entropy else tell_entropy(size)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        self._first.ticks, self._first.random_bytes = self._real


class TwinVcpu(Vcpu):
    """T0, with another engine checked against it. `instructions` counts what they agreed about."""

    def __init__(self, window: Window, against: str = "t1") -> None:
        super().__init__(window, "t0")
        self._names = f"T0 and {against.upper()}"
        self._heads = "T0", against.upper()
        self._other_window = Window(window.top, window.wide)
        self._copies = Copies(window, self._other_window)
        self._second = Vcpu(self._other_window, against, AT_ONCE)
        self._area = host.allocate(STATE_BYTES)
        area = (ctypes.c_char * STATE_BYTES).from_address(self._area)
        self._state = CpuState(memoryview(area).cast("B"))
        self.instructions = 0
        self.diverged = False

    def close(self) -> None:
        if not self._closed:
            self._second.close()
            self._copies.close()
            self._other_window.close()
        super().close()

    def hook(self, address: int) -> None:
        super().hook(address)
        self._second.hook(address)

    def unhook(self, address: int) -> None:
        super().unhook(address)
        self._second.unhook(address)

    def run(self, state: CpuState, budget: int, past_hook: bool = False) -> Stop:
        self._copies.prepare()
        before = bytes(state.buffer)
        stop, other, used = self._both(state, before, budget, past_hook)
        if self._differ(state, stop, other):
            self._again(state, before)
            self._copies.check()
            stop, other, used = self._both(state, before, budget, past_hook)
            if self._differ(state, stop, other):
                self.diverged = True
                raise self._find(state, before, max(used, 1), past_hook)
        self.instructions += used
        return stop

    def _both(self, state: CpuState, before: bytes, budget: int, past_hook: bool) -> tuple[Stop, Stop, int]:
        """Run the stretch on both; their stops, and the instructions that T0 did."""
        with _Answers(self.machine, self._second.machine):
            stop, used = _run(super().run, state, budget, past_hook)
            self._state.buffer[:] = before
            other, theirs = _run(self._second.run, self._state, budget, past_hook)
            while stop.kind == other.kind == Exit.BUDGET and used != theirs:  # blocks end at different places
                if used < theirs:
                    stop, more = _run(super().run, state, theirs - used, False)
                    used += more
                else:
                    other, more = _run(self._second.run, self._state, used - theirs, False)
                    theirs += more
        return stop, other, used

    def _again(self, state: CpuState, before: bytes) -> None:
        """Go back to the beginning of the stretch."""
        self._copies.restore()
        state.buffer[:] = before

    def _differ(self, state: CpuState, stop: Stop, other: Stop) -> bool:
        return _told(stop) != _told(other) or not same(state, self._state) or bool(self._copies.differences())

    def _table(self, before: bytes, state: CpuState, stop: Stop, other: Stop) -> list[str]:
        """Both states as they are now, and the memory that differs."""
        lines = side_by_side(CpuState(bytearray(before)), state, self._state, self._heads)
        if _told(stop) != _told(other):
            lines.append(f"* stop    {stop!r}  {other!r}")
        for start, end in self._copies.differences()[:_SHOWN]:
            end = min(end, start + 16)
            mine, theirs = (window.read_forced(start, end - start).hex() for window in self._windows)
            lines.append(f"* [{start:#x}] {mine}  {theirs}")
        return lines

    @property
    def _windows(self) -> tuple[Window, Window]:
        return self.window, self._other_window

    def _find(self, state: CpuState, before: bytes, most: int, past_hook: bool) -> Divergence:
        """The block that the engines disagree about, in a stretch of `most` instructions."""
        agreed = 0
        while most - agreed > _WALK:
            middle = (agreed + most) // 2
            self._again(state, before)
            stop, other, _ = self._both(state, before, middle, past_hook)
            if self._differ(state, stop, other):
                most = middle
            else:
                agreed = middle
        self._again(state, before)
        done = 0
        if agreed:
            _, _, done = self._both(state, before, agreed, past_hook)
            past_hook = False
        while done < most:
            self._copies.prepare()
            begin = bytes(state.buffer)
            stop, other, used = self._both(state, begin, self._length(state.rip), past_hook)
            if self._differ(state, stop, other):
                return self._report(state, begin, (stop, other), done, past_hook)
            done += max(used, 1)
            past_hook = False
            if stop.kind != Exit.BUDGET:
                break
        start = CpuState(bytearray(before)).rip
        what = f"{self._names} disagree within {most:,} instructions from {start:#x}"
        return Divergence(f"{what}, but agree block by block", start)

    def _length(self, rip: int) -> int:
        """Instructions of the block at an address."""
        try:
            return len(self.translations.find(rip).addresses)
        except FetchFault:
            return 1

    def _report(
        self, state: CpuState, before: bytes, stops: tuple[Stop, Stop], agreed: int, past_hook: bool
    ) -> Divergence:
        """Both states after as much of the block as it takes to make them differ."""
        table = self._table(before, state, *stops)  # of the whole block
        start = CpuState(bytearray(before)).rip
        code: list[Instruction] = []
        for instruction in self._block(start):
            code.append(instruction)
            end = instruction.next_ip
            self._again(state, before)
            self.hook(end)
            stop, other, _ = self._both(state, before, len(code), past_hook)
            self.unhook(end)
            if self._differ(state, stop, other):
                table = self._table(before, state, stop, other)
                break
        else:
            table.append("only where the block is whole; its beginnings by themselves agree")
        lines = [f"{self._names} disagree after {self.instructions + agreed:,} instructions, at {start:#x}:"]
        lines += [f"  {instruction.ip:#x}  {instruction}" for instruction in code]
        return Divergence("\n".join(lines + table), start)

    def _block(self, start: int) -> list[Instruction]:
        from nexus.machine.lowering import instruction_at

        found: list[Instruction] = []
        at = start
        while len(found) < 100:
            instruction, _ = instruction_at(self.window, at)
            found.append(instruction)
            at = instruction.next_ip
            if instruction.flow_control:
                break
        return found


def _run(
    run: Callable[[CpuState, int, bool], Stop], state: CpuState, budget: int, past: bool
) -> tuple[Stop, int]:
    stop = run(state, budget, past)
    return stop, budget - budget_left(state)


def _told(stop: Stop) -> tuple[int, int, int, bool, bool]:
    return stop.kind, stop.argument, stop.address, stop.write, stop.execute
