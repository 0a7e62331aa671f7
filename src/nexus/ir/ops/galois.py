"""Arithmetic in the field of 256 elements with AES's polynomial, on bytes (GFNI)."""

from __future__ import annotations

from nexus.ir.ops.crypto import field_product
from nexus.ir.ops.vector import each, join, lanes, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.ops.vector import Oracle


def _product_text() -> str:
    """Bit by bit of b: add a where it is set, then a times x."""
    text, total = "", "zeroinitializer"
    for bit in range(8):
        a = f"%a{bit}" if bit else "%a"
        text += f"%u{bit} = shl {{L}} %b, splat (i8 {7 - bit})\n%m{bit} = ashr {{L}} %u{bit}, splat (i8 7)\n"
        text += f"%p{bit} = and {{L}} %m{bit}, {a}\n%s{bit} = xor {{L}} {total}, %p{bit}\n"
        total = f"%s{bit}"
        if bit < 7:
            text += f"%t{bit} = ashr {{L}} {a}, splat (i8 7)\n%r{bit} = and {{L}} %t{bit}, splat (i8 27)\n"
            text += f"%d{bit} = shl {{L}} {a}, splat (i8 1)\n%a{bit + 1} = xor {{L}} %d{bit}, %r{bit}\n"
    return text + f"%d = xor {{L}} {total}, zeroinitializer"


def _affine_text() -> str:
    """Bit i of a byte of a: the parity of it and byte 7 - i of b's 64 bits; then imm is added."""
    text, total = "%i8 = trunc i64 $imm to i8\n%i1 = insertelement {L} poison, i8 %i8, i64 0\n", "%is"
    text += "%is = shufflevector {L} %i1, {L} poison, <{n} x i32> zeroinitializer\n"
    for bit in range(8):
        text += f"%r{bit} = shufflevector {{L}} %b, {{L}} poison, <{{n}} x i32> {{byte{7 - bit}}}\n"
        text += f"%x{bit} = and {{L}} %r{bit}, %a\n%c{bit} = call {{L}} @llvm.ctpop.v{{n}}i8({{L}} %x{bit})\n"
        text += f"%o{bit} = and {{L}} %c{bit}, splat (i8 1)\n%w{bit} = shl {{L}} %o{bit}, splat (i8 {bit})\n"
        text += f"%s{bit} = xor {{L}} {total}, %w{bit}\n"
        total = f"%s{bit}"
    return text + f"%d = xor {{L}} {total}, zeroinitializer"


def _affine(lane: int) -> Oracle:
    def oracle(width: int, a: int, b: int, imm: int) -> int:
        out = []
        for index, x in enumerate(split(a, 8, width)):
            matrix = split(b, 8, width)[index & -8 :][:8]
            bits = ((matrix[7 - i] & x).bit_count() & 1 for i in range(8))
            out.append(sum(bit << i for i, bit in enumerate(bits)) ^ imm & 255)
        return join(out, 8)

    return oracle


lanes(
    "i8",
    "v.field_mul.{e}.{v}",
    "{v} {v} -> {v}",
    _product_text(),
    each(lambda w, a, b: field_product(a, b)),
    "Products of the bytes (GF2P8MULB).",
)
lanes(
    "i8",
    "v.affine.{e}.{v}",
    "{v} {v} -> {v}",
    _affine_text(),
    _affine,
    "The bytes of a as vectors of bits, multiplied by the matrices in b's 64-bit lanes, and imm added "
    "(GF2P8AFFINEQB).",
    imm=True,
)
