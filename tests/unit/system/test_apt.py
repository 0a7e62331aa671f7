"""The machine's own sources, in both of apt's formats, lead to a private configuration for another suite."""

from pathlib import Path

import pytest

from nexus.base.errors import NexusError
from nexus.system import sysroot, sysroot_fetch
from nexus.system.apt import Apt, explain_failure, machine_sources, main_archive, read_deb822, read_one_line

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://mirror.example/debian/ bookworm main contrib
deb-src http://mirror.example/debian bookworm main
deb http://security.example/debian-security bookworm-security main
deb https://other.example/apt stable tools
"""
DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQIN
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
"""


def test_one_line_sources() -> None:
    found = read_one_line(ONE_LINE)
    assert [source.uris for source in found] == [
        ["http://mirror.example/debian/"],
        ["http://security.example/debian-security"],
        ["https://other.example/apt"],
    ]
    assert found[0].options == {"arch": "amd64", "signed-by": "/usr/share/keyrings/k.gpg"}
    assert found[0].components == ["main", "contrib"]


def test_deb822_sources() -> None:
    (found,) = read_deb822(DEB822)
    assert (found.uris, found.suites) == (["http://mirror.example/debian"], ["bookworm", "bookworm-updates"])
    assert "mQIN" in found.options["signed-by"]


@pytest.mark.parametrize(("name", "text"), [("a.list", ONE_LINE), ("a.sources", DEB822)])
def test_the_archive_of_the_release_is_found(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/0-third-party.list").write_text("deb https://x.example/apt nodistro main\n")
    (tmp_path / "sources.list.d" / name).write_text(text)
    found = main_archive(machine_sources(str(tmp_path)), "bookworm")
    assert found is not None
    assert found.uris[0].rstrip("/") == "http://mirror.example/debian"
    assert main_archive(machine_sources(str(tmp_path)), "trixie") is None


def test_unsigned_archives_are_not_used() -> None:
    assert (
        main_archive(read_one_line("deb [trusted=yes] http://x.example/debian bookworm main"), "bookworm")
        is None
    )


def test_the_private_configuration_keeps_mirror_and_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path))
    archive = read_one_line(ONE_LINE)[0]
    apt = Apt(archive, "trixie", ["main"])
    written = Path(apt.folder, "nexus.sources").read_text()
    assert "URIs: http://mirror.example/debian/\nSuites: trixie\n" in written
    assert "Signed-By: /usr/share/keyrings/k.gpg" in written
    configuration = Path(apt.folder, "apt.conf").read_text()
    assert 'APT::Get::AllowUnauthenticated "false";' in configuration
    assert str(tmp_path) in configuration


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (
            "E: Clearsigned file isn't valid, got 'NOSPLIT' (does the network require authentication?)",
            "page of its own",
        ),
        ("E: Failed to fetch x  Hash Sum mismatch", "does not match its checksums"),
        ("W: GPG error: NO_PUBKEY 1234", "signature"),
        ("Err:1 x Temporary failure resolving 'x'\nE: Failed to fetch", "could not be downloaded"),
    ],
)
def test_failures_are_explained(output: str, says: str) -> None:
    error = explain_failure(output, "trixie")
    assert says in str(error)
    assert error.hint
    assert error.exit_code == 125


@pytest.mark.parametrize(
    ("os_release", "hint"),
    [
        ("ID=fedora", "sudo dnf install wine-core"),
        ("ID=endeavouros\nID_LIKE=arch", "sudo pacman -S wine"),
        ("ID=opensuse-tumbleweed\nID_LIKE='opensuse suse'", "sudo zypper install wine"),
        ("ID=something", "nexus sysroot add PATH"),
    ],
)
def test_without_apt_the_next_step_is_named(
    os_release: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "os-release").write_text(os_release + "\n")
    monkeypatch.setenv("NEXUS_OS_RELEASE", str(tmp_path / "os-release"))
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NexusError) as caught:
        sysroot_fetch.fetch("10.0")
    assert hint in caught.value.hint
    assert caught.value.exit_code == 125
    assert not list((tmp_path / "cache/sysroots").iterdir())


def plant(folder: Path, version: str) -> None:
    """A Wine as a distribution installs it, as far as anything here looks."""
    dlls = folder / "lib64/wine/x86_64-windows"
    dlls.mkdir(parents=True)
    (dlls / "ntdll.dll").write_bytes(b"")
    (dlls / "kernelbase.dll").write_bytes(b"")
    nls = folder / "share/wine/nls"
    nls.mkdir(parents=True)
    (nls / "l_intl.nls").touch()
    (nls.parent / "wine.inf").write_text(f";; .INF script\n;; Version: Wine {version}\n")


def test_a_folder_is_recognised_added_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path / "cache"))
    plant(tmp_path / "wine/usr", "9.3")
    found = sysroot.inspect(str(tmp_path / "wine"))
    assert found is not None and found.version == "9.3"
    added = sysroot_fetch.add(str(tmp_path / "wine"))
    assert [entry.version for entry in sysroot.everything()] == ["9.3"]
    assert Path(added.windows, "bcryptprimitives.dll").exists()
    sysroot_fetch.remove("9.3")
    assert sysroot.everything() == []


def test_a_wine_that_is_too_old_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "7.0")
    with pytest.raises(NexusError, match=r"older than 8\.0"):
        sysroot.find(str(tmp_path))


def test_what_a_killed_process_left_is_no_sysroot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path))
    left = tmp_path / "sysroots/.partial-1/windows"
    left.mkdir(parents=True)
    (tmp_path / "sysroots/wine-10.0/windows").mkdir(parents=True)
    assert sysroot.everything() == []
    assert sysroot.cached() is None
