"""A guest process: an address space, a handle table, threads, and what the start-up code noted about its
image.
"""

from __future__ import annotations

from nexus.nt import access
from nexus.nt.handles import HandleTable
from nexus.nt.mm.memory import AddressSpace
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.status import Status
from nexus.nt.versions import WINE_10, Version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.machine.vcpu import Vcpu
    from nexus.machine.window import Window
    from nexus.nt.kernel import Kernel
    from nexus.nt.mm.image import ImageFile
    from nexus.nt.mm.vad import Region
    from nexus.nt.ps.crash import Crash
    from nexus.nt.ps.debug import DebugObject
    from nexus.nt.ps.job import JobObject
    from nexus.nt.ps.thread import Thread
    from nexus.nt.se.token import Token

STILL_ACTIVE = Status.PENDING


class Module:
    """A mapped image, for messages and reports."""

    __slots__ = ("base", "name", "size")

    def __init__(self, name: str, base: int, size: int) -> None:
        self.name = name
        self.base = base
        self.size = size


class Process(KernelObject):
    """`window` is its memory, `space` the rules for it.

    The start-up code sets `peb`, `symbols` (ntdll's exports), `version`, `modules` and what it knows of the
    image.
    """

    type = ObjectType(
        "Process",
        read=access.PROCESS_QUERY_INFORMATION | access.PROCESS_VM_READ,
        write=0x0BEA,
        execute=access.SYNCHRONIZE | access.PROCESS_QUERY_LIMITED_INFORMATION | access.PROCESS_TERMINATE,
        all=access.PROCESS_ALL_ACCESS,
        implied=((access.PROCESS_QUERY_INFORMATION, access.PROCESS_QUERY_LIMITED_INFORMATION),),
    )

    snapshot_keeps = ("symbols",)

    def __init__(self, kernel: Kernel, window: Window, vcpu: Vcpu, parent: Process | None = None) -> None:
        super().__init__()
        self.kernel = kernel
        self.window = window
        self.space = AddressSpace(window, kernel.commitment)
        self.vcpu = vcpu
        self.parent = parent
        self.id = kernel.new_id(self)
        self.parent_id = parent.id if parent is not None else 0
        self.handles = HandleTable(self, kernel.handle_limit)
        self.threads: list[Thread] = []
        self.token: Token = kernel.new_token(parent)
        self.peb = 0
        self.image_name = ""  # NT path of the program
        self.image_base = 0
        self.image_entry = 0
        self.image: ImageFile | None = None
        self.parameters = 0
        self.command_line = ""
        self.cookie = int.from_bytes(kernel.random_bytes(4), "little")
        self.hard_error_mode = 0
        self.stack_reserve = 0
        self.stack_commit = 0
        self.symbols: dict[str, int] = {}
        self.version: Version = WINE_10
        self.modules: list[Module] = []
        self.affinity = (1 << kernel.processors) - 1
        self.priority_class = 2  # PROCESS_PRIOCLASS_NORMAL
        self.base_priority = 8
        self.terminated = False
        self.exiting = False  # NtTerminateProcess(0) was called: only its caller goes on
        self.exit_status = STILL_ACTIVE
        self.created_at = kernel.clock.system()
        self.exited_at = 0
        self.crash: Crash | None = None  # the exception that ended it
        self.debug: DebugObject | None = None  # of its debugger
        self.debug_children = 1  # whether processes it starts get the same one
        self.frozen = 0  # how many debug events hold all threads
        self.job: JobObject | None = None
        self.timer_resolution = 0  # as asked for, 100 ns; 0 is the default
        self.window_station = 0  # handles, once asked for
        self.desktop = 0
        self.hard_errors: list[int] = []  # statuses of NtRaiseHardError
        kernel.processes.append(self)
        if parent is not None and parent.job is not None:
            parent.job.add(self)

    def thread_ended(self, thread: Thread, status: int) -> None:
        """Called by a terminating thread; the last one ends the process with its status."""
        self.threads.remove(thread)
        if self.debug is not None and not thread.hide_from_debugger:
            last = not self.threads
            self.debug.thread_ended(thread, last, self.exit_status if last and self.exiting else status)
        self.kernel.thread_ended(thread)
        if not self.threads and not self.terminated:
            self.end(self.exit_status if self.exiting else status)

    def terminate(self, status: int) -> None:
        """End all threads and the process."""
        if self.terminated:
            return
        self.exit_status = status
        self.exiting = True
        for thread in list(self.threads):
            thread.terminate(status)
        self.end(status)

    def end(self, status: int) -> None:
        """No thread is left (or there never was one): release what the process holds and tell the waiters."""
        if self.terminated:
            return
        self.terminated = True
        self.exit_status = status
        self.exited_at = self.kernel.clock.system()
        self.handles.close_all()
        self.kernel.process_ended(self)
        if self.debug is not None:
            self.debug.process_ended(self)
        if self.job is not None:
            self.job.process_ended(self)
        self.signaled = True

    def freeze(self) -> None:
        """Hold all threads, also those to come."""
        self.frozen += 1

    def thaw(self) -> None:
        """Undo one `freeze`."""
        self.frozen -= 1
        if not self.frozen:
            for thread in self.threads:
                thread.make_ready()

    def module_mapped(self, region: Region) -> None:
        """An image is there now."""
        module = Module(region.name, region.base, region.size)
        self.modules.append(module)
        if self.kernel.hooks is not None:
            self.kernel.hooks.module_mapped(self, module)
        if self.debug is not None:
            self.debug.module_mapped(self, region)

    def module_unmapped(self, base: int) -> None:
        """The image at `base` is gone."""
        self.modules = [module for module in self.modules if module.base != base]
        if self.kernel.hooks is not None:
            self.kernel.hooks.module_unmapped(self, base)
        if self.debug is not None:
            self.debug.module_unmapped(self, base)

    def module_at(self, address: int) -> Module | None:
        for module in self.modules:
            if module.base <= address < module.base + module.size:
                return module
        return None

    def describe_address(self, address: int) -> str:
        """`module+offset`, or the bare address."""
        module = self.module_at(address)
        return f"{module.name}+{address - module.base:#x}" if module else f"{address:#x}"

    def __repr__(self) -> str:
        return f"Process({self.id:#x})"
