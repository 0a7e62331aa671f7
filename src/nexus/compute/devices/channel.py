"""Messages between the engine and a worker process: an object, and file descriptors, over a Unix socket.

Both ends are nexus itself (the worker is started by the engine), so messages are pickled.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

HEADER = struct.Struct("<QQ")


def send(channel: socket.socket, message: object, fds: tuple[int, ...] = ()) -> None:
    """Send one message with up to 16 file descriptors. Raises OSError when the other end is gone."""
    body = pickle.dumps(message)
    socket.send_fds(channel, [HEADER.pack(len(body), len(fds))], list(fds))
    channel.sendall(body)


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """The next message and its file descriptors. Raises EOFError when the other end is gone."""
    head, fds, _, _ = socket.recv_fds(channel, HEADER.size, 16)
    while len(head) < HEADER.size:
        head += _some(channel, HEADER.size - len(head))
    size, _ = HEADER.unpack(head)
    body = bytearray()
    while len(body) < size:
        body += _some(channel, size - len(body))
    return pickle.loads(bytes(body)), fds


def _some(channel: socket.socket, size: int) -> bytes:
    data = channel.recv(min(size, 1 << 20))
    if not data:
        raise EOFError("the other end is gone")
    return data
