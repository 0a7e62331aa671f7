"""`run --stats`: what a run did, in numbers."""

from __future__ import annotations

from nexus.ir.state import Exit
from nexus.machine.measure import Measure
from nexus.machine.stop import KINDS


def text(measure: Measure, seconds: float) -> str:
    """The lines; `seconds` is how long the whole run took, on the clock."""
    hot = [vcpu.translations.hot for vcpu in measure.vcpus]
    counts = [vcpu.translations.counts for vcpu in measure.vcpus]
    inside = measure.nanoseconds / 1e9
    speed = measure.instructions / inside / 1e6 if inside else 0.0
    exits = sorted(measure.exits.items(), key=lambda item: -item[1])
    lines = [
        f"instructions     {measure.instructions:,} ({speed:,.0f} million a second in guest code)",
        f"time             {seconds:.3f} s in all, {inside:.3f} s of processor time in guest code",
        f"processes        {len(measure.vcpus)}",
        f"blocks for T0    {sum(c.made for c in counts):,} translated, "
        f"{sum(c.kept for c in counts):,} cached",
        f"blocks for T1    {sum(c.host_code_made for c in counts):,} made into host code, "
        f"{sum(c.host_code_kept for c in counts):,} cached",
        f"regions for T2   {sum(h.units for h in hot if h is not None):,} compiled",
        f"system calls     {measure.exits.get(Exit.SYSCALL, 0):,}",
        "exits            " + ", ".join(f"{KINDS[kind].lower()} {count:,}" for kind, count in exits),
    ]
    return "\n".join(lines)
