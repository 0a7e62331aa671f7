"""Hostile archives: nothing is written outside the folder, and nothing but regular files."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from nexus.base.errors import NexusError
from nexus.system import archives
from nexus.system.archives import Unpacker, safe_name, unpack_deb, unpack_tgz, unpack_zip


def everything(name: str) -> str:
    return name


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../../x", "a\\..\\..\\x", "C:/x", "c:x", "\\x", "", ".", "a\0b"]
)
def test_unsafe_names(name: str) -> None:
    with pytest.raises(NexusError, match="unsafe"):
        safe_name(name)


def test_a_zip_that_climbs_out_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../escaped", "x")
    with pytest.raises(NexusError, match="unsafe"):
        unpack_zip(str(path), str(tmp_path / "out"), everything)
    assert not (tmp_path / "escaped").exists()


def test_links_in_a_zip_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
        archive.writestr("file", "x")
    assert unpack_zip(str(path), str(tmp_path / "out"), everything) == 1
    assert os.listdir(tmp_path / "out") == ["file"]


def test_links_and_devices_in_a_tar_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("fifo", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo("package/" + name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("package/link/x")
        info.size, info.mode = 3, 0o6777
        tar.addfile(info, io.BytesIO(b"abc"))
    assert unpack_tgz(str(path), str(tmp_path / "out"), everything) == 1
    written = tmp_path / "out/package/link/x"
    assert written.read_bytes() == b"abc"
    assert not (tmp_path / "out/package/link").is_symlink()
    assert not written.stat().st_mode & 0o6111


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    unpacker = Unpacker(str(tmp_path / "out"), everything, limit=1000)
    unpacker.member("a", io.BytesIO(bytes(600)))
    with pytest.raises(NexusError, match="more than is allowed"):
        unpacker.member("b", io.BytesIO(bytes(600)))


@pytest.mark.parametrize(
    "content", [b"", b"!<arch>\n", b"!<arch>\n" + b"x" * 60, b"<html>log in</html>", b"PK\3\4junk"]
)
def test_damaged_archives_are_errors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    for unpack in (unpack_deb, unpack_zip, unpack_tgz, archives.unpack_rpm):
        with pytest.raises(NexusError):
            unpack(str(path), str(tmp_path / "out"), everything)


def test_a_deb_gives_only_what_is_wanted(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        for name in ("./usr/lib/x/keep.dll", "./usr/share/doc/drop"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"k"))
    member = data.getvalue()
    header = b"data.tar.xz".ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"100644".ljust(8)
    header += str(len(member)).encode().ljust(10) + b"`\n"
    path = tmp_path / "a.deb"
    path.write_bytes(b"!<arch>\n" + header + member)
    wanted = {"usr/lib/x/keep.dll": "windows/keep.dll"}
    assert unpack_deb(str(path), str(tmp_path / "out"), wanted.get) == 1
    assert (tmp_path / "out/windows/keep.dll").read_bytes() == b"k"


def test_an_rpm_is_read_like_rpm2cpio_does(tmp_path: Path) -> None:
    """Lead, two headers, then gzip-compressed cpio in the `newc` form, built after the format's text."""
    import gzip
    import struct

    def entry(name: str, content: bytes, mode: int) -> bytes:
        fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        head += bytes(-len(head) % 4)
        return head + content + bytes(-len(content) % 4)

    cpio = entry("./usr/lib64/wine/x86_64-windows/a.dll", b"abcde", 0o100644)
    cpio += entry("./usr/lib64/wine/x86_64-windows/link.dll", b"/etc/passwd", 0o120777) + entry(
        "TRAILER!!!", b"", 0
    )
    empty = struct.pack(">8sII", b"\x8e\xad\xe8\x01\0\0\0\0", 1, 5) + bytes(16) + b"hello"
    signature = empty + bytes(-(96 + len(empty)) % 8)
    path = tmp_path / "a.rpm"
    path.write_bytes(b"\xed\xab\xee\xdb" + bytes(92) + signature + empty + gzip.compress(cpio))
    assert archives.unpack_rpm(str(path), str(tmp_path / "out"), everything) == 1
    assert (tmp_path / "out/usr/lib64/wine/x86_64-windows/a.dll").read_bytes() == b"abcde"
