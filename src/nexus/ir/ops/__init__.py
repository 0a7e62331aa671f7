"""The op table. Each module adds its rows; importing this package loads them all, in this order."""

from nexus.ir.ops import atomics, bits, flags, flags_shift, flags_word, scalar, state, vector, vector_integer, vector_move
from nexus.ir.ops.table import CONTROL, LOAD, PURE, ROWS, STATE, STORE, TRAP, Row

__all__ = [
    "CONTROL",
    "LOAD",
    "PURE",
    "ROWS",
    "STATE",
    "STORE",
    "TRAP",
    "Row",
    "atomics",
    "bits",
    "flags",
    "flags_shift",
    "flags_word",
    "scalar",
    "state",
    "vector",
    "vector_integer",
    "vector_move",
]
