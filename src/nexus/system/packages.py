"""`pypi:NAME` and `npm:NAME` references: which program of which package is meant.

Packages live unpacked under `packages/KIND/NAME/VERSION/` in the cache, with an index file that lists their
programs, so that a later run needs neither network nor another look into the files. `current` beside the
versions holds the one a reference without a version means. Downloading is in `packages_fetch`; no code of a
package runs on the host.
"""

from __future__ import annotations

import os

from nexus.base.errors import BadImage, NexusError, NotFound, UsageError
from nexus.base.folders import cache_folder

INDEX = ".nexus-programs"
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NOISE = ("-", "_", " ", ".")
_ENDINGS = ("win32x64", "win64", "windowsx64", "winx64", "win", "x8664", "amd64", "x64", "64", "cli", "bin")


class Reference:
    """A parsed `pypi:`/`npm:` reference; `version` and `program` may be empty."""

    __slots__ = ("kind", "name", "program", "version")

    def __init__(self, kind: str, name: str, version: str, program: str) -> None:
        self.kind = kind
        self.name = name
        self.version = version
        self.program = program

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" + (f"@{self.version}" if self.version else "")

    @property
    def folder(self) -> str:
        name = self.name.lower().replace("_", "-") if self.kind == "pypi" else self.name.replace("/", "+")
        return os.path.join(cache_folder(), "packages", self.kind, name)


def is_reference(text: str) -> bool:
    return text.startswith(("pypi:", "npm:"))


def parse(text: str) -> Reference:
    """Split a reference; anything but a registry name (URL, path, git, option) is a UsageError."""
    kind, _, rest = text.partition(":")
    scope = ""
    if kind == "npm" and rest.startswith("@"):
        scope, slash, rest = rest.partition("/")
        if not slash:
            raise UsageError(f"{text!r} is not npm:@SCOPE/NAME[@VERSION][/EXE]")
        check(scope[1:], "-._", text)
        scope += "/"
    name, _, program = rest.partition("/")
    name, at, version = name.partition("==") if kind == "pypi" and "==" in name else name.partition("@")
    check(name, "-._", text)
    if at:
        check(version, "-._+!", text)
    if program and (program.startswith("-") or ".." in program.split("/") or "\\" in program):
        raise UsageError(f"{program!r} is not the name of a program in the package")
    return Reference(kind, scope + name, version, program)


def check(word: str, allowed: str, text: str) -> None:
    plain = word and word[0] in _LETTERS and set(word) <= _LETTERS | set(allowed) and len(word) <= 200
    if not plain or ".." in word:
        form = (
            "pypi:NAME[==VERSION][/EXE]" if text.startswith("pypi:") else "npm:[@SCOPE/]NAME[@VERSION][/EXE]"
        )
        raise UsageError(
            f"{text!r} is not of the form {form}", hint="only names of packages are accepted here"
        )


def locate(text: str, refresh: bool = False, offline: bool = False) -> tuple[str, str]:
    """The host path of the program a reference means and the package's folder, downloaded if needed."""
    reference = parse(text)
    version = reference.version or current_version(reference)
    folder = os.path.join(reference.folder, version)
    if refresh or not version or not os.path.exists(os.path.join(folder, INDEX)):
        if offline:
            raise NexusError(f"{reference} was not downloaded before", hint="leave --offline out once")
        from nexus.system.packages_fetch import fetch

        folder = fetch(reference)
    return os.path.join(folder, choose(reference, read_index(folder))), folder


def current_version(reference: Reference) -> str:
    try:
        with open(os.path.join(reference.folder, "current"), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def read_index(folder: str) -> list[tuple[str, str]]:
    """(path in the package, reason why it cannot run or "") of every .exe."""
    with open(os.path.join(folder, INDEX), encoding="utf-8") as file:
        rows = [line.rstrip("\n").partition("\t") for line in file]
    return [(path, reason) for path, _, reason in rows]


def choose(reference: Reference, programs: list[tuple[str, str]]) -> str:
    """Which program is meant: the named one, the only one that can run, or the one named like the package."""
    if not programs:
        raise BadImage(f"{reference} holds no .exe", hint="the Windows program may be in another package")
    if reference.program:
        wanted = reference.program.lower().removesuffix(".exe")
        named = [(path, why) for path, why in programs if path.lower().removesuffix(".exe") == wanted]
        named = named or [
            row for row in programs if row[0].lower().removesuffix(".exe").endswith("/" + wanted)
        ]
        if not named:
            raise NotFound(
                f"{reference} holds no program {reference.program}", hint=suggest(reference, programs)
            )
        runnable = [path for path, reason in named if not reason]
        if len(runnable) > 1:
            raise NotFound(
                f"{reference} holds several programs {reference.program}", hint=suggest(reference, named)
            )
        return runnable[0] if runnable else named[0][0]
    runnable = [path for path, reason in programs if not reason]
    if not runnable:
        reasons = "\n".join(f"{path}: {reason}" for path, reason in programs[:8])
        raise BadImage(f"no program in {reference} can run here:\n{reasons}")
    if len(runnable) == 1:
        return runnable[0]
    keys = {plain(part) for part in [reference.name, *reference.name.lstrip("@").split("/")]}
    alike = [path for path in runnable if plain(os.path.basename(path)[:-4]) in keys]
    if len(alike) != 1:
        raise BadImage(f"{reference} holds several programs", hint=suggest(reference, programs))
    return alike[0]


def plain(name: str) -> str:
    """A name without case, separators and endings that only tell the platform."""
    name = name.lower().rpartition("/")[2]
    for noise in _NOISE:
        name = name.replace(noise, "")
    stripped = True
    while stripped:
        stripped = False
        for ending in _ENDINGS:
            if name.endswith(ending) and len(name) > len(ending):
                name, stripped = name[: -len(ending)], True
    return name


def suggest(reference: Reference, programs: list[tuple[str, str]]) -> str:
    """References of the programs that can run, ready to be pasted."""
    runnable = [path for path, reason in programs if not reason] or [path for path, _ in programs]
    names = [os.path.basename(path) for path in runnable]
    shown = [name if names.count(name) == 1 else path for name, path in zip(names, runnable, strict=True)]
    return "name one of them:\n" + "\n".join(f"nexus run {reference}/{name}" for name in sorted(shown)[:20])
