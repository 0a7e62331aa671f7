"""Every row: the handlers that LLVM made from its template against its plain-Python oracle."""

from __future__ import annotations

import random

import pytest

from nexus.backend.interp.records import UNHANDLED, head, variants
from nexus.ir import oracle
from nexus.ir.ops import ROWS, Row
from nexus.ir.ops.table import LOAD, STORE
from nexus.ir.state import SCALAR_SLOTS, SLOTS
from nexus.ir.types import I1, I64, Type
from nexus.ir.values import Block, Value
from t0 import MEMORY_BASE, MEMORY_SIZE, BytesMemory, architectural, shared

COUNTED = (
    "shl",
    "shr",
    "sar",
    "shld",
    "shrd",
    "rol",
    "ror",
    "rcl",
    "rcr",
)  # flags of shifts: counts are masked before
# Only the host defines them, so their handlers are compared with it in tests/isa: approximations and x87
# functions.
HOST_DEFINED = ("v.rcp.", "v.rsqrt.", "x87.sincos.", "mxcsr.round")
HOST_DEFINED += tuple(f"x87.{name}" for name in ("patan", "yl2x", "yl2xp1", "2xm1", "sin", "cos", "tan"))
ELSEWHERE = ("fx.load",)  # an FXSAVE image has bits that must not be set; also in tests/isa
ROUNDS = 12
HANDLED = [row for row in ROWS.values() if head(row) not in (*UNHANDLED, "put", "clear")]
TESTED = [row for row in HANDLED if not row.name.startswith((*HOST_DEFINED, *ELSEWHERE))]
EDGES = (0, 1, 2, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 255)


def scalar(rng: random.Random, bits: int) -> int:
    """Edge values half of the time."""
    chosen = rng.randrange(4)
    if chosen == 0:
        return rng.choice(EDGES) & (1 << bits) - 1
    if chosen == 1:
        return ((1 << rng.randrange(bits)) + rng.randrange(-1, 2)) & (1 << bits) - 1
    return rng.getrandbits(bits)


def in_domain(row: Row, index: int, value: int) -> int:
    """A value for operand `index` that the row is meant for."""
    if row.name == "mxcsr.load":
        return value & 0xFFFF
    parts = row.name.removeprefix("flags.").split(".")
    if (
        parts[0] in COUNTED
        and index == len(row.operands) - 1
        and (row.writes or parts[0] in ("shld", "shrd"))
    ):
        value &= 63 if row.bits == 64 else 31
        return value if "cl" in parts or not row.writes else value or 1
    return value


def surroundings(rng: random.Random, row: Row) -> dict[int, int]:
    """The fields that the row reads, by name or through `$state`."""
    names = (*row.reads, "fcw", "fsw", "ftop", "ftag", "mxcsr") if row.indirect else row.reads
    return {SLOTS[name]: field(rng, name) for name in names}


def operand(rng: random.Random, type: Type) -> int:
    if not type.is_vector:
        return scalar(rng, type.bits)
    lane = rng.choice((8, 16, 32, 64))
    return sum(scalar(rng, lane) << at for at in range(0, type.bits, lane))


def field(rng: random.Random, name: str) -> int:
    """A value that the state's field can have."""
    if name in ("window", "top"):
        return shared().slots[SLOTS[name]]
    if name == "mxcsr":
        return 0x1F80 | rng.choice((0, 0x2000, 0x4000, 0x6000))
    if name == "fcw":
        return (
            rng.choice((0x7F, 0x40 | rng.getrandbits(6)))
            | rng.choice((0, 2, 3)) << 8
            | rng.randrange(4) << 10
        )
    if name == "fsw":
        return rng.getrandbits(16) & 0x477F
    if name == "ftag":
        return rng.getrandbits(8)
    if name in ("cf", "of", "af", "df"):
        return rng.randrange(2)
    if name == "pf":
        return rng.getrandbits(8)
    if name == "ftop":
        return rng.randrange(8)
    if name == "eflags":
        return rng.getrandbits(22) & ~0xCD5
    return scalar(rng, 64)


def build(rng: random.Random, row: Row, state: dict[int, int], constant: bool) -> Block:
    """A block with the one op: operands from r0.. or v0.. (the last perhaps a constant), the result to r8
    or v8."""
    block = Block(0x1000)
    block.mark(0x1000)
    args: list[Value] = []
    imm = 0
    for index, type in enumerate(row.operands):
        value = in_domain(row, index, operand(rng, type))
        pointer = index == 1 and row.name.startswith(("string.copy", "string.compare"))
        if (row.address and index == 0) or pointer:
            value = MEMORY_BASE + rng.randrange(MEMORY_SIZE // 2) * 64 % (MEMORY_SIZE - 8192)
        elif row.address == 2 and index == 1:
            value = rng.randrange(7) * 64
        if constant and index == len(row.operands) - 1 and not type.is_vector:
            args.append(block.const(type, value))
        else:
            state[index + (SCALAR_SLOTS if type.is_vector else 0)] = (
                value | (rng.getrandbits(64) << type.bits if not type.is_vector else 0) & (1 << 64) - 1
            )
            args.append(block.get(type, index))
    if row.address:
        imm = rng.choice((0, 64, 512)) << 2 | (rng.randrange(4) if row.address == 2 else 0)
    elif row.has_imm:
        imm = (
            rng.choice((rng.randrange(256), rng.getrandbits(64))) if row.result is I64 else rng.randrange(256)
        )
        if row.result is not None and head(row) == "const":
            imm &= row.result.mask
    result = block.emit(row.name, *args, imm=imm)
    if row.result is not None:
        block.put(8, result)
    block.exit(14, 0x1004)
    return block


def test_only_what_the_host_defines_has_no_oracle() -> None:
    for row in HANDLED:
        if head(row) != "lea":
            assert (row.oracle is None) == row.name.startswith(HOST_DEFINED), row.name


@pytest.mark.parametrize("row", TESTED, ids=lambda row: row.name)
def test_handler_agrees_with_oracle(row: Row) -> None:
    t0, rng = shared(), random.Random(row.name)
    for round in range(ROUNDS):
        state = surroundings(rng, row)
        block = build(rng, row, state, constant=round % 3 == 2)
        data = rng.randbytes(64) * (MEMORY_SIZE // 64) if row.effect in (LOAD, STORE) else b""
        memory = BytesMemory(data)
        if data:
            t0.memory[:] = data
        found = architectural(t0.run(block, state))
        expected = {
            slot: value & (1 << 64) - 1 if slot < SCALAR_SLOTS else value for slot, value in state.items()
        }
        oracle.run(block, expected, memory)
        assert found == architectural(expected), f"round {round}, from {state}"
        if data:
            assert t0.memory.raw == bytes(memory.data)


@pytest.mark.parametrize(
    "row",
    [r for r in TESTED if any(v.branches and v.second is None for v in variants(r))],
    ids=lambda row: row.name,
)
def test_branch_absorbs_the_condition(row: Row) -> None:
    t0, rng = shared(), random.Random(row.name)
    for round in range(ROUNDS):
        state = surroundings(rng, row)
        block = build(rng, row, state, constant=round % 3 == 2)
        index = next(i for i, op in enumerate(block.ops) if op.row is row)
        condition = block.ops[index]
        del block.ops[index + 1 :]
        if round % 2:
            condition = condition ^ block.const(I1, 1)
        block.branch(condition, 0x2000, 0x3000)
        found = t0.run(block, state)
        expected = dict(state)
        oracle.run(block, expected)
        assert found[SLOTS["pc"]] == expected[SLOTS["pc"]]
        assert found[SLOTS["exit"]] == expected[SLOTS["exit"]]
