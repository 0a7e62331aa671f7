"""The lockstep tool itself: it finds what differs, and changes nothing."""

import pytest
from iced_x86 import Mnemonic

from nexus.ir.state import Exit
from nexus.isa.x86 import semantics
from nexus.isa.x86.registers import CpuState
from nexus.isa.x86.table import SEMANTICS
from nexus.machine.window import EXECUTE, READ, WRITE, Window
from peers.lockstep import Divergence, LockstepVcpu

assert semantics.__all__  # imported to fill the table before anything is replaced in it

CODE, DATA = 0x10000, 0x20000
SYSCALL = "0f05"


@pytest.fixture
def run():
    window = Window()
    vcpu = LockstepVcpu(window)
    window.map(CODE, 4096, READ | EXECUTE)
    window.map(DATA, 4096, READ | WRITE)

    def run(code, **registers):
        window.write_forced(CODE, bytes.fromhex(code))
        state = CpuState()
        state.reset()
        state.rip, state.rsp = CODE, DATA + 4096
        for name, value in registers.items():
            setattr(state, name, value)
        stop = vcpu.run(state, 10_000)
        return stop, state, window

    yield run
    vcpu.close()
    window.close()


def test_memory_is_changed_once(run):
    # lock inc [rbx]; push rbx; rep stosb; lock inc [rbx]; cpuid (which changes rbx); pop rbx; lock inc [rbx]
    code = "f0ff03" + "53" + "f3aa" + "f0ff03" + "0fa2" + "5b" + "f0ff03" + SYSCALL
    stop, _, window = run(code, rbx=DATA, rdi=DATA + 16, rcx=100, rax=0)
    assert stop.kind == Exit.SYSCALL
    assert window.u32(DATA) == 3


def test_faults_agree(run):
    stop, state, _ = run("f0ff03" + "48c70300000000", rbx=0x1234)
    assert (stop.kind, stop.address, stop.write, state.rip) == (Exit.FAULT, 0x1234, True, CODE)


def test_a_wrong_instruction_is_found(run, monkeypatch):
    monkeypatch.setitem(SEMANTICS, Mnemonic.BSWAP, lambda i: i.write(0, i.read(0)))
    with pytest.raises(Divergence, match=r"0x10004: bswap edx \(0f ca\)") as caught:
        run("ffc0" + "ffc2" + "0fca" + SYSCALL, rdx=1)
    assert "rdx 0x2 0x2000000   (T0, Unicorn)" in str(caught.value)


def test_a_wrong_store_is_found(run, monkeypatch):
    monkeypatch.setitem(SEMANTICS, Mnemonic.STOSD, lambda i: i.block.put(7, i.get(7) + 4))
    with pytest.raises(Divergence, match=r"\[0x20000\] 00000000 05000000"):
        run("ab" + SYSCALL, rax=5, rdi=DATA)
