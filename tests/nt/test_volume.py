"""Resolution beneath grants: what is visible, what is refused, and that no name leads outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexus.nt.errors import NtError
from nexus.nt.io import path_beneath
from nexus.nt.io.place import Grant, Place
from nexus.nt.io.volume import Volume
from nexus.nt.status import Status


@pytest.fixture(params=["openat2", "walk"])
def tree(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(path_beneath._Kernel, "has_openat2", request.param == "openat2")
    (tmp_path / "granted/Sub").mkdir(parents=True)
    (tmp_path / "granted/Sub/File.txt").write_text("inside")
    (tmp_path / "granted/a:b").write_text("colon")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    return tmp_path


def at(volume: Volume, host: Path | str) -> Place:
    return volume.find([part for part in str(host).split("/") if part])


def status(volume: Volume, host: Path | str) -> int:
    with pytest.raises(NtError) as caught:
        at(volume, host)
    return caught.value.status


def volume_of(*grants: Grant) -> Volume:
    volume = Volume("Z", "HarddiskVolume2")
    for grant in grants:
        volume.grant(grant)
    return volume


def content(place: Place) -> str:
    fd = place.open(os.O_RDONLY)
    try:
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)


def test_lookup_ignores_case_and_keeps_it(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted")))
    place = at(volume, str(tree / "granted/SUB/fILE.TXT"))
    assert place.host_path == str(tree / "granted/Sub/File.txt")
    assert place.guest_path.endswith("\\granted\\Sub\\File.txt")
    assert content(place) == "inside"
    assert not place.writable


def test_exact_spelling_wins(tree: Path) -> None:
    (tree / "granted/sub").mkdir()
    volume = volume_of(Grant(str(tree / "granted")))
    assert at(volume, tree / "granted/sub").host_path.endswith("/sub")
    assert at(volume, tree / "granted/Sub").host_path.endswith("/Sub")
    assert at(volume, tree / "granted/SUB").host_path.endswith("/Sub")  # first in byte order


def test_host_name_that_windows_forbids(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted")))
    assert content(at(volume, str(tree / "granted/a\uf03ab"))) == "colon"


def test_folders_above_a_grant_show_only_the_way(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted")))
    assert at(volume, tree).virtual == ["granted"]
    assert volume.find([]).virtual == [tree.parts[1]]


def test_ungranted_names(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted")))
    assert status(volume, tree / "outside/secret") == Status.ACCESS_DENIED
    assert volume.refusals.seen == {str(tree / "outside/secret"): "read"}
    assert at(volume, tree / "absent").info is None
    assert status(volume, tree / "absent/x") == Status.OBJECT_PATH_NOT_FOUND
    assert len(volume.refusals.seen) == 1


def test_absent_names_inside(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted")))
    assert at(volume, tree / "granted/new").info is None
    assert status(volume, tree / "granted/new/x") == Status.OBJECT_PATH_NOT_FOUND
    assert status(volume, tree / "granted/Sub/File.txt/x") == Status.OBJECT_PATH_NOT_FOUND


@pytest.mark.parametrize("target", ["../outside/secret", "/etc/passwd", "../outside"])
def test_links_that_leave_are_refused(tree: Path, target: str) -> None:
    os.symlink(target, tree / "granted/link")
    volume = volume_of(Grant(str(tree / "granted")))
    assert status(volume, tree / "granted/link") == Status.ACCESS_DENIED


def test_links_that_stay_are_followed(tree: Path) -> None:
    os.symlink("Sub/File.txt", tree / "granted/relative")
    os.symlink(tree / "granted/Sub", tree / "granted/absolute")
    os.symlink("../granted/./Sub/../Sub", tree / "granted/winding")
    volume = volume_of(Grant(str(tree / "granted")))
    assert content(at(volume, tree / "granted/relative")) == "inside"
    assert content(at(volume, tree / "granted/ABSOLUTE/file.txt")) == "inside"
    assert content(at(volume, tree / "granted/winding/file.txt")) == "inside"


def test_link_loop_and_dangling_link(tree: Path) -> None:
    os.symlink("loop", tree / "granted/loop")
    os.symlink("nowhere", tree / "granted/dangling")
    volume = volume_of(Grant(str(tree / "granted")))
    assert status(volume, tree / "granted/loop") == Status.ACCESS_DENIED
    assert at(volume, tree / "granted/dangling").info is None


def test_a_link_into_a_denied_part_is_refused(tree: Path) -> None:
    os.symlink("Sub", tree / "granted/shortcut")
    volume = volume_of(Grant(str(tree / "granted"), write=True), Grant(str(tree / "granted/Sub"), read=False))
    for name in ("shortcut/File.txt", "Sub/File.txt", "sub/File.txt", "Sub"):
        assert status(volume, tree / "granted" / name) == Status.ACCESS_DENIED


def test_rights_of_the_innermost_grant_count(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted")), Grant(str(tree / "granted/Sub"), write=True))
    assert not at(volume, tree / "granted/a\uf03ab").writable
    assert at(volume, tree / "granted/sub/file.txt").writable
    assert volume.holds_mount(at(volume, tree / "granted/sub"))


def test_a_protected_folder_is_never_writable(tree: Path) -> None:
    volume = volume_of(Grant("/", write=True), Grant(str(tree / "granted/Sub"), write=True))
    volume.protect(str(tree / "granted"))
    assert not at(volume, tree / "granted/Sub/File.txt").writable
    assert not at(volume, tree / "granted/new").writable
    assert at(volume, tree / "outside/secret").writable


def test_protecting_what_is_not_granted_shows_nothing_of_it(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted")))
    volume.protect(str(tree / "outside"))
    assert at(volume, tree).virtual == ["granted"]


def test_a_new_name_beside_a_grant_is_absent_but_cannot_be_made(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted"), write=True))
    place = at(volume, tree / "new")
    assert (place.info, place.virtual, place.writable) == (None, None, False)
    assert place.refuse("write").status == Status.ACCESS_DENIED
    assert volume.refusals.seen == {str(tree / "new"): "write"}
    assert status(volume, tree / "new/below") == Status.OBJECT_PATH_NOT_FOUND


def test_special_files_are_refused(tree: Path) -> None:
    os.mkfifo(tree / "granted/fifo")
    volume = volume_of(Grant("/"))
    assert status(volume, tree / "granted/fifo") == Status.ACCESS_DENIED
    for special in ("/dev/null", "/proc/self/mem", "/sys/kernel"):
        assert status(volume, special) == Status.ACCESS_DENIED


def test_a_granted_file(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "outside/secret")), Grant(str(tree / "outside/later"), write=True))
    assert content(at(volume, tree / "outside/secret")) == "secret"
    place = at(volume, tree / "outside/later")
    assert place.info is None and place.writable
    os.close(place.open(os.O_WRONLY | os.O_CREAT))
    assert (tree / "outside/later").exists()


def test_the_swap_of_a_folder_for_a_link_is_not_followed(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted"), write=True))
    place = at(volume, tree / "granted/Sub/secret")
    os.rename(tree / "granted/Sub", tree / "granted/moved")
    os.symlink("../outside", tree / "granted/Sub")
    with pytest.raises(NtError):
        place.open(os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    assert (tree / "outside/secret").read_text() == "secret"


def test_the_cache_of_a_folder_notices_changes(tree: Path) -> None:
    volume = volume_of(Grant(str(tree / "granted")))
    assert at(volume, tree / "granted/ADDED").info is None
    (tree / "granted/added").write_text("now")
    assert content(at(volume, tree / "granted/ADDED")) == "now"
    os.unlink(tree / "granted/added")
    assert at(volume, tree / "granted/ADDED").info is None


def test_a_private_drive_with_an_overlay(tree: Path) -> None:
    (tree / "dlls").mkdir()
    (tree / "dlls/ntdll.dll").write_text("MZ")
    os.makedirs(tree / "c/windows/system32")
    os.symlink("/etc", tree / "c/escape")
    os.symlink("../outside", tree / "c/escape2")
    volume = Volume("C", "HarddiskVolume1")
    volume.mount([], Grant(str(tree / "c"), write=True))
    volume.overlay(["windows", "system32"], str(tree / "dlls"))
    place = volume.find(["Windows", "System32", "NTDLL.DLL"])
    assert content(place) == "MZ" and not place.writable
    assert volume.find(["windows", "system32", "own.dll"]).writable
    assert volume.find([]).is_directory
    for name in ("escape", "escape2"):
        with pytest.raises(NtError) as caught:
            volume.find([name, "passwd"])
        assert caught.value.status == Status.ACCESS_DENIED
