"""Damaged PE files: read, mapped as images into a process, and a share of them really started.

Each case is one mutant of a real file. Whatever its headers say, the outcome must be an error meant for the
user, an NTSTATUS, or a process that ends or is ended by its limits. The cases run in processes of their own,
so that a fault of the host or a call that never returns ends one of these and not the search.
"""

from __future__ import annotations

import mmap
import os
import random
import select
import signal
import struct
import tempfile
import time
import traceback

from nexus.base.errors import BadImage, NexusError
from nexus.base.terminal import Progress
from nexus.loader import directories, pe
from nexus.loader.runnable import check_program
from nexus.nt.errors import NtError
from nexus.nt.mm.memory import ANYWHERE
from nexus.nt.mm.section import SEC_IMAGE, Section, SectionSource, image_section
from nexus.nt.mm.vad import GRANULARITY, PAGE_EXECUTE_READ
from nexus.system.fuzz import Finding, Target, guarded, limit_memory
from nexus.system.interrupts import Interrupts
from nexus.system.streams import Streams
from nexus.system.sysroot import Sysroot
from nexus.system.windows import Machine, Settings

PROGRAMS = ("cmd.exe", "reg.exe", "xcopy.exe", "winecfg.exe", "kernel32.dll")
START_EVERY = 25  # of the cases; about half of them are programs that headers let start
START_SECONDS = 3
START_MEMORY = 256 << 20
_START_LIMIT = 15  # s of processor time, with translating
_GRACE = 120  # s without a case ending: the process that runs them hangs
_CHUNK = 500
_HEADERS = 0x400
_REPORT = 32 << 10  # bytes of a finding; what a pipe takes
_VALUES = (
    0,
    1,
    0x7F,
    0xFFF,
    0x1000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_F000,
    0xFFFF_FFFF,
    (1 << 64) - 1,
)


class Original:
    """A real file and the stretches of it that are worth damaging: its headers and directories."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.places = [(0, min(_HEADERS, len(data)))]
        try:
            image = pe.parse(data)
        except BadImage:
            return
        for address, size in image.directories:
            offset = image.file_offset(address) if address and size else None
            if offset is not None and offset < len(data):
                self.places.append((offset, min(size, len(data) - offset)))

    def mutant(self, source: random.Random) -> bytes:
        """Bytes, words, fields or stretches of it changed, or the file cut short."""
        mutant = bytearray(self.data)
        for _ in range(source.choice((1, 1, 2, 4, 16))):
            if not mutant:
                break
            self._damage(mutant, source)
        return bytes(mutant)

    def _damage(self, mutant: bytearray, source: random.Random) -> None:
        pick = source.random()
        place = (0, len(mutant))
        if pick < 0.55:
            place = self.places[0]
        elif pick < 0.85:
            place = source.choice(self.places)
        at = min(place[0] + source.randrange(max(1, place[1])), len(mutant) - 1)
        kind = source.randrange(9)
        if kind < 2:
            mutant[at] = source.randrange(256)
        elif kind < 4:
            width = source.choice((2, 4, 4, 8))
            at -= at % width
            value = source.choice(_VALUES) & ((1 << 8 * width) - 1)
            mutant[at : at + width] = value.to_bytes(width, "little")
        elif kind < 6:
            mutant[at] ^= 1 << source.randrange(8)
        elif kind < 8:
            length = source.randrange(1, 64)
            start = source.randrange(len(mutant))
            mutant[at : at + length] = mutant[start : start + length]
        else:
            del mutant[at:]


class Tally:
    """What the process that runs the cases has come to, in memory that it shares with the one that waits:
    the number of the case and how many mutants were started.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)

    @property
    def values(self) -> tuple[int, int]:
        number, started = struct.unpack_from("<QQ", self._shared)
        return number, started

    @values.setter
    def values(self, values: tuple[int, int]) -> None:
        struct.pack_into("<QQ", self._shared, 0, *values)


def fuzz_pe(sysroot: Sysroot, files: dict[str, bytes], cases: int, seed: int) -> int:
    """Try `cases` mutants; returns how many of them were started. Raises Finding."""
    originals = [Original(name, files[name]) for name in sorted(files)]
    tally = Tally()
    with Progress("fuzz pe") as progress:
        for first in range(0, cases, _CHUNK):
            _run_in_child(sysroot, originals, range(first, min(first + _CHUNK, cases)), seed, tally, progress)
    return tally.values[1]


def _run_in_child(
    sysroot: Sysroot, originals: list[Original], numbers: range, seed: int, tally: Tally, progress: Progress
) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            limit_memory()
            _run(sysroot, originals, numbers, seed, tally)
            code = 0
        except Finding as finding:
            os.write(writer, str(finding).encode()[-_REPORT:])
        except Exception:
            os.write(writer, traceback.format_exc().encode()[-_REPORT:])
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as report:
        hangs = _wait(child, tally, progress)
        _, status = os.waitpid(child, 0)
        text = report.read().decode("utf-8", "replace")
    case = f"pe case {tally.values[0]} of seed {seed}"
    if text:
        raise Finding(text)
    if hangs:
        raise Finding(f"{case}: no end after {_GRACE} s, not even by an alarm")
    if status:
        raise Finding(f"{case}: the process that ran it ended with {os.waitstatus_to_exitcode(status)}")


def _wait(child: int, tally: Tally, progress: Progress) -> bool:
    """Wait for a process; if it comes to no next case it is killed, and the answer is True."""
    poll = select.poll()
    watched = os.pidfd_open(child)
    poll.register(watched, select.POLLIN)
    last, since = tally.values, time.monotonic()
    try:
        while not poll.poll(200):
            now = tally.values
            progress.update(f"case {now[0]}, {now[1]} started")
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > _GRACE:
                os.kill(child, signal.SIGKILL)
                return True
    finally:
        os.close(watched)
    return False


def _run(sysroot: Sysroot, originals: list[Original], numbers: range, seed: int, tally: Tally) -> None:
    target = Target(sysroot, seed)
    _, started = tally.values
    try:
        for number in numbers:
            tally.values = number, started
            source = random.Random(f"{seed}:{number}")
            original = source.choice(originals)
            data = original.mutant(source)
            case = f"pe case {number} of seed {seed} ({original.name})"
            with guarded(case):
                runnable = _read(data, original.name)
                _map(target, data, source)
            if runnable and number % START_EVERY == 0:
                started += 1
                with guarded(case, seconds=_START_LIMIT):
                    _start(sysroot, original.name, data, seed)
        tally.values = numbers[-1], started
    finally:
        target.machine.close()


def _read(data: bytes, name: str) -> bool:
    """Read a mutant the way a start and `check` do; tells whether it may be started."""
    runnable = True
    try:
        check_program(data, name)
    except BadImage:
        runnable = False
    try:
        walk(pe.parse(data))
    except BadImage:
        return runnable
    return runnable


def walk(image: pe.Image) -> None:
    """Read every directory that something reads."""
    directories.exports(image)
    directories.imports(image)
    directories.delay_imports(image)
    directories.tls(image)
    for _ in directories.relocations(image):
        pass


def _map(target: Target, data: bytes, source: random.Random) -> None:
    """Map a mutant as an image: where it wants to be, beside itself, and at a wild place; then unmap it."""
    fd = os.memfd_create("mutant")
    try:
        os.write(fd, data)
        try:
            section = image_section(
                SectionSource(fd, len(data), "\\??\\C:\\mutant", False), PAGE_EXECUTE_READ, SEC_IMAGE
            )
        except NtError:
            return
    finally:
        os.close(fd)
    assert section.image is not None
    section.image.information()
    handle = target.process.handles.add(section, Section.type.all)
    regions = []
    for base in (0, 0, source.getrandbits(40) & -GRANULARITY):
        try:
            regions.append(section.map(target.process.space, base, 0, 0, 0, PAGE_EXECUTE_READ, ANYWHERE))
        except NtError:
            continue
    for region in regions:
        target.process.space.release(region)
    target.process.handles.close(handle)


def _start(sysroot: Sysroot, name: str, data: bytes, seed: int) -> None:
    """Run a mutant within limits; any end is right, and so is a part of it that is not implemented."""
    settings = Settings(sysroot)
    settings.seed = seed
    settings.memory = START_MEMORY
    settings.disk = START_MEMORY
    settings.processes = 4
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(data)
        streams = Streams(b"", True)
        machine = Machine(settings, path, folder)
        try:
            with Interrupts(machine.kernel, START_SECONDS, signals=False):
                process = machine.start(("/?",), streams.descriptors)
                machine.kernel.run(process)
            if process.crash is not None:
                process.crash.text()
        except (NexusError, NtError):
            return
        finally:
            machine.close()
            streams.close()


def read_programs(sysroot: Sysroot, paths: list[str]) -> dict[str, bytes]:
    """The files to mutate: those named, else five of the sysroot."""
    found = {}
    for path in paths or [os.path.join(sysroot.windows, name) for name in PROGRAMS]:
        with open(path, "rb") as file:
            found[os.path.basename(path)] = file.read(4 << 20)
    return found
