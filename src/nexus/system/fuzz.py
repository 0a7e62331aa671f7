"""System calls with hostile arguments, made at random from a seed, and what all such searches share.

What may happen: an error meant for the user (BadImage, Unsupported), an NTSTATUS, a guest fault. Any other
exception, a hang or unbounded memory is a `Finding`, with the seed and the case that repeat it.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nexus.base.errors import Unsupported
from nexus.isa.x86 import helpers
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import READ, WRITE, Window
from nexus.nt.ps.process import Process
from nexus.nt.ps.thread import Thread
from nexus.nt.syscall import SYSCALLS
from nexus.system.sysroot import Sysroot
from nexus.system.windows import Machine, Settings

SECONDS = 5
_PATIENCE = 6  # how much longer than its own time a case may take when the machine is busy or it waits
MEMORY = 6 << 30
_SCRATCH, _SCRATCH_SIZE = 0x10_0000, 0x1_0000
_READ_ONLY = 0x20_0000


class Finding(Exception):
    """A case that did what none may do."""


class Hang(BaseException):
    """A case took too long. Not an Exception, so that nothing on the way swallows it."""


@contextmanager
def guarded(case: str, seconds: int = SECONDS) -> Iterator[None]:
    """Turn a hang or an unexpected exception inside into a Finding."""

    def alarm(number: int, frame: FrameType | None) -> None:
        raise Hang

    kinds = (signal.SIGALRM, signal.SIGPROF)
    before = [signal.signal(kind, alarm) for kind in kinds]
    signal.setitimer(signal.ITIMER_PROF, seconds)  # what counts on a busy machine is our own time
    signal.alarm(_PATIENCE * seconds)
    try:
        yield
    except Hang:
        raise Finding(f"{case}: no end after {seconds} s\n{traceback.format_exc()}") from None
    except Exception:
        raise Finding(f"{case}:\n{traceback.format_exc()}") from None
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def limit_memory() -> None:
    """Make unbounded growth an error; the guest's reserved window does not count as use, so data is
    limited.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY if hard < 0 else min(MEMORY, hard), hard))


class NoCpu(Vcpu):
    """System calls are invoked directly; nothing ever runs."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.machine = helpers.Machine(time.perf_counter_ns, os.urandom, window.read, window.write)

    def close(self) -> None:
        """There is nothing to give back."""


class Symbols(dict[str, int]):
    """ntdll's functions, for calls that enter the guest; no ntdll is mapped, all lead to one place."""

    def __missing__(self, name: str) -> int:
        return _SCRATCH


class Target:
    """A kernel with one process and one thread, no CPU, and a private drive."""

    def __init__(self, sysroot: Sysroot, seed: int) -> None:
        settings = Settings(sysroot)
        settings.cpu = NoCpu
        settings.seed = seed
        settings.memory = 1 << 30
        settings.disk = 16 << 20
        self.machine = Machine(settings, sysroot.dll("cmd.exe"), "/")
        kernel = self.machine.kernel
        window = kernel.make_window()
        self.process = Process(kernel, window, kernel.make_vcpu(window))
        self.process.symbols = Symbols()
        window.map(_SCRATCH, _SCRATCH_SIZE, READ | WRITE)
        window.map(_READ_ONLY, 0x1000, READ)
        self.top = window.top
        self.thread = Thread(self.process)
        kernel.current_thread = self.thread

    def usable(self) -> bool:
        """Whether the process still lives and has its scratch memory, which a call may have taken away."""
        if self.process.terminated or self.thread.terminated or self.thread.suspend_count:
            return False
        window = self.process.window
        return all(
            window.access(page) == READ | WRITE for page in range(_SCRATCH, _SCRATCH + _SCRATCH_SIZE, 0x1000)
        )

    def value(self, source: random.Random) -> int:
        """One raw argument: plausible, wild, or plausible with a wild upper half."""
        handles = [handle for handle, _ in self.process.handles.items()] or [0]
        pick = source.randrange(10)
        if pick < 3:
            value = _SCRATCH + source.randrange(0, _SCRATCH_SIZE - 0x400, 8)
        elif pick == 3:
            value = source.choice(handles)
        elif pick == 4:
            value = source.randrange(0x400)
        elif pick == 5:
            value = source.choice((0, 1, 2, 4, 8, 0x10, 0x1000, 0x3000, 0x10_0000, 0x8000_0000, 0xFFFF_FFFF))
        elif pick == 6:
            value = source.choice((-1, -2, -3, -4, -5, -6)) & (1 << 64) - 1
        elif pick == 7:
            value = source.choice(
                (1, 0x1003, _SCRATCH + 1, _SCRATCH + _SCRATCH_SIZE - 3, _READ_ONLY, _READ_ONLY + 0xFFC)
            )
        elif pick == 8:
            value = source.choice(
                (self.top - 4, self.top, 1 << 47, 0xFFFF_8000_0000_0000, (1 << 63) | _SCRATCH)
            )
        else:
            value = source.getrandbits(64)
        if source.random() < 0.2:
            value = (value & 0xFFFF_FFFF) | source.getrandbits(32) << 32
        return value

    def fill(self, source: random.Random) -> None:
        """Let the memory that pointers lead to hold values of the same kind."""
        words = [self.value(source) for _ in range(64)]
        data = b"".join(word.to_bytes(8, "little") for word in words)
        self.process.window.write(_SCRATCH + source.randrange(0, _SCRATCH_SIZE - 0x400, 8), data)

    def call(self, name: str, source: random.Random) -> str:
        """One call with hostile arguments; returns its text."""
        self.fill(source)
        entry = SYSCALLS[name]
        values = [self.value(source) for _ in range(16)]
        stack = _SCRATCH + _SCRATCH_SIZE - 0x200
        self.process.window.write(stack + 0x28, b"".join(value.to_bytes(8, "little") for value in values[4:]))
        text = f"{name}({', '.join(f'{value:#x}' for value in values[: max(4, len(entry.parameters))])})"
        raw = (values[0], values[1], values[2], values[3])
        with guarded(text):
            try:
                self.machine.kernel.attempt(lambda: entry.invoke(self.thread.call, raw, stack))
            except Unsupported:
                return text
        return text


def fuzz_syscalls(sysroot: Sysroot, cases: int, seed: int, names: list[str]) -> None:
    """Call each system call `cases` times; raises Finding."""
    for name in names:
        target: Target | None = None
        try:
            for number in range(cases):
                source = random.Random(f"{seed}:{name}:{number}")
                if target is None or not target.usable() or number % 500 == 0:
                    if target is not None:
                        target.machine.close()
                    target = Target(sysroot, seed)
                try:
                    target.call(name, source)
                except Finding as finding:
                    raise Finding(f"case {number} of seed {seed}: {finding}") from None
        finally:
            if target is not None:
                target.machine.close()
