"""The curves as a table to read."""

from __future__ import annotations

from typing import Any

from nexus.compute.simulate.picture import crossing_text


def text(report: dict[str, Any]) -> str:
    """Rates are the median of the samples, in brackets their 5th and 95th percentile."""
    lines = [
        f"simulated, {report['samples']} samples for each row; ranges are the 5th to the 95th percentile"
    ]
    for curve in report["curves"]:
        rate = curve["gpu_rate"]
        lines += [
            "",
            f"{curve['precision']}: {curve['what']}",
            f"  one GPU {rate['low'] / 1e12:,.0f} to {rate['high'] / 1e12:,.0f} TFLOP/s ({rate['label']}: "
            f"{rate['source']}); peak {curve['gpu_peak'] / 1e12:,.0f}",
            f"  {'GPUs':>8}  {'EFLOP/s':>20}  {'of kernel rate':>14}  {'after failures':>14}  {'MW':>6}",
        ]
        for point in curve["points"]:
            flops = {name: value / 1e18 for name, value in point["flops"].items()}
            span = f"{flops['median']:.3f} ({flops['p5']:.2f}-{flops['p95']:.2f})"
            lines.append(
                f"  {point['gpus']:>8,}  {span:>20}  {100 * point['farm_efficiency']['median']:>12.1f} %  "
                f"{100 * point['campaign_efficiency']['median']:>12.1f} %  "
                f"{point['watts']['median'] / 1e6:>6.2f}"
            )
        found = curve["at_1_eflops"]
        lines.append(
            "  " + (crossing_text(found) if "gpus" in found else "1 EFLOP/s lies outside these sizes")
        )
    lines += [
        "",
        "published records; each is comparable with figures of its own benchmark and precision only:",
    ]
    for record in report["records"]:
        power = f", {record['watts'] / 1e6:.1f} MW" if record["watts"] else ""
        lines.append(
            f"  {record['benchmark']:<8} {record['precision']:<6} {record['machine']:<16} "
            f"{record['flops'] / 1e18:6.3f} EFLOP/s{power}  ({record['date']}, {record['source']})"
        )
    return "\n".join(lines)
