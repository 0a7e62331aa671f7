"""Cases as text: what `nexus fuzz isa` writes down when engine and host differ, and what tests run again.

One line per fact; registers that are as in a fresh thread are left out, numbers are hexadecimal:

    code 480fafc3 imul rax,rbx
    before rax=5 rbx=7 zmm3=...
    memory 10008=0011223344556677
    end exit=0 pc=51004 address=0 write=0
    after rax=23 eflags=a46
    stored 10010=0000000000000001

`memory` is what is written over `fuzz.common_memory` before, `after` and `stored` are the registers and the
quadwords of memory that the host's processor left otherwise than they were.
"""

from __future__ import annotations

from nexus.base.errors import NexusError
from nexus.ir.state import FIRST_X87, VECTOR_BYTES, VECTOR_OFFSET
from nexus.isa.x86 import registers as r
from nexus.isa.x86.compare import Result, patched
from nexus.isa.x86.decode import decode
from nexus.isa.x86.fuzz import AT, MEMORY, MEMORY_SIZE, Case, accesses, common_memory, within
from nexus.isa.x86.native import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_SLOTS = {"ftag": r.FTAG, **{f"k{n}": r.K0 + n for n in range(r.MASKS)}}
_SCALARS = (*r.GPR_NAMES, "eflags", "mxcsr", "fcw", "fsw", "gs_base", "rip")
_VECTORS = {f"zmm{n}": VECTOR_OFFSET + n * VECTOR_BYTES for n in range(r.VECTORS)}
_X87 = {f"fpr{n}": VECTOR_OFFSET + (FIRST_X87 + n) * VECTOR_BYTES for n in range(8)}  # physical
_WIDE = {**_VECTORS, **_X87}


def _registers(state: r.CpuState) -> dict[str, int]:
    out = {name: getattr(state, name) for name in _SCALARS}
    out |= {name: state.slots[slot] for name, slot in _SLOTS.items()}
    for name, at in _WIDE.items():
        out[name] = int.from_bytes(state.buffer[at : at + VECTOR_BYTES], "little")
    return out


def _set(state: r.CpuState, name: str, value: int) -> None:
    if name in _WIDE:
        at = _WIDE[name]
        state.buffer[at : at + VECTOR_BYTES] = value.to_bytes(VECTOR_BYTES, "little")
    elif name in _SLOTS:
        state.slots[_SLOTS[name]] = value
    else:
        setattr(state, name, value)


def _fresh() -> r.CpuState:
    state = r.CpuState()
    state.reset()
    state.rip = AT
    return state


def _changes(before: dict[str, int], after: dict[str, int]) -> str:
    return " ".join(f"{name}={value:x}" for name, value in after.items() if value != before[name])


def write(case: Case, expected: Result, comment: str) -> str:
    """The text of a case and of what the host made of it."""
    memory = common_memory()
    before, after = _registers(case.state), _registers(expected.state)
    end = expected.outcome
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [
        f"code {case.code.hex()} {case.instruction}",
        f"before {_changes(_registers(_fresh()), before)}",
    ]
    lines += [f"memory {at:x}={data.hex()}" for at, data in case.patches]
    lines.append(f"end exit={end.exit:x} pc={end.pc:x} address={end.address:x} write={end.write:x}")
    lines.append(f"after {_changes(before, after)}")
    start = patched(memory, case)
    for at in range(0, MEMORY_SIZE, 8):
        if expected.memory[at : at + 8] != start[at : at + 8]:
            lines.append(f"stored {MEMORY + at:x}={expected.memory[at : at + 8].hex()}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def read(text: str) -> tuple[Case, Result]:
    """A case and what has to come out of it; raises NexusError for a text that is none."""
    case: Case | None = None
    expected: Result | None = None
    memory = bytearray(common_memory())
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if not line or word == "#":
            continue
        if word == "code":
            code = bytes.fromhex(rest.partition(" ")[0])
            case = Case(code, decode(code, AT), _fresh())
            continue
        pairs = [(name, value) for name, _, value in (field.partition("=") for field in rest.split())]
        if case is None or word not in ("before", "memory", "end", "after", "stored"):
            raise NexusError(f"no line of a case: {line!r}")
        if word == "before":
            for name, value in pairs:
                _set(case.state, name, int(value, 16))
        elif word in ("memory", "stored"):
            for name, value in pairs:
                at, data = int(name, 16), bytes.fromhex(value)
                memory[at - MEMORY : at - MEMORY + len(data)] = data
                if word == "memory":
                    case.patches.append((at, data))
        elif word == "end":
            end = {name: int(value, 16) for name, value in pairs}
            outcome = Outcome(end["exit"], end["pc"], end["address"], bool(end["write"]))
            expected = Result(outcome, r.CpuState(bytearray(case.state.buffer)), b"")
        elif expected is not None:
            for name, value in pairs:
                _set(expected.state, name, int(value, 16))
    if case is None or expected is None:
        raise NexusError("a case needs at least the lines `code`, `before` and `end`")
    expected.memory = bytes(memory)
    return case, expected


def minimise(case: Case, differs: Callable[[Case], bool]) -> Case:
    """A case that still differs and has as few registers and patches other than a fresh thread's as
    possible."""
    fresh = _registers(_fresh())
    for name in _registers(case.state):
        for value in (fresh[name], 1):
            smaller = copy_of(case)
            _set(smaller.state, name, value)
            if all(within(access) for access in accesses(smaller)) and differs(smaller):
                case = smaller
                break
    for patch in list(case.patches):
        smaller = copy_of(case)
        smaller.patches.remove(patch)
        if differs(smaller):
            case = smaller
    return case


def copy_of(case: Case) -> Case:
    """The same case again, to be changed."""
    copied = Case(case.code, case.instruction, r.CpuState(bytearray(case.state.buffer)))
    copied.patches = list(case.patches)
    return copied
