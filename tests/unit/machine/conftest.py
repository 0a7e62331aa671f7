"""The machine of `hand_code`, on every engine."""

import pytest

from hand_code import ENGINES, Machine


@pytest.fixture(params=ENGINES)
def machine(request):
    machine = Machine(*ENGINES[request.param])
    yield machine
    machine.vcpu.close()
    machine.window.close()
