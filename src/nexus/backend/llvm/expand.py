"""A row's template as LLVM text inside a function that an engine is writing.

The engine says where operands come from; this module gives locals unique names, resolves the placeholders
of `ir/ops/table.py`, and collects the declarations of the intrinsics that the text calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from nexus.ir.ops.table import Row

_PLACEHOLDER = re.compile(r"\$(new\.)?([a-z][a-z0-9_]*)")
_LOCAL = re.compile(r"%([A-Za-z_][A-Za-z0-9_.]*)")
_CALL = re.compile(r"call (?:[a-z]+ )*?([^@\n]+?) (@llvm\.[A-Za-z0-9_.]+)\(([^\n]*)\)")
_OPERANDS = "abcefgh"  # $d is the result


class Expansion:
    """The text of one row in place: `lines`, the result's name, and the new value of each field it writes."""

    __slots__ = ("lines", "new", "result")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.result = ""
        self.new: dict[str, str] = {}


def expand(
    row: Row, prefix: str, operands: list[str], immediate: str, pointer: str, field: Callable[[str], str]
) -> Expansion:
    """Expand `row`; locals get `prefix`. `operands` name values of the row's types, `immediate` an i64,
    `pointer` a typed pointer (`ptr %x`) or, for `lea`, an i64; `field(name)` gives a state field as i64."""
    out = Expansion()
    bound = dict(zip(_OPERANDS, operands, strict=False))

    def placeholder(match: re.Match[str]) -> str:
        new, name = match.groups()
        if new:
            if name not in row.writes:
                raise ValueError(f"{row.name}: $new.{name} is not listed in writes")
            out.new[name] = f"%{prefix}new.{name}"
            return out.new[name]
        if name == "d":
            out.result = f"%{prefix}d"
            return out.result
        if name == "state":
            return "%state"
        if name == "imm" and immediate:
            return immediate
        if name == "p" and pointer:
            return pointer
        if name in bound:
            return bound[name]
        if name in row.reads:
            return field(name)
        raise ValueError(f"{row.name}: placeholder ${name} means nothing here")

    for line in row.template.splitlines():
        line = line.strip()
        if line:
            pieces = line.split('"')  # the odd ones are strings: inline assembly
            for index in range(0, len(pieces), 2):
                pieces[index] = _PLACEHOLDER.sub(placeholder, _LOCAL.sub(rf"%{prefix}t.\1", pieces[index]))
            line = '"'.join(pieces)
            out.lines.append(line[1:] if line.endswith(":") else line)  # labels are defined without the %
    if (row.result is not None) != bool(out.result):
        raise ValueError(f"{row.name}: the template and the signature disagree about a result")
    missing = [name for name in row.writes if name not in out.new]
    if missing:
        raise ValueError(f"{row.name}: the template does not define {', '.join(missing)}")
    return out


def declarations(text: str) -> str:
    """One declaration for each intrinsic called in `text`."""
    found: dict[str, str] = {}
    for result, name, arguments in _CALL.findall(text):
        types = ", ".join(_argument_type(a) for a in _split(arguments) if a)
        declaration = f"declare {result} {name}({types})"
        if found.setdefault(name, declaration) != declaration:
            raise ValueError(f"{name} is called with two signatures: {found[name]} and {declaration}")
    return "\n".join(found.values()) + "\n"


def _split(arguments: str) -> list[str]:
    """Split at the commas outside brackets, up to the closing parenthesis of the call."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(arguments):
        if char in "<([{":
            depth += 1
        elif char in ">)]}":
            if depth == 0:
                arguments = arguments[:index]
                break
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(arguments[start:index].strip())
            start = index + 1
    parts.append(arguments[start:].strip())
    return parts


def _argument_type(argument: str) -> str:
    """The type at the front of `i32 %x`, `<4 x float> zeroinitializer`, `<2 x i64> <i64 0, i64 1>`, `ptr
    align 1 %p`."""
    if argument[0] not in "<[{":
        return argument.split()[0]
    depth = 0
    for index, char in enumerate(argument):
        depth += (char in "<[{") - (char in ">]}")
        if depth == 0:
            return argument[: index + 1]
    raise ValueError(f"cannot read the type of {argument!r}")
