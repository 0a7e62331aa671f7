"""The part of a CONTEXT that holds what came after SSE: the upper halves of the YMM registers.

A CONTEXT with CONTEXT_XSTATE is followed by a CONTEXT_EX, which says where an XSAVE header with the
components is (winnt.h; Intel SDM volume 1, 13.4). Components lie where XSAVE's standard form has them, the
compacted one is not reported.
"""

from __future__ import annotations

import struct

from nexus.isa.x86.components import component, set_component
from nexus.isa.x86.cpuid import COMPONENTS
from nexus.nt.errors import NtError
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.isa.x86.cpuid import Cpu
    from nexus.isa.x86.registers import CpuState
    from nexus.machine.window import Window

HEADER = 64
CONTEXT_EX = struct.Struct("<iIiIiI8x")
"""All, Legacy and XState: each an offset from this structure, and a length."""
_BEFORE = 512  # of the XSAVE area, the part that is in the CONTEXT
_NO_LENGTH = 25  # what Windows has as length where there is nothing
_LEGACY = 3


def size(cpu: Cpu) -> int:
    """Bytes of the header and the components, 0 on a processor without any."""
    ends = [at + length - _BEFORE for n, (at, length, _) in COMPONENTS.items() if cpu.xcr0 >> n & 1]
    return max(ends, default=0)


def context_ex(context_size: int, place: int, length: int) -> bytes:
    """The CONTEXT_EX behind a CONTEXT, with the XState at `place` from it; `length` 0 if there is none."""
    if length:
        whole = context_size + place + length
        return CONTEXT_EX.pack(-context_size, whole, -context_size, context_size, place, length)
    whole = context_size + CONTEXT_EX.size - 8
    return CONTEXT_EX.pack(-context_size, whole, -context_size, context_size, 0, _NO_LENGTH)


def save(state: CpuState, cpu: Cpu, wanted: int = -1) -> bytes:
    """Header and components; those that are zero, or not wanted, are not in the header's mask."""
    area, mask = bytearray(size(cpu)), 0
    for number, (at, length, _) in COMPONENTS.items():
        if cpu.xcr0 & wanted & 1 << number:
            data = component(state, number)
            if any(data):
                mask |= 1 << number
                area[at - _BEFORE : at - _BEFORE + length] = data
    area[:8] = mask.to_bytes(8, "little")
    return bytes(area)


def _place(window: Window, context: int, context_size: int, cpu: Cpu) -> tuple[int, int, int]:
    """Where the XState of a CONTEXT is, its length, and the extended components that its header names."""
    *_, offset, length = CONTEXT_EX.unpack(window.read(context + context_size, CONTEXT_EX.size))
    if not HEADER <= length <= size(cpu):
        raise NtError(Status.INVALID_PARAMETER)
    at = context + context_size + offset
    mask = window.u64(at) & cpu.xcr0 & ~_LEGACY
    return at, length, mask


def _check(mask: int, length: int) -> None:
    for number, (at, size_of, _) in COMPONENTS.items():
        if mask >> number & 1 and length < at - _BEFORE + size_of:
            raise NtError(Status.BUFFER_OVERFLOW)


def load_from(window: Window, context: int, context_size: int, state: CpuState, cpu: Cpu) -> None:
    """Set the components from the guest's CONTEXT; those that its header does not name become zero."""
    if not size(cpu):
        return
    place, length, mask = _place(window, context, context_size, cpu)
    _check(mask, length)
    for number, (at, size_of, _) in COMPONENTS.items():
        if cpu.xcr0 >> number & 1:
            there = mask >> number & 1
            data = window.read(place + at - _BEFORE, size_of) if there else bytes(size_of)
            set_component(state, number, data)


def store_to(window: Window, context: int, context_size: int, state: CpuState, cpu: Cpu) -> None:
    """Fill in the components that the header in the guest's CONTEXT asks for."""
    if not size(cpu):
        return
    place, length, wanted = _place(window, context, context_size, cpu)
    area = save(state, cpu, wanted)
    mask = int.from_bytes(area[:8], "little")
    _check(mask, length)
    window.write(place, area[:HEADER])
    for number, (at, size_of, _) in COMPONENTS.items():
        if mask >> number & 1:
            window.write(place + at - _BEFORE, area[at - _BEFORE : at - _BEFORE + size_of])
