"""Small C programs on the whole machine; every case they print is one test.

Expected lines are what the same programs print on Windows (documented behaviour of the calls they make).
"""

from __future__ import annotations

import functools
import itertools
import os

import pytest

import cross
import nexus
from nexus.base.errors import NexusError
from nexus.system.windows import Result

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
HERE = os.path.dirname(__file__)

EXCEPTIONS = """
read-null: c0000005 0 0 at rip
write-null: c0000005 1 10 at rip
read-minus-one: c0000005 0 ffffffffffffffff at rip
read-non-canonical: c0000005 0 ffffffffffffffff at rip
read-kernel-half: c0000005 0 ffff800000010000 at rip
write-kernel-half: c0000005 1 ffff800000010000 at rip
read-above: c0000005 0 400000010000 at rip
divide-by-zero: c0000094 at rip
illegal: c000001d at rip
breakpoint: 80000003 0 at rip
privileged: c0000096 at rip
single-step: 80000004 at rip
misaligned-sse: c0000005 0 ffffffffffffffff at rip
float-divide: c000008e 0 1d84 at rip
float-overflow: c0000091 0 1ba8 at rip
execute-data: c0000005 8 page
write-readonly: c0000005 1 5
guard-page: 80000001 0 7
guard-gone: 00000000
deep-stack: 121 00000000
raised: e0000001 1234 5678
done
"""

THREADS = """
not-started: 102
all: 0
counts: 8000 8000
exit-codes: 56 main 11
abandoned: 80
owned: 0
semaphore: 1 1 0 298
suspend: 0
suspended: 1 1 1
resume: 1
redirected: 77
apc: 42
sleepex: c0
apc: 1
apc: 2
own-apcs: c0
timer-wait: 0
timer-apc: 5 1
periodic: 3
condition: 190 20
threadpool: 30
fibers: 12
beginthreadex: 9
created-suspended: 102 1
exit-thread: 9
terminated: 6
signal-and-wait: 0 0
bad-handle: ffffffff 6
"""

THROW = """
caught: from the depth 11
rethrown: 42
many: 109900
carried: in a thread
"""

SPAWN = """
exit-code: 37
inherited: through the pipe, more 0 error 109
named-event: 4 0
child says hello
running: 102 259 terminated 55
crashed: c0000005
job: 1 ended 0
job-list: 1 1 ended 66
token: here some, there 0
missing: 0 3
"""

DEBUG = """
handled
process: 1 5a4d MZ
debugged: 1
says: hello debugger
new thread
thread: 5
exception: e0000001 chance 1
ends: 3, first breakpoint 1, dlls some
left to the program
process: 1 5a4d MZ
debugged: 1
says: hello debugger
new thread
thread: 5
exception: e0000001 chance 1
handler: 7
ends: 3, first breakpoint 1, dlls some
crash
process: 1 5a4d MZ
exception: c0000005 chance 1
exception: c0000005 chance 0
ends: c0000005, first breakpoint 1, dlls some
attached
attach: 1
again: 0
present: 1
detach: 1
present: 0
ended: 77
done
"""

PROGRAMS = {
    "exceptions.c": (EXCEPTIONS, 0),
    "threads.c": (THREADS, 3),
    "throw.cpp": (THROW, 0),
    "spawn.c": (SPAWN, 0),
    "debug.c": (DEBUG, 0),
}


@functools.cache
def run(source: str, *arguments: str) -> Result:
    program = cross.build(os.path.join(HERE, source))
    return nexus.windows().run(program, *arguments, cwd=os.path.dirname(program), timeout=110)


def lines(source: str) -> list[str]:
    return run(source).text.splitlines()


CASES = [
    pytest.param(source, number, line, id=f"{source}-{line.partition(':')[0]}-{number}")
    for source, (expected, _) in PROGRAMS.items()
    for number, line in enumerate(expected.split("\n")[1:-1])
]


@pytest.mark.parametrize(("source", "number", "line"), CASES)
def test_case(source: str, number: int, line: str) -> None:
    assert lines(source)[number : number + 1] == [line]


@pytest.mark.parametrize("source", PROGRAMS)
def test_exit_code(source: str) -> None:
    assert run(source).exit_code == PROGRAMS[source][1]


@pytest.mark.parametrize(
    ("how", "code", "name"),
    [
        ("read", 0xC0000005, "tried to read 0x1230"),
        ("divide", 0xC0000094, "STATUS_INTEGER_DIVIDE_BY_ZERO"),
        ("fastfail", 0xC0000409, "STATUS_STACK_BUFFER_OVERRUN"),
        ("raise", 0xE0001234, "0xe0001234"),
        ("overflow", 0xC00000FD, "STATUS_STACK_OVERFLOW"),
    ],
)
def test_an_unhandled_exception_ends_with_134_and_a_report(how: str, code: int, name: str) -> None:
    result = run("crash.c", how)
    assert (result.exit_code, result.host_code) == (code, 134)
    assert result.crash is not None
    text = result.crash.text()
    assert name in text
    assert "rip=" in text
    assert ".exe+0x" in text  # module and offset of the program's own frames


def test_the_calls_of_a_crash_are_unwound_to_the_start_of_the_thread() -> None:
    """What a stack scan would add - stale return addresses between the frames - is not there."""
    crash = run("crash.c", "read").crash
    assert crash is not None
    modules = [place.partition("+")[0] for place in crash.where]
    program = modules[0]
    assert program.endswith(".exe")
    assert [name for name, _ in itertools.groupby(modules)] == [program, "kernel32.dll", "ntdll.dll"]
    assert len(modules) <= 7  # main, two of the C run-time, BaseThreadInitThunk, RtlUserThreadStart


@pytest.mark.parametrize(("how", "code", "host"), [("exit", 0x12345678, 0x78), ("kill", 0xC0000005, 5)])
def test_an_exit_code_is_no_crash(how: str, code: int, host: int) -> None:
    result = run("crash.c", how)
    assert (result.exit_code, result.host_code, result.crash) == (code, host, None)


def test_a_program_that_waits_for_nothing_is_told() -> None:
    """Without a time limit or a signal handler nothing could ever wake it."""
    program = cross.build(os.path.join(HERE, "crash.c"))
    with pytest.raises(NexusError, match="every thread of the program waits"):
        nexus.windows().run(program, "deadlock")
