"""Pages without a browser: WebSocket clients that behave, lie, or break the rules."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from nexus.compute.browser import protocol
from nexus.compute.browser.lobby import Lobby

Array = NDArray[Any]
Spoil = Callable[[bytes, int], bytes | str | None]


def honest(message: bytes, chunk: int) -> bytes:
    return message


def hello(token: object, **changes: object) -> str:
    message = {"type": "hello", "version": 1, "token": token, "adapter": "a test", "limit": 1 << 27}
    return json.dumps({**message, **changes})


class Guest:
    """Joins with a token and multiplies on numpy; `spoil(result, chunk)` may change what it sends, or return
    None to leave. `heard` are the texts it got, `code` why it was closed.
    """

    def __init__(self, lobby: Lobby, spoil: Spoil = honest, first: str | bytes | None = None) -> None:
        self.lobby = lobby
        self.spoil = spoil
        self.first = first if first is not None else hello(token_of(lobby.invite()))
        self.heard: list[dict[str, Any]] = []
        self.code: int | None = None
        self.chunks = 0
        self.thread = threading.Thread(target=lambda: asyncio.run(self.live()), daemon=True)
        self.thread.start()

    async def live(self) -> None:
        url = self.lobby.origin.replace("http", "ws") + "/join"
        socket = await websocket_connect(url, max_message_size=protocol.KEEP_LIMIT + 64)
        await socket.write_message(self.first, binary=isinstance(self.first, bytes))
        kept = np.zeros((0, 0), np.float32)
        while (message := await socket.read_message()) is not None:
            if isinstance(message, str):
                self.heard.append(json.loads(message))
                continue
            kind, number, rows, columns = protocol.HEADER.unpack_from(message)
            data = np.frombuffer(message, "<f4", offset=protocol.HEADER.size).reshape(rows, columns)
            if kind == protocol.KEEP:
                kept = data
            else:
                await self.reply(socket, number, data @ kept)
        self.code = socket.close_code

    async def reply(self, socket: WebSocketClientConnection, number: int, product: Array) -> None:
        self.chunks += 1
        answer = self.spoil(protocol.frame(protocol.RESULT, number, product), self.chunks)
        if answer is None:
            socket.close()
        else:
            with contextlib.suppress(WebSocketClosedError):
                await socket.write_message(answer, binary=isinstance(answer, bytes))

    def gone(self) -> int | None:
        """The close code, once it was sent away."""
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.code


def token_of(address: str) -> str:
    return address.partition("#")[2]


def request(lobby: Lobby, **headers: str) -> HTTPRequest:
    return HTTPRequest(lobby.origin.replace("http", "ws") + "/join", headers=headers)


async def refused(lobby: Lobby, **headers: str) -> str:
    """Why a connection with these headers was not even opened."""
    try:
        await websocket_connect(request(lobby, **headers))
    except Exception as error:
        return str(error)
    return ""
