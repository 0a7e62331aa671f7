"""The register view: EFLAGS from its pieces, the FXSAVE image, sub-registers."""

from __future__ import annotations

import itertools

import pytest

from isa import harness
from nexus.ir.state import STATE_BYTES
from nexus.isa.x86 import registers as r

FLAGS = (r.FLAG_CF, r.FLAG_PF, r.FLAG_AF, r.FLAG_ZF, r.FLAG_SF, r.FLAG_OF, r.FLAG_DF)


def test_every_combination_of_flags_survives() -> None:
    state = r.CpuState()
    for chosen in itertools.product((0, 1), repeat=len(FLAGS)):
        word = sum(flag for flag, on in zip(FLAGS, chosen, strict=True) if on) | r.FLAG_IF | r.FLAG_AC
        state.eflags = word
        assert state.eflags == word | r.ALWAYS_SET


@pytest.mark.parametrize("engine", harness.ENGINES)
def test_engines_read_the_flags_that_python_wrote(engine: str) -> None:
    """pushfq of every combination, among them ZF with SF, which no result has."""
    for chosen in itertools.product((0, 1), repeat=len(FLAGS)):
        word = sum(flag for flag, on in zip(FLAGS, chosen, strict=True) if on) | r.FLAG_IF
        result = harness.ENGINES[engine](harness.case("9c", rsp=0x11008, eflags=word))
        assert int.from_bytes(result.memory[0x1000:0x1008], "little") == word | r.ALWAYS_SET
        assert result.state.eflags == word | r.ALWAYS_SET


def test_fxsave_image() -> None:
    """Offsets from the Intel SDM, volume 1, table 10-2."""
    state = r.CpuState()
    state.reset()
    state.fsw = 0x3841  # TOP is 7
    state.slots[r.FTAG] = 0x81
    state.set_st(0, bytes(range(10)))
    state.set_xmm(15, bytes(range(16)))
    image = state.fxsave()
    assert len(image) == 512
    assert image[0:5] == bytes.fromhex("7f03413881")
    assert image[24:28] == bytes.fromhex("801f0000")
    assert image[32:42] == bytes(range(10))
    assert image[400:416] == bytes(range(16))
    other = r.CpuState()
    other.fxrstor(image)
    assert other.fxsave() == image
    assert (other.fsw, other.st(0), other.xmm(15)) == (0x3841, bytes(range(10)), bytes(range(16)))


def test_views_share_the_buffer() -> None:
    data = bytearray(STATE_BYTES)
    one, other = r.CpuState(data), r.CpuState(data)
    one.r9 = -1 % 2**64
    assert other.gpr(9) == 2**64 - 1
    with pytest.raises(ValueError, match="a CPU state takes"):
        r.CpuState(bytearray(10))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("b0ff", 0x11223344556677FF),  # mov al,ff
        ("b4ff", 0x112233445566FF88),  # mov ah,ff
        ("66b8ffff", 0x112233445566FFFF),
        ("b8ffffffff", 0xFFFFFFFF),  # 32 bits clear the upper half
        ("48c7c0ffffffff", 0xFFFFFFFFFFFFFFFF),
        ("88e0", 0x1122334455667777),  # mov al,ah
        ("0fb6c4", 0x77),  # movzx eax,ah
        ("86c4", 0x1122334455668877),  # xchg ah,al
    ],
)
def test_sub_registers(code: str, expected: int) -> None:
    for run in harness.ENGINES.values():
        assert run(harness.case(code, rax=0x1122334455667788)).state.rax == expected
