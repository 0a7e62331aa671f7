"""Running records: budget, links, the lookup table, faults, control words, threads."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading

from nexus.backend.interp import layout
from nexus.backend.interp.engine import Lookup
from nexus.ir.state import SCALAR_SLOTS, SLOTS, Exit
from nexus.ir.types import I32, I64, V128
from nexus.ir.values import Address, Block
from t0 import MEMORY_BASE, MEMORY_SIZE, T0, TOP, anonymous, shared

QUAD = (1 << 64) - 1


def counting(start: int, limit: int) -> Block:
    """r0 += 1 until it is `limit`, then on to start + 0x100; two instructions."""
    block = Block(start)
    block.mark(start)
    total = block.get(I64, 0) + 1
    block.put(0, total)
    block.mark(start + 4)
    block.branch(block.get(I64, 0).ne(limit), start, start + 0x100)
    return block


def stub_of(t0: T0, target: int) -> int:
    """Host address of the link record of the last placed block that leads to `target`."""
    return t0.records + next(offset for offset, to in t0.code.links.items() if to == target)


def test_an_unlinked_branch_leaves_with_its_link_record() -> None:
    t0 = shared()
    state = t0.run(counting(0x1000, 10), {0: 0})
    assert (state[SLOTS["exit"]], state[SLOTS["pc"]], state[0]) == (Exit.LINK, 0x1000, 1)
    assert state[SLOTS["exit_at"]] == stub_of(t0, 0x1000)


def test_a_linked_branch_goes_on_and_an_unlinked_one_leaves_again() -> None:
    t0 = shared()
    record = t0.place(counting(0x1000, 10))
    stub = stub_of(t0, 0x1000)
    t0.engine.link(stub, record)
    t0.load({0: 0})
    state = t0.go(record)
    assert (state[0], state[SLOTS["pc"]]) == (10, 0x1100)
    t0.engine.unlink(stub)
    t0.load({0: 0})
    state = t0.go(record)
    assert (state[0], state[SLOTS["pc"]], state[SLOTS["exit_at"]]) == (1, 0x1000, stub)


def test_the_budget_counts_instructions_and_ends_before_a_block() -> None:
    t0 = shared()
    record = t0.place(counting(0x1000, 1000))
    t0.engine.link(stub_of(t0, 0x1000), record)
    t0.load({0: 0}, budget=7)
    state = t0.go(record)
    assert (state[SLOTS["exit"]], state[0], state[SLOTS["pc"]]) == (Exit.BUDGET, 3, 0x1000)
    assert state[SLOTS["budget"]] == 1  # six instructions were run
    assert state[SLOTS["exit_at"]] == record


def test_a_jump_finds_its_target_in_the_table() -> None:
    t0 = shared()
    block = Block(0x1000)
    block.mark(0x1000)
    block.jump(block.get(I64, 1))
    target = Block(0x2000)
    target.mark(0x2000)
    target.put(2, target.get(I64, 1))
    target.exit(Exit.HALT, 0x2004)
    other = t0.place(target, 0x1000)
    record = t0.place(block)
    t0.lookup.add(0x2000, other)
    t0.load({1: 0x2000})
    assert t0.go(record)[SLOTS["exit"]] == Exit.HALT
    for missing in (0, 1, 0x2001, 0x2000 | 1 << 63, QUAD):
        t0.load({1: missing})
        state = t0.go(record)
        assert (state[SLOTS["exit"]], state.get(SLOTS["pc"], 0)) == (Exit.LOOKUP, missing)
    t0.lookup.remove(0x2000)
    t0.load({1: 0x2000})
    assert t0.go(record)[SLOTS["exit"]] == Exit.LOOKUP


def test_an_empty_table_matches_no_address() -> None:
    """Whatever a guest jumps to, an entry that nobody filled must not look like its own."""
    area, address = anonymous(layout.LOOKUP_BYTES)
    Lookup(address)
    for index in range(layout.LOOKUP_ENTRIES):
        key = int.from_bytes(area[16 * index : 16 * index + 8], "little")
        assert (key * layout.LOOKUP_MULTIPLIER & QUAD) >> 64 - layout.LOOKUP_BITS != index


def access(type: object, disp: int, write: bool, index: bool = False) -> Block:
    block = Block(0x1000)
    block.mark(0x1000)
    block.put(5, block.get(I64, 6))
    block.mark(0x1004)
    where = Address(block.get(I64, 0), disp, block.get(I64, 1) if index else None, 3 if index else 0)
    if write:
        block.store(where, block.get(type, 2))  # type: ignore[arg-type]
    else:
        block.put(2, block.load(type, where))  # type: ignore[arg-type]
    block.exit(Exit.HALT, 0x1008)
    return block


def test_wild_addresses_fault_as_the_guest_wrote_them() -> None:
    t0 = shared()
    wild = (
        QUAD,
        MEMORY_BASE | 1 << 63,
        MEMORY_BASE + (1 << 42),
        0xFFFF_8000_0000_0000,
        0x10,
        TOP - 1,
        TOP,
        TOP + 1,
    )
    for address in wild:
        for type in (I32, I64, V128):
            for write in (False, True):
                state = t0.run(access(type, 0, write), {0: address, 6: 77})
                assert state[SLOTS["exit"]] == Exit.FAULT
                assert state[5] == 77, "the instruction before was not finished"
                assert t0.code.address_of(state[SLOTS["exit_at"]] - t0.records) == 0x1004
                fault = t0.engine.fault(t0.state)
                assert (fault.address, fault.size, fault.write) == (address, type.bits // 8, write)


def test_address_arithmetic_wraps_at_64_bits() -> None:
    t0 = shared()
    t0.memory[16:24] = (0x1234).to_bytes(8, "little")
    state = t0.run(access(I64, 32, False, index=True), {0: MEMORY_BASE, 1: QUAD - 1})
    assert state[2] == 0x1234  # MEMORY_BASE + 32 - 16
    state = t0.run(access(I64, -(1 << 31), False), {0: MEMORY_BASE + 16 + (1 << 31)})
    assert state[2] == 0x1234


def test_a_vector_access_at_the_edge_faults_at_the_first_byte_outside() -> None:
    t0 = shared()
    t0.run(access(V128, 0, True), {0: MEMORY_BASE + MEMORY_SIZE - 8, SCALAR_SLOTS + 2: (1 << 128) - 1})
    assert t0.engine.fault(t0.state).address == MEMORY_BASE + MEMORY_SIZE


def test_guarded_copies_say_what_is_left() -> None:
    t0 = shared()
    base = ctypes.addressof(t0.memory)
    buffer = ctypes.create_string_buffer(b"x" * 64)
    assert t0.engine.copy(base, ctypes.addressof(buffer), 64) == 0
    assert t0.memory[:64] == b"x" * 64
    assert t0.engine.copy(ctypes.addressof(buffer), base + MEMORY_SIZE - 10, 64) == 54
    assert t0.engine.copy(base - 1, ctypes.addressof(buffer), 64) == 64


def test_the_host_keeps_its_control_words() -> None:
    """The guest rounds towards zero on both units; Python afterwards does not."""
    t0 = shared()
    block = Block(0x1000)
    block.mark(0x1000)
    block.exit(Exit.HALT, 0x1004)
    t0.run(block, {SLOTS["mxcsr"]: 0x7F80, SLOTS["fcw"]: 0x0C7F})
    assert float("0.1") + float("0.2") == float("0.30000000000000004")  # the nearest; 0.3 is towards zero
    assert ctypes.CDLL("libm.so.6").fegetround() == 0  # the x87 control word's


def test_no_control_word_can_hurt_the_host() -> None:
    """A context that a guest sets may hold anything; reserved bits of MXCSR would fault on the host."""
    t0 = shared()
    block = Block(0x1000)
    block.mark(0x1000)
    block.put(1, block.get(I64, 0) + 1)
    block.exit(Exit.HALT, 0x1004)
    state = t0.run(block, {0: 1, SLOTS["mxcsr"]: QUAD, SLOTS["fcw"]: QUAD})
    assert (state[1], state[SLOTS["exit"]]) == (2, Exit.HALT)


def test_states_run_in_parallel_and_fault_each_in_its_own() -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        t0 = T0()
        for turn in range(200):
            address = TOP + number * 0x1000000 + turn
            t0.run(access(I64, 0, bool(turn & 1)), {0: address})
            fault = t0.engine.fault(t0.state)
            if (fault.address, fault.write) != (address, bool(turn & 1)):
                wrong.append(f"{number}: {fault.address:#x} is not {address:#x}")

    shared()  # built before
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FOREIGN = """
import ctypes, faulthandler, signal, sys
if sys.argv[1] == "faulthandler":
    faulthandler.enable()
from t0 import shared
shared()
ctypes.string_at(8)
"""


def crash(mode: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FOREIGN, mode]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path), **_environment()},
    )


def _environment() -> dict[str, str]:
    import os

    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def test_a_fault_that_is_not_the_guests_ends_the_process_as_before() -> None:
    assert crash("plain").returncode == -signal.SIGSEGV


def test_a_fault_that_is_not_the_guests_goes_to_the_handler_before() -> None:
    result = crash("faulthandler")
    assert result.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in result.stderr


def test_running_needs_no_llvm() -> None:
    code = (
        "import sys\nfrom t0 import shared\nshared()\nassert not [m for m in sys.modules if 'llvmlite' in m]"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path), **_environment()}
    )
