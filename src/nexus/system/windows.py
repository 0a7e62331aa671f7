"""A Windows machine put together: sysroot, drives, kernel, engine; and the Python API over it.

    win = nexus.windows()
    result = win.run("tool.exe", "--version")

Each `run` is a machine of its own: nothing but a kept drive survives it. This is the only module that knows
all parts.
"""

from __future__ import annotations

import os

from nexus.base import terminal
from nexus.base.errors import NexusError, NotFound, UsageError, host_failed
from nexus.isa.x86.cpuid import DEFAULT
from nexus.loader.runnable import check_program
from nexus.loader.source import FileBytes
from nexus.machine.window import Window
from nexus.nt import access, syscalls
from nexus.nt.cm import registry_defaults, registry_store
from nexus.nt.io.file_stream import HostStream
from nexus.nt.kernel import Kernel
from nexus.nt.mm.section import SEC_IMAGE, Section, SectionSource, image_section
from nexus.nt.mm.vad import PAGE_EXECUTE_READ
from nexus.nt.numbers import Numbers
from nexus.nt.ps.peb import Parameters
from nexus.nt.ps.process import Process
from nexus.nt.ps.start import Starter
from nexus.nt.trace import Trace
from nexus.system import command_line, guest_environment, paths, starts, sysroot
from nexus.system.drive import Drive, volumes
from nexus.system.interrupts import Interrupts, TimeLimit
from nexus.system.numbers_cache import syscall_names
from nexus.system.permissions import Network, Permissions, protected
from nexus.system.script_cache import registry_script
from nexus.system.streams import Streams
from nexus.system.sysroot import Sysroot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from nexus.isa.x86.cpuid import Cpu
    from nexus.machine.measure import Measure
    from nexus.machine.vcpu import Vcpu
    from nexus.nt.hook import Hook
    from nexus.nt.ps.crash import Crash
    from nexus.nt.ps.thread import Thread
    from nexus.system.live import LiveMachine

    F = TypeVar("F", bound=Callable[..., Any])

assert syscalls.__all__  # imported to fill the table of system calls

USER_SID_TEXT = "S-1-5-21-0-0-0-1000"
DEFAULT_DISK = 4 << 30
_HANDLE_ATTRIBUTE_INHERIT = 2


class GuestTimeout(NexusError):
    """`run(timeout=...)` passed; `result` holds what was captured until then."""

    exit_code = 124

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class GuestCrash(NexusError):
    """The program ended by an unhandled exception and `check=True` was given."""

    exit_code = 134

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class Result:
    """How a run ended: the 32-bit exit code, captured output (bytes; None when not captured), the crash if
    any; `report` is what `--report` writes, `events` are the system calls if they were asked for.
    """

    __slots__ = ("crash", "events", "exit_code", "report", "stderr", "stdout")

    def __init__(
        self, exit_code: int, stdout: bytes | None, stderr: bytes | None, crash: Crash | None
    ) -> None:
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.crash = crash
        self.events: list[str] = []
        self.report: dict[str, object] = {}

    def complete(
        self, machine: Machine, process: Process, events: list[str], ended: NexusError | None
    ) -> None:
        """Fill in what has to be read from the machine while it is there."""
        from nexus.system.report import report

        self.events = events
        self.report = report(machine, process, ended, self.host_code if ended is None else ended.exit_code)

    @property
    def text(self) -> str:
        """Standard output as text, with `\\r\\n` as `\\n`."""
        return (self.stdout or b"").decode("utf-8", "replace").replace("\r\n", "\n")

    @property
    def host_code(self) -> int:
        """The exit code a Linux process can have: the low 8 bits, never 0 for a failure, 134 for a crash."""
        if self.crash is not None:
            return 134
        return self.exit_code & 0xFF or (1 if self.exit_code else 0)


class Settings:
    """Everything of a machine that is not the program; `nexus.windows()` and the command line fill it in."""

    def __init__(self, found: Sysroot) -> None:
        self.sysroot = found
        self.permissions = Permissions()
        self.network: Network | None = None
        self.environment: dict[str, str] = {}
        self.drive: str | None = None
        self.cpu: Callable[[Window], Vcpu] | None = None
        self.cpu_name: str | None = None
        self.engine: str | None = None  # the best one that the host can run
        self.measure: Measure | None = None  # what takes the time of the guest's code
        self.seed: int | None = None
        self.processors = 1
        self.package: str | None = None
        self.memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        self.disk = DEFAULT_DISK
        self.processes = 256
        self.handles = 1 << 16
        self.wine_debug: bytes | None = None  # the table that `wine_debug.debug_options` makes
        self.hooks: list[Hook] = []  # of exported functions
        self.saves_starts = False  # in the cache, and uses those that are there (`starts.py`)


class Machine:
    """One kernel with its devices, ready to start one program. `close` removes what is not kept."""

    def __init__(self, settings: Settings, program: str, folder: str, trace: Trace | None = None) -> None:
        self.settings = settings
        self.program = os.path.realpath(program)
        self.folder = folder
        self._cpu = settings.cpu or _engine(settings.engine, settings.measure, settings.seed is not None)
        hooks = [*settings.hooks, *(trace.calls if trace is not None else ())]
        if hooks:
            from nexus.system import hooking

            hooking.check(hooks, settings.sysroot, self.program, folder)
        kernel = Kernel(
            Window,
            self._make_vcpu,
            Numbers(syscall_names(settings.sysroot)),
            seed=settings.seed,
            processors=settings.processors,
            handle_limit=settings.handles,
            process_limit=settings.processes,
            memory_limit=settings.memory,
            cpu=named_cpu(settings.cpu_name),
            trace=trace,
        )
        self.kernel = kernel
        self.io = kernel.io
        self.seen: list[Process] = []
        self.keeps_memory = False  # of processes that have ended: a snapshot may bring them back
        self._closed = False
        kernel.on_process_end.append(self._process_ended)
        self.drive = Drive(settings.drive)
        try:
            self._furnish(hooks)
        except BaseException:
            self.io.registry_path = None  # what could not be read is not written over
            self.close()
            raise

    def _furnish(self, hooks: list[Hook]) -> None:
        """Volumes, network, registry, what starts processes, and hooks."""
        settings, kernel = self.settings, self.kernel
        self.io.disk.limit = settings.disk
        self.grants, self.left_out = settings.permissions.grants(self.program, self.folder, settings.package)
        self.never_writable = protected(os.path.dirname(settings.sysroot.windows))
        for volume in volumes(
            self.drive, settings.sysroot, self.grants, self.never_writable, self.io.refusals
        ):
            self.io.add_volume(volume)
        self.network = settings.network or settings.permissions.network()
        self.io.network = self.network
        registry_defaults.fill(
            self.io.registry,
            USER_SID_TEXT,
            guest_environment.USER,
            settings.processors,
            kernel.clock.system(),
        )
        self.io.registry_path = self.drive.registry
        if self.io.registry_path is not None:
            registry_store.load(self.io.registry, self.io.registry_path)
        kernel.starter = Starter(kernel, settings.sysroot.dll, settings.sysroot.nls)
        kernel.starter.script = registry_script(settings.sysroot)
        if settings.wine_debug is not None:
            kernel.starter.debug_options = settings.wine_debug
            kernel.debug_output = terminal.pass_on
        if hooks:
            from nexus.system import hooking

            hooking.install(kernel, settings.sysroot, hooks)

    def _make_vcpu(self, window: Window) -> Vcpu:
        """A processor with the kernel's time, one of as many as it knows."""
        vcpu = self._cpu(window)
        machine = vcpu.machine
        machine.ticks, machine.processors = self.kernel.clock.time_stamp, self.settings.processors
        machine.random_bytes = self.kernel.random_bytes
        machine.cpu = self.kernel.cpu
        return vcpu

    def start(
        self,
        arguments: Sequence[str],
        streams: tuple[int, int, int],
        raw: bool = False,
        name: str | None = None,
    ) -> Process:
        """Create the first process; `streams` are the host descriptors it gets as standard handles."""
        process, section, parameters = self.new_process(arguments, streams, raw, name)
        thread = self._resume(process, section, parameters)
        if thread is None:
            assert self.kernel.starter is not None
            thread = self.kernel.starter.start(process, section, parameters)
        thread.make_ready()
        return process

    def _resume(self, process: Process, section: Section, parameters: Parameters) -> Thread | None:
        """The first thread from a saved start, if there is one."""
        if self.kernel.trace is not None or not starts.usable(self.settings):
            return None
        guest_path = parameters.strings["ImagePathName"]
        saved = starts.find(self.settings, self.program, guest_path, parameters.environment)
        if saved is None:
            return None
        from nexus.nt.ps.start_resume import resume

        try:
            return resume(process, section, parameters, saved.start, saved.fd)
        finally:
            saved.close()

    def new_process(
        self, arguments: Sequence[str], streams: tuple[int, int, int], raw: bool, name: str | None
    ) -> tuple[Process, Section, Parameters]:
        """A process with standard handles and nothing mapped, the program, and what it is started with."""
        kernel = self.kernel
        guest_path = name or paths.to_guest(self.program)
        window = kernel.make_window()
        process = Process(kernel, window, kernel.make_vcpu(window))
        fd = os.open(self.program, os.O_RDONLY | os.O_CLOEXEC)
        try:
            source = SectionSource(fd, os.fstat(fd).st_size, "\\??\\" + guest_path, False)
            section = image_section(source, PAGE_EXECUTE_READ, SEC_IMAGE)
        finally:
            os.close(fd)
        parameters = Parameters(
            guest_path,
            command_line.join(guest_path, arguments, raw),
            self.current_directory(),
            guest_environment.variables(self.settings.environment, self.settings.processors),
        )
        for field, stream in zip(("hStdInput", "hStdOutput", "hStdError"), streams, strict=True):
            parameters.numbers[field] = self._stream_handle(process, stream)
        return process, section, parameters

    def current_directory(self) -> str:
        """The host's current folder if the guest may see it, else the top of its own drive."""
        folder = os.path.realpath(self.folder)
        visible = any(
            grant.read and (folder + "/").startswith(grant.path.rstrip("/") + "/") for grant in self.grants
        )
        return paths.to_guest(folder).rstrip("\\") + "\\" if visible else "C:\\"

    def _stream_handle(self, process: Process, fd: int) -> int:
        granted = HostStream.type.map_access(access.GENERIC_READ | access.GENERIC_WRITE)
        return process.handles.add(HostStream(self.io, fd, granted), granted, _HANDLE_ATTRIBUTE_INHERIT)

    def _process_ended(self, process: Process) -> None:
        """Keep what a report needs, and give back the memory of those that ended before."""
        if not self.keeps_memory:
            for earlier in self.seen:
                earlier.vcpu.close()
                earlier.window.close()
        if process not in self.seen:
            self.seen.append(process)

    def close(self) -> None:
        """Store what is kept, remove the rest, give all memory back. May be called again."""
        if self._closed:
            return
        self._closed = True
        self.kernel.close()
        for process in self.seen:
            process.vcpu.close()
            process.window.close()
            process.space.detach()
        self.io.save_registry()
        self.drive.close()


class Windows:
    """Runs programs with one set of settings; made by `nexus.windows()`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._running: list[Machine] = []

    def run(
        self,
        path: str | os.PathLike[str],
        *arguments: str,
        input: bytes | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        check: bool = False,
        capture: bool = True,
        events: bool = False,
    ) -> Result:
        """Run a program to its end, like subprocess.run. Raises GuestTimeout; with `check` also GuestCrash
        and NexusError for an exit code other than 0. `events` records every system call.
        """
        program = os.fspath(path)
        check_host_program(program)
        folder = os.path.abspath(os.fspath(cwd) if cwd is not None else os.getcwd())
        recorded: list[str] = []
        with HostFailures():
            streams = Streams(input, capture)
            try:
                machine = Machine(self.settings, program, folder, Trace(recorded.append) if events else None)
            except BaseException:
                streams.close()
                raise
        self._running.append(machine)
        try:
            with Interrupts(machine.kernel, timeout, signals=False):
                process = machine.start(arguments, streams.descriptors)
                try:
                    status = machine.kernel.run(process)
                except TimeLimit as limit:
                    result = Result(0, *streams.captured(), None)
                    result.complete(machine, process, recorded, limit)
                    raise GuestTimeout(str(limit), result) from None
            result = Result(status, *streams.captured(), process.crash)
            result.complete(machine, process, recorded, None)
        finally:
            self._running.remove(machine)
            streams.close()
            with HostFailures():
                machine.close()
        if check and result.crash is not None:
            raise GuestCrash(result.crash.text(), result)
        if check and result.exit_code:
            raise NexusError(f"{program} ended with exit code {result.exit_code:#x}")
        return result

    def machine(
        self,
        path: str | os.PathLike[str],
        *arguments: str,
        input: bytes | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> LiveMachine:
        """A program to be run in pieces, looked into, saved and put back: see `nexus.system.live`."""
        from nexus.system.live import live

        return live(self.settings, path, arguments, input, cwd, timeout)

    def hook(self, function: str, *, required: bool = True) -> Callable[[F], F]:
        """Decorate a function that sees, and may change, the calls of an exported function, like
        `kernel32!CreateFileW`: see `nexus.nt.hook`. It holds for the runs to come and, from within another
        hook, for the run it is in.

        A name that is not there is an error before the run; without `required` it is passed over.
        """
        from nexus.nt.hook import Hook
        from nexus.system import hooking

        def declare(handler: F) -> F:
            hook = Hook(function, handler, required)
            self.settings.hooks.append(hook)
            for machine in self._running:
                hooking.install(machine.kernel, self.settings.sysroot, [hook])
            return handler

        return declare


class HostFailures:
    """`with HostFailures():` turns a failure of the host inside, like a full disk, into a NexusError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise host_failed(error) from error


def windows(
    sysroot: str | Sysroot | None = None,
    permissions: Permissions | None = None,
    env: Mapping[str, str] | None = None,
    drive: str | os.PathLike[str] | None = None,
    cpu: str | Callable[[Window], Vcpu] | None = None,
    deterministic: int | None = None,
    engine: str | None = None,
) -> Windows:
    """A Windows machine for programs: DLLs, permissions, environment, a kept C:, a CPU, a seed, an engine.

    `cpu` is the name of the processor that CPUID describes ("zen3"; `isa/x86/cpus.py`), or what makes the
    virtual processors.
    """
    settings = Settings(find_sysroot(sysroot))
    settings.permissions = permissions or Permissions()
    settings.environment = dict(env or {})
    settings.drive = None if drive is None else os.fspath(drive)
    if isinstance(cpu, str):
        named_cpu(cpu)
        settings.cpu_name = cpu
    else:
        settings.cpu = cpu
    settings.seed = deterministic
    settings.engine = engine
    return Windows(settings)


def find_sysroot(wanted: str | Sysroot | None) -> Sysroot:
    return wanted if isinstance(wanted, Sysroot) else sysroot.find(wanted)


def check_host_program(path: str) -> None:
    """Refuse what cannot be run, from its headers and before anything is set up."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", hint="give a path, pypi:NAME or npm:NAME") from None
    except OSError as error:
        raise NotFound(f"{path} cannot be opened: {error.strerror}") from None
    try:
        if os.path.isdir(path):
            raise NotFound(f"{path} is a folder", hint="name the .exe in it")
        check_program(FileBytes(fd, os.fstat(fd).st_size), os.path.basename(path))
    finally:
        os.close(fd)


def named_cpu(name: str | None) -> Cpu:
    """The processor of a name, by default one that has everything; raises UsageError."""
    if name is None:
        return DEFAULT
    from nexus.isa.x86 import cpus

    if name not in cpus.NAMES:
        raise UsageError(f"there is no processor called {name!r}", hint=f"known: {', '.join(cpus.NAMES)}")
    return cpus.cpu(name)


def _engine(name: str | None, measure: Measure | None, repeatable: bool) -> Callable[[Window], Vcpu]:
    """What makes the processors of a machine. T1 is built, if need be, before the wall is up; a run that did
    not ask for it does not wait for that.

    When a region is compiled is not the same twice, nor where it looks at the budget what it was before: runs
    that repeat have none.
    """
    from nexus.machine.vcpu import Vcpu

    engine = "t0"
    if name != "t0":
        from nexus.backend.stencils.engine import available
        from nexus.machine.native import prepare

        if name is not None or available():
            prepare(meanwhile=name is None)
            engine = "t2" if name == "t2" and not repeatable else "t1"
    if measure is not None:
        from nexus.machine.measure import MeasuredVcpu

        return lambda window: MeasuredVcpu(measure, window, engine)
    return lambda window: Vcpu(window, engine)
