"""Going on from the saved start of a program, instead of having its DLLs loaded and bound again.

ntdll's loader maps the DLLs that a program imports, relocates and binds them, and then calls their entry
points, ntdll's own first. There a start is cut: nothing but ntdll has run, and what it knows of this very
start are its parameters, its ids, and the random numbers that went into security cookies. `start_save.py`
keeps the rest; `resume` puts it into a new process and writes these anew. All DLLs initialise themselves as
ever, so what they make of arguments, environment, handles and time is that of the new start.
"""

from __future__ import annotations

from nexus.nt.attributes import Attributes
from nexus.nt.errors import NtError
from nexus.nt.handles import Entry, release_unused
from nexus.nt.mm.memory import ANYWHERE
from nexus.nt.mm.section import Section
from nexus.nt.mm.vad import PAGE, PAGE_READONLY, Region, round_up
from nexus.nt.ps import context
from nexus.nt.ps.peb import RTL_USER_PROCESS_PARAMETERS, Parameters
from nexus.nt.ps.thread import Thread
from nexus.nt.versions import version_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nexus.nt.ps.process import Process

    Start = dict[str, Any]

ENVIRONMENT = 0x8000
"""At least so many bytes does a saved start have for environments; a larger one needs a plain start."""

TEB_IDS = (0x40, 0x48, 0x7D8, 0x7E0)  # ClientId and RealClientId: process, thread
PROGRAM, CONTENT, ZERO = "", -1, -2  # sources of mappings: the program's section; the file; nothing
SHARED_DATA = "KUSER_SHARED_DATA"  # name of its region
_PARAMETERS = 0x20  # PEB.ProcessParameters
_ACCESS, _SHARE, _OPTIONS, _OPEN = 0x100020, 3, 0x21, 1  # as RtlSetCurrentDirectory_U opens a folder
_LONGEST_FOLDER = 516  # bytes; ntdll keeps 520 for it
_COOKIE_BITS = 0xFFFF_FFFF_FFFF


def resume(
    process: Process, program: Section, parameters: Parameters, start: Start, fd: int
) -> Thread | None:
    """Make a new process what the saved one was, with parameters of its own; `fd` is the file with the pages.

    Returns the first thread, not yet ready; None, with nothing changed, if the parameters do not fit in.
    """
    kernel = process.kernel
    starter = kernel.starter
    assert starter is not None and program.image is not None
    environment = _environment(parameters.environment)
    directory = parameters.current_directory.encode("utf-16-le", "surrogatepass")
    if len(environment) > ENVIRONMENT or len(directory) > _LONGEST_FOLDER:
        return None
    if start["top"] != process.window.top or not kernel.commitment.has_room(start["charged"]):
        return None
    thread = Thread(process)
    try:
        attributes = Attributes("\\??\\" + parameters.current_directory)
        folder, _ = kernel.io.open(thread.call, attributes, _ACCESS, _SHARE, _OPEN, _OPTIONS)
    except NtError:
        thread.discard()
        return None
    _note(process, program, start)
    _lay_out(process, program, start, fd)
    granted = folder.type.map_access(_ACCESS)
    process.handles.place(start["directory"], Entry(folder, granted, 0))
    process.handles.set_numbering(*start["handles"])
    _write_parameters(process, parameters, environment, directory)
    _write_own_words(process, thread, start)
    context.load(start["context"], thread.state)
    thread.state.gs_base = thread.teb
    return thread


def _note(process: Process, program: Section, start: Start) -> None:
    """What the kernel knows of a started process and its thread."""
    assert program.image is not None
    thread = process.threads[0]
    process.symbols = start["symbols"]
    process.version = version_of(process.symbols)
    process.peb, process.image_entry = start["peb"], start["entry"]
    process.image, process.image_name = program.image, program.image.nt_path
    process.stack_reserve = program.image.image.stack_reserve
    process.stack_commit = program.image.image.stack_commit
    thread.teb, thread.stack = start["teb"], start["stack"]
    thread.start_address, thread.parameter = start["start_address"], start["peb"]
    process.kernel.commitment.charge(start["charged"])
    process.kernel.io.touched.update(start["touched"])


def _lay_out(process: Process, program: Section, start: Start, fd: int) -> None:
    """Regions, modules and memory."""
    starter, space, window = process.kernel.starter, process.space, process.window
    assert starter is not None
    sections = [program if name == PROGRAM else starter.system_image(name) for name in start["sources"]]
    for base, size, protect, kind, name, charged, source, offset, is_table in start["regions"]:
        if name == SHARED_DATA:
            starter.shared_data.map_into(space)
            continue
        if is_table:
            _map_table(process, name, base)
            continue
        region = Region(base, size, protect, kind)
        region.name, region.charged, region.offset = name, charged, offset
        space.regions.add(region)
        if source >= 0:
            section = sections[source]
            region.backing = section
            section.views.append((space, region))
            release_unused(section)
            if section is program:
                process.image_base = base
            process.module_mapped(region)
    descriptors = [section.image.fd if section.image is not None else -1 for section in sections]
    for address, size, access, source, offset in start["mappings"]:
        if source == ZERO:
            window.map(address, size, access)
        else:
            where = fd if source == CONTENT else descriptors[source]
            window.map_file(address, size, access, where, offset, False)
    for begin, end, protect in start["protections"]:
        if protect:
            space.pages.set(begin, end, protect)


def _map_table(process: Process, name: str, base: int) -> None:
    starter = process.kernel.starter
    assert starter is not None
    section = starter.nls_table(name)
    section.map(process.space, base, 0, 0, 0, PAGE_READONLY, ANYWHERE)
    release_unused(section)


def _environment(entries: list[str]) -> bytes:
    """An environment block after what ntdll does to it first: some variables follow from others."""
    names = [entry[: entry.find("=", 1)].upper() for entry in entries]
    found = dict(zip(names, entries, strict=True))
    found.pop("PROCESSOR_ARCHITEW6432", None)
    found["PROCESSOR_ARCHITECTURE"] = "PROCESSOR_ARCHITECTURE=AMD64"
    for name, source in (("ProgramFiles", "PROGRAMW6432"), ("CommonProgramFiles", "COMMONPROGRAMW6432")):
        if source in found:
            found[name.upper()] = f"{name}={found[source].partition('=')[2]}"
    text = "\0".join([*(found[name] for name in sorted(found)), "", ""])
    return text.encode("utf-16-le", "surrogatepass")


def _write_parameters(process: Process, parameters: Parameters, environment: bytes, directory: bytes) -> None:
    """Into the copy that the loader has made of its parameters. The command line gets a place of its own."""
    window = process.window
    line = parameters.strings["CommandLine"].encode("utf-16-le", "surrogatepass")
    region = process.space.allocate_for_kernel(round_up(len(line) + 2, PAGE), name="command line")
    window.write(region.base, line)
    address = window.u64(process.peb + _PARAMETERS)
    raw = RTL_USER_PROCESS_PARAMETERS.read(window, address)
    raw.CommandLine.Length, raw.CommandLine.MaximumLength = len(line), len(line) + 2
    raw.CommandLine.Buffer = region.base
    raw.CurrentDirectory.Length = len(directory)
    for name, number in parameters.numbers.items():
        setattr(raw, name, number)
    window.write(raw.CurrentDirectory.Buffer, directory + b"\0\0")
    window.write(raw.Environment, environment.ljust(raw.EnvironmentSize, b"\0"))
    window.write(address, raw.pack())
    process.parameters, process.command_line = address, parameters.strings["CommandLine"]


def _write_own_words(process: Process, thread: Thread, start: Start) -> None:
    """Ids, cookies and seeds."""
    window, random = process.window, process.kernel.random_bytes
    for offset, number in zip(TEB_IDS, (process.id, thread.id) * 2, strict=True):
        window.w64(thread.teb + offset, number)
    for address in start["cookies"]:
        cookie = int.from_bytes(random(8), "little") & _COOKIE_BITS | 1 << 20
        window.write_forced(address, cookie.to_bytes(8, "little"))
    values = {"process": process.id, "thread": thread.id}
    for address, what in start["varying"]:
        number = values[what] if what in values else int.from_bytes(random(4), "little") & 0x7FFF_FFFF
        window.write_forced(address, number.to_bytes(4, "little"))
