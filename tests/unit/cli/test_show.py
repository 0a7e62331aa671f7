"""`nexus show`: what it understands, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from struct import pack

import pytest
from iced_x86 import Mnemonic

from nexus.base.errors import NotFound, Unsupported, UsageError
from nexus.cli import show
from nexus.isa.x86.table import SEMANTICS
from nexus.loader import pe
from unit.loader.test_pe import build

# one: xor eax,eax; je 0x6 (into the middle); ret; nop; two: inc eax; ret
CODE = bytes.fromhex("31c0 7402 90 c3 90 c3".replace(" ", "")).ljust(16, b"\xcc") + bytes.fromhex("ffc0c3")


@pytest.fixture
def dll(tmp_path: Path) -> str:
    names = b"mod.dll\0one\0two\0NTDLL.Three\0"
    at = 0x2000 + 40
    body = pack("<IIIIIIIIIII", 0, 0, 0, 0, 5, 3, 3, at, at + 12, at + 24, 0)[:40]
    strings = at + 30
    body += pack("<III", 0x1000, 0x1010, strings + 16)
    body += pack("<III", strings + 8, strings + 12, strings + 22) + pack("<HHH", 0, 1, 2) + names
    exports = (0x2000, len(body))
    functions = pack("<III", 0x1000, 0x1008, 0)
    image = build(
        text=CODE,
        data=body + functions,
        directories={pe.EXPORT: exports, pe.EXCEPTION: (0x2000 + len(body), len(functions))},
    )
    path = tmp_path / "mod.dll"
    path.write_bytes(image)
    return str(path)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert show.main(list(words)) == 0
    return capsys.readouterr().out


def test_bytes_in_any_spelling(capsys: pytest.CaptureFixture[str]) -> None:
    spellings = (("48", "01", "d8"), ("4801d8",), ("0x4801D8",), ("48 01 d8",))
    first, *others = (printed(capsys, *words).partition("T1 ") for words in spellings)
    assert {other[0] for other in others} == {first[0]}  # host code has addresses of this machine in it
    text = "".join(first)
    for heading in (
        "block 0x1000",
        "IR",
        "after fold: the same",
        "after flags",
        "T0 records",
        "T1 ",
        "T2 compiled code",
    ):
        assert f"\n{heading}" in text
    assert "add rax, rbx" in text and "\x1b" not in text


def test_colour_is_for_terminals_or_on_demand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1;36mIR\x1b[0m" in printed(capsys, "90")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printed(capsys, "90")


def test_json_has_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads(printed(capsys, "--json", "--at", "0x140001000", "48", "01", "d8"))
    assert (values["version"], values["arch"]) == (1, "x86")
    (block,) = values["blocks"]
    assert block["instructions"] == [{"address": "0x140001000", "bytes": "4801d8", "text": "add rax, rbx"}]
    assert block["end"] == "0x140001003"
    assert [rewrite["name"] for rewrite in block["rewrites"]] == ["fold", "flags"]
    assert block["t0"][1]["text"] == "flags.add.i64&add.i64 rax = rax, rbx"
    assert block["t1"] or block["no_t1"]
    assert values["t2"] or values["no_t2"]


def test_places_in_a_file(capsys: pytest.CaptureFixture[str], dll: str) -> None:
    for place in ("!two", "!#6", "!0x140001010", "!+0x1010"):
        assert "0x140001010  ff c0" in printed(capsys, dll + place)
    first = printed(capsys, dll + "!one")
    assert first.count("\nblock ") == 1
    assert printed(capsys, dll).splitlines()[1:4] == first.splitlines()[1:4]  # the entry point is there too
    whole = printed(capsys, "--function", dll + "!+0x1004")
    assert [line for line in whole.splitlines() if line.startswith("block")] == [
        "block 0x140001000",
        "block 0x140001004",
        "block 0x140001006",
    ]


def test_what_cannot_be_shown(dll: str, tmp_path: Path) -> None:
    for words, message in (
        (["48 0g"], r"'48 0g' is not code: 'g' is not a hexadecimal digit"),
        (["48 0"], "the last byte has one digit only"),
        (["48"], "48 ends in the middle of an instruction"),
        ([dll + "!on"], r"exports no on"),
        ([dll + "!Three"], "is forwarded"),
        ([dll + "!0x140002000"], r"there is no code at 0x140002000"),
        ([dll + "!0x140009999"], r"there is no code at 0x140009999"),
        (["--function", dll + "!two"], r"the exception directory knows no function at 0x140001010"),
        ([dll + "!0xzz"], "0xzz is not an address"),
        (["--at", "0x1000", dll + "!two"], "--at goes with bytes"),
        (["--at", "here", "90"], "--at needs an address"),
        (["--arch", "arm64", "90"], "--arch is x86"),
    ):
        with pytest.raises(UsageError, match=message):
            show.main(words)
    with pytest.raises(NotFound):
        show.main([str(tmp_path / "none.exe") + "!x"])


def test_a_wrong_symbol_has_a_hint(dll: str) -> None:
    with pytest.raises(UsageError) as caught:
        show.main([dll + "!on"])
    assert caught.value.hint == f"did you mean {dll}!one?"
    with pytest.raises(UsageError) as caught:
        show.main([dll + "!Three"])
    assert caught.value.hint == "nexus show ntdll!Three"


def test_unimplemented_instructions_are_shown_and_then_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(SEMANTICS, Mnemonic.BSWAP)
    with pytest.raises(Unsupported, match=r"`bswap edx` \(0f ca\).*0x1001") as caught:
        show.main(["90 0f ca"])
    assert "src/nexus/isa/x86/semantics/" in caught.value.hint
    assert "bswap edx" in capsys.readouterr().out
