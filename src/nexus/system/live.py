"""A program that Python holds in its hand: run it to a place, look, call its functions, go back, do it again.

    with win.machine("tool.exe", "input.txt") as machine:
        machine.run_to("tool.exe!parse")          # or an address; `machine.entry` is the program's own
        before = machine.snapshot()
        for case in cases:
            machine.write(buffer, case)
            print(machine.run())                  # to the end of the program
            machine.restore(before)

Made for fuzzing and analysis: a `restore` takes a fraction of a millisecond (`docs/experiments/snapshot.md`).
"""

from __future__ import annotations

import os

from nexus.base.errors import NexusError, NotFound, UsageError
from nexus.nt.hook import module_key
from nexus.nt.hooks import exports_of
from nexus.nt.mm.vad import PAGE, PAGE_EXECUTE_READWRITE, PAGE_READWRITE, round_up
from nexus.nt.snapshot import Snapshot
from nexus.system.interrupts import Interrupts
from nexus.system.streams import Streams
from nexus.system.windows import HostFailures, Machine, check_host_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus.isa.x86.registers import CpuState
    from nexus.nt.ps.crash import Crash
    from nexus.nt.ps.process import Process
    from nexus.nt.ps.thread import Thread
    from nexus.system.windows import Settings

_RETURN = 0x8000  # where called functions return to: below what a guest can map, so nobody else gets there
_SHADOW = 0x20  # what a caller leaves to the called function, x64 calling convention
_U64 = (1 << 64) - 1


class Ended(NexusError):
    """The program came to its end where a place or a return was waited for; `status` has 32 bits."""

    def __init__(self, code: int, crash: Crash | None) -> None:
        super().__init__(crash.text() if crash is not None else f"the program ended with {code:#x}")
        self.status = code
        self.crash = crash


class SavedMachine:
    """A moment of one machine, made by `LiveMachine.snapshot`. `close` gives its memory back earlier than the
    machine's end.
    """

    __slots__ = ("_machine", "_output", "_snapshot", "_thread")

    def __init__(self, machine: LiveMachine) -> None:
        self._machine = machine
        self._snapshot = Snapshot(machine.machine.kernel)
        self._thread = machine.thread
        self._output = machine.streams.sizes()

    def restore(self, machine: LiveMachine) -> None:
        if machine is not self._machine:
            raise UsageError("a snapshot belongs to the machine that it was taken of")
        self._snapshot.restore()
        machine.thread = self._thread
        machine.streams.cut(self._output)

    def close(self) -> None:
        self._snapshot.close()


class LiveMachine:
    """One program in a machine of its own, at first before its first instruction. `timeout` is for each run,
    in seconds.
    """

    def __init__(
        self,
        settings: Settings,
        path: str,
        arguments: Sequence[str],
        input: bytes | None,
        cwd: str,
        timeout: float | None,
    ) -> None:
        check_host_program(path)
        self.timeout = timeout
        self._snapshots: list[SavedMachine] = []
        with HostFailures():
            self.streams = Streams(input, True)
            try:
                self.machine = Machine(settings, path, cwd)
            except BaseException:
                self.streams.close()
                raise
        self.machine.keeps_memory = True
        self.process: Process = self.machine.start(arguments, self.streams.descriptors)
        self.thread: Thread = self.process.threads[0]

    def __enter__(self) -> LiveMachine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the program and give everything back, its snapshots too."""
        for snapshot in self._snapshots:
            snapshot.close()
        self._snapshots.clear()
        self.streams.close()
        with HostFailures():
            self.machine.close()

    # running ---------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run to the end of the program; returns its 32-bit exit code."""
        thread = self._run()
        if thread is not None:
            raise UsageError(f"the program is at the breakpoint {thread.state.rip:#x}")
        return self.process.exit_status

    def run_to(self, place: str | int) -> CpuState:
        """Run until a thread is about to execute an address or a function, `app.exe!parse`; returns its
        registers. Raises Ended.
        """
        address = self.address(place) if isinstance(place, str) else place
        thread = self._run(address)
        if thread is None:
            raise Ended(self.process.exit_status, self.process.crash)
        self.thread = thread
        return thread.state

    def call(self, function: str | int, *arguments: int) -> int:
        """Let the current thread call a function of the program, with integers and addresses as arguments;
        returns rax. Its registers are what they were afterwards. Other threads may run meanwhile.
        Raises Ended.
        """
        self._check_alive()
        address = self.address(function) if isinstance(function, str) else function
        thread, state, window = self.thread, self.thread.state, self.process.window
        if not thread.runnable or thread.outcome is not None:
            raise UsageError(f"the thread is in a system call, {thread.syscall}: run it to a place first")
        before = bytes(state.buffer)
        stack = (state.rsp - _SHADOW - 8 * len(arguments) & -16) - 8
        window.write(stack, _RETURN.to_bytes(8, "little"))
        for number, value in enumerate(arguments):
            if number < 4:
                setattr(state, ("rcx", "rdx", "r8", "r9")[number], value & _U64)
            else:
                window.w64(stack + 8 + 8 * number, value & _U64)
        state.rsp, state.rip = stack, address
        if self._run(_RETURN) is not thread:
            raise Ended(self.process.exit_status, self.process.crash)
        result = int(state.rax)
        state.buffer[:] = before
        thread.passed_hook = None
        return result

    def _run(self, address: int | None = None) -> Thread | None:
        """The thread that has got to an address; None at the end of the program."""
        kernel, process = self.machine.kernel, self.process
        self._check_alive()
        if address is not None:
            process.vcpu.hook(address)
            kernel.breakpoints.add((process, address))
        try:
            if self.timeout is None:
                kernel.run(process)
            else:
                with Interrupts(kernel, self.timeout, signals=False):
                    kernel.run(process)
        finally:
            kernel.current_thread = None
            kernel.breakpoints.clear()
            if address is not None and (kernel.hooks is None or not kernel.hooks.has(process, address)):
                process.vcpu.unhook(address)
        return kernel.paused

    def _check_alive(self) -> None:
        if self.process.terminated:
            raise Ended(self.process.exit_status, self.process.crash)

    # looking ---------------------------------------------------------------------------------------

    @property
    def entry(self) -> int:
        """The program's entry point, where its own code begins (but for TLS callbacks and its DLLs)."""
        return self.process.image_entry

    @property
    def output(self) -> tuple[bytes, bytes]:
        """What was written to standard output and standard error."""
        out, error = self.streams.captured()
        return out or b"", error or b""

    def address(self, name: str) -> int:
        """The address of an export, `module!name`; raises NotFound."""
        wanted, _, symbol = name.partition("!")
        key = module_key(wanted)
        for module in self.process.modules:
            if module_key(module.name) == key:
                export = exports_of(self.process, module).find(symbol)
                if export is None or export.forward:
                    raise NotFound(f"{module.name} has no {symbol} of its own")
                return module.base + export.address
        raise NotFound(
            f"{wanted} is not loaded", hint="run to the entry first: DLLs come with the program's start"
        )

    def read(self, address: int, size: int) -> bytes:
        """Memory, whatever its protection; raises GuestFault where there is none."""
        return self.process.window.read_forced(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Change memory, whatever its protection; raises GuestFault where there is none."""
        self.process.window.write_forced(address, data)

    def allocate(self, size: int, executable: bool = False) -> int:
        """New zero memory of the program; returns its address."""
        protection = PAGE_EXECUTE_READWRITE if executable else PAGE_READWRITE
        region = self.process.space.allocate_for_kernel(round_up(size, PAGE), protection, name="nexus")
        return region.base

    # going back ------------------------------------------------------------------------------------

    def snapshot(self) -> SavedMachine:
        """This moment, to come back to: memory, registers, threads, handles, protections, timers, the
        registry. What was done outside of the machine is not among it (`nt/snapshot.py`): files that were
        written, removed or renamed stay so. Raises NotReversible for sockets and watched folders.
        """
        saved = SavedMachine(self)
        self._snapshots.append(saved)
        return saved

    def restore(self, saved: SavedMachine) -> None:
        """Be at that moment again. The output since then is taken back."""
        saved.restore(self)


def live(
    settings: Settings,
    path: str | os.PathLike[str],
    arguments: Sequence[str],
    input: bytes | None,
    cwd: str | os.PathLike[str] | None,
    timeout: float | None,
) -> LiveMachine:
    """What `Windows.machine` returns."""
    folder = os.path.abspath(os.fspath(cwd) if cwd is not None else os.getcwd())
    return LiveMachine(settings, os.fspath(path), arguments, input, folder, timeout)
