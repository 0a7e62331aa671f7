"""Code that changes while it is run, on every engine: by itself, by the kernel, through another mapping.

The machine code is written by hand; expected values are those of the processor manuals.
"""

import os
import threading

import pytest

from hand_code import CODE_AT, DATA, PAGE, SYSCALL, Machine, shape
from nexus.ir.state import Exit
from nexus.machine.host import create_shared
from nexus.machine.window import EXECUTE, READ, WRITE, Window

# code that changes ---------------------------------------------------------------------------------


@pytest.fixture
def open_code(machine):
    machine.window.protect(CODE_AT, 4 * PAGE, READ | WRITE | EXECUTE)
    return machine


def test_a_block_that_overwrites_its_own_next_instruction(open_code):
    # mov byte [rip + 2], 0xc1: the inc eax behind it becomes inc ecx
    open_code.run("c60502000000c1" + "4890" + "90ffc0" + SYSCALL, rax=0)
    assert open_code.state.rip != CODE_AT
    stop = open_code.run("c60501000000c1" + "ffc0" + SYSCALL, rax=0)
    assert stop.kind == Exit.SYSCALL
    assert (open_code.state.rax, open_code.state.rcx & 0xFFFF) == (0, (CODE_AT + 11) & 0xFFFF)


def test_a_loop_that_rewrites_its_body_every_time(open_code):
    # add ecx, imm8; mov [rip - 7], dl (the imm8); inc dl; dec ebx; jnz: ecx = 1 + 10 + 11 + 12
    code = "83c101" + "8815f9ffffff" + "fec2" + "ffcb" + "75f1" + "89c8" + SYSCALL
    assert open_code.run(code, rdx=10, rbx=4).kind == Exit.SYSCALL
    assert open_code.state.rax == 1 + 10 + 11 + 12


def test_code_written_by_another_page(open_code):
    target = CODE_AT + PAGE
    open_code.code("b801000000c3", target)
    # call [target]; mov byte [target + 1], 7; call again
    call = "ffd3"
    open_code.run(call + "89c1" + "c6430107" + call + SYSCALL, rbx=target)
    assert (open_code.state.rax, open_code.state.rip) == (7, CODE_AT + 12)


def test_writes_of_the_kernel_are_seen(machine):
    for value in (1, 2, 3):
        machine.window.write_forced(CODE_AT, bytes((0xB8, value, 0, 0, 0)) + bytes.fromhex(SYSCALL))
        machine.start()
        assert machine.run().kind == Exit.SYSCALL
        assert machine.state.rax == value


def test_remapping_is_seen(machine):
    assert machine.run("b801000000" + SYSCALL).kind == Exit.SYSCALL
    machine.window.unmap(CODE_AT, PAGE)
    machine.start()
    assert shape(machine.run()) == (Exit.FAULT, CODE_AT, False, True)
    machine.window.map(CODE_AT, PAGE, READ | EXECUTE)
    assert machine.run("b802000000" + SYSCALL).kind == Exit.SYSCALL
    assert machine.state.rax == 2


def test_a_linked_block_is_unlinked_when_its_target_changes(machine):
    target = CODE_AT + PAGE
    machine.code("b801000000" + SYSCALL, target)
    jump = "e9" + (target - CODE_AT - 5).to_bytes(4, "little").hex()
    machine.run(jump)
    machine.start()
    machine.run()
    machine.code("b802000000" + SYSCALL, target)
    machine.start()
    machine.run()
    assert machine.state.rax == 2
    machine.window.protect(target, PAGE, READ)
    machine.start()
    assert shape(machine.run()) == (Exit.FAULT, target, False, True)


def test_a_failed_write_to_code_changes_nothing(machine):
    assert machine.run(SYSCALL).kind == Exit.SYSCALL
    assert shape(machine.run("c60000" + SYSCALL, rax=CODE_AT)) == (Exit.FAULT, CODE_AT, True, False)


def test_a_write_across_two_code_pages(open_code):
    edge = CODE_AT + PAGE
    open_code.code(SYSCALL, edge)
    open_code.start(edge)
    open_code.run()
    inc_and_stop = 0x050FC0FF
    stop = open_code.run("488918" + "e9f80f0000", rax=edge - 4, rbx=inc_and_stop << 32)
    assert (stop.kind, open_code.state.rip) == (Exit.SYSCALL, edge + 4)
    assert open_code.state.rax == edge - 3


def test_everything_is_dropped_when_the_arena_is_full(monkeypatch):
    monkeypatch.setattr("nexus.machine.translation.ARENA_BYTES", (2 << 20) + 8192)
    machine = Machine()
    try:
        for number in range(200):
            at = CODE_AT + 16 * number
            machine.code("05" + number.to_bytes(4, "little").hex() + "e906000000", at)
        machine.code(SYSCALL, CODE_AT + 16 * 200)
        for _ in range(3):
            machine.start(rax=0)
            assert machine.run(budget=10_000).kind == Exit.SYSCALL
            assert machine.state.rax == 199 * 200 // 2
        assert machine.vcpu.translations.generation > 3
    finally:
        machine.vcpu.close()
        machine.window.close()


def test_two_windows_do_not_mix(machine):
    other = Machine()
    try:
        machine.code("b801000000" + SYSCALL)
        other.code("b802000000" + SYSCALL)
        for each, value in ((machine, 1), (other, 2), (machine, 1)):
            each.start()
            each.run()
            assert each.state.rax == value
    finally:
        other.vcpu.close()
        other.window.close()
    machine.start()
    assert machine.run().kind == Exit.SYSCALL


def test_two_machines_run_in_two_threads():
    results = {}

    def work(name):
        machine = Machine()
        machine.window.protect(CODE_AT, 4 * PAGE, READ | WRITE | EXECUTE)
        out = []
        for number in range(300):
            machine.run("b8" + number.to_bytes(4, "little").hex() + "8903" + SYSCALL, rbx=DATA + 8)
            fault = machine.run("488b08", rax=name << 12)
            out.append((machine.window.u32(DATA + 8), fault.address))
        results[name] = out
        machine.vcpu.close()
        machine.window.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in (1, 2):
        assert results[name] == [(number, name << 12) for number in range(300)]


# memory that is mapped twice -----------------------------------------------------------------------

RETURN = "b8%02x0000000f05"  # mov eax, n; syscall
VIEW, ALIAS = 0x100000, 0x200000


@pytest.fixture
def twice(machine):
    fd = create_shared("code", 2 * PAGE)
    machine.window.map_file(VIEW, 2 * PAGE, READ | EXECUTE, fd, 0, True)
    machine.window.map_file(ALIAS, 2 * PAGE, READ | WRITE, fd, 0, True)
    machine.fd = fd
    yield machine
    os.close(fd)


def result_at(machine, address):
    machine.start(address)
    assert machine.run().kind == Exit.SYSCALL
    return machine.state.rax


def test_code_written_through_another_view_is_seen(twice):
    for number in (1, 2, 3):
        twice.window.write(ALIAS + PAGE, bytes.fromhex(RETURN % number))
        assert result_at(twice, VIEW + PAGE) == number


def test_code_that_the_guest_writes_through_another_view_is_seen(twice):
    twice.window.write(ALIAS, bytes.fromhex(RETURN % 1))
    assert result_at(twice, VIEW) == 1
    store = "c60309" + "ffe1"  # mov byte [rbx], 9; jmp rcx
    assert twice.run(store, rbx=ALIAS + 1, rcx=VIEW).kind == Exit.SYSCALL
    assert twice.state.rax == 9


def test_a_view_that_comes_later_is_watched_too(twice):
    other = Window()
    twice.window.write(ALIAS, bytes.fromhex(RETURN % 1))
    assert result_at(twice, VIEW) == 1
    twice.window.unmap(ALIAS, 2 * PAGE)
    other.map_file(0x700000, PAGE, READ | WRITE, twice.fd, 0, True)
    twice.window.map_file(ALIAS, PAGE, READ | WRITE, twice.fd, 0, True)
    for number, (window, address) in enumerate(((other, 0x700000), (twice.window, ALIAS), (other, 0x700000))):
        window.write(address, bytes.fromhex(RETURN % number))
        assert result_at(twice, VIEW) == number
    other.close()
    twice.window.write(ALIAS, bytes.fromhex(RETURN % 7))
    assert result_at(twice, VIEW) == 7


def test_two_windows_execute_the_same_memory(twice):
    other = Machine()
    other.window.map_file(VIEW, PAGE, READ | WRITE | EXECUTE, twice.fd, 0, True)
    try:
        for number in (1, 2, 3):
            other.window.write(VIEW, bytes.fromhex(RETURN % number))
            assert result_at(twice, VIEW) == result_at(other, VIEW) == number
            twice.window.write(ALIAS, bytes.fromhex(RETURN % (number + 10)))
            assert result_at(other, VIEW) == result_at(twice, VIEW) == number + 10
    finally:
        other.vcpu.close()
        other.window.close()
