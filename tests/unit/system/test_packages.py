"""Package references: what is accepted, and which program of a package is meant."""

import os
from pathlib import Path

import pytest

from nexus.base.errors import BadImage, NexusError, NotFound, UsageError
from nexus.system import packages
from nexus.system.packages import choose, locate, parse


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pypi:ninja", ("pypi", "ninja", "", "")),
        ("pypi:ninja==1.13.0", ("pypi", "ninja", "1.13.0", "")),
        ("pypi:uv@0.9.1/uvx", ("pypi", "uv", "0.9.1", "uvx")),
        ("npm:7zip-bin/win/x64/7za.exe", ("npm", "7zip-bin", "", "win/x64/7za.exe")),
        ("npm:@esbuild/win32-x64@0.25.0", ("npm", "@esbuild/win32-x64", "0.25.0", "")),
        ("npm:@esbuild/win32-x64/esbuild.exe", ("npm", "@esbuild/win32-x64", "", "esbuild.exe")),
    ],
)
def test_references(text: str, parts: tuple[str, ...]) -> None:
    found = parse(text)
    assert (found.kind, found.name, found.version, found.program) == parts


@pytest.mark.parametrize(
    "text",
    [
        "pypi:",
        "pypi:-r",
        "pypi:--index-url",
        "pypi:../x",
        "pypi:/etc",
        "pypi:git+https://h/x",
        "pypi:a b",
        "pypi:x@",
        "pypi:x==1;y",
        "pypi:x[extra]",
        "npm:./x",
        "npm:file:x",
        "npm:http://h/x.tgz",
        "npm:user/-x/..",
        "npm:@scope",
        "npm:x@npm:y",
        "npm:x/../../y",
        "pypi:" + "x" * 201,
    ],
)
def test_anything_but_a_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def rows(*names: str) -> list[tuple[str, str]]:
    return [(name.rstrip("!"), "for ARM64" if name.endswith("!") else "") for name in names]


@pytest.mark.parametrize(
    ("text", "programs", "chosen"),
    [
        (
            "npm:7zip-bin",
            rows("win/arm64/7za.exe!", "win/ia32/7za.exe!", "win/x64/7za.exe"),
            "win/x64/7za.exe",
        ),
        ("npm:@vscode/ripgrep-win32-x64", rows("bin/rg.exe"), "bin/rg.exe"),
        ("npm:@esbuild/win32-x64", rows("esbuild.exe", "other.exe"), "esbuild.exe"),
        ("pypi:clang-format", rows("a/clang-format.exe", "a/git-clang.exe"), "a/clang-format.exe"),
        ("pypi:uv", rows("s/uv.exe", "s/uvx.exe", "s/uvw.exe"), "s/uv.exe"),
        ("pypi:foo_bar-cli", rows("foo-bar.exe", "x.exe"), "foo-bar.exe"),
        ("pypi:uv/uvx", rows("s/uv.exe", "s/uvx.exe"), "s/uvx.exe"),
        ("pypi:uv/UVX.EXE", rows("s/uv.exe", "s/uvx.exe"), "s/uvx.exe"),
        ("pypi:p/x64/a.exe", rows("x64/a.exe", "x86/a.exe"), "x64/a.exe"),
    ],
)
def test_choice(text: str, programs: list[tuple[str, str]], chosen: str) -> None:
    assert choose(parse(text), programs) == chosen


def test_a_choice_that_is_open_names_the_candidates() -> None:
    with pytest.raises(BadImage) as caught:
        choose(parse("pypi:tools"), rows("a/one.exe", "b/two.exe", "c/arm.exe!"))
    assert caught.value.hint.splitlines()[1:] == [
        "nexus run pypi:tools/one.exe",
        "nexus run pypi:tools/two.exe",
    ]


def test_an_unknown_program_is_not_found() -> None:
    with pytest.raises(NotFound):
        choose(parse("pypi:uv/nothing"), rows("uv.exe"))


def test_a_package_for_another_machine_says_so() -> None:
    with pytest.raises(BadImage, match="for ARM64"):
        choose(parse("pypi:x"), rows("a.exe!", "b.exe!"))


def test_a_cached_package_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path))
    folder = tmp_path / "packages/pypi/my-tool/1.0"
    folder.mkdir(parents=True)
    (folder / packages.INDEX).write_text("bin/tool.exe\t\n")
    with pytest.raises(NexusError, match="not downloaded"):
        locate("pypi:my-tool", offline=True)
    (folder.parent / "current").write_text("1.0\n")
    expected = (os.path.join(folder, "bin/tool.exe"), str(folder))
    assert locate("pypi:My_Tool", offline=True) == expected
    assert locate("pypi:my-tool==1.0", offline=True) == expected
