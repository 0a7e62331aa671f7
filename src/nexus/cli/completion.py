"""`nexus completion bash|zsh|fish`: tab completion made from the tables of commands and options."""

from __future__ import annotations

from importlib import import_module

from nexus.base.errors import UsageError
from nexus.cli.main import COMMANDS, GLOBAL
from nexus.cli.options import VALUE, Option
from nexus.cli.run_options import RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """\
usage: nexus completion bash   then: nexus completion bash > ~/.local/share/bash-completion/completions/nexus
       nexus completion zsh    then: nexus completion zsh > a folder of $fpath, as _nexus
       nexus completion fish   then: nexus completion fish > ~/.config/fish/completions/nexus.fish"""

BASH = """\
_nexus() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command= at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${{COMP_WORDS[at]}} in -*) ;; *) command=${{COMP_WORDS[at]}}; break ;; esac
    done
    case $command in
        "") COMPREPLY=($(compgen -W "{commands} {options}" -- "$word")) ;;
        run | trace) COMPREPLY=($(compgen -W "{run}" -- "$word") $(compgen -f -- "$word")) ;;
        sysroot) COMPREPLY=($(compgen -W "list add remove path" -- "$word") $(compgen -f -- "$word")) ;;
        cache) COMPREPLY=($(compgen -W "list path clean" -- "$word")) ;;
        completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$word")) ;;
{own}
        *) COMPREPLY=($(compgen -f -- "$word")) ;;
    esac
}}
complete -o filenames -F _nexus nexus"""

ZSH = """\
#compdef nexus
_nexus() {{
    local -a commands=({commands})
    local -a run=({run})
    if (( CURRENT == 2 )); then _describe command commands; return; fi
    case $words[2] in
        run|trace) _describe option run -- ; _files ;;
        sysroot) _values action list add remove path; _files ;;
        cache) _values action list path clean ;;
        completion) _values shell bash zsh fish ;;
{own}
        *) _files ;;
    esac
}}
_nexus "$@\""""


def main(arguments: list[str]) -> int:
    shells = {"bash": bash, "zsh": zsh, "fish": fish}
    if arguments in (["--help"], ["-h"]):
        print(USAGE)
        return 0
    if len(arguments) != 1 or arguments[0] not in shells:
        raise UsageError("name a shell: bash, zsh or fish", hint="nexus completion --help")
    print(shells[arguments[0]]())
    return 0


def own_options() -> dict[str, list[Option]]:
    """The options of the commands that take options and files only."""
    return {
        name: import_module(COMMANDS[name][0]).OPTIONS for name in ("bench", "check", "diff", "show", "test")
    }


def word(option: Option) -> str:
    return f"--{option.name}" + ("=" if option.kind == VALUE else "")


def bash() -> str:
    return BASH.format(
        commands=" ".join(COMMANDS),
        options=" ".join(f"--{option.name}" for option in GLOBAL),
        run=" ".join(map(word, RUN)),
        own="\n".join(
            f'        {name}) COMPREPLY=($(compgen -W "{" ".join(map(word, options))}" -- "$word") '
            '$(compgen -f -- "$word")) ;;'
            for name, options in own_options().items()
        ),
    )


def zsh() -> str:
    def quote(name: str, doc: str) -> str:
        return "'" + (name + ":" + doc.replace(":", "\\:")).replace("'", "'\\''") + "'"

    def options(table: Sequence[Option]) -> str:
        return " ".join(quote(word(option), option.doc) for option in table)

    return ZSH.format(
        commands=" ".join(quote(name, doc) for name, (_, doc) in COMMANDS.items()),
        run=options(RUN),
        own="\n".join(
            f"        {name}) local -a own=({options(table)}); _describe option own -- ; _files ;;"
            for name, table in own_options().items()
        ),
    )


def fish() -> str:
    def quote(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = [
        f"complete -c nexus -n __fish_use_subcommand -f -a {name} -d {quote(doc)}"
        for name, (_, doc) in COMMANDS.items()
    ]
    for commands, option in [
        *(("run trace", option) for option in RUN),
        *((name, option) for name, table in own_options().items() for option in table),
    ]:
        short = f" -s {option.short}" if option.short else ""
        takes = " -r" if option.kind == VALUE else ""
        lines.append(
            f"complete -c nexus -n '__fish_seen_subcommand_from {commands}' -l {option.name}{short}{takes} "
            f"-d {quote(option.doc)}"
        )
    lines += [
        "complete -c nexus -n '__fish_seen_subcommand_from sysroot' -a 'list add remove path'",
        "complete -c nexus -n '__fish_seen_subcommand_from cache' -f -a 'list path clean'",
        "complete -c nexus -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'",
    ]
    return "\n".join(lines)
