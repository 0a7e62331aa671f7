"""`Call`: what a syscall's function sees of the machine. One per guest thread, valid for every call it
makes.
"""

from __future__ import annotations

from nexus.base.errors import Unsupported
from nexus.nt.attributes import Attributes
from nexus.nt.errors import NtError
from nexus.nt.handles import release_unused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.pointer import Ptr
    from nexus.machine.window import Window
    from nexus.nt.kernel import Kernel
    from nexus.nt.objects import KernelObject
    from nexus.nt.ps.process import Process
    from nexus.nt.ps.thread import Thread


class Call:
    """The caller of a syscall and shortcuts for what many syscalls do."""

    __slots__ = ("kernel", "memory", "process", "thread")

    def __init__(self, kernel: Kernel, process: Process, thread: Thread, memory: Window) -> None:
        self.kernel = kernel
        self.process = process
        self.thread = thread
        self.memory = memory

    def give_handle(
        self, out: Ptr[int], target: KernelObject, access: int, attributes: Attributes | None = None
    ) -> None:
        """Write a new handle to `out`. `access` is as the caller asked (generic bits are mapped here).

        If `out` cannot be written, or there are too many handles, neither a handle nor a new object stays
        behind.
        """
        handles = self.process.handles
        granted = target.type.map_access(access)
        try:
            handle = handles.add(target, granted, attributes.flags if attributes else 0)
        except NtError:
            release_unused(target)
            raise
        try:
            out.write(handle)
        except BaseException:
            handles.close(handle)
            raise

    def deadline(self, timeout: Ptr[int] | None) -> int | None:
        """An NT timeout (LARGE_INTEGER: negative relative, else absolute) as a kernel deadline."""
        if timeout is None:
            return None
        return self.kernel.clock.deadline(timeout.read())

    def unsupported(self, what: str, file: str) -> Unsupported:
        """The error to raise for something this kernel does not know; it names the guest's caller."""
        return Unsupported(what, self.thread.caller(), file)
