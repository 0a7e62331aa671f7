"""The samples as charts on a page for a browser on this machine.

The server listens on the loopback address only. Every request must carry the token that the address printed
at the start has, and name this server as its host, so that no other page can read it by a name that leads
here. The page is one file and loads nothing from anywhere.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nexus.compute.monitor.machine import Meter

KEPT = 300
"""Samples that a page opened later still sees."""
PAGE = os.path.join(os.path.dirname(__file__), "page.html")


class Samples:
    """The last KEPT samples, numbered from 1."""

    def __init__(self) -> None:
        self.rows: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.count = 0
        self.lock = threading.Lock()

    def add(self, row: dict[str, Any]) -> None:
        with self.lock:
            self.count += 1
            self.rows.append({"number": self.count, **row})

    def after(self, number: int) -> list[dict[str, Any]]:
        with self.lock:
            return [row for row in self.rows if row["number"] > number]


class Server(ThreadingHTTPServer):
    """Serves the page and its samples at 127.0.0.1; `url` has the token."""

    daemon_threads = True

    def __init__(self, samples: Samples, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.samples = samples
        self.token = secrets.token_urlsafe(24)
        self.port = self.server_address[1]
        self.hosts = {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}
        self.url = f"http://127.0.0.1:{self.port}/?token={self.token}"


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /samples?after=N the samples after N as JSON lines."""

    server: Server
    timeout = 10
    server_version = "nexus"
    sys_version = ""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = parse_qs(address.query)
        given = asked.get("token", [""])[0]
        if self.headers.get("Host") not in self.server.hosts:
            self.answer(403, "text/plain", "this server is not called so\n")
        elif not hmac.compare_digest(given.encode(), self.server.token.encode()):
            self.answer(403, "text/plain", "the address lacks its token\n")
        elif address.path == "/":
            with open(PAGE, encoding="utf-8") as file:
                nonce = secrets.token_urlsafe(12)
                self.answer(200, "text/html", file.read().replace("NONCE", nonce), nonce)
        elif address.path == "/samples":
            after = asked.get("after", ["0"])[0]
            if not (after.isascii() and after.isdecimal() and len(after) < 16):
                self.answer(400, "text/plain", "after is a whole number\n")
                return
            rows = self.server.samples.after(int(after))
            self.answer(200, "application/x-ndjson", "".join(json.dumps(row) + "\n" for row in rows))
        else:
            self.answer(404, "text/plain", "there is / and /samples\n")

    def answer(self, status: int, kind: str, body: str, nonce: str = "") -> None:
        data = body.encode()
        own = f"'nonce-{nonce}'" if nonce else "'none'"
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        policy = f"default-src 'none'; script-src {own}; style-src {own}; connect-src 'self'; base-uri 'none'"
        self.send_header("Content-Security-Policy", policy + "; frame-ancestors 'none'; form-action 'none'")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: they would write the token to the terminal every second."""


def serve(count: int | None, port: int) -> int:
    """The page until interrupted, or for `count` samples, one a second."""
    samples, meter = Samples(), Meter()
    server = Server(samples, port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"live charts of this machine: {server.url}", flush=True)
    try:
        while count is None or samples.count < count:
            time.sleep(1.0)
            samples.add(meter.sample())
    finally:
        server.shutdown()
        server.server_close()
    return 0
