"""Saving the start of a process: what `start_resume.py` needs, of a process that is at the cut told of there.

A saved start holds modules of the sysroot and the program itself only; `take` raises NotReversible for
anything else. Which words of memory are one start's alone is found out by comparing two (`varying`).
"""

from __future__ import annotations

from nexus.base.errors import NotReversible
from nexus.base.intervals import IntervalMap
from nexus.loader import pe
from nexus.machine import host
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.mm.section import Section
from nexus.nt.mm.vad import PAGE, Region
from nexus.nt.ps import context
from nexus.nt.ps.start_resume import CONTENT, PROGRAM, SHARED_DATA, TEB_IDS, ZERO
from nexus.nt.ps.thread import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nexus.nt.ps.process import Process
    from nexus.nt.ps.start_resume import Start

    Mapping = tuple[int, int, int, int, int]  # address, size, access, source, offset in it
    Saved = tuple[Start, dict[int, bytes]]  # plain values; pages by address
    Range = tuple[int, int]

_SYSTEM32 = "\\??\\c:\\windows\\system32\\"
_COOKIE = 0x58  # IMAGE_LOAD_CONFIG_DIRECTORY64.SecurityCookie
_FEW = 8  # zero pages between others that are worth no mapping of their own
_WORD = 4


def take(process: Process) -> Saved:
    """What has to be kept of a process whose thread is about to execute the first entry point: plain values,
    and pages with their addresses."""
    thread = _only_thread(process)
    space, window = process.space, process.window
    regions: list[tuple[Any, ...]] = []
    sources: list[str] = []
    files: dict[tuple[int, int], int] = {}
    for region in space.regions:
        if region.write_watch or region.placeholder:
            raise NotReversible(f"{region} is of a kind that a saved start cannot have")
        backing, source = region.backing, -1
        if isinstance(backing, Section) and backing.image is not None:
            source = len(sources)
            name = PROGRAM if region.base == process.image_base else region.name
            if name != PROGRAM and not backing.nt_path.lower().startswith(_SYSTEM32):
                raise NotReversible(f"{backing.nt_path} is not of the sysroot")
            sources.append(name)
            files[backing.image.identity] = source
        regions.append(
            (
                region.base,
                region.size,
                region.protect,
                region.kind,
                region.name,
                region.charged,
                source,
                region.offset,
                isinstance(backing, Section) and source < 0,
            )
        )
    mappings, pages = _contents(process, files)
    start: Start = {
        "regions": tuple(regions),
        "sources": tuple(sources),
        "mappings": tuple(mappings),
        "protections": tuple(space.pages.runs(0, window.top)),
        "top": window.top,
        "symbols": process.symbols,
        "peb": process.peb,
        "entry": process.image_entry,
        "teb": thread.teb,
        "stack": thread.stack,
        "start_address": thread.start_address,
        "context": bytes(context.capture(thread.state)),
        "handles": process.handles.numbering(),
        "directory": _directory_handle(process),
        "charged": process.kernel.commitment.used,
        "cookies": tuple(_cookies(process)),
        "ids": (process.id, thread.id),
    }
    return start, pages


def _only_thread(process: Process) -> Thread:
    if len(process.threads) != 1 or process.threads[0].wait or process.threads[0].frames:
        raise NotReversible("the loader of this sysroot does more in a start than can be saved")
    if process.kernel.io.registry.changes:
        raise NotReversible("the loader of this sysroot writes to the registry")
    return process.threads[0]


def _directory_handle(process: Process) -> int:
    """The handle of the current directory, the only one that the loader leaves open."""
    (handle, entry) = list(process.handles.items())[-1]
    if len(process.handles) != 4 or not isinstance(entry.object, DiskFile) or not entry.object.is_directory:
        raise NotReversible("the loader of this sysroot leaves other handles open than the current directory")
    return handle


def _contents(process: Process, files: dict[tuple[int, int], int]) -> tuple[list[Mapping], dict[int, bytes]]:
    """Mappings (address, size, access, source, offset in it), and the pages that are in no file."""
    window = process.window
    dirty: IntervalMap[bool] = IntervalMap(False)
    scan = host.PrivatePages(window.host, window.top)
    for begin, end in scan.ranges() or ():
        dirty.set(begin - window.host, end - window.host, True)
    scan.close()
    behind: IntervalMap[tuple[int, int] | None] = IntervalMap(None)  # source, distance of offset and address
    for begin, end, identity, offset in host.mappings(window.host, window.host + window.top):
        source = files.get(identity)
        if source is not None:
            behind.set(begin - window.host, end - window.host, (source, offset - begin + window.host))
    dead = process.threads[0].state.rsp
    stack = process.space.regions.at(dead)
    assert stack is not None
    mappings: list[Mapping] = []
    pages: dict[int, bytes] = {}
    for region in process.space.regions:
        if region.name == SHARED_DATA or _is_table(region):
            continue
        for begin, end, access in window.runs(region.base, region.end):
            if access is None:
                continue
            for first, last, file in behind.runs(begin, end):
                for at, stop, written in dirty.runs(first, last):
                    if file is not None and not written:
                        mappings.append((at, stop - at, access, file[0], at + file[1]))
                        continue
                    content = bytearray(window.read_forced(at, stop - at))
                    if region is stack and at < dead:
                        content[: dead - at] = bytes(min(dead, stop) - at)
                    mappings += _split(at, bytes(content), access, pages)
    return mappings, pages


def _is_table(region: Region) -> bool:
    """A mapped file that is not an image: an NLS table."""
    return isinstance(region.backing, Section) and region.backing.image is None


def _split(address: int, content: bytes, access: int, pages: dict[int, bytes]) -> list[Mapping]:
    """Stretches of pages with something in them, and of zero pages."""
    found: list[Mapping] = []
    nothing = bytes(PAGE)
    full = [at for at in range(0, len(content), PAGE) if content[at : at + PAGE] != nothing]
    begin = 0
    while begin < len(content):
        following = next((at for at in full if at >= begin), len(content))
        if following > begin:
            found.append((address + begin, following - begin, access, ZERO, 0))
            begin = following
            continue
        end = begin + PAGE
        for at in full:
            if end <= at <= end + _FEW * PAGE:
                end = at + PAGE
        found.append((address + begin, end - begin, access, CONTENT, 0))
        for at in range(begin, end, PAGE):
            pages[address + at] = content[at : at + PAGE]
        begin = end
    return found


def _cookies(process: Process) -> list[int]:
    """Where the loader has put security cookies."""
    found = []
    for region in process.space.regions:
        section = region.backing
        if not isinstance(section, Section) or section.image is None:
            continue
        image = section.image.image
        at, size = image.directory(pe.LOAD_CONFIG)
        if not at or size < _COOKIE + 8:
            continue
        address = process.window.u64(region.base + at + _COOKIE)
        if region.base < address < region.end - 8:
            offset = address - region.base
            if process.window.read_forced(address, 8) != image.read(offset, 8):
                found.append(address)
    return found


# what is this start's alone -----------------------------------------------------------------------------


def varying(one: Saved, other: Saved, ntdll: Range) -> list[tuple[int, str]]:
    """(address, what) of the words that two starts of a program, with other ids, times and random numbers,
    do not have in common: "process" and "thread" ids, and "random" ones in ntdll's data, whose range is
    given. Raises NotReversible for a difference that is none of these.
    """
    (first, mine), (second, theirs) = one, other
    for name in first:
        if name not in ("ids", "mappings") and first[name] != second[name]:
            raise NotReversible(f"two starts of the program differ in their {name}")
    known = {first["teb"] + offset + part for offset in TEB_IDS for part in (0, 4)}
    known |= {address + part for address in first["cookies"] for part in (0, 4)}
    nothing = bytes(PAGE)
    found = []
    for page in sorted(mine.keys() | theirs.keys()):
        here, there = mine.get(page, nothing), theirs.get(page, nothing)
        if here == there:
            continue
        for at in range(0, PAGE, _WORD):
            pair = here[at : at + _WORD], there[at : at + _WORD]
            if pair[0] != pair[1] and page + at not in known:
                numbers = tuple(int.from_bytes(word, "little") for word in pair)
                found.append((page + at, _kind(page + at, numbers, first["ids"], second["ids"], ntdll)))
    return found


def _kind(
    address: int,
    numbers: tuple[int, ...],
    one: tuple[int, int],
    other: tuple[int, int],
    ntdll: Range,
) -> str:
    for index, name in enumerate(("process", "thread")):
        if numbers == (one[index], other[index]):
            return name
    if ntdll[0] <= address < ntdll[1]:
        return "random"
    raise NotReversible(f"two starts of the program differ at {address:#x} in a way nobody expected")
