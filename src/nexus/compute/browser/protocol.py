"""What server and page say to each other. Text frames are JSON objects, binary frames are a header and fp32.

    page    {"type": "hello", "version": 1, "token": T, "adapter": NAME, "limit": BYTES}   first, once
    server  {"type": "welcome", "name": N, "kernels": [{"name", "side", "source"}, ...]}
    server  keep:  header(KEEP, job, rows, columns), the common operand B
    server  chunk: header(CHUNK, number, rows, depth), rows of A
    page    result: header(RESULT, number, rows, columns), rows of A @ B
    page    {"type": "failed", "number": N, "why": TEXT}      instead of a result
    server  {"type": "progress", "chunks", "rows", "flops"}   what was accepted
    server  {"type": "over", "why": TEXT}                     the last message: banned, or the job is done

One chunk is under way at a time. Any other message, at any other moment, ends the connection.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from nexus.compute.formats import Array

VERSION = 1
HEADER = struct.Struct("<4I")
KEEP, CHUNK, RESULT = 1, 2, 3
TEXT_LIMIT = 4096
PIECE = 4 << 20
"""Bytes of operand rows, and of result rows, in one chunk."""
FRAME_LIMIT = PIECE + HEADER.size
"""Longest frame that is taken from a page; what is longer is not read to its end."""
KEEP_LIMIT = 256 << 20
NAME_LIMIT = 120


class Violation(Exception):
    """A message that no honest page sends."""


def hello(text: str) -> tuple[str, str, int]:
    """Token, adapter name and buffer limit of a page's first message. Raises Violation."""
    message = parse(text)
    token, adapter, limit = message.get("token"), message.get("adapter"), message.get("limit")
    if message.get("type") != "hello" or message.get("version") != VERSION:
        raise Violation("the first message is not a hello of this version")
    if not isinstance(token, str) or not isinstance(adapter, str):
        raise Violation("token and adapter are texts")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit < 1 << 53:
        raise Violation("limit is a number of bytes")
    return token, "".join(c for c in adapter if c.isprintable())[:NAME_LIMIT], limit


def failure(text: str, number: int) -> str:
    """Why the page could not do chunk `number`. Raises Violation for any other message."""
    message = parse(text)
    why = message.get("why")
    if message.get("type") != "failed" or message.get("number") != number or not isinstance(why, str):
        raise Violation("a text that is not the failure of the chunk under way")
    return "".join(c for c in why if c.isprintable())[:NAME_LIMIT]


def parse(text: str) -> dict[str, Any]:
    """A JSON object of at most TEXT_LIMIT characters. Raises Violation."""
    if len(text) > TEXT_LIMIT:
        raise Violation(f"a text of {len(text)} characters")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise Violation("a text that is not JSON") from None
    if not isinstance(message, dict):
        raise Violation("a text that is not an object")
    return message


def frame(kind: int, number: int, array: Array) -> bytes:
    """A matrix as a binary frame."""
    rows, columns = array.shape
    data = np.ascontiguousarray(array, dtype="<f4")
    return HEADER.pack(kind, number, rows, columns) + data.tobytes()


def result(data: bytes, number: int, rows: int, columns: int) -> Array:
    """The result of chunk `number`. Raises Violation unless it is one, of exactly that shape."""
    wanted = (RESULT, number, rows, columns)
    if len(data) != HEADER.size + 4 * rows * columns or HEADER.unpack_from(data) != wanted:
        raise Violation(f"{len(data)} bytes that are not the result of chunk {number}")
    return np.frombuffer(data, "<f4", rows * columns, HEADER.size).reshape(rows, columns)
