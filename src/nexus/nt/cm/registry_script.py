"""Registry keys that Wine keeps in a script inside kernelbase.dll: the sort versions of locales and the time
zones.

They are many and few programs ask for them, so a key is filled when it is reached for the first time. The
script is in the format of ATL's registrar: `'Name' [= type value] { val 'Name' = type value ... }`, where the
type is s (text), d (number) or b (bytes).
"""

from __future__ import annotations

import os
from functools import partial

from nexus.loader import pe
from nexus.loader.resources import resource
from nexus.loader.source import FileBytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus.nt.cm.registry import Key

    # values (name, registry type, data), keys below (name, tree)
    Tree = tuple[tuple[tuple[str, int, bytes], ...], tuple[tuple[str, "Tree"], ...]]

FILLED = (
    "\\Registry\\Machine\\System\\CurrentControlSet\\Control\\Nls\\Sorting\\Ids",
    "\\Registry\\Machine\\Software\\Microsoft\\Windows NT\\CurrentVersion\\Time Zones",
)
_RESOURCE = "WINE_REGISTRY"
_REG_SZ, _REG_BINARY, _REG_DWORD = 1, 3, 4
_MODIFIERS = ("NoRemove", "ForceRemove")


class Block:
    """A key of the script: its values (name -> registry type, data) and the keys below it."""

    __slots__ = ("below", "name", "values")

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, tuple[int, bytes]] = {}
        self.below: list[Block] = []

    def find(self, name: str) -> Block | None:
        """The first key of that name at any depth."""
        for block in self.below:
            found = block if block.name == name else block.find(name)
            if found is not None:
                return found
        return None

    def tree(self) -> Tree:
        """The same as plain values."""
        values = tuple((name, kind, data) for name, (kind, data) in self.values.items())
        return values, tuple((block.name, block.tree()) for block in self.below)


def fill(key: Key, tree: Tree) -> None:
    """Put values into a registry key; the keys below it are there then, and filled when they are reached."""
    values, below = tree
    for name, kind, data in values:
        key.set(name, kind, data)
    for name, inside in below:
        key.ensure(name).fill = partial(fill, tree=inside)


def read(kernelbase: str) -> dict[str, Tree]:
    """What the DLL at host path `kernelbase` says of the keys in FILLED, by their last names."""
    fd = os.open(kernelbase, os.O_RDONLY | os.O_CLOEXEC)
    try:
        script = resource(pe.parse(FileBytes(fd, os.fstat(fd).st_size)), _RESOURCE) or b""
    finally:
        os.close(fd)
    whole = parse(script.decode("latin-1"))
    names = [path.rpartition("\\")[2] for path in FILLED]
    found = {name: whole.find(name) for name in names}
    return {name: block.tree() for name, block in found.items() if block is not None}


def parse(script: str) -> Block:
    """The script's keys, below one without a name."""
    current = Block("")
    above: list[Block] = []
    last = current
    for line in script.splitlines():
        words = list(_words(line))
        if not words:
            continue
        if words[0] == "{":
            above.append(current)
            current = last
        elif words[0] == "}":
            if above:
                current = above.pop()
        elif words[0] == "val" and len(words) >= 5:
            current.values[words[1]] = _value(words[3], words[4])
        elif words[0] != "val":
            named = [word for word in words if word not in _MODIFIERS]
            last = Block(named[0])
            if len(named) >= 4 and named[1] == "=":
                last.values[""] = _value(named[2], named[3])
            current.below.append(last)
    return above[0] if above else current


def _words(line: str) -> Iterator[str]:
    """The words of a line; quoted ones may hold blanks, and a doubled quote stands for one."""
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
        elif line[at] == "'":
            end = at + 1
            while (end := line.find("'", end)) >= 0 and line[end + 1 : end + 2] == "'":
                end += 2
            end = len(line) if end < 0 else end
            yield line[at + 1 : end].replace("''", "'")
            at = end + 1
        else:
            end = at
            while end < len(line) and not line[end].isspace():
                end += 1
            yield line[at:end]
            at = end


def _value(kind: str, text: str) -> tuple[int, bytes]:
    if kind == "d":
        return _REG_DWORD, (int(text, 0) & 0xFFFF_FFFF).to_bytes(4, "little")
    if kind == "b":
        return _REG_BINARY, bytes.fromhex(text)
    return _REG_SZ, (text + "\0").encode("utf-16-le")
