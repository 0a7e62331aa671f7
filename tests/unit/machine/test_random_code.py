"""Random bytes as code with random registers: whatever they do stays a stop of the vCPU."""

import random

import pytest

from nexus.base.errors import Unsupported
from nexus.ir.state import Exit
from nexus.isa.x86.registers import FLAG_TF, CpuState
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window

CASES = 250
CODE, DATA, CONSTANT = 0x10000, 0x20000, 0x30000
KERNEL_HALF, NOT_CANONICAL = 0xFFFF_8000_0000_0000, 1 << 47
STOPS = {
    Exit.SYSCALL,
    Exit.FAULT,
    Exit.DIVIDE,
    Exit.ILLEGAL,
    Exit.INTERRUPT,
    Exit.BUDGET,
    Exit.PRIVILEGED,
    Exit.TRAP,
    Exit.FP_ERROR,
}


@pytest.fixture
def machine():
    window = Window()
    vcpu = Vcpu(window)
    window.map(CODE, 0x4000, READ | WRITE | EXECUTE)
    window.map(DATA, 0x4000, READ | WRITE)
    window.map(CONSTANT, 0x1000, READ)
    window.map(window.top - 0x1000, 0x1000, READ | WRITE | EXECUTE)
    yield window, vcpu
    vcpu.close()
    window.close()


@pytest.mark.parametrize("seed", range(4))
def test_random_code(machine, seed):
    window, vcpu = machine
    rng = random.Random(seed)
    top = window.top
    edges = [CODE, CODE + 0x3FF8, DATA, DATA + 0x3FF8, CONSTANT, top - 8]
    edges += [0, -1, 1 << 63, NOT_CANONICAL, KERNEL_HALF]
    constant = window.read(CONSTANT, 0x1000)
    state = CpuState()
    unknown = 0
    for _ in range(CASES):
        state.reset()
        for number in range(16):
            near = rng.choice(edges) + rng.randrange(-16, 64)
            state.set_gpr(number, rng.choice((near, near, rng.getrandbits(64), rng.randrange(300))))
            state.set_xmm(number, rng.randbytes(16))
        state.eflags = rng.getrandbits(12) & 0xCD5 | (FLAG_TF if rng.random() < 0.05 else 0)
        state.rip = at = rng.choice((CODE, CODE + 0xFE0, CODE + 0x3FE0, top - 0x20))
        window.write_forced(at, rng.randbytes(0x20))
        try:
            for budget in (rng.choice((1, 3, 1000)), 100, 100):
                stop = vcpu.run(state, budget)
                assert stop.kind in STOPS
        except Unsupported:
            unknown += 1
    assert unknown < CASES // 10
    assert window.read(CONSTANT, 0x1000) == constant
