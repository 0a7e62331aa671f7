"""C programs about files, pipes, the registry and sockets; the lines are what they print on Windows."""

from __future__ import annotations

import functools
import os

import pytest

import cross
import nexus
from nexus.system.permissions import NetRule, Permissions
from nexus.system.windows import Result

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
HERE = os.path.dirname(__file__)

STORAGE = """
read: world 5 size 11
sharing: 1 32
locked: 1 0 33
exists: 1 80
rename: 1 4294967295 32
readonly: 0 5 1
folder: 0 145 1
full: \\b
find: A.txt b.txt 18
no-extension: . .. d
none: 1 2
overlapped: 0 997 5 7 1 size 105
empty: 0 258
transaction: ask 6
gone: 0 109
create: 0 1
value: 4 77 4
short: 234 4
enum: 0 Number 259
parent: 5 0 2
"""

SOCKETS = """
startup: 0
options: nodelay 1 type 1 linger 1 7
names: 0 127.0.0.1:80 host 0 localhost 1
echo: question 0 6 family 2 length 16
nonblocking: connect 10035 ready 1 recv -1 10035 idle 0 data 1 closed 1 end 0
datagrams: datagram port 1 small -1 10040
events: connect 1 read 2 close 0
overlapped: accept 997 key 1 1 read 997 key 2 1 overlap
refused: -1 10061
timeout: -1 10060
"""

PROGRAMS = {"storage.c": STORAGE, "sockets.c": SOCKETS}


@functools.cache
def run(source: str) -> Result:
    program = cross.build(os.path.join(HERE, source))
    permissions = Permissions(net=[NetRule("127.0.0.1", None)])
    windows = nexus.windows(permissions=permissions)
    return windows.run(program, cwd=os.path.dirname(program), timeout=110)


@pytest.mark.parametrize(
    ("source", "number", "line"),
    [
        pytest.param(source, number, line, id=f"{source}-{line.partition(':')[0]}")
        for source, expected in PROGRAMS.items()
        for number, line in enumerate(expected.split("\n")[1:-1])
    ],
)
def test_case(source: str, number: int, line: str) -> None:
    assert run(source).text.splitlines()[number : number + 1] == [line]


@pytest.mark.parametrize("source", PROGRAMS)
def test_exit_code(source: str) -> None:
    assert run(source).exit_code == 0
