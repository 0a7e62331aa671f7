"""Building one of GCC's tests for Windows, and running it."""

from __future__ import annotations

import hashlib
import os
import subprocess

import nexus
from gcc.cases import Case
from gcc.sources import compiler
from nexus.base.errors import Unsupported
from nexus.base.folders import private_folder
from nexus.isa.x86.cpuid import FEATURES

SECONDS = 120
PASS, FAIL, UNBUILDABLE, UNREPORTED = "pass", "fail", "unbuildable", "no feature"


def build(case: Case) -> tuple[str | None, str]:
    """The program of a test, or None and what the compiler said first."""
    command, environment = compiler()
    key = hashlib.sha256(repr((case.path, case.options)).encode()).hexdigest()[:20]
    program = os.path.join(private_folder("gcc-tests", "programs"), key + ".exe")
    if os.path.exists(program):
        return program, ""
    line = [*command, *case.options, case.path, "-I", os.path.dirname(case.path), "-o", program, "-lm"]
    done = subprocess.run(
        [*line, "-static"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode == 0:
        return program, ""
    said = done.stdout.decode(errors="replace").splitlines()
    wrong = [text for text in said if "error" in text or "undefined reference" in text or "fatal" in text]
    return None, (wrong or said or ["?"])[0].replace(case.path, os.path.basename(case.path))


def missing(case: Case) -> list[str]:
    """Features that the test looks for and CPUID does not report: it would pass for nothing."""
    return [name for name in case.required if name not in FEATURES]


def run(case: Case, machine: nexus.Windows, keep: bool = False) -> tuple[str, str]:
    """What became of a test: one of the four words, and why."""
    without = missing(case)
    if without:
        return UNREPORTED, ", ".join(without)
    program, said = build(case)
    if program is None:
        return UNBUILDABLE, said
    try:
        result = machine.run(program, timeout=SECONDS)
    except nexus.GuestTimeout:
        return FAIL, f"not over after {SECONDS} s"
    except Unsupported as unsupported:
        return FAIL, str(unsupported)
    finally:
        if not keep:
            os.unlink(program)
    if result.exit_code == 0:
        return PASS, ""
    if result.crash is not None:
        return FAIL, result.crash.text().splitlines()[0]
    return FAIL, f"exit code {result.exit_code:#x}"
