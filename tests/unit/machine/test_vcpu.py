"""The vCPU on every engine: stops, faults, budget, single steps, hooks.

The machine code is written by hand; expected values are those of the processor manuals.
"""

import pytest
from iced_x86 import Mnemonic

from hand_code import CODE_AT, DATA, PAGE, STACK, SYSCALL, shape
from nexus.base.errors import Unsupported
from nexus.ir.state import SLOTS, Exit
from nexus.isa.x86.registers import FLAG_TF
from nexus.isa.x86.table import SEMANTICS
from nexus.machine.host import create_shared
from nexus.machine.window import EXECUTE, READ, WRITE

NO_ADDRESS = (1 << 64) - 1


# stops ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code, kind, argument, length",
    [
        (SYSCALL, Exit.SYSCALL, 0, 2),
        ("cc", Exit.INTERRUPT, 3, 1),
        ("cd29", Exit.INTERRUPT, 0x29, 2),
        ("0f0b", Exit.ILLEGAL, 0, 0),
        ("06", Exit.ILLEGAL, 0, 0),
        ("48f7f1", Exit.DIVIDE, 0, 0),
        ("f4", Exit.PRIVILEGED, 0, 0),
    ],
)
def test_stops(machine, code, kind, argument, length):
    stop = machine.run("90" + code)
    assert (stop.kind, stop.argument, machine.state.rip) == (kind, argument, CODE_AT + 1 + length)


def test_a_syscall_leaves_rcx_and_r11_as_the_instruction_does(machine):
    machine.run("f9" + SYSCALL)
    assert machine.state.rcx == CODE_AT + 3
    assert machine.state.r11 == machine.state.eflags
    assert machine.state.r11 & 1


def test_an_unknown_instruction_is_named(machine, monkeypatch):
    monkeypatch.delitem(SEMANTICS, Mnemonic.BSWAP)
    with pytest.raises(Unsupported, match=r"bswap ecx.*\(0f c9\).*0x10001"):
        machine.run("90" + "0fc9", rax=DATA)


def test_helpers_go_on(machine):
    stop = machine.run("0fa2" + "0f31" + "48ffc3" + SYSCALL, rax=0)
    assert stop.kind == Exit.SYSCALL
    assert machine.state.rip == CODE_AT + 9


# faults --------------------------------------------------------------------------------------------

READ_RAX, WRITE_RAX, ADD_RAX = "488b08", "488908", "480108"
WILD = [
    (-1 & NO_ADDRESS, -1 & NO_ADDRESS, True),
    (1 << 63 | DATA, NO_ADDRESS, False),
    (DATA + (1 << 42), DATA + (1 << 42), True),
    (0xFFFF_8000_0000_0000, 0xFFFF_8000_0000_0000, True),
    (0x0000_8000_0000_0000, NO_ADDRESS, False),
    (0, 0, True),
    (0x7FFF_FFFF_F000, 0x7FFF_FFFF_F000, True),
]


@pytest.mark.parametrize("address, reported, direction", WILD)
def test_wild_addresses(machine, address, reported, direction):
    fault = (Exit.FAULT, reported, False, False)
    write_fault = (Exit.FAULT, reported, direction, False)
    assert shape(machine.run("90" + READ_RAX, rax=address)) == fault
    assert machine.state.rip == CODE_AT + 1
    assert shape(machine.run("90" + WRITE_RAX, rax=address)) == write_fault
    assert machine.state.rip == CODE_AT + 1
    assert shape(machine.run("ff7008", rax=address - 8 & NO_ADDRESS)) == fault  # push [rax + 8]
    assert machine.state.rsp == STACK + PAGE
    vector = address & -16  # movups [rax], which could also be misaligned, and movaps
    vector_fault = (Exit.FAULT, vector if reported == address else reported)
    for load, store in (("0f1008", "0f1108"), ("0f2808", "0f2908")):
        assert shape(machine.run(load, rax=vector)) == (*vector_fault, False, False)
        assert shape(machine.run(store, rax=vector)) == (*vector_fault, direction, False)
    for string, expected in (("f348ab", write_fault), ("f3a4", fault), ("48ad", fault)):
        source = address if expected is fault else DATA
        target = address if expected is write_fault else DATA
        assert shape(machine.run(string, rdi=target, rsi=source, rcx=9)) == expected
        assert (machine.state.rcx, machine.state.rip) == (9, CODE_AT)


def test_a_misaligned_vector_access_has_no_address(machine):
    assert shape(machine.run("0f2808", rax=DATA + 8)) == (Exit.FAULT, NO_ADDRESS, False, False)
    assert shape(machine.run("660f7f08", rax=DATA + 1)) == (Exit.FAULT, NO_ADDRESS, False, False)
    assert machine.run("0f1008" + SYSCALL, rax=DATA + 1).kind == Exit.SYSCALL


def test_a_repeated_instruction_stops_at_the_element_that_faults(machine):
    end = DATA + 2 * PAGE
    stop = machine.run("f348ab", rax=7, rdi=end - 24, rcx=9)
    assert shape(stop) == (Exit.FAULT, end, True, False)
    state = machine.state
    assert (state.rip, state.rcx, state.rdi) == (CODE_AT, 6, end)
    assert machine.window.u64(end - 8) == 7
    stop = machine.run("fd" + "f3a4", rsi=DATA + 2, rdi=DATA + 0x500, rcx=9)
    assert shape(stop) == (Exit.FAULT, DATA - 1, False, False)
    assert (state.rip, state.rcx, state.rsi, state.rdi) == (CODE_AT + 1, 6, DATA - 1, DATA + 0x4FD)


@pytest.mark.parametrize("address, reported, direction", WILD)
def test_wild_jumps(machine, address, reported, direction):
    for code in ("ffe0", "ffd0", "50c3"):
        stop = machine.run(code, rax=address)
        assert shape(stop) == (Exit.FAULT, reported, False, reported == address)
        assert machine.state.rip == address


@pytest.mark.parametrize("offset, first", [(-4, 0), (-1, 0), (0, 0), (4, 4)])
def test_an_access_across_the_end_of_a_mapping_names_the_first_byte_outside(machine, offset, first):
    end = DATA + 2 * PAGE
    assert shape(machine.run(READ_RAX, rax=end + offset)) == (Exit.FAULT, end + first, False, False)
    assert shape(machine.run(WRITE_RAX, rax=end + offset, rcx=-1)) == (Exit.FAULT, end + first, True, False)
    assert machine.window.read(end - 4, 4) == bytes(4)


def test_an_access_across_the_top(machine):
    top = machine.window.top
    machine.window.map(top - PAGE, PAGE, READ | WRITE)
    assert machine.run(WRITE_RAX + SYSCALL, rax=top - 8).kind == Exit.SYSCALL
    assert shape(machine.run(READ_RAX, rax=top - 7)) == (Exit.FAULT, top, False, False)


def test_protection_is_obeyed_at_once(machine):
    assert machine.run(WRITE_RAX + SYSCALL, rax=DATA, rcx=5).kind == Exit.SYSCALL
    machine.window.protect(DATA, PAGE, READ)
    machine.start(rax=DATA)
    assert shape(machine.run()) == (Exit.FAULT, DATA, True, False)
    machine.window.protect(DATA, PAGE, 0)
    assert shape(machine.run("488b10" + SYSCALL, rax=DATA)) == (Exit.FAULT, DATA, False, False)
    machine.window.protect(DATA, PAGE, READ)
    assert machine.run().kind == Exit.SYSCALL
    assert machine.state.rdx == 5


def test_the_state_at_a_fault_is_that_before_the_instruction(machine):
    stop = machine.run("48ffc0" + "4883c101" + "480108" + "48ffc2", rax=0, rcx=(1 << 64) - 1)
    assert shape(stop) == (Exit.FAULT, 1, True, False)
    state = machine.state
    assert (state.rip, state.rax, state.rcx, state.rdx) == (CODE_AT + 7, 1, 0, 0)
    assert state.eflags & 0x8D5 == 0x55  # of add rcx, 1 with carry out: CF, PF, AF, ZF
    assert state.slots[SLOTS["budget"]] == 1000 - 2


def test_a_page_beyond_its_file_is_told_apart(machine):
    fd = create_shared("short", PAGE)
    machine.window.map_file(0x50000, 2 * PAGE, READ | WRITE | EXECUTE, fd, 0, True)
    stop = machine.run(READ_RAX, rax=0x50000 + PAGE)
    assert (*shape(stop), stop.argument) == (Exit.FAULT, 0x50000 + PAGE, False, False, 7)
    machine.start(at=0x50000 + PAGE)
    assert shape(machine.run()) == (Exit.FAULT, 0x50000 + PAGE, False, True)


def test_fetching_needs_permission(machine):
    machine.start(at=DATA)
    assert shape(machine.run()) == (Exit.FAULT, DATA, False, True)
    machine.window.protect(DATA, PAGE, READ | WRITE | EXECUTE)
    machine.window.write(DATA, bytes.fromhex(SYSCALL))
    assert machine.run().kind == Exit.SYSCALL
    machine.window.protect(DATA, PAGE, READ | WRITE)
    machine.start(at=DATA)
    assert shape(machine.run()) == (Exit.FAULT, DATA, False, True)


def test_an_instruction_across_pages(machine):
    edge = CODE_AT + PAGE
    machine.code("48b8efcdab8967452301" + SYSCALL, edge - 4)
    machine.start(edge - 4)
    assert machine.run().kind == Exit.SYSCALL
    assert machine.state.rax == 0x0123456789ABCDEF
    machine.window.write_forced(edge + 2, b"\xee")
    machine.start(edge - 4)
    machine.run()
    assert machine.state.rax == 0x012345EE89ABCDEF
    machine.window.protect(edge, PAGE, READ)
    machine.start(edge - 4)
    assert shape(machine.run()) == (Exit.FAULT, edge, False, True)
    assert machine.state.rip == edge - 4


def test_code_may_run_into_a_page_that_faults(machine):
    last = CODE_AT + 4 * PAGE
    stop = machine.run("48ffc0", at=last - 3)
    assert shape(stop) == (Exit.FAULT, last, False, True)
    assert (machine.state.rip, machine.state.rax) == (last, 1)


# budget and single steps ---------------------------------------------------------------------------

LOOP = "48ffc0" + "48ffc1" + "ebf8"  # inc rax; inc rcx; jmp back


def test_a_budget_is_kept_and_always_makes_progress(machine):
    machine.code(LOOP)
    machine.start()
    done = 0
    for budget in (1, 2, 1, 1, 300, 5, 1, 1, 1, 100_000):
        stop = machine.run(budget=budget)
        assert stop.kind == Exit.BUDGET
        used = budget - machine.state.slots[SLOTS["budget"]]
        assert 0 < used <= budget
        done += used
        assert machine.state.rax + machine.state.rcx + done // 3 == done
        assert machine.state.rip == CODE_AT + (0, 3, 6)[done % 3]


def test_a_budget_of_one_is_one_instruction(machine):
    machine.code(LOOP)
    machine.start()
    for rip in (3, 6, 0, 3, 6, 0):
        assert machine.run(budget=1).kind == Exit.BUDGET
        assert machine.state.rip == CODE_AT + rip


def test_single_steps(machine):
    machine.code("48ffc0" + "0fa2" + "48ffc1" + SYSCALL)
    machine.start(rax=0)
    machine.state.eflags |= FLAG_TF
    for rip in (3, 5, 8):
        assert machine.run().kind == Exit.TRAP
        assert machine.state.rip == CODE_AT + rip
    assert machine.run().kind == Exit.SYSCALL
    assert machine.run(READ_RAX, rax=0, eflags=FLAG_TF).kind == Exit.FAULT


def test_a_trap_flag_from_popf_traps_after_the_next_instruction(machine):
    stop = machine.run("6802010000" + "9d" + "48ffc0" + "48ffc0", rax=0)
    assert (stop.kind, machine.state.rip, machine.state.rax) == (Exit.TRAP, CODE_AT + 9, 1)


# hooks ---------------------------------------------------------------------------------------------


def test_hooks_stop_before_their_address_every_time(machine):
    machine.code(LOOP)
    machine.start()
    machine.run(budget=30)  # linked and looping before the hook is set
    machine.vcpu.hook(CODE_AT + 3)
    passed = machine.state.rcx
    for count in range(1, 5):
        stop = machine.run(past_hook=count > 1)
        assert (stop.kind, machine.state.rip) == (Exit.HOOK, CODE_AT + 3)
        assert machine.state.rcx == passed + count - 1
        assert machine.run().kind == Exit.HOOK
    machine.vcpu.unhook(CODE_AT + 3)
    assert machine.run().kind == Exit.BUDGET


def test_a_hooked_function_is_seen_by_direct_and_indirect_calls(machine):
    function = CODE_AT + PAGE
    machine.code("ffc0c3", function)
    machine.code("e8fb0f0000" + "ffd3" + SYSCALL)
    for hooked in (False, True):
        if hooked:
            machine.vcpu.hook(function)
        machine.start(rax=0, rbx=function)
        stops = [machine.run().kind]
        while stops[-1] == Exit.HOOK:
            assert machine.state.rip == function
            stops.append(machine.run(past_hook=True).kind)
        assert stops == [Exit.HOOK] * (2 * hooked) + [Exit.SYSCALL]
        assert machine.state.rax == 2
