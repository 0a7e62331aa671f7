"""Instructions that cannot be compared with the host: system calls, interrupts, flags as a word,
identification."""

from __future__ import annotations

import pytest

from isa import harness
from nexus.ir.state import Exit
from nexus.isa.x86 import fuzz, helpers
from nexus.isa.x86 import registers as r
from nexus.isa.x86.compare import Result
from nexus.isa.x86.cpuid import FEATURES, cpuid
from nexus.isa.x86.ins import GENERAL_PROTECTION, PRIVILEGED_INSTRUCTION

AT = fuzz.AT


@pytest.fixture(params=["oracle", "t0"])
def execute(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Run hexadecimal code with some registers on one engine."""

    def run(code: str, **registers: int) -> Result:
        return harness.ENGINES[request.param](harness.case(code, **registers))

    return run


def ended(result: Result) -> tuple[int, int]:
    """(exit kind, pc relative to the instruction)."""
    return result.outcome.exit, result.outcome.pc - AT


def test_syscall_leaves_return_address_and_flags(execute) -> None:  # type: ignore[no-untyped-def]
    result = execute("0f05", rcx=1, r11=2, eflags=0xA97)
    assert ended(result) == (Exit.SYSCALL, 2)
    assert (result.state.rcx, result.state.r11) == (AT + 2, 0xA97)


@pytest.mark.parametrize(
    ("code", "kind", "argument", "pc"),
    [
        ("cc", Exit.INTERRUPT, 3, 1),
        ("cd29", Exit.INTERRUPT, 0x29, 2),
        ("cd2d", Exit.INTERRUPT, 0x2D, 2),
        ("f1", Exit.TRAP, 0, 1),
        ("0f0b", Exit.ILLEGAL, 0, 0),
        ("0fb9c0", Exit.ILLEGAL, 0, 0),
        ("06", Exit.ILLEGAL, 0, 0),  # push es does not exist in 64-bit mode
        ("f4", Exit.PRIVILEGED, PRIVILEGED_INSTRUCTION, 0),
        ("fa", Exit.PRIVILEGED, PRIVILEGED_INSTRUCTION, 0),
        ("ec", Exit.PRIVILEGED, PRIVILEGED_INSTRUCTION, 0),
        ("0f30", Exit.PRIVILEGED, PRIVILEGED_INSTRUCTION, 0),  # wrmsr
        ("0f20c0", Exit.PRIVILEGED, PRIVILEGED_INSTRUCTION, 0),  # mov rax,cr0
        ("0f010b", Exit.PRIVILEGED, GENERAL_PROTECTION, 0),  # sidt, under UMIP
        ("8ed8", Exit.PRIVILEGED, GENERAL_PROTECTION, 0),  # mov ds,eax with a selector that is not there
        ("0f01d0", Exit.ILLEGAL, 0, 0),  # xgetbv while CPUID does not report OSXSAVE
        ("0fc7f0", Exit.UNIMPLEMENTED, 0, 0),  # rdrand
    ],
)
def test_exits(execute, code: str, kind: int, argument: int, pc: int) -> None:  # type: ignore[no-untyped-def]
    result = execute(code + "00" * 8 if code == "06" else code, rax=0x1234, rbx=0x11000)
    assert ended(result) == (kind, pc)
    assert result.argument == argument
    assert result.state.rax == 0x1234


def test_data_segments_take_the_selectors_of_a_process(execute) -> None:  # type: ignore[no-untyped-def]
    for selector in (0x2B, 0x33, 0x53, 0, 3):
        assert execute("8ed8", rax=selector).state.ds == selector
    assert ended(execute("8ed0", rax=0)) == (Exit.PRIVILEGED, 0)  # ss must not be null
    assert execute("8cd8", rax=1 << 63, ds=0x2B).state.rax == 0x2B  # mov eax,ds
    assert execute("668cd8", rax=0xFFFF0000, ds=0x2B).state.rax == 0xFFFF002B


def test_selectors_of_a_windows_process(execute) -> None:  # type: ignore[no-untyped-def]
    """What 64-bit Windows answers; `lsl` of the 32-bit TEB's selector once told the processor's number."""
    result = execute("0f02c1", rax=-1 % 2**64, rcx=0x33)  # lar eax,ecx
    assert (result.state.rax, result.state.eflags & r.FLAG_ZF) == (0x20FB00, r.FLAG_ZF)
    result = execute("0f03c1", rcx=0x53)  # lsl eax,ecx
    assert (result.state.rax, result.state.eflags & r.FLAG_ZF) == (0x3C00, r.FLAG_ZF)
    result = execute("0f02c1", rax=-1 % 2**64, rcx=0x10, eflags=0x8D7)
    assert (result.state.rax, result.state.eflags) == (2**64 - 1, 0x897)  # no such selector for user code
    assert execute("660f02c1", rax=-1 % 2**64, rcx=0x2B).state.rax == 0xFFFFFFFFFFFFF300
    assert execute("0f00e9", rcx=0x2B, eflags=0).state.eflags & r.FLAG_ZF  # verw ecx
    assert not execute("0f00e9", rcx=0x33, eflags=0x40).state.eflags & r.FLAG_ZF
    assert execute("0f00e1", rcx=0x33, eflags=0).state.eflags & r.FLAG_ZF  # verr ecx


def test_popf_changes_what_user_code_may(execute) -> None:  # type: ignore[no-untyped-def]
    stack = {"rsp": 0x11000, "memory_11000": 0xFFFFFFFFFFFFFFFF}
    result = execute("9d", eflags=r.FLAG_IF, **stack)
    assert ended(result) == (Exit.NONE, 1)
    assert result.argument == helpers.FLAGS_LOADED
    assert result.state.eflags == 0x244DD5 | r.FLAG_IF | r.ALWAYS_SET
    assert result.state.rsp == 0x11008
    cleared = execute("9d", eflags=0x244DD5 | r.FLAG_IF, rsp=0x11000, memory_11000=0)
    assert cleared.state.eflags == r.FLAG_IF | r.ALWAYS_SET
    narrow = execute("669d", eflags=r.FLAG_ID | r.FLAG_IF, **stack)
    assert narrow.state.eflags == r.FLAG_ID | 0x4DD5 | r.FLAG_IF | r.ALWAYS_SET
    assert narrow.state.rsp == 0x11002


def test_iretq_returns_within_user_mode(execute) -> None:  # type: ignore[no-untyped-def]
    frame = {
        f"memory_{0x11000 + 8 * n:x}": value for n, value in enumerate((0x52000, 0x33, 0x8D5, 0x12340, 0x2B))
    }
    result = execute("48cf", rsp=0x11000, **frame)
    assert result.outcome.pc == 0x52000
    assert (result.state.rsp, result.state.eflags) == (0x12340, 0x8D7 | r.FLAG_IF)
    frame["memory_11008"] = 0x10
    assert ended(execute("48cf", rsp=0x11000, **frame)) == (Exit.PRIVILEGED, 0)


def test_segment_bases(execute) -> None:  # type: ignore[no-untyped-def]
    assert execute("f3480faec0", fs_base=0x7FFE12345678).state.rax == 0x7FFE12345678
    assert execute("f30faec8", gs_base=0x7FFE12345678, rax=-1 % 2**64).state.rax == 0x12345678
    assert execute("f3480faed8", rax=0x7FFE12345678).state.gs_base == 0x7FFE12345678
    assert execute("f30faed0", rax=-1 % 2**64).state.fs_base == 0xFFFFFFFF
    assert ended(execute("f3480faed8", rax=1 << 47)) == (Exit.PRIVILEGED, 0)
    assert execute("65488b042530000000", gs_base=0x11000, memory_11030=77).state.rax == 77
    assert execute("6467488b4301", fs_base=0x10FFF, rbx=0xFF00000010, memory_11010=78).state.rax == 78


def test_cpuid_through_its_helper(execute) -> None:  # type: ignore[no-untyped-def]
    result = execute("0fa2", rax=0, rcx=5)
    assert (ended(result), result.argument) == ((Exit.HELPER, 2), helpers.CPUID)
    helpers.run(helpers.CPUID, result.state, lambda: 0)
    name = b"".join(n.to_bytes(4, "little") for n in (result.state.rbx, result.state.rdx, result.state.rcx))
    assert name == b"GenuineIntel"


def test_time_stamp_is_split_over_two_registers() -> None:
    state = r.CpuState()
    state.rax = state.rdx = state.rcx = -1 % 2**64
    helpers.run(helpers.RDTSC, state, lambda: 0x123456789ABCDEF0)
    assert (state.rax, state.rdx) == (0x9ABCDEF0, 0x12345678)
    helpers.run(helpers.RDTSCP, state, lambda: 1)
    assert (state.rax, state.rdx, state.rcx) == (1, 0, 0)


def test_cpuid_does_not_promise_avx_or_xsave() -> None:
    _, _, ecx, edx = cpuid(1, 0)
    assert ecx & (1 << 28 | 1 << 27 | 1 << 26) == 0  # AVX, OSXSAVE, XSAVE
    assert edx & (1 << 26)  # SSE2, which every x86-64 processor has
    assert cpuid(7, 0)[1] & (1 << 5) == 0  # AVX2
    assert cpuid(7, 1) == cpuid(0x12345678, 0) == (0, 0, 0, 0)
    brand = b"".join(n.to_bytes(4, "little") for leaf in (2, 3, 4) for n in cpuid(0x80000000 + leaf, 0))
    assert brand.rstrip(b"\0") == b"Bellum Nexus x86-64 processor"


def test_every_feature_is_in_the_leaf_it_names() -> None:
    for leaf, register, bit in FEATURES.values():
        assert cpuid(leaf, 0)[register] >> bit & 1


@pytest.mark.parametrize("processors", [1, 2, 8])
def test_cpuid_counts_processors_as_cores_of_one_package(processors: int) -> None:
    _, ebx, _, edx = cpuid(1, 0, processors)
    assert ebx >> 16 & 0xFF == processors
    assert edx >> 28 & 1 == (processors > 1)
    for level in range(4):
        assert cpuid(4, level, processors)[0] >> 26 == processors - 1
    state = r.CpuState()
    state.rax, state.rcx = 1, 0
    helpers.run(helpers.CPUID, state, lambda: 0, processors)
    assert state.rbx == ebx
