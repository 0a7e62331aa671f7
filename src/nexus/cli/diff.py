"""`nexus diff PROGRAM|BYTES`: two engines side by side, up to the first thing they do differently."""

from __future__ import annotations

import os

from nexus.base import terminal
from nexus.base.errors import UsageError
from nexus.cli.options import VALUE, Option, help_text, number, parse
from nexus.cli.run_options import RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.machine.twin import TwinVcpu
    from nexus.machine.window import Window

NOT_HERE = ("engine", "stats", "profile")
ENGINES = ("t1", "t2")
OPTIONS = [
    Option("against", VALUE, "what to check against t0: t1 (default) or t2", "t1|t2"),
    Option("states", VALUE, "of bytes: from how many random states (default 100)", "N"),
    Option("seed", VALUE, "of bytes: repeat the states of this seed (default 0)", "N"),
    *(option for option in RUN if option.name not in NOT_HERE),
]
STATES = 100
USAGE = """\
usage: nexus diff [options] PROGRAM [arguments]     runs it on both engines at once, in virtual time
       nexus diff [options] BYTES ...               like 48 01 d8; on the oracle too

Exit code 0 if they agree, whatever the program ends with, 1 if not; the message has both states.
"""


def main(arguments: list[str]) -> int:
    parsed = parse(arguments, OPTIONS, "diff")
    if parsed.flag("help") or not parsed.rest:
        print(f"{USAGE}\n{help_text(OPTIONS)}")
        return 0 if parsed.flag("help") else 2
    against = parsed.value("against") or ENGINES[0]
    if against not in ENGINES:
        raise UsageError(f"--against is {' or '.join(ENGINES)}, not {against!r}")
    if is_code(parsed.rest):
        from nexus.system.diff import diff_bytes
        from nexus.system.show import from_bytes

        text = parsed.value("seed") or "0"
        if not text.isascii() or not text.isdecimal():
            raise UsageError(f"--seed needs a whole number, not {text!r}")
        code = from_bytes(" ".join(parsed.rest)).code
        print(diff_bytes(code, number(parsed, "states") or STATES, int(text), against))
        return 0
    if parsed.value("states") or parsed.value("seed"):
        raise UsageError("--states and --seed go with bytes")
    from nexus.cli.run import execute
    from nexus.machine.native import prepare
    from nexus.machine.twin import Divergence, TwinVcpu

    prepare()
    parsed.lists.setdefault("deterministic", [""])
    vcpus: list[TwinVcpu] = []

    def make(window: Window) -> TwinVcpu:
        vcpus.append(TwinVcpu(window, against))
        return vcpus[-1]

    ended = execute(parsed, cpu=make)
    if any(vcpu.diverged for vcpu in vcpus):
        return Divergence.exit_code
    done = sum(vcpu.instructions for vcpu in vcpus)
    terminal.notice(f"T0 and {against.upper()} agree: {done:,} instructions; the program ended with {ended}")
    return 0


def is_code(words: list[str]) -> bool:
    """Hexadecimal digits, and no file of that name."""
    text = "".join(words).lower().removeprefix("0x").replace(" ", "")
    return bool(text) and not set(text) - set("0123456789abcdef") and not os.path.exists(words[0])
