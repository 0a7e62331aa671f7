"""The command line: `nexus [options] COMMAND [options] ...`.

`run` is reached by a plain scan of the arguments; every other command's module is imported when it is asked
for.
"""

from __future__ import annotations

import sys

from nexus.base import terminal
from nexus.base.errors import NexusError, UsageError, host_failed
from nexus.cli.options import FLAG, Option, help_text, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = {
    "run": ("nexus.cli.run", "run a Windows program"),
    "trace": ("nexus.cli.trace", "run a program and show its system calls"),
    "check": ("nexus.cli.check", "tell what a program would need that is not there"),
    "sysroot": ("nexus.cli.sysroot", "list, add, remove the Windows DLLs programs run on"),
    "cache": ("nexus.cli.cache", "list and clean what was downloaded"),
    "path": ("nexus.cli.path", "translate between host and Windows paths"),
    "show": ("nexus.cli.show", "show machine code at every stage of its translation"),
    "diff": ("nexus.cli.diff", "run code on both engines until they disagree"),
    "bench": ("nexus.cli.bench", "measure how fast guest code runs, beside native and others"),
    "compute": ("nexus.cli.compute", "tell what computes on this machine, how fast, and what it does now"),
    "doctor": ("nexus.cli.doctor", "tell what works on this machine and what is missing"),
    "fuzz": ("nexus.cli.fuzz", "look for inputs that break the loader or the system calls"),
    "test": ("nexus.cli.test", "run the project's own tests"),
    "completion": ("nexus.cli.completion", "print tab completion for bash, zsh or fish"),
}
GLOBAL = [
    Option("verbose", FLAG, "say more about what nexus does", short="v"),
    Option("quiet", FLAG, "say nothing but errors", short="q"),
    Option("version", FLAG, "print the versions of nexus, Python and the sysroot"),
    Option("help", FLAG, "print this help", short="h"),
]
VARIABLES = """\
  NEXUS_CACHE                  folder of downloads, sysroots and translated code (default ~/.cache/nexus)
  NEXUS_SYSROOT                like --sysroot
  NEXUS_OS_RELEASE             read this file instead of /etc/os-release
  NO_COLOR, FORCE_COLOR        passed on to the program"""


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code. Errors meant for the user are printed as one short text."""
    try:
        return dispatch(arguments)
    except NexusError as error:
        terminal.report_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return die_of_interrupt()
    except BrokenPipeError:
        return end_quietly()
    except OSError as error:
        terminal.report_error(host_failed(error))
        return 125
    except Exception as error:
        return own_bug(error)


def entry() -> None:
    """The installed command."""
    import gc

    from nexus.base import bundle

    gc.set_threshold(50_000)  # what a start makes stays, and was looked through a hundred times
    bundle.install()
    sys.exit(main(sys.argv[1:]))


def dispatch(arguments: list[str]) -> int:
    given = parse(arguments, GLOBAL, "")
    terminal.verbosity = given.flag("verbose") - given.flag("quiet")
    if given.flag("version"):
        from nexus.cli.doctor import print_versions

        return print_versions()
    if given.flag("help") or not given.rest or given.rest[0] == "help":
        print(usage())
        return 0 if given.flag("help") or given.rest else 2
    name, *rest = given.rest
    if name not in COMMANDS:
        raise unknown_command(name)
    from importlib import import_module

    command: Callable[[list[str]], int] = import_module(COMMANDS[name][0]).main
    return command(rest)


def usage() -> str:
    rows = "\n".join(f"  {name:<28} {doc}" for name, (_, doc) in COMMANDS.items())
    return f"""\
usage: nexus [options] COMMAND [options] ...
       nexus run [options] PROGRAM [arguments]    PROGRAM: a path, pypi:NAME or npm:NAME

Runs unmodified Windows programs. Commands (each knows --help):
{rows}

options:
{help_text(GLOBAL)}

environment:
{VARIABLES}"""


def unknown_command(name: str) -> UsageError:
    from difflib import get_close_matches

    if name.lower().endswith(".exe") or name.startswith(("pypi:", "npm:")):
        return UsageError(f"unknown command {name}", hint=f"to run it: nexus run {name}")
    close = get_close_matches(name, COMMANDS, 1)
    return UsageError(
        f"unknown command {name}",
        hint=f"did you mean {close[0]}?" if close else "nexus --help lists the commands",
    )


def own_bug(error: Exception) -> int:
    """An exception nobody expected is a bug of nexus: said as such, with its place; `-v` shows all of it."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    terminal.notice(f"bug in nexus: {type(error).__name__}: {error}{place}")
    if terminal.verbosity > 0:
        terminal.notice("".join(traceback.format_exception(error)))
    else:
        terminal.notice("-> nexus -v shows the whole traceback, which belongs into a bug report")
    return 125


def die_of_interrupt() -> int:
    """End by SIGINT itself, so that a shell sees it."""
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    return 130


def end_quietly() -> int:
    """Whoever read our output is gone: end like any program does by SIGPIPE."""
    import os
    import signal

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    return 141
