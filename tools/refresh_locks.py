"""Write `locks/GROUP.txt` from `locks/GROUP.in`: exact versions and hashes for Python 3.11 to 3.14.

Run it with `uv` on PATH: `python tools/refresh_locks.py [GROUP ...]`. The first line of a lock is a digest of
the rest; the launcher compares that line to tell whether an environment is still current, so nothing has to
be hashed when a prepared checkout starts.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).resolve().parent.parent / "locks"
DOWNLOAD_MB = {"core": 62, "test": 200, "bench": 112, "compute": 52, "cluster": 62}


def resolve(group: str) -> str:
    """The pinned requirements of one group; other groups are built on `core`, so its pins are constraints."""
    command = ["uv", "pip", "compile", "-q", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-annotate", "--no-header", "--no-emit-index-url", str(LOCKS / f"{group}.in")]
    if group != "core":
        command += ["-c", str(LOCKS / "core.txt")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(groups: list[str]) -> None:
    for group in groups or list(DOWNLOAD_MB):
        body = f"# download: {DOWNLOAD_MB[group]} MB\n{resolve(group)}"
        digest = hashlib.sha256(body.encode()).hexdigest()
        (LOCKS / f"{group}.txt").write_text(f"# lock: {digest}\n{body}")


if __name__ == "__main__":
    main(sys.argv[1:])
