"""The blocks in tests/ir/*.ir.

A file holds cases, each begun by a line `; case NAME` and with one of
    ; verify                 the verifier accepts the block
    ; refused: TEXT          it does not, for this reason
    ; becomes PASS ...       the passes turn it into the block after the line `; to`
    ; from NAME=VALUE ...    run with these slots and `; to NAME=VALUE ...`, on the oracle and on T0: these
                             slots are so
`; memory ADDRESS: BYTES` before and `; leaves ADDRESS: BYTES` after are guest memory in hexadecimal.
"""

from __future__ import annotations

import os

import pytest

from nexus.ir import oracle
from nexus.ir.rewrite import PASSES
from nexus.ir.state import SCALAR_SLOTS, SLOTS, Exit
from nexus.ir.text import parse, show
from nexus.ir.verify import Malformed, verify
from t0 import MEMORY_BASE, MEMORY_SIZE, BytesMemory, shared

FOLDER = os.path.join(os.path.dirname(__file__), "..", "..", "ir")


def cases() -> list[tuple[str, list[str]]]:
    """(file and name, lines) of every case."""
    out: list[tuple[str, list[str]]] = []
    for file in sorted(os.listdir(FOLDER)):
        if not file.endswith(".ir"):
            continue
        with open(os.path.join(FOLDER, file), encoding="utf-8") as text:
            for line in text.read().splitlines():
                if line.startswith("; case "):
                    out.append((f"{file}:{line[7:]}", []))
                elif out:
                    out[-1][1].append(line)
    assert out, "no cases"
    return out


def slots(text: str) -> dict[int, int]:
    """`r0=5 v1=0x10 exit=FAULT` as slot numbers and values."""
    out = {}
    for item in text.split():
        name, _, value = item.partition("=")
        slot = SCALAR_SLOTS + int(name[1:]) if name[0] == "v" and name[1:].isdigit() else SLOTS[name]
        out[slot] = getattr(Exit, value) if value.isalpha() else int(value, 0)
    return out


def place(text: str) -> tuple[int, bytes]:
    address, _, data = text.partition(":")
    return int(address, 0) - MEMORY_BASE, bytes.fromhex(data)


def run(lines: list[str], start: str) -> None:
    """A `from` case, on both engines."""
    directives = {
        key: line[len(key) :]
        for line in lines
        for key in ("; to ", "; memory ", "; leaves ")
        if line.startswith(key)
    }
    block = parse("\n".join(lines))
    verify(block)
    data = bytearray(MEMORY_SIZE)
    if "; memory " in directives:
        at, content = place(directives["; memory "])
        data[at : at + len(content)] = content
    expected = slots(directives["; to "])
    memory = BytesMemory(bytes(data))
    by_oracle = slots(start)
    oracle.run(block, by_oracle, memory)
    t0 = shared()
    t0.memory[:] = bytes(data)
    by_t0 = t0.run(block, slots(start))
    if by_t0.get(SLOTS["exit"]) == Exit.FAULT:
        by_t0[SLOTS["pc"]] = t0.code.address_of(by_t0[SLOTS["exit_at"]] - t0.records)
        by_t0[SLOTS["fault_address"]] = t0.engine.fault(t0.state).address
    for engine, found in (("oracle", by_oracle), ("T0", by_t0)):
        assert {slot: found.get(slot, 0) for slot in expected} == expected, engine
    if "; leaves " in directives:
        at, content = place(directives["; leaves "])
        assert memory.data[at : at + len(content)] == content
        assert t0.memory.raw[at : at + len(content)] == content


@pytest.mark.parametrize("case", cases(), ids=lambda case: case[0])
def test_case(case: tuple[str, list[str]]) -> None:
    _, lines = case
    directive = next(line for line in lines if line.startswith("; "))
    if directive == "; verify":
        verify(parse("\n".join(lines)))
    elif directive.startswith("; refused: "):
        with pytest.raises(Malformed, match=directive[11:]):
            verify(parse("\n".join(lines)))
    elif directive.startswith("; becomes "):
        middle = lines.index("; to")
        block = parse("\n".join(lines[:middle]))
        for name in directive[10:].split():
            PASSES[name](block)
        assert show(block) == show(parse("\n".join(lines[middle:])))
    else:
        assert directive.startswith("; from"), f"unknown directive {directive}"
        run(lines, directive[6:])
