"""Looking up host names without stopping the kernel: the host's resolver runs in a thread of its own."""

from __future__ import annotations

import os
import socket
import threading

from nexus.base.errors import NotReversible
from nexus.nt.objects import KernelObject
from nexus.nt.poller import READABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nexus.nt.kernel import Kernel


class Lookup(KernelObject):
    """A question to the host's resolver; signalled when `result` or `error` is there."""

    __slots__ = ("_event", "_kernel", "_watch", "error", "result")

    def __init__(self, kernel: Kernel, question: Callable[[], Any]) -> None:
        super().__init__()
        self.result: Any = None
        self.error: OSError | None = None
        self._kernel = kernel
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watch = kernel.poller.watch(self._event, READABLE, self._answered)
        threading.Thread(target=self._ask, args=(question,), daemon=True).start()

    def snapshot_outside(self) -> None:
        """See `nt/graph.py`."""
        raise NotReversible("the program is waiting for the host's resolver, which cannot be put back")

    def _ask(self, question: Callable[[], Any]) -> None:
        try:
            self.result = question()
        except OSError as error:
            self.error = error
        except UnicodeError as error:
            self.error = socket.gaierror(socket.EAI_NONAME, str(error))
        os.eventfd_write(self._event, 1)

    def _answered(self, events: int) -> None:
        self._kernel.poller.unwatch(self._watch)
        os.close(self._event)
        self.signaled = True
