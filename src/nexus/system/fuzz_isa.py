"""Random instructions on T1 against the host's own processor: `nexus fuzz isa`.

What the host lacks is held against a second meaning of it, the model in `tests/isa/model`. A batch is one
instruction on many states: one call of the host's processor, one translation. One state of each batch also
runs on T0 and on the oracle. The cases of a group are made in chunks, each from its own seed, which worker
processes share: what is compared does not depend on how many there are.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, cast

from iced_x86 import Instruction

from nexus.base.errors import NexusError, Unsupported, UsageError
from nexus.base.folders import CHECKOUT
from nexus.ir.rewrite import rewrite
from nexus.ir.state import SLOTS, STATE_BYTES, Exit
from nexus.isa.x86 import casefile, compare, features, fuzz, native
from nexus.isa.x86.native_stubs import MOST
from nexus.isa.x86.registers import CpuState
from nexus.machine.bare import BareT0, BareT1
from nexus.system.fuzz import Finding

CHUNK = 8192  # cases
DISTINCT = 20_000  # encodings of a group, if there are cases enough
_SHOWN = 5
_TOP = fuzz.BARRED
_EXIT, _ARGUMENT, _PC = SLOTS["exit"], SLOTS["exit_arg"], SLOTS["pc"]
_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)
Sides = dict[str, Callable[[fuzz.Case], compare.Result]]


class EngineSide:
    """T0 or T1 on the cases' memory."""

    def __init__(self, engine: BareT0, memory: bytes) -> None:
        self._engine = engine
        self._memory = memory
        ctypes.memmove(engine.memory, memory, len(memory))
        self._machine = compare.machine_on(memoryview(engine.memory).cast("B"))
        self._entry = 0
        self._placed: Instruction | None = None

    def run(self, case: fuzz.Case) -> compare.Result:
        """The case's block, again as long as the instruction repeats itself."""
        engine = self._engine
        if case.instruction is not self._placed:
            block = compare.block_of(case)
            rewrite(block)
            self._entry, self._placed = engine.place(block), case.instruction
        if case.patches:
            ctypes.memmove(engine.memory, compare.patched(self._memory, case), len(self._memory))
        ctypes.memmove(engine.state, bytes(case.state.buffer), STATE_BYTES)
        slots = engine.slots
        for _ in range(compare.MOST_STEPS):
            engine.start(self._entry)
            if slots[_EXIT] != Exit.LINK or slots[_PC] != case.address:
                break
        address, write = 0, False
        if slots[_EXIT] == Exit.FAULT:
            fault = engine.fault()
            address, write = fault.address, fault.write
        state = CpuState(bytearray(ctypes.string_at(engine.state, STATE_BYTES)))
        outcome = compare.engine_outcome(case, state, address, write, self._machine)
        after = self._memory
        if _memcmp(engine.memory, after, len(after)):
            after = engine.memory.raw
            ctypes.memmove(engine.memory, self._memory, len(after))
        return compare.Result(outcome, state, after, slots[_ARGUMENT])


class Model(Protocol):
    """What `tests/isa/model` gives: the meaning of instructions by the manual."""

    def knows(self, instruction: Instruction) -> bool: ...

    def result(self, case: fuzz.Case, memory: bytes) -> compare.Result: ...

    def accepting(self, case: fuzz.Case, expected: compare.Result, got: compare.Result) -> compare.Result: ...


def second_meaning() -> Model | None:
    """The model, where there is a checkout with tests."""
    tests = os.path.join(CHECKOUT, "tests")
    if not os.path.isdir(os.path.join(tests, "isa", "model")):
        return None
    if tests not in sys.path:
        sys.path.append(tests)
    return cast(Model, importlib.import_module("isa.model"))


class Prover:
    """Everything that cases run on, in this process."""

    def __init__(self) -> None:
        self.memory = fuzz.common_memory()
        try:
            self.host = native.processor(self.memory)
        except native.Unavailable as reason:
            raise Unsupported(f"fuzzing instructions here ({reason})", "nexus fuzz isa") from None
        self.model = second_meaning()
        place = (fuzz.MEMORY, fuzz.MEMORY_SIZE, _TOP)
        self.t0, self.t1 = (EngineSide(engine(*place), self.memory) for engine in (BareT0, BareT1))

    def usable(self, instruction: Instruction) -> bool:
        return self.host.has(instruction) or (self.model is not None and self.model.knows(instruction))

    def by_model(self, case: fuzz.Case) -> Model | None:
        """The model, if it is the reference for the case: where the host lacks the instruction."""
        return None if self.host.has(case.instruction) else self.model

    def oracle(self, case: fuzz.Case) -> compare.Result:
        return compare.run_oracle(case, compare.patched(self.memory, case))

    def expected(self, cases: Sequence[fuzz.Case]) -> list[compare.Result]:
        """What the host does with cases of one instruction, or by the model should."""
        model = self.by_model(cases[0])
        if model is not None:
            return [model.result(case, self.memory) for case in cases]
        patches = [case.patches for case in cases]
        ran = self.host.run_many(cases[0].code, [case.state for case in cases], patches)
        return [compare.of_host(case, one, self.memory) for case, one in zip(cases, ran, strict=True)]

    def wrong(self, case: fuzz.Case, expected: compare.Result, all_engines: bool) -> dict[str, list[str]]:
        """Engine -> what it does otherwise than the reference."""
        sides: Sides = {"t1": self.t1.run}
        if all_engines:
            sides["t0"] = self.t0.run
            if compare.has_oracle(case):
                sides["oracle"] = self.oracle
        model = self.by_model(case)
        out = {}
        for name, run in sides.items():
            got = run(case)
            if model is not None:
                expected = model.accepting(case, expected, got)
            differences = compare.differences(case, expected, got, sticky=name != "oracle")
            if differences:
                out[name] = differences
        return out

    def report(self, case: fuzz.Case, wrong: dict[str, list[str]]) -> tuple[str, str]:
        """A case that differs, made as small as it can be: what differs, and the text of its file."""
        everywhere = "t1" not in wrong

        def differs(smaller: fuzz.Case) -> bool:
            (expected,) = self.expected([smaller])
            return bool(self.wrong(smaller, expected, everywhere))

        small = casefile.minimise(case, differs)
        (expected,) = self.expected([small])
        text = "\n".join(
            f"{engine}: {line}"
            for engine, lines in self.wrong(small, expected, True).items()
            for line in lines
        )
        return f"{small!r}\n{text}", casefile.write(small, expected, text)

    def chunk(
        self, group: str, seed: int, number: int, cases: int, states: int, report: bool = True
    ) -> Found:
        """One chunk of a group's cases, `states` per instruction; without `report`, differences are only
        counted."""
        found = Found()
        rng = random.Random(f"{group} {seed} {number}")
        drawn = fuzz.States(rng)
        codes = features.encodings(group)
        for form in fuzz.random_forms(codes, rng, self.usable):
            if found.cases >= cases:
                break
            batch = [
                case for case in (form.case(drawn) for _ in range(min(states, cases - found.cases))) if case
            ]
            if not batch:
                continue
            found.forms.add(form.code)
            found.cases += len(batch)
            found.by_model += len(batch) if self.by_model(batch[0]) is not None else 0
            checked = rng.randrange(len(batch))
            for index, (case, expected) in enumerate(zip(batch, self.expected(batch), strict=True)):
                wrong = self.wrong(case, expected, index == checked)
                if wrong:
                    found.different += 1
                    if report and len(found.first) < _SHOWN:
                        found.first.append(self.report(case, wrong))
        return found


class Found:
    """What came out of some cases: the distinct instructions in them, and the first that differ."""

    def __init__(self) -> None:
        self.cases = self.different = self.by_model = 0
        self.forms: set[bytes] = set()
        self.first: list[tuple[str, str]] = []

    def add(self, other: Found) -> None:
        self.cases += other.cases
        self.different += other.different
        self.by_model += other.by_model
        self.forms |= other.forms
        self.first += other.first[: _SHOWN - len(self.first)]


def known_groups(names: Sequence[str]) -> list[str]:
    """The groups named, or all; raises UsageError for a name that stands for nothing."""
    known = features.groups()
    for name in names:
        if not features.encodings(name):
            raise UsageError(
                f"no instructions are called {name!r}", hint=f"groups: {', '.join(sorted(known))}"
            )
    return list(names) or sorted(known)


def _states_of(cases: int) -> int:
    """States per instruction: as many as leave DISTINCT instructions and some more; a few at least, since an
    instruction costs a translation."""
    return max(4, min(MOST, 64, cases // (DISTINCT + DISTINCT // 2)))


def fuzz_group(prover: Prover, group: str, cases: int, seed: int, part: int = 0, parts: int = 1) -> Found:
    """Every `parts`-th chunk of a group's cases, in this process."""
    found = Found()
    states = _states_of(cases)
    for number in range(part, -(-cases // CHUNK), parts):
        found.add(prover.chunk(group, seed, number, min(CHUNK, cases - number * CHUNK), states))
    return found


def _in_workers(group: str, cases: int, seed: int, jobs: int) -> Found:
    """The same in several processes, forked before anything is mapped."""
    found = Found()
    pipes = []
    for part in range(jobs):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            status = 1
            try:
                with os.fdopen(writing, "wb") as pipe:
                    pickle.dump(fuzz_group(Prover(), group, cases, seed, part, jobs), pipe)
                status = 0
            except NexusError as error:
                print(f"nexus: {error}", file=sys.stderr)
            finally:
                os._exit(status)
        os.close(writing)
        pipes.append((child, reading))
    failed = 0
    for child, reading in pipes:
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(child, 0)
        failed += status != 0
        if status == 0:
            found.add(pickle.loads(data))
    if failed:
        raise NexusError(f"{failed} of {jobs} workers ended without a result")
    return found


def _save(folder: str, text: str) -> str:
    """Write a case file, named by what is in it."""
    words = next(line for line in text.splitlines() if line.startswith("code ")).split()
    path = os.path.join(folder, f"{words[2]}-{zlib.crc32(text.encode()):08x}.case")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def fuzz_isa(
    groups: Sequence[str], cases: int, seed: int, jobs: int = 1, folder: str | None = None
) -> Iterator[str]:
    """Compare `cases` runs of each group (all groups if none is named); yields a line per group, raises
    Finding at the end if something differed. What differed goes into files of `folder`."""
    found, lines = Found(), []
    for group in known_groups(groups):
        start = time.monotonic()
        one = _in_workers(group, cases, seed, jobs)
        if not one.cases:
            yield f"{group}: not run, neither this processor nor the model has it"
            continue
        rate = one.cases / max(time.monotonic() - start, 1e-3)
        different = f", {one.different} differ" if one.different else ""
        model = f", {one.by_model} by the model" if one.by_model else ""
        yield f"{group}: {one.cases} cases{model}, {len(one.forms)} instructions, {rate:.0f}/s{different}"
        found.add(one)
    if found.different:
        for shown, text in found.first:
            lines.append(f"{shown}\n  -> {_save(folder, text)}" if folder else shown)
        raise Finding(
            "\n".join(lines) + f"\n{found.different} of {found.cases} cases differ from the reference"
        )
