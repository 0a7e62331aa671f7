"""Events, mutants, semaphores, timers, keyed events, waits and alerts."""

from __future__ import annotations

from nexus.abi.struct import Struct
from nexus.abi.types import boolean, i32, i64, u32, uptr
from nexus.nt.access import (
    EVENT_MODIFY_STATE,
    EVENT_QUERY_STATE,
    KEYEDEVENT_WAIT,
    KEYEDEVENT_WAKE,
    MUTANT_QUERY_STATE,
    SEMAPHORE_MODIFY_STATE,
    SEMAPHORE_QUERY_STATE,
    SYNCHRONIZE,
    TIMER_MODIFY_STATE,
    TIMER_QUERY_STATE,
)
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.objects import KernelObject, require_waitable
from nexus.nt.status import Status
from nexus.nt.sync import Event, KeyedEvent, KeyedSide, Mutant, Semaphore, Timer
from nexus.nt.syscall import Handle, In, NewHandle, ObjectAttributes, Out, Ptr, syscall
from nexus.nt.wait import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from nexus.nt.attributes import Attributes

    K = TypeVar("K", bound=KernelObject)

MAXIMUM_WAIT_OBJECTS = 64
NOTIFICATION, SYNCHRONIZATION = 0, 1


class EVENT_BASIC_INFORMATION(Struct):
    EventType: u32
    EventState: i32


class MUTANT_BASIC_INFORMATION(Struct):
    CurrentCount: i32
    OwnedByCaller: boolean
    AbandonedState: boolean


class SEMAPHORE_BASIC_INFORMATION(Struct):
    CurrentCount: u32
    MaximumCount: u32


class TIMER_BASIC_INFORMATION(Struct):
    RemainingTime: i64
    TimerState: boolean


def _create(
    call: Call,
    handle: Ptr[uptr],
    access: int,
    attributes: Attributes | None,
    kind: type[K],
    make: Callable[[], K],
) -> int:
    target, status = call.kernel.namespace.create(attributes, kind, make)
    call.give_handle(handle, target, access, attributes)
    return status


def _open(call: Call, handle: Ptr[uptr], access: int, attributes: Attributes, kind: type[K]) -> None:
    call.give_handle(handle, call.kernel.namespace.open(attributes, kind), access, attributes)


# -- events -----------------------------------------------------------------------------------------------


@syscall
def NtCreateEvent(
    call: Call,
    handle: NewHandle,
    access: u32,
    attributes: ObjectAttributes | None,
    kind: u32,
    state: boolean,
) -> int:
    """Create or open an event."""
    if kind not in (NOTIFICATION, SYNCHRONIZATION):
        raise NtError(Status.INVALID_PARAMETER)
    return _create(
        call, handle, access, attributes, Event, lambda: Event(kind == SYNCHRONIZATION, bool(state))
    )


@syscall
def NtOpenEvent(call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes) -> None:
    """Open a named event."""
    _open(call, handle, access, attributes, Event)


@syscall
def NtSetEvent(call: Call, event: Handle[Event, EVENT_MODIFY_STATE], previous: Out[i32] | None) -> None:
    """Signal an event and tell whether it was signalled before."""
    before = event.signaled
    event.signaled = True
    if previous is not None:
        previous.write(before)


@syscall
def NtSetEventBoostPriority(call: Call, event: Handle[Event, EVENT_MODIFY_STATE]) -> None:
    """Signal an event; priorities are not boosted."""
    event.signaled = True


@syscall
def NtResetEvent(call: Call, event: Handle[Event, EVENT_MODIFY_STATE], previous: Out[i32] | None) -> None:
    """Clear an event and tell whether it was signalled before."""
    before = event.signaled
    event.signaled = False
    if previous is not None:
        previous.write(before)


@syscall
def NtClearEvent(call: Call, event: Handle[Event, EVENT_MODIFY_STATE]) -> None:
    """Clear an event."""
    event.signaled = False


@syscall
def NtPulseEvent(call: Call, event: Handle[Event, EVENT_MODIFY_STATE], previous: Out[i32] | None) -> None:
    """Signal an event for those who wait now, then clear it."""
    before = event.signaled
    event.pulse()
    if previous is not None:
        previous.write(before)


@syscall
def NtQueryEvent(
    call: Call,
    event: Handle[Event, EVENT_QUERY_STATE],
    information_class: u32,
    buffer: Out[EVENT_BASIC_INFORMATION],
    length: u32,
    returned: Out[u32] | None,
) -> None:
    """Type and state of an event."""
    _check_query(information_class, length, EVENT_BASIC_INFORMATION)
    kind = SYNCHRONIZATION if event.auto_reset else NOTIFICATION
    buffer.write(EVENT_BASIC_INFORMATION(EventType=kind, EventState=event.signaled))
    if returned is not None:
        returned.write(EVENT_BASIC_INFORMATION.size)


def _check_query(information_class: int, length: int, layout: type[Struct]) -> None:
    if information_class != 0:
        raise NtError(Status.INVALID_INFO_CLASS)
    if length != layout.size:
        raise NtError(Status.INFO_LENGTH_MISMATCH)


# -- mutants ----------------------------------------------------------------------------------------------


@syscall
def NtCreateMutant(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes | None, owned: boolean
) -> int:
    """Create or open a mutant."""
    return _create(call, handle, access, attributes, Mutant, lambda: Mutant(call.thread if owned else None))


@syscall
def NtOpenMutant(call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes) -> None:
    """Open a named mutant."""
    _open(call, handle, access, attributes, Mutant)


@syscall
def NtReleaseMutant(call: Call, mutant: Handle[Mutant, 0], previous: Out[i32] | None) -> None:
    """Give a mutant back once."""
    before = mutant.release(call.thread)
    if previous is not None:
        previous.write(before)


@syscall
def NtQueryMutant(
    call: Call,
    mutant: Handle[Mutant, MUTANT_QUERY_STATE],
    information_class: u32,
    buffer: Out[MUTANT_BASIC_INFORMATION],
    length: u32,
    returned: Out[u32] | None,
) -> None:
    """Count and owner of a mutant."""
    _check_query(information_class, length, MUTANT_BASIC_INFORMATION)
    buffer.write(
        MUTANT_BASIC_INFORMATION(
            CurrentCount=1 - mutant.count,
            OwnedByCaller=mutant.owner is call.thread,
            AbandonedState=mutant.abandoned(),
        )
    )
    if returned is not None:
        returned.write(MUTANT_BASIC_INFORMATION.size)


# -- semaphores -------------------------------------------------------------------------------------------


@syscall
def NtCreateSemaphore(
    call: Call,
    handle: NewHandle,
    access: u32,
    attributes: ObjectAttributes | None,
    initial: i32,
    maximum: i32,
) -> int:
    """Create or open a semaphore."""
    if maximum <= 0 or initial < 0 or initial > maximum:
        raise NtError(Status.INVALID_PARAMETER)
    return _create(call, handle, access, attributes, Semaphore, lambda: Semaphore(initial, maximum))


@syscall
def NtOpenSemaphore(call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes) -> None:
    """Open a named semaphore."""
    _open(call, handle, access, attributes, Semaphore)


@syscall
def NtReleaseSemaphore(
    call: Call, semaphore: Handle[Semaphore, SEMAPHORE_MODIFY_STATE], amount: u32, previous: Out[u32] | None
) -> None:
    """Add to a semaphore's count."""
    before = semaphore.release(amount)
    if previous is not None:
        previous.write(before)


@syscall
def NtQuerySemaphore(
    call: Call,
    semaphore: Handle[Semaphore, SEMAPHORE_QUERY_STATE],
    information_class: u32,
    buffer: Out[SEMAPHORE_BASIC_INFORMATION],
    length: u32,
    returned: Out[u32] | None,
) -> None:
    """Count and maximum of a semaphore."""
    _check_query(information_class, length, SEMAPHORE_BASIC_INFORMATION)
    buffer.write(SEMAPHORE_BASIC_INFORMATION(CurrentCount=semaphore.count, MaximumCount=semaphore.maximum))
    if returned is not None:
        returned.write(SEMAPHORE_BASIC_INFORMATION.size)


# -- timers -----------------------------------------------------------------------------------------------


@syscall
def NtCreateTimer(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes | None, kind: u32
) -> int:
    """Create or open a timer."""
    if kind not in (NOTIFICATION, SYNCHRONIZATION):
        raise NtError(Status.INVALID_PARAMETER)
    return _create(
        call, handle, access, attributes, Timer, lambda: Timer(call.kernel, kind == SYNCHRONIZATION)
    )


@syscall
def NtOpenTimer(call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes) -> None:
    """Open a named timer."""
    _open(call, handle, access, attributes, Timer)


@syscall
def NtSetTimer(
    call: Call,
    timer: Handle[Timer, TIMER_MODIFY_STATE],
    due: In[i64],
    routine: uptr,
    context: uptr,
    resume: boolean,
    period: i32,
    previous: Out[boolean] | None,
) -> int:
    """Arm a timer; waking a sleeping machine (`resume`) is not supported, as the status says."""
    if period < 0:
        raise NtError(Status.INVALID_PARAMETER)
    clock = call.kernel.clock
    wanted = due.read()
    before = timer.signaled
    moment = clock.monotonic() - wanted if wanted <= 0 else clock.monotonic() + wanted - clock.system()
    apc = (routine, context) if routine else None
    timer.start(moment, period * 10_000, call.thread if apc else None, apc)
    call.kernel.run_timers()
    if previous is not None:
        previous.write(before)
    return Status.TIMER_RESUME_IGNORED if resume else Status.SUCCESS


@syscall
def NtCancelTimer(
    call: Call, timer: Handle[Timer, TIMER_MODIFY_STATE], previous: Out[boolean] | None
) -> None:
    """Disarm a timer and tell whether it was signalled."""
    before = timer.signaled
    timer.cancel()
    if previous is not None:
        previous.write(before)


@syscall
def NtQueryTimer(
    call: Call,
    timer: Handle[Timer, TIMER_QUERY_STATE],
    information_class: u32,
    buffer: Out[TIMER_BASIC_INFORMATION],
    length: u32,
    returned: Out[u32] | None,
) -> None:
    """Time left and state of a timer."""
    if information_class != 0:
        raise NtError(Status.INVALID_INFO_CLASS)
    if length < TIMER_BASIC_INFORMATION.size:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    left = max(timer.due - call.kernel.clock.monotonic(), 0) if timer.due is not None else 0
    buffer.write(TIMER_BASIC_INFORMATION(RemainingTime=left, TimerState=timer.signaled))
    if returned is not None:
        returned.write(TIMER_BASIC_INFORMATION.size)


# -- keyed events -----------------------------------------------------------------------------------------


@syscall
def NtCreateKeyedEvent(
    call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes | None, flags: u32
) -> int:
    """Create or open a keyed event."""
    return _create(call, handle, access, attributes, KeyedEvent, KeyedEvent)


@syscall
def NtOpenKeyedEvent(call: Call, handle: NewHandle, access: u32, attributes: ObjectAttributes) -> None:
    """Open a named keyed event."""
    _open(call, handle, access, attributes, KeyedEvent)


@syscall
def NtWaitForKeyedEvent(
    call: Call, handle: uptr, key: uptr, alertable: boolean, timeout: In[i64] | None
) -> Wait | None:
    """Wait for a release with the same key."""
    event = _keyed_event(call, handle, KEYEDEVENT_WAIT, key)
    return _meet(call, event.releasing, event.waiting, key, bool(alertable), call.deadline(timeout))


@syscall
def NtReleaseKeyedEvent(
    call: Call, handle: uptr, key: uptr, alertable: boolean, timeout: In[i64] | None
) -> Wait | None:
    """Release one waiter with the same key, waiting for it to come."""
    event = _keyed_event(call, handle, KEYEDEVENT_WAKE, key)
    return _meet(call, event.waiting, event.releasing, key, bool(alertable), call.deadline(timeout))


def _keyed_event(call: Call, handle: int, access: int, key: int) -> KeyedEvent:
    if key & 1:
        raise NtError(Status.INVALID_PARAMETER_1)
    if not handle:
        return call.kernel.critical_section_event
    return call.process.handles.resolve(handle, KeyedEvent, access)


def _meet(
    call: Call,
    partners: list[KeyedSide],
    own: list[KeyedSide],
    key: int,
    alertable: bool,
    deadline: int | None,
) -> Wait | None:
    place = (call.process, key)
    for partner in partners:
        if partner.key == place:
            partners.remove(partner)
            partner.signaled = True
            return None
    side = KeyedSide(own, place)
    return Wait((side,), deadline, alertable=alertable, then=_met, data=(side,))


def _met(call: Call, status: int, acquired: object, side: KeyedSide) -> int:
    side.leave()
    return status


# -- waits ------------------------------------------------------------------------------------------------


@syscall
def NtWaitForSingleObject(
    call: Call, target: Handle[KernelObject, SYNCHRONIZE], alertable: boolean, timeout: In[i64] | None
) -> Wait:
    """Wait for one object."""
    return Wait((require_waitable(target),), call.deadline(timeout), alertable=bool(alertable))


@syscall
def NtWaitForMultipleObjects(
    call: Call,
    count: u32,
    handles: In[uptr],
    wait_type: u32,
    alertable: boolean,
    timeout: In[i64] | None,
) -> Wait:
    """Wait for one (WaitAny, 1) or all (WaitAll, 0) of several objects."""
    if not 1 <= count <= MAXIMUM_WAIT_OBJECTS:
        raise NtError(Status.INVALID_PARAMETER_1)
    table = call.process.handles
    targets = [require_waitable(table.resolve(h, KernelObject, SYNCHRONIZE)) for h in handles.array(count)]
    return Wait(targets, call.deadline(timeout), all=wait_type == 0, alertable=bool(alertable))


@syscall
def NtSignalAndWaitForSingleObject(
    call: Call, signal: uptr, wait: uptr, alertable: boolean, timeout: In[i64] | None
) -> Wait:
    """Signal one object and wait for another."""
    table = call.process.handles
    target = require_waitable(table.resolve(wait, KernelObject, SYNCHRONIZE))
    deadline = call.deadline(timeout)
    first = table.resolve(signal, KernelObject, 0)
    if isinstance(first, Event):
        table.resolve(signal, Event, EVENT_MODIFY_STATE).signaled = True
    elif isinstance(first, Mutant):
        first.release(call.thread)
    elif isinstance(first, Semaphore):
        table.resolve(signal, Semaphore, SEMAPHORE_MODIFY_STATE).release(1)
    else:
        raise NtError(Status.OBJECT_TYPE_MISMATCH)
    return Wait((target,), deadline, alertable=bool(alertable))


@syscall
def NtWaitForAlertByThreadId(call: Call, address: uptr, timeout: In[i64] | None) -> Wait | int:
    """Sleep until another thread names this one's id in NtAlertThreadByThreadId."""
    thread = call.thread
    if thread.alert_by_id:
        thread.alert_by_id = False
        return Status.ALERTED
    return Wait((), call.deadline(timeout), then=_alerted_by_id)


def _alerted_by_id(call: Call, status: int, acquired: object) -> int:
    call.thread.alert_by_id = False
    return status


@syscall
def NtAlertThreadByThreadId(call: Call, thread_id: uptr) -> None:
    """Wake the thread with that id, or let its next NtWaitForAlertByThreadId return at once."""
    thread = call.kernel.thread_by_id(thread_id)
    if thread is None:
        raise NtError(Status.INVALID_CID)
    if thread.process is not call.process:
        raise NtError(Status.ACCESS_DENIED)
    thread.alert_by_id = True
    wait = thread.wait
    if wait is not None and wait.then is _alerted_by_id:
        thread.end_wait(Status.ALERTED)
