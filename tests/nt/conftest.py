"""`machine`: a process with one thread and no CPU."""

from __future__ import annotations

import pytest

from fake_machine import Machine


@pytest.fixture
def machine() -> Machine:
    return Machine()
