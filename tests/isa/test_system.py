"""Instructions that cannot be compared with the host: system calls, interrupts, flags as a word,
identification."""

from __future__ import annotations

import pytest

import t0
from isa import harness
from nexus.ir.state import SLOTS, Exit
from nexus.isa.x86 import compare, cpus, fuzz, helpers
from nexus.isa.x86 import registers as r
from nexus.isa.x86.compare import Result
from nexus.isa.x86.cpuid import DEFAULT, EVERYTHING, FEATURES
from nexus.isa.x86.ins import GENERAL_PROTECTION, PRIVILEGED_INSTRUCTION

AT = fuzz.AT


def read(address: int, size: int) -> bytes:
    raise AssertionError("no memory")


def write(address: int, data: bytes) -> None:
    raise AssertionError("no memory")


MACHINE = helpers.Machine(lambda: 0, bytes, read, write)


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
        ("0f01f9", Exit.HELPER, helpers.RDTSCP, 3),
        ("0f33", Exit.PRIVILEGED, PRIVILEGED_INSTRUCTION, 0),  # rdpmc
        ("c7f800000000", Exit.ILLEGAL, 0, 0),  # xbegin: there are no transactions
        ("0f01ee", Exit.ILLEGAL, 0, 0),  # rdpkru
        ("0f0fc19e", Exit.ILLEGAL, 0, 0),  # 3DNow!
        ("8fe97812c0", Exit.ILLEGAL, 0, 0),  # LWP
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
    helpers.run(helpers.CPUID, result.state, MACHINE)
    name = b"".join(n.to_bytes(4, "little") for n in (result.state.rbx, result.state.rdx, result.state.rcx))
    assert name == b"GenuineIntel"


def test_time_stamp_is_split_over_two_registers() -> None:
    state = r.CpuState()
    state.rax = state.rdx = state.rcx = -1 % 2**64
    machine = helpers.Machine(lambda: 0x123456789ABCDEF0, bytes, read, write)
    helpers.run(helpers.RDTSC, state, machine)
    assert (state.rax, state.rdx) == (0x9ABCDEF0, 0x12345678)
    machine.ticks = lambda: 1
    helpers.run(helpers.RDTSCP, state, machine)
    assert (state.rax, state.rdx, state.rcx) == (1, 0, 0)


def test_cpuid_promises_what_there_is() -> None:
    _, _, ecx, edx = DEFAULT.cpuid(1, 0)
    assert (ecx >> 28 & 1) == ("AVX" in FEATURES)
    assert ecx >> 26 & 3 == 3  # XSAVE, OSXSAVE
    assert edx & (1 << 26)  # SSE2, which every x86-64 processor has
    assert DEFAULT.cpuid(0x12345678, 0) == (0, 0, 0, 0)
    brand = b"".join(
        n.to_bytes(4, "little") for leaf in (2, 3, 4) for n in DEFAULT.cpuid(0x80000000 + leaf, 0)
    )
    assert brand.rstrip(b"\0") == b"Bellum Nexus x86-64 processor"


def test_every_feature_is_in_the_leaf_it_names() -> None:
    for leaf, register, bit in FEATURES.values():
        assert EVERYTHING.cpuid(leaf & 0xFFFFFFFF, leaf >> 32)[register] >> bit & 1


@pytest.mark.parametrize("name", cpus.NAMES)
def test_named_processors(name: str) -> None:
    """No more than is implemented, and of that no more than the processor has."""
    cpu = cpus.cpu(name)
    _, ebx, _, _ = cpu.cpuid(7, 0)
    _, _, ecx, edx = cpu.cpuid(1, 0)
    assert cpu.features <= FEATURES.keys()
    assert edx & (1 << 26)
    assert (ecx >> 20 & 1) == (name != "baseline")  # SSE4.2
    assert (ebx >> 3 & 1) == (name not in ("baseline", "x86-64-v2", "westmere"))  # BMI1
    assert (ebx >> 29 & 1) == (name in ("max", "icelake", "zen2", "zen3", "zen4"))  # SHA
    assert (ecx >> 27 & 1) == ("XSAVE" in cpu.features)
    words = [cpu.cpuid(0, 0)[n].to_bytes(4, "little") for n in (1, 3, 2)]
    assert b"".join(words) == (b"AuthenticAMD" if name.startswith("zen") else b"GenuineIntel")
    eax = cpu.cpuid(1, 0)[0]
    family = (eax >> 8 & 15) + (eax >> 20 & 255)
    assert family == {"zen2": 0x17, "zen3": 0x19, "zen4": 0x19}.get(name, 6)


def test_xgetbv(execute) -> None:  # type: ignore[no-untyped-def]
    result = execute("0f01d0", rcx=0, rax=-1 % 2**64, rdx=-1 % 2**64)
    assert (result.outcome.exit, result.outcome.pc, result.state.rdx) == (Exit.NONE, AT + 3, 0)
    assert result.state.rax == DEFAULT.xcr0
    assert ended(execute("0f01d0", rcx=2)) == (Exit.PRIVILEGED, 0)
    machine = helpers.Machine(lambda: 0, bytes, read, write)
    machine.cpu = cpus.cpu("baseline")
    assert (
        helpers.run(helpers.XGETBV | 3 << helpers.LENGTH_SHIFT, execute("90").state, machine) == Exit.ILLEGAL
    )


def test_random_numbers() -> None:
    """RDRAND and RDSEED take what the machine gives, which is the same for the same seed."""
    for code, register, mask in (("0fc7f3", "rbx", 0xFFFFFFFF), ("490fc7f9", "r9", -1 % 2**64)):
        case = harness.case(code, eflags=0xAD7, rbx=-1 % 2**64, r9=-1 % 2**64)
        block = compare.block_of(case)
        values = t0.shared().run(block, compare.to_dict(case.state))
        state = compare.from_dict(values)
        machine = helpers.Machine(lambda: 0, lambda n: b"\x5a" * n, read, write)
        assert helpers.run(values[SLOTS["exit_arg"]], state, machine) is None
        assert getattr(state, register) == 0x5A5A5A5A5A5A5A5A & mask
        assert (state.eflags & r.SPLIT_FLAGS, state.rip) == (r.FLAG_CF, AT + len(code) // 2)
    case = harness.case("66410fc7f4", r12=-1 % 2**64)  # rdrand r12w
    state = compare.from_dict(t0.shared().run(compare.block_of(case), compare.to_dict(case.state)))
    helpers.run(state.slots[SLOTS["exit_arg"]], state, helpers.Machine(lambda: 0, bytes, read, write))
    assert state.r12 == 0xFFFFFFFFFFFF0000


@pytest.mark.parametrize("processors", [1, 2, 8])
def test_cpuid_counts_processors_as_cores_of_one_package(processors: int) -> None:
    _, ebx, _, edx = DEFAULT.cpuid(1, 0, processors)
    assert ebx >> 16 & 0xFF == processors
    assert edx >> 28 & 1 == (processors > 1)
    for level in range(4):
        assert DEFAULT.cpuid(4, level, processors)[0] >> 26 == processors - 1
    state = r.CpuState()
    state.rax, state.rcx = 1, 0
    machine = helpers.Machine(lambda: 0, bytes, read, write)
    machine.processors = processors
    helpers.run(helpers.CPUID, state, machine)
    assert state.rbx == ebx


def test_avx512_is_shown_to_those_who_ask_for_it() -> None:
    """Leaf 7 and XCR0 (Intel SDM volume 1, 13.1 and 15.2)."""
    for cpu, there in ((DEFAULT, 0), (EVERYTHING, 1), (cpus.cpu("skylake-x"), 1), (cpus.cpu("zen3"), 0)):
        assert cpu.cpuid(7, 0)[1] >> 16 & 1 == there
        assert cpu.xcr0 == (0xE7 if there else 7)
    assert cpus.cpu("skylake-x").cpuid(7, 0)[2] & (1 << 11) == 0  # VNNI came later
    assert cpus.cpu("icelake").cpuid(7, 0)[2] >> 11 & 1
