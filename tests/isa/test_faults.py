"""Instructions that fault: registers, flags and memory afterwards on T0 and T1 are those of the host.

Nothing of the faulting instruction may be seen but what the processor itself leaves: whole elements of a
repeated one, the first stores of one with several. 10,000 of them under `--full`, a share of the same ones
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from iced_x86 import Instruction, OpKind

from isa import harness
from nexus.ir.state import Exit
from nexus.isa.x86 import compare, fuzz
from nexus.isa.x86.masks import MANY_ACCESSES

SEED = 3
SHARE, ALL = 60, 1250  # of each of the eight kinds
ENGINES = ("t0", "t1")


def locked(instruction: Instruction) -> bool:
    return bool(instruction.has_lock_prefix)


def repeated(instruction: Instruction) -> bool:
    return bool(instruction.has_rep_prefix or instruction.has_repne_prefix)


def plain(instruction: Instruction) -> bool:
    return not locked(instruction) and instruction.op0_kind == OpKind.MEMORY


def anything(instruction: Instruction) -> bool:
    return instruction.mnemonic not in MANY_ACCESSES


VECTOR = ("sse_moves", "sse_integer", "sse_float", "sse_string", "aes", "avx", "fused", "gather")
# kind -> groups or mnemonics, and which of their instructions
KINDS: dict[str, tuple[tuple[str, ...], Callable[[Instruction], bool]]] = {
    "stack": (("PUSH", "POP", "PUSHFQ", "PUSHF", "RET", "LEAVE"), anything),
    "call [m]": (("CALL", "JMP"), anything),
    "xchg": (("XCHG", "XADD", "CMPXCHG", "CMPXCHG8B", "CMPXCHG16B"), anything),
    "rep": (("strings",), repeated),
    "locked": (("arithmetic", "bits", "XADD", "CMPXCHG"), locked),
    "read, modify, write": (("arithmetic", "shifts", "bits"), plain),
    "vector": (VECTOR, anything),
    "other": (("moves", "shared_names", "strings", "x87", "x87_control", "system"), anything),
}


def faulting(kind: str, count: int) -> Iterator[tuple[fuzz.Case, compare.Result]]:
    """So many cases of a kind that fault on the host, with what it does."""
    groups, wanted = KINDS[kind]
    share = -(-count // len(groups))
    for group in groups:
        found = 0
        for case in fuzz.random_cases(group, 1 << 40, SEED, harness.on_host):
            if not wanted(case.instruction) or all(map(inside, fuzz.accesses(case))):
                continue
            expected = harness.run_host(case)
            if expected.outcome.exit in (Exit.FAULT, Exit.PRIVILEGED):
                yield case, expected
                found += 1
                if found == share:
                    break


def inside(access: tuple[int, int]) -> bool:
    address, size = access
    return address >= fuzz.MEMORY and address + size <= fuzz.MEMORY + fuzz.MEMORY_SIZE


@pytest.mark.parametrize(
    "count", [SHARE, pytest.param(ALL, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_leaves_what_the_host_leaves(kind: str, count: int) -> None:
    failures: list[str] = []
    done = 0
    for case, expected in faulting(kind, count):
        done += 1
        for engine in ENGINES:
            wrong = compare.differences(case, expected, harness.ENGINES[engine](case))
            if wrong:
                failures.append(f"{engine}: {compare.describe(case, wrong)}")
    assert done >= count
    assert not failures, "\n".join(failures[:5]) + f"\n{len(failures)} in all"
