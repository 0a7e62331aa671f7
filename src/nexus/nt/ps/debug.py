"""Debug objects: where the events of debugged processes wait for their debugger.

An event stops all threads of its process until the debugger has continued it; a process shows one event at a
time. An exception is an event too: its thread waits for the event, and how the debugger continues it decides
whether the guest's own handlers see it. Facts: DBGUI_WAIT_STATE_CHANGE and the Dbgk* routines of the NT
kernel, as Wine's tests (kernel32 debugger, ntdll info and exception) describe their effects.
"""

from __future__ import annotations

import struct

from nexus.base.errors import GuestFault
from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.ps.peb import PEB_BEING_DEBUGGED, TEB_ARBITRARY_USER_POINTER
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.mm.vad import Region
    from nexus.nt.ps.process import Process
    from nexus.nt.ps.thread import Thread

(
    IDLE,
    REPLY_PENDING,
    CREATE_THREAD,
    CREATE_PROCESS,
    EXIT_THREAD,
    EXIT_PROCESS,
    EXCEPTION,
    BREAKPOINT,
    SINGLE_STEP,
    LOAD_DLL,
    UNLOAD_DLL,
) = range(11)  # DBG_STATE
KILL_ON_CLOSE = 1
_STATE_OF_CODE = {Status.BREAKPOINT: BREAKPOINT, Status.SINGLE_STEP: SINGLE_STEP}
_QUEUED, _SENT, _DELAYED = range(3)


class DebugEvent(KernelObject):
    """One event of a thread: `facts` are what its kind tells (see `pack` in the syscalls). It is signalled
    when it has been continued, with `status`.
    """

    __slots__ = ("facts", "image", "kind", "phase", "process", "status", "thread")

    def __init__(self, kind: int, thread: Thread, facts: tuple[int, ...] = (), path: str = "") -> None:
        super().__init__()
        self.kind = kind
        self.thread = thread
        self.process = thread.process
        self.facts = facts
        self.image = path  # NT path of the image it is about
        self.phase = _QUEUED
        self.status: int = Status.DBG_CONTINUE


class ExceptionEvent(DebugEvent):
    """An exception, with its EXCEPTION_RECORD."""

    __slots__ = ("record",)

    def __init__(self, thread: Thread, record: bytes, first_chance: bool) -> None:
        code = int.from_bytes(record[:4], "little")
        super().__init__(_STATE_OF_CODE.get(code, EXCEPTION), thread, (int(first_chance),))
        self.record = record

    @property
    def handled(self) -> bool:
        """Whether the debugger took care of it."""
        return self.status != Status.DBG_EXCEPTION_NOT_HANDLED


class DebugObject(KernelObject):
    """A debugger's queue of events; signalled while one can be had."""

    __slots__ = ("events", "flags", "processes")

    type = ObjectType(
        "DebugObject", read=1, write=2, execute=access.SYNCHRONIZE, all=access.STANDARD_RIGHTS_ALL | 0xF
    )

    def __init__(self, flags: int = 0) -> None:
        super().__init__()
        self.flags = flags
        self.processes: list[Process] = []
        self.events: list[DebugEvent] = []

    # for the debugger ------------------------------------------------------------------------------

    def is_signaled_for(self, thread: Thread) -> bool:
        return self._next() is not None

    def _next(self) -> DebugEvent | None:
        """The first event of a process that shows no other one."""
        busy = {event.process for event in self.events if event.phase == _SENT}
        for event in self.events:
            if event.phase == _QUEUED and event.process not in busy:
                return event
        return None

    def take(self) -> DebugEvent | None:
        """The next event, now shown; None when there is none to be had."""
        event = self._next()
        if event is not None:
            event.phase = _SENT
        return event

    def resume(self, process_id: int, thread_id: int, status: int) -> None:
        """Continue the event that a thread shows, or put it back (DBG_REPLY_LATER).

        Raises STATUS_ACCESS_DENIED when it shows none.
        """
        for event in self.events:
            if event.phase == _SENT and (event.process.id, event.thread.id) == (process_id, thread_id):
                break
        else:
            raise NtError(Status.ACCESS_DENIED)
        if status == Status.DBG_REPLY_LATER:
            self._put_back(event)
        else:
            self._finish(event, status)

    def _put_back(self, shown: DebugEvent) -> None:
        """Show an event again; those of a suspended thread wait for it to go on."""
        shown.phase = _QUEUED
        if shown.thread.suspend_count:
            for event in self.events:
                if event.thread is shown.thread and event.phase == _QUEUED:
                    event.phase = _DELAYED
                    event.process.thaw()
        self.notify()

    def _finish(self, event: DebugEvent, status: int) -> None:
        held = event.phase != _DELAYED
        self.events.remove(event)
        event.status = status
        event.signaled = True
        if held:
            event.process.thaw()
        self.notify()

    # attaching -------------------------------------------------------------------------------------

    def attach(self, process: Process) -> None:
        """Debug a process from now on: tell of its image, DLLs and threads."""
        process.debug = self
        self.processes.append(process)
        _set_being_debugged(process, 1)
        first, *others = process.threads
        program, *modules = process.modules
        self._post(_image_event(CREATE_PROCESS, first, program.base, (process.image_entry,)))
        if modules:
            self._post(_load_event(first, modules[0].base))
        for thread in others:
            self._post(DebugEvent(CREATE_THREAD, thread, (0,)))
        for module in modules[1:]:
            self._post(_load_event(first, module.base))

    def detach(self, process: Process) -> None:
        """Leave a process alone: its events count as continued."""
        for event in [event for event in self.events if event.process is process]:
            self._finish(event, Status.DBG_CONTINUE)
        self.processes.remove(process)
        process.debug = None
        if not process.terminated:
            _set_being_debugged(process, 0)

    def last_handle_closed(self) -> None:
        for process in list(self.processes):
            self.detach(process)
            if self.flags & KILL_ON_CLOSE:
                process.terminate(Status.DEBUGGER_INACTIVE)

    # what happens in a debugged process -----------------------------------------------------------

    def thread_created(self, thread: Thread) -> None:
        if not thread.hide_from_debugger:
            self._post(DebugEvent(CREATE_THREAD, thread, (thread.start_address,)))

    def thread_ended(self, thread: Thread, last: bool, status: int) -> None:
        self._post(DebugEvent(EXIT_PROCESS if last else EXIT_THREAD, thread, (status,)))

    def process_ended(self, process: Process) -> None:
        """Its events can still be had; nothing more will come."""
        self.processes.remove(process)

    def thread_resumed(self, thread: Thread) -> None:
        """Show the events that were put back until the thread goes on."""
        for event in self.events:
            if event.thread is thread and event.phase == _DELAYED:
                event.phase = _QUEUED
                event.process.freeze()
        self.notify()

    def module_mapped(self, process: Process, region: Region) -> None:
        thread = process.kernel.current_thread
        if thread is not None and thread.process is process and not thread.hide_from_debugger:
            self._post(_load_event(thread, region.base))

    def module_unmapped(self, process: Process, base: int) -> None:
        thread = process.kernel.current_thread
        if thread is not None and thread.process is process and not thread.hide_from_debugger:
            self._post(DebugEvent(UNLOAD_DLL, thread, (base,)))

    def exception(self, thread: Thread, record: bytes, first_chance: bool) -> ExceptionEvent | None:
        """The event of an exception, to be waited for; None when the thread is hidden."""
        if thread.hide_from_debugger:
            return None
        event = ExceptionEvent(thread, record, first_chance)
        self._post(event)
        return event

    def _post(self, event: DebugEvent) -> None:
        event.process.freeze()
        self.events.append(event)
        self.notify()


def _set_being_debugged(process: Process, value: int) -> None:
    try:
        process.window.write_forced(process.peb + PEB_BEING_DEBUGGED, bytes((value,)))
    except GuestFault:  # the guest has unmapped its PEB
        return


def _load_event(thread: Thread, base: int) -> DebugEvent:
    return _image_event(LOAD_DLL, thread, base, (thread.teb + TEB_ARBITRARY_USER_POINTER,))


def _image_event(kind: int, thread: Thread, base: int, more: tuple[int, ...]) -> DebugEvent:
    """An event about a mapped image: its base, offset and size of its COFF symbols, and `more`."""
    region = thread.process.space.regions.at(base)
    path = region.backing.file_name() if region is not None and region.backing is not None else None
    return DebugEvent(kind, thread, (base, *_symbols(thread.process, base), *more), path or "")


def _symbols(process: Process, base: int) -> tuple[int, int]:
    """PointerToSymbolTable and NumberOfSymbols of the file header."""
    window = process.window
    try:
        header = base + int.from_bytes(window.read_forced(base + 0x3C, 4), "little")
        place, count = struct.unpack("<II", window.read_forced(header + 12, 8))
    except GuestFault:
        return 0, 0
    return place, count
