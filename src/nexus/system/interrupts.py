"""Signals and the time limit of a run, handed to the kernel's loop through one descriptor.

A signal handler and a timer thread may act at any moment, the kernel only between two slices of guest code.
Both write to an eventfd that the kernel's poller watches; what has to happen then happens in `_wake`,
inside the loop.

The first SIGINT or SIGTERM becomes CTRL_C_EVENT or CTRL_CLOSE_EVENT in the guest; a second one, or five
seconds, end it.
"""

from __future__ import annotations

import os

from nexus.base.errors import NexusError
from nexus.nt.poller import READABLE
from nexus.nt.ps.start_thread import start_thread
from nexus.nt.ps.thread import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from threading import Timer
    from types import FrameType
    from typing import Any

    from nexus.nt.kernel import Kernel
    from nexus.nt.ps.process import Process

if not TYPE_CHECKING:
    import _signal as signal  # without the enumerations that `signal` adds, for a quick start

CTRL_C_EVENT, CTRL_CLOSE_EVENT = 0, 2
GRACE = 5.0
_EVENTS: dict[int, int] = {
    signal.SIGINT: CTRL_C_EVENT,
    signal.SIGTERM: CTRL_CLOSE_EVENT,
    signal.SIGHUP: CTRL_CLOSE_EVENT,
}
_NAMES: dict[int, str] = {signal.SIGINT: "SIGINT", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Interrupted(NexusError):
    """The run was ended by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {_NAMES[number]}")
        self.number = number
        self.exit_code = 128 + number


class TimeLimit(NexusError):
    """The run took longer than it was allowed to."""

    exit_code = 124


class BrokenOutput(NexusError):
    """Whoever read our output is gone; like SIGPIPE, this ends the run without a word."""

    exit_code = 128 + signal.SIGPIPE


class Interrupts:
    """`with Interrupts(kernel, ...)`: `signals` installs handlers, which only the main thread can, and
    restores the earlier ones at the end.
    """

    def __init__(self, kernel: Kernel, timeout: float | None, signals: bool) -> None:
        self.kernel = kernel
        self.timeout = timeout
        self.received: list[int] = []
        self.expired = False
        self._handle_signals = signals
        self._before: dict[int, Any] = {}
        self._timers: list[Timer] = []
        self._event = -1
        self._threads: list[Thread] = []
        self.ended_by_default = False

    def __enter__(self) -> Interrupts:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Where a signal or the time limit can still come, a guest that waits for nothing else is no deadlock.
        passive = not self._handle_signals and self.timeout is None
        self._watch = self.kernel.poller.watch(self._event, READABLE, self._wake, passive)
        if self._handle_signals:
            for number in _EVENTS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._on_signal)
        if self.timeout is not None:
            self._start_timer(self.timeout)
        self.kernel.on_process_end.append(self._process_ended)
        return self

    def __exit__(self, *exception: object) -> None:
        for timer in self._timers:
            timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.kernel.poller.unwatch(self._watch)
        os.close(self._event)
        self._event = -1

    def _start_timer(self, seconds: float) -> None:
        from threading import Timer

        timer = Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    def _expire(self) -> None:
        self.expired = True
        self._notify()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        self._notify()

    def _notify(self) -> None:
        if self._event >= 0:
            os.eventfd_write(self._event, 1)

    def _wake(self, events: int) -> None:
        """Inside the kernel's loop: end the run, or tell the guest."""
        os.eventfd_read(self._event)
        if self.expired and not self.received:
            assert self.timeout is not None
            self.kernel.stop_requested = TimeLimit(
                f"the program did not end within {self.timeout:g} s and was ended"
            )
        elif len(self.received) > 1 or self.expired:
            self.kernel.stop_requested = Interrupted(self.received[0])
        elif self.received:
            if not self._tell_guest(_EVENTS[self.received[0]]):
                self.kernel.stop_requested = Interrupted(self.received[0])
            self._start_timer(GRACE)

    def _process_ended(self, process: Process) -> None:
        """Wine's default handler of CTRL_CLOSE_EVENT ends the process with 0 from the thread that we
        started.
        """
        if self.kernel.current_thread in self._threads and process.exit_status == 0:
            self.ended_by_default = True

    def _tell_guest(self, event: int) -> bool:
        """Start a thread in each process that runs its console control handlers; False if no one can hear
        it.
        """
        told = False
        for process in self.kernel.processes:
            routine = process.symbols.get("__wine_ctrl_routine")
            if routine is None or process.terminated or not process.threads:
                continue
            thread = Thread(process)
            start_thread(thread, routine, event)
            thread.make_ready()
            self._threads.append(thread)
            told = True
        return told
