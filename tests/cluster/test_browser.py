"""Browser workers: the protocol, and everything that a stranger's page may try."""

from __future__ import annotations

import asyncio
import json
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.guests import Guest, Spoil, hello, refused, token_of
from nexus.compute.browser import lobby as lobby_module
from nexus.compute.browser import protocol
from nexus.compute.browser.device import BrowserDevice
from nexus.compute.browser.lobby import Lobby
from nexus.compute.calibration import Calibration
from nexus.compute.cluster import keys
from nexus.compute.cluster.engine import cluster
from nexus.compute.engine import Engine
from nexus.compute.errors import BadInput, ComputeError

RNG = np.random.default_rng(11)
A = RNG.standard_normal((512, 96)).astype(np.float32)
B = RNG.standard_normal((96, 80)).astype(np.float32)


@pytest.fixture
def lobby() -> Iterator[Lobby]:
    made = Lobby()
    yield made
    made.close()


def engine_of(lobby: Lobby, count: int) -> Engine:
    assert lobby.wait(count, 30)
    return Engine(lobby.devices(), calibration=Calibration(""), equal_split=True, seed=1)


def test_guests_contribute_verified_chunks(lobby: Lobby) -> None:
    guests = [Guest(lobby), Guest(lobby)]
    engine = engine_of(lobby, 2)
    for _ in range(3):
        assert np.allclose(engine.matmul(A, B), A @ B, rtol=1e-4, atol=1e-4)
    points, matrix = RNG.standard_normal((40_000, 4)), RNG.standard_normal((4, 4))
    assert np.allclose(engine.transform(points, matrix), points @ matrix.T, rtol=1e-4, atol=1e-4)
    devices = lobby.devices()
    assert [device.accepted for device in devices] == [4, 4]
    lobby.close()
    for guest in guests:
        assert guest.gone() == 1000
        kinds = [message["type"] for message in guest.heard]
        assert kinds == ["welcome", "progress", "progress", "progress", "progress", "over"]
        assert guest.heard[-2]["chunks"] == 4 and guest.heard[-2]["flops"] > 0


def test_formats_are_emulated_and_scaled(lobby: Lobby) -> None:
    Guest(lobby)
    engine = engine_of(lobby, 1)
    for dtype in ("bf16", "fp16", "fp8"):
        engine.matmul(A, B, dtype=dtype)  # raises when an element is out of its bound
        assert engine.last is not None and 0 < engine.last.error < engine.last.bound  # type: ignore[operator]
    with pytest.raises(ComputeError, match="int8"):
        engine.matmul(A, B, dtype="int8")


def change_one(message: bytes, chunk: int) -> bytes:
    """One element of a result has another sign and size."""
    place = protocol.HEADER.size + 4 * 7
    (value,) = struct.unpack_from("<f", message, place)
    return message[:place] + struct.pack("<f", -value - 1.0) + message[place + 4 :]


def later(start: int) -> Spoil:
    return lambda message, chunk: change_one(message, chunk) if chunk >= start else message


@pytest.mark.parametrize("start", [1, 2, 4])
def test_a_lying_guest_is_banned_at_its_first_wrong_chunk(lobby: Lobby, start: int) -> None:
    liar = Guest(lobby, later(start))
    assert lobby.wait(1, 30)
    Guest(lobby)
    engine = engine_of(lobby, 2)
    for _ in range(5):
        assert np.allclose(engine.matmul(A, B), A @ B, rtol=1e-4, atol=1e-4)
    assert liar.gone() == 1008
    assert liar.chunks == start <= 5
    assert len(lobby.banned) == 1 and "wrong result" in lobby.banned[0]
    assert [device.name for device in lobby.devices()] == ["browser1"]
    assert "banned" in liar.heard[-1]["why"]


def zeros(message: bytes, chunk: int) -> bytes:
    return message[: protocol.HEADER.size] + bytes(len(message) - protocol.HEADER.size)


def nans(message: bytes, chunk: int) -> bytes:
    size = (len(message) - protocol.HEADER.size) // 4
    return message[: protocol.HEADER.size] + struct.pack("<f", float("nan")) * size


HOSTILE: dict[str, tuple[Spoil, int]] = {
    "all zero": (zeros, 1008),
    "not a number": (nans, 1008),
    "one byte short": (lambda message, chunk: message[:-1], 1008),
    "one row more": (lambda message, chunk: message + bytes(320), 1008),
    "header only": (lambda message, chunk: message[: protocol.HEADER.size], 1008),
    "nothing": (lambda message, chunk: b"", 1008),
    "another chunk's number": (lambda message, chunk: message[:4] + b"\xff" * 4 + message[8:], 1008),
    "another kind": (lambda message, chunk: b"\x01\0\0\0" + message[4:], 1008),
    "a frame longer than any result": (lambda message, chunk: bytes(protocol.FRAME_LIMIT + 1), 1009),
    "text instead of numbers": (lambda message, chunk: "[" * 4000, 1008),
    "a text too long": (lambda message, chunk: " " * (protocol.TEXT_LIMIT + 1), 1008),
    "failure of another chunk": (lambda message, chunk: '{"type": "failed", "number": 77, "why": ""}', 1008),
    "failure without a reason": (lambda message, chunk: '{"type": "failed", "number": 1, "why": 3}', 1008),
    "a second hello": (lambda message, chunk: hello("x"), 1008),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_answers_ban_their_sender_and_nothing_else(lobby: Lobby, what: str) -> None:
    spoil, code = HOSTILE[what]
    guest = Guest(lobby, spoil)
    assert lobby.wait(1, 30)
    Guest(lobby)
    engine = engine_of(lobby, 2)
    assert np.allclose(engine.matmul(A, B), A @ B, rtol=1e-4, atol=1e-4)
    # Who is still sending when the connection ends may not hear why.
    assert guest.gone() in ((code, None) if code == 1009 else (code,))
    assert [device.name for device in lobby.devices()] == ["browser1"]
    assert engine.last is not None and len(engine.last.recoveries) == 1


def test_a_guest_that_cannot_or_leaves_costs_its_chunk(lobby: Lobby) -> None:
    def cannot(message: bytes, chunk: int) -> str:
        number = protocol.HEADER.unpack_from(message)[1]
        return json.dumps({"type": "failed", "number": number, "why": "out of memory"})

    leaver = Guest(lobby, lambda message, chunk: None)
    assert lobby.wait(1, 30)
    Guest(lobby, cannot)
    assert lobby.wait(2, 30)
    Guest(lobby)
    engine = engine_of(lobby, 3)
    assert np.allclose(engine.matmul(A, B), A @ B, rtol=1e-4, atol=1e-4)
    leaver.gone()
    assert engine.last is not None
    notes = " ".join(engine.last.notes)
    assert "out of memory" in notes and "it left" in notes
    assert not lobby.banned


def test_without_any_guest_left_there_is_an_error(lobby: Lobby) -> None:
    Guest(lobby, change_one)
    engine = engine_of(lobby, 1)
    with pytest.raises(ComputeError, match="no device is left"):
        engine.matmul(A, B)
    with pytest.raises(ComputeError, match="banned"):
        engine.matmul(A, B)


@pytest.mark.parametrize(
    "first",
    [
        b"\x03\0\0\0",
        "",
        "hello",
        "[]",
        "[" * 4000,
        '{"type": "hello"}',
        hello("T", version=2),
        hello("T", limit=True),
        hello("T", limit=-1),
        hello("T", limit=1e300),
        hello(7),
        hello("T", adapter=["x"]),
        hello("T", adapter="x" * protocol.TEXT_LIMIT),
    ],
)
def test_what_is_no_hello_ends_the_connection(lobby: Lobby, first: str | bytes) -> None:
    token = token_of(lobby.invite())
    guest = Guest(lobby, first=first.replace('"T"', f'"{token}"') if isinstance(first, str) else first)
    assert guest.gone() in (1000, 1008)
    assert not lobby.devices() and not any(message["type"] == "welcome" for message in guest.heard)


def test_a_token_is_good_once_and_for_a_while(lobby: Lobby, monkeypatch: pytest.MonkeyPatch) -> None:
    token = token_of(lobby.invite())
    Guest(lobby, first=hello(token))
    assert lobby.wait(1, 30)
    for used in (token, "", "guessed", "\ud800"):
        guest = Guest(lobby, first=hello(used))
        guest.gone()
        assert "not valid" in guest.heard[-1]["why"]
    monkeypatch.setattr(lobby_module, "TOKEN_SECONDS", -1.0)
    late = Guest(lobby)
    late.gone()
    assert "not valid" in late.heard[-1]["why"]
    assert len(lobby.devices()) == 1


def test_who_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lobby_module, "HELLO_SECONDS", 0.05)
    lobby = Lobby()
    try:

        async def silent() -> tuple[Any, int | None]:
            from tornado.websocket import websocket_connect

            socket = await websocket_connect(lobby.origin.replace("http", "ws") + "/join")
            return await socket.read_message(), socket.close_code

        message, _ = asyncio.run(silent())
        assert json.loads(message) == {"type": "over", "why": "no hello came"}
    finally:
        lobby.close()


def test_other_sites_and_names_are_refused(lobby: Lobby) -> None:
    assert "403" in asyncio.run(refused(lobby, Origin="https://elsewhere.example"))
    assert "403" in asyncio.run(refused(lobby, Host="elsewhere.example"))
    request = urllib.request.Request(lobby.origin, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)


def test_visitors_are_bounded(lobby: Lobby, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lobby_module, "VISITORS", 1)
    Guest(lobby)
    assert lobby.wait(1, 30)
    assert "503" in asyncio.run(refused(lobby))


def test_the_page_loads_nothing_and_talks_to_nobody_else(lobby: Lobby) -> None:
    with urllib.request.urlopen(lobby.origin) as answer:
        policy, page = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert not any(word in page for word in ("src=", "href=", "@import", "url(", "http:", "https:"))
    assert "NONCE" not in page and policy.split("nonce-")[1].split("'")[0] in page


def test_beyond_the_loopback_only_with_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can run code there"):
        Lobby("0.0.0.0")
    folder = str(tmp_path / "keys")
    keys.make(folder)
    lobby = Lobby("localhost", keys=folder)
    try:
        import ssl

        context = ssl.create_default_context(cafile=folder + "/ca.pem")
        with urllib.request.urlopen(lobby.origin, context=context) as answer:
            assert lobby.origin.startswith("https://") and b"Lend this GPU" in answer.read()
    finally:
        lobby.close()


def test_operands_that_fit_into_no_message_are_said_to() -> None:
    from nexus.compute.job import Job

    class Silent:
        why_closed = ""

    device = BrowserDevice(Silent(), "browser0", "small", 1 << 20, False)  # type: ignore[arg-type]
    wide = np.zeros((600, 600), np.float32)
    job = Job("matmul", 600, (wide, wide), wide, {"scale": 1.0, "exact": False})
    assert "does not fit into its buffers" in device.lacks(job)
    assert "no kernel" in device.lacks(Job("gravity", 1, (wide,), wide, {}))


def test_browsers_join_a_cluster() -> None:
    lobby = Lobby()
    try:
        Guest(lobby)
        assert lobby.wait(1, 30)
        with cluster(nodes=[0.4], browsers=lobby, seed=1) as engine:
            engine.equal_split = True
            assert np.allclose(engine.matmul(A, B), A @ B, rtol=1e-4, atol=1e-4)
            assert engine.last is not None
            assert {row.device.name: row.units > 0 for row in engine.last.devices} == {
                "node0": True,
                "browser0": True,
            }
    finally:
        lobby.close()
