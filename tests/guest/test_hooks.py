"""Hooks of exported functions, and their calls in the trace, on the whole machine.

Expected values follow from hooks.c, the x64 calling convention and the documentation of the Win32 functions.
"""

from __future__ import annotations

import json
import os

import pytest

import cross
import nexus
from nexus.cli.main import main
from nexus.nt.hook import AnsiString, HookCall, Out, WideString, i16, i32, i64, u32

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
SOURCE = os.path.join(os.path.dirname(__file__), "hooks.c")
PLAIN = """\
attributes: ffffffff 2
attributes: ffffffff 2
attributes: ffffffff 2
windows: ffffffff
sum: 17
depth: 5
jumped
heap: 1
child: ffffffff
"""


@pytest.fixture
def program():
    return cross.build(SOURCE)


@pytest.fixture
def win():
    return nexus.windows()


def own(program, name):
    return f"{os.path.basename(program)}!{name}"


def run(win, program):
    return win.run(program, cwd=os.path.dirname(program), timeout=110)


def changed(lines):
    """The output with some lines replaced."""
    text = PLAIN
    for old, new in lines.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_arguments_are_read_by_their_types_in_every_process(win, program):
    seen = []

    @win.hook("kernel32!GetFileAttributesW")
    def attributes(call: HookCall, name: WideString | None) -> None:
        seen.append((name, call.caller.split("+")[0] == os.path.basename(program), call.process.id))

    @win.hook(own(program, "add_six"))
    def add(call: HookCall, a: i32, b: i16, c: i32, d: u32, e: i32, f: i64) -> None:
        seen.append((a, b, c, d, e, f))

    assert run(win, program).text == PLAIN
    names = [row[0] for row in seen]
    assert names == ["C:\\no-such-file"] * 3 + ["C:\\elsewhere", 1, "C:\\from-the-child"]
    assert seen[4] == (1, -2, 3, 4, 5, (1 << 32) + 6)
    assert all(row[1] for row in seen[:4]) and seen[5][2] != seen[0][2]


def test_arguments_and_results_can_be_replaced(win, program):
    @win.hook("kernel32!GetFileAttributesW")
    def attributes(call: HookCall, name: WideString) -> None:
        if name == "C:\\elsewhere":
            call.set_argument(0, call.place("C:\\windows"))
            call.after(lambda result: result | 0x1000)
        else:
            call.set_last_error(1234)
            call.skip(0x77)

    @win.hook(own(program, "add_six"))
    def add(call: HookCall) -> None:
        assert [call.argument(n) & 0xFFFFFFFF for n in (0, 5)] == [1, 6]
        call.set_argument(0, 100)
        call.set_argument(5, 1000)

    assert run(win, program).text == changed(
        {
            "attributes: ffffffff 2": "attributes: 77 1234",
            "windows: ffffffff": "windows: 1010",
            "sum: 17": f"sum: {100 - 2 + 3 + 4 + 5 + 1000}",
            "child: ffffffff": "child: 77",
        }
    )


def test_every_level_of_a_recursion_returns(win, program):
    events = []

    @win.hook(own(program, "depth"))
    def depth(call: HookCall, n: u32) -> None:
        events.append(n)
        call.after(lambda result: events.append((n, result)))

    assert run(win, program).text == PLAIN
    assert events == [5, 4, 3, 2, 1, 0, (0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]


def test_calls_that_never_return_are_told(win, program):
    left, returned = [], []

    @win.hook(own(program, "jump_out"))
    def jump_out(call: HookCall, value: i32) -> None:
        call.after(lambda result: returned.append(value))
        call.abandoned(lambda: left.append(value))

    @win.hook("kernel32!ExitThread")
    def exit_thread(call: HookCall, code: u32) -> None:
        call.after(lambda result: returned.append("thread"))
        call.abandoned(lambda: left.append(f"thread {code}"))

    assert run(win, program).text == PLAIN
    assert returned == [] and left[0] == 1 and set(left) == {1, 2, "thread 7"}


def test_forwarded_exports_are_followed(win, program):
    sizes = []

    @win.hook("kernel32!HeapAlloc")  # forwarded to ntdll.RtlAllocateHeap
    def allocate(call: HookCall, heap: i64, flags: u32, size: i64) -> None:
        assert (call.module, call.name) == ("kernel32", "HeapAlloc")
        assert call.process.describe_address(call.address).startswith("ntdll.dll+")
        sizes.append(size)

    assert run(win, program).text == PLAIN
    assert 1234 in sizes


def test_code_that_has_run_already_can_be_hooked(win, program):
    names = []

    @win.hook("kernel32!GetFileAttributesW")
    def first(call: HookCall) -> None:
        def second(call: HookCall, name: WideString) -> None:
            names.append(name)

        def later(result: int) -> None:
            if not names:
                names.append("hooked")
                win.hook("kernelbase!GetFileAttributesW")(second)

        call.after(later)

    assert run(win, program).text == PLAIN
    assert names[:4] == ["hooked"] + ["C:\\no-such-file"] * 2 + ["C:\\elsewhere"]


def test_pointers_and_bytes(win, program):
    names = []

    @win.hook("kernel32!CreateProcessA")
    def create(
        call: HookCall, name: AnsiString | None, line: AnsiString | None, process: Out[u32] | None
    ) -> None:
        assert process is None
        names.append((name, line))

    assert run(win, program).text == PLAIN
    ((name, line),) = names
    assert line == b'"' + name + b'" child'


def test_what_a_hook_raises_reaches_the_caller(win, program):
    @win.hook("kernel32!GetFileAttributesW")
    def attributes(call: HookCall) -> None:
        raise KeyError("from the hook")

    with pytest.raises(KeyError, match="from the hook") as caught:
        run(win, program)
    assert caught.traceback[-1].name == "attributes"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kernel32!CreateFilleW", "exports no CreateFilleW"),
        ("kernel33!CreateFileW", "no kernel33 is in the sysroot"),
        ("kernel32!createfilew", "exports no createfilew"),
    ],
)
def test_an_unknown_name_is_told_before_the_run(win, program, name, message):
    @win.hook(name)
    def never(call: HookCall) -> None:
        raise AssertionError

    with pytest.raises(nexus.UsageError, match=message):
        run(win, program)


def test_data_is_not_hooked(win, program):
    @win.hook(own(program, "counter"))
    def never(call: HookCall) -> None:
        raise AssertionError

    with pytest.raises(nexus.NexusError, match="counter is data"):
        run(win, program)


def test_a_name_that_is_not_required_may_be_missing(win, program):
    @win.hook("kernel33!CreateFileW", required=False)
    def never(call: HookCall) -> None:
        raise AssertionError

    assert run(win, program).text == PLAIN


def trace(program, target, *options):
    folder = os.getcwd()
    os.chdir(os.path.dirname(program))
    try:
        words = ["trace", "-o", str(target), "-e", "", "--calls", "kernel32!GetFile*W,kernel32!ExitThread"]
        assert main([*words, *options, program]) == 0
    finally:
        os.chdir(folder)
    return target.read_text().splitlines()


@pytest.fixture
def no_wall(monkeypatch):
    """The second wall could not be undone for the tests that follow."""
    monkeypatch.setattr("nexus.cli.run.raise_wall", lambda *_: None)


def test_the_trace_shows_calls(program, tmp_path, no_wall):
    lines = trace(program, tmp_path / "calls")
    caller = f" from {os.path.basename(program)}+0x"
    assert len(lines) == 5
    for line in lines[:4]:
        _, _, call = line.partition("] ")
        assert call.startswith("kernel32!GetFileAttributesW(0x") and " = 0xffffffff" + caller in call
    assert "kernel32!ExitThread(0x7, " in lines[4] and " = ?" + caller in lines[4]


def test_the_trace_leaves_out_what_ntdll_calls_of_its_own(program, tmp_path, no_wall):
    lines = trace(program, tmp_path / "calls", "--calls", "kernel32!HeapAlloc")
    allocations = [line for line in lines if "kernel32!HeapAlloc(" in line]
    assert any(", 0x4d2, " in line and os.path.basename(program) in line for line in allocations)
    assert not [line for line in allocations if "from ntdll.dll" in line]


def test_the_trace_of_calls_as_json_with_children(program, tmp_path, no_wall):
    rows = [json.loads(line) for line in trace(program, tmp_path / "calls", "--json", "-f")]
    assert [row["call"] for row in rows].count("kernel32!GetFileAttributesW") == 5
    assert len({row["process"] for row in rows}) == 2
    assert rows[0]["result"] == "0xffffffff" and "+0x" in rows[0]["caller"]


def test_a_pattern_that_means_nothing_is_told(program, capfd):
    assert main(["trace", "--calls", "kernel32!Nothing*", program]) == 2
    assert "exports no Nothing*" in capfd.readouterr().err
