"""Unpacking of archives that others made: .deb, .rpm, .zip (wheels) and .tgz (npm).

An archive is hostile. Member names are checked (no absolute path, no `..`, no link, no device), what it
unpacks to is limited, and modes, owners and times in it are ignored. The caller chooses which members are
wanted and under which name: `wanted(name)` returns the relative target path or None.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, cast

from nexus.base.errors import NexusError

Wanted = Callable[[str], str | None]
LIMIT = 4_000_000_000
CHUNK = 1 << 20


class Unpacker:
    """Writes members below `target`, counting what it wrote."""

    def __init__(self, target: str, wanted: Wanted, limit: int = LIMIT) -> None:
        self.target = target
        self.wanted = wanted
        self.left = limit
        self.count = 0

    def member(self, name: str, source: IO[bytes]) -> None:
        """Write one regular file if it is wanted."""
        relative = self.wanted(safe_name(name))
        if relative is None:
            return
        path = os.path.join(self.target, safe_name(relative))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(path, flags, 0o644), "wb") as file:
            while chunk := source.read(CHUNK):
                self.left -= len(chunk)
                if self.left < 0:
                    raise NexusError("the archive unpacks to more than is allowed; it was not used")
                file.write(chunk)
        self.count += 1


def safe_name(name: str) -> str:
    """A member's name without `./`; raises NexusError for one that would leave the target folder."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if (
        name.startswith(("/", "\\"))
        or ".." in parts
        or "\0" in name
        or not parts
        or (len(name) > 1 and name[1] == ":")
    ):
        raise NexusError(f"the archive holds the unsafe name {name!r}; it was not used")
    return "/".join(parts)


def unpack_tar(stream: IO[bytes], unpacker: Unpacker) -> None:
    """Regular files of a tar stream; links and devices are left out."""
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                if member.isreg():
                    source = tar.extractfile(member)
                    assert source is not None
                    unpacker.member(member.name, source)
    except (tarfile.TarError, EOFError, lzma.LZMAError, gzip.BadGzipFile, struct.error) as error:
        raise NexusError(f"the archive is damaged: {error}") from None


def unpack_deb(path: str, target: str, wanted: Wanted) -> int:
    """The wanted files of a Debian package; returns how many there were."""
    unpacker = Unpacker(target, wanted)
    with open(path, "rb") as file:
        if file.read(8) != b"!<arch>\n":
            raise NexusError(f"{path} is not a Debian package")
        while len(header := file.read(60)) == 60:
            name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
            if header[58:] != b"`\n" or not size.isdigit():
                raise NexusError(f"{path} is damaged")
            if name.startswith("data.tar"):
                with decompressed(file, name.rpartition(".")[2]) as stream:
                    unpack_tar(stream, unpacker)
                return unpacker.count
            file.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise NexusError(f"{path} holds no data")


def unpack_rpm(path: str, target: str, wanted: Wanted) -> int:
    """The wanted files of an RPM package: lead, signature header, header, then a compressed cpio archive."""
    unpacker = Unpacker(target, wanted)
    with open(path, "rb") as file:
        if file.read(4) != b"\xed\xab\xee\xdb":
            raise NexusError(f"{path} is not an RPM package")
        file.seek(96)
        for padded in (True, False):
            magic, entries, size = struct.unpack(">8sII", file.read(16))
            if magic[:3] != b"\x8e\xad\xe8":
                raise NexusError(f"{path} is damaged")
            file.seek(entries * 16 + size, os.SEEK_CUR)
            if padded:
                file.seek(-file.tell() % 8, os.SEEK_CUR)
        start = file.read(6)
        file.seek(-len(start), os.SEEK_CUR)
        kinds = {b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zst", b"\x1f\x8b": "gz"}
        kind = next((kind for magic, kind in kinds.items() if start.startswith(magic)), "")
        with decompressed(file, kind) as stream:
            unpack_cpio(stream, unpacker)
    return unpacker.count


def unpack_cpio(stream: IO[bytes], unpacker: Unpacker) -> None:
    """The `newc` form: a header of hexadecimal fields, name and data each padded to four bytes."""
    while True:
        header = stream.read(110)
        if len(header) < 110 or header[:6] not in (b"070701", b"070702"):
            raise NexusError("the archive is damaged")
        fields = [int(header[at : at + 8], 16) for at in range(6, 110, 8)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = stream.read(name_size + -(110 + name_size) % 4)[: name_size - 1].decode("utf-8", "replace")
        if name == "TRAILER!!!":
            return
        data = stream.read(size + -size % 4)[:size]
        if mode & 0o170000 == 0o100000:
            unpacker.member(name.lstrip("/") if name.startswith("./") else name, io.BytesIO(data))


def unpack_zip(path: str, target: str, wanted: Wanted) -> int:
    """The wanted files of a zip archive or wheel."""
    unpacker = Unpacker(target, wanted)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                kind = info.external_attr >> 28
                if info.is_dir() or kind not in (0, 8):
                    continue
                with archive.open(info) as source:
                    unpacker.member(info.filename, source)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise NexusError(f"the archive is damaged: {error}") from None
    return unpacker.count


def unpack_tgz(path: str, target: str, wanted: Wanted) -> int:
    """The wanted files of a gzip-compressed tar archive."""
    unpacker = Unpacker(target, wanted)
    with open(path, "rb") as file, decompressed(file, "gz") as stream:
        unpack_tar(stream, unpacker)
    return unpacker.count


@contextmanager
def decompressed(file: IO[bytes], kind: str) -> Iterator[IO[bytes]]:
    """The rest of `file`, decompressed; zstd through Python 3.14 or the zstd command."""
    if kind == "xz":
        with lzma.open(file) as stream:
            yield stream
    elif kind == "gz":
        with gzip.GzipFile(fileobj=file) as plain:
            yield cast("IO[bytes]", plain)
    elif kind == "tar":
        yield file
    elif kind == "zst" and shutil.which("zstd"):
        position = file.tell()
        descriptor = os.dup(file.fileno())
        os.lseek(descriptor, position, os.SEEK_SET)
        process = subprocess.Popen(["zstd", "-dcq"], stdin=descriptor, stdout=subprocess.PIPE)
        os.close(descriptor)
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.stdout.close()
            process.wait()
    else:
        raise NexusError(
            f"the archive is compressed with {kind or 'an unknown method'}",
            hint="install the command zstd and start again" if kind == "zst" else "",
        )
