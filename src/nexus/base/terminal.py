"""What nexus itself says: one prefix, always on stderr, never into the guest's streams.

Progress is shown only when stderr is a terminal. On the start path of `run`: no imports but `os` and `sys`.
"""

from __future__ import annotations

import os
import sys

from nexus.base.errors import NexusError

verbosity = 0


def notice(text: str) -> None:
    """Print one line (or an indented few) as nexus's own; a closed stderr is not an error."""
    lines = text.splitlines() or [""]
    message = "".join(f"nexus: {line}\n" if n == 0 else f"       {line}\n" for n, line in enumerate(lines))
    try:
        sys.stderr.write(message)
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def pass_on(text: bytes) -> None:
    """Bytes that somebody else meant for stderr, unchanged; a closed stderr is not an error."""
    try:
        sys.stderr.buffer.write(text)
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def detail(text: str) -> None:
    """A line that only `-v` shows."""
    if verbosity > 0:
        notice(text)


def progress_wanted() -> bool:
    """Whether progress may be shown: stderr is a terminal and `-q` was not given."""
    return verbosity >= 0 and is_terminal()


def is_terminal() -> bool:
    try:
        return os.isatty(2)
    except OSError:
        return False


def report_error(error: NexusError) -> None:
    """The message of an error and, after an arrow, its next step."""
    notice(str(error))
    if error.hint:
        notice(f"-> {error.hint}")


class Progress:
    """One line on the terminal that is rewritten while something long goes on; silent elsewhere."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.shown = ""
        self.active = progress_wanted()

    def update(self, text: str) -> None:
        line = f"nexus: {self.label} {text}"
        if self.active and line != self.shown:
            self.shown = line
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def bytes(self, done: int, total: int) -> None:
        if total:
            self.update(f"{done / 1e6:.1f} of {total / 1e6:.1f} MB")
        else:
            self.update(f"{done / 1e6:.1f} MB")

    def close(self) -> None:
        if self.active and self.shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
