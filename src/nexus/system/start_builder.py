"""Saves the start of a program: `python -m nexus.system.start_builder ARGUMENTS`, in a process of its own.

It starts the program twice up to the first entry point, with other ids, times and random numbers, and keeps
the first start with a list of what the second one has different. No code of the program runs.
"""

from __future__ import annotations

import os
import sys

from nexus.base.errors import NexusError, NotReversible
from nexus.base.folders import PACKAGE
from nexus.nt.hooks import Hooks
from nexus.nt.mm.section import Section
from nexus.nt.ps import start_save
from nexus.nt.ps.start_resume import ENVIRONMENT
from nexus.system import starts, sysroot
from nexus.system.apisets import ApiSets
from nexus.system.streams import Streams
from nexus.system.windows import Machine, Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nexus.nt.ps.process import Module, Process

_APART = (0x400, 123_456_789_000)  # ids and 100 ns between the two starts


class _FirstEntry(Hooks):
    """Stops the machine where the first entry point of a module is about to be executed."""

    def module_mapped(self, process: Process, module: Module) -> None:
        region = process.space.regions.at(module.base)
        section = region.backing if region is not None else None
        if isinstance(section, Section) and section.image is not None and section.image.image.entry_point:
            address = module.base + section.image.image.entry_point
            process.kernel.breakpoints.add((process, address))
            process.vcpu.hook(address)


def build(settings: Settings, program: str, guest_path: str, variables: list[str]) -> None:
    """Save the start of a program. Raises NotReversible if it cannot be saved."""
    one = _start(settings, program, guest_path, variables, 1)
    other = _start(settings, program, guest_path, variables, 2)
    start, pages = one
    (ntdll,) = ((row[0], row[0] + row[1]) for row in start["regions"] if row[4] == "ntdll.dll")
    start["varying"] = tuple(start_save.varying(one, other, ntdll))
    found = settings.sysroot
    tables = [row[4] for row in start["regions"] if row[8]]
    files = [found.dll(name.lower()) for name in start["sources"] if name]
    files += [os.path.join(found.nls, name) for name in tables] + [found.dll("apisetschema.dll")]
    made_of = tuple(starts.identity(path) for path in files)
    starts.save(starts.purpose(settings, program, guest_path, variables), made_of, start, pages)


def _start(
    settings: Settings, program: str, guest_path: str, variables: list[str], number: int
) -> tuple[dict[str, Any], dict[int, bytes]]:
    """One start, up to the first entry point."""
    settings.seed, settings.engine = number, "t0"
    machine = Machine(settings, program, os.path.dirname(program))
    kernel, streams = machine.kernel, Streams(b"", True)
    try:
        kernel.set_first_id(number * _APART[0])
        kernel.clock.advance(number * _APART[1])
        kernel.hooks = _FirstEntry(kernel, ApiSets(settings.sysroot).resolve)
        process, section, parameters = machine.new_process(["x"], streams.descriptors, False, guest_path)
        kept = [entry for entry in variables if entry.upper().startswith(starts.LOADED_FROM_ENVIRONMENT)]
        parameters.environment = [*kept, "_=" + "x" * (ENVIRONMENT // 2)]
        parameters.current_directory = "C:\\"
        assert kernel.starter is not None
        kernel.starter.start(process, section, parameters).make_ready()
        kernel.run(process)
        if kernel.paused is None:
            raise NotReversible("the program ends before any entry point is called")
        start, pages = start_save.take(process)
        folders = tuple(filter(None, (settings.sysroot.windows, settings.sysroot.extra)))
        touched = machine.io.touched.items()
        start["touched"] = {path: how for path, how in touched if path.startswith(folders)}
        return start, pages
    finally:
        machine.close()
        streams.close()


def build_meanwhile(settings: Settings, program: str, guest_path: str, variables: list[str]) -> int:
    """Start a process that saves the start, and come back at once; returns its id."""
    command = [sys.executable, "-m", "nexus.system.start_builder", settings.sysroot.windows]
    command += [settings.cpu_name or "", str(settings.processors), program, guest_path, *variables]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in range(3)]
        environment = {**os.environ, "PYTHONPATH": os.path.dirname(PACKAGE)}
        return os.posix_spawn(command[0], command, environment, file_actions=actions, setsid=True)
    finally:
        os.close(null)


def main(arguments: list[str]) -> int:
    windows, cpu, processors, program, guest_path, *variables = arguments
    os.nice(19)
    found = next((known for known in sysroot.everything() if known.windows == windows), None)
    if found is None:
        found = sysroot.find(windows)
    settings = Settings(found)
    settings.cpu_name, settings.processors = cpu or None, int(processors)
    try:
        build(settings, program, guest_path, variables)
    except NexusError as error:
        starts.refuse(starts.path_of(settings, program, guest_path, variables), str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
