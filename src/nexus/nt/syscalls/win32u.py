"""The window and drawing services, as far as programs without windows use them.

There is no display yet: threads have message queues, window stations and desktops have names, nothing can
be drawn and no window can be created. What a service without an interactive desktop sees on Windows is what
a guest sees here. All other services stop loudly like any unimplemented syscall.
"""

from __future__ import annotations

import struct

from nexus.abi.types import boolean, i32, u32, uptr
from nexus.nt import access as rights
from nexus.nt.access import SYNCHRONIZE
from nexus.nt.call import Call
from nexus.nt.clock import TICKS_PER_SECOND
from nexus.nt.errors import NtError
from nexus.nt.messages import MSG, WM_QUIT, MessageQueue
from nexus.nt.objects import KernelObject, ObjectType, require_waitable
from nexus.nt.ps.thread import Thread
from nexus.nt.syscall import In, Out, stub, syscall
from nexus.nt.wait import Wait

TEB_LAST_ERROR = 0x68
ERROR_INVALID_HANDLE, ERROR_NOT_ENOUGH_QUOTA, ERROR_INVALID_THREAD_ID = 6, 1816, 1444
ERROR_INSUFFICIENT_BUFFER, ERROR_INVALID_PARAMETER, ERROR_REQUIRES_INTERACTIVE_WINDOWSTATION = 122, 87, 1459
ERROR_INVALID_WINDOW_HANDLE = 1400
DPI = 96
US_ENGLISH = 0x0409_0409
PM_REMOVE = 1
WAIT_FAILED = 0xFFFF_FFFF
INFINITE = 0xFFFF_FFFF
QS_POSTMESSAGE = 0x8
MWMO_WAITALL, MWMO_ALERTABLE = 1, 2
UOI_FLAGS, UOI_NAME, UOI_TYPE = 1, 2, 3
_NO_DISPLAY = "there is no display: no windows, so nothing to show, find or draw"
_FILE = "src/nexus/nt/syscalls/win32u.py"


class WindowStation(KernelObject):
    """A window station; not interactive."""

    type = ObjectType(
        "WindowStation", read=0x20303, write=0x1C, execute=0x60, all=rights.STANDARD_RIGHTS_REQUIRED | 0x37F
    )
    waitable = False


class Desktop(KernelObject):
    """A desktop of the window station."""

    type = ObjectType(
        "Desktop", read=0x41, write=0xBE, execute=0x100, all=rights.STANDARD_RIGHTS_REQUIRED | 0x1FF
    )
    waitable = False

    @property
    def path(self) -> str:
        """Desktops are named within their station."""
        return "\\" + self.name


def fail(call: Call, error: int) -> int:
    """SetLastError and the 0 (FALSE, NULL) that these services return then."""
    call.memory.write(call.thread.teb + TEB_LAST_ERROR, error.to_bytes(4, "little"))
    return 0


def queue_of(thread: Thread) -> MessageQueue:
    """The thread's message queue, made at first use."""
    if thread.messages is None:
        thread.messages = MessageQueue()
    return thread.messages


# -- start and end of user32 ------------------------------------------------------------------------------


@stub(_NO_DISPLAY + "; window procedures are never called")
def NtUserInitializeClientPfnArrays(call: Call, ansi: uptr, wide: uptr, workers: uptr, module: uptr) -> None:
    """user32 announces its window procedures."""


@syscall
def NtUserGetSystemDpiForProcess(call: Call, process: uptr) -> int:
    """The resolution programs may assume."""
    return DPI


@stub(_NO_DISPLAY)
def NtUserGetProcessDpiAwarenessContext(call: Call, process: uptr) -> int:
    """Unaware of display resolutions (0x6010 is how user32 spells it)."""
    return 0x6010


@stub(_NO_DISPLAY)
def NtUserSetProcessDpiAwarenessContext(call: Call, awareness: u32, _: u32) -> int:
    """Accepted: no display has another resolution."""
    return 1


@syscall
def NtUserCallNoParam(call: Call, code: u32) -> int:
    """Small services by number: of them a thread's end, and that there is no desktop window."""
    if code in call.process.version.user_thread_end:
        call.thread.messages = None
        return 0
    if code == _GET_DESKTOP_WINDOW:
        return 0
    raise call.unsupported(f"NtUserCallNoParam code {code}", _FILE)


_METRICS = {  # SM_* of a machine without a monitor, at 96 dots per inch
    **dict.fromkeys((0, 1, 43, 76, 77, 78, 79, 80), 0),  # screen, mouse buttons, virtual screen, monitors
    **dict.fromkeys((2, 3, 9, 10, 20, 21), 17),  # scroll bars
    **dict.fromkeys((4, 30, 31), 23),  # captions and their buttons
    **dict.fromkeys((5, 6, 19, 22, 23, 75, 81), 1),  # borders; mouse and wheel exist; one pixel format
    **dict.fromkeys((7, 8), 3),  # dialog frames
    **dict.fromkeys((11, 12, 13, 14), 32),  # icons, cursors
    **dict.fromkeys((15, 54, 55), 20),  # menus
    **dict.fromkeys((32, 33, 36, 37, 68, 69), 4),  # sizing frame, double click and drag distances
    **dict.fromkeys((45, 46), 2),  # edges
    **dict.fromkeys((49, 50), 16),  # small icons
    **dict.fromkeys((40, 41, 42, 44, 67, 70, 73, 74, 82, 86, 87, 88, 89, 94, 95, 0x1000, 0x2000, 0x2001), 0),
    63: 3,  # network present
    92: 4,  # padded border
}
_GET_SYSTEM_METRICS, _GET_DESKTOP_WINDOW, _GET_SYS_COLOR = 14, 1, 11
# RGB by COLOR_ index from COLOR_SCROLLBAR to COLOR_MENUBAR: what Windows 10 has in HKCU\Control Panel\Colors.
_COLORS = bytes.fromhex(
    "c8c8c8 000000 99b4d1 bfcddb f0f0f0 ffffff 646464 000000 000000 000000 b4b4b4 f4f7fc ababab 0078d7"
    "ffffff f0f0f0 a0a0a0 6d6d6d 000000 000000 ffffff 696969 e3e3e3 000000 ffffe1 000000 0066cc b9d1ea"
    "d7e4f2 0078d7 f0f0f0"
)


def _color(index: int) -> int:
    """A system color as a COLORREF, whose low byte is red; 0 for one that does not exist."""
    return int.from_bytes(_COLORS[3 * index : 3 * index + 3], "little")


@syscall
def NtUserCallOneParam(call: Call, value: uptr, code: u32) -> int:
    """Small services by number: of them the system's metrics."""
    if code == _GET_SYSTEM_METRICS:
        metric = _METRICS.get(value & 0xFFFF_FFFF)
        if metric is None:
            raise call.unsupported(f"GetSystemMetrics({value & 0xFFFF_FFFF})", _FILE)
        return metric
    if code == _GET_SYS_COLOR:
        return _color(value & 0xFFFF_FFFF)
    raise call.unsupported(f"NtUserCallOneParam code {code}", _FILE)


# -- window stations and desktops -------------------------------------------------------------------------


def _station_handle(call: Call) -> int:
    process = call.process
    if not process.window_station:
        station = call.kernel.window_station
        if station is None:
            station = call.kernel.window_station = WindowStation()
            call.kernel.namespace.insert("\\Sessions\\1\\Windows\\WindowStations\\WinSta0", station)
        process.window_station = process.handles.add(station, station.type.all)
    return process.window_station


@syscall
def NtUserGetProcessWindowStation(call: Call) -> int:
    """The window station of the process."""
    return _station_handle(call)


@syscall
def NtUserGetThreadDesktop(call: Call, thread_id: u32) -> int:
    """The desktop of a thread of this process."""
    thread = call.kernel.thread_by_id(thread_id)
    if thread is None:
        return fail(call, ERROR_INVALID_THREAD_ID)
    process = call.process
    if not process.desktop:
        desktop = Desktop()
        desktop.name = "Default"
        process.desktop = process.handles.add(desktop, desktop.type.all)
    return process.desktop


@syscall
def NtUserGetObjectInformation(
    call: Call, handle: uptr, index: i32, buffer: uptr, length: u32, needed: Out[u32] | None
) -> int:
    """Flags, name or type of a window station or desktop. It is not visible: WSF_VISIBLE is clear."""
    try:
        target = call.process.handles.resolve(handle, KernelObject, 0)
    except NtError:
        return fail(call, ERROR_INVALID_HANDLE)
    if not isinstance(target, WindowStation | Desktop):
        return fail(call, ERROR_INVALID_HANDLE)
    if index == UOI_FLAGS:
        data = struct.pack("<III", 0, 0, 0)
    elif index == UOI_NAME:
        data = (target.name + "\0").encode("utf-16-le")
    elif index == UOI_TYPE:
        data = (target.type.name + "\0").encode("utf-16-le")
    else:
        return fail(call, ERROR_INVALID_PARAMETER)
    if needed is not None:
        needed.write(len(data))
    if length < len(data):
        return fail(call, ERROR_INSUFFICIENT_BUFFER)
    call.memory.write(buffer, data)
    return 1


@syscall
def NtUserGetKeyboardLayout(call: Call, thread_id: u32) -> int:
    """The layout of a US keyboard."""
    return US_ENGLISH


# -- messages ---------------------------------------------------------------------------------------------


@syscall
def NtUserPostThreadMessage(call: Call, thread_id: u32, message: u32, wparam: uptr, lparam: uptr) -> int:
    """Post a message to a thread's queue."""
    thread = call.kernel.thread_by_id(thread_id)
    if thread is None or thread.terminated:
        return fail(call, ERROR_INVALID_THREAD_ID)
    time = call.kernel.clock.monotonic() * 1000 // TICKS_PER_SECOND & 0xFFFF_FFFF
    if not queue_of(thread).post(MSG(message=message, wParam=wparam, lParam=lparam, time=time)):
        return fail(call, ERROR_NOT_ENOUGH_QUOTA)
    return 1


@syscall
def NtUserPostMessage(call: Call, window: uptr, message: u32, wparam: uptr, lparam: uptr) -> int:
    """Post a message to the own thread (window 0); there are no windows."""
    if window:
        return fail(call, ERROR_INVALID_WINDOW_HANDLE)
    time = call.kernel.clock.monotonic() * 1000 // TICKS_PER_SECOND & 0xFFFF_FFFF
    return int(queue_of(call.thread).post(MSG(message=message, wParam=wparam, lParam=lparam, time=time)))


@syscall
def NtUserPeekMessage(call: Call, out: Out[MSG], window: uptr, first: u32, last: u32, flags: u32) -> int:
    """Take or look at the next message, without waiting."""
    found = queue_of(call.thread).find(first, last, bool(flags & PM_REMOVE))
    if found is None:
        call.kernel.end_slice()
        return 0
    out.write(found)
    return 1


@syscall
def NtUserGetMessage(call: Call, out: Out[MSG], window: uptr, first: u32, last: u32) -> Wait:
    """Take the next message, waiting for it; 0 when it is WM_QUIT."""
    return Wait((queue_of(call.thread),), then=_got_message, data=(out, first, last))


def _got_message(
    call: Call, status: int, acquired: object, out: Out[MSG], first: int, last: int
) -> int | Wait:
    found = queue_of(call.thread).find(first, last, True)
    if found is None:  # something came, but not what is wanted: wait for the next one
        deadline = call.kernel.clock.monotonic() + TICKS_PER_SECOND // 100
        return Wait((), deadline, then=_got_message, data=(out, first, last))
    out.write(found)
    return 0 if found.message == WM_QUIT else 1


@syscall
def NtUserWaitMessage(call: Call) -> Wait:
    """Wait until there is a message."""
    return Wait((queue_of(call.thread),), then=_true)


def _true(call: Call, status: int, acquired: object) -> int:
    return 1


@syscall
def NtUserMsgWaitForMultipleObjectsEx(
    call: Call, count: u32, handles: In[uptr], timeout: u32, mask: u32, flags: u32
) -> Wait | int:
    """Wait for objects or messages."""
    if count > 63:
        fail(call, ERROR_INVALID_PARAMETER)
        return WAIT_FAILED
    table = call.process.handles
    targets: list[KernelObject] = [
        require_waitable(table.resolve(h, KernelObject, SYNCHRONIZE)) for h in handles.array(count)
    ]
    if mask & QS_POSTMESSAGE:
        targets.append(queue_of(call.thread))
    deadline = None
    if timeout != INFINITE:
        deadline = call.kernel.clock.monotonic() + timeout * 10_000
    return Wait(targets, deadline, all=bool(flags & MWMO_WAITALL), alertable=bool(flags & MWMO_ALERTABLE))


@syscall
def NtUserTranslateMessage(call: Call, message: In[MSG], flags: u32) -> int:
    """Nothing is translated: no keyboard sends messages."""
    return 0


@syscall
def NtUserDispatchMessage(call: Call, message: In[MSG]) -> int:
    """Messages without a window have no procedure to go to."""
    return 0 if not message.read().hwnd else fail(call, ERROR_INVALID_WINDOW_HANDLE)


# -- what needs a display ---------------------------------------------------------------------------------


@stub(_NO_DISPLAY)
def NtUserCreateWindowEx(call: Call) -> int:
    """Fails as in a non-interactive window station."""
    return fail(call, ERROR_REQUIRES_INTERACTIVE_WINDOWSTATION)


@stub(_NO_DISPLAY)
def NtUserRegisterClassExWOW(
    call: Call, window_class: uptr, name: uptr, version: uptr, menu: uptr, fnid: u32, flags: u32, wow: uptr
) -> int:
    """Fails: classes are for windows."""
    return fail(call, ERROR_REQUIRES_INTERACTIVE_WINDOWSTATION)


@stub(_NO_DISPLAY)
def NtUserUnregisterClass(call: Call, name: uptr, instance: uptr, menu: uptr) -> int:
    """There are no classes."""
    return 0


@stub(_NO_DISPLAY)
def NtUserFindWindowEx(call: Call, parent: uptr, child: uptr, name: uptr, title: uptr, _: u32) -> int:
    """Finds nothing."""
    return 0


@stub(_NO_DISPLAY)
def NtUserGetForegroundWindow(call: Call) -> int:
    """No window has the input."""
    return 0


@stub(_NO_DISPLAY)
def NtUserGetDC(call: Call, window: uptr) -> int:
    """There is nothing to draw on."""
    return 0


@stub(_NO_DISPLAY)
def NtUserGetDCEx(call: Call, window: uptr, region: uptr, flags: u32) -> int:
    """There is nothing to draw on."""
    return 0


@stub(_NO_DISPLAY)
def NtUserShowWindow(call: Call, window: uptr, command: u32) -> int:
    """There are no windows."""
    return fail(call, ERROR_INVALID_WINDOW_HANDLE)


@stub(_NO_DISPLAY)
def NtUserSetWinEventHook(call: Call) -> int:
    """No window events happen."""
    return fail(call, ERROR_REQUIRES_INTERACTIVE_WINDOWSTATION)


@stub(_NO_DISPLAY)
def NtUserSystemParametersInfo(call: Call, action: u32, value: u32, pointer: uptr, update: u32) -> int:
    """There are no display settings."""
    return fail(call, ERROR_REQUIRES_INTERACTIVE_WINDOWSTATION)


@stub(_NO_DISPLAY)
def NtUserAttachThreadInput(call: Call, source: u32, target: u32, attach: boolean) -> int:
    """No thread has input."""
    return fail(call, ERROR_REQUIRES_INTERACTIVE_WINDOWSTATION)
