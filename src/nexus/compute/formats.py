"""Number formats a matrix product can be asked for, and rounding to them.

Where a device has no units for a format, its operands are rounded to it (to nearest, ties to even) and
multiplied in fp32: the result has the error of the format, the speed is that of fp32. Scaled formats divide
each operand by one factor so that its largest magnitude becomes the format's largest number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.compute.errors import BadInput

Array = NDArray[Any]


@dataclass(frozen=True)
class Format:
    """`bits` of significand with the hidden one; `least` exponent of the smallest normal number."""

    name: str
    bits: int
    least: int
    largest: float
    scaled: bool = False

    @property
    def relative(self) -> float:
        """Largest relative rounding error of a normal number; 0 where the error is absolute (int8)."""
        return 0.0 if self.name == "int8" else 2.0**-self.bits

    @property
    def absolute(self) -> float:
        """Largest rounding error of a number below the normal ones, in units of the scaled operand."""
        return 0.5 if self.name == "int8" else 2.0 ** (self.least - self.bits)


FORMATS = {
    row.name: row
    for row in (
        Format("fp32", 24, -126, float(np.finfo(np.float32).max)),
        Format("tf32", 11, -126, float(np.finfo(np.float32).max)),
        Format("bf16", 8, -126, 3.3895313892515355e38),
        Format("fp16", 11, -14, 65504.0),
        Format("fp8_e4m3", 4, -6, 448.0, scaled=True),
        Format("fp8_e5m2", 3, -14, 57344.0, scaled=True),
        Format("int8", 8, 0, 127.0, scaled=True),
    )
}


def format_of(name: str) -> Format:
    """The format called `name`; `fp8` is e4m3."""
    found = FORMATS.get("fp8_e4m3" if name == "fp8" else name)
    if found is None:
        raise BadInput(f"there is no number format {name!r}", hint=f"formats: {' '.join(FORMATS)}")
    return found


def quantise(array: Array, wanted: Format, name: str) -> tuple[Array, float]:
    """`array` (finite float32) rounded to the format, as float32, and the scale that was divided out."""
    if wanted.name == "fp32":
        return array, 1.0
    peak = float(np.max(np.abs(array)))
    if not np.isfinite(peak):
        raise BadInput(f"{name} holds NaN or Inf, which {wanted.name} is not given")
    if not wanted.scaled:
        rounded = round_to(array, wanted)
        if peak > wanted.largest or not np.isfinite(np.max(np.abs(rounded))):
            raise BadInput(
                f"{name} holds {peak:g}; the largest number of {wanted.name} is {wanted.largest:g}",
                hint="scale the operand, or use bf16 or fp32",
            )
        return rounded, 1.0
    scale = peak / wanted.largest or 1.0
    if scale < float(np.finfo(np.float32).tiny):
        raise BadInput(f"the largest number of {name}, {peak:g}, is too small to be scaled to {wanted.name}")
    return np.clip(round_to(array / np.float32(scale), wanted), -wanted.largest, wanted.largest), scale


def round_to(array: Array, wanted: Format) -> Array:
    """Round to nearest, ties to even."""
    if wanted.name == "int8":
        return np.rint(array).astype(np.float32)
    if wanted.name == "fp16":
        with np.errstate(over="ignore"):
            return array.astype(np.float16).astype(np.float32)
    if wanted.least == -126:
        return _cut_significand(array, 24 - wanted.bits)
    _, exponent = np.frexp(array)
    step = np.maximum(exponent, wanted.least + 1) - wanted.bits
    rounded: Array = np.ldexp(np.rint(np.ldexp(array, -step)), step).astype(np.float32)
    return rounded


def _cut_significand(array: Array, drop: int) -> Array:
    """Round away the lowest `drop` bits; formats with fp32's exponent range keep their subnormal numbers."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1)
    odd = (bits >> np.uint32(drop)) & np.uint32(1)
    mask = np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)
    rounded: Array = ((bits + half + odd) & mask).view(np.float32)
    return rounded
