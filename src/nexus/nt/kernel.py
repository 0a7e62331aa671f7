"""The kernel: what exists in the machine, and the loop that runs guest threads and answers their stops."""

from __future__ import annotations

import os
from collections import deque
from errno import EMFILE, ENFILE
from functools import partial

from nexus.base.errors import GuestFault, NexusError, Unsupported
from nexus.ir.state import Exit
from nexus.isa.x86.cpuid import DEFAULT
from nexus.machine.host import HostMemoryError
from nexus.machine.slices import Slices
from nexus.nt import callback
from nexus.nt.atoms import AtomTable
from nexus.nt.clock import TICKS_PER_SECOND, Clock, VirtualClock
from nexus.nt.errors import NtError
from nexus.nt.io.device_io import IoManager
from nexus.nt.mm.memory import Commitment
from nexus.nt.namespace import Namespace
from nexus.nt.poller import HostPoller
from nexus.nt.ps import exceptions
from nexus.nt.ps.process import Process
from nexus.nt.ps.thread import Thread
from nexus.nt.se.token import Token
from nexus.nt.status import Status
from nexus.nt.sync import KeyedEvent
from nexus.nt.timers import TimerQueue
from nexus.nt.wait import Resume, UserCallback, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nexus.isa.x86.cpuid import Cpu
    from nexus.machine.stop import Stop
    from nexus.machine.vcpu import Vcpu
    from nexus.machine.window import Window
    from nexus.nt.hooks import Hooks
    from nexus.nt.numbers import Numbers
    from nexus.nt.objects import KernelObject
    from nexus.nt.ps.start import Starter
    from nexus.nt.trace import Trace

SYSCALLS_PER_SLICE = 64
TICK = TICKS_PER_SECOND // 1000
LOCALE_EN_US = 0x0409
_U64 = 0xFFFF_FFFF_FFFF_FFFF


def _seeded(seed: int) -> Callable[[int], bytes]:
    """Bytes that repeat; `random` is only imported where they are wanted, for a quick start."""
    from random import Random

    return Random(seed).randbytes


def located(missing: Unsupported, thread: Thread) -> Unsupported:
    """The same, with the module and offset of what the processor knows as an address only."""
    if not missing.where.startswith("0x"):
        return missing
    where = thread.process.describe_address(int(missing.where, 16))
    return Unsupported(missing.what, where, missing.file)


class Deadlock(NexusError):
    """Every guest thread waits for something that cannot happen any more."""


class Kernel:
    """One machine. `seed` makes it repeat exactly: virtual time, seeded randomness.

    Other parts hook in here: `on_tick(kernel)` when the guest's clock page should move,
    `on_thread_end(thread)`, `on_process_end(process)`. `make_vcpu` and `make_window` come from the
    composition root.
    """

    snapshot_keeps = ("numbers", "trace", "stub_counts", "stop_requested", "breakpoints", "paused")

    def __init__(
        self,
        make_window: Callable[[], Window],
        make_vcpu: Callable[[Window], Vcpu],
        numbers: Numbers,
        *,
        seed: int | None = None,
        processors: int = 1,
        handle_limit: int = 1 << 20,
        process_limit: int = 256,
        memory_limit: int = 1 << 34,
        cpu: Cpu = DEFAULT,
        trace: Trace | None = None,
    ) -> None:
        self.make_window = make_window
        self.make_vcpu = make_vcpu
        self.numbers = numbers
        self.clock = Clock() if seed is None else VirtualClock()
        self.deterministic = seed is not None
        self.random_bytes: Callable[[int], bytes] = os.urandom if seed is None else _seeded(seed)
        self.processors = processors
        self.cpu = cpu
        self.handle_limit = handle_limit
        self.process_limit = process_limit
        self.commitment = Commitment(memory_limit)
        self.trace = trace
        self.hooks: Hooks | None = None  # of exported functions; set by the composition root
        self.breakpoints: set[tuple[Process, int]] = set()  # where `run` comes back, if the vCPU stops there
        self.paused: Thread | None = None  # the thread that has got to one
        self.timers = TimerQueue()
        self.poller = HostPoller()
        self.ready: deque[Thread] = deque()
        self.user_locale = self.system_locale = self.user_language = LOCALE_EN_US
        self.starter: Starter | None = None  # starts processes; set by the composition root
        self.atoms = AtomTable()
        self.namespace = Namespace()
        self.critical_section_event = KeyedEvent()
        self.namespace.insert("\\KernelObjects\\CritSecOutOfMemoryEvent", self.critical_section_event)
        self.processes: list[Process] = []
        self.current_thread: Thread | None = None
        self.stub_counts: dict[str, int] = {}
        self.on_tick: list[Callable[[Kernel], None]] = []
        self.on_thread_end: list[Callable[[Thread], None]] = []
        self.on_process_end: list[Callable[[Process], None]] = []
        self.debug_output: Callable[[bytes], None] = lambda text: (
            None
        )  # what Wine's DLLs print about themselves
        self.window_station: KernelObject | None = None
        self.process_limit_hit = False
        self.stop_requested: NexusError | None = None
        self.io = IoManager(self)
        self._ids: dict[int, Process | Thread] = {}
        self._next_id = 0x20
        self._next_luid = 0x10000
        self._last_tick = 0
        self._slices = Slices(fixed=self.deterministic)
        self._slice_over = False

    def snapshot_outside(self) -> Callable[[], None] | None:
        """See `nt/graph.py`: where the random numbers of a run that repeats stand."""
        if not self.deterministic:
            return None
        source: Any = self.random_bytes.__self__  # type: ignore[attr-defined]
        return partial(source.setstate, source.getstate())

    # -- identities ---------------------------------------------------------------------------------------

    def new_id(self, target: Process | Thread) -> int:
        """A process or thread id; both come from one table, as on Windows."""
        number = self._next_id
        self._next_id += 4
        self._ids[number] = target
        return number

    def set_first_id(self, number: int) -> None:
        """Number processes and threads from here on."""
        self._next_id = number

    def new_luid(self) -> int:
        self._next_luid += 1
        return self._next_luid

    def thread_by_id(self, number: int) -> Thread | None:
        found = self._ids.get(number & ~3)
        return found if isinstance(found, Thread) else None

    def threads_of(self, process: Process) -> list[Thread]:
        """The threads of a process in the order of their ids, with those that ended and have handles."""
        known = (target for target in self._ids.values() if isinstance(target, Thread))
        return sorted((thread for thread in known if thread.process is process), key=lambda thread: thread.id)

    def process_by_id(self, number: int) -> Process | None:
        found = self._ids.get(number & ~3)
        return found if isinstance(found, Process) else None

    def new_token(self, parent: Process | None) -> Token:
        if parent is None:
            return Token(self)
        return parent.token.duplicate(parent.token.kind, parent.token.impersonation_level, False)

    def current_token(self, pseudo: int) -> Token | None:
        """-4: the process's token, -5: the impersonation token, -6: whichever is in force."""
        thread = self.current_thread
        if thread is None:
            return None
        if pseudo == -4:
            return thread.process.token
        if pseudo == -5:
            if thread.token is None:
                raise NtError(Status.NO_TOKEN)
            return thread.token
        return thread.token or thread.process.token

    # -- ends ---------------------------------------------------------------------------------------------

    def thread_ended(self, thread: Thread) -> None:
        for hook in self.on_thread_end:
            hook(thread)
        if thread.handle_count == 0:
            self._ids.pop(thread.id, None)

    def process_ended(self, process: Process) -> None:
        for hook in self.on_process_end:
            hook(process)
        self.processes.remove(process)

    def close(self) -> None:
        """End what still runs and give the host's descriptors back."""
        for process in list(self.processes):
            process.terminate(Status.PROCESS_IS_TERMINATING)
        self.io.close()
        if self.starter is not None:
            self.starter.close()

    # -- the loop -----------------------------------------------------------------------------------------

    def run(self, root: Process) -> int:
        """Run until `root` has ended, or a thread is at a breakpoint; returns the 32-bit exit status."""
        self.paused = None
        while not root.terminated and self.paused is None:
            if self.stop_requested is not None:
                raise self.stop_requested
            thread = self._next_thread()
            self.current_thread = thread
            try:
                self._run_slice(thread)
            except Unsupported as missing:
                raise located(missing, thread) from missing
            self.current_thread = None
            thread.make_ready()
        return root.exit_status

    def run_timers(self) -> None:
        """Expire what is due by now."""
        due = self.timers.next_due()
        if due is not None:
            now = self.clock.monotonic()
            if due <= now:
                self.timers.run(now)

    def tick(self) -> None:
        """Move the guest's clock page when a millisecond has passed."""
        now = self.clock.monotonic()
        if now - self._last_tick >= TICK:
            self._last_tick = now
            for hook in self.on_tick:
                hook(self)

    def end_slice(self) -> None:
        """Let others run before the current thread goes on."""
        self._slice_over = True

    def _next_thread(self) -> Thread:
        ready = self.ready
        self.poller.poll(0)
        self.run_timers()
        while True:
            while ready:
                thread = ready.popleft()
                thread.queued = False
                if thread.runnable:
                    self.tick()
                    return thread
            if self.stop_requested is not None:
                raise self.stop_requested
            self._idle()

    def _idle(self) -> None:
        """Nothing can run: block until a descriptor or a timer changes that."""
        due = self.timers.next_due()
        if due is None:
            if not self.poller:
                raise Deadlock(
                    "every thread of the program waits for something that cannot happen any more:\n"
                    + "\n".join(self._describe_waits()),
                    hint="run it under `nexus trace` to see how it came to that",
                )
            self.poller.poll(None)
        else:
            left = due - self.clock.monotonic()
            if left > 0 and not self.poller.poll(0 if self.clock.virtual else -(-left // TICK)):
                self.clock.advance(left)
        self.run_timers()

    def _describe_waits(self) -> list[str]:
        return [
            f"  process {process.id:#x} thread {thread.id:#x} in {thread.syscall} from {thread.caller()}"
            for process in self.processes
            for thread in process.threads
        ]

    def _run_slice(self, thread: Thread) -> None:
        """Run one thread until it blocks, ends or has used up its slice."""
        if thread.outcome is not None:
            wait, status, acquired = thread.outcome
            thread.outcome = None
            self._finish(thread, lambda: self._after_wait(thread, wait, status, acquired))
        run, vcpu, state = self._slices.run, thread.process.vcpu, thread.state
        calls = 0
        while thread.runnable:
            if thread.apcs:
                callback.deliver_special(thread)
            stop = run(vcpu, state) if thread.passed_hook is None else self._run_past_hook(thread)
            if stop.kind in (Exit.SYSCALL, Exit.HOOK):
                if stop.kind == Exit.SYSCALL:
                    self._syscall(thread)
                else:
                    self._hook(thread)
                    if self.paused is not None:
                        return
                calls += 1
                if calls < SYSCALLS_PER_SLICE and not self._slice_over and self.stop_requested is None:
                    continue
                self._slice_over = False
                self.clock.advance(TICK // 10)
                return
            if stop.kind == Exit.BUDGET:
                self.clock.advance(TICK // 10)
                return
            self._other_stop(thread, stop)

    def _hook(self, thread: Thread) -> None:
        if (thread.process, thread.state.rip) in self.breakpoints:
            self.paused = thread
            thread.passed_hook = thread.state.rip, thread.state.rsp
            return
        if self.hooks is None:
            raise RuntimeError("the vCPU stopped for a hook that nobody set")
        self.hooks.reached(thread)

    def _run_past_hook(self, thread: Thread) -> Stop:
        """Go on from a hooked address, unless the thread is not there any more. A fault that is settled
        brings it back there, and then the hook has been called already.
        """
        state, passed = thread.state, thread.passed_hook
        thread.passed_hook = None
        if passed != (state.rip, state.rsp):
            return self._slices.run(thread.process.vcpu, state)
        stop = self._slices.run(thread.process.vcpu, state, past_hook=True)
        if stop.kind == Exit.FAULT and passed == (state.rip, state.rsp):
            thread.passed_hook = passed
        return stop

    def _other_stop(self, thread: Thread, stop: Stop) -> None:
        if stop.kind == Exit.UNIMPLEMENTED:
            raise Unsupported(
                f"the instruction {self._instruction_bytes(thread)}",
                thread.process.describe_address(thread.state.rip),
                "src/nexus/isa/x86/semantics",
            )
        exceptions.on_stop(thread, stop)

    def _instruction_bytes(self, thread: Thread) -> str:
        try:
            return thread.process.window.read_forced(thread.state.rip, 15).hex(" ")
        except GuestFault:
            return "at an unreadable address"

    # -- syscalls -----------------------------------------------------------------------------------------

    def return_address(self, thread: Thread) -> int:
        """Where the current syscall's stub returns to."""
        try:
            return thread.process.window.u64(thread.state.rsp)
        except GuestFault:
            return int(thread.state.rip)

    def _syscall(self, thread: Thread) -> None:
        state = thread.state
        number = state.rax & 0xFFFF_FFFF
        entry = self.numbers.entry(number)
        if entry is None:
            self._unknown_syscall(thread, number)
            return
        raw = (state.r10, state.rdx, state.r8, state.r9)
        stack = state.rsp
        thread.syscall = entry.name
        if entry.stub_reason:
            self.stub_counts[entry.name] = self.stub_counts.get(entry.name, 0) + 1
        if self.trace is not None:
            self.trace.enter(thread, entry, raw, stack)
        self._finish(thread, lambda: entry.invoke(thread.call, raw, stack))

    def _unknown_syscall(self, thread: Thread, number: int) -> None:
        name = self.numbers.name(number)
        if name is None:
            thread.state.rax = Status.INVALID_SYSTEM_SERVICE
            return
        raise Unsupported(f"the syscall {name}", thread.caller(), "src/nexus/nt/syscalls")

    def _after_wait(self, thread: Thread, wait: Wait, status: int, acquired: object) -> Any:
        return status if wait.then is None else wait.then(thread.call, status, acquired, *wait.data)

    @staticmethod
    def attempt(step: Callable[[], Any]) -> Any:
        """The result of one step of a syscall; failures that a guest may cause become its status."""
        try:
            return step()
        except NtError as error:
            return error.status
        except GuestFault:
            return Status.ACCESS_VIOLATION
        except HostMemoryError:
            return Status.NO_MEMORY
        except OSError as error:
            if error.errno not in (EMFILE, ENFILE):
                raise
            return Status.TOO_MANY_OPENED_FILES

    def _finish(self, thread: Thread, step: Callable[[], Any]) -> None:
        """Do the next step of a syscall and turn its result into what the guest sees."""
        while True:
            result = self.attempt(step)
            if not isinstance(result, Wait):
                break
            ended = self._try_wait(thread, result)
            if ended is None:
                return
            step = partial(self._after_wait, thread, result, *ended)
        if self.trace is not None:
            self.trace.leave(thread, result)
        thread.syscall = ""
        if thread.terminated:
            return
        if isinstance(result, UserCallback):
            callback.enter(thread, result)
        elif not isinstance(result, Resume):
            thread.state.rax = (result or 0) & _U64
            if result == Status.USER_APC and thread.apcs:
                callback.deliver_apc(thread)

    def _try_wait(self, thread: Thread, wait: Wait) -> tuple[int, object] | None:
        """The outcome if the wait ends at once; else the thread now waits."""
        if thread.terminated:
            return Status.THREAD_IS_TERMINATING, None
        ended = wait.satisfied(thread)
        if ended is not None:
            return ended
        if wait.alertable:
            if thread.alerted:
                thread.alerted = False
                return Status.ALERTED, None
            if thread.apcs:
                return Status.USER_APC, None
        if wait.deadline is not None and wait.deadline <= self.clock.monotonic():
            return Status.TIMEOUT, None
        thread.begin_wait(wait)
        return None
