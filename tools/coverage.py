"""Writes docs/coverage.md: every mnemonic of 64-bit user mode, its forms, where it runs, what proves it.

    PYTHONPATH=src python tools/coverage.py [--check]

Everything comes from tables: the semantics, the features, the masks, the list of what is refused, and
`tests/isa/proven.toml`, which says what was compared with which processor.
"""

from __future__ import annotations

import random
import sys
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

from iced_x86 import Code, EncodingKind, Instruction, OpCodeInfo

from nexus.isa.x86 import compare, fuzz
from nexus.isa.x86.features import ENCODINGS, features_of, group_of, names
from nexus.isa.x86.masks import NOT_COMPARED
from nexus.isa.x86.semantics import SEMANTICS, refused

ROOT = Path(__file__).parent.parent
PAGE, PROVEN = ROOT / "docs" / "coverage.md", ROOT / "tests" / "isa" / "proven.toml"
GCC = ROOT / "tests" / "gcc" / "passed.txt"
_HEAD = """\
# Which instructions there are, and what proves them

Written by `tools/coverage.py` from the tables; a test fails when it is out of date. Mnemonics and encodings
are those iced-x86 knows for 64-bit user mode, by the CPUID feature they need.

Every engine is made from the same rows (`ir/ops`), so an instruction that is there is there on T0 and on T1.
**oracle**: the plain-Python meaning of the rows exists for all forms (yes), for some, or for none, where the
result is defined by the host's unit or by what the host does in Python (`isa/x86/helpers.py`).

Proven by **silicon**: random operands and states on T1 (and, for a part, T0 and the oracle) against the
host's processor, `nexus fuzz isa`, without a difference; the runs are listed first. By **model**: against a
second, test-only model. By **GCC**: one of GCC's run tests is named after it and passes. By **tests**: in
`tests/isa`, for what cannot be compared, with the reason. **not**: by nothing but use.
"""
_ABSENT = {
    **dict.fromkeys(
        ("FINIT", "FCLEX", "FSTCW", "FSTSW", "FSTENV", "FSAVE"), "WAIT and the FN form, two instructions"
    ),
    **dict.fromkeys(
        ("FENI", "FDISI", "FSETPM", "FNENI", "FNDISI", "FNSETPM"), "8087 and 80287 only; decoded as nothing"
    ),
}


@cache
def passed_by_gcc() -> frozenset[str]:
    """Mnemonics that one of GCC's tests is named after and passes for."""
    return frozenset(GCC.read_text(encoding="ascii").split()) if GCC.exists() else frozenset()


def oracle_of(codes: list[int]) -> str:
    """Whether the oracle has all rows of some forms of these encodings."""
    rng = random.Random(1)
    states = fuzz.States(rng)
    found = []
    for code in codes:
        form = next(fuzz.random_forms([code], rng), None)
        case = form.case(states) if form is not None else None
        if case is not None:
            case.state.mxcsr, case.state.fcw = 0x1F80, 0x37F
            found.append(compare.has_oracle(case))
    return "yes" if found and all(found) else "some" if any(found) else "-"


def proof(name: str, group: str, proven: dict[str, dict[str, object]]) -> str:
    if name in NOT_COMPARED:
        return f"tests: {NOT_COMPARED[name]}"
    found = [kind for kind in ("silicon", "model") if group in proven.get(kind, {})]
    if group in proven["manual"]:
        found.append(f"tests: by hand from the manual, {proven['manual'][group]}")
    if name in passed_by_gcc():
        found.append("GCC")
    return ", ".join(found) or "not"


def every_code() -> dict[int, list[int]]:
    """mnemonic -> its encodings in 64-bit user mode, of every kind that iced knows."""
    out = defaultdict(list)
    for name, code in vars(Code).items():
        if name.isupper() and isinstance(code, int):
            info = OpCodeInfo(code)
            if info.mode64 and info.cpl3 and info.is_instruction:
                out[info.mnemonic].append(code)
    return out


def reason(code: int) -> str | None:
    instruction = Instruction()
    instruction.code = code
    return refused.reason(instruction)


def page() -> str:
    proven = tomllib.loads(PROVEN.read_text(encoding="utf-8"))
    known = names()
    rows: dict[str, list[str]] = defaultdict(list)
    absent: dict[str, list[str]] = defaultdict(list)
    missing: dict[str, list[str]] = defaultdict(list)
    done = total = 0
    for mnemonic, codes in sorted(every_code().items(), key=lambda item: known[item[0]]):
        name = known[mnemonic]
        there = defaultdict(list)
        for code in codes:
            total += 1
            if mnemonic in SEMANTICS and OpCodeInfo(code).encoding in ENCODINGS and not reason(code):
                there[group_of(code)].append(code)
                done += 1
            elif name in _ABSENT:
                absent[_ABSENT[name]].append(name)
            elif reason(code):
                absent[reason(code) or ""].append(name)
            elif OpCodeInfo(code).encoding == EncodingKind.MVEX:
                absent[refused.REASONS["KNC"]].append(name)
            else:
                missing["+".join(features_of(code))].append(name)
        for group, found in there.items():
            rows[group].append(
                f"| {name} | {len(found)} | {oracle_of(found)} | {proof(name, group, proven)} |"
            )
    parts = [_HEAD, f"{done} of {total} encodings have semantics."]
    command = proven["processor"]["command"]
    for kind, what in (("silicon", proven["processor"]["name"]), ("model", "What that processor lacks")):
        parts += ["", f"## Runs against {'the ' * (kind == 'model')}{kind}", "", f"{what}: {command}", ""]
        parts += ["| group | cases | distinct instructions | seed | differences |", "|---|--:|--:|--:|--:|"]
        for group, run in sorted(proven[kind].items()):
            numbers = f"{run['cases']:,} | {run['instructions']:,} | {run['seed']}"
            parts.append(f"| {group} | {numbers} | 0 |")
    for group in sorted(rows):
        parts += ["", f"## {group}", "", "| mnemonic | forms | oracle | proven by |", "|---|--:|---|---|"]
        parts += rows[group]
    parts += ["", "## Refused: #UD, and why", ""]
    parts += [f"- {why}: {' '.join(sorted(set(found)))}" for why, found in sorted(absent.items())]
    parts += ["", "## Missing", ""]
    parts += [f"- {group}: {' '.join(sorted(set(found)))}" for group, found in sorted(missing.items())] or [
        "nothing"
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != text:
            print("docs/coverage.md is out of date: run tools/coverage.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
