"""Programs are started as from a terminal: with Ctrl-C not ignored, whoever runs the tests.

A script that runs the tests in the background hands an ignored SIGINT down to every program.
"""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
