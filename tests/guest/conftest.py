"""The C programs are built before the first test: a cold compiler takes longer than a test may."""

from __future__ import annotations

import glob
import os

import pytest

import cross


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    for pattern in ("*.c", "*.cpp"):
        for source in sorted(glob.glob(os.path.join(os.path.dirname(__file__), pattern))):
            cross.build(source)
