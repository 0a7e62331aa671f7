"""The state components of XSAVE as bytes (Intel SDM volume 1, 13.4); where they lie: `cpuid.COMPONENTS`."""

from __future__ import annotations

from nexus.ir.state import VECTOR_BYTES, VECTOR_OFFSET
from nexus.isa.x86 import registers as r

# component -> (first register, how many, which bytes of their slots); the mask registers are scalar slots
_VECTORS = {2: (0, 16, slice(16, 32)), 6: (0, 16, slice(32, 64)), 7: (16, 16, slice(0, 64))}


def component(state: r.CpuState, number: int) -> bytes:
    """The bytes of one of COMPONENTS."""
    if number == 5:
        return b"".join(state.k(n).to_bytes(8, "little") for n in range(r.MASKS))
    first, count, part = _VECTORS[number]
    return b"".join(state.vector(first + n)[part] for n in range(count))


def set_component(state: r.CpuState, number: int, data: bytes) -> None:
    """The inverse of `component`."""
    if number == 5:
        for n in range(r.MASKS):
            state.set_k(n, int.from_bytes(data[8 * n : 8 * n + 8], "little"))
        return
    first, count, part = _VECTORS[number]
    size = part.stop - part.start
    for n in range(count):
        at = VECTOR_OFFSET + (first + n) * VECTOR_BYTES + part.start
        state.buffer[at : at + size] = data[n * size : n * size + size]
