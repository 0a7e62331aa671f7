"""The op table. Each module adds its rows; importing this package loads them all, in this order."""

from nexus.ir.ops import flags, scalar, state
from nexus.ir.ops.table import CONTROL, LOAD, PURE, ROWS, STATE, STORE, TRAP, Row

__all__ = ["CONTROL", "LOAD", "PURE", "ROWS", "STATE", "STORE", "TRAP", "Row", "flags", "scalar", "state"]
