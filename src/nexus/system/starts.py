"""Saved starts of programs (`nt/ps/start_resume.py`) in the cache.

    magic, checksum, size of the head; the head: what it was made for and of, the start; pages of memory

A file is for one program at one path, one sysroot, one version of nexus and whatever else of a machine the
loader looks at (`purpose`); its name is a checksum of that and its head says it in full, so that one from
another machine or version, or exchanged, or damaged, is not used but made again. A start is saved by a
process of its own (`start_builder.py`) when a program is started for the second time.
"""

from __future__ import annotations

import marshal
import mmap
import os
import time
import zlib

from nexus.base.folders import PACKAGE, private_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nexus.system.windows import Settings

MAGIC = b"NXSTART1"
_CHECKED = len(MAGIC) + 4  # where begins what the checksum is of
HEAD = _CHECKED + 4
PAGE = 4096
LIMIT = 256 << 20  # bytes of all files together; the least recently used go first
RETRY = 24 * 3600  # seconds after which one that could not be made is tried again
_FOLDER = "starts"
LOADED_FROM_ENVIRONMENT = ("PATH", "WINE")  # what ntdll reads there before it calls any DLL
_BESIDE = (".manifest", ".local", ".config")  # files beside a program that change what it loads


class SavedStart:
    """One that fits: the plain values of the start and the file with its pages, which has to be closed."""

    __slots__ = ("fd", "start")

    def __init__(self, start: dict[str, Any], fd: int) -> None:
        self.start = start
        self.fd = fd

    def close(self) -> None:
        os.close(self.fd)


def usable(settings: Settings) -> bool:
    """Whether a machine is of the ordinary kind, whose starts differ in nothing but what is written anew."""
    return (
        settings.saves_starts
        and settings.seed is None
        and settings.drive is None
        and settings.cpu is None
        and settings.measure is None
        and settings.wine_debug is None
        and not settings.hooks
    )


def purpose(settings: Settings, program: str, guest_path: str, variables: list[str]) -> tuple[Any, ...]:
    """Everything that a start depends on and that is not written anew."""
    return (
        _sources(),
        settings.sysroot.windows,
        settings.sysroot.nls,
        settings.sysroot.extra,
        settings.cpu_name,
        settings.processors,
        guest_path,
        identity(program),
        tuple(entry for entry in variables if entry.upper().startswith(LOADED_FROM_ENVIRONMENT)),
    )


def identity(path: str) -> tuple[str, int, int, int, int]:
    """What tells a file from every other one, and from itself after a change."""
    info = os.stat(path)
    return path, info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size


def _sources() -> int:
    """A checksum that changes with the kernel's and the machine's sources."""
    text = []
    waiting = [os.path.join(PACKAGE, "nt"), os.path.join(PACKAGE, "machine")]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            if entry.name.endswith(".py"):
                info = entry.stat()
                text.append(f"{entry.path} {info.st_mtime_ns} {info.st_size}")
            elif entry.is_dir() and entry.name != "__pycache__":
                waiting.append(entry.path)
    return zlib.crc32("\n".join(sorted(text)).encode("utf-8", "surrogateescape"))


def find(settings: Settings, program: str, guest_path: str, variables: list[str]) -> SavedStart | None:
    """The saved start of a program; None if there is none, or it does not fit. Then one is asked for."""
    wanted = purpose(settings, program, guest_path, variables)
    path = _path(wanted)
    found = _load(path, wanted)
    if found is None:
        _ask_for(path, settings, program, guest_path, variables)
    elif not _undisturbed(found.start, settings, program):
        found.close()
        return None
    return found


def path_of(settings: Settings, program: str, guest_path: str, variables: list[str]) -> str:
    """Where the start of a program is kept."""
    return _path(purpose(settings, program, guest_path, variables))


def _path(made_for: tuple[Any, ...]) -> str:
    text = marshal.dumps(made_for, 2)  # this version has no references in it, so that equal values are equal
    return os.path.join(private_folder(_FOLDER), f"{zlib.crc32(text):08x}{zlib.adler32(text):08x}")


def _load(path: str, made_for: tuple[Any, ...]) -> SavedStart | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    head = _checked(fd)
    if head is not None:
        said, made_of, start = head
        if said == made_for and all(_is_same(file) for file in made_of):
            os.utime(fd)
            return SavedStart(start, fd)
    os.close(fd)
    os.unlink(path)
    return None


def _checked(fd: int) -> tuple[tuple[Any, ...], tuple[Any, ...], dict[str, Any]] | None:
    """The head of a file that is whole."""
    size = os.fstat(fd).st_size
    if size <= HEAD:
        return None
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as content, memoryview(content) as view:
        with view[_CHECKED:] as rest:
            checksum = zlib.crc32(rest).to_bytes(4, "little")
        if content[: len(MAGIC)] != MAGIC or content[len(MAGIC) : _CHECKED] != checksum:
            return None
        length = int.from_bytes(content[_CHECKED:HEAD], "little")
        head: tuple[tuple[Any, ...], tuple[Any, ...], dict[str, Any]]
        head = marshal.loads(content[HEAD : HEAD + length])
        return head


def _is_same(file: tuple[str, int, int, int, int]) -> bool:
    try:
        return identity(file[0]) == tuple(file)
    except OSError:
        return False


def _undisturbed(start: dict[str, Any], settings: Settings, program: str) -> bool:
    """Whether the loader would still find the DLLs of the sysroot: a program's own folder comes first."""
    folder, name = os.path.split(program)
    if folder == settings.sysroot.windows:
        return True
    wanted = {source.lower() for source in start["sources"] if source}
    wanted |= {name.lower() + end for end in _BESIDE}
    try:
        return wanted.isdisjoint(entry.lower() for entry in os.listdir(folder))
    except OSError:
        return False


# saving -------------------------------------------------------------------------------------------------


def save(
    made_for: tuple[Any, ...], made_of: tuple[Any, ...], start: dict[str, Any], pages: dict[int, bytes]
) -> None:
    """Write a start; `start["mappings"]` get their offsets in the file."""
    content: list[bytes] = []
    mappings = []
    for address, size, access, source, offset in start["mappings"]:
        if source == -1:
            offset = len(content)
            content += [pages[at] for at in range(address, address + size, PAGE)]
        mappings.append((address, size, access, source, offset))
    start = {**start, "mappings": ()}
    length = HEAD + len(marshal.dumps((made_for, made_of, {**start, "mappings": tuple(mappings)})))
    first = -(-length // PAGE) + 1  # offsets of pages are larger numbers than their indices: room for that
    placed = tuple(
        (address, size, access, source, (first + offset) * PAGE if source == -1 else offset)
        for address, size, access, source, offset in mappings
    )
    head = marshal.dumps((made_for, made_of, {**start, "mappings": placed}))
    rest = len(head).to_bytes(4, "little") + head.ljust(first * PAGE - HEAD, b"\0") + b"".join(content)
    path = _path(made_for)
    temporary = f"{path}.{os.getpid()}.new"
    try:
        with open(temporary, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    forget(path)
    _evict()


def _evict() -> None:
    """Remove files until the rest is below the limit."""
    files = [(entry.stat(), entry.path) for entry in os.scandir(private_folder(_FOLDER))]
    total = sum(info.st_size for info, _ in files)
    for info, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
        if total <= LIMIT:
            break
        os.unlink(path)
        total -= info.st_size


def _ask_for(path: str, settings: Settings, program: str, guest_path: str, variables: list[str]) -> None:
    """The first time, remember that it was wanted; the second time, have it made meanwhile."""
    note = f"{path}.wanted"
    try:
        os.close(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        info = os.stat(note)
        if not info.st_size or info.st_mtime < time.time() - RETRY:
            from nexus.system.start_builder import build_meanwhile

            refuse(path, "being made")
            build_meanwhile(settings, program, guest_path, variables)


def refuse(path: str, why: str) -> None:
    """Do not try again."""
    with open(f"{path}.wanted", "w", encoding="utf-8") as file:
        file.write(why)


def forget(path: str) -> None:
    """It is there now."""
    try:
        os.unlink(f"{path}.wanted")
    except FileNotFoundError:
        return
