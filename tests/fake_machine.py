"""A kernel without a CPU: syscalls are called through their decoders with raw arguments, on real window
memory.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import nexus.nt.syscalls  # noqa: F401  (fills the table)
from nexus.machine.window import READ, WRITE, Window
from nexus.nt.kernel import Kernel
from nexus.nt.numbers import Numbers
from nexus.nt.ps.process import Process
from nexus.nt.ps.thread import Thread
from nexus.nt.status import Status
from nexus.nt.syscall import SYSCALLS
from nexus.nt.wait import Wait

SCRATCH = 0x10000
SCRATCH_SIZE = 0x40000
STACK = SCRATCH + SCRATCH_SIZE - 0x1000


class Machine:
    """One process with one thread, `SCRATCH` mapped read-write, virtual time.

    `machine.NtSetEvent(handle, 0)` passes raw integers and returns rax; a blocking call returns its `Wait`
    (see `outcome`). `put(bytes)`, `unicode(text)` and `attributes(name)` place data and return addresses.
    """

    def __init__(self) -> None:
        self.kernel = Kernel(lambda: Window(1 << 32), lambda window: None, Numbers({}), seed=1)  # type: ignore[arg-type,return-value]
        self.process = self.new_process()
        self.thread = self.new_thread()
        self.kernel.current_thread = self.thread
        self.memory = self.process.window
        self._next = SCRATCH

    def new_process(self) -> Process:
        process = Process(self.kernel, self.kernel.make_window(), None)  # type: ignore[arg-type]
        process.window.map(SCRATCH, SCRATCH_SIZE, READ | WRITE)
        return process

    def new_thread(self, process: Process | None = None) -> Thread:
        return Thread(process or self.process)

    def put(self, data: bytes | int) -> int:
        """Place data (or that many zero bytes) in guest memory, 16-byte aligned; returns the address."""
        if isinstance(data, int):
            data = bytes(data)
        address = self._next
        self._next += (len(data) + 15) & ~15 or 16
        assert self._next < STACK - 0x1000
        self.memory.write(address, data)
        return address

    def unicode(self, text: str) -> int:
        encoded = text.encode("utf-16-le", "surrogatepass")
        buffer = self.put(encoded + b"\0\0")
        length = len(encoded).to_bytes(2, "little")
        maximum = (len(encoded) + 2).to_bytes(2, "little")
        return self.put(length + maximum + bytes(4) + buffer.to_bytes(8, "little"))

    def attributes(self, name: str | None = None, flags: int = 0x40, root: int = 0) -> int:
        """An OBJECT_ATTRIBUTES."""
        fields = (0x30, root, self.unicode(name) if name is not None else 0, flags, 0, 0)
        return self.put(b"".join(field.to_bytes(8, "little") for field in fields))

    def call(self, name: str, *arguments: int, thread: Thread | None = None) -> Any:
        """Invoke a syscall with raw 64-bit arguments as the guest would; returns rax or the Wait it blocks
        in.
        """
        thread = thread or self.thread
        self.kernel.current_thread = thread
        values = [a & 0xFFFF_FFFF_FFFF_FFFF for a in arguments] + [0] * 4
        raw = (values[0], values[1], values[2], values[3])
        stack = b"".join(a.to_bytes(8, "little") for a in values[4:])
        thread.process.window.write(STACK + 0x28, stack)
        step: Any = partial(SYSCALLS[name].invoke, thread.call, raw, STACK)
        while True:
            result = self.kernel.attempt(step)
            if not isinstance(result, Wait):
                return 0 if result is None else result
            ended = self.kernel._try_wait(thread, result)
            if ended is None:
                return result
            step = partial(self.kernel._after_wait, thread, result, *ended)

    def outcome(self, thread: Thread | None = None) -> Any:
        """The result of the blocked syscall whose wait has ended; None while it still waits."""
        thread = thread or self.thread
        if thread.outcome is None:
            return None
        (wait, status, acquired), thread.outcome = thread.outcome, None
        self.kernel.current_thread = thread
        result = self.kernel._after_wait(thread, wait, status, acquired)
        return 0 if result is None else result

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("Nt"):
            raise AttributeError(name)
        return lambda *arguments, **more: self.call(name, *arguments, **more)

    def new_handle(self, name: str, *arguments: int) -> int:
        """Call a syscall whose first argument receives a handle; returns the handle."""
        out = self.put(8)
        status = self.call(name, out, *arguments)
        assert status in (Status.SUCCESS, Status.OBJECT_NAME_EXISTS), hex(status)
        return self.memory.u64(out)
