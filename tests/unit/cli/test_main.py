"""Exit codes and messages of the command line, without running a guest."""

import os
import subprocess

import pytest

from nexus.cli.main import COMMANDS, main


@pytest.mark.parametrize("name", [name for name in COMMANDS])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"nexus {name}" in capsys.readouterr().out


def test_usage_errors_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-command"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nexus: unknown command no-such-command\n")


def test_a_missing_program_ends_with_127(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "./no-such-file.exe"]) == 127
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x7fELF\2\1\1" + bytes(64), "ELF"),
        (b"#!/bin/sh\n", "script"),
        (b"", "empty"),
        (b"PK\3\4" + bytes(60), "archive"),
    ],
)
def test_what_is_no_windows_program_ends_with_126(
    content: bytes, what: str, tmp_path: os.PathLike[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = os.path.join(tmp_path, "thing.exe")
    with open(path, "wb") as file:
        file.write(content)
    assert main(["run", path]) == 126
    assert what in capsys.readouterr().err


def test_an_untouched_reference_needs_the_network_unless_offline(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEXUS_CACHE", os.path.join(tmp_path, "cache"))
    assert main(["run", "--offline", "pypi:ninja"]) == 125
    assert "was not downloaded before" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name in COMMANDS:
        assert name in script
    assert "allow-read" in script


def test_the_bash_completion_completes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    script += "\nCOMP_WORDS=(nexus sys); COMP_CWORD=1; _nexus; echo ${COMPREPLY[@]}"
    script += "\nCOMP_WORDS=(nexus run --deny-n); COMP_CWORD=2; _nexus; echo ${COMPREPLY[@]}"
    script += "\nCOMP_WORDS=(nexus show --fu); COMP_CWORD=2; _nexus; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["sysroot", "--deny-net", "--function"]


def test_paths_translate_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["path", "/a/b c", "Z:\\a\\b c", "Z:/x"]) == 0
    assert capsys.readouterr().out.splitlines() == ["Z:\\a\\b c", "/a/b c", "/x"]
    assert main(["path", "C:\\x"]) == 2
    assert main(["path", "--drive", "/d", "C:\\x\\y"]) == 0
    assert capsys.readouterr().out == "/d/x/y\n"
