"""A block at every stage of its translation, against what `docs/engine.md` says of the same code."""

from __future__ import annotations

import pytest
from iced_x86 import Mnemonic

from nexus.base.errors import UsageError
from nexus.isa.x86.table import SEMANTICS
from nexus.machine.stages import Translator, slot_name


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator()


def test_the_example_of_the_documentation(translator: Translator) -> None:
    # sub rsp,0x28; cmp eax,ecx; je 0x1009
    stages = translator.stages(bytes.fromhex("4883ec28 39c8 7400"), 0x1000)
    assert [(line.at, line.text) for line in stages.instructions] == [
        (0x1000, "sub rsp, 0x28"),
        (0x1004, "cmp eax, ecx"),
        (0x1006, "je 0x1008"),
    ]
    assert "flags.sub.i64" in stages.ir and stages.ir.count("@0x") == 3
    names = [name for name, _ in stages.rewrites]
    after = dict(stages.rewrites)
    assert names == ["fold", "flags"]
    assert "flags.sub.i64" in after["fold"] and "flags.sub.i64" not in after["flags"]
    words = [line.text.split() for line in stages.records]
    assert [word[0] for word in words[:3]] == ["enter", "sub.i64/i", "flags.sub.i32&eq.i32/b"]
    assert " ".join(words[1]) == "sub.i64/i rsp = rsp, 40"
    taken = next(line.at for line in stages.records if line.text.startswith("link") and "0x1008" in line.text)
    assert " ".join(words[2]).startswith("flags.sub.i32&eq.i32/b rax, rcx ? +")
    assert f"+{taken:03x}" in stages.records[2].text


def test_addresses_and_literals_are_shown(translator: Translator) -> None:
    # mov rax,[rbx+rcx*8-16]; mov qword [rbx],5; movups xmm3,[rax]
    stages = translator.stages(bytes.fromhex("488b44cbf0 48c70305000000 0f1018"), 0x1000)
    shown = [" ".join(line.text.split()) for line in stages.records[1:4]]
    assert shown == [
        "load.i64x@3 rax = [rbx + rcx << 3 + -16]",
        "store.i64/i [rbx + 0], 0x5",
        "load.v128 xmm3 = [rax + 0]",
    ]


def test_host_code_belongs_to_records(translator: Translator) -> None:
    stages = translator.stages(bytes.fromhex("4801d8"), 0x1000)
    if stages.why:
        pytest.skip(f"not run: {stages.why}")
    origins = [line.record for line in stages.native if line.record]
    assert origins[0].startswith("+000 enter")
    assert any("rax = rax, rbx" in origin for origin in origins)
    assert (
        b"".join(line.code for line in stages.native)[: len(stages.native[0].code)] == stages.native[0].code
    )
    assert all(line.code for line in stages.native)


def test_compiled_code_ends_where_nothing_leads_on(translator: Translator) -> None:
    """A loop: add rax,rbx; jnz -5. It is entered at its first block, jumps back, and leaves by jumps."""
    stages = translator.stages(bytes.fromhex("4801d8 75fb"), 0x1000)
    region, why = translator.region([stages])
    assert not why
    ends = [line.at + len(line.code) for line in region]
    assert [line.at for line in region[1:]] == ends[:-1]
    assert region[-1].text.startswith("jmp ")
    assert all(line.code.strip(b"\0") for line in region)  # not the zeros behind it


def test_an_instruction_without_semantics_is_named(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(SEMANTICS, Mnemonic.BSWAP)
    stages = translator.stages(bytes.fromhex("900fca90"), 0x1000)
    assert [(line.at, line.text) for line in stages.missing] == [(0x1001, "bswap edx")]
    assert len(stages.instructions) == 2  # the block ends there


def test_what_is_no_instruction_is_said_to_be_none(translator: Translator) -> None:
    stages = translator.stages(bytes.fromhex("06" + "90" * 14), 0x1000)  # push es, which 64-bit mode has not
    assert stages.instructions[0].text == "(not an instruction)"
    assert not stages.missing
    with pytest.raises(UsageError, match="48 ends in the middle of an instruction"):
        translator.stages(b"\x48", 0x1000)


def test_slots_have_their_names() -> None:
    assert [slot_name(n, False) for n in (0, 4, 15, 33, 112)] == ["rax", "rsp", "r15", "cf", "t0"]
    assert [slot_name(n, True) for n in (0, 15, 32, 40)] == ["xmm0", "xmm15", "x87[0]", "w0"]
