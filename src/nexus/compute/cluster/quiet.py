"""Keeping dask's own log lines off the terminal."""

from __future__ import annotations

import logging


def quiet() -> None:
    """dask says on stderr what the engine tells in its reports and errors."""
    import distributed

    for name in ("", ".scheduler", ".worker", ".core", ".client", ".comm", ".batched", ".utils_perf"):
        logging.getLogger(distributed.__name__ + name).setLevel(logging.CRITICAL + 1)
