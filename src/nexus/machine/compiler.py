"""The process that compiles regions for T2, and how a machine talks to it.

It is started when the first region is asked for: by exec, or where a sandbox forbids that by fork, in which
case it has the same walls as the machine. Requests and answers are marshalled over two pipes, one at a time;
it ends with them. If it dies or hangs, the guest goes on as it is.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import signal
import sys
from time import process_time_ns

from nexus.machine.host import PAGE
from nexus.machine.window import EXECUTE, READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    # what `compiled` is given
    Request = tuple[int, list[int], list[int], dict[int, bytes], tuple[int, int], dict[int, list[int]]]

BLOCK_LIMIT = 100  # instructions in a block
_LENGTH = 4
_CLOCK = 8  # bytes of an answer before the unit: the processor time that the process has taken
_MADV_DONTFORK = 10
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


class Compiler:
    """The machine's end. One request at a time: `busy` until `take` has returned something."""

    def __init__(self, private: Iterable[tuple[int, int]]) -> None:
        """`private`: ranges of host memory (address, size) that a forked process shall not have."""
        requests, self._to = os.pipe()
        self._from, answers = os.pipe()
        os.set_blocking(self._from, False)
        self._received = b""
        self.busy = False
        self.dead = False
        self.spent = 0  # ns of processor time, until the last answer
        try:
            self.pid = _start(requests, answers)
        except PermissionError:
            self.pid = _fork(requests, answers, private)
        os.close(requests)
        os.close(answers)

    def ask(self, request: Request) -> None:
        """Have a region compiled."""
        data = marshal.dumps(request)
        self.busy = True
        try:
            _write(self._to, data)
        except BrokenPipeError:
            self.dead = True

    def take(self) -> bytes | None:
        """The packed unit that was asked for, empty if there is none to be had, None if it is not ready."""
        while not self.dead:
            wanted = _LENGTH
            if len(self._received) >= _LENGTH:
                wanted += int.from_bytes(self._received[:_LENGTH], "little")
                if len(self._received) == wanted:
                    answer, self._received = self._received[_LENGTH:], b""
                    self.busy = False
                    self.spent = int.from_bytes(answer[:_CLOCK], "little")
                    return answer[_CLOCK:]
            try:
                data = os.read(self._from, wanted - len(self._received))
            except BlockingIOError:
                return None
            self._received += data
            self.dead = not data
        return None

    def close(self) -> None:
        """End the process."""
        os.close(self._to)
        os.close(self._from)
        try:
            os.kill(self.pid, _SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it ended by itself, and somebody else has waited for it


def _start(requests: int, answers: int) -> int:
    """Run `serve` in a new interpreter."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    text = f"import sys; sys.path.insert(0, {root!r}); from nexus.machine import compiler; "
    text += f"compiler.serve({requests}, {answers})"
    nowhere = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    ends = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (requests, answers)]
    command = [sys.executable, "-c", text]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=[*nowhere, *ends])


def _fork(requests: int, answers: int, private: Iterable[tuple[int, int]]) -> int:
    """Run `serve` in a copy of this process that has no memory of the guest and none of its files."""
    libc = ctypes.CDLL(None, use_errno=True)
    for address, size in private:
        libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), _MADV_DONTFORK)
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        low, high = sorted((requests, answers))
        for first, last in ((0, low), (low + 1, high), (high + 1, os.sysconf("SC_OPEN_MAX"))):
            os.closerange(first, last)
        serve(requests, answers)
        status = 0
    finally:
        os._exit(status)


def serve(requests: int, answers: int) -> None:
    """Answer requests until the other side closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the machine decides when it ends
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    while head := _read(requests, _LENGTH):
        request = _read(requests, int.from_bytes(head, "little"))
        unit = compiled(*marshal.loads(request))
        _write(answers, process_time_ns().to_bytes(_CLOCK, "little") + unit)


def _write(fd: int, data: bytes) -> None:
    """A message: its length, then itself."""
    data = len(data).to_bytes(_LENGTH, "little") + data
    while data:
        data = data[os.write(fd, data) :]


def _read(fd: int, size: int) -> bytes:
    """So many bytes, or none if the other side has closed the pipe."""
    data = b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            return b""
        data += more
    return data


class Pages:
    """The code of a request, as `lower_block` reads it from a window."""

    def __init__(self, pages: dict[int, bytes]) -> None:
        self._pages = pages

    def access(self, address: int) -> int | None:
        return READ | EXECUTE if address & -PAGE in self._pages else None

    def read(self, address: int, size: int) -> bytes:
        page = address & -PAGE
        return self._pages[page][address - page : address - page + size]


def compiled(
    entry: int,
    starts: list[int],
    stops: list[int],
    pages: dict[int, bytes],
    room: tuple[int, int],
    seen: dict[int, list[int]],
) -> bytes:
    """The packed unit for the region around `entry`, made of blocks at `starts` and ending before `stops`, in
    a window with this top and guard; empty if none can be made. `seen`: where computed jumps have led."""
    from nexus.backend.jit.bounds import Room
    from nexus.backend.jit.build import compile_region
    from nexus.backend.jit.lower import Unfit
    from nexus.backend.jit.region import Region
    from nexus.machine.lowering import lower_block
    from nexus.machine.stop import FetchFault

    code, ends = Pages(pages), {*starts, *stops}
    blocks = {}
    for start in starts:
        try:
            blocks[start], _ = lower_block(code, start, BLOCK_LIMIT, ends - {start})
        except FetchFault:
            continue
    if entry not in blocks:
        return b""
    try:
        return compile_region(Region(entry, blocks, seen), Room(*room)).pack()
    except Unfit:
        return b""
