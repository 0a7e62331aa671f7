"""AES rounds and carry-less multiplication. The oracles follow FIPS 197 and need no host instruction."""

from __future__ import annotations

from nexus.ir.ops.table import row
from nexus.ir.ops.vector import by_parts, join, split

_U64 = (1 << 64) - 1


def carryless(a: int, b: int) -> int:
    """The product of two polynomials over GF(2)."""
    result = 0
    while b:
        if b & 1:
            result ^= a
        a, b = a << 1, b >> 1
    return result


def field_product(a: int, b: int) -> int:
    """The product in AES's field, modulo x**8 + x**4 + x**3 + x + 1."""
    product = carryless(a, b)
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << bit - 8
    return product


def _substitution() -> list[int]:
    """FIPS 197, 5.1.1: the inverse in the field (a**254), then an affine map."""
    table = []
    for a in range(256):
        inverse = 1
        for _ in range(254):
            inverse = field_product(inverse, a)
        value = inverse
        for turn in (1, 2, 3, 4):
            value ^= (inverse << turn | inverse >> 8 - turn) & 255
        table.append(value ^ 0x63)
    return table


class _Tables:
    """The S-box and its inverse, made on first use (a running guest never needs them)."""

    __slots__ = ("_forward", "_inverse")

    def __init__(self) -> None:
        self._forward: list[int] = []
        self._inverse: list[int] = []

    def get(self, inverse: bool) -> list[int]:
        if not self._forward:
            self._forward = _substitution()
            self._inverse = [self._forward.index(i) for i in range(256)]
        return self._inverse if inverse else self._forward


_BOXES = _Tables()
_SHIFTED = [(i + 4 * (i % 4)) % 16 for i in range(16)]  # where ShiftRows takes each byte from
_UNSHIFTED = [(i - 4 * (i % 4)) % 16 for i in range(16)]


def mix_columns(state: list[int], factors: tuple[int, int, int, int]) -> list[int]:
    """Multiply every column by the circulant matrix whose first row is `factors`."""
    out = []
    for column in range(0, 16, 4):
        for r in range(4):
            value = 0
            for c in range(4):
                value ^= field_product(state[column + c], factors[(c - r) % 4])
            out.append(value)
    return out


def _round(state: int, key: int, inverse: bool, last: bool) -> int:
    box = _BOXES.get(inverse)
    data = split(state, 8, 128)
    data = [box[data[at]] for at in (_UNSHIFTED if inverse else _SHIFTED)]
    if not last:
        data = mix_columns(data, (14, 11, 13, 9) if inverse else (2, 3, 1, 1))
    return join(data, 8) ^ key


def _keygen(source: int, imm: int) -> int:
    box, words = _BOXES.get(False), split(source, 32, 128)

    def sub(word: int) -> int:
        return join((box[x] for x in split(word, 8, 32)), 8)

    def rot(word: int) -> int:
        return word >> 8 | word << 24 & 0xFFFFFFFF

    x1, x3 = sub(words[1]), sub(words[3])
    return join((x1, rot(x1) ^ imm & 255, x3, rot(x3) ^ imm & 255), 32)


_AES = "%x = bitcast i128 $a to <2 x i64>\n{y}%r = call <2 x i64> @llvm.x86.aesni.{op}(<2 x i64> %x{more})\n"
_KEY = "%y = bitcast i128 $b to <2 x i64>\n"

for _name, _inverse, _last in (
    ("aesenc", False, False),
    ("aesenclast", False, True),
    ("aesdec", True, False),
    ("aesdeclast", True, True),
):
    row(
        f"v.{_name}.v128",
        "v128 v128 -> v128",
        _AES.replace("{y}", _KEY).replace("{op}", _name).replace("{more}", ", <2 x i64> %y")
        + "$d = bitcast <2 x i64> %r to i128",
        lambda w, a, b, inverse=_inverse, last=_last: _round(a, b, inverse, last),
        f"One AES {'decryption' if _inverse else 'encryption'} round with key "
        f"b{', the last one' if _last else ''}.",
    )
    by_parts(f"v.{_name}.v128")
row(
    "v.aesimc.v128",
    "v128 -> v128",
    _AES.replace("{y}", "").replace("{op}", "aesimc").replace("{more}", "")
    + "$d = bitcast <2 x i64> %r to i128",
    lambda w, a: join(mix_columns(split(a, 8, 128), (14, 11, 13, 9)), 8),
    "InvMixColumns.",
)
row(
    "v.aeskeygen.v128",
    "v128 -> v128",
    _AES.replace("{y}", "").replace("{op}", "aeskeygenassist").replace("{more}", ", i8 0")
    + "%k1 = trunc i64 $imm to i32\n%k = and i32 %k1, 255\n%s = bitcast <2 x i64> %r to <4 x i32>\n"
    "%c1 = insertelement <4 x i32> zeroinitializer, i32 %k, i64 1\n"
    "%c = insertelement <4 x i32> %c1, i32 %k, i64 3\n"
    "%e = xor <4 x i32> %s, %c\n$d = bitcast <4 x i32> %e to i128",
    lambda w, a, imm: _keygen(a, imm),
    "AES key schedule step with round constant imm (AESKEYGENASSIST).",
    imm=True,
)
row(
    "v.clmul.v128",
    "v128 v128 -> v128",
    "%i1 = shl i64 $imm, 6\n%i2 = and i64 %i1, 64\n%i = zext i64 %i2 to i128\n%x1 = lshr i128 $a, %i\n"
    "%j1 = shl i64 $imm, 2\n%j2 = and i64 %j1, 64\n%j = zext i64 %j2 to i128\n%y1 = lshr i128 $b, %j\n"
    "%x = bitcast i128 %x1 to <2 x i64>\n%y = bitcast i128 %y1 to <2 x i64>\n"
    "%r = call <2 x i64> @llvm.x86.pclmulqdq(<2 x i64> %x, <2 x i64> %y, i8 0)\n"
    "$d = bitcast <2 x i64> %r to i128",
    lambda w, a, b, imm: carryless(a >> 64 * (imm & 1) & _U64, b >> 64 * (imm >> 4 & 1) & _U64),
    "Carry-less product of the halves that imm names (PCLMULQDQ).",
    imm=True,
)
by_parts("v.clmul.v128")
