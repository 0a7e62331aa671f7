"""Command line options: a table of them, a scan of the arguments, and the help text made from the same table.

Our own scan instead of argparse: `run` must start in milliseconds and everything after the program belongs to
the program, untouched.
"""

from __future__ import annotations

from nexus.base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FLAG, VALUE, OPTIONAL, LIST = "flag", "value", "optional", "list"


class Option:
    """`--name`. VALUE takes the next word or `=value`, OPTIONAL only `=value`, LIST may be repeated.

    OPTIONAL values of several uses are collected, "" standing for the bare option.
    """

    __slots__ = ("doc", "kind", "metavar", "name", "short")

    def __init__(self, name: str, kind: str, doc: str, metavar: str = "", short: str = "") -> None:
        self.name = name
        self.kind = kind
        self.doc = doc
        self.metavar = metavar
        self.short = short


class Parsed:
    """What was given, by option name without dashes; `rest` is what follows the options."""

    __slots__ = ("flags", "lists", "rest", "values")

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.rest: list[str] = []

    def flag(self, name: str) -> bool:
        return name in self.flags

    def value(self, name: str) -> str | None:
        return self.values.get(name)

    def list(self, name: str) -> Sequence[str]:
        return self.lists.get(name, [])


def parse(arguments: Sequence[str], table: Sequence[Option], command: str, *, mixed: bool = False) -> Parsed:
    """Read options up to the first operand (`mixed`: options may also follow operands)."""
    found = Parsed()
    at = 0
    while at < len(arguments):
        word = arguments[at]
        at += 1
        if word == "--":
            found.rest += arguments[at:]
            break
        if len(word) < 2 or not word.startswith("-"):
            found.rest.append(word)
            if not mixed:
                found.rest += arguments[at:]
                break
            continue
        name, equals, value = word.partition("=")
        option = next((o for o in table if name in ("--" + o.name, "-" + o.short if o.short else "")), None)
        if option is None:
            raise unknown(name, table, command)
        if option.kind == FLAG:
            if equals:
                raise UsageError(f"{name} takes no value")
            found.flags.add(option.name)
        elif option.kind == OPTIONAL:
            if equals and not value:
                raise UsageError(f"{name}= needs a value")
            found.lists.setdefault(option.name, []).append(value)
        else:
            if not equals:
                if at >= len(arguments):
                    raise UsageError(f"{name} needs a value: {name} {option.metavar}")
                value = arguments[at]
                at += 1
            if option.kind == VALUE:
                found.values[option.name] = value
            else:
                found.lists.setdefault(option.name, []).append(value)
    return found


def unknown(name: str, table: Sequence[Option], command: str) -> UsageError:
    from difflib import get_close_matches

    names = ["--" + option.name for option in table]
    close = get_close_matches(name, names, 1)
    hint = (
        f"did you mean {close[0]}?"
        if close
        else f"nexus {command} --help lists the options".replace("  ", " ")
    )
    return UsageError(f"unknown option {name}", hint=hint)


def number(parsed: Parsed, name: str) -> int | None:
    """A positive whole number, with K, M or G for powers of 1024."""
    text = parsed.value(name)
    if text is None:
        return None
    shift = {"k": 10, "m": 20, "g": 30}.get(text[-1:].lower(), 0)
    digits = text[:-1] if shift else text
    if not digits.isascii() or not digits.isdecimal() or int(digits) == 0:
        raise UsageError(f"--{name} needs a positive number, not {text!r}")
    return int(digits) << shift


def seconds(parsed: Parsed, name: str) -> float | None:
    """A positive number of seconds; s, m and h may follow it."""
    text = parsed.value(name)
    if text is None:
        return None
    factor = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        value = float(text[:-1] if factor else text) * (factor or 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise UsageError(f"--{name} needs a number of seconds, not {text!r}")
    return value


def help_text(table: Sequence[Option]) -> str:
    """One line per option, its documentation in a second column."""
    lines = []
    for option in table:
        left = "--" + option.name
        if option.kind == OPTIONAL:
            left += f"[={option.metavar}]"
        elif option.metavar:
            left += f" {option.metavar}"
        if option.short:
            left = f"-{option.short}, {left}"
        lines.append(f"  {left:<28} {option.doc}" if len(left) <= 28 else f"  {left}\n{'':31}{option.doc}")
    return "\n".join(lines)
