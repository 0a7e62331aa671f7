"""`nexus show BYTES|EXE!SYMBOL`: machine code at every stage of its translation."""

from __future__ import annotations

import os
import sys

from nexus.base.errors import Unsupported, UsageError
from nexus.cli.options import FLAG, VALUE, Option, help_text, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus.machine.stages import Line
    from nexus.system.show import Piece, Shown

OPTIONS = [
    Option("function", FLAG, "the whole function, not just its first block"),
    Option("at", VALUE, "the address of bytes (default 0x1000)", "ADDRESS"),
    Option("arch", VALUE, "what the code is for: x86 (64 bits), so far the only one", "x86"),
    Option("json", FLAG, "print it as JSON"),
    Option("sysroot", VALUE, "Windows DLLs to look into: a version or a path", "VERSION|PATH"),
    Option("help", FLAG, "print this help", short="h"),
]
USAGE = """\
usage: nexus show [options] BYTES ...          like 48 01 d8
       nexus show [options] EXE!SYMBOL         an exported function; EXE: a path, a package, a DLL of Wine
       nexus show [options] EXE!0xADDRESS      as linked; EXE!+0xOFFSET from its base, EXE for its entry
"""
VERSION = 1
HEADING, DIM, NAME, PLAIN = "\x1b[1;36m", "\x1b[2m", "\x1b[33m", "\x1b[0m"


def main(arguments: list[str]) -> int:
    parsed = parse(arguments, OPTIONS, "show", mixed=True)
    if parsed.flag("help") or not parsed.rest:
        print(f"{USAGE}\n{help_text(OPTIONS)}")
        return 0 if parsed.flag("help") else 2
    architecture = parsed.value("arch") or "x86"
    if architecture != "x86":
        raise UsageError(f"--arch is x86, not {architecture!r}")
    from nexus.system import show

    what = " ".join(parsed.rest)
    if "!" in what or os.path.isfile(what) or what.lower().endswith((".exe", ".dll")):
        if parsed.value("at") is not None:
            raise UsageError("--at goes with bytes; a file has its own addresses")
        piece = show.from_image(what, parsed.value("sysroot"), parsed.flag("function"))
    else:
        piece = show.from_bytes(what, address(parsed.value("at")))
    shown = show.translate(piece)
    if parsed.flag("json"):
        import json

        print(json.dumps(values(piece, shown), indent=1))
    else:
        print("\n".join(lines(piece, shown, wants_colour())))
    missing = [line for one in shown.blocks for line in one.missing]
    if missing:
        names = "; ".join(dict.fromkeys(f"`{line.text}` ({line.code.hex(' ')})" for line in missing))
        raise Unsupported(names, f"{missing[0].at:#x}", "src/nexus/isa/x86/semantics/")
    return 0


def address(text: str | None) -> int:
    from nexus.system.show import BASE

    if text is None:
        return BASE
    try:
        return int(text, 16) & (1 << 64) - 1
    except ValueError:
        raise UsageError(f"--at needs an address, not {text!r}", hint="like 0x140001000") from None


def wants_colour() -> bool:
    """On a terminal; NO_COLOR and FORCE_COLOR decide otherwise."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def lines(piece: Piece, shown: Shown, colour: bool) -> Iterator[str]:
    """Everything as text; a rewrite that changed nothing is only named."""

    def paint(code: str, text: str) -> str:
        return f"{code}{text}{PLAIN}" if colour and text else text

    yield paint(HEADING, piece.name)
    for stages in shown.blocks:
        yield ""
        yield paint(HEADING, f"block {stages.block.start:#x}")
        for line in stages.instructions:
            yield f"  {paint(DIM, f'{line.at:#x}')}  {line.code.hex(' '):<30} {line.text}"
        yield paint(HEADING, "IR")
        yield from body(stages.ir)
        before = stages.ir
        for name, after in stages.rewrites:
            same = after == before
            yield paint(HEADING, f"after {name}" + (": the same" if same else ""))
            if not same:
                yield from body(after)
            before = after
        yield paint(HEADING, "T0 records")
        for line in stages.records:
            yield f"  {paint(DIM, f'+{line.at:03x}')}  {line.text.rstrip()}"
        size = sum(len(line.code) for line in stages.native)
        yield paint(HEADING, f"T1 host code, {size} bytes" if stages.native else f"no T1: {stages.why}")
        for line in stages.native:
            if line.record:
                yield f"  {paint(NAME, f'; {line.record}')}"
            yield f"  {paint(DIM, f'{line.at:4x}')}  {line.code.hex():<22} {line.text}"

    size = sum(len(line.code) for line in shown.region)
    yield ""
    yield paint(HEADING, f"T2 compiled code, {size} bytes" if shown.region else f"no T2: {shown.why}")
    for line in shown.region:
        yield f"  {paint(DIM, f'{line.at:4x}')}  {line.code.hex():<22} {line.text}"


def body(text: str) -> list[str]:
    """The IR's lines without the block's own first and last."""
    return ["  " + line for line in text.splitlines()[1:-1]]


def values(piece: Piece, shown: Shown) -> dict[str, object]:
    """The same as plain values; addresses are hexadecimal strings."""

    def code(line: Line) -> dict[str, object]:
        return {"address": f"{line.at:#x}", "bytes": line.code.hex(), "text": line.text}

    return {
        "version": VERSION,
        "arch": "x86",
        "what": piece.name,
        "blocks": [
            {
                "address": f"{stages.block.start:#x}",
                "end": f"{stages.block.end:#x}",
                "instructions": [code(line) for line in stages.instructions],
                "missing": [code(line) for line in stages.missing],
                "ir": stages.ir,
                "rewrites": [{"name": name, "ir": after} for name, after in stages.rewrites],
                "t0": [{"offset": line.at, "text": " ".join(line.text.split())} for line in stages.records],
                "t1": [{**code(line), "record": line.record} for line in stages.native],
                "no_t1": stages.why,
            }
            for stages in shown.blocks
        ],
        "t2": [code(line) for line in shown.region],
        "no_t2": shown.why,
    }
