"""`machine`: a process with one thread and no CPU. `files`: the same, with a granted folder of the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_machine import Machine
from file_calls import Files


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def files(machine: Machine, tmp_path: Path) -> Files:
    return Files(machine, tmp_path)
