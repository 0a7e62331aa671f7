"""AES rounds, carry-less products and Galois field arithmetic on wide vectors.

Facts: FIPS 197 for AES, in the column order of the Intel SDM; SDM volume 2 for VPCLMULQDQ and GFNI.
"""

from __future__ import annotations

from functools import cache

from isa.model.machine import Elements
from isa.model.shapes import accumulating, define, lanes, whole


def _product(a: int, b: int) -> int:
    """The product of polynomials over GF(2)."""
    out = 0
    while b:
        out ^= a if b & 1 else 0
        a, b = a << 1, b >> 1
    return out


@cache
def field_product(a: int, b: int) -> int:
    """In GF(2^8) with x^8 + x^4 + x^3 + x + 1."""
    out = _product(a, b)
    for n in range(14, 7, -1):
        out ^= 0x11B << n - 8 if out >> n & 1 else 0
    return out


@cache
def inverse(a: int) -> int:
    """1 / a in the same field, 0 for 0: a to the power of 254."""
    out = 1
    for _ in range(254):
        out = field_product(out, a)
    return out


@cache
def _substituted(a: int) -> int:
    b = inverse(a)
    out = 0x63
    for turn in range(5):
        out ^= (b << turn | b >> 8 - turn) & 0xFF
    return out


@cache
def _restored(a: int) -> int:
    return next(b for b in range(256) if _substituted(b) == a)


def _rows(state: Elements, direction: int) -> Elements:
    """Row n turned by n columns; byte 4 * column + row."""
    return [state[(n + 4 * direction * (n & 3)) % 16] for n in range(16)]


def _columns(state: Elements, factors: Elements) -> Elements:
    out = []
    for n in range(16):
        column, row = n & ~3, n & 3
        byte = 0
        for k in range(4):
            byte ^= field_product(state[column + k], factors[k - row & 3])
        out.append(byte)
    return out


def _encrypted(state: Elements, key: Elements, last: bool) -> Elements:
    state = [_substituted(x) for x in _rows(state, 1)]
    state = state if last else _columns(state, [2, 3, 1, 1])
    return [x ^ k for x, k in zip(state, key, strict=True)]


def _decrypted(state: Elements, key: Elements, last: bool) -> Elements:
    state = [_restored(x) for x in _rows(state, -1)]
    state = state if last else _columns(state, [14, 11, 13, 9])
    return [x ^ k for x, k in zip(state, key, strict=True)]


define("VAESENC", whole(lambda a, b: _encrypted(a, b, False), (8, 8), 8, lane=128))
define("VAESENCLAST", whole(lambda a, b: _encrypted(a, b, True), (8, 8), 8, lane=128))
define("VAESDEC", whole(lambda a, b: _decrypted(a, b, False), (8, 8), 8, lane=128))
define("VAESDECLAST", whole(lambda a, b: _decrypted(a, b, True), (8, 8), 8, lane=128))


def _carryless(a: Elements, b: Elements, imm: int) -> Elements:
    out = _product(a[imm & 1], b[imm >> 4 & 1])
    return [out & (1 << 64) - 1, out >> 64]


define("VPCLMULQDQ", whole(_carryless, (64, 64), 64, imm=True, lane=128))


def _affine(x: int, matrix: int, constant: int) -> int:
    out = constant
    for n in range(8):
        row = matrix >> 8 * (7 - n) & 0xFF
        out ^= ((row & x).bit_count() & 1) << n
    return out


def _affine_bytes(data: Elements, matrices: Elements, imm: int) -> Elements:
    return [_affine(x, matrices[n // 8], imm) for n, x in enumerate(data)]


def _affine_inverse_bytes(data: Elements, matrices: Elements, imm: int) -> Elements:
    return [_affine(inverse(x), matrices[n // 8], imm) for n, x in enumerate(data)]


define("VGF2P8MULB", lanes(field_product, (8, 8), 8))
define("GF2P8MULB", accumulating(lanes, field_product, (8, 8)))
for _name, _function in (("AFFINEQB", _affine_bytes), ("AFFINEINVQB", _affine_inverse_bytes)):
    define("VGF2P8" + _name, whole(_function, (8, 64), 8, imm=True))
    define("GF2P8" + _name, accumulating(whole, _function, (8, 64), imm=True))
