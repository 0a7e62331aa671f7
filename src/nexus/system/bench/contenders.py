"""What can be measured: each contender runs a kernel with a given n and says what came out and how long it
took."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from nexus.base.errors import NexusError
from nexus.base.folders import CHECKOUT, private_folder
from nexus.isa.x86.native import host_flags
from nexus.system.apt import Apt
from nexus.system.archives import unpack_deb
from nexus.system.bench.kernels import AVX, Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NATIVE = "native"
WORKERS = (NATIVE, "t0", "t1", "t2", "unicorn")
OTHERS = ("qemu", "wine")
QEMU_PACKAGES = ("qemu-user-static", "qemu-user")  # the second has static programs where the first is empty
QEMU_PROGRAMS = ("qemu-x86_64-static", "qemu-x86_64")


class Absent(NexusError):
    """A contender that this machine does not have; the message says why."""


class Contender:
    """One kernel on one engine, ready to be measured."""

    def measure(self, n: int) -> tuple[int, float]:
        """(result, seconds) of `kernel(n)`."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what it holds."""


class Worker(Contender):
    """A process that keeps the kernel loaded."""

    def __init__(self, python: str, engine: str, kernel: Kernel) -> None:
        self._name = f"{kernel} on {engine}"
        environment = {**os.environ, "PYTHONPATH": os.path.join(CHECKOUT, "src")}
        command = [python, "-m", "nexus.system.bench.worker", engine, kernel.exe]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)

    def measure(self, n: int) -> tuple[int, float]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(f"{n}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline().split()
        except BrokenPipeError:
            answer = []
        if len(answer) != 2:
            raise NexusError(f"{self._name} ended with exit code {self._process.wait()}")
        return int(answer[0]), int(answer[1]) / 1e9

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()


class Command(Contender):
    """A program that is started for every measurement and says itself how long the kernel took."""

    def __init__(self, command: list[str], kernel: Kernel, environment: dict[str, str] | None = None) -> None:
        self._command = command
        self._name = f"{kernel} with {os.path.basename(command[0])}"
        self._environment = environment

    def measure(self, n: int) -> tuple[int, float]:
        done = subprocess.run(
            [*self._command, str(n)], capture_output=True, text=True, env=self._environment, check=False
        )
        words = done.stdout.split()
        if done.returncode or len(words) != 2:
            raise NexusError(f"{self._name} ended with exit code {done.returncode}:\n{done.stderr.strip()}")
        return int(words[0]), int(words[1]) / 1e9


def maker(name: str, python: str) -> Callable[[Kernel], Contender]:
    """What makes the contender of this name; raises Absent where the machine lacks it."""
    if name in WORKERS:
        return lambda kernel: Worker(python, name, kernel)
    if name == "qemu":
        program = find_qemu()
        return lambda kernel: Command([program, kernel.elf()], kernel)
    wine = shutil.which("wine") or shutil.which("wine64")
    if wine is None:
        raise Absent("Wine is not installed")
    environment = {**os.environ, "WINEDEBUG": "-all"}
    return lambda kernel: Command([wine, kernel.exe], kernel, environment)


def can_run(name: str, kernel: str) -> bool:
    """Whether a contender has the instructions of a kernel: Unicorn has no AVX, and the host may lack it."""
    if kernel not in AVX:
        return True
    if name == NATIVE:
        return {"avx2", "fma"} <= host_flags()
    return name != "unicorn"


def find_qemu() -> str:
    """qemu-user for x86-64: the machine's own, else the distribution's package, unpacked privately.

    apt checks the package against the signed lists."""
    for name in QEMU_PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            return found
    top = private_folder("qemu")
    ready = os.path.join(top, "qemu-x86_64")
    if os.path.exists(ready):
        return ready
    apt = Apt.for_this_machine()
    if apt is None:
        raise Absent("qemu-user is not installed, and this machine has no apt to get it from")
    with tempfile.TemporaryDirectory(dir=top, prefix=".partial-") as scratch:
        for package in QEMU_PACKAGES:
            archive = apt.download(package, scratch)
            target = os.path.join(scratch, package)
            unpack_deb(archive, target, lambda name: "it" if is_qemu(name) else None)
            program = os.path.join(target, "it")
            if os.path.exists(program):
                os.chmod(program, 0o755)
                os.replace(program, ready)
                return ready
    raise Absent("the packages of qemu-user hold no qemu-x86_64")


def is_qemu(name: str) -> bool:
    folder, _, base = name.rpartition("/")
    return folder.endswith("usr/bin") and base in QEMU_PROGRAMS
