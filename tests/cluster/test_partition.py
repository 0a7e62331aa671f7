"""A network that is cut between nodes: two network namespaces joined by a cable that is pulled in mid-job.

`cut_network.py` runs in namespaces of its own (`unshare`), where it may make and cut networks without
rights on the machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def unsupported() -> str:
    """Why namespaces cannot be made here; empty when they can."""
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is missing (util-linux, iproute2)"
    probe = "ip link add near type veth peer name far && unshare -n true"
    done = subprocess.run(["unshare", "-rn", "sh", "-c", probe], capture_output=True, text=True, check=False)
    return f"network namespaces cannot be made here: {done.stderr.strip()}" if done.returncode else ""


def test_a_cut_network_costs_a_chunk_and_not_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = unsupported()
    if why:
        pytest.skip(why)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    script = os.path.join(os.path.dirname(__file__), "cut_network.py")
    command = ["unshare", "-rn", sys.executable, script, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cut"] and found["right"] and found["devices"] == 2
    assert 1 <= len(found["recoveries"]) <= 2 and any("stalled" in note for note in found["notes"]), found
    with capsys.disabled():
        print(
            f"\n  network cut in mid-job: done {max(found['recoveries']):.2f} s after it was given up, "
            f"{found['seconds']:.2f} s in all (measured); {found['notes'][0]}"
        )
