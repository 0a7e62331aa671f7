"""Holding work to a share of a core, which makes devices of different speed out of one machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_to(share: float) -> Iterator[None]:
    """Work that used t seconds of this thread's processor time takes at least t / share."""
    began, used = time.monotonic(), time.thread_time()
    yield
    owed = (time.thread_time() - used) / share - (time.monotonic() - began)
    if owed > 0:
        time.sleep(owed)
