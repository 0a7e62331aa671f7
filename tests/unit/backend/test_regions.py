"""What compiled code knows without looking: where addresses are, where jumps lead, which loops are copied."""

from __future__ import annotations

from nexus.backend.jit.bounds import BASE, NOTHING, ROOT, Bounds, Room
from nexus.backend.jit.region import COPY, Region
from nexus.backend.jit.sums import Trace
from nexus.backend.jit.writer import hashed
from nexus.ir.types import I32, I64
from nexus.ir.values import Address, Block

RAX, RCX, RDX, RSP = 0, 1, 2, 4
ROOM = Room(1 << 40, 40 << 30)
NARROW = Room(1 << 40, 4 << 30)
START, LOOP, AFTER = 0x1000, 0x1010, 0x1020


def begun(address: int) -> Block:
    block = Block(address)
    block.mark(address)
    return block


def entering() -> Block:
    block = begun(START)
    block.goto(LOOP)
    return block


def ending(address: int = AFTER) -> Block:
    block = begun(address)
    block.jump(block.get(I64, RAX))
    return block


def loop(step: int, register: int = RAX, load: bool = True) -> Block:
    """Loads from [rax + 8 rcx], adds a step to a register, and goes round."""
    block = begun(LOOP)
    if load:
        block.put(RDX, block.load(I64, Address(block.get(I64, RAX), 0, block.get(I64, RCX), 3)))
    block.put(register, block.get(I64, register) + step)
    block.branch(block.get(I64, RDX).eq(0), LOOP, AFTER)
    return block


def region(*blocks: Block, seen: dict[int, list[int]] | None = None) -> Region:
    return Region(blocks[0].start, {block.start: block for block in blocks}, seen or {})


def looks(region: Region, room: Room, number: int) -> list[int]:
    return list(Bounds(region, room).looks[number].values())


def test_a_sum_follows_steps_and_scales() -> None:
    block = loop(8)
    trace = Trace(block, len(block.ops))
    (access,) = trace.accesses
    assert access.root == (((RAX, 1), (RCX, 8)), 0)
    assert trace.of(RAX) == (((RAX, 1),), 8)


def test_a_pointer_that_is_used_in_every_turn_is_looked_at_before_the_loop() -> None:
    for register in (RAX, RCX):
        made = region(entering(), loop(1, register), ending())
        assert looks(made, ROOM, LOOP) == [NOTHING]
        assert (START, LOOP) in Bounds(made, ROOM).checks
        assert (-1, LOOP) in Bounds(made, ROOM).checks, "entries from outside need it too"


def test_a_step_that_leaves_the_guards_is_looked_at_in_every_turn() -> None:
    assert looks(region(entering(), loop(ROOM.reach + 1), ending()), ROOM, LOOP) == [ROOT]
    assert looks(region(entering(), loop(5 << 30), ending()), NARROW, LOOP) == [ROOT]


def test_an_index_of_32_bits_needs_no_look_beside_its_base() -> None:
    block = begun(START)
    index = block.get(I32, RCX).zext(I64)
    for _ in range(2):
        block.put(RDX, block.load(I64, Address(block.get(I64, RAX), 0, index, 3)))
    block.goto(AFTER)
    assert looks(region(block), ROOM, START) == [BASE, NOTHING]
    assert looks(region(block), NARROW, START) == [ROOT, ROOT], "eight times that is too much"


def test_a_register_that_comes_from_memory_is_looked_at() -> None:
    block = begun(START)
    for _ in range(2):
        block.put(RAX, block.load(I64, Address(block.get(I64, RAX))))
    block.goto(AFTER)
    assert looks(region(block), ROOM, START) == [BASE, BASE]


def test_short_loops_are_copied_and_others_are_not() -> None:
    short = region(entering(), loop(8), ending())
    assert [number for number in short.blocks if number >= COPY] == [LOOP + n * COPY for n in (1, 2, 3)]
    assert short.closing == {(LOOP + 3 * COPY, LOOP)}
    long = loop(8)
    for number in range(40):
        long.marks.insert(0, (0, LOOP + number))
    assert all(number < COPY for number in region(entering(), long, ending()).blocks)


def calling(address: int, callee: int) -> Block:
    """`call callee`, five bytes."""
    block = begun(address)
    block.end = address + 5
    top = block.get(I64, RSP) + -8
    block.store(Address(top), block.const(I64, block.end))
    block.put(RSP, top)
    block.goto(callee)
    return block


def test_a_return_leads_to_where_its_function_is_called_from() -> None:
    blocks = [
        calling(START, 0x2000),
        calling(START + 5, 0x3000),
        ending(START + 10),
        ending(0x2000),
        ending(0x3000),
    ]
    made = region(*blocks)
    assert set(made.targets(0x2000)) == {START + 5}
    assert set(made.targets(0x3000)) == {START + 10}
    assert set(made.targets(START + 10)) == set()


def test_a_computed_jump_leads_to_where_it_has_been_seen_to_lead() -> None:
    made = region(ending(START), ending(0x2000), ending(0x3000), seen={START: [0x3000, 0x9000]})
    assert set(made.blocks) == {START, 0x3000}
    assert set(made.targets(START)) == {0x3000}
    assert made.jumps == [START, 0x3000]


def test_targets_are_told_apart_by_few_bits() -> None:
    targets = [0x140001000 + 0x20 * n for n in range(8)]
    shift, bits = hashed(targets)
    assert (shift, bits) == (5, 3)
    assert len({target >> shift & 7 for target in targets}) == 8
    assert hashed([1 << 40, 1 << 50]) == (0, 0)
