"""What a guest may read, write and connect to.

The default is narrow: the program's folder and the current folder, read-only, no network. `Permissions` is
what the user granted; `grants` turns it into the kernel's list for one program. Nothing of nexus itself
(cache, sysroot, environment, checkout) is ever writable: see `protected`.
"""

from __future__ import annotations

import os
import stat
import sys

from nexus.base.errors import UsageError
from nexus.base.folders import CHECKOUT, cache_folder
from nexus.nt.io.place import Grant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class NetRule:
    """One `HOST[:PORT]`: a name, an address, `*.domain` or `*`; port None means every port."""

    __slots__ = ("host", "port")

    def __init__(self, host: str, port: int | None) -> None:
        self.host = host.lower()
        self.port = port

    @classmethod
    def parse(cls, text: str) -> NetRule:
        """`example.org`, `example.org:443`, `[::1]:80`, `*.example.org`, `:80`, `*`."""
        host, port = text, ""
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise UsageError(f"{text!r} is not HOST[:PORT]")
            port = rest[1:]
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise UsageError(f"{text!r} is not HOST[:PORT]: the port must be 1 to 65535")
        if "/" in host:
            raise UsageError(
                f"{text!r} is not HOST[:PORT]", hint="give the host alone, without http:// or a path"
            )
        return cls(host or "*", int(port) if port else None)

    def names(self, host: str) -> bool:
        """Whether the rule's host covers this name or address."""
        host = host.lower().rstrip(".")
        if self.host == "*" or host == self.host:
            return True
        return self.host.startswith("*.") and host.endswith(self.host[1:])

    def covers(self, host: str, port: int) -> bool:
        return self.names(host) and self.port in (None, port)

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


class Network:
    """The rules for one run, with the addresses that allowed names were resolved to."""

    __slots__ = ("allowed", "denied", "names", "refused", "used")

    def __init__(self, allowed: Sequence[NetRule], denied: Sequence[NetRule] = ()) -> None:
        self.allowed = allowed
        self.denied = denied
        self.names: dict[str, set[str]] = {}
        self.refused: dict[str, None] = {}
        self.used: set[str] = set()

    def may_resolve(self, name: str) -> bool:
        """Whether a name may be looked up at all: some rule could lead to it."""
        if any(rule.port is None and rule.names(name) for rule in self.denied):
            return self._refuse(name)
        return any(rule.names(name) for rule in self.allowed) or self._refuse(name)

    def learn(self, name: str, addresses: Iterable[str]) -> None:
        """Remember what a name stands for, so that rules with names apply to connections."""
        for address in addresses:
            self.names.setdefault(address, set()).add(name)

    def may_use(self, address: str, port: int) -> bool:
        """Whether the guest may connect to, send to or listen on this address."""
        known = [address, *self.names.get(address, ())]
        if any(rule.covers(name, port) for rule in self.denied for name in known):
            return self._refuse(f"{address}:{port}")
        if any(rule.covers(name, port) for rule in self.allowed for name in known):
            self.used.add(f"{address}:{port}")
            return True
        return self._refuse(f"{address}:{port}")

    def _refuse(self, what: str) -> bool:
        self.refused[what] = None
        return False


class Permissions:
    """Grants and refusals as the user gave them; paths are absolute host paths."""

    __slots__ = ("deny_net", "deny_read", "deny_write", "isolated", "net", "read", "write")

    def __init__(
        self,
        read: Sequence[str] = (),
        write: Sequence[str] = (),
        net: Sequence[NetRule] = (),
        deny_read: Sequence[str] = (),
        deny_write: Sequence[str] = (),
        deny_net: Sequence[NetRule] = (),
        isolated: bool = False,
    ) -> None:
        self.read = list(read)
        self.write = list(write)
        self.net = list(net)
        self.deny_read = list(deny_read)
        self.deny_write = list(deny_write)
        self.deny_net = list(deny_net)
        self.isolated = isolated

    def network(self) -> Network:
        return Network(self.net, self.deny_net)

    def grants(self, program: str, folder: str, package: str | None = None) -> tuple[list[Grant], str]:
        """The kernel's grants for a host program started in `folder`, and a line to say when `folder` is
        left out.

        A grant deeper in the tree overrules the one above it.
        """
        wanted: dict[str, tuple[bool, bool]] = {}

        def add(path: str, read: bool, write: bool) -> None:
            path = os.path.realpath(path)
            had = wanted.get(path, (False, False))
            wanted[path] = (read or had[0], write or had[1])

        program = os.path.realpath(program)
        beside = os.path.dirname(program)
        add(package or (program if too_wide(beside) else beside), True, False)
        left_out = ""
        if not self.isolated:
            if not too_wide(folder):
                add(folder, True, False)
            elif not covered(folder, [*self.read, *self.write]):
                left_out = (
                    f"the current folder {folder} is too wide to be granted by itself; "
                    f"--allow-read={folder} grants it"
                )
        for path in self.read:
            existing(path, "--allow-read")
            add(path, True, False)
        for path in self.write:
            existing(path, "--allow-write")
            add(path, True, True)
        ordered = sorted(wanted.items())
        for path, (read, write) in ordered:
            above = [rights for other, rights in ordered if other != path and covered(path, [other])]
            wanted[path] = (read or any(r for r, _ in above), write or any(w for _, w in above))
        for path in map(os.path.realpath, self.deny_write):
            read = any(rights[0] for other, rights in ordered if covered(path, [other]))
            if read and os.path.exists(path):
                wanted[path] = (True, False)
            wanted.update(
                {other: (rights[0], False) for other, rights in wanted.items() if covered(other, [path])}
            )
        for path in map(os.path.realpath, self.deny_read):
            wanted = {other: rights for other, rights in wanted.items() if not covered(other, [path])}
            if os.path.exists(path):
                wanted[path] = (False, False)
        return [Grant(path, read, write) for path, (read, write) in sorted(wanted.items())], left_out


def protected(sysroot_folder: str) -> list[str]:
    """Host folders that stay unwritable whatever is granted."""
    return [path for path in (cache_folder(), CHECKOUT, sys.prefix, sysroot_folder) if os.path.exists(path)]


def remedy(path: str, kind: str, never_writable: Iterable[str]) -> str:
    """What would lift the refusal of a host path: a flag, or the reason why none does."""
    if covered(path, ("/proc", "/sys", "/dev")):
        return "devices and /proc are never shown to a program"
    if kind == "write" and covered(path, never_writable):
        return "this belongs to nexus itself and is never writable"
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        mode = stat.S_IFREG
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        return "only files and folders are shown to a program"
    return f"--allow-{kind}={path}"


def too_wide(folder: str) -> bool:
    """Whether a folder is `/`, the home folder or a parent of it: never granted unasked."""
    folder = os.path.realpath(folder)
    home = os.path.realpath(os.path.expanduser("~"))
    return covered(home, [folder])


def covered(path: str, folders: Iterable[str]) -> bool:
    """Whether `path` is one of the folders or inside one."""
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def existing(path: str, option: str) -> None:
    if not os.path.exists(path):
        raise UsageError(f"{option}={path}: there is no such file or folder")
