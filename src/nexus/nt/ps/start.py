"""The start of a process: what is mapped and written before its first instruction.

The shared page, the program, ntdll, API sets, parameters, PEB and the first thread; then ntdll's own loader
does the rest in the guest. `Starter` keeps what all processes of a machine share.
"""

from __future__ import annotations

import os

from nexus.loader import directories, pe
from nexus.loader.source import FileBytes
from nexus.nt.cm import registry_script
from nexus.nt.cm.registry import REG_DWORD, Value
from nexus.nt.errors import NtError
from nexus.nt.handles import release_unused
from nexus.nt.mm.memory import ANYWHERE
from nexus.nt.mm.section import (
    SEC_COMMIT,
    SEC_IMAGE,
    Section,
    SectionSource,
    file_section,
    image_section,
)
from nexus.nt.mm.vad import MEM_MAPPED, PAGE, PAGE_EXECUTE_READ, PAGE_READONLY, READ, round_up
from nexus.nt.numbers import UNIX_CALL
from nexus.nt.ps.peb import LOW, PEB_GLOBAL_FLAG, Parameters, write_debug_options, write_peb
from nexus.nt.ps.start_thread import free_stack, start_thread
from nexus.nt.ps.thread import Thread
from nexus.nt.shared_data import SharedData
from nexus.nt.status import Status
from nexus.nt.unix.unixlibs import unixlib_handle
from nexus.nt.versions import version_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.nt.cm.registry import Key
    from nexus.nt.kernel import Kernel
    from nexus.nt.mm.image import ImageFile
    from nexus.nt.ps.process import Process

SYSTEM32 = "\\??\\C:\\windows\\system32\\"
_QUIET = bytes(16)
_SESSION_MANAGER = "\\Registry\\Machine\\System\\CurrentControlSet\\Control\\Session Manager"
_EXECUTION_OPTIONS = (
    "\\Registry\\Machine\\Software\\Microsoft\\Windows NT\\CurrentVersion\\Image File Execution Options"
)

# mov r10, rcx; mov eax, UNIX_CALL; syscall; ret
_UNIX_CALL_CODE = b"\x49\x89\xca\xb8" + UNIX_CALL.to_bytes(4, "little") + b"\x0f\x05\xc3"


class Starter:
    """Starts processes on one set of system DLLs. `dll(name)` is a host path, `nls` the folder of the NLS
    tables.
    """

    __slots__ = ("_apiset", "_exports", "debug_options", "dll", "kernel", "nls", "script", "shared_data")
    snapshot_keeps = ("_apiset", "_exports")

    def __init__(
        self, kernel: Kernel, dll: Callable[[str], str], nls: str, debug_options: bytes = _QUIET
    ) -> None:
        self.kernel = kernel
        self.dll = dll
        self.nls = nls
        self.debug_options = debug_options
        self.script: Callable[[], dict[str, registry_script.Tree]] = lambda: registry_script.read(
            dll("kernelbase.dll")
        )
        self.shared_data = SharedData(kernel)
        self._exports: dict[str, int] | None = None
        self._apiset: tuple[int, int, int] | None = None
        for path in registry_script.FILLED:
            try:
                key = kernel.io.registry.open(path)
            except NtError:  # a registry without national language support
                continue
            key.fill = self._fill
        kernel.on_tick.append(lambda kernel: self.shared_data.update(kernel.clock))
        kernel.on_thread_end.append(_thread_ended)
        kernel.on_process_end.append(_process_ended)

    def _fill(self, key: Key) -> None:
        tree = self.script().get(key.name)
        if tree is not None:
            registry_script.fill(key, tree)

    def close(self) -> None:
        """Give the host's descriptors back."""
        self.shared_data.close()
        if self._apiset is not None and self._apiset[0] >= 0:
            os.close(self._apiset[0])
        self._apiset = None

    # what is mapped --------------------------------------------------------------------------------

    def system_image(self, name: str) -> Section:
        """An image section over a system DLL, spelled as somebody asked for it."""
        fd = os.open(self.dll(name.lower()), os.O_RDONLY | os.O_CLOEXEC)
        try:
            source = SectionSource(fd, os.fstat(fd).st_size, SYSTEM32 + name, False)
            return image_section(source, PAGE_EXECUTE_READ, SEC_IMAGE)
        finally:
            os.close(fd)

    def nls_table(self, name: str) -> Section:
        """A section over an NLS file; NtError when the sysroot lacks it."""
        try:
            fd = os.open(os.path.join(self.nls, name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NtError(Status.OBJECT_NAME_NOT_FOUND) from None
        try:
            source = SectionSource(fd, os.fstat(fd).st_size, SYSTEM32 + name, False)
            return file_section(source, 0, PAGE_READONLY, SEC_COMMIT)
        finally:
            os.close(fd)

    def ntdll_exports(self, image: ImageFile) -> dict[str, int]:
        """Offsets of ntdll's exports by name."""
        if self._exports is None:
            self._exports = directories.export_addresses(image.image)
        return self._exports

    def start(self, process: Process, program: Section, parameters: Parameters) -> Thread:
        """Prepare a process to run `program`, an image section; its first thread is returned, not yet
        ready.
        """
        image = program.image
        if image is None:
            raise NtError(Status.SECTION_NOT_IMAGE)
        check_program_image(image)
        space = process.space
        self.shared_data.map_into(space)
        base = self._map(process, program)
        ntdll = self.system_image("ntdll.dll")
        assert ntdll.image is not None
        exports = self.ntdll_exports(ntdll.image)
        ntdll_base = self._map(process, ntdll)
        process.symbols = {name: ntdll_base + offset for name, offset in exports.items()}
        process.version = version_of(exports)
        process.image_name = image.nt_path
        process.image_base = base
        process.image_entry = base + image.image.entry_point
        process.image = image
        process.stack_reserve = image.image.stack_reserve
        process.stack_commit = image.image.stack_commit
        self._connect_unix_calls(process)
        apiset = self._map_apiset(process)
        block = parameters.write(space)
        process.parameters = block.base
        process.command_line = parameters.strings["CommandLine"]
        process.peb = write_peb(space, image.image, base, block.base, apiset, self.kernel.processors)
        process.window.w32(process.peb + PEB_GLOBAL_FLAG, self._global_flag(parameters))
        write_debug_options(process.window, process.peb, self.debug_options)
        thread = Thread(process)
        start_thread(thread, process.image_entry, process.peb)
        return thread

    def _map(self, process: Process, section: Section) -> int:
        try:
            region = section.map(process.space, 0, 0, 0, 0, PAGE_EXECUTE_READ, ANYWHERE)
        finally:
            release_unused(section)
        process.module_mapped(region)
        return region.base

    def _global_flag(self, parameters: Parameters) -> int:
        """NtGlobalFlag: the session manager's, unless the registry has one for this program's name."""
        program = parameters.strings["ImagePathName"].rsplit("\\", 1)[-1]
        flag = 0
        for path in (_SESSION_MANAGER, f"{_EXECUTION_OPTIONS}\\{program}"):
            try:
                value = self.kernel.io.registry.open(path).value("GlobalFlag")
            except NtError:
                continue
            flag = _option(value)
        return flag

    def _connect_unix_calls(self, process: Process) -> None:
        """Point ntdll's dispatcher of unix calls at a system call of our own."""
        dispatcher = process.symbols.get("__wine_unix_call_dispatcher")
        if dispatcher is None:
            return
        window = process.window
        region = process.space.allocate_for_kernel(
            PAGE, PAGE_EXECUTE_READ, name="unix call dispatcher", limits=LOW, top_down=True
        )
        window.write_forced(region.base, _UNIX_CALL_CODE)
        window.write_forced(dispatcher, region.base.to_bytes(8, "little"))
        handle = process.symbols.get("__wine_unixlib_handle")
        if handle is not None:
            window.write_forced(handle, unixlib_handle("ntdll.dll").to_bytes(8, "little"))

    def _map_apiset(self, process: Process) -> int:
        """The API set map: a section of apisetschema.dll as it is; 0 in a sysroot without one."""
        found = self._apiset or self._find_apiset()
        self._apiset = found
        fd, offset, size = found
        if fd < 0:
            return 0
        space = process.space
        region = space.new_region(0, round_up(size, PAGE), MEM_MAPPED, 0, PAGE_READONLY, ANYWHERE)
        region.name = "API sets"
        space.window.map_file(region.base, region.size, READ, fd, offset, shared=False)
        space.pages.set(region.base, region.end, PAGE_READONLY)
        return region.base

    def _find_apiset(self) -> tuple[int, int, int]:
        """(descriptor, offset, size) of the API set map; it is copied when it is not page-aligned in its
        file.
        """
        fd = os.open(self.dll("apisetschema.dll"), os.O_RDONLY | os.O_CLOEXEC)
        image = pe.parse(FileBytes(fd, os.fstat(fd).st_size))
        for section in image.sections:
            if section.name != ".apiset":
                continue
            if section.file_offset % PAGE == 0:
                return fd, section.file_offset, section.file_size
            copy = os.memfd_create("apiset")
            os.write(copy, os.pread(fd, section.file_size, section.file_offset))
            os.close(fd)
            return copy, 0, section.file_size
        os.close(fd)
        return -1, 0, 0


def _thread_ended(thread: Thread) -> None:
    """Give back a thread's memory when its process goes on without it."""
    process = thread.process
    if process.threads and not process.exiting:
        free_stack(thread)


def _process_ended(process: Process) -> None:
    """Give back the memory of a child; the first process takes the machine with it."""
    if process.parent is not None:
        process.space.release_all()


def _option(value: Value) -> int:
    """An execution option: a number, or its hexadecimal text."""
    if value.type == REG_DWORD:
        return int.from_bytes(value.data[:4], "little")
    text = value.data.decode("utf-16-le", "replace").split("\0")[0].strip()
    try:
        return int(text, 16) & 0xFFFF_FFFF
    except ValueError:
        return 0


def check_program_image(image: ImageFile) -> None:
    """NtCreateUserProcess's checks of what shall run."""
    header = image.image
    if header.machine != pe.MACHINE_AMD64:
        raise NtError(Status.INVALID_IMAGE_FORMAT)
    if header.is_dll:
        raise NtError(Status.INVALID_IMAGE_FORMAT)
