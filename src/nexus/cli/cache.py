"""`nexus cache list|path|clean`: what was downloaded or made, with sizes."""

from __future__ import annotations

import os
import shutil

from nexus.backend.cache import PAGES
from nexus.base.errors import UsageError
from nexus.base.folders import cache_folder
from nexus.cli.options import FLAG, Option, parse
from nexus.machine.page_file import PageFile

USAGE = """\
usage: nexus cache list           what the cache holds, with sizes
       nexus cache path           where it is
       nexus cache clean [PART]   delete one part, or everything; it is made again when needed"""


def main(arguments: list[str]) -> int:
    given = parse(arguments, [Option("help", FLAG, "", short="h")], "cache", mixed=True)
    if given.flag("help") or not given.rest:
        print(USAGE)
        return 0 if given.flag("help") else 2
    action, *rest = given.rest
    if action == "path" and not rest:
        print(cache_folder())
    elif action == "list" and not rest:
        for name, size in contents():
            print(f"{size / 1e6:10.1f} MB  {name}{_note(name)}")
        print(f"{sum(size for _, size in contents()) / 1e6:10.1f} MB  in {cache_folder()}")
    elif action == "clean" and len(rest) <= 1:
        clean(rest[0] if rest else "")
    else:
        raise UsageError(f"nexus cache cannot {' '.join(given.rest)}", hint="nexus cache --help")
    return 0


def contents() -> list[tuple[str, int]]:
    """(part, bytes): sysroots and packages one by one, engines apart from translations of guest code,
    everything else by folder."""
    top = cache_folder()
    found: list[tuple[str, int]] = []
    for part in sorted(names(top)):
        inside = os.path.join(top, part)
        if part == "sysroots":
            found += [
                (f"{part}/{name}", size_of(os.path.join(inside, name))) for name in sorted(names(inside))
            ]
        elif part == "packages":
            for kind in sorted(names(inside)):
                found += [
                    (f"{part}/{kind}/{name}", size_of(os.path.join(inside, kind, name)))
                    for name in sorted(names(os.path.join(inside, kind)))
                ]
        else:
            apart = sorted(names(inside)) if part == "code" else []
            sizes = [size_of(os.path.join(inside, name)) for name in apart]
            found.append((part, size_of(inside) - sum(sizes)))
            found += [(f"{part}/{name}", size) for name, size in zip(apart, sizes, strict=True)]
    return found


def _note(part: str) -> str:
    """How much of the translations is host code."""
    if part != f"code/{PAGES}":
        return ""
    folder = os.path.join(cache_folder(), part)
    size = sum(host_code_bytes(entry.path) for entry in os.scandir(folder) if entry.name.endswith(".pages"))
    return f" ({size / 1e6:.1f} MB of it host code)"


def host_code_bytes(path: str) -> int:
    """How much host code a page file has."""
    file = PageFile(path)
    try:
        return file.host_code_bytes()
    finally:
        file.close()


def names(folder: str) -> list[str]:
    """The folders in a folder; none if it is not there."""
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def size_of(folder: str) -> int:
    return sum(
        os.lstat(os.path.join(place, name)).st_size for place, _, files in os.walk(folder) for name in files
    )


def clean(part: str) -> None:
    """Delete a part of the cache as `list` names it; only what lies inside the cache."""
    top = cache_folder()
    known = {name for name, _ in contents()} | set(names(top))
    if part and part.rstrip("/") not in known:
        raise UsageError(f"the cache holds no {part}", hint="nexus cache list")
    for name in [part.rstrip("/")] if part else names(top):
        path = os.path.join(top, name)
        size = size_of(path)
        shutil.rmtree(path)
        print(f"removed {name} ({size / 1e6:.1f} MB)")
