"""Events, mutants, semaphores, timers, keyed events and waits.

Expected values: Wine's and Windows' documented behaviour.
"""

from __future__ import annotations

from fake_machine import Machine
from nexus.nt.access import EVENT_QUERY_STATE, SYNCHRONIZE
from nexus.nt.status import Status

ALL = 0x1F0003
GARBAGE = 0xDEAD_BEEF_0000_0000


def signed(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)


def test_an_auto_reset_event_lets_one_wait_through(machine: Machine) -> None:
    event = machine.new_handle("NtCreateEvent", ALL, 0, 1, 0)
    zero = machine.put(signed(0))
    assert machine.NtWaitForSingleObject(event, 0, zero) == Status.TIMEOUT
    previous = machine.put(4)
    assert machine.NtSetEvent(event, previous) == Status.SUCCESS
    assert machine.memory.u32(previous) == 0
    assert machine.NtSetEvent(event, previous) == Status.SUCCESS
    assert machine.memory.u32(previous) == 1
    assert machine.NtWaitForSingleObject(event, 0, zero) == Status.WAIT_0
    assert machine.NtWaitForSingleObject(event, 0, zero) == Status.TIMEOUT


def test_a_blocked_thread_is_woken_by_the_event(machine: Machine) -> None:
    event = machine.new_handle("NtCreateEvent", ALL, 0, 1, 0)
    other = machine.new_thread()
    machine.NtWaitForSingleObject(event, 0, 0, thread=other)
    assert machine.outcome(other) is None
    machine.NtSetEvent(event, 0)
    assert machine.outcome(other) == Status.WAIT_0


def test_arguments_are_masked_to_their_declared_type(machine: Machine) -> None:
    event = machine.new_handle("NtCreateEvent", GARBAGE | ALL, 0, GARBAGE | 1, 0xFFFFFF00)
    zero = machine.put(signed(0))
    assert machine.NtWaitForSingleObject(event, 0, zero) == Status.TIMEOUT


def test_handle_checks(machine: Machine) -> None:
    event = machine.new_handle("NtCreateEvent", EVENT_QUERY_STATE | SYNCHRONIZE, 0, 0, 0)
    semaphore = machine.new_handle("NtCreateSemaphore", ALL, 0, 0, 5)
    assert machine.NtSetEvent(event, 0) == Status.ACCESS_DENIED
    assert machine.NtSetEvent(semaphore, 0) == Status.OBJECT_TYPE_MISMATCH
    assert machine.NtSetEvent(0x4444, 0) == Status.INVALID_HANDLE
    assert machine.NtSetEvent(0, 0) == Status.INVALID_HANDLE


def test_wild_pointers_become_access_violations_and_leave_no_handle(machine: Machine) -> None:
    before = len(machine.process.handles)
    for address in (0, 0x1234, 0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_8000_0000_0000, 1 << 63):
        assert machine.NtCreateEvent(address, ALL, 0, 0, 0) == Status.ACCESS_VIOLATION
    assert len(machine.process.handles) == before


def test_named_objects_are_found_without_regard_to_case(machine: Machine) -> None:
    name = machine.attributes("\\BaseNamedObjects\\Ready")
    event = machine.new_handle("NtCreateEvent", ALL, name, 0, 1)
    out = machine.put(8)
    assert machine.NtCreateEvent(out, ALL, name, 0, 1) == Status.OBJECT_NAME_COLLISION
    openif = machine.attributes("\\BaseNamedObjects\\Ready", flags=0xC0)
    assert machine.NtCreateEvent(out, ALL, openif, 0, 1) == Status.OBJECT_NAME_EXISTS
    existing = machine.memory.u64(out)
    again = machine.new_handle(
        "NtOpenEvent", ALL, machine.attributes("\\Sessions\\0\\BaseNamedObjects\\rEADY")
    )
    assert machine.NtResetEvent(again, 0) == Status.SUCCESS
    assert machine.NtWaitForSingleObject(event, 0, machine.put(signed(0))) == Status.TIMEOUT
    assert machine.NtOpenMutant(out, ALL, name) == Status.OBJECT_TYPE_MISMATCH
    assert machine.memory.u64(out) == 0
    for handle in (event, again, existing):
        machine.process.handles.close(handle)
    assert machine.NtOpenEvent(out, ALL, name) == Status.OBJECT_NAME_NOT_FOUND
    missing = machine.attributes("\\BaseNamedObjects\\No\\Ready")
    assert machine.NtOpenEvent(out, ALL, missing) == Status.OBJECT_PATH_NOT_FOUND


def test_mutants_recurse_and_are_abandoned(machine: Machine) -> None:
    mutant = machine.new_handle("NtCreateMutant", 0x1F0001, 0, 1)
    assert machine.NtWaitForSingleObject(mutant, 0, 0) == Status.WAIT_0
    previous = machine.put(4)
    assert machine.NtReleaseMutant(mutant, previous) == Status.SUCCESS
    assert machine.memory.u32(previous) == 0xFFFF_FFFF
    other = machine.new_thread()
    assert machine.NtReleaseMutant(mutant, 0, thread=other) == Status.MUTANT_NOT_OWNED
    machine.NtWaitForSingleObject(mutant, 0, 0, thread=other)
    assert machine.NtReleaseMutant(mutant, 0) == Status.SUCCESS
    assert machine.outcome(other) == Status.WAIT_0
    other.terminate(0)
    assert machine.NtWaitForSingleObject(mutant, 0, 0) == Status.ABANDONED_WAIT_0


def test_wait_all_takes_everything_or_nothing(machine: Machine) -> None:
    first = machine.new_handle("NtCreateEvent", ALL, 0, 1, 1)
    second = machine.new_handle("NtCreateSemaphore", ALL, 0, 0, 2)
    handles = machine.put(first.to_bytes(8, "little") + second.to_bytes(8, "little"))
    zero = machine.put(signed(0))
    assert machine.NtWaitForMultipleObjects(2, handles, 0, 0, zero) == Status.TIMEOUT
    assert machine.NtWaitForMultipleObjects(2, handles, 1, 0, zero) == Status.WAIT_0
    machine.NtSetEvent(first, 0)
    assert machine.NtReleaseSemaphore(second, 1, 0) == Status.SUCCESS
    assert machine.NtWaitForMultipleObjects(2, handles, 0, 0, zero) == Status.WAIT_0
    assert machine.NtWaitForMultipleObjects(2, handles, 1, 0, zero) == Status.TIMEOUT
    assert machine.NtWaitForMultipleObjects(0, handles, 1, 0, zero) == Status.INVALID_PARAMETER_1
    assert machine.NtWaitForMultipleObjects(65, handles, 1, 0, zero) == Status.INVALID_PARAMETER_1


def test_a_semaphore_has_a_limit(machine: Machine) -> None:
    semaphore = machine.new_handle("NtCreateSemaphore", ALL, 0, 1, 2)
    assert machine.NtReleaseSemaphore(semaphore, 2, 0) == Status.SEMAPHORE_LIMIT_EXCEEDED
    previous = machine.put(4)
    assert machine.NtReleaseSemaphore(semaphore, 1, previous) == Status.SUCCESS
    assert machine.memory.u32(previous) == 1
    assert machine.NtCreateSemaphore(machine.put(8), ALL, 0, 3, 2) == Status.INVALID_PARAMETER


def test_a_relative_timeout_ends_the_wait(machine: Machine) -> None:
    event = machine.new_handle("NtCreateEvent", ALL, 0, 1, 0)
    machine.NtWaitForSingleObject(event, 0, machine.put(signed(-500)))
    machine.kernel.clock.advance(499)
    machine.kernel.run_timers()
    assert machine.outcome() is None
    machine.kernel.clock.advance(1)
    machine.kernel.run_timers()
    assert machine.outcome() == Status.TIMEOUT


def test_a_periodic_timer_is_signalled_again(machine: Machine) -> None:
    timer = machine.new_handle("NtCreateTimer", 0x1F0003, 0, 1)
    machine.NtSetTimer(timer, machine.put(signed(-100_000)), 0, 0, 0, 10, 0)
    zero = machine.put(signed(0))
    for _ in range(3):
        assert machine.NtWaitForSingleObject(timer, 0, zero) == Status.TIMEOUT
        machine.kernel.clock.advance(100_000)
        machine.kernel.run_timers()
        assert machine.NtWaitForSingleObject(timer, 0, zero) == Status.WAIT_0
    machine.NtSetTimer(timer, machine.put(signed(1)), 0, 0, 0, 10, 0)  # every 10 ms since 1601
    machine.kernel.run_timers()
    assert machine.NtWaitForSingleObject(timer, 0, zero) == Status.WAIT_0
    assert machine.NtWaitForSingleObject(timer, 0, zero) == Status.TIMEOUT
    machine.NtCancelTimer(timer, 0)
    machine.kernel.clock.advance(1_000_000)
    machine.kernel.run_timers()
    assert machine.NtWaitForSingleObject(timer, 0, zero) == Status.TIMEOUT


def test_keyed_events_pair_waiter_and_releaser(machine: Machine) -> None:
    event = machine.new_handle("NtCreateKeyedEvent", 0x3, 0, 0)
    other = machine.new_thread()
    machine.NtWaitForKeyedEvent(event, 0x100, 0, 0, thread=other)
    zero = machine.put(signed(0))
    assert machine.NtReleaseKeyedEvent(event, 0x200, 0, zero) == Status.TIMEOUT
    assert machine.NtReleaseKeyedEvent(event, 0x100, 0, 0) == Status.SUCCESS
    assert machine.outcome(other) == Status.SUCCESS
    assert machine.NtReleaseKeyedEvent(event, 0x101, 0, 0) == Status.INVALID_PARAMETER_1


def test_alert_by_thread_id_is_remembered_once(machine: Machine) -> None:
    other = machine.new_thread()
    assert machine.NtAlertThreadByThreadId(other.id) == Status.SUCCESS
    assert machine.NtAlertThreadByThreadId(other.id) == Status.SUCCESS
    assert machine.NtWaitForAlertByThreadId(0, 0, thread=other) == Status.ALERTED
    machine.NtWaitForAlertByThreadId(0, 0, thread=other)
    assert machine.outcome(other) is None
    machine.NtAlertThreadByThreadId(other.id)
    assert machine.outcome(other) == Status.ALERTED
    assert machine.NtAlertThreadByThreadId(0xFFFC) == Status.INVALID_CID
