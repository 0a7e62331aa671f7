"""The default share of the fuzzing that `nexus fuzz` does: 2 % of the cases, from a fixed seed."""

from __future__ import annotations

import os
import random

import pytest

from nexus.base.errors import NexusError
from nexus.nt.syscall import SYSCALLS
from nexus.system import fuzz, fuzz_pe, sysroot
from nexus.system.sysroot import Sysroot

pytestmark = pytest.mark.sysroot


@pytest.fixture(scope="module")
def dlls() -> Sysroot:
    try:
        return sysroot.find()
    except NexusError as error:
        pytest.skip(f"no Windows DLLs: {error}; {error.hint}")


def test_damaged_images(dlls: Sysroot) -> None:
    started = fuzz_pe.fuzz_pe(dlls, fuzz_pe.read_programs(dlls, []), 400, seed=1)
    assert started > 0


@pytest.mark.parametrize("part", range(8))
def test_hostile_system_calls(dlls: Sysroot, part: int) -> None:
    fuzz.fuzz_syscalls(dlls, 200, seed=1, names=sorted(SYSCALLS)[part::8])


def test_a_closed_machine_leaves_no_descriptor_open(dlls: Sysroot) -> None:
    """Also when it is closed while handles, sections, views and NLS tables are in use."""
    before = sorted(os.listdir("/proc/self/fd"))
    target = fuzz.Target(dlls, 1)
    for name in ("NtCreateSection", "NtInitializeNlsFiles", "NtGetNlsSectionPtr", "NtCreateNamedPipeFile"):
        for number in range(50):
            if target.usable():
                target.call(name, random.Random(f"{name}:{number}"))
    assert len(os.listdir("/proc/self/fd")) > len(before)
    target.machine.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
