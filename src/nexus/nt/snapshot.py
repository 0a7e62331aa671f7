"""A whole machine at one moment: the kernel's objects (`graph.py`) and the memory of its processes
(`machine/saved_memory.py`), to go back to as often as one likes.

It is taken, and gone back to, while no guest code runs: every blocked system call and every call into the
guest is plain data then (`wait.py`), so threads may be anywhere. What a guest did outside of it stays
done: files of the host that were written, removed or renamed, output, what was read from pipes.

A machine with sockets, watched folders or a pending name lookup is refused, since those live on in the host.
"""

from __future__ import annotations

from nexus.base.errors import UsageError
from nexus.machine.saved_memory import SavedMemory
from nexus.nt.graph import Graph
from nexus.nt.ps.process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.kernel import Kernel


class Snapshot:
    """Made of a kernel that is not in `run`. Raises NotReversible."""

    __slots__ = ("_graph", "_kernel", "_memory")

    def __init__(self, kernel: Kernel) -> None:
        _check_stopped(kernel)
        self._kernel = kernel
        self._memory: list[SavedMemory] = []
        self._graph = Graph(kernel)
        try:
            for process in kernel.processes:
                self._memory.append(SavedMemory(process.window))
        except BaseException:
            self.close()
            raise

    def restore(self) -> None:
        """Make the machine what it was. May be called any number of times, in any order of snapshots."""
        _check_stopped(self._kernel)
        self._graph.restore(_end)
        for memory in self._memory:
            memory.restore()

    def close(self) -> None:
        """Give the memory back; the machine goes on."""
        self._graph.close()
        for memory in self._memory:
            memory.close()
        self._memory = []


def _check_stopped(kernel: Kernel) -> None:
    if kernel.current_thread is not None:
        raise UsageError(
            "a machine cannot be saved or put back while it runs", hint="do it between runs, not in a hook"
        )


def _end(target: object) -> None:
    """A process that came after the snapshot."""
    if isinstance(target, Process):
        target.vcpu.close()
        target.window.close()
