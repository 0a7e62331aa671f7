"""Stencils: every row against the oracle with its operands anywhere, what the build refuses, and other
registers."""

from __future__ import annotations

import fcntl
import os
import random
from pathlib import Path

import pytest
from iced_x86 import Decoder

from nexus.backend.interp.records import variants
from nexus.backend.stencils import engine
from nexus.backend.stencils.build import violations
from nexus.backend.stencils.layout import IMMEDIATE_BIAS, PIN_REGISTERS
from nexus.backend.stencils.registers import placed, substitute
from nexus.backend.stencils.tidy import tidy
from nexus.ir import oracle
from nexus.ir.ops import ROWS, Row
from nexus.ir.ops.table import LOAD, STORE
from nexus.ir.state import SCALAR_SLOTS, SLOTS
from nexus.ir.types import I64
from nexus.ir.values import Block, Value
from random_block import random_block
from t0 import MEMORY_SIZE, BytesMemory, architectural
from t1 import shared
from unit.backend import test_random_blocks, test_rows

QUAD = (1 << 64) - 1
ROUNDS = 16


def moved(block: Block, slots: dict[int, int]) -> Block:
    """The same block with its operands and result in other slots."""
    out = Block(block.start)
    values: dict[Value, Value] = {}
    marks = dict(block.marks)
    for index, op in enumerate(block.ops):
        if index in marks:
            out.mark(marks[index])
        args = [values[arg] for arg in op.args]
        imm = op.imm
        if op.row.name.startswith(("get.i", "put.i")):
            imm = slots.get(imm, imm)
        values[op] = out.emit(op.row.name, *args, imm=imm)
    return out


@pytest.mark.parametrize("row", test_rows.TESTED, ids=lambda row: row.name)
def test_stencil_agrees_with_oracle(row: Row) -> None:
    t1, rng = shared(), random.Random(row.name)
    named = {SLOTS[name] for name in (*row.reads, *row.writes)}
    for round in range(ROUNDS):
        chosen = rng.sample([slot for slot in range(16) if slot not in named], 4)
        slots = {0: chosen[0], 1: chosen[1], 2: chosen[2], 3: chosen[3], 8: rng.choice(chosen)}
        inner: dict[int, int] = {}
        block = moved(test_rows.build(rng, row, inner, constant=round % 3 == 2), slots)
        state = test_rows.surroundings(rng, row)
        state.update((slots.get(slot, slot), value) for slot, value in inner.items())
        data = rng.randbytes(64) * (MEMORY_SIZE // 64) if row.effect in (LOAD, STORE) else b""
        memory = BytesMemory(data)
        if data:
            t1.memory[:] = data
        found = architectural(t1.run(block, state))
        expected = {slot: value & QUAD if slot < SCALAR_SLOTS else value for slot, value in state.items()}
        oracle.run(block, expected, memory)
        assert found == architectural(expected), f"round {round}, slots {slots}, from {state}"
        if data:
            assert t1.memory.raw == bytes(memory.data)


@pytest.mark.parametrize(
    "row",
    [r for r in test_rows.TESTED if any(v.branches and v.second is None for v in variants(r))],
    ids=lambda row: row.name,
)
def test_branch_absorbs_the_condition(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_rows, "shared", shared)
    test_rows.test_branch_absorbs_the_condition(row)


@pytest.mark.parametrize("hundred", range(10))
def test_random_blocks_agree_with_oracle(hundred: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the state and the fault that an access leaves in the middle of a block."""
    monkeypatch.setattr(test_random_blocks, "shared", shared)
    for seed in range(hundred * 100, hundred * 100 + 100):
        test_random_blocks.check(seed)


def test_the_common_rows_have_stencils() -> None:
    """What is left to the interpreter is rare; a row that silently lost its stencils would only be slow."""
    made = shared().built.stencils
    for name in (
        "load.i64",
        "store.i32x@2",
        "add.i64",
        "flags.sub.i32&eq.i32/b~",
        "divu.i64",
        "v.mul.f64x1.v128",
    ):
        assert name in made
    outside = [
        v.name
        for row in ROWS.values()
        for v in variants(row)
        if v.name not in made and v.name + "~" not in made and not v.imm_wide
        if not row.rare and "v512" not in v.name  # 512 bits are always in memory
    ]
    assert len(outside) < 320, outside


LOAD_ROW = ROWS["load.i64"]
GOOD = "498d4608" + "654c8b28"  # lea rax, [r14 + 8]; mov r13, gs:[rax]


@pytest.mark.parametrize(
    ("code", "shape", "wrong"),
    [
        (GOOD, "01", ""),
        ("4d89f5" + "65498b4500", "01", "accesses memory after"),  # mov r13, r14; mov rax, gs:[r13]
        (GOOD + "4989c6", "01", "changes an operand"),  # mov r14, rax
        ("4989c4", "mm", "changes the state's register"),  # mov r12, rax
        (GOOD + "498b4424084989c6", "01", "changes an operand"),  # mov rax, [r12 + 8]; mov r14, rax
    ],
)
def test_a_planted_violation_is_found(code: str, shape: str, wrong: str) -> None:
    found = violations(bytes.fromhex(code), shape, LOAD_ROW)
    assert bool(found) == bool(wrong)
    assert wrong in " ".join(found)


def test_host_code_may_lie_anywhere() -> None:
    """The cache keeps it: with what is declared put right, it is the same at every address."""
    t1 = shared()
    for seed in range(300):
        t1.place(random_block(seed))
        first, links = t1.host_code, t1.links
        for at in (t1.t1.first + 16, t1.t1.first + 0x1230):
            second = t1.t1.assemble(t1.code.data, links, at)
            for site in second.bases:
                lead = int.from_bytes(second.data[site : site + 4], "little", signed=True)
                moved = lead + at - t1.t1.first
                second.data[site : site + 4] = moved.to_bytes(4, "little", signed=True)
            assert (second.data, second.parts()) == (first.data, first.parts()), seed


@pytest.mark.parametrize("pin", PIN_REGISTERS)
def test_registers_are_exchanged_as_an_assembler_would(pin: str) -> None:
    """mov al, r13b; mov [r12 + hole], r13; the expected text is written by hand."""
    code = bytes.fromhex("4488e8" + "4d89ac2400000000")
    changed, holes = substitute((code, ((7, 4, "h_a", 0),)), {"R13": pin})
    low = {"RBX": "bl", "RBP": "bpl", "RDI": "dil", "RSI": "sil", "RDX": "dl"}.get(pin, pin.lower() + "b")
    filled = bytearray(changed)
    filled[holes[0][0] : holes[0][0] + 4] = (0x7FF8).to_bytes(4, "little")
    text = [f"{instruction:fxs}" for instruction in Decoder(64, bytes(filled))]
    assert text == [f"mov al, {low}", f"mov [r12+0x7ff8], {pin.lower()}"]


def text_of(stencil: tuple[bytes, tuple[tuple[int, int, str, int], ...]]) -> list[str]:
    return [f"{instruction:fxs}" for instruction in Decoder(64, stencil[0])]


def test_what_a_stencil_computes_with_goes_to_the_free_registers() -> None:
    """mov r9, [r12]; shl r10, cl: a count has cl by definition."""
    code = bytes.fromhex("4d8b0c24" + "49d3e1")
    assert text_of(placed((code, ()), {})) == ["mov rax, [r12]", "shl rax, cl"]


@pytest.mark.parametrize(
    ("code", "operands"),
    [
        ("4d8b0c24" + "49f7e1", {}),  # mov r9, [r12]; mul r9, which has rax and rdx by definition
        ("d3e0", {"RCX": "RBX"}),  # shl eax, cl
        ("660f3815c1", {"XMM0": "XMM3"}),  # blendvpd xmm0, xmm1, which chooses by xmm0 as well
        ("f7e0", {"RAX": "RBX"}),  # mul eax
    ],
)
def test_a_stencil_without_room_is_refused(code: str, operands: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"registers than are free|by definition"):
        placed((bytes.fromhex(code), ()), operands)


@pytest.mark.parametrize(
    ("code", "holes", "expected"),
    [
        # mov rax, hole; cmp r14d, eax; jne next; jmp taken
        (
            "48c7c000000000" + "4139c6" + "0f8500000000" + "e900000000",
            ((3, 4, "h_imm", 0), (12, 4, "next", 0), (17, 4, "taken", 0)),
            ["cmp r14d, HOLE", "je taken"],
        ),
        # mov rax, hole; add r14b, al; jmp next
        ("48c7c000000000" + "4400f0", ((3, 4, "h_imm", 0),), ["mov rax, HOLE", "add al, r14b"]),
        ("48c7c000000000" + "4100c6", ((3, 4, "h_imm", 0),), ["add r14b, HOLE8"]),
        # mov rax, hole; shlx r14d, r14d, eax
        ("48c7c000000000" + "c44279f7f6", ((3, 4, "h_imm", 0),), ["shl r14d, HOLE8"]),
        # cmp rax, rcx; ja +5; jmp next; jmp taken
        (
            "4839c8" + "7705" + "e900000000" + "e900000000",
            ((6, 4, "next", 0), (11, 4, "taken", 0)),
            ["cmp rax, rcx", "ja taken"],
        ),
    ],
)
def test_a_stencil_is_tidied(
    code: str, holes: tuple[tuple[int, int, str, int], ...], expected: list[str]
) -> None:
    made, left = tidy((bytes.fromhex(code), holes))
    filled = bytearray(made)
    targets: dict[int, str] = {}
    for at, size, what, _ in left:
        if what in ("next", "taken"):
            targets[at + 4] = what
        else:
            filled[at : at + size] = (0x12 if size == 1 else 0x12345678).to_bytes(size, "little")
    text = []
    for instruction in Decoder(64, bytes(filled)):
        line = f"{instruction:fxs}"
        if instruction.next_ip in targets:
            line = f"{line.split()[0]} {targets[instruction.next_ip]}"
        text.append(line.replace("0x12345678", "HOLE").replace("0x12", "HOLE8"))
    assert text == expected


def test_a_constant_operand_may_be_anything() -> None:
    """Immediates are addresses of symbols for LLVM, which must not take them for not zero or not equal."""
    t1 = shared()
    edges = (0, 1, 2, 63, 64, IMMEDIATE_BIAS, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1)
    for number in (*edges, *(-edge for edge in edges), *(-edge - 1 for edge in edges)):
        for name in ("eq.i64", "ult.i64", "shl.i64", "add.i64", "mul.i64"):
            block = Block(0x1000)
            block.mark(0x1000)
            value = block.emit(name, block.get(I64, 1), block.const(I64, number))
            block.put(5, value if value.type is I64 else value.zext(I64))
            block.exit(14, 0x1004)
            state = {1: number & QUAD}
            expected = dict(state)
            oracle.run(block, expected)
            assert architectural(t1.run(block, state)) == architectural(expected), (name, number)


@pytest.mark.parametrize("how", ["flipped", "cut off", "another's", "empty"])
def test_damaged_stencils_are_not_used(how: str, tmp_path: Path) -> None:
    good = Path(engine.path_of())
    path = tmp_path / good.name
    data = bytearray(good.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 4
    elif how == "cut off":
        del data[-1000:]
    elif how == "another's":
        path = tmp_path / good.name.replace("stencils-", "stencils-0")
    else:
        data.clear()
    path.write_bytes(data)
    assert engine.load_if_there(str(path)) is None
    assert not path.exists()


def test_stencils_are_built_meanwhile_by_one_process(tmp_path: Path) -> None:
    """Two that are asked for at once: one builds, the other sees that and ends."""
    path = tmp_path / "stencils-0.bin"
    with open(f"{path}.building", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert os.waitpid(engine.build_meanwhile(str(path)), 0)[1] == 0
    assert not path.exists()
