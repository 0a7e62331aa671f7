"""Drawing services that libraries call when they are loaded.

There is no display, and so no drawing object can be made.
"""

from __future__ import annotations

from nexus.abi.types import boolean, i32, u32, uptr
from nexus.nt.call import Call
from nexus.nt.syscall import stub

_NO_DRAWING = "there is no display, so there are no drawing objects"


@stub(_NO_DRAWING)
def NtGdiCreateBitmap(call: Call, width: i32, height: i32, planes: u32, depth: u32, bits: uptr) -> int:
    """Makes none."""
    return 0


@stub(_NO_DRAWING)
def NtGdiCreatePatternBrushInternal(call: Call, bitmap: uptr, pen: boolean, brush_8x8: boolean) -> int:
    """Makes none."""
    return 0


@stub(_NO_DRAWING)
def NtGdiOpenDCW(call: Call, device: uptr, mode: uptr, output: uptr, kind: u32, is_display: boolean) -> int:
    """Opens none."""
    return 0


@stub(_NO_DRAWING)
def NtGdiCreateSolidBrush(call: Call, color: u32, brush: uptr) -> int:
    """Makes none."""
    return 0


@stub(_NO_DRAWING)
def NtGdiCreateCompatibleDC(call: Call, context: uptr) -> int:
    """Makes none."""
    return 0


@stub(_NO_DRAWING)
def NtUserFindExistingCursorIcon(call: Call, module: uptr, name: uptr, resource: uptr) -> int:
    """Finds none."""
    return 0


@stub(_NO_DRAWING)
def NtUserDestroyCursor(call: Call, cursor: uptr, reserved: uptr) -> int:
    """There is none to destroy."""
    return 0
