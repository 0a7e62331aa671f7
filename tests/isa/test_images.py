"""FXSAVE and XSAVE areas against the host's: everything but the fields that differ by processor.

Those are the last x87 instruction and its operand, the mask of MXCSR, and which components are found to be in
their first state.
"""

from __future__ import annotations

import random

import pytest

from isa import harness
from nexus.ir.state import Exit
from nexus.isa.x86 import compare, fuzz
from nexus.isa.x86.cpuid import Cpu

AREA = fuzz.MEMORY + 0x1000
X87, SSE = 1, 2
FIELDS = {X87: ((0, 5), (32, 160)), SSE: ((160, 416),)}  # of the image, by component
MXCSR = (24, 28)


def area(rng: random.Random, there: int = 0, form: int = 0) -> bytes:
    """An area with random contents that XRSTOR takes."""
    image = bytearray(rng.randbytes(512) + bytes(64))
    image[0:2] = (0x37F & ~0xC00 | rng.getrandbits(2) << 10).to_bytes(2, "little")
    image[24:28] = (0x1F80 | rng.getrandbits(6) | rng.getrandbits(2) << 13).to_bytes(4, "little")
    for n in range(8):
        image[39 + 16 * n] |= 0x80
    image[512:528] = there.to_bytes(8, "little") + form.to_bytes(8, "little")
    return bytes(image)


def start(code: str, data: bytes, rng: random.Random, asked: int, at: int = AREA) -> fuzz.Case:
    """A case on a random state, its area at RBX and the components in EDX:EAX."""
    case = harness.case(code)
    drawn = fuzz.States(rng).draw()
    case.state.buffer[:] = drawn.buffer
    case.state.rbx, case.state.rax, case.state.rdx = at, asked, 0
    case.patches = [(AREA, data)]
    return case


def host_memory(case: fuzz.Case) -> compare.Result:
    """The host's result; its memory is made so that it needs no patches."""
    processor = harness.host()
    memory = compare.patched(harness.MEMORY, case)
    processor.set_memory(memory)
    try:
        (ran,) = processor.run_many(case.code, [case.state])
    finally:
        processor.set_memory(harness.MEMORY)
    return compare.of_host(case, ran, memory)


def needs(feature: str) -> None:
    if feature not in harness.host().features:
        pytest.skip(f"not run: this processor has no {feature}")


def fields(memory: bytes, asked: int) -> list[bytes]:
    parts = [part for bit, places in FIELDS.items() if asked & bit for part in places]
    at = AREA - fuzz.MEMORY
    return [memory[at + begin : at + end] for begin, end in [*parts, MXCSR]]


@pytest.mark.parametrize("engine", ["oracle", "t0", "t1"])
@pytest.mark.parametrize("asked", [0, X87, SSE, X87 | SSE])
@pytest.mark.parametrize(
    "code", ["480fae23", "0fae23", "480fae33", "480fc723"], ids=lambda code: f"xsave-{code}"
)
def test_areas_are_stored(code: str, asked: int, engine: str) -> None:
    """XSAVE64, XSAVE, XSAVEOPT64, XSAVEC64."""
    needs("xsavec" if code == "480fc723" else "xsave")
    rng = random.Random(asked)
    for _ in range(10):
        case = start(code, rng.randbytes(512) + bytes(64), rng, asked)
        case.state.fcw = 0x37F & ~rng.choice((0x300, 0x400))  # never the first state, which may be left out
        expected, got = host_memory(case), harness.ENGINES[engine](case)
        assert fields(got.memory, asked) == fields(expected.memory, asked)
        header = AREA - fuzz.MEMORY + 512
        assert got.memory[header : header + 64] == expected.memory[header : header + 64]
        assert got.outcome == expected.outcome


@pytest.mark.parametrize("engine", ["oracle", "t0", "t1"])
@pytest.mark.parametrize("form", [0, 1 << 63 | 3, 1 << 63 | 1])
@pytest.mark.parametrize("there", [0, X87, SSE, X87 | SSE])
def test_areas_are_loaded(there: int, form: int, engine: str) -> None:
    """XRSTOR64 from both forms: what is not there is reset, and what does not fit is #GP."""
    needs("xsavec" if form else "xsave")
    rng = random.Random(there)
    for asked in (0, X87, SSE, X87 | SSE):
        case = start("480fae2b", area(rng, there, form), rng, asked)
        assert not compare.differences(case, host_memory(case), harness.ENGINES[engine](case))


@pytest.mark.parametrize("engine", ["oracle", "t0", "t1"])
def test_areas_that_are_refused(engine: str) -> None:
    rng = random.Random(1)
    good = area(rng, 3)
    reserved = good[:24] + (0x1F80 | 1 << 20).to_bytes(4, "little") + good[28:]
    header = good[:528] + b"\1" + good[529:]
    unknown = area(rng, 1 << 40)
    for data, at in ((good, AREA + 16), (reserved, AREA), (header, AREA), (unknown, AREA)):
        case = start("480fae2b", data, rng, 3, at)
        expected = host_memory(case)
        assert expected.outcome.exit == Exit.PRIVILEGED
        assert not compare.differences(case, expected, harness.ENGINES[engine](case))
    for code in ("480fae2b", "480fae23"):  # memory that is not there
        case = start(code, b"", rng, 3, fuzz.MEMORY + fuzz.MEMORY_SIZE)
        assert harness.ENGINES[engine](case).outcome.exit == host_memory(case).outcome.exit == Exit.FAULT


@pytest.mark.parametrize("engine", ["oracle", "t0", "t1"])
def test_fxsave(engine: str) -> None:
    rng = random.Random(2)
    for code in ("480fae03", "0fae03"):
        case = start(code, rng.randbytes(512), rng, 0)
        expected, got = host_memory(case), harness.ENGINES[engine](case)
        assert fields(got.memory, X87 | SSE) == fields(expected.memory, X87 | SSE)


def test_a_processor_without_xsave_has_none() -> None:
    """CPUID and the instructions agree."""
    plain = Cpu(b"GenuineIntel", 6, 15, 6, {"SSE2"})
    assert plain.cpuid(1, 0)[2] & (1 << 26 | 1 << 27) == 0 and plain.cpuid(0xD, 0) == (0, 0, 0, 0)
    case = start("480fae2b", area(random.Random(3)), random.Random(3), 3)
    memory = bytearray(compare.patched(harness.MEMORY, case))
    machine = compare.machine_on(memory)
    machine.cpu = plain
    block_state = harness.run_t0(case).state  # only for where the engine leaves the address
    assert compare.helpers.run(compare.helpers.XRSTOR | 4 << 16, block_state, machine) == Exit.ILLEGAL
