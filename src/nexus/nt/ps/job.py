"""Job objects: groups of processes that are counted, limited and ended together."""

from __future__ import annotations

from nexus.nt import access
from nexus.nt.io.completion import IoCompletion
from nexus.nt.objects import KernelObject, ObjectType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.ps.process import Process

MESSAGE_ACTIVE_PROCESS_ZERO, MESSAGE_NEW_PROCESS, MESSAGE_EXIT_PROCESS = 4, 6, 7
LIMIT_ACTIVE_PROCESS, LIMIT_BREAKAWAY_OK, LIMIT_SILENT_BREAKAWAY_OK = 0x8, 0x800, 0x1000
LIMIT_KILL_ON_JOB_CLOSE = 0x2000


class JobObject(KernelObject):
    """`limits` is the JOBOBJECT_EXTENDED_LIMIT_INFORMATION that was set; signalled when its time limit ends
    it.
    """

    type = ObjectType(
        "Job",
        read=access.JOB_OBJECT_QUERY,
        write=access.JOB_OBJECT_ASSIGN_PROCESS
        | access.JOB_OBJECT_SET_ATTRIBUTES
        | access.JOB_OBJECT_TERMINATE,
        execute=access.SYNCHRONIZE,
        all=access.STANDARD_RIGHTS_ALL | 0x3F,
    )

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.total = 0
        self.terminated = 0
        self.limits = bytes(0x90)
        self.port: IoCompletion | None = None
        self.port_key = 0

    @property
    def limit_flags(self) -> int:
        return int.from_bytes(self.limits[16:20], "little")

    def add(self, process: Process) -> None:
        """Put a process into the job, out of the one it was in."""
        if process.job is self:
            return
        if process.job is not None:
            process.job.processes.remove(process)
        self.processes.append(process)
        self.total += 1
        process.job = self
        self.report(MESSAGE_NEW_PROCESS, process.id)

    def process_ended(self, process: Process) -> None:
        self.processes.remove(process)
        self.report(MESSAGE_EXIT_PROCESS, process.id)
        if not self.processes:
            self.report(MESSAGE_ACTIVE_PROCESS_ZERO, 0)

    def report(self, message: int, value: int) -> None:
        """Post a message to the associated completion port."""
        if self.port is not None:
            self.port.post(self.port_key, value, 0, message)

    def terminate(self, status: int) -> None:
        """End every process of the job."""
        for process in list(self.processes):
            self.terminated += 1
            process.terminate(status)

    def last_handle_closed(self) -> None:
        if self.limit_flags & LIMIT_KILL_ON_JOB_CLOSE:
            self.terminate(0)
