"""The server that browsers visit: the page, one-time tokens, and a connection for each browser.

It listens on the loopback only, unless it has a certificate. All of it runs on one thread of its own, which
the scheduler's threads reach by `Lobby.call`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from nexus.compute.browser import protocol
from nexus.compute.browser.device import BrowserDevice
from nexus.compute.cluster import keys as cluster_keys
from nexus.compute.devices import wgsl
from nexus.compute.errors import ComputeError

PAGE = os.path.join(os.path.dirname(__file__), "page.html")
VISITORS = 64
"""Connections at a time."""
HELLO_SECONDS = 10.0
TOKEN_SECONDS = 3600.0
PING_SECONDS = 5.0


class Lobby:
    """Serves at `url` once made. `keys` is a folder of the cluster's keys, whose certificate makes it https.

    Raises BadInput for a host beyond the loopback without keys, ComputeError when the port is taken.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, keys: str | None = None) -> None:
        cluster_keys.check_host(host, keys)
        self.tokens: dict[str, float] = {}
        self.visitors: set[Connection] = set()
        self.joined: list[BrowserDevice] = []
        self.banned: list[str] = []
        self.count = 0
        self.changed = threading.Condition()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="browser-lobby", daemon=True)
        self.thread.start()
        context = certificate(keys) if keys else None
        try:
            self.port: int = asyncio.run_coroutine_threadsafe(
                self.listen(host, port, context), self.loop
            ).result()
        except OSError as error:
            self.stop()
            raise ComputeError(f"the page cannot be served at {host}:{port}: {error.strerror}") from None
        shown = f"[{host}]" if ":" in host else host
        self.origin = f"{'https' if keys else 'http'}://{shown}:{self.port}"
        self.hosts = {f"{name}:{self.port}" for name in (shown, "localhost", "127.0.0.1")}

    async def listen(self, host: str, port: int, context: ssl.SSLContext | None) -> int:
        given = {"lobby": self}
        application = Application(
            [("/", Page, given), ("/join", Connection, given)],
            websocket_max_message_size=protocol.FRAME_LIMIT,
            websocket_ping_interval=PING_SECONDS,
            log_function=lambda handler: None,
        )
        self.server = HTTPServer(application, ssl_options=context, max_body_size=0, max_header_size=1 << 14)
        self.server.listen(port, host)
        sockets = list(self.server._sockets.values())
        return int(sockets[0].getsockname()[1])

    def invite(self) -> str:
        """The address of the page with a token that one browser can use once, within TOKEN_SECONDS."""
        token = secrets.token_urlsafe(24)
        with self.changed:
            now = time.monotonic()
            self.tokens = {known: end for known, end in self.tokens.items() if end > now}
            self.tokens[digest(token)] = now + TOKEN_SECONDS
        return f"{self.origin}/#{token}"

    def redeem(self, token: str) -> bool:
        """Whether a token is valid; it is not any more afterwards."""
        with self.changed:
            return self.tokens.pop(digest(token), 0.0) > time.monotonic()

    def devices(self) -> list[BrowserDevice]:
        """The browsers that are here."""
        with self.changed:
            return list(self.joined)

    def wait(self, count: int, seconds: float) -> bool:
        """Wait until `count` browsers have joined."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.joined) >= count, seconds)

    def call(self, action: Callable[..., object], *arguments: object) -> None:
        """Do something on the lobby's thread; nothing once it is closed."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(action, *arguments)

    def close(self) -> None:
        """Send every browser away and stop."""
        if not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(self.leave(), self.loop).result()
            self.stop()

    async def leave(self) -> None:
        for visitor in list(self.visitors):
            visitor.finish_with("the job is done")
        self.server.stop()
        await self.server.close_all_connections()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def digest(token: str) -> str:
    """Tokens are looked up by digest, so that the time it takes tells nothing about them."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def certificate(folder: str) -> ssl.SSLContext:
    cluster_keys.security(folder)  # checks the folder
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        os.path.join(folder, cluster_keys.CERTIFICATE), os.path.join(folder, cluster_keys.KEY)
    )
    return context


class Page(RequestHandler):
    """The page, which may load nothing and talk to nobody but this server."""

    def initialize(self, lobby: Lobby) -> None:
        self.lobby = lobby

    def get(self) -> None:
        if self.request.host not in self.lobby.hosts:
            self.send_error(403)
            return
        nonce = secrets.token_urlsafe(16)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header(
            "Content-Security-Policy",
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        with open(PAGE, encoding="utf-8") as file:
            self.finish(file.read().replace("NONCE", nonce))


class Connection(WebSocketHandler):
    """One browser. It first says hello with a token; then it may only answer what it was asked."""

    def initialize(self, lobby: Lobby) -> None:
        self.lobby = lobby
        self.device: BrowserDevice | None = None
        self.expected: tuple[BrowserDevice, int, int, int] | None = None
        self.why_closed = ""
        self.late: asyncio.TimerHandle | None = None

    def check_origin(self, origin: str) -> bool:
        return origin == self.lobby.origin or origin.partition("://")[2] in self.lobby.hosts

    def prepare(self) -> None:
        if self.request.host not in self.lobby.hosts:
            self.send_error(403)
        elif len(self.lobby.visitors) >= VISITORS:
            self.send_error(503)

    def open(self, *arguments: str, **named: str) -> None:
        self.lobby.visitors.add(self)
        self.set_nodelay(True)
        self.late = self.lobby.loop.call_later(HELLO_SECONDS, self.finish_with, "no hello came")

    def on_message(self, message: str | bytes) -> None:
        if self.why_closed:
            return
        try:
            if self.device is None:
                self.greet(message)
            else:
                self.take(message)
        except protocol.Violation as wrong:
            self.finish_with(f"banned: {wrong}", banned=self.device is not None)

    def greet(self, message: str | bytes) -> None:
        if not isinstance(message, str):
            raise protocol.Violation("the first message is not a hello")
        token, adapter, limit = protocol.hello(message)
        if not self.lobby.redeem(token):
            self.finish_with("this token is not valid, or was used before: ask for a new address")
            return
        if self.late is not None:
            self.late.cancel()
        address = self.request.remote_ip or ""
        self.device = BrowserDevice(
            self, f"browser{self.lobby.count}", adapter, limit, address in ("127.0.0.1", "::1")
        )
        self.lobby.count += 1
        kernels = [{"name": row.name, "side": row.side, "source": row.source} for row in wgsl.PRODUCTS]
        self.post({"type": "welcome", "name": self.device.name, "kernels": kernels})
        with self.lobby.changed:
            self.lobby.joined.append(self.device)
            self.lobby.changed.notify_all()

    def take(self, message: str | bytes) -> None:
        """The answer to the chunk under way."""
        if self.expected is None:
            raise protocol.Violation("a message that nobody asked for")
        device, number, rows, columns = self.expected
        answer: object
        if isinstance(message, str):
            answer = protocol.failure(message, number)
        else:
            answer = np.array(protocol.result(message, number, rows, columns))
        self.expected = None
        device.answer = answer
        device.answered.set()

    # Called from the scheduler's threads.

    def expect(self, device: BrowserDevice, number: int, rows: int, columns: int) -> None:
        self.lobby.call(setattr, self, "expected", (device, number, rows, columns))

    def send(self, data: bytes | dict[str, Any]) -> None:
        self.lobby.call(self.post, data)

    def end(self, why: str, banned: bool = False) -> None:
        """Close the connection; the device takes part in nothing from now on."""
        self.leave(why)
        self.lobby.call(self.finish_with, why, banned)

    # On the lobby's thread.

    def post(self, data: bytes | dict[str, Any]) -> None:
        if self.ws_connection is None or self.ws_connection.is_closing():
            return
        try:
            self.write_message(data, binary=isinstance(data, bytes))
        except WebSocketClosedError:
            self.leave("it left")

    def finish_with(self, why: str, banned: bool = False) -> None:
        """Say why and close."""
        self.leave(why)
        if banned:
            name = self.device.name if self.device is not None else "a visitor"
            self.lobby.banned.append(f"{name}: {why}")
            del self.lobby.banned[:-VISITORS]
        self.post({"type": "over", "why": why})
        self.close(1008 if banned else 1000, why[:100])

    def leave(self, why: str) -> None:
        """Note that the browser is gone and wake who waits for it."""
        self.why_closed = self.why_closed or why
        device = self.device
        if device is not None:
            with self.lobby.changed:
                if device in self.lobby.joined:
                    self.lobby.joined.remove(device)
                self.lobby.changed.notify_all()
            device.answered.set()

    def on_close(self) -> None:
        if self.late is not None:
            self.late.cancel()
        self.lobby.visitors.discard(self)
        self.leave("it left" if self.close_code != 1009 else "banned: a frame longer than any result")
