"""Keeping a registry in one file (`--drive`): text lines, written beside and renamed, never half there.

    nexus registry 1
    [REGISTRY\\\\Machine\\\\Software] 133000000000000000 flags class
    "name" type hexadecimal data

Names are written with `\\\\`, `"`, `]` and control characters as `\\\\uXXXX`. Volatile keys are not stored.
"""

from __future__ import annotations

import os

from nexus.base.errors import NexusError
from nexus.nt.cm.registry import Key, Registry

_HEADER = "nexus registry 1"
_LINK = 1


def _quoted(text: str) -> str:
    out = []
    for c in text:
        code = ord(c)
        if c in '\\"]|' or code < 0x20 or 0xD800 <= code < 0xE000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(c)
    return "".join(out)


def _plain(text: str) -> str:
    head, *rest = text.split("\\u")
    return head + "".join(chr(int(part[:4], 16)) + part[4:] for part in rest)


def text_of(key: Key) -> str:
    """A key and everything below it in the stored form."""
    lines = [_HEADER]
    _lines(key, [], lines)
    return "\n".join(lines) + "\n"


def save(registry: Registry, path: str) -> None:
    """Write the registry to `path`; an interrupted save leaves the former file."""
    text = text_of(registry.root)
    beside = f"{path}.{os.getpid()}.new"
    try:
        with open(beside, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if os.path.exists(beside):
            os.unlink(beside)
        raise NexusError(f"the registry could not be saved to {path}: {error.strerror}") from error


def _lines(key: Key, above: list[str], lines: list[str]) -> None:
    if key.volatile:
        return
    names = [*above, _quoted(key.name)]
    lines.append(f"[{'|'.join(names)}] {key.modified} {_LINK if key.link else 0} {_quoted(key.class_name)}")
    for value in key.values.values():
        lines.append(f'"{_quoted(value.name)}" {value.type} {value.data.hex()}')
    for name in sorted(key.subkeys):
        _lines(key.subkeys[name], names, lines)


def load(registry: Registry, path: str) -> bool:
    """Read a stored registry; False when there is none. Raises NexusError for a damaged file."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError) as error:
        raise NexusError(f"cannot read the registry in {path}: {error}") from error
    try:
        fill(registry.root, text)
    except ValueError as error:
        raise NexusError(
            f"the registry in {path} is damaged ({error})", hint="remove the file to start with the defaults"
        ) from error
    return True


def fill(top: Key, text: str) -> None:
    """Add what a stored text holds to the key `top`, whatever name it was stored under; raises ValueError."""
    lines = text.split("\n")
    if lines[0] != _HEADER:
        raise ValueError("unknown format")
    key = top
    for line in lines[1:]:
        if line.startswith("["):
            names, _, rest = line[1:].partition("] ")
            stamp, flags, class_name = rest.split(" ", 2)
            key = top
            for name in names.split("|")[1:]:
                plain = _plain(name)
                key = key.child(plain) or key.add(plain)
            key.modified, key.link, key.class_name = int(stamp), int(flags) == _LINK, _plain(class_name)
        elif line:
            name, _, rest = line[1:].rpartition('" ')
            kind, data = rest.split(" ", 1)
            key.set(_plain(name), int(kind), bytes.fromhex(data))
