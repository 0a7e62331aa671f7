"""What the programs of `bench/kernels` must compute, written down a second time in Python."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable

U32, U64 = (1 << 32) - 1, (1 << 64) - 1


def sieve(n: int) -> int:
    limit = 1 << 18
    prime = bytearray([1]) * limit
    for i in range(2, 1 << 9):
        if prime[i]:
            prime[i * i :: i] = bytes(len(range(i * i, limit, i)))
    return n * sum(prime[2:])


def crc32(n: int) -> int:
    return zlib.crc32(bytes((i * 7 + (i >> 8)) & 255 for i in range(4096)) * n)


def fib(n: int) -> int:
    a, b = 0, 1
    for _ in range(20):
        a, b = b, a + b
    return n * a


def mandelbrot(n: int) -> int:
    steps = 0
    for line in range(n):
        for column in range(64):
            c = complex(column / 24.0 - 2.0, line % 64 / 32.0 - 1.0)
            re = im = 0.0
            for _ in range(200):
                if re * re + im * im > 4.0:
                    break
                re, im = re * re - im * im + c.real, 2.0 * re * im + c.imag
                steps += 1
    return steps


def copy(n: int) -> int:
    words = [i * 0x9E3779B97F4A7C15 & U64 for i in range(2048)]
    total = 0
    for number in range(n):
        words[0] = number
        total += number ^ words[number % 2048]
    return total & U64


def sha256(n: int) -> int:
    blocks = b"".join(number.to_bytes(4, "big") * 16 for number in range(n))
    return int.from_bytes(hashlib.sha256(blocks).digest()[:4], "big")


def dispatch(n: int) -> int:
    program, state = [], 1
    for _ in range(256):
        state = (state * 1664525 + 1013904223) & U32
        program.append((state >> 24 & 7, state >> 27))
    a, b, taken = 1, 2, 0
    for what, x in program * n:
        match what:
            case 0:
                a = (a + x + b) & U64
            case 1:
                a ^= a >> 7 ^ x
            case 2:
                a, b = (b + x) & U64, a
            case 3:
                b = (b << x | b >> (64 - x) % 64) & U64
            case 4:
                a = a * (2 * x + 1) & U64
            case 5:
                taken += (a & 255) < x
            case 6:
                b = (b - (a & x)) & U64
            case 7:
                a = (a + (taken ^ x)) & U64
    return a ^ b ^ taken


def packed(n: int) -> int:
    def single(value: float) -> float:
        (rounded,) = struct.unpack("<f", struct.pack("<f", value))
        return float(rounded)

    total = 0
    for i in range(1024):
        x, v = (i * 2654435761 + 1) & U32, float(i)
        for _ in range(n):
            x ^= x << 13 & U32
            x ^= x >> 17
            x ^= x << 5 & U32
            v = single(single(v * 0.5) + min(float(x >> 20), single(v + 1.0)))
        total += x ^ int(v * 16.0)
    return total


def image_filter(n: int) -> int:
    width, height = 256, 64

    def filtered(image: list[list[int]], old: list[list[int]], constant: int) -> list[list[int]]:
        out = [row[:] for row in old]
        for y in range(1, height + 1):
            for x in range(32, width + 32):
                up, down, left, right = image[y - 1][x], image[y + 1][x], image[y][x - 1], image[y][x + 1]
                out[y][x] = (
                    up ^ down if left == right else min(255, (up + down + left + right >> 2) + constant)
                )
        return out

    image = [[(x * 7 + y * 13) & 255 for x in range(width + 64)] for y in range(height + 2)]
    other = [row[:] for row in image]
    for number in range(n):
        other = filtered(image, other, number & 255)
        image = filtered(other, image, 3)
    total = 0
    for row in image[1 : height + 1]:
        for value in row[32 : width + 32]:
            total = (total * 31 + value) & U64
    return total


def matrix(n: int) -> int:
    size = 96  # every product and sum is a small multiple of 1/128, hence exact in single precision
    a = [i % 17 * 0.125 - 1.0 for i in range(size * size)]
    b = [i % 13 * 0.0625 - 0.375 for i in range(size * size)]
    total = 0
    for row in range(size):
        for column in range(size):
            value = n * sum(a[row * size + k] * b[k * size + column] for k in range(size))
            total = (total * 31 + int(value * 16.0)) & U64
    return total


REFERENCES: dict[str, tuple[Callable[[int], int], int]] = {
    "sieve": (sieve, 2),
    "crc32": (crc32, 5),
    "fib": (fib, 2),
    "mandelbrot": (mandelbrot, 7),
    "copy": (copy, 20),
    "sha256": (sha256, 40),
    "dispatch": (dispatch, 30),
    "packed": (packed, 9),
    "filter": (image_filter, 3),
    "matrix": (matrix, 2),
}
"""kernel -> the function, and an n that takes every engine well under a second"""
