"""x87 cases with results from mathematics and the manual; random ones are in test_random.py."""

from __future__ import annotations

import math
import struct

import pytest

from isa import program
from nexus.ir.state import SLOTS, Exit

M = program.MEMORY


@pytest.fixture(params=program.ENGINES)
def run(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """Run hexadecimal code on one engine."""
    return lambda code, memory=b"", **registers: program.run(request.param, code, memory, **registers)


def float_at(ran: program.Ran, offset: int) -> float:
    return float(struct.unpack("<d", ran.memory[offset : offset + 8])[0])


def t0(code: str, memory: bytes = b"", **registers: int) -> program.Ran:
    return program.run("t0", code, memory, **registers)


def test_pi_is_pi() -> None:
    ran = t0("d9ebdd1b")  # fldpi ; fstp qword [rbx]
    assert float_at(ran, 0) == math.pi
    assert (ran.state.fsw & 0x3800, ran.state.slots[SLOTS["ftag"]]) == (0, 0)


@pytest.mark.parametrize(
    ("control", "third"),
    [
        (0x037F, "abaaaaaaaaaaaaaafd3f"),  # 64 bits, nearest
        (0x0F7F, "aaaaaaaaaaaaaaaafd3f"),  # 64 bits, towards zero
        (0x027F, "00a8aaaaaaaaaaaafd3f"),  # 53 bits, nearest
        (0x0A7F, "00b0aaaaaaaaaaaafd3f"),  # 53 bits, up
        (0x007F, "0000000000abaaaafd3f"),  # 24 bits
    ],
)
def test_precision_and_rounding_control(control: int, third: str) -> None:
    """1/3 is 0.0101...b: its significand is cut after 64, 53 or 24 bits."""
    memory = control.to_bytes(8, "little") + struct.pack("<d", 3.0)
    # fldcw [rbx] ; fld1 ; fld qword [rbx+8] ; fdivp ; fstp tbyte [rbx+16]
    ran = t0("d92bd9e8dd4308def9db7b10", memory)
    assert ran.memory[16:26].hex() == third


def test_unmasked_exception_is_taken_by_the_next_waiting_instruction(run) -> None:  # type: ignore[no-untyped-def]
    """With ZE unmasked the operands stay, ES is set, and #MF comes at FNOP; FNSTSW does not wait."""
    # fninit ; fldcw [rbx] ; fld1 ; fldz ; fdivp st(1),st ; fnstsw ax ; fnop
    code = "dbe3d92bd9e8d9eedef9dfe0d9d0"
    ran = run(code, (0x037B).to_bytes(2, "little"))
    assert (ran.exit, ran.pc) == (Exit.FP_ERROR, 12)
    assert ran.state.rax & 0x80FF == 0x8084
    assert ran.state.fsw >> 11 & 7 == 6  # neither popped
    masked = run(code, (0x037F).to_bytes(2, "little"))
    assert masked.exit == Exit.NONE
    assert masked.state.st(0).hex() == "0000000000000080ff7f"


def test_stack_faults(run) -> None:  # type: ignore[no-untyped-def]
    """Empty: indefinite NaN, IE and SF, C1 clear. Ninth push: the same with C1 set."""
    ran = run("d9fadfe0")  # fsqrt ; fnstsw ax
    assert ran.state.rax & 0x3FF == 0x041
    assert ran.state.st(0).hex() == "00000000000000c0ffff"
    full = run("d9ee" * 9 + "dfe0")
    assert full.state.rax & 0x3FF == 0x241
    assert full.state.st(0).hex() == "00000000000000c0ffff"


@pytest.mark.parametrize(
    ("value", "control", "result"), [(5, 0x37F, 5), (-7, 0x37F, -7), (1 << 40, 0x37F, -(1 << 31))]
)
def test_integers(run, value: int, control: int, result: int) -> None:  # type: ignore[no-untyped-def]
    ran = run("df2bdb5b08", value.to_bytes(8, "little", signed=True), fcw=control)  # fild ; fistp dword
    assert int.from_bytes(ran.memory[8:12], "little", signed=True) == result
    assert bool(ran.state.fsw & 1) == (value != result)


def test_packed_decimals(run) -> None:  # type: ignore[no-untyped-def]
    """Intel SDM volume 1, 4.7: 18 digits, two to a byte, the sign in the top byte."""
    digits = bytes.fromhex("563412907856341200") + b"\x80"
    ran = run("df23df7310", digits)  # fbld [rbx] ; fbstp [rbx+16]
    assert ran.memory[16:26] == digits


def test_environment_store_masks_everything(run) -> None:  # type: ignore[no-untyped-def]
    """fld1 ; fldz ; fnstenv [rbx]: tags 00 valid, 01 zero, 11 empty, in physical order."""
    ran = run("d9e8d9eed933", fcw=0x0340)
    words = struct.unpack("<7I", ran.memory[:28])
    assert (words[0] & 0xFFFF, words[1] & 0xFFFF, words[2] & 0xFFFF) == (0x0340, 0x3000, 0x1FFF)
    assert ran.state.fcw == 0x037F


def test_save_and_restore() -> None:
    # fld1 ; fldpi ; fnsave [rbx] ; fld1 ; frstor [rbx] ; fst qword [rbx+128] ; fxch ; fst qword [rbx+136]
    ran = t0("d9e8d9ebdd33d9e8dd23dd9380000000d9c9dd9388000000")
    assert (float_at(ran, 128), float_at(ran, 136)) == (math.pi, 1.0)
    assert ran.state.slots[SLOTS["ftag"]] == 0xC0


def test_fxsave_image() -> None:
    """The layout of Intel SDM volume 1, table 10-2."""
    # fld1 ; fldpi ; fxsave [rbx] ; fninit ; pxor xmm0,xmm0 ; fxrstor [rbx] ; fstp qword [rbx+512]
    code = "d9e8d9eb0fae03dbe3660fefc00fae0bdd9b00020000"
    ran = program.run("t0", code, xmm0=b"0123456789abcdef", fcw=0x027F)
    image = ran.memory[:512]
    assert struct.unpack("<HHB", image[:5]) == (0x027F, 0x3000, 0xC0)
    assert struct.unpack("<II", image[24:32]) == (0x1F80, 0xFFFF)
    assert image[48:58].hex() == "0000000000000080ff3f"  # ST1 is 1.0
    assert image[160:176] == ran.state.xmm(0) == b"0123456789abcdef"
    assert float_at(ran, 512) == math.pi
    assert ran.state.fcw == 0x027F


@pytest.mark.parametrize("angle", [0.5, -1.25, 3.0, 100.0])
def test_trigonometry(angle: float) -> None:
    ran = t0("dd03d9fbdd5b08dd5b10", struct.pack("<d", angle))  # fsincos ; fstp cos ; fstp sin
    assert float_at(ran, 8) == pytest.approx(math.cos(angle), rel=1e-15)
    assert float_at(ran, 16) == pytest.approx(math.sin(angle), rel=1e-15)
    one = t0("dd03d9fedd5b08", struct.pack("<d", angle))  # fsin
    assert float_at(one, 8) == pytest.approx(math.sin(angle), rel=1e-15)


def test_an_angle_out_of_range_sets_c2_and_pushes_nothing() -> None:
    ran = t0("dd03d9fbdfe0", struct.pack("<d", 2.0**70))  # fsincos ; fnstsw ax
    assert ran.state.rax & 0x3C00 == 0x3C00  # C2, and the top still 7
    assert ran.state.slots[SLOTS["ftag"]] == 0x80


def test_logarithm_and_arc_tangent() -> None:
    log = t0("d9e8dd03d9f1dd5b08", struct.pack("<d", 10.0))  # fld1 ; fld 10 ; fyl2x
    assert float_at(log, 8) == pytest.approx(math.log2(10.0), rel=1e-15)
    arc = t0("d9ead9e8d9f3dd1b")  # fldl2e ; fld1 ; fpatan
    assert float_at(arc, 0) == pytest.approx(math.atan(math.log2(math.e)), rel=1e-15)


@pytest.mark.parametrize(
    ("a", "b", "flags"), [(1.0, 2.0, 0x00), (2.0, 1.0, 0x01), (1.0, 1.0, 0x40), (1.0, math.nan, 0x45)]
)
def test_fcomip_flags(run, a: float, b: float, flags: int) -> None:  # type: ignore[no-untyped-def]
    """ST0 is the one loaded last: b compared with a."""
    ran = run("dd03dd4308dff1", struct.pack("<2d", a, b))
    assert ran.state.eflags & 0x45 == flags


@pytest.mark.parametrize(
    ("push", "codes"),
    [("d9e8", 0x0400), ("d9ee", 0x4000), ("d9e8d9e0", 0x0600), ("", 0x4100)],  # fld1, fldz, -1.0, nothing
)
def test_fxam_classes(run, push: str, codes: int) -> None:  # type: ignore[no-untyped-def]
    ran = run(push + "d9e5dfe0")  # fxam ; fnstsw ax
    assert ran.state.rax & 0x4700 == codes
