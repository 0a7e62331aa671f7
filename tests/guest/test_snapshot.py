"""`snapshot` and `restore` of a running program: everything that snapshot.c can change is what it was.

Expected values follow from snapshot.c and the documentation of the Win32 functions.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

import cross
import nexus
from nexus.base.errors import NotReversible, UsageError
from nexus.machine import states
from nexus.machine.tiers import AT_ONCE
from nexus.machine.vcpu import Vcpu
from nexus.system.live import Ended, LiveMachine, SavedMachine

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
SOURCE = os.path.join(os.path.dirname(__file__), "snapshot.c")
MEM_COMMIT, MEM_FREE = 0x1000, 0x10000
PAGE_READONLY, PAGE_READWRITE = 2, 4


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("snapshot")
    (folder / "numbers.txt").write_text("123456789")
    return shutil.copy(cross.build(SOURCE), folder / "snapshot.exe")


@pytest.fixture(scope="module", params=["t0", "t1", "t2"])
def machine(program: str, request: pytest.FixtureRequest) -> Iterator[LiveMachine]:
    win = nexus.windows(cpu=lambda window: Vcpu(window, request.param, AT_ONCE))
    with win.machine(program, cwd=os.path.dirname(program), timeout=100) as live:
        live.run_to(live.entry)
        live.run_to("snapshot.exe!ready")
        yield live


@pytest.fixture(scope="module")
def saved(machine: LiveMachine) -> SavedMachine:
    return machine.snapshot()


@pytest.fixture
def call(machine: LiveMachine, saved: SavedMachine):
    machine.restore(saved)
    return lambda name, *arguments: machine.call(f"snapshot.exe!{name}", *arguments) & 0xFFFF_FFFF


@pytest.fixture
def back(machine: LiveMachine, saved: SavedMachine):
    return lambda: machine.restore(saved)


def test_globals(call, back) -> None:
    for _ in range(3):
        assert [call("count") for _ in range(3)] == [6, 7, 8]
        back()


def test_the_heap(call, back) -> None:
    for _ in range(2):
        assert call("heap_sum", 1) == 100
        assert call("heap_sum", 0) == 0
        back()


def test_registers_and_threads_are_where_they_were(machine: LiveMachine, call, back) -> None:
    threads = list(machine.process.threads)
    before = [dict(states.registers(thread.state)) for thread in threads]
    waits = [thread.wait for thread in threads]
    assert machine.run() == 3
    assert machine.process.threads == []
    back()
    assert machine.process.threads == threads
    assert [dict(states.registers(thread.state)) for thread in threads] == before
    assert [thread.wait for thread in threads] == waits


def test_protections(call, back) -> None:
    for _ in range(2):
        assert call("protection", 1) == PAGE_READWRITE
        assert call("protection", 0) == PAGE_READONLY
        back()
    assert call("protection", 0) == PAGE_READWRITE


def test_memory_that_was_freed(call, back) -> None:
    for _ in range(2):
        assert (call("pages_state"), call("page_content")) == (MEM_COMMIT, ord("p"))
        assert call("free_pages") == 1
        assert call("pages_state") == MEM_FREE
        back()


def test_memory_that_was_allocated(machine: LiveMachine, call, back) -> None:
    places = set()
    for _ in range(3):
        place = machine.call("snapshot.exe!allocate")
        places.add(place)
        assert call("state_of", place) == MEM_COMMIT
        back()
        assert call("state_of", place) == MEM_FREE
        back()
    assert len(places) == 1


def test_handles(call, back) -> None:
    handles = set()
    for _ in range(3):
        handles.add(call("event_handle"))
        assert call("close_event") == 1
        assert call("close_event") == 0
        back()
    assert len(handles) == 1
    assert call("wake") == 1000, "the event is there, and so is who waits for it"


def test_threads_go_on_and_end_again(call, back) -> None:
    for _ in range(3):
        assert [call("wake") for _ in range(3)] == [1000, 2000, 3077]
        back()


def test_files(call, back) -> None:
    assert call("read_digit") == 1
    for _ in range(3):
        back()
        assert [call("read_digit") for _ in range(3)] == [1, 2, 3]
        assert call("close_file") == 1
        assert call("read_digit") == 0xFFFF_FFFF
    back()


def test_shared_memory(call, back) -> None:
    for _ in range(3):
        assert call("share", 0) == ord("s")
        assert call("share_far") == 0
        assert call("share", 1) == 1
        assert call("share", 0) == 0xFFFF_FFFF
        back()


def test_code(call, back) -> None:
    for _ in range(3):
        assert call("run_code") == 1
        assert call("patch_code") == 2
        back()


def test_the_registry(call, back) -> None:
    for _ in range(3):
        assert call("registry", 0) == 0xFFFF_FFFF
        assert call("registry", 1) == 0
        assert call("registry", 0) == 42
        back()


def test_processes_that_came_since_are_gone(machine: LiveMachine, call, back) -> None:
    for _ in range(2):
        assert call("start_child") == 1
        assert len(machine.machine.kernel.processes) == 2
        back()
        assert machine.machine.kernel.processes == [machine.process]


def test_the_end_of_the_program(machine: LiveMachine, call, back) -> None:
    for _ in range(3):
        assert machine.run() == 3
        assert machine.output[0] == b"before\r\nafter 6 1\r\n"
        with pytest.raises(Ended):
            call("count")
        back()
        assert machine.output[0] == b"before\r\n"
    with pytest.raises(Ended) as ended:
        call("leave", 0xC0000007)
    assert ended.value.status == 0xC0000007
    back()
    assert call("count") == 6


def test_no_descriptors_and_objects_pile_up(machine: LiveMachine, call, back) -> None:
    def cycle() -> int:
        call("share", 1)
        call("close_file")
        call("start_child")
        machine.run()
        back()
        return len(os.listdir("/proc/self/fd"))

    first = cycle()
    assert [cycle() for _ in range(5)] == [first] * 5


def test_several_snapshots_in_any_order(machine: LiveMachine, saved: SavedMachine, call) -> None:
    assert (call("count"), call("patch_code"), call("free_pages")) == (6, 2, 1)
    later = machine.snapshot()
    for _ in range(2):
        assert (call("count"), call("run_code"), call("pages_state")) == (7, 2, MEM_FREE)
        machine.restore(saved)
        assert (call("count"), call("run_code"), call("pages_state")) == (6, 1, MEM_COMMIT)
        machine.restore(later)
    later.close()


def test_a_watched_folder_is_refused(machine: LiveMachine, call) -> None:
    assert call("watch_folder") == 1
    with pytest.raises(NotReversible, match="watches the folder"):
        machine.snapshot()


def test_not_while_it_runs(program: str) -> None:
    win = nexus.windows()
    seen = []

    @win.hook("kernelbase!ExitProcess")
    def in_the_middle(hooked) -> None:
        with pytest.raises(UsageError, match="while it runs"):
            live.snapshot()
        seen.append(hooked)

    with win.machine(program, cwd=os.path.dirname(program)) as live:
        live.run()
    assert seen or pytest.fail("nothing reached the hook")


def test_a_deterministic_machine_repeats_itself(program: str) -> None:
    win = nexus.windows(deterministic=3)
    with win.machine(program, cwd=os.path.dirname(program)) as live:
        live.run_to(live.entry)
        moment = live.snapshot()
        runs = []
        for _ in range(2):
            live.run_to("snapshot.exe!ready")
            runs.append([live.call("snapshot.exe!number") for _ in range(3)])
            live.restore(moment)
        assert runs[0] == runs[1]
        assert len(set(runs[0])) == 3
