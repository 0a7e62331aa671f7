"""A window with room for code, data and a stack, and a vCPU over it, for machine code written by hand."""

from nexus.isa.x86.registers import CpuState
from nexus.machine.tiers import AT_ONCE, Policy
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window

PAGE = 4096
CODE_AT, DATA, STACK = 0x10000, 0x20000, 0x30000
SYSCALL = "0f05"


class Machine:
    def __init__(self, engine="t0", policy=None):
        self.window = Window()
        self.vcpu = Vcpu(self.window, engine, policy)
        self.state = CpuState()
        self.state.reset()
        self.window.map(CODE_AT, 4 * PAGE, READ | EXECUTE)
        self.window.map(DATA, 2 * PAGE, READ | WRITE)
        self.window.map(STACK, PAGE, READ | WRITE)

    def code(self, text, at=CODE_AT):
        self.window.write_forced(at, bytes.fromhex(text))

    def start(self, at=CODE_AT, **registers):
        self.state.reset()
        self.state.rip, self.state.rsp = at, STACK + PAGE
        for name, value in registers.items():
            setattr(self.state, name, value)

    def run(self, text=None, at=CODE_AT, budget=1000, past_hook=False, **registers):
        if text is not None:
            self.code(text, at)
            self.start(at, **registers)
        return self.vcpu.run(self.state, budget, past_hook)


ENGINES = {"t0": ("t0", None), "t1": ("t1", AT_ONCE), "tiers": ("t1", Policy(1, 1, 2))}
"""Host code never, at once, and for what runs often."""


def shape(stop):
    return stop.kind, stop.address, stop.write, stop.execute
