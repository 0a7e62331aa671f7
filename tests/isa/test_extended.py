"""Instructions that few processors have, with results by hand from the Intel SDM, volume 2."""

from __future__ import annotations

import pytest

from isa import harness
from nexus.ir.state import Exit
from nexus.isa.x86 import fuzz
from nexus.isa.x86 import registers as r
from nexus.isa.x86.compare import Result

PLACE = fuzz.MEMORY + 0x1000


@pytest.fixture(params=["oracle", "t0", "t1"])
def execute(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    def run(code: str, **registers: int) -> Result:
        return harness.ENGINES[request.param](harness.case(code, **registers))

    return run


def memory(result: Result, address: int, size: int) -> bytes:
    return result.memory[address - fuzz.MEMORY : address - fuzz.MEMORY + size]


def test_direct_stores(execute) -> None:  # type: ignore[no-untyped-def]
    wide = execute("480f38f903", rax=0x1122334455667788, rbx=PLACE + 3)  # movdiri [rbx],rax
    assert memory(wide, PLACE + 3, 8) == bytes.fromhex("8877665544332211")
    narrow = execute("0f38f903", rax=0x1122334455667788, rbx=PLACE)
    assert memory(narrow, PLACE, 4) == bytes.fromhex("88776655")
    moved = execute("660f38f803", rax=PLACE + 0x40, rbx=PLACE + 0x105)  # movdir64b rax,[rbx]
    assert memory(moved, PLACE + 0x40, 64) == memory(moved, PLACE + 0x105, 64)
    assert moved.outcome.exit == Exit.NONE
    refused = execute("660f38f803", rax=PLACE + 0x48, rbx=PLACE)
    assert refused.outcome.exit == Exit.PRIVILEGED and refused.memory == harness.MEMORY


def test_waits_end_at_once(execute) -> None:  # type: ignore[no-untyped-def]
    for code in ("f20faef3", "660faef3"):  # umwait ebx; tpause ebx
        result = execute(code, rbx=1, eflags=0x8D7)
        assert result.outcome.exit == Exit.NONE and not result.state.eflags & (r.SPLIT_FLAGS & ~r.FLAG_DF)
        assert execute(code, rbx=2).outcome.exit == Exit.PRIVILEGED  # reserved bits
    assert execute("f30faef3", rbx=PLACE).outcome.exit == Exit.NONE  # umonitor rbx
    assert execute("f30faef3", rbx=fuzz.MEMORY + fuzz.MEMORY_SIZE).outcome.exit == Exit.FAULT


@pytest.mark.parametrize(
    "code",
    [
        "0f01e8",  # serialize
        "f30fae23",  # ptwrite [rbx]
        "f30f1b03",  # bndmk bnd0,[rbx]
        "f30f1a03",  # bndcl bnd0,[rbx]
        "0f183d00000000",  # prefetchit0 [rip]
        "0f1c03",  # cldemote [rbx]
    ],
)
def test_nothing_to_see(code: str, execute) -> None:  # type: ignore[no-untyped-def]
    result = execute(code, rbx=PLACE, eflags=0x8D7)
    assert (result.outcome.exit, result.outcome.pc) == (Exit.NONE, fuzz.AT + len(code) // 2)
    assert result.memory == harness.MEMORY
    assert (result.state.rbx, result.state.eflags & r.SPLIT_FLAGS) == (PLACE, 0x8D5)


def test_what_only_reads_faults(execute) -> None:  # type: ignore[no-untyped-def]
    assert execute("f30fae23", rbx=fuzz.MEMORY + fuzz.MEMORY_SIZE).outcome.exit == Exit.FAULT  # ptwrite
    assert execute("f30f1b03", rbx=fuzz.MEMORY + fuzz.MEMORY_SIZE).outcome.exit == Exit.NONE  # a hint
