"""All syscalls: importing this package fills the table. One module per object family, listed here and nowhere else."""

from nexus.nt.syscalls import (
    sync,
)

__all__ = ["sync"]
