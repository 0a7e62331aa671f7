"""What others measured on real machines, with where it stands. Never compared across precisions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

HPL, HPL_MXP = "HPL", "HPL-MxP"
"""HPL solves a system of equations in fp64. HPL-MxP solves one in lower precisions and refines to fp64."""


@dataclass(frozen=True)
class Record:
    """`flops` per second; `watts` is 0 where the source does not tell."""

    machine: str
    benchmark: str
    precision: str
    flops: float
    date: str
    source: str
    watts: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {"label": "published", **asdict(self)}


TOP500 = "TOP500, 66th list, announced at SC25"
RECORDS = (
    Record("El Capitan", HPL, "fp64", 1.809e18, "2025-11", TOP500, 1.809e18 / 60.9e9),
    Record("Frontier", HPL, "fp64", 1.353e18, "2025-11", TOP500),
    Record("Aurora", HPL, "fp64", 1.012e18, "2025-11", TOP500),
    Record("JUPITER Booster", HPL, "fp64", 1.000e18, "2025-11", TOP500),
    Record("Aurora", HPL_MXP, "mixed", 11.64e18, "2025", "HPL-MxP list, taken from a secondary source"),
    Record("Frontier", HPL_MXP, "mixed", 7.94e18, "2022-11", "TOP500, 60th list"),
)
