"""`nexus cache`: what is listed and what is deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.base.errors import UsageError
from nexus.cli import cache
from nexus.machine.page_file import PagePart, write


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path))
    folder = tmp_path / "code" / "pages"
    folder.mkdir(parents=True, mode=0o700)
    (tmp_path / "code" / "interp-1.blob").write_bytes(bytes(1_000_000))
    parts = {page << 12: PagePart(1, bytes(300_000), 1, bytes(200_000)) for page in range(10)}
    write(str(folder / "image.pages"), parts)
    return folder


def test_host_code_is_listed(pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache.main(["list"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "1.0 MB code"
    assert lines[1] == "5.0 MB code/pages (2.0 MB of it host code)"
    assert lines[-1].startswith("6.0 MB in ")


def test_translations_are_cleaned_alone(pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache.main(["clean", "code/pages"]) == 0
    assert capsys.readouterr().out == "removed code/pages (5.0 MB)\n"
    assert not pages.exists()
    assert (pages.parent / "interp-1.blob").exists()


def test_all_code_is_cleaned(pages: Path) -> None:
    assert cache.main(["clean", "code"]) == 0
    assert not pages.parent.exists()


def test_what_is_not_there_cannot_be_cleaned(pages: Path) -> None:
    for part in ("code/interp-1.blob", "code/..", "../elsewhere"):
        with pytest.raises(UsageError):
            cache.main(["clean", part])
    assert pages.exists()
