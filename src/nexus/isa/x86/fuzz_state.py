"""Random register contents for `fuzz.py`: numbers at edges, floating point of every kind, addresses."""

from __future__ import annotations

import random
from array import array

from nexus.ir.state import FIRST_X87, VECTOR_BYTES, VECTOR_OFFSET
from nexus.isa.x86 import registers as r

MEMORY, MEMORY_SIZE = 0x10000, 0x10000  # accessible guest memory
AT = 0x51000  # where instructions lie
_U64 = (1 << 64) - 1
_STOCK = 1024
_X87_OFFSET = VECTOR_OFFSET + FIRST_X87 * VECTOR_BYTES

_EDGES = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000]
_EDGES += [
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    0x100000000,
    (1 << 63) - 1,
    1 << 63,
    _U64,
    _U64 - 1,
    0x5555555555555555,
]
_FLOATS32 = [
    0,
    0x80000000,
    0x3F800000,
    0xBF800000,
    0x7F800000,
    0xFF800000,
    0x7FC00000,
    0x7F800001,
    0xFFC12345,
]
_FLOATS32 += [
    1,
    0x007FFFFF,
    0x00800000,
    0x7F7FFFFF,
    0x4F000000,
    0xCF000000,
    0x4EFFFFFF,
    0x5F000000,
    0x3F000000,
]
_FLOATS64 = [0, 1 << 63, 0x3FF << 52, 0xBFF << 52, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, (0x7FF << 52) + 1]
_FLOATS64 += [
    1,
    (1 << 52) - 1,
    1 << 52,
    0x7FEFFFFFFFFFFFFF,
    0x41DFFFFFFFC00000,
    0x41E0 << 48,
    0x43E0 << 48,
    0x3FE0 << 48,
]
# bits of the exponent, its middle, how far from there a number of moderate size is
_MODERATE = {16: (5, 15, 14), 32: (8, 127, 40), 64: (11, 1023, 40)}
_FLOATS16 = [0, 0x8000, 0x3C00, 0xBC00, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFE12]
_FLOATS16 += [1, 0x3FF, 0x400, 0x7BFF, 0x3800, 0x6400, 0x5BFF, 0x0401, 0x8001]
_FLOATS80 = [
    (0, 0),
    (0x3FFF, 1 << 63),
    (0xBFFF, 1 << 63),
    (0x7FFF, 1 << 63),
    (0x7FFF, 3 << 62),
    (0xFFFF, 1 << 63),
]
_FLOATS80 += [
    (0, 1),
    (0, 1 << 62),
    (0x4000, 0xC90FDAA22168C235),
    (0x403E, 1 << 63),
    (0x43FE, 1 << 63),
    (0x8000, 0),
]


def random_integer(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(_EDGES) ^ (_U64 if rng.random() < 0.2 else 0)
    if kind < 0.6:
        return rng.getrandbits(rng.choice((4, 8, 16, 32)))
    return rng.getrandbits(64)


def random_vector(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.3:
        return rng.randbytes(16)
    if kind < 0.55:
        return b"".join(_float(rng, _FLOATS32, 32).to_bytes(4, "little") for _ in range(4))
    if kind < 0.8:
        return b"".join(_float(rng, _FLOATS64, 64).to_bytes(8, "little") for _ in range(2))
    return bytes(rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.getrandbits(8))) for _ in range(16))


def _mask(rng: random.Random) -> int:
    """A mask: random bits, few, many, all or none."""
    bits = rng.getrandbits(64)
    kind = rng.random()
    if kind < 0.4:
        return bits
    if kind < 0.8:
        return (bits & rng.getrandbits(64) & rng.getrandbits(64)) ^ (_U64 if kind < 0.6 else 0)
    return rng.choice((0, _U64, 1, 0xFFFF, bits & 0xFF))


def _wide_vector(rng: random.Random, stock: list[bytes]) -> bytes:
    """512 bits: two times 256 of the stock, or numbers of half precision."""
    if rng.random() < 0.25:
        return b"".join(_float(rng, _FLOATS16, 16).to_bytes(2, "little") for _ in range(32))
    return rng.choice(stock)[:32] + rng.choice(stock)[:32]


def _float(rng: random.Random, special: list[int], bits: int) -> int:
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(special)
    if kind < 0.6:
        return rng.getrandbits(bits)
    exponent, middle, most = _MODERATE[bits]
    sign, power = rng.getrandbits(1), middle + rng.randint(-most, most)
    return sign << bits - 1 | power << bits - 1 - exponent | rng.getrandbits(bits - 1 - exponent)


def _random_x87(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        exponent, mantissa = rng.choice(_FLOATS80)
        return mantissa.to_bytes(8, "little") + exponent.to_bytes(2, "little")
    power = rng.randint(0x3FFF - 70, 0x3FFF + 70) | rng.getrandbits(1) << 15
    return (rng.getrandbits(64) | 1 << 63).to_bytes(8, "little") + power.to_bytes(2, "little")


class States:
    """Draws register states: every register from a stock of values, which is made anew now and then."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._drawn = 0
        self._stock()

    def _stock(self) -> None:
        rng = self.rng
        self._integers = [random_integer(rng) for _ in range(_STOCK)]
        empty = bytes(VECTOR_BYTES - 32)
        halves = [random_vector(rng) for _ in range(_STOCK)]
        self._vectors = [half + rng.choice(halves) + empty for half in halves]
        self._wide: list[bytes] = []
        self._x87 = [_random_x87(rng).ljust(VECTOR_BYTES, b"\0") for _ in range(_STOCK // 4)]

    def draw(self, wide: bool = False) -> r.CpuState:
        """All registers random; stack and string pointers in the memory, the count small. What only AVX-512
        has - the upper halves, ZMM16 and on, the masks - is random if `wide`, else zero, as on a host without
        it."""
        rng = self.rng
        self._drawn += 1
        if self._drawn % (_STOCK * 4) == 0:
            self._stock()
        state = r.CpuState()
        state.reset()
        buffer, slots = state.buffer, state.slots
        for number, value in enumerate(rng.choices(self._integers, k=16)):
            slots[number] = value
        stock, count = self._vectors, 16
        if wide:
            self._wide = self._wide or [_wide_vector(rng, stock) for _ in stock]
            stock, count = self._wide, r.VECTORS
            slots[r.K0 : r.K0 + r.MASKS] = memoryview(array("Q", (_mask(rng) for _ in range(r.MASKS))))
        if rng.random() < 0.2:  # so that some are equal
            stock = rng.sample(stock, 4)
        buffer[VECTOR_OFFSET : VECTOR_OFFSET + count * VECTOR_BYTES] = b"".join(rng.choices(stock, k=count))
        buffer[_X87_OFFSET : _X87_OFFSET + 8 * VECTOR_BYTES] = b"".join(rng.choices(self._x87, k=8))
        for number in (r.RSP, r.RBP, r.RSI, r.RDI):
            slots[number] = place(rng)
        if rng.random() < 0.7:
            state.rcx = rng.choice((0, 1, 2, 3, rng.randrange(32), rng.randrange(600)))
        state.eflags = rng.getrandbits(12) & r.SPLIT_FLAGS | r.FLAG_IF
        state.rip = AT
        state.mxcsr = r.DEFAULT_MXCSR
        if rng.random() < 0.3:
            state.mxcsr |= rng.getrandbits(2) << 13 | (rng.getrandbits(1) << 15) | rng.getrandbits(1) << 6
        rounding, precision = rng.choice((0, 0, 1, 2, 3)), rng.choice((0, 2, 3, 3, 3))
        state.fcw = r.DEFAULT_FCW & ~0xF00 | precision << 8 | rounding << 10
        state.fsw = rng.getrandbits(3) << 11 | (rng.getrandbits(4) & 7) << 8 | rng.getrandbits(1) << 14
        slots[r.FTAG] = rng.choice((0, 0xFF, rng.getrandbits(8)))
        return state


def place(rng: random.Random) -> int:
    """An address for an access: mostly well inside, sometimes at an end of the memory or of a page, or
    outside."""
    kind = rng.random()
    if kind < 0.75:
        at = MEMORY + 0x800 + rng.randrange(MEMORY_SIZE - 0x1000)
        return at & -16 if rng.random() < 0.6 else at
    if kind < 0.85:
        return MEMORY + rng.randrange(1, 16) * 4096 - rng.randrange(20)
    if kind < 0.92:
        return MEMORY + MEMORY_SIZE - rng.randrange(24)
    return MEMORY + MEMORY_SIZE + rng.randrange(0x8000)
