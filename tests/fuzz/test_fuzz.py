"""The default share of the fuzzing that `nexus fuzz` does: 2 % of the cases, from a fixed seed."""

from __future__ import annotations

import pytest

from nexus.base.errors import NexusError
from nexus.nt.syscall import SYSCALLS
from nexus.system import fuzz, sysroot
from nexus.system.sysroot import Sysroot

pytestmark = pytest.mark.sysroot


@pytest.fixture(scope="module")
def dlls() -> Sysroot:
    try:
        return sysroot.find()
    except NexusError as error:
        pytest.skip(f"no Windows DLLs: {error}; {error.hint}")


def test_damaged_images(dlls: Sysroot) -> None:
    fuzz.fuzz_pe(fuzz.read_programs(dlls, []), 400, seed=1)


@pytest.mark.parametrize("part", range(8))
def test_hostile_system_calls(dlls: Sysroot, part: int) -> None:
    fuzz.fuzz_syscalls(dlls, 40, seed=1, names=sorted(SYSCALLS)[part::8])
