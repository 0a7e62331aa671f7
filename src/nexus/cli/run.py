"""`nexus run [options] PROGRAM [arguments]`.

On the path between Enter and the guest's first instruction: argument scan, program, sysroot, machine.
Nothing is imported here that the start does not need; `nexus test` holds the list (`cli.gates`).
"""

from __future__ import annotations

import os

from nexus.base import bundle, terminal
from nexus.base.errors import NexusError, NotFound, UsageError
from nexus.cli import run_options
from nexus.cli.options import Parsed, help_text, parse
from nexus.cli.run_options import RUN, Limits
from nexus.system import packages, paths, permissions, sysroot
from nexus.system.interrupts import BrokenOutput, Interrupted, Interrupts
from nexus.system.wall import raise_wall
from nexus.system.windows import Machine, Settings, check_host_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nexus.machine.vcpu import Vcpu
    from nexus.machine.window import Window
    from nexus.nt.ps.process import Process
    from nexus.nt.trace import Trace
    from nexus.system.sysroot import Sysroot

SIGPIPE = 13
STATUS_CONTROL_C_EXIT = 0xC000013A
USAGE = """\
usage: nexus run [options] PROGRAM [arguments]

PROGRAM: a path, pypi:NAME[==VERSION][/EXE] or npm:NAME[@VERSION][/EXE]"""


def main(arguments: Sequence[str]) -> int:
    parsed = parse(arguments, RUN, "run")
    if parsed.flag("help") or not parsed.rest:
        print(f"{USAGE}\n\n{help_text(RUN)}")
        return 0 if parsed.flag("help") else 2
    return execute(parsed)


def preload() -> None:
    """Import what a run loads late, so that the import budget counts it."""
    from nexus.machine import native, tiers, vcpu

    assert native and tiers and vcpu


def execute(parsed: Parsed, trace: Trace | None = None, cpu: Callable[[Window], Vcpu] | None = None) -> int:
    """Run what the options say, on the processors that `cpu` makes if it is given; returns the exit code of
    nexus.
    """
    terminal.verbosity += parsed.flag("verbose") - parsed.flag("quiet")
    words = parsed.rest[1:]
    if words and words[0] == "--":
        words = words[1:]
    limits = Limits(parsed)
    granted = run_options.permissions(parsed)
    environment = run_options.environment(parsed)
    seed = run_options.seed(parsed)
    folder = working_folder(parsed)
    target = locate(parsed)
    settings = Settings(target.sysroot or sysroot.find(parsed.value("sysroot")))
    settings.package = target.package
    settings.cpu = cpu
    settings.permissions = granted
    settings.environment = environment
    settings.drive = parsed.value("drive")
    settings.seed = seed
    settings.engine = run_options.engine(parsed)
    settings.cpu_name = run_options.cpu(parsed)
    settings.wine_debug = run_options.wine_debug(parsed)
    measuring = Measuring(parsed) if parsed.flag("stats") or parsed.list("profile") else None
    if measuring is not None:
        settings.measure = measuring.measure
    settings.saves_starts = True
    settings.processes = limits.processes or settings.processes
    settings.handles = limits.handles or settings.handles
    settings.memory = limits.memory or settings.memory
    settings.disk = limits.disk or settings.disk
    machine = Machine(settings, target.path, folder, trace)
    try:
        return run_machine(machine, parsed, words, target.guest_name, limits.timeout, measuring)
    finally:
        machine.close()


def run_machine(
    machine: Machine,
    parsed: Parsed,
    words: Sequence[str],
    guest_name: str | None,
    timeout: float | None,
    measuring: Measuring | None = None,
) -> int:
    """Start the program, wait for its end and say what has to be said."""
    if machine.left_out:
        terminal.notice(machine.left_out)
    report = open_output("report", parsed.value("report"))
    if measuring is not None:
        measuring.begin(machine)
    process: Process | None = None
    machine.kernel.on_tick.append(lambda kernel: end_with_the_reader(machine))
    with Interrupts(machine.kernel, timeout, signals=True) as interrupts:
        ended: NexusError | None = None
        try:
            process = machine.start(words, (0, 1, 2), parsed.flag("raw-cmdline"), guest_name)
            bundle.keep()
            build_wall(machine)
            machine.kernel.run(process)
        except NexusError as error:
            ended = error
    if ended is None and process is not None and process.crash is None:
        ended = missing_part(machine, process.exit_status)
    code = exit_code(process, ended)
    explain(machine, process, ended)
    if measuring is not None:
        measuring.end()
    if report >= 0:
        from nexus.system.report import write_report

        write_report(report, machine, process, ended, code)
    if isinstance(ended, Interrupted):
        die_by(ended.number, machine)
    if (
        interrupts.received
        and process is not None
        and (process.exit_status == STATUS_CONTROL_C_EXIT or interrupts.ended_by_default)
    ):
        die_by(interrupts.received[0], machine)
    if isinstance(ended, BrokenOutput) or machine.io.broken_output:
        die_by(SIGPIPE, machine)
    return code


def missing_part(machine: Machine, status: int) -> NexusError | None:
    """What the loader in the guest did not find, when a program ended because of that."""
    if status < 0xC0000000:
        return None
    from nexus.system.missing_parts import missing_parts

    return missing_parts(machine.program, machine.settings.sysroot, status)


class Measuring:
    """`--stats` and `--profile`. Their modules are imported for runs that want them only."""

    def __init__(self, parsed: Parsed) -> None:
        from nexus.machine.measure import Measure
        from nexus.system.profile import Profile

        path = run_options.profile(parsed)
        self._file = open_output("profile", path)
        self._path = path
        self._profile = Profile()
        self._stats = parsed.flag("stats")
        self._began = 0.0
        self.measure = Measure(self._profile.sample if path is not None else None)

    def begin(self, machine: Machine) -> None:
        from time import perf_counter

        self._profile.kernel = machine.kernel
        self._began = perf_counter()

    def end(self) -> None:
        from time import perf_counter

        seconds = perf_counter() - self._began
        if self._stats:
            from nexus.system.stats import text

            terminal.notice(text(self.measure, seconds))
        if self._file >= 0:
            self._profile.write(self._file)
            terminal.detail(f"the profile is in {self._path}; https://www.speedscope.app shows it")


def open_output(option: str, path: str | None) -> int:
    """A descriptor of an option's file, -1 for none; opened before guest code can run."""
    if path is None:
        return -1
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UsageError(f"--{option} {path}: {error.strerror}") from None


def end_with_the_reader(machine: Machine) -> None:
    """A program on Linux ends when nobody reads its output any more; Windows has nothing of the kind."""
    if machine.io.broken_output and machine.kernel.stop_requested is None:
        machine.kernel.stop_requested = BrokenOutput("nobody reads the output")


def exit_code(process: Process | None, ended: NexusError | None) -> int:
    """What nexus ends with: the guest's low 8 bits, 134 for a crash, the error's own code."""
    if ended is not None:
        return ended.exit_code
    assert process is not None
    if process.crash is not None:
        return 134
    return process.exit_status & 0xFF or (1 if process.exit_status else 0)


def size(number: int) -> str:
    """A number of bytes for people."""
    for shift, unit in ((30, "GB"), (20, "MB"), (10, "KB")):
        if number >= 1 << shift:
            return f"{number / (1 << shift):.4g} {unit}"
    return f"{number} bytes"


def explain(machine: Machine, process: Process | None, ended: NexusError | None) -> None:
    """The lines after the run: a crash or an error, refusals, what was written to a discarded drive."""
    if process is not None and process.crash is not None:
        terminal.notice(process.crash.text())
    if ended is not None and not isinstance(ended, (Interrupted, BrokenOutput)):
        terminal.report_error(ended)
    if terminal.verbosity < 0:
        return
    for path, kind in machine.io.refusals.seen.items():
        remedy = permissions.remedy(path, kind, machine.never_writable)
        terminal.notice(f"refused: {'writing' if kind == 'write' else 'reading'} {path}   ({remedy})")
    for target in machine.network.refused:
        terminal.notice(f"refused: network {target}   (--allow-net={target})")
    memory = machine.kernel.commitment
    if memory.exceeded and process is not None and exit_code(process, ended):
        terminal.notice(f"the program wanted more than {size(memory.limit)} of memory   (--memory)")
    if machine.io.disk.exceeded:
        terminal.notice(
            f"the program wrote more than {machine.io.disk.limit >> 20} MB; its disk was then full (--disk)"
        )
    if machine.kernel.process_limit_hit:
        limit = machine.settings.processes
        terminal.notice(f"refused: a process beyond the limit of {limit}   (--processes)")
    if not machine.drive.kept and terminal.is_terminal():
        count = machine.drive.written_files()
        if count:
            terminal.notice(f"{count} files on the guest's C: were thrown away (--drive DIR keeps them)")


def die_by(number: int, machine: Machine) -> None:
    """End by the signal that ended the run, so that the shell sees it; what must be put away is put away
    first.
    """
    import signal

    machine.close()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def build_wall(machine: Machine) -> None:
    """Give up what guest code never needs, for this process and for good."""
    import sys

    from nexus.backend import cache
    from nexus.base.folders import CHECKOUT, private_folder

    readable = [
        CHECKOUT,
        sys.prefix,
        sys.base_prefix,
        "/usr",
        "/lib",
        "/lib64",
        "/etc",
        "/proc/self",
        machine.settings.sysroot.windows,
        machine.settings.sysroot.nls,
        machine.program,
    ]
    if machine.settings.sysroot.extra is not None:
        readable.append(machine.settings.sysroot.extra)
    if machine.network.allowed:
        readable.append("/run/systemd/resolve")  # where /etc/resolv.conf may lead
    code = cache.folder()
    readable += [code, private_folder("numbers")]  # the next run reads them before its wall
    writable = [machine.drive.folder, os.path.join(code, cache.PAGES), "/dev/null", "/dev/shm"]
    for grant in machine.grants:
        if grant.read:
            (writable if grant.write else readable).append(grant.path)
    raise_wall(readable, writable, bool(machine.network.allowed))


def working_folder(parsed: Parsed) -> str:
    """The guest's current folder: `--cwd` or ours."""
    wanted = parsed.value("cwd")
    if wanted is not None:
        if not os.path.isdir(wanted):
            raise UsageError(f"--cwd {wanted}: there is no such folder")
        return os.path.abspath(wanted)
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current folder does not exist any more", hint="change to another one") from None


class Target:
    """What PROGRAM means: `guest_name` if it is not on Z:, `package` if it came from one, `sysroot` if
    found already.
    """

    __slots__ = ("guest_name", "package", "path", "sysroot")

    def __init__(
        self,
        path: str,
        guest_name: str | None = None,
        package: str | None = None,
        found: Sysroot | None = None,
    ) -> None:
        self.path = path
        self.guest_name = guest_name
        self.package = package
        self.sysroot = found


def locate(parsed: Parsed) -> Target:
    """Find the program and refuse what cannot run."""
    name = parsed.rest[0]
    drive = parsed.value("drive")
    package = None
    guest_name = None
    if packages.is_reference(name):
        name, package = packages.locate(name, parsed.flag("refresh"), parsed.flag("offline"))
    elif paths.is_guest(name) and not os.path.exists(name):
        if name[:1].upper() == "C":
            if drive is None or not os.path.exists(paths.to_host(name, drive)):
                return system_program(name.replace("/", "\\").rpartition("\\")[2], parsed)
            guest_name = name
        name = paths.to_host(name, drive)
    elif "/" not in name and not os.path.exists(name):
        return system_program(name, parsed)
    check_host_program(name)
    return Target(name, guest_name, package)


def system_program(name: str, parsed: Parsed) -> Target:
    """A program of the sysroot, like cmd or reg, named without a folder."""
    candidates = [name] if name.lower().endswith(".exe") else [name + ".exe", name]
    found = sysroot.find(parsed.value("sysroot"))
    for candidate in candidates:
        path = os.path.join(found.windows, candidate.lower())
        if os.path.isfile(path):
            check_host_program(path)
            return Target(path, f"C:\\windows\\system32\\{candidate.lower()}", found.windows, found)
    raise NotFound(
        f"{name} was not found here, nor among Wine's programs", hint="give a path, pypi:NAME or npm:NAME"
    )
