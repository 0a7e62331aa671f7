"""One Windows command line out of separate arguments.

A Windows program gets a single string and splits it itself. `quote` follows the rules by which
CommandLineToArgvW and the C runtime split, so that what they get is what was given. Programs with rules of
their own (cmd.exe) get `raw`.
"""

from __future__ import annotations

from nexus.base.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 32766
"""UTF-16 units; the string and its end must fit the 16-bit length of a UNICODE_STRING."""


def join(program: str, arguments: Sequence[str], raw: bool = False) -> str:
    """The command line of a program; UsageError when it is longer than Windows allows."""
    first = f'"{program}"' if " " in program or "\t" in program or not program else program
    line = " ".join([first, *(arguments if raw else map(quote, arguments))])
    length = len(line.encode("utf-16-le", "surrogatepass")) // 2
    if length > LONGEST:
        raise UsageError(
            f"the arguments are {length} characters long; Windows allows {LONGEST}",
            hint="many Windows programs read more from a file given as @FILE",
        )
    return line


def quote(argument: str) -> str:
    """One argument; backslashes are doubled only where a quotation mark follows them."""
    if argument and not any(c in argument for c in ' \t\n\v"'):
        return argument
    quoted, backslashes = ['"'], 0
    for character in argument:
        if character == "\\":
            backslashes += 1
            continue
        quoted.append("\\" * (backslashes * 2 + 1 if character == '"' else backslashes))
        quoted.append(character)
        backslashes = 0
    quoted.append("\\" * backslashes * 2 + '"')
    return "".join(quoted)
