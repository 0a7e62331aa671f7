"""The types of IR values: integers, and vectors as plain bags of bits.

A vector value has no lanes; the op that reads it says how it is divided (`add.4xi32`). This is what the
guest's registers are, and it spares a bitcast per instruction.
"""


class Type:
    """`name` is the text form, `bits` the width, `llvm` the LLVM type."""

    __slots__ = ("bits", "is_vector", "llvm", "mask", "name")

    def __init__(self, name: str, bits: int, llvm: str, is_vector: bool = False) -> None:
        self.name = name
        self.bits = bits
        self.llvm = llvm
        self.is_vector = is_vector
        self.mask = (1 << bits) - 1

    def __repr__(self) -> str:
        return self.name


I1 = Type("i1", 1, "i1")
I8 = Type("i8", 8, "i8")
I16 = Type("i16", 16, "i16")
I32 = Type("i32", 32, "i32")
I64 = Type("i64", 64, "i64")
V128 = Type("v128", 128, "i128", is_vector=True)
V256 = Type("v256", 256, "i256", is_vector=True)
V512 = Type("v512", 512, "i512", is_vector=True)

INTEGERS = (I8, I16, I32, I64)
VECTORS = (V128, V256, V512)
TYPES = {t.name: t for t in (I1, *INTEGERS, *VECTORS)}
INTEGER_OF_BITS = {t.bits: t for t in (I1, *INTEGERS)}
