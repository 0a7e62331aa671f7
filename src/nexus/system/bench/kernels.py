"""The programs of `bench/kernels`, built for Windows and for Linux with the compiler of the bench group."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile

from nexus.base.errors import NexusError
from nexus.base.folders import CHECKOUT, private_folder

FOLDER = os.path.join(CHECKOUT, "bench", "kernels")
LEVELS = (0, 2)
AVX = ("filter", "matrix")  # those that need AVX2 and FMA
WINDOWS, LINUX = "x86_64-windows-gnu", "x86_64-linux-musl"
# No checks that zig adds, no calls of library functions in place of loops, and the same sums everywhere.
FLAGS = ("-fno-sanitize=all", "-fno-builtin", "-fno-stack-protector", "-ffp-contract=off", "-w", "-s")
LINKED = ("-nostdlib", "-Wl,-e,start")
LIBRARIES = {WINDOWS: ("-lkernel32",), LINUX: ()}


class Kernel:
    """One program at one level of optimisation: `exe` for Windows, `elf()` for Linux."""

    __slots__ = ("_compiler", "exe", "level", "name")

    def __init__(self, name: str, level: int, compiler: list[str]) -> None:
        self.name = name
        self.level = level
        self._compiler = compiler
        self.exe = self._build(WINDOWS, ".exe")

    def __str__(self) -> str:
        return f"{self.name} -O{self.level}"

    def elf(self) -> str:
        """The path of the Linux program, which is built when first asked for."""
        return self._build(LINUX, ".elf")

    def _build(self, target: str, ending: str) -> str:
        command = [*self._compiler, "-target", target, "-static", f"-O{self.level}", *FLAGS, *LINKED]
        source = os.path.join(FOLDER, self.name + ".c")
        content = repr(command[2:]).encode()
        for path in (source, os.path.join(FOLDER, "kernel.h")):
            with open(path, "rb") as file:
                content += file.read()
        key = hashlib.sha256(content).hexdigest()[:16]
        final = os.path.join(private_folder("bench"), f"{self.name}-O{self.level}-{key}{ending}")
        if not os.path.exists(final):
            with tempfile.TemporaryDirectory(dir=private_folder("bench"), prefix=".build-") as scratch:
                built = os.path.join(scratch, "kernel" + ending)
                done = subprocess.run(
                    [*command, "-o", built, source, *LIBRARIES[target]], capture_output=True, text=True
                )
                if done.returncode:
                    raise NexusError(f"{self.name}.c could not be compiled:\n{done.stderr.strip()}")
                os.replace(built, final)
        return final


def names() -> list[str]:
    """The kernels there are, in order."""
    return sorted(name[:-2] for name in os.listdir(FOLDER) if name.endswith(".c"))


def compiler(python: str) -> list[str]:
    """The compiler's command, with the interpreter that has it."""
    return [python, "-m", "ziglang", "cc"]
