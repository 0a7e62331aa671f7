"""The programs that `nexus bench` measures compute the same everywhere, and what Python computes.

Results, not times: what is measured is only worth something if it is right.
"""

from __future__ import annotations

import importlib.util
import sys

import pytest

from nexus.base.errors import NexusError
from nexus.system.bench import contenders, kernels
from nexus.system.bench.measure import WrongResult, measure
from speed.references import REFERENCES

ENGINES = contenders.WORKERS

pytestmark = pytest.mark.compiler


@pytest.fixture
def kernel(name: str, level: int) -> kernels.Kernel:
    """Built here, since a cold compiler takes longer than a test may."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("not run: no cross compiler (the test group has one)")
    return kernels.Kernel(name, level, kernels.compiler(sys.executable))


def test_every_kernel_has_a_reference() -> None:
    assert kernels.names() == sorted(REFERENCES)
    assert len(REFERENCES) >= 8


@pytest.mark.parametrize("level", kernels.LEVELS)
@pytest.mark.parametrize("name", REFERENCES)
def test_results(name: str, kernel: kernels.Kernel) -> None:
    reference, n = REFERENCES[name]
    expected = reference(n)
    if not contenders.can_run("native", name):
        pytest.skip("not run: this processor has no AVX2")
    for engine in filter(lambda engine: contenders.can_run(engine, name), ENGINES):
        worker = contenders.Worker(sys.executable, engine, kernel)
        try:
            result, seconds = worker.measure(n)
        finally:
            worker.close()
        assert result == expected, engine
        assert seconds > 0


@pytest.mark.parametrize(("name", "level"), [("fib", 2)])
def test_a_wrong_result_stops_the_measurement(kernel: kernels.Kernel) -> None:
    class Wrong(contenders.Contender):
        def measure(self, n: int) -> tuple[int, float]:
            return 0, 1.0

    makers = {
        "native": lambda kernel: contenders.Worker(sys.executable, "native", kernel),
        "wrong": lambda kernel: Wrong(),
    }
    with pytest.raises(WrongResult, match=r"fib -O2 with n = \d+ gives 0 on wrong, natively \d+"):
        measure(kernel, makers, 0.001, 1, lambda text: None)


@pytest.mark.parametrize(("name", "level"), [("fib", 2)])
def test_a_worker_that_dies_is_an_error(kernel: kernels.Kernel) -> None:
    worker = contenders.Worker(sys.executable, "no engine", kernel)
    try:
        with pytest.raises(NexusError, match="fib -O2 on no engine ended with exit code 1"):
            worker.measure(1)
    finally:
        worker.close()


@pytest.mark.parametrize(("name", "level"), [("crc32", 2)])
def test_the_program_itself_says_the_same(kernel: kernels.Kernel) -> None:
    """What qemu-user is given is the same program for Linux, which this host runs too."""
    try:
        result, _ = contenders.Command([kernel.elf()], kernel).measure(5)
    except OSError as error:
        pytest.skip(f"not run: this host cannot run Linux programs for x86-64 ({error})")
    assert result == REFERENCES["crc32"][0](5)
