"""`nexus fuzz isa|pe|syscalls`: compare instructions with the host's; look for input that makes the loader
or the kernel do what it never may."""

from __future__ import annotations

import os
from collections.abc import Sequence

from nexus.base.errors import UsageError
from nexus.cli.options import FLAG, LIST, VALUE, Option, help_text, number, parse

OPTIONS = [
    Option("cases", VALUE, "how many (default 1000; for syscalls and isa: per system call or group)", "N"),
    Option("seed", VALUE, "repeat the cases of this seed (default: a random one, printed)", "N"),
    Option(
        "group", LIST, "only these instructions: a CPUID feature, a file of semantics or a mnemonic", "NAME"
    ),
    Option("list", FLAG, "print the groups of instructions and how many encodings they have"),
    Option("jobs", VALUE, "processes for instructions (default: one per processor)", "N"),
    Option("save", VALUE, "where files of instructions that differ go (default: here)", "FOLDER"),
    Option("events", LIST, "only these system calls", "NAME", short="e"),
    Option("sysroot", VALUE, "Windows DLLs to use: a version or a path", "VERSION|PATH"),
    Option("help", FLAG, "print this help", short="h"),
]


def main(arguments: list[str]) -> int:
    parsed = parse(arguments, OPTIONS, "fuzz", mixed=True)
    if parsed.flag("help") or not parsed.rest:
        print(
            "usage: nexus fuzz isa [options]\n       nexus fuzz pe [options] [FILE ...]\n"
            "       nexus fuzz syscalls [options]\n"
        )
        print(help_text(OPTIONS))
        return 0 if parsed.flag("help") else 2
    subject, *files = parsed.rest
    if subject not in ("isa", "pe", "syscalls") or (files and subject != "pe"):
        raise UsageError(f"nexus fuzz cannot {' '.join(parsed.rest)}", hint="nexus fuzz --help")
    if parsed.flag("list"):
        _list_groups()
        return 0
    from nexus.system import fuzz, sysroot

    cases = number(parsed, "cases") or 1000
    text = parsed.value("seed")
    if text is not None and not text.isdecimal():
        raise UsageError(f"--seed needs a whole number, not {text!r}")
    seed = int(text) if text is not None else int.from_bytes(os.urandom(4), "little")
    try:
        if subject == "isa":
            jobs = number(parsed, "jobs") or len(os.sched_getaffinity(0))
            _isa(parsed.list("group"), cases, seed, jobs, parsed.value("save") or ".")
        elif subject == "pe":
            from nexus.system import fuzz_pe

            found = sysroot.find(parsed.value("sysroot"))
            started = fuzz_pe.fuzz_pe(found, fuzz_pe.read_programs(found, files), cases, seed)
            print(f"{started} mutants were started")
        else:
            from nexus.cli.trace import chosen
            from nexus.nt.syscall import SYSCALLS

            names = chosen(",".join(parsed.list("events"))) if parsed.list("events") else SYSCALLS
            found = sysroot.find(parsed.value("sysroot"))
            fuzz.fuzz_syscalls(found, cases, seed, sorted(names))
    except fuzz.Finding as finding:
        print(finding)
        return 1
    print(f"{cases} cases of seed {seed}: nothing found")
    return 0


def _list_groups() -> None:
    from nexus.isa.x86 import features

    for name, codes in sorted(features.groups().items()):
        print(f"{name:24}{len(codes):5} encodings")


def _isa(groups: Sequence[str], cases: int, seed: int, jobs: int, folder: str) -> None:
    from nexus.system.fuzz_isa import fuzz_isa

    for line in fuzz_isa(groups, cases, seed, jobs, folder):
        print(line, flush=True)
