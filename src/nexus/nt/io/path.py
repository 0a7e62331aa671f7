"""File names between two worlds: which names NT accepts, how they compare, and how the host spells them.

A host name is bytes without `/` and NUL; Python holds it as text with `surrogateescape`. A guest name is
UTF-16 without the characters Windows forbids. What Windows forbids but Linux allows is moved to the
private-use block at U+F000 (`a:b` on the host is `a\\uf03ab` for the guest), as are a last dot or blank;
bytes that are no UTF-8 appear as lone surrogates U+DC80-U+DCFF. Both mappings are undone on the way back,
so every host file can be named.
"""

from __future__ import annotations

PRIVATE = 0xF000
FORBIDDEN = '<>:"|?*\\'
MAX_COMPONENT = 255

_TO_GUEST = {ord(c): PRIVATE + ord(c) for c in FORBIDDEN} | {c: PRIVATE + c for c in range(1, 32)}
_TO_HOST = {guest: host for host, guest in _TO_GUEST.items()}
_PRIVATE_ENDS = (chr(PRIVATE + ord(".")), chr(PRIVATE + ord(" ")))
_KEEP_CASE = {"\u0131", "\u017f", "\u1e9e", "\u2126", "\u212a", "\u212b"}

WILDCARDS = '*?<>"'


class BadName(Exception):
    """A component that no Windows file system accepts."""


def upcase(name: str) -> str:
    """The name as NT compares it: every UTF-16 unit upper-cased on its own, nothing changes length."""
    if name.isascii():
        return name.upper()
    out = []
    for c in name:
        upper = c.upper()
        out.append(upper if len(upper) == 1 and c not in _KEEP_CASE and ord(c) < 0x10000 else c)
    return "".join(out)


def _swapped(name: str) -> str:
    """The name with a last dot or blank exchanged with its private form: Windows programs cannot write it."""
    last = name[-1:]
    if last in (".", " "):
        return name[:-1] + chr(PRIVATE + ord(last))
    if last in _PRIVATE_ENDS:
        return name[:-1] + chr(ord(last) - PRIVATE)
    return name


def guest_name(host: str) -> str:
    """How the guest sees a host file name."""
    if host in (".", ".."):
        return host
    return _swapped(host.translate(_TO_GUEST))


def host_name(guest: str) -> str:
    """The host file name a guest component stands for; raises `BadName` for what cannot be a file name."""
    if not guest or guest in (".", "..") or len(guest) > MAX_COMPONENT:
        raise BadName(guest)
    for c in guest:
        if c < " " or c in FORBIDDEN or c == "/":
            raise BadName(guest)
    name = _swapped(guest).translate(_TO_HOST)
    if not name.isascii():
        try:
            encoded = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise BadName(guest) from None
        if len(encoded) > MAX_COMPONENT:
            raise BadName(guest)
    if name in (".", ".."):
        raise BadName(guest)
    return name


def split_path(path: str) -> list[str]:
    """The components of what follows the volume in an NT path; raises `BadName` for empty ones.

    One backslash at the end is dropped, and one too many at the start. The suffix `::$DATA` names the file
    itself; other streams do not exist here, their names are bad (`host_name` refuses the colon).
    """
    if path.startswith("\\\\"):
        path = path[1:]
    path = path.removeprefix("\\").removesuffix("\\")
    if not path:
        return []
    parts = path.split("\\")
    if "" in parts:
        raise BadName(path)
    if parts[-1].upper().endswith("::$DATA") and len(parts[-1]) > 7:
        parts[-1] = parts[-1][:-7]
    return parts


_SHORT = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'()-@^_`{}~")


def short_name(name: str) -> str:
    """The 8.3 name of a file, an empty string when its name is one already.

    Names are made from the long one alone, by a hash, so they need not be kept: `LONG~1A2.EXT`. Two names
    of one folder may share a short one; then the first in byte order is meant.
    """
    if name in (".", ".."):
        return ""
    upper = upcase(name)
    base, dot, extension = upper.rpartition(".") if "." in upper else (upper, "", "")
    fits = 0 < len(base) <= 8 and len(extension) <= 3 and (not dot or extension)
    if fits and _SHORT.issuperset(base) and _SHORT.issuperset(extension):
        return ""
    base, _, extension = (
        upper.lstrip(".").rpartition(".") if "." in upper.lstrip(".") else (upper.lstrip("."), "", "")
    )
    start = "".join(c if c in _SHORT else "_" for c in base if c not in " .")[:4]
    end = "".join(c if c in _SHORT else "_" for c in extension if c != " ")[:3]
    number = 0
    for c in upper:
        number = (number * 31 + ord(c)) & 0xFFFF_FFFF
    digits = "".join("0123456789ABCDEFGHIJKLMNOPQRSTUV"[number >> shift & 31] for shift in (10, 5, 0))
    return f"{start}~{digits}" + (f".{end}" if end else "")


def text_of(data: bytes) -> str:
    """UTF-16LE from the guest as text; unpaired surrogates survive."""
    return data.decode("utf-16-le", "surrogatepass")


def wide(text: str) -> bytes:
    """Text as the guest's UTF-16LE."""
    return text.encode("utf-16-le", "surrogatepass")


def units(text: str) -> int:
    """Length in UTF-16 units."""
    return len(text) if text.isascii() else len(wide(text)) // 2


def from_dos_mask(mask: str) -> str:
    """The search expression for a mask as DOS programs write it, which FindFirstFile makes before it asks:
    `?` may stand for nothing at the end of a name (`>`), a dot before a wildcard too (`"`), and a `*` before
    a dot takes all but the last (`<`). These are described with RtlIsNameInExpression.
    """
    out = []
    for here, following in zip(mask, mask[1:] + "\0", strict=True):
        if here == "?":
            out.append(">")
        elif here == "." and following in "?*":
            out.append('"')
        elif here == "*" and following == ".":
            out.append("<")
        else:
            out.append(here)
    return "".join(out)


def matches(pattern: str, name: str) -> bool:
    """Whether a directory entry matches an upper-cased search expression.

    `*` any run, `?` one character, `<` (DOS_STAR) any run up to and with the last dot, `>` (DOS_QM) one
    character or nothing before a dot or the end, `"` (DOS_DOT) a dot or the end. See FsRtlIsNameInExpression.
    """
    if pattern == "*":
        return True
    name = upcase(name) if name != ".." else "."
    end, last_dot = len(name), name.rfind(".")
    states = {0}
    length = len(pattern)

    def closed(positions: set[int], at: int) -> set[int]:
        """Add the pattern positions reachable without consuming the character at `at`."""
        todo, out = list(positions), set()
        while todo:
            p = todo.pop()
            if p in out:
                continue
            out.add(p)
            if p < length:
                c = pattern[p]
                skips = c in "*<" or (c == ">" and (at == end or name[at] == ".")) or (c == '"' and at == end)
                if skips:
                    todo.append(p + 1)
        return out

    for at, c in enumerate(name):
        following = set()
        for p in closed(states, at):
            if p == length:
                continue
            want = pattern[p]
            if want == "*" or (want == "<" and (c != "." or at != last_dot)):
                following.add(p)
            elif want == "<":
                following.add(p + 1)
            elif want == ">" and c == "." and not pattern[p:].strip(">"):
                following.add(length)  # at the end of an expression they take one dot
            elif want == "?" or (want == ">" and c != ".") or (want == '"' and c == ".") or want == c:
                following.add(p + 1)
        states = following
        if not states:
            return False
    return length in closed(states, end)
