"""SSE exceptions that the guest has unmasked: the vCPU faults where the host processor does."""

import random

import pytest
from iced_x86 import Code, Encoder, Instruction, MemoryOperand, Register

from nexus.ir.state import Exit
from nexus.isa.x86.native import CODE, Native, Unavailable, processor
from nexus.isa.x86.registers import FLAG_TF, CpuState
from nexus.machine.host import PAGE
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window

DATA, STACK = 0x20000, 0x30000
XM = 19
OVERFLOW, UNDERFLOW, INEXACT = 0x08, 0x10, 0x20
SYSCALL = "0f05"
SINGLES = (0, 1 << 31, 0x3F800000, 0xBF800000, 0x40490FDB, 0x7F7FFFFF, 0x00800000, 0x00000001, 0x807FFFFF)
SINGLES += (0x00400000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7FA00001, 0x3F000000, 0x4F000000, 0x20000000)
DOUBLES = (0, 1 << 63, 0x3FF0 << 48, 0xBFF0 << 48, 0x400921FB54442D18, 0x7FEFFFFFFFFFFFFF, 0x0010 << 48, 1)
DOUBLES += (0x800FFFFFFFFFFFFF, 0x0008 << 48, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, 0x7FF4000000000001)
DOUBLES += (0x3FE0 << 48, 0x41E0 << 48, 0x1FF0 << 48, 0x36A0 << 48, 0x3810 << 48)
ARITHMETIC = ("ADD", "SUB", "MUL", "DIV", "MIN", "MAX", "SQRT")
CODES = [
    getattr(Code, f"{name}{suffix}_XMM_XMMM{128 if suffix[0] == 'P' else 32 if suffix == 'SS' else 64}")
    for name in ARITHMETIC
    for suffix in ("SS", "SD", "PS", "PD")
]
CODES += [Code.HADDPS_XMM_XMMM128, Code.HSUBPD_XMM_XMMM128, Code.ADDSUBPS_XMM_XMMM128]
CODES += [Code.UCOMISS_XMM_XMMM32, Code.UCOMISD_XMM_XMMM64, Code.COMISS_XMM_XMMM32, Code.COMISD_XMM_XMMM64]
CODES += [
    Code.CVTSS2SD_XMM_XMMM32,
    Code.CVTSD2SS_XMM_XMMM64,
    Code.CVTPS2PD_XMM_XMMM64,
    Code.CVTPD2PS_XMM_XMMM128,
]
CODES += [
    Code.CVTPS2DQ_XMM_XMMM128,
    Code.CVTTPS2DQ_XMM_XMMM128,
    Code.CVTPD2DQ_XMM_XMMM128,
    Code.CVTDQ2PS_XMM_XMMM128,
]
TO_INTEGER = [Code.CVTSS2SI_R32_XMMM32, Code.CVTTSD2SI_R64_XMMM64, Code.CVTSD2SI_R64_XMMM64]
NAMES = {number: name for name, number in vars(Code).items() if isinstance(number, int)}


def encode(instruction: Instruction) -> bytes:
    encoder = Encoder(64)
    encoder.encode(instruction, CODE)
    return encoder.take_buffer()


class Machine:
    def __init__(self) -> None:
        self.window = Window()
        self.vcpu = Vcpu(self.window)
        self.state = CpuState()
        self.window.map(CODE, PAGE, READ | EXECUTE)
        self.window.map(DATA, PAGE, READ | WRITE)
        self.window.map(STACK, PAGE, READ | WRITE)

    def start(self, code: bytes, mxcsr: int = 0x1F80) -> None:
        self.window.write_forced(CODE, code)
        self.state.reset()
        self.state.rip, self.state.rsp, self.state.mxcsr = CODE, STACK + PAGE, mxcsr

    def one(self, code: bytes, state: CpuState) -> object:
        """What one instruction ends with, from a copy of a state."""
        self.window.write_forced(CODE, code + b"\x0f\x05")
        self.state.buffer[:] = state.buffer
        return self.vcpu.run(self.state, 1000)


@pytest.fixture
def machine():
    machine = Machine()
    yield machine
    machine.vcpu.close()
    machine.window.close()


@pytest.fixture(scope="module")
def host():
    try:
        return processor()
    except Unavailable as reason:
        pytest.skip(str(reason))


def vector(rng: random.Random) -> bytes:
    if rng.getrandbits(1):
        return b"".join(rng.choice(SINGLES).to_bytes(4, "little") for _ in range(4))
    return b"".join(rng.choice(DOUBLES).to_bytes(8, "little") for _ in range(2))


def registers(state: CpuState) -> list[object]:
    vectors = [state.xmm(n).hex() for n in range(3)]
    return [hex(state.rip), hex(state.mxcsr), hex(state.rax), hex(state.eflags & 0x8D5), *vectors]


@pytest.mark.parametrize("code", CODES + TO_INTEGER, ids=lambda code: NAMES[code])
def test_faults_are_those_of_the_host(machine: Machine, host: Native, code: int) -> None:
    rng = random.Random(code)
    first = Register.RAX if code != TO_INTEGER[0] else Register.EAX
    for _ in range(150):
        to = first if code in TO_INTEGER else Register.XMM1
        text = encode(Instruction.create_reg_reg(code, to, Register.XMM2))
        start = CpuState()
        start.reset()
        start.rip, start.rsp = CODE, STACK + PAGE
        start.mxcsr = 0x1F80 & ~(rng.getrandbits(6) << 7) | rng.getrandbits(2) << 13
        start.mxcsr |= rng.choice((0, 0, 0x20, 0x8000, 0x0040, 0x8040))
        for number in range(3):
            start.set_xmm(number, vector(rng))
        want = CpuState()
        want.buffer[:] = start.buffer
        outcome = host.run(text, want)
        stop = machine.one(text, start)
        context = f"mxcsr {start.mxcsr:#x}, xmm1 {start.xmm(1).hex()}, xmm2 {start.xmm(2).hex()}"
        if outcome.exit == Exit.NONE:
            assert stop.kind == Exit.SYSCALL, context
            want.rip += 2
        else:
            assert (stop.kind, stop.argument) == (outcome.exit, XM), context
            if want.mxcsr & ~(want.mxcsr >> 7) & (OVERFLOW | UNDERFLOW):  # see `machine/floats.py`
                machine.state.mxcsr |= INEXACT
                want.mxcsr |= INEXACT
        assert registers(machine.state) == registers(want), context


def test_unmasking_in_the_middle_of_a_program(machine: Machine) -> None:
    # mov [rbx], 0x1d80 (divide by zero unmasked) ; ldmxcsr [rbx] ; mov eax, 7 ; divss xmm1, xmm0 ; mov eax, 8
    machine.start(bytes.fromhex("c703801d0000 0fae13 b807000000 f30f5ec8 b808000000" + SYSCALL))
    machine.state.set_gpr(3, DATA)
    machine.state.set_xmm(1, (0x3F800000).to_bytes(16, "little"))
    stop = machine.vcpu.run(machine.state, 1000)
    assert (stop.kind, stop.argument) == (Exit.FP_ERROR, XM)
    assert machine.state.rip == CODE + 6 + 3 + 5
    assert (machine.state.rax, machine.state.mxcsr) == (7, 0x1D84)
    assert machine.state.xmm(1) == (0x3F800000).to_bytes(16, "little")
    machine.state.mxcsr = 0x1F80
    assert machine.vcpu.run(machine.state, 1000).kind == Exit.SYSCALL
    assert machine.state.rax == 8 and machine.state.xmm(1)[:4] == (0x7F800000).to_bytes(4, "little")


def test_a_loop_faults_in_the_pass_that_divides_by_zero(machine: Machine) -> None:
    # again: cvtsi2sd xmm0, ecx ; movaps xmm1, xmm2 ; divsd xmm1, xmm0 ; inc eax ; dec ecx ; jmp again
    machine.start(bytes.fromhex("f20f2ac1 0f28ca f20f5ec8 ffc0 ffc9 ebef"), mxcsr=0x1D80)
    machine.state.set_gpr(1, 50)
    machine.state.set_xmm(2, (0x3FF0 << 48).to_bytes(16, "little"))
    stop = machine.vcpu.run(machine.state, 100000)
    assert (stop.kind, machine.state.rip, machine.state.rax) == (Exit.FP_ERROR, CODE + 7, 50)
    assert machine.state.mxcsr == 0x1DA4  # 1/3 was inexact, and that is masked


def test_single_steps_and_budgets_see_the_fault(machine: Machine) -> None:
    code = bytes.fromhex("90 f20f5ec8" + SYSCALL)  # nop ; divsd xmm1, xmm0
    for flags, budget in ((FLAG_TF, 10), (0, 1)):
        machine.start(code, mxcsr=0x1D80)
        machine.state.set_xmm(1, (0x3FF0 << 48).to_bytes(16, "little"))
        machine.state.eflags |= flags
        assert machine.vcpu.run(machine.state, budget).kind == (Exit.TRAP if flags else Exit.BUDGET)
        assert machine.state.rip == CODE + 1
        assert machine.vcpu.run(machine.state, budget).kind == Exit.FP_ERROR
        assert machine.state.rip == CODE + 1


def test_operands_in_memory(machine: Machine) -> None:
    where = MemoryOperand(base=Register.RBX)
    code = encode(Instruction.create_reg_mem(Code.DIVSD_XMM_XMMM64, Register.XMM1, where))
    machine.start(code + bytes.fromhex(SYSCALL), mxcsr=0x1D80)
    machine.state.set_gpr(3, 0x70000)
    stop = machine.vcpu.run(machine.state, 1000)
    assert (stop.kind, stop.address, machine.state.rip) == (Exit.FAULT, 0x70000, CODE)
    assert machine.state.mxcsr == 0x1D80
    machine.state.set_gpr(3, DATA)
    machine.state.set_xmm(1, (0x3FF0 << 48).to_bytes(16, "little"))
    assert machine.vcpu.run(machine.state, 1000).kind == Exit.FP_ERROR
