"""XSAVE areas: the FXSAVE image, a header of 64 bytes, then the components (Intel SDM volume 1, 13.4).

No use of a component is tracked: every one is saved as in use, which the manual allows, so XSAVEOPT is XSAVE.
In the compacted form components follow each other.
"""

from __future__ import annotations

from nexus.ir.ops.x87_image import control, summary
from nexus.ir.state import Exit
from nexus.isa.x86 import registers as r
from nexus.isa.x86.components import component, set_component
from nexus.isa.x86.cpuid import COMPONENTS, LEGACY_BYTES
from nexus.isa.x86.helpers import MEMORY_OPERAND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.isa.x86.helpers import Machine

X87, SSE, AVX = 1, 2, 4  # bits of XCR0
_HEADER, _COMPACT = 512, 1 << 63
_X87_PARTS = ((0, 24), (32, 160))  # of the FXSAVE image; between them MXCSR and its mask
_XMM, _XMM_END = 160, 416


def _asked(state: r.CpuState, machine: Machine) -> int:
    asked: int = (state.rdx & 0xFFFFFFFF) << 32 | state.rax & 0xFFFFFFFF
    return asked & machine.cpu.xcr0


def _address(state: r.CpuState, machine: Machine) -> tuple[int, int | None]:
    """Where the area is, and what is wrong with that."""
    at = state.slots[MEMORY_OPERAND]
    if "XSAVE" not in machine.cpu.features:
        return at, Exit.ILLEGAL
    return at, Exit.PRIVILEGED if at % 64 or at >> 47 not in (0, 0x1FFFF) else None


def _places(bits: int, compact: bool) -> list[tuple[int, int, int]]:
    """(component, offset, size) of those components in `bits` that lie behind the header."""
    out = []
    at = LEGACY_BYTES
    for number, (offset, size, _) in COMPONENTS.items():
        if bits >> number & 1:
            out.append((number, at if compact else offset, size))
            at += size
    return out


def save(state: r.CpuState, machine: Machine, compact: bool) -> int | None:
    """XSAVE, XSAVEOPT, XSAVEC: store the components that EDX:EAX asks for. Returns the Exit of a #GP or
    #UD."""
    at, wrong = _address(state, machine)
    if wrong is not None:
        return wrong
    asked = _asked(state, machine)
    image = state.fxsave()
    parts = [(begin, image[begin:end]) for begin, end in _X87_PARTS if asked & X87]
    if asked & (SSE | (0 if compact else AVX)):
        parts.append((24, image[24:32]))
    if asked & SSE:
        parts.append((_XMM, image[_XMM:_XMM_END]))
    parts += [(offset, component(state, number)) for number, offset, _ in _places(asked, compact)]
    if compact:
        header = asked.to_bytes(8, "little") + (asked | _COMPACT).to_bytes(8, "little")
    else:
        old = int.from_bytes(machine.read(at + _HEADER, 8), "little")
        header = (old & ~asked | asked).to_bytes(8, "little")
    for offset, data in parts:  # nothing is stored if a part cannot be
        machine.read(at + offset, len(data))
    for offset, data in [*parts, (_HEADER, header)]:
        machine.write(at + offset, data)
    return None


def restore(state: r.CpuState, machine: Machine) -> int | None:
    """XRSTOR: load the components that EDX:EAX asks for; one that the area does not have is reset."""
    at, wrong = _address(state, machine)
    if wrong is not None:
        return wrong
    area = machine.read(at, LEGACY_BYTES)
    words = [int.from_bytes(area[n : n + 8], "little") for n in range(_HEADER, LEGACY_BYTES, 8)]
    there, form, xcr0 = words[0], words[1], machine.cpu.xcr0
    compact = bool(form & _COMPACT)
    if compact:
        wild = there & ~form or form & ~_COMPACT & ~xcr0 or any(words[2:])
    else:
        wild = there & ~xcr0 or form or words[2]
    asked = _asked(state, machine)
    loads_mxcsr = asked & SSE if compact else asked & (SSE | AVX)
    mxcsr = int.from_bytes(area[24:28], "little")
    if compact and not there & SSE:
        mxcsr = r.DEFAULT_MXCSR
    if wild or (loads_mxcsr and mxcsr & ~r.MXCSR_MASK):
        return Exit.PRIVILEGED
    present = _places(form if compact else xcr0, compact)
    data = {n: machine.read(at + offset, size) for n, offset, size in present if asked & there & 1 << n}
    image = bytearray(state.fxsave())
    if asked & X87:
        fresh = r.DEFAULT_FCW.to_bytes(24, "little"), bytes(128)
        for (begin, end), reset in zip(_X87_PARTS, fresh, strict=True):
            image[begin:end] = area[begin:end] if there & X87 else reset
    if asked & SSE:
        image[_XMM:_XMM_END] = area[_XMM:_XMM_END] if there & SSE else bytes(_XMM_END - _XMM)
    if loads_mxcsr:
        image[24:28] = mxcsr.to_bytes(4, "little")
    state.fxrstor(bytes(image))
    state.fcw = control(state.fcw)
    state.slots[r.FSW] = summary(state.slots[r.FSW], state.fcw)
    for number, (_, size, _) in COMPONENTS.items():
        if asked >> number & 1:
            set_component(state, number, data.get(number, bytes(size)))
    return None
