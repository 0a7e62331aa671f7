"""Cutting a matrix product into tiles that fit a memory limit."""

from __future__ import annotations

from nexus.compute.errors import OutOfDeviceMemory

SMALLEST = 16


def tile_sizes(
    rows: int, columns: int, depth: int, limit: int | None, itemsize: int = 4
) -> tuple[int, int, int]:
    """Tile rows, columns and depth with all three tiles within `limit` bytes; the longest side is halved
    first.
    """
    if limit is None:
        return rows, columns, depth
    sides = [rows, columns, depth]
    while needed(sides, itemsize) > limit:
        longest = sides.index(max(sides))
        if sides[longest] <= SMALLEST:
            raise OutOfDeviceMemory(
                f"not even tiles of {SMALLEST} by {SMALLEST} fit into {limit} bytes",
                hint=f"allow at least {needed([SMALLEST] * 3, itemsize)} bytes",
            )
        sides[longest] = max(SMALLEST, (sides[longest] + 1) // 2)
    return sides[0], sides[1], sides[2]


def needed(sides: list[int], itemsize: int) -> int:
    rows, columns, depth = sides
    return (rows * depth + depth * columns + rows * columns) * itemsize


def steps(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    """Consecutive ranges of at most `step`."""
    return [(at, min(at + step, stop)) for at in range(start, stop, step)]
