"""Message queues of threads that have no windows: posted messages, waiting for them, WM_QUIT."""

from __future__ import annotations

from collections import deque

from nexus.abi.struct import Struct
from nexus.abi.types import i32, u32, uptr
from nexus.nt.objects import KernelObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.ps.thread import Thread

WM_QUIT = 0x12
MAXIMUM_MESSAGES = 10_000  # as on Windows


class MSG(Struct):
    hwnd: uptr
    message: u32
    wParam: uptr
    lParam: uptr
    time: u32
    x: i32
    y: i32


class MessageQueue(KernelObject):
    """Signalled while it holds messages."""

    __slots__ = ("messages",)

    def __init__(self) -> None:
        super().__init__()
        self.messages: deque[MSG] = deque()

    def is_signaled_for(self, thread: Thread) -> bool:
        return bool(self.messages)

    def post(self, message: MSG) -> bool:
        """Queue a message; False when the queue is full."""
        if len(self.messages) >= MAXIMUM_MESSAGES:
            return False
        self.messages.append(message)
        self.notify()
        return True

    def find(self, first: int, last: int, remove: bool) -> MSG | None:
        """The first message in a range of numbers (0, 0: any); WM_QUIT is always in range."""
        for message in self.messages:
            if (not first and not last) or first <= message.message <= last or message.message == WM_QUIT:
                if remove:
                    self.messages.remove(message)
                return message
        return None
