"""A named processor is what CPUID and XGETBV show a program; random numbers repeat under a seed."""

from __future__ import annotations

import os

import pytest

import cross
import nexus
from nexus.base.errors import UsageError
from nexus.isa.x86 import cpus

pytestmark = [pytest.mark.sysroot, pytest.mark.compiler]
SOURCE = os.path.join(os.path.dirname(__file__), "cpu.c")


def lines(cpu: str | None = None, seed: int | None = None) -> list[str]:
    program = cross.build(SOURCE)
    win = nexus.windows(cpu=cpu, deterministic=seed)
    return win.run(program, cwd=os.path.dirname(program), timeout=110).text.splitlines()


@pytest.mark.parametrize("name", ["baseline", "x86-64-v2", "zen3", "max"])
def test_a_program_sees_the_processor_of_the_name(name: str) -> None:
    found, features = lines(name), cpus.cpu(name).features
    flags = [int(feature in features) for feature in ("SSE4_2", "AVX", "AVX2", "SHA")]
    assert found[0] == "vendor: " + ("AuthenticAMD" if name == "zen3" else "GenuineIntel")
    assert found[1] == "sse4.2: {} avx: {} avx2: {} sha: {}".format(*flags)
    assert found[2] == f"xcr0: {cpus.cpu(name).xcr0 if 'XSAVE' in features else 0:x}"
    assert found[3].startswith("random: 1 " if "RDRAND" in features else "random: 0 0")
    assert found[4] == "far return: 1"


def test_random_numbers_repeat_under_a_seed() -> None:
    assert lines(seed=5)[3] == lines(seed=5)[3] != lines(seed=6)[3]
    assert lines()[3] != lines()[3]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="no processor called 'z80'") as caught:
        nexus.windows(cpu="z80")
    assert "zen3" in caught.value.hint
