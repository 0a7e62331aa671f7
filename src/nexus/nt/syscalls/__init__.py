"""All syscalls: importing this package fills the table. One module per object family, listed here and nowhere else."""

from nexus.nt.syscalls import (
    exception,
    key,
    memory,
    object,
    process,
    section,
    sync,
    thread,
    time,
    token,
    unixcall,
)

__all__ = [
    "exception",
    "key",
    "memory",
    "object",
    "process",
    "section",
    "sync",
    "thread",
    "time",
    "token",
    "unixcall",
]
