"""A guest thread: its registers, what it waits for, its APCs and the frames of calls into the guest."""

from __future__ import annotations

from nexus.isa.x86.registers import CpuState
from nexus.nt import access
from nexus.nt.apc import Apc
from nexus.nt.call import Call
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.hook import HookCall
    from nexus.nt.io.completion import IoCompletion
    from nexus.nt.messages import MessageQueue
    from nexus.nt.ps.crash import Crash
    from nexus.nt.ps.process import Process
    from nexus.nt.se.token import Token
    from nexus.nt.sync import Mutant
    from nexus.nt.wait import UserCallback, Wait

STILL_ACTIVE = Status.PENDING
MAXIMUM_SUSPEND_COUNT = 127


class Frame:
    """A syscall that is interrupted by a call into the guest: the registers to return to, and what goes on
    then.
    """

    __slots__ = ("callback", "registers")

    def __init__(self, callback: UserCallback, registers: bytes) -> None:
        self.callback = callback
        self.registers = registers


class UserApcReserve(KernelObject):
    """Memory for a user APC, set aside."""

    __slots__ = ()

    type = ObjectType("UserApcReserve", read=1, write=2, execute=0, all=access.STANDARD_RIGHTS_REQUIRED | 3)
    waitable = False


class Thread(KernelObject):
    """Scheduling states: queued, current, waiting (`wait` is set), suspended (counted), terminated."""

    __slots__ = (
        "affinity",
        "alert_by_id",
        "alerted",
        "apcs",
        "base_priority",
        "call",
        "created_at",
        "cycles",
        "debug",
        "description",
        "exit_status",
        "exited_at",
        "frames",
        "hide_from_debugger",
        "hook_calls",
        "id",
        "kernel",
        "last_crash",
        "messages",
        "mutants",
        "outcome",
        "parameter",
        "passed_hook",
        "port",
        "priority",
        "process",
        "queued",
        "stack",
        "start_address",
        "state",
        "suspend_count",
        "syscall",
        "teb",
        "terminated",
        "token",
        "wait",
    )

    type = ObjectType(
        "Thread",
        read=access.THREAD_GET_CONTEXT | access.THREAD_QUERY_INFORMATION,
        write=0x0437,
        execute=access.SYNCHRONIZE | access.THREAD_RESUME | access.THREAD_QUERY_LIMITED_INFORMATION,
        all=access.THREAD_ALL_ACCESS,
        implied=((access.THREAD_QUERY_INFORMATION, access.THREAD_QUERY_LIMITED_INFORMATION),),
    )

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.kernel = process.kernel
        self.id = self.kernel.new_id(self)
        self.state = CpuState()
        self.state.reset()
        self.call = Call(self.kernel, process, self, process.window)
        self.start_address = 0
        self.parameter = 0
        self.teb = 0
        self.stack = (0, 0)  # the reserved stack: lowest address, size
        self.suspend_count = 0
        self.wait: Wait | None = None
        self.outcome: tuple[Wait, int, object] | None = None  # of a wait that ended, until the thread runs
        self.queued = False
        self.apcs: list[Apc] = []
        self.alerted = False
        self.alert_by_id = False
        self.frames: list[Frame] = []
        self.mutants: set[Mutant] = set()
        self.token: Token | None = None  # impersonation
        self.base_priority = 0
        self.priority = 8
        self.affinity = process.affinity
        self.description = ""
        self.hide_from_debugger = False
        self.debug: tuple[int, ...] = (0,) * 6  # Dr0-Dr3, Dr6, Dr7: kept for the debugger's eyes, never armed
        self.last_crash: Crash | None = None  # the latest exception
        self.messages: MessageQueue | None = None  # once it has used user32's queues
        self.syscall = ""  # the one in progress, for reports
        self.cycles = 0
        self.hook_calls: list[HookCall] = []  # that have not returned and whose end is awaited
        self.passed_hook: tuple[int, int] | None = None  # rip and rsp of a hook that is done
        self.port: IoCompletion | None = None  # the one it took a packet from last
        self.terminated = False
        self.exit_status = STILL_ACTIVE
        self.created_at = self.kernel.clock.system()
        self.exited_at = 0
        process.threads.append(self)

    # -- scheduling ---------------------------------------------------------------------------------------

    @property
    def runnable(self) -> bool:
        return (
            not self.terminated and self.wait is None and not self.suspend_count and not self.process.frozen
        )

    def make_ready(self) -> None:
        """Queue the thread for running if it can run."""
        if self.runnable and not self.queued:
            self.queued = True
            self.kernel.ready.append(self)

    def suspend(self) -> int:
        """Count one more suspension; returns the count before."""
        previous = self.suspend_count
        if previous < MAXIMUM_SUSPEND_COUNT:
            self.suspend_count += 1
        return previous

    def resume(self) -> int:
        """Count one suspension less; returns the count before."""
        previous = self.suspend_count
        if previous:
            self.suspend_count -= 1
            if not self.suspend_count and self.process.debug is not None:
                self.process.debug.thread_resumed(self)
            self.make_ready()
        return previous

    # -- waiting ------------------------------------------------------------------------------------------

    def begin_wait(self, wait: Wait) -> None:
        """Block until the wait is satisfied; the kernel has seen that it is not yet."""
        self.wait = wait
        for target in wait.objects:
            target.waiters.append(self)
        if wait.deadline is not None:
            self.kernel.timers.add(wait.deadline, self)

    def check_wait(self) -> None:
        """An object this thread waits for may have become signalled."""
        wait = self.wait
        if wait is None:
            return
        result = wait.satisfied(self)
        if result is not None:
            self.end_wait(*result)

    def end_wait(self, status: int, acquired: object = None) -> None:
        """The wait is over with `status`; the thread will go on from there when it is scheduled."""
        wait = self.wait
        if wait is None:
            return
        self.wait = None
        for target in wait.objects:
            if self in target.waiters:
                target.waiters.remove(self)
        if wait.deadline is not None:
            self.kernel.timers.remove(self)
        self.outcome = (wait, status, acquired)
        self.make_ready()

    def expired(self) -> None:
        """The deadline of the wait passed."""
        self.end_wait(Status.TIMEOUT)

    # -- APCs and alerts ----------------------------------------------------------------------------------

    def queue_apc(self, apc: Apc) -> None:
        self.apcs.append(apc)
        if self.wait is not None and (self.wait.alertable or apc.special):
            self.end_wait(Status.USER_APC)

    def queue_timer_apc(self, timer: object, routine: int, arguments: tuple[int, int, int]) -> None:
        """A timer's APC; one that is still queued is not queued again."""
        if not any(apc.owner is timer for apc in self.apcs):
            self.queue_apc(Apc(routine, arguments, owner=timer))

    def remove_apc(self, owner: object) -> None:
        self.apcs = [apc for apc in self.apcs if apc.owner is not owner]

    def alert(self) -> None:
        """NtAlertThread: end an alertable wait, or the next one at once."""
        if self.wait is not None and self.wait.alertable:
            self.end_wait(Status.ALERTED)
        else:
            self.alerted = True

    # -- end ----------------------------------------------------------------------------------------------

    def terminate(self, status: int) -> None:
        """End this thread; the last one ends its process."""
        if self.terminated:
            return
        self.end_wait(Status.THREAD_IS_TERMINATING)
        self.terminated = True
        self.exit_status = status
        self.exited_at = self.kernel.clock.system()
        self.apcs.clear()
        self.frames.clear()
        for mutant in list(self.mutants):
            mutant.abandon()
        self.mutants.clear()
        self.process.thread_ended(self, status)
        self.signaled = True

    def discard(self) -> None:
        """Undo the creation of a thread that could not be started."""
        self.terminated = True
        self.process.threads.remove(self)
        self.kernel.thread_ended(self)

    def caller(self) -> str:
        """`module+offset` of the code that made the current syscall, for messages."""
        return self.process.describe_address(self.kernel.return_address(self))

    def __repr__(self) -> str:
        return f"Thread({self.id:#x})"
