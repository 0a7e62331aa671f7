"""Random blocks for comparing engines and rewrites with the oracle: memory that may fault, aliases, flags,
branches."""

from __future__ import annotations

import random

from nexus.ir.state import SCALAR_SLOTS, SLOTS, Exit
from nexus.ir.types import I1, I64, INTEGERS, V128, Type
from nexus.ir.values import Address, Block, Value
from t0 import MEMORY_BASE, MEMORY_SIZE

SLOT_CHOICES = (0, 1, 2, 3)
BINARY = ("add", "sub", "and", "or", "xor", "mul", "shl", "shr", "sar", "rotl")
COMPARE = ("eq", "ne", "ult", "ule", "slt", "sle")


class Generator:
    """Builds a block of some guest instructions, each: reads, arithmetic, memory, then puts and flags."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.block = Block(0x1000)
        self.pool: dict[Type, list[Value]] = {t: [] for t in (I1, *INTEGERS, V128)}

    def value(self, type: Type) -> Value:
        """An earlier value, a constant, or a slot's present content."""
        rng, pool = self.rng, self.pool[type]
        if pool and rng.random() < 0.6:
            return rng.choice(pool[-6:])
        if not type.is_vector and rng.random() < 0.3:
            return self.block.const(type, rng.choice((0, 1, -1, 5, 0x1234, 1 << 31, 1 << 40)))
        value = self.block.get(type, rng.choice(SLOT_CHOICES))
        pool.append(value)
        return value

    def compute(self) -> None:
        rng, block = self.rng, self.block
        type = rng.choice(INTEGERS)
        kind = rng.randrange(8)
        if kind < 4:
            result = block.emit(f"{rng.choice(BINARY)}.{type}", self.value(type), self.value(type))
        elif kind == 4:
            result = block.emit(f"{rng.choice(COMPARE)}.{type}", self.value(type), self.value(type))
        elif kind == 5:
            wide = rng.choice(INTEGERS)
            low, high = sorted((type, wide), key=lambda t: t.bits)
            result = rng.choice(
                (self.value(low).zext(high), self.value(low).sext(high), self.value(high).trunc(low))
            )
        elif kind == 6:
            result = self.value(I1).select(self.value(type), self.value(type))
        else:
            result = block.emit("xor.v128", self.value(V128), self.value(V128))
        assert result.type is not None
        self.pool[result.type].append(result)

    def address(self) -> Address:
        rng = self.rng
        base = None
        if rng.random() < 0.8:
            base = self.value(I64) & 0xFF8
        index = self.value(I64) & 0xFF if rng.random() < 0.4 else None
        disp = MEMORY_BASE if rng.random() < 0.93 else rng.choice((0, -8, MEMORY_BASE + MEMORY_SIZE - 0x800))
        return Address(base, disp, index, rng.randrange(4) if index is not None else 0)

    def instruction(self, at: int) -> None:
        rng, block = self.rng, self.block
        block.mark(at)
        for _ in range(rng.randrange(3)):
            self.compute()
        if rng.random() < 0.4:
            type = rng.choice((*INTEGERS, V128))
            self.pool[type].append(block.load(type, self.address()))
        for _ in range(rng.randrange(3)):
            self.compute()
        if rng.random() < 0.1:
            block.trap_if(self.value(I1), Exit.DIVIDE)
        if rng.random() < 0.3:
            type = rng.choice((*INTEGERS, V128))
            value = self.value(type)
            block.store(self.address(), value)
        for _ in range(rng.randrange(3)):
            type = rng.choice((*INTEGERS, V128))
            value = self.value(type)
            block.put(rng.choice(SLOT_CHOICES), value)
        if rng.random() < 0.4:
            self.arithmetic()
        elif rng.random() < 0.5:
            type = rng.choice(INTEGERS)
            if rng.random() < 0.5:
                block.emit(
                    f"flags.{rng.choice(('add', 'sub', 'adc'))}.{type}", self.value(type), self.value(type)
                )
            else:
                block.emit(f"flags.logic.{type}", self.value(type))

    def arithmetic(self) -> None:
        """What an arithmetic instruction becomes: flags and result side by side, the result to a slot."""
        rng, block = self.rng, self.block
        type = rng.choice(INTEGERS)
        a, b = self.value(type), self.value(type)
        kind = rng.choice(("add", "sub", "inc", "dec", "and", "or", "xor"))
        if kind in ("add", "sub"):
            block.emit(f"flags.{kind}.{type}", a, b)
            result = block.emit(f"{kind}.{type}", a, b)
        elif kind in ("inc", "dec"):
            block.emit(f"flags.{kind}.{type}", a)
            result = a + 1 if kind == "inc" else a - 1
        else:
            result = block.emit(f"{kind}.{type}", a, b)
            block.emit(f"flags.logic.{type}", result)
        if rng.random() < 0.8:
            block.put(rng.choice(SLOT_CHOICES), result)
        if rng.random() < 0.3:
            self.pool[type].append(result)

    def finish(self, at: int) -> Block:
        rng, block = self.rng, self.block
        block.mark(at)
        kind = rng.randrange(6)
        if kind == 0:
            block.jump(self.value(I64))
        elif kind == 1:
            block.goto(0x5000)
        else:
            condition = self.value(I1)
            if kind > 3:
                type = rng.choice(INTEGERS)
                a, b = self.value(type), self.value(type)
                if rng.random() < 0.4:
                    b = block.const(type, rng.randrange(-3, 4))
                setter = rng.choice(("add", "sub", "inc", "dec", "logic"))
                block.emit(f"flags.{setter}.{type}", *((a, b) if setter in ("add", "sub") else (a,)))
                if kind == 4:
                    condition = block.emit(f"{rng.choice(COMPARE)}.{type}", a, b)
            if kind == 2 and rng.random() < 0.6:
                a, b = self.value(V128), self.value(V128)
                block.emit(f"flags.{rng.choice(('comi', 'ucomi'))}.{rng.choice(('f32', 'f64'))}", a, b)
            if kind in (2, 5):
                condition = block.emit(f"cond.{rng.choice(('o', 'b', 'e', 'be', 's', 'p', 'l', 'le'))}")
            if rng.random() < 0.5:
                condition = condition ^ block.const(I1, 1)
            if rng.random() < 0.3:
                block.put(SLOTS["cf"], self.value(I1))
            block.branch(condition, 0x2000, 0x3000)
        return block


def random_block(seed: int) -> Block:
    generator = Generator(seed)
    for n in range(generator.rng.randrange(1, 12)):
        generator.instruction(0x1000 + 4 * n)
    return generator.finish(0x2000)


def random_state(seed: int) -> dict[int, int]:
    rng = random.Random(seed + 1)
    state = {
        slot: rng.choice((rng.getrandbits(64), rng.randrange(64), (1 << 64) - 1)) for slot in SLOT_CHOICES
    }
    state.update({slot + SCALAR_SLOTS: rng.getrandbits(512) for slot in SLOT_CHOICES})
    state.update(
        {SLOTS["cf"]: rng.randrange(2), SLOTS["of"]: rng.randrange(2), SLOTS["nz"]: rng.getrandbits(64)}
    )
    return state
