"""The host's own programs that fetch things (apt-get, pip, npm), and the locks under which they do.

Only the standard library of Python 3.11: the launcher uses it before the private environment exists.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from nexus.base.terminal import notice, progress_wanted

_LOOK = 0.3  # seconds between two calls of `watch`


def run_client(
    command: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    watch: Callable[[], None] | None = None,
) -> tuple[int, str]:
    """Run a program quietly in `folder`: its exit code, and output and errors together.

    `watch` is called now and then while it runs, if progress may be shown. The program ends with us.
    """
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    try:
        while True:
            try:
                output, _ = process.communicate(timeout=_LOOK if watch and progress_wanted() else None)
                return process.returncode, output.decode(errors="replace")
            except subprocess.TimeoutExpired:
                if watch:
                    watch()
    except BaseException:
        process.terminate()
        process.wait()
        raise


@contextmanager
def exclusive(folder: str, name: str, doing: str) -> Iterator[None]:
    """Hold the lock file `folder`/`name`; says once that another nexus is `doing` it already."""
    with open(os.path.join(folder, name), "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress_wanted():
                notice(f"another nexus is {doing}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
