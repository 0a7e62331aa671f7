"""Rewrites that every engine profits from. Each is one pass over a block, changes it in place, keeps its
meaning - also what a fault in the middle would show - and can be run alone.

fold     ops whose result is known while translating; conversions and negations that cancel out
flags    flags nobody can see; conditions as the compare they stand for; flags before the result
dead     ops without effect whose result is not used (T0's assembler leaves these out by itself)
"""

from __future__ import annotations

from nexus.ir.rewrite.dead import remove_dead
from nexus.ir.rewrite.flags import simplify_flags
from nexus.ir.rewrite.fold import fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.values import Block

PASSES = {"fold": fold, "flags": simplify_flags, "dead": remove_dead}
ORDER = ("fold", "flags")
"""Those that every block gets, in this order."""


def rewrite(block: Block) -> None:
    """What a block gets before an engine translates it."""
    for name in ORDER:
        PASSES[name](block)


__all__ = ["ORDER", "PASSES", "fold", "remove_dead", "rewrite", "simplify_flags"]
