"""Registers, APCs, callbacks, exceptions as frames on the guest's stack, tokens and jobs; without a CPU."""

from __future__ import annotations

import struct

import pytest

from fake_machine import SCRATCH, STACK, Machine
from nexus.ir.state import Exit
from nexus.machine.stop import Stop
from nexus.nt import callback
from nexus.nt.apc import Apc
from nexus.nt.ps import context as ctx
from nexus.nt.ps import exceptions
from nexus.nt.status import Status
from nexus.nt.versions import WINE_8, WINE_10
from nexus.nt.wait import RESUME, UserCallback

CURRENT_THREAD = (1 << 64) - 2
CURRENT_PROCESS_TOKEN = (1 << 64) - 4
DISPATCHERS = {
    "KiUserExceptionDispatcher": 0x7000_0000,
    "KiUserApcDispatcher": 0x7000_1000,
    "KiUserCallbackDispatcher": 0x7000_2000,
}


@pytest.fixture
def guest(machine: Machine) -> Machine:
    machine.process.symbols = dict(DISPATCHERS)
    machine.thread.state.rsp = STACK - 0x100
    machine.thread.state.rip = 0x1400_1234
    return machine


def context_at(machine: Machine, address: int) -> bytes:
    return machine.memory.read(address, ctx.CONTEXT_SIZE)


def field(context: bytes, offset: int) -> int:
    return int.from_bytes(context[offset : offset + 8], "little")


def test_an_access_violation_is_a_frame_on_the_stack(guest: Machine) -> None:
    state = guest.thread.state
    state.rbx, rsp = 0x1111, state.rsp
    exceptions.on_stop(guest.thread, Stop(Exit.FAULT, 0, 0xDEAD_0000, write=True))
    assert state.rip == DISPATCHERS["KiUserExceptionDispatcher"]
    assert state.rsp % 64 == 0 and state.rsp < rsp - 0x5C0
    context = context_at(guest, state.rsp)
    assert (field(context, ctx.RIP), field(context, ctx.RSP), field(context, 0x90)) == (
        0x1400_1234,
        rsp,
        0x1111,
    )
    record = struct.unpack("<IIQQII2Q", guest.memory.read(state.rsp + 0x4F0, 48))
    assert record == (Status.ACCESS_VIOLATION, 0, 0, 0x1400_1234, 2, 0, 1, 0xDEAD_0000)
    frame = struct.unpack("<5Q", guest.memory.read(state.rsp + 0x590, 40))
    assert (frame[0], frame[3]) == (0x1400_1234, rsp)


def test_a_breakpoint_points_at_itself(guest: Machine) -> None:
    exceptions.on_stop(guest.thread, Stop(Exit.INTERRUPT, 3))
    assert field(context_at(guest, guest.thread.state.rsp), ctx.RIP) == 0x1400_1233


def test_an_exception_without_a_stack_ends_the_process(guest: Machine) -> None:
    guest.thread.state.rsp = 0x10
    exceptions.on_stop(guest.thread, Stop(Exit.DIVIDE))
    assert guest.process.terminated
    assert guest.process.exit_status == Status.INTEGER_DIVIDE_BY_ZERO
    assert guest.process.crash is not None
    assert "STATUS_INTEGER_DIVIDE_BY_ZERO" in guest.process.crash.text()


def test_continue_restores_what_the_flags_name(guest: Machine) -> None:
    state = guest.thread.state
    state.rbx, state.rip = 5, 0x5000
    saved = ctx.capture(state, flags=ctx.CONTEXT_FULL)
    at = guest.put(bytes(saved))
    state.rbx, state.rip = 6, 0x6000
    assert guest.NtContinue(at, 0) is RESUME
    assert (state.rbx, state.rip) == (5, 0x5000)
    struct.pack_into("<I", saved, ctx.FLAGS, ctx.CONTEXT_AMD64 | ctx.CONTROL)
    guest.memory.write(at, bytes(saved))
    state.rbx = 7
    guest.NtContinue(at, 0)
    assert state.rbx == 7
    guest.memory.write(at + ctx.FLAGS, bytes(4))
    assert guest.NtContinue(at, 0) == Status.INVALID_PARAMETER


def test_flags_that_user_mode_may_not_set_stay(guest: Machine) -> None:
    saved = ctx.capture(guest.thread.state)
    struct.pack_into("<I", saved, ctx.EFLAGS, 0xFFFF_FFFF)
    guest.NtContinue(guest.put(bytes(saved)), 0)
    assert guest.thread.state.eflags & 0x3000 == 0  # IOPL
    assert guest.thread.state.eflags & 0x202 == 0x202


@pytest.mark.parametrize("version", [WINE_10, WINE_8], ids=["wine-10", "wine-8"])
def test_an_apc_interrupts_an_alertable_wait(guest: Machine, version: object) -> None:
    guest.process.version = version  # type: ignore[assignment]
    thread, state = guest.thread, guest.thread.state
    event = guest.new_handle("NtCreateEvent", 0x1F0003, 0, 0, 0)
    guest.NtWaitForSingleObject(event, 1, 0)
    thread.queue_apc(Apc(0x4444, (1, 2, 3)))
    assert guest.outcome() == Status.USER_APC
    state.rax = Status.USER_APC
    callback.deliver_apc(thread)
    assert state.rip == DISPATCHERS["KiUserApcDispatcher"]
    if version is WINE_10:
        context = context_at(guest, state.rsp)
        assert struct.unpack("<4Q", context[:32]) == (1, 2, 3, 0x4444)
        assert state.rsp % 16 == 0
    else:
        context = context_at(guest, state.rcx)
        assert (state.rdx, state.r8, state.r9) == (1, 2, 3)
        assert guest.memory.u64(state.rsp + 8 + 0x20) == 0x4444  # fifth argument once ntdll has popped 8
    assert (field(context, ctx.RAX), field(context, ctx.RIP)) == (Status.USER_APC, 0x1400_1234)


def test_an_apc_waits_for_an_alertable_wait(guest: Machine) -> None:
    event = guest.new_handle("NtCreateEvent", 0x1F0003, 0, 0, 0)
    guest.NtWaitForSingleObject(event, 0, 0)
    guest.thread.queue_apc(Apc(0x4444, (1, 2, 3)))
    assert guest.outcome() is None
    guest.NtSetEvent(event, 0)
    assert guest.outcome() == Status.WAIT_0
    assert guest.NtTestAlert() is RESUME
    assert guest.thread.state.rip == DISPATCHERS["KiUserApcDispatcher"]


def _finished(call: object, status: int, output: bytes, label: str) -> tuple[int, bytes, str]:
    return status, output, label


def test_callbacks_nest(guest: Machine) -> None:
    thread, state = guest.thread, guest.thread.state
    callback.enter(thread, UserCallback(3, b"outer", then=_finished, data=("first",)))
    outer = state.rsp
    args, length, index = struct.unpack("<QII", guest.memory.read(outer + 0x20, 16))
    assert (guest.memory.read(args, length), index) == (b"outer", 3)
    callback.enter(thread, UserCallback(4, b"inner!", then=_finished, data=("second",)))
    assert state.rsp < outer
    output = guest.put(b"result")
    assert guest.NtCallbackReturn(output, 6, 0x77) == (0x77, b"result", "second")
    assert state.rsp == outer
    assert guest.NtCallbackReturn(0, 0, 0) == (0, b"", "first")
    assert (state.rip, state.rsp) == (0x1400_1234, STACK - 0x100)
    assert guest.NtCallbackReturn(0, 0, 0) == Status.NO_CALLBACK_ACTIVE


def test_suspension_is_counted(guest: Machine) -> None:
    other = guest.new_thread()
    handle = guest.process.handles.add(other, other.type.all)
    previous = guest.put(4)
    for count in range(127):
        assert guest.NtSuspendThread(handle, previous) == Status.SUCCESS
        assert guest.memory.u32(previous) == count
    assert guest.NtSuspendThread(handle, 0) == Status.SUSPEND_COUNT_EXCEEDED
    assert guest.NtResumeThread(handle, previous) == Status.SUCCESS
    assert guest.memory.u32(previous) == 127
    assert not other.runnable


def test_the_last_thread_ends_the_process(guest: Machine) -> None:
    other = guest.new_thread()
    guest.NtTerminateThread(CURRENT_THREAD, 11)
    assert (guest.thread.exit_status, guest.process.terminated) == (11, False)
    guest.call("NtTerminateThread", CURRENT_THREAD, 12, thread=other)
    assert (guest.process.terminated, guest.process.exit_status, guest.process.signaled) == (True, 12, True)


def test_threads_are_enumerated(guest: Machine) -> None:
    others = [guest.new_thread() for _ in range(2)]
    out = guest.put(8)
    seen, handle = [], 0
    while guest.NtGetNextThread((1 << 64) - 1, handle, 0x1FFFFF, 0, 0, out) == Status.SUCCESS:
        handle = guest.memory.u64(out)
        seen.append(guest.process.handles.entry(handle).object)
    assert seen == [guest.thread, *others]
    assert guest.memory.u64(out) == 0


def test_a_token_tells_its_user(guest: Machine) -> None:
    buffer, length = guest.put(256), guest.put(4)
    assert (
        guest.NtQueryInformationToken(CURRENT_PROCESS_TOKEN, 1, buffer, 8, length) == Status.BUFFER_TOO_SMALL
    )
    size = guest.memory.u32(length)
    assert guest.NtQueryInformationToken(CURRENT_PROCESS_TOKEN, 1, buffer, size, length) == Status.SUCCESS
    assert guest.memory.u64(buffer) == buffer + 16
    revision, count, *rest = struct.unpack("<BB6s5I", guest.memory.read(buffer + 16, 28))
    assert (revision, count, rest[0], rest[1:]) == (1, 5, b"\0\0\0\0\0\5", [21, 0, 0, 0, 1000])


def test_privileges_that_are_not_held_cannot_be_enabled(guest: Machine) -> None:
    token = guest.process.handles.add(guest.process.token, 0x1FF)
    wanted = guest.put(struct.pack("<IQIQI", 2, 23, 2, 20, 2))  # SeChangeNotify, SeDebug
    assert guest.NtAdjustPrivilegesToken(token, 0, wanted, 0, 0, 0) == Status.NOT_ALL_ASSIGNED
    result = guest.put(1)
    required = guest.put(struct.pack("<IIQI", 1, 1, 23, 0))
    assert guest.NtPrivilegeCheck(token, required, result) == Status.SUCCESS
    assert guest.memory.read(result, 1) == b"\1"


def test_jobs_count_and_end_their_processes(guest: Machine) -> None:
    job = guest.new_handle("NtCreateJobObject", 0x1F001F, 0)
    child = guest.new_process()
    handle = guest.process.handles.add(child, child.type.all)
    assert guest.NtIsProcessInJob(handle, job) == Status.PROCESS_NOT_IN_JOB
    assert guest.NtAssignProcessToJobObject(job, handle) == Status.SUCCESS
    assert guest.NtIsProcessInJob(handle, 0) == Status.PROCESS_IN_JOB
    buffer = guest.put(48)
    assert guest.NtQueryInformationJobObject(job, 1, buffer, 48, 0) == Status.SUCCESS
    assert struct.unpack("<4I", guest.memory.read(buffer + 32, 16)) == (0, 1, 1, 0)
    limits = bytearray(0x90)
    struct.pack_into("<I", limits, 16, 0x2000)
    assert guest.NtSetInformationJobObject(job, 9, guest.put(bytes(limits)), 0x90) == Status.SUCCESS
    guest.NtClose(job)
    assert (child.terminated, child.exit_status) == (True, 0)


def test_context_of_another_thread(guest: Machine) -> None:
    other = guest.new_thread()
    other.state.rip, other.state.r12 = 0x7777, 0x1212
    handle = guest.process.handles.add(other, other.type.all)
    registers = bytearray(ctx.CONTEXT_SIZE)
    struct.pack_into("<I", registers, ctx.FLAGS, ctx.CONTEXT_AMD64 | ctx.CONTROL)
    at = guest.put(bytes(registers))
    assert guest.NtGetContextThread(handle, at) == Status.SUCCESS
    context = context_at(guest, at)
    assert (field(context, ctx.RIP), field(context, ctx.RAX + 12 * 8)) == (0x7777, 0)
    assert guest.NtGetContextThread(handle, SCRATCH - 0x1000) == Status.ACCESS_VIOLATION
