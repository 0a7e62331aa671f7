"""AVX cases with results from manuals and standards, or from the host where a fault is in the middle; random
ones are in test_random.py. GFNI, which few hosts have, has no other proof than these and the oracle."""

from __future__ import annotations

import pytest

from isa import harness, program
from nexus.ir.state import Exit
from nexus.isa.x86 import compare, fuzz

ONES = b"\xff" * 32
END = fuzz.MEMORY + fuzz.MEMORY_SIZE


@pytest.fixture(params=program.ENGINES)
def run(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Run hexadecimal code on one engine."""
    return lambda code, memory=b"", **registers: program.run(request.param, code, memory, **registers)


# what is above the result ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "upper"),
    [
        ("0f28c1", ONES[16:]),  # movaps xmm0,xmm1 keeps it
        ("c5f828c1", bytes(16)),  # vmovaps xmm0,xmm1 clears it
        ("c5f877", bytes(16)),  # vzeroupper
    ],
)
def test_upper_half_after_a_write_of_128_bits(run, code: str, upper: bytes) -> None:  # type: ignore[no-untyped-def]
    # vmovups ymm0,[rbx] before it
    assert run("c5fc1003" + code, ONES).state.ymm(0)[16:] == upper


def test_vzeroall_clears_everything(run) -> None:  # type: ignore[no-untyped-def]
    ran = run("c5fc1003" + "c57c103b" + "c5fc77", ONES)  # vmovups ymm0,[rbx] ; vmovups ymm15,[rbx] ; vzeroall
    assert [ran.state.ymm(number) for number in (0, 15)] == [bytes(32), bytes(32)]


def test_a_register_is_cleared_again_after_it_was_filled(run) -> None:  # type: ignore[no-untyped-def]
    # vmovaps xmm0,xmm1 ; vmovups ymm0,[rbx] ; vmovaps xmm0,xmm1
    assert run("c5f828c1" + "c5fc1003" + "c5f828c1", ONES).state.ymm(0) == bytes(32)


# memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "exit"),
    [
        ("c5fc2803", Exit.FAULT),  # vmovaps ymm0,[rbx]
        ("c5fc2903", Exit.FAULT),  # vmovaps [rbx],ymm0
        ("c5fc1003", Exit.NONE),  # vmovups ymm0,[rbx]
        ("c5fc5803", Exit.NONE),  # vaddps ymm0,ymm0,[rbx]
    ],
)
def test_only_some_instructions_ask_for_alignment(run, code: str, exit: int) -> None:  # type: ignore[no-untyped-def]
    assert run(code, rbx=program.MEMORY + 64).exit == Exit.NONE
    assert run(code, rbx=program.MEMORY + 80).exit == exit


def test_masked_moves_do_not_touch_what_is_masked(run) -> None:  # type: ignore[no-untyped-def]
    """Three of eight lanes lie before the end of the memory, and only their mask is set."""
    mask = b"\0\0\0\x80" * 3 + bytes(20)
    # vmovups ymm1,[rbx] ; vmaskmovps ymm2,ymm1,[rax] ; vmaskmovps [rax],ymm1,ymm1
    ran = run("c5fc100b" + "c4e2752c10" + "c4e2752e08", mask, rax=END - 12)
    assert ran.exit == Exit.NONE
    assert ran.state.ymm(2) == bytes(32) and ran.memory[-12:] == mask[:12]
    assert run("c5fc100b" + "c4e2752c10", b"\0\0\0\x80" * 4, rax=END - 12).exit == Exit.FAULT


def test_a_gather_that_faults_has_done_the_lanes_before(run) -> None:  # type: ignore[no-untyped-def]
    """Lane 2 of vpgatherdd lies behind the memory: as on the host, lanes 0 and 1 are loaded, and their masks
    are clear."""
    case = harness.case("c4e26d900c83", rbx=END - 8)  # vpgatherdd ymm1,[rbx+ymm0*4],ymm2
    lanes = b"".join(n.to_bytes(4, "little") for n in range(8))
    case.state.set_ymm(0, lanes)
    case.state.set_ymm(1, ONES)
    case.state.set_ymm(2, ONES)
    expected = harness.run_host(case)
    assert expected.outcome.exit == Exit.FAULT and expected.outcome.address == END
    assert expected.state.ymm(2) == bytes(8) + ONES[8:]
    for engine in harness.ENGINES.values():
        assert not compare.differences(case, expected, engine(case))


# GFNI --------------------------------------------------------------------------------------------------


def test_products_in_the_field_of_fips_197(run) -> None:  # type: ignore[no-untyped-def]
    """FIPS 197, 4.2: {57} x {83} = {c1}, and {57} x {13} = {fe}."""
    ran = run("660f38cfc1", xmm0=b"\x57\x57", xmm1=b"\x83\x13")  # gf2p8mulb xmm0,xmm1
    assert ran.state.xmm(0)[:3] == b"\xc1\xfe\0"


def test_affine_inverse_is_the_s_box_of_fips_197(run) -> None:  # type: ignore[no-untyped-def]
    """With the matrix and the constant of FIPS 197, 5.1.1; figure 7 has the results."""
    matrix = 0xF1E3C78F1F3E7CF8.to_bytes(8, "little") * 2
    ran = run("660f3acfc163", xmm0=bytes(range(16)), xmm1=matrix)  # gf2p8affineinvqb xmm0,xmm1,63h
    assert ran.state.xmm(0).hex() == "637c777bf26b6fc53001672bfed7ab76"
    ran = run("660f3acfc163", xmm0=bytes(range(0xF0, 0x100)), xmm1=matrix)
    assert ran.state.xmm(0).hex() == "8ca1890dbfe6426841992d0fb054bb16"


def test_affine_maps_by_rows_from_the_last(run) -> None:  # type: ignore[no-untyped-def]
    """The identity matrix, and the one that turns the bits of a byte around."""
    data = bytes(range(1, 17))
    identity, turned = 0x0102040810204080, 0x8040201008040201
    ran = run("660f3acec1ff", xmm0=data, xmm1=identity.to_bytes(8, "little") * 2)  # gf2p8affineqb ...,0ffh
    assert ran.state.xmm(0) == bytes(x ^ 255 for x in data)
    ran = run("660f3acec100", xmm0=data, xmm1=turned.to_bytes(8, "little") * 2)
    assert ran.state.xmm(0) == bytes(int(f"{x:08b}"[::-1], 2) for x in data)
