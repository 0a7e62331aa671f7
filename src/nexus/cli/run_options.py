"""The options of `run`, shared with `trace`, and what they mean."""

from __future__ import annotations

import os

from nexus.base.errors import UsageError
from nexus.cli.options import FLAG, LIST, OPTIONAL, VALUE, Option, Parsed, number, seconds
from nexus.system.permissions import NetRule, Permissions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RUN = [
    Option("allow-read", OPTIONAL, "let the program read these files and folders", "PATH,..."),
    Option("allow-write", OPTIONAL, "let it read and write them", "PATH,..."),
    Option("allow-net", OPTIONAL, "let it use the network, or only these hosts", "HOST[:PORT],..."),
    Option("allow-all", FLAG, "all of the three above", short="A"),
    Option("deny-read", LIST, "hide these from it whatever is allowed", "PATH,..."),
    Option("deny-write", LIST, "keep these unchanged whatever is allowed", "PATH,..."),
    Option("deny-net", LIST, "keep these hosts away whatever is allowed", "HOST[:PORT],..."),
    Option("isolated", FLAG, "show it its own folder only, not the current one"),
    Option("drive", VALUE, "keep its C: in this folder (default: thrown away)", "DIR"),
    Option("cwd", VALUE, "start in this folder instead of the current one", "DIR"),
    Option("env", LIST, "pass an environment variable", "NAME[=VALUE]"),
    Option("env-all", FLAG, "pass the whole environment"),
    Option("timeout", VALUE, "end it after this time (exit code 124)", "SECONDS"),
    Option("memory", VALUE, "most memory it may use (default: half of the machine's)", "BYTES[K|M|G]"),
    Option("disk", VALUE, "most it may write to disk (default 4G)", "BYTES[K|M|G]"),
    Option("processes", VALUE, "most processes at a time (default 256)", "N"),
    Option("handles", VALUE, "most handles per process (default 65536)", "N"),
    Option("deterministic", OPTIONAL, "virtual time, seeded randomness, one CPU", "SEED"),
    Option("cpu", VALUE, "the processor that CPUID describes: baseline, x86-64-v3, zen3, ...", "NAME"),
    Option("engine", VALUE, "t0 interprets, t1 has host code too (default), t2 compiled regions", "t0|t1|t2"),
    Option("sysroot", VALUE, "Windows DLLs to use: a version or a path", "VERSION|PATH"),
    Option("report", VALUE, "write what happened as JSON", "FILE"),
    Option("stats", FLAG, "say at the end what the engine did: instructions, blocks, exits, times"),
    Option("profile", OPTIONAL, "write where guest code spends its time, for Speedscope", "FILE"),
    Option("raw-cmdline", FLAG, "join the arguments with spaces, unquoted (cmd-style programs)"),
    Option("wine-debug", OPTIONAL, "show debug messages of Wine's DLLs", "CHANNELS"),
    Option("refresh", FLAG, "look for a newer version of the package"),
    Option("offline", FLAG, "use only what was downloaded before"),
    Option("verbose", FLAG, "say more about what nexus does", short="v"),
    Option("quiet", FLAG, "say nothing but errors", short="q"),
    Option("help", FLAG, "print this help", short="h"),
]

PROFILE = "nexus.speedscope.json"
ENGINES = ("t0", "t1", "t2")
PASSED = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "TZ", "CI")


class Limits:
    """What one run may use; None stands for the default of the machine."""

    __slots__ = ("disk", "handles", "memory", "processes", "timeout")

    def __init__(self, parsed: Parsed) -> None:
        self.timeout = seconds(parsed, "timeout")
        self.memory = number(parsed, "memory")
        self.disk = number(parsed, "disk")
        self.processes = number(parsed, "processes")
        self.handles = number(parsed, "handles")


def permissions(parsed: Parsed) -> Permissions:
    """The grants of the command line."""
    every = parsed.flag("allow-all")
    if every and parsed.flag("isolated"):
        raise UsageError("--isolated and --allow-all exclude each other")
    net = [NetRule.parse(text) for text in items(parsed.list("allow-net"), "*")]
    return Permissions(
        read=["/"] if every else paths(parsed.list("allow-read")),
        write=["/"] if every else paths(parsed.list("allow-write")),
        deny_read=paths(parsed.list("deny-read")),
        deny_write=paths(parsed.list("deny-write")),
        net=[NetRule.parse("*")] if every else net,
        deny_net=[NetRule.parse(text) for text in items(parsed.list("deny-net"), "*")],
        isolated=parsed.flag("isolated"),
    )


def items(given: Sequence[str], everything: str) -> list[str]:
    """Comma-separated values of all uses of an option; the bare option means everything."""
    return [item for text in given for item in (text.split(",") if text else [everything]) if item]


def paths(given: Sequence[str]) -> list[str]:
    return [os.path.abspath(path) for path in items(given, "/")]


def environment(parsed: Parsed) -> dict[str, str]:
    """The host variables the guest gets besides the ones Windows has by itself."""
    if parsed.flag("env-all"):
        chosen = dict(os.environ)
    else:
        chosen = {name: os.environ[name] for name in PASSED if name in os.environ}
    for text in parsed.list("env"):
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--env needs NAME or NAME=VALUE, not {text!r}")
        if equals:
            chosen[name] = value
        elif name in os.environ:
            chosen[name] = os.environ[name]
        else:
            raise UsageError(
                f"--env {name}: there is no such variable here", hint=f"give a value: --env {name}=VALUE"
            )
    return chosen


def engine(parsed: Parsed) -> str | None:
    """The name of the engine, None for the best that the host can run."""
    name = parsed.value("engine")
    if name is not None and name not in ENGINES:
        raise UsageError(f"--engine is {' or '.join(ENGINES)}, not {name!r}")
    return name


def cpu(parsed: Parsed) -> str | None:
    """The name of the processor, None for one with everything that is implemented."""
    name = parsed.value("cpu")
    if name is not None:
        from nexus.system.windows import named_cpu

        named_cpu(name)
    return name


def profile(parsed: Parsed) -> str | None:
    """The file of the profile, None for none."""
    given = parsed.list("profile")
    return (given[-1] or PROFILE) if given else None


def seed(parsed: Parsed) -> int | None:
    """The seed of a deterministic run, None for an ordinary one."""
    given = parsed.list("deterministic")
    if not given:
        return None
    text = given[-1] or "0"
    if not text.isascii() or not text.isdecimal():
        raise UsageError(f"--deterministic needs a whole number, not {text!r}")
    return int(text)


def wine_debug(parsed: Parsed) -> bytes | None:
    """The table of debug channels, None for silence."""
    given = parsed.list("wine-debug")
    if not given:
        return None
    from nexus.system.wine_debug import debug_options

    return debug_options(",".join(given))
