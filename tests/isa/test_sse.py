"""SSE, AES and MMX cases with results from manuals and standards; random ones are in test_random.py."""

from __future__ import annotations

import struct

import pytest

import t0
from isa import harness, program
from nexus.ir.state import SLOTS, Exit
from nexus.isa.x86 import fuzz


@pytest.fixture(params=program.ENGINES)
def run(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Run hexadecimal code on one engine."""
    return lambda code, memory=b"", **registers: program.run(request.param, code, memory, **registers)


def big(text: str) -> bytes:
    """A register as FIPS 197 prints it: first byte first."""
    return bytes.fromhex(text)


def little(text: str) -> bytes:
    """A register as Intel prints it: highest byte first."""
    return bytes.fromhex(text)[::-1]


def doubles(*values: float) -> bytes:
    return struct.pack("<2d", *values, *[0.0] * (2 - len(values)))


def singles(*values: float) -> bytes:
    return struct.pack("<4f", *values, *[0.0] * (4 - len(values)))


# AES and carry-less multiplication ---------------------------------------------------------------------


def test_aes_rounds_of_fips_197_appendix_b(run) -> None:  # type: ignore[no-untyped-def]
    first = run(
        "660f38dcc1",  # aesenc xmm0,xmm1
        xmm0=big("193de3bea0f4e22b9ac68d2ae9f84808"),
        xmm1=big("a0fafe1788542cb123a339392a6c7605"),
    )
    assert first.state.xmm(0).hex() == "a49c7ff2689f352b6b5bea43026a5049"
    last = run(
        "660f38ddc1",  # aesenclast xmm0,xmm1
        xmm0=big("eb40f21e592e38848ba113e71bc342d2"),
        xmm1=big("d014f9a8c9ee2589e13f0cc8b6630ca6"),
    )
    assert last.state.xmm(0).hex() == "3925841d02dc09fbdc118597196a0b32"


def test_aes_key_schedule_of_fips_197_appendix_a(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("660f3adfc101", xmm1=big("2b7e151628aed2a6abf7158809cf4f3c"))  # aeskeygenassist xmm0,xmm1,1
    assert ran.state.xmm(0)[12:].hex() == "8b84eb01"


def test_aes_decryption_undoes_encryption(run) -> None:  # type: ignore[no-untyped-def]
    """aesimc of the key, then aesdec, is the inverse round of the equivalent inverse cipher."""
    text, key = big("00112233445566778899aabbccddeeff"), big("d6aa74fdd2af72fadaa678f1d6ab76fe")
    # aesenclast xmm0,xmm2 (zero key) ; aesdeclast xmm0,xmm1 (zero key)
    assert run("660f38ddc2660f38dfc3", xmm0=text).state.xmm(0) == text
    # aesenc xmm0,xmm1 ; pxor xmm0,xmm1 ; aesimc xmm0,xmm0 ; aesdeclast xmm0,xmm3
    assert run("660f38dcc1660fefc1660f38dbc0660f38dfc3", xmm0=text, xmm1=key).state.xmm(0) == text


@pytest.mark.parametrize(
    ("imm", "product"),
    [
        ("00", "1d4d84c85c3440c0929633d5d36f0451"),
        ("01", "1a2bf6db3a30862fbabf262df4b7d5c9"),
        ("10", "1bd17c8d556ab5a17fa540ac2a281315"),
        ("11", "1d1e1f2c592e7c45d66ee03e410fd4ed"),
    ],
)
def test_carry_less_products_of_intels_white_paper(run, imm: str, product: str) -> None:  # type: ignore[no-untyped-def]
    ran = run(
        "660f3a44ca" + imm,  # pclmulqdq xmm1,xmm2,imm
        xmm1=little("7b5b54657374566563746f725d53475d"),
        xmm2=little("48692853686179295b477565726f6e5d"),
    )
    assert ran.state.xmm(1) == little(product)


# strings -----------------------------------------------------------------------------------------------


def test_pcmpistri_finds_a_substring(run) -> None:  # type: ignore[no-untyped-def]
    # equal ordered: xmm0 is searched for in xmm1
    ran = run("660f3a63c10c", xmm0=b"needle", xmm1=b"in a needle's")
    assert (ran.state.rcx, ran.state.cf, ran.state.eflags & 0xC1) == (5, 1, 0xC1)  # both end: ZF and SF


def test_pcmpistri_without_match_gives_the_length(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("660f3a63c10c", xmm0=b"x", xmm1=b"abcdefghijklmnop", rcx=99)
    assert (ran.state.rcx, ran.state.cf, ran.state.eflags & 0xC1) == (16, 0, 0x80)


def test_pcmpistrm_equal_any_as_bytes(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("660f3a62ca40", xmm1=b"aeiou", xmm2=b"vowels here")
    expected = bytes(255 if c in b"aeiou" else 0 for c in b"vowels here".ljust(16, b"\0"))
    assert ran.state.xmm(0) == expected


# floating point ----------------------------------------------------------------------------------------

NAN = float("nan")


@pytest.mark.parametrize(
    ("a", "b", "flags"),
    [
        (2.0, 1.0, 0x00),
        (1.0, 2.0, 0x01),
        (1.0, 1.0, 0x40),
        (NAN, 1.0, 0x45),
        (1.0, NAN, 0x45),
        (0.0, -0.0, 0x40),
    ],
)
def test_comisd_flags(run, a: float, b: float, flags: int) -> None:  # type: ignore[no-untyped-def]
    """Intel SDM, COMISD: unordered 111, greater 000, less 001, equal 100 of ZF, PF, CF; the rest 0."""
    ran = run("660f2fc1", xmm0=doubles(a), xmm1=doubles(b), eflags=0x8D5)
    assert ran.state.eflags & 0x8D5 == flags


def test_min_takes_the_second_operand_for_nan_and_zeros(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("0f5dc1", xmm0=singles(NAN, 1.0, 0.0, -0.0), xmm1=singles(1.0, NAN, -0.0, 0.0))
    lanes = struct.unpack("<4I", ran.state.xmm(0))
    assert lanes == (0x3F800000, 0x7FC00000, 0x80000000, 0)


@pytest.mark.parametrize(
    ("code", "value", "result"),
    [
        ("f20f2cc0", 2147483647.9, 0x7FFFFFFF),  # cvttsd2si eax,xmm0
        ("f20f2cc0", 2147483648.0, 0x80000000),
        ("f20f2cc0", -2147483649.0, 0x80000000),
        ("f20f2cc0", NAN, 0x80000000),
        ("f2480f2cc0", 9.3e18, 1 << 63),  # cvttsd2si rax,xmm0
        ("f2480f2dc0", 2.5, 2),  # cvtsd2si rax,xmm0: to nearest even
        ("f2480f2dc0", -3.5, (1 << 64) - 4),
    ],
)
def test_conversion_to_integer(run, code: str, value: float, result: int) -> None:  # type: ignore[no-untyped-def]
    assert run(code, xmm0=doubles(value)).state.rax == result


def test_roundsd_down_keeps_the_upper_lane(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("660f3a0bc101", xmm0=doubles(5.0, 7.0), xmm1=doubles(-1.5))
    assert struct.unpack("<2d", ran.state.xmm(0)) == (-2.0, 7.0)


def test_approximations_keep_their_promise() -> None:
    """Intel SDM, RCPSS and RSQRTPS: relative error at most 1.5 * 2**-12."""
    for value in (1.0, 3.0, 0.1, 1e10, 123456.0):
        one = program.run("t0", "f30f53c1", xmm1=singles(value))  # rcpss xmm0,xmm1
        other = program.run("t0", "0f52c1", xmm1=singles(value))  # rsqrtps xmm0,xmm1
        exact = struct.unpack("<f", struct.pack("<f", value))[0]
        assert abs(struct.unpack("<4f", one.state.xmm(0))[0] * exact - 1) <= 1.5 * 2**-12
        assert abs(struct.unpack("<4f", other.state.xmm(0))[0] * exact**0.5 - 1) <= 1.5 * 2**-12


@pytest.mark.parametrize(
    ("mxcsr", "product"),
    [
        (0x1F80, struct.pack("<d", 2.0**-1070)),
        (0x9F80, bytes(8)),  # FTZ: the denormal result becomes zero
    ],
)
def test_flush_to_zero_is_the_guests(mxcsr: int, product: bytes) -> None:
    memory = mxcsr.to_bytes(4, "little")
    # ldmxcsr [rbx] ; mulsd xmm0,xmm1
    ran = program.run("t0", "0fae13f20f59c1", memory, xmm0=doubles(2.0**-1000), xmm1=doubles(2.0**-70))
    assert ran.state.xmm(0)[:8] == product
    assert ran.state.mxcsr & ~0x3F == mxcsr


@pytest.mark.parametrize(
    ("mode", "result"), [(0, 0x3F800000), (1, 0x3F800000), (2, 0x3F800001), (3, 0x3F800000)]
)
def test_rounding_mode_is_the_guests(mode: int, result: int) -> None:
    """1 + 2**-30 in single precision."""
    memory = (0x1F80 | mode << 13).to_bytes(4, "little")
    # ldmxcsr [rbx] ; addss xmm0,xmm1 ; stmxcsr [rbx+4]
    ran = program.run("t0", "0fae13f30f58c10fae5b04", memory, xmm0=singles(1.0), xmm1=singles(2.0**-30))
    assert struct.unpack("<I", ran.state.xmm(0)[:4])[0] == result
    assert ran.read(program.MEMORY + 4, 4) == 0x1F80 | mode << 13 | 0x20  # PE has been raised


def test_reserved_mxcsr_bits_are_refused(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("0fae13", (0x1F80 | 1 << 16).to_bytes(4, "little"))
    assert (ran.exit, ran.pc) == (Exit.PRIVILEGED, 0)


# memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["0f2803", "0f2903", "660ffc03", "660fe703"]
)  # movaps, movaps, paddb, movntdq
def test_misaligned_operand_is_a_general_protection_fault(run, code: str) -> None:  # type: ignore[no-untyped-def]
    """Windows reports it as a read at 2**64 - 1; nothing has been changed."""
    assert run(code, rbx=program.MEMORY + 32).exit == Exit.NONE
    ran = run(code, rbx=program.MEMORY + 33)
    assert (ran.exit, ran.pc) == (Exit.FAULT, 0)
    case = harness.case(code, rbx=program.MEMORY + 33)
    assert harness.run_host(case).outcome.exit == Exit.PRIVILEGED


def test_misaligned_address_is_reported_as_all_ones() -> None:
    case = harness.case("0f2803", rbx=program.MEMORY + 8)
    harness.run_t0(case)
    fault = t0.shared().engine.fault(t0.shared().state)
    assert (fault.address, fault.write) == ((1 << 64) - 1, False)


def test_unaligned_move_takes_any_address(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("0f1003", bytes(range(64)), rbx=program.MEMORY + 3)  # movups xmm0,[rbx]
    assert ran.state.xmm(0) == bytes(range(3, 19))


# MMX ---------------------------------------------------------------------------------------------------


def test_mmx_lives_in_the_x87_registers(run) -> None:  # type: ignore[no-untyped-def]
    """Intel SDM volume 1, 9.2: exponent and sign all ones, all tags valid, top 0; EMMS empties."""
    # movq mm3,[rbx] ; paddb mm3,mm3 ; movq [rbx+8],mm3
    ran = run("0f6f1b0ffcdb0f7f5b08", bytes.fromhex("0102030440508090"), fsw=0x3800)
    assert ran.read(program.MEMORY + 8, 8).to_bytes(8, "little").hex() == "0204060880a00020"
    assert ran.state.st(3).hex() == "0204060880a00020ffff"
    assert (ran.state.slots[SLOTS["ftag"]], ran.state.fsw) == (0xFF, 0)
    assert run("0f6f1b0f77", bytes(8)).state.slots[SLOTS["ftag"]] == 0


def test_maskmovdqu_writes_only_where_the_mask_says(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("660ff7c1", b"." * 16, rdi=program.MEMORY, xmm0=b"abcdefghijklmnop", xmm1=b"\x80\0" * 8)
    assert ran.memory[:16] == b"a.c.e.g.i.k.m.o."


def test_faults_come_before_any_change() -> None:
    """A vector store across the end of the memory leaves everything as it was, on host and engines alike."""
    case = harness.case("0f1103", rbx=fuzz.MEMORY + fuzz.MEMORY_SIZE - 8)  # movups [rbx],xmm0
    expected = harness.run_host(case)
    assert expected.outcome.exit == Exit.FAULT and expected.outcome.address == fuzz.MEMORY + fuzz.MEMORY_SIZE
    for engine in harness.ENGINES.values():
        got = engine(case)
        assert got.outcome == expected.outcome and got.memory == expected.memory
