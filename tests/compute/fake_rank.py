"""A rank of a group without torch: it answers as `collective.rank` does and multiplies with numpy.

`python fake_rank.py BEHAVIOUR FD`. Ranks are of `old` sources or a `mixed` lot; rank 1 may `die`, `freeze` or
`fail` at its first chunk, or `lie`. Each computes its rows, whichever way the product is split.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

from nexus.compute import shared
from nexus.compute.cluster.identity import sources
from nexus.compute.devices import channel


def main(behaviour: str, fd: int) -> None:
    link = socket.socket(fileno=fd)
    told = {
        "sources": "another" if behaviour == "old" else sources(),
        "torch": str(os.getpid()) if behaviour == "mixed" else "0",
    }
    channel.send(link, ("about", told))
    rank, size = 0, 1
    arrays: list[Any] = []
    while True:
        try:
            (what, *rest), fds = channel.receive(link)
        except EOFError:
            return
        if what == "join":
            _, rank, size, *_ = rest
        elif what == "job":
            rows, places = rest[0], rest[1]
            mapped = {key: shared.attach(fds[n], length) for n, key, length in rows}
            arrays = [shared.view(mapped[place.key], place) for place in places]
        else:
            misbehave(behaviour if rank == 1 else "")
            if behaviour == "fail" and rank == 1:
                channel.send(link, ("memory", "no more of it"))
                continue
            start, stop = rest
            low, high = (start + (stop - start) * n // size for n in (rank, rank + 1))
            a, b, out = arrays
            out[low:high] = a[low:high] @ b + (1.0 if behaviour == "lie" and rank == 1 else 0.0)
        for number in fds:
            os.close(number)
        channel.send(link, ("working", None))
        channel.send(link, ("done", 0))


def misbehave(behaviour: str) -> None:
    if behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
