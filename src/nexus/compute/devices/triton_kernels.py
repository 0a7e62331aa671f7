"""Triton kernels, for what a library does far below the memory bandwidth. Import only where triton is."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

POINTS = 512


@triton.jit  # type: ignore[untyped-decorator]
def _transform(points: Any, turned: Any, out: Any, count: Any, block: tl.constexpr) -> None:
    """A block of points (x, y, z, w), 16 bytes each, read and written in one piece."""
    rows = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    four = tl.arange(0, 4)
    places = rows[:, None] * 4 + four[None, :]
    inside = (rows < count)[:, None]
    mine = tl.load(points + places, mask=inside, other=0.0)
    matrix = tl.load(turned + four[:, None] * 4 + four[None, :])
    moved = tl.sum(mine[:, :, None] * matrix[None, :, :], axis=1)
    tl.store(out + places, moved, mask=inside)


def transform(points: Any, turned: Any, out: Any) -> None:
    """`out = points @ turned` for contiguous n by 4 and 4 by 4 float32 tensors of one device."""
    count = points.shape[0]
    _transform[(triton.cdiv(count, POINTS),)](points, turned, out, count, block=POINTS)
