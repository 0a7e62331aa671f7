"""What runs inside the namespaces of `test_partition.py`: an engine, a node beside it, one over a cable.

The cable is pulled as soon as the node over there has begun a chunk; that node waits until it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np

from cluster import functions
from cluster.test_cluster import Expected
from nexus.compute.cluster import keys
from nexus.compute.cluster.engine import cluster
from nexus.compute.cluster.membership import NodeProcess

HERE, THERE, PORT, SHARE = "10.77.0.1", "10.77.0.2", "8786", "0.4"
SCHEDULER = """
import sys
from nexus.compute.cluster.scheduler import run_scheduler
run_scheduler(sys.argv[1], int(sys.argv[2]), sys.argv[3])
"""
FAR = """
echo there
read go
ip link set lo up && ip addr add $1/24 dev far && ip link set far up
exec "$2" -m nexus.compute.cluster.node "$3" --host "$1" --keys "$4" --share "$5"
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def over_there(address: str, secret: str) -> subprocess.Popen[bytes]:
    """A node in a namespace of its own, connected by a cable whose end here is `near`."""
    node = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", FAR, "far", THERE, sys.executable, address, secret, SHARE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert node.stdin is not None and node.stdout is not None
    node.stdout.readline()
    ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(node.pid))
    ip("addr", "add", HERE + "/24", "dev", "near")
    ip("link", "set", "near", "up")
    node.stdin.write(b"go\n")
    node.stdin.flush()
    return node


def pull(turn: str) -> None:
    """Cut the cable once the turn was taken."""
    while not os.path.exists(turn + ".taken"):
        time.sleep(0.01)
    ip("link", "set", "near", "down")
    with open(turn + ".cut", "w"):
        pass


def main(folder: str) -> None:
    ip("link", "set", "lo", "up")
    secret, turn = os.path.join(folder, "keys"), os.path.join(folder, "turn")
    address = f"tls://{HERE}:{PORT}"
    keys.make(secret)
    far = over_there(address, secret)
    scheduler = subprocess.Popen(
        [sys.executable, "-c", SCHEDULER, HERE, PORT, secret], stderr=subprocess.PIPE
    )
    assert scheduler.stderr is not None
    scheduler.stderr.readline()
    with cluster(address, keys=secret, seed=1) as engine:
        engine.calibration = Expected()
        near = NodeProcess(address, float(SHARE), secret)
        engine.membership.wait_for(2, [near])
        x = np.arange(60_000.0)
        function = functions.Once(turn, "cut")
        function.only = THERE
        with open(turn, "w"):
            pass
        threading.Thread(target=pull, args=(turn,), daemon=True).start()
        began = time.monotonic()
        right = bool(np.array_equal(engine.map(function, x), x * x))
        report = engine.last
        assert report is not None
        found = {
            "right": right,
            "seconds": time.monotonic() - began,
            "recoveries": report.recoveries,
            "notes": report.notes,
            "devices": len(report.devices),
            "cut": os.path.exists(turn + ".cut"),
        }
        print(json.dumps(found), flush=True)
        for process in (far, near.process, scheduler):
            process.kill()
        # What would say goodbye over the cable waits for it.
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
