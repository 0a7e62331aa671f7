"""A guest that computes wild addresses in every way there is reaches nothing outside its window.

The window lies between two stretches of the host's memory; addresses are aimed at them and at other places
exactly, as a guest that knew the host's addresses would. Every base, index, scale and displacement, every
kind of access (plain, locked, vector, x87, stack, string, bit string, control), segment bases, absolute and
rip-relative addresses. Each has to end as the oracle says, whose memory is the window alone: with a fault at
exactly that address, or inside; and what lies outside must be neither written nor in a register.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator

import pytest
from iced_x86 import (
    Code,
    Decoder,
    Encoder,
    Instruction,
    MemoryOperand,
    OpCodeInfo,
    OpCodeOperandKind,
    Register,
)

import t0
import t1
import t2
from isa import compiled, harness
from nexus.isa.x86 import compare, features, fuzz
from nexus.isa.x86 import registers as r
from nexus.isa.x86.fuzz_state import States
from nexus.isa.x86.operands import GENERAL
from nexus.machine import host
from nexus.machine.window import GUARDS

GUARD = GUARDS[0]  # as wide as T2 takes them to be
CANARY = 1 << 16  # bytes on each side of the window
MARK = b"\xc5\x3a\x99\x17"  # what they are full of
U64 = (1 << 64) - 1
SEED = 1
FORMS = 60  # of a family

REG_MEM = (
    *(Code.MOV_R8_RM8, Code.MOV_R16_RM16, Code.MOV_R32_RM32, Code.MOV_R64_RM64, Code.MOVZX_R32_RM8),
    *(Code.MOVSXD_R64_RM32, Code.ADD_R64_RM64, Code.CMP_R32_RM32, Code.IMUL_R64_RM64, Code.CMOVE_R64_RM64),
    *(Code.MOVUPS_XMM_XMMM128, Code.MOVAPS_XMM_XMMM128, Code.MOVQ_XMM_XMMM64, Code.MOVSS_XMM_XMMM32),
    *(Code.MOVHPS_XMM_M64, Code.LDDQU_XMM_M128, Code.PADDD_XMM_XMMM128, Code.ADDSD_XMM_XMMM64),
)
MEM_REG = (
    *(Code.MOV_RM8_R8, Code.MOV_RM16_R16, Code.MOV_RM32_R32, Code.MOV_RM64_R64, Code.ADD_RM64_R64),
    *(Code.XCHG_RM64_R64, Code.XADD_RM32_R32, Code.CMPXCHG_RM64_R64, Code.BTS_RM64_R64, Code.BT_RM32_R32),
    *(Code.MOVUPS_XMMM128_XMM, Code.MOVAPS_XMMM128_XMM, Code.MOVNTI_M64_R64, Code.MOVLPS_M64_XMM),
    *(Code.MOVNTDQ_M128_XMM, Code.MOVD_RM32_XMM),
)
MEM = (
    *(
        Code.PUSH_RM64,
        Code.POP_RM64,
        Code.CALL_RM64,
        Code.JMP_RM64,
        Code.INC_RM32,
        Code.NOT_RM64,
        Code.NEG_RM8,
    ),
    *(
        Code.SHL_RM64_CL,
        Code.MUL_RM64,
        Code.IDIV_RM32,
        Code.SETE_RM8,
        Code.CMPXCHG16B_M128,
        Code.CMPXCHG8B_M64,
    ),
    *(Code.FLD_M64FP, Code.FSTP_M80FP, Code.FILD_M16INT, Code.FXSAVE_M512BYTE, Code.STMXCSR_M32),
)
BY_CL = (Code.SHL_RM64_CL, Code.ROR_RM16_CL)
ACCESSES = (*REG_MEM, *MEM_REG, *MEM, *BY_CL)
LOCKABLE = (Code.ADD_RM64_R64, Code.XADD_RM32_R32, Code.CMPXCHG_RM64_R64, Code.BTS_RM64_R64, Code.INC_RM32)
DISPLACEMENTS = (0, -128, 127, -(1 << 31), (1 << 31) - 1)

_STRINGS = ("a4", "48a5", "aa", "48ab", "a6", "48a7", "ae", "48af", "ac", "48ad")
_STACK = ("50", "58", "9c", "9d", "c3", "c9", "e800000000", "6a01", "c8080000", "c8200001", "c2f0ff")
IMPLICIT = (
    *_STACK,
    *("ff30", "8f00", "ff10", "d7", "660ff7c1", "660f3a63c112", "ff142500000080", "660f3a6200ff"),
    *(prefix + code for prefix in ("", "f3", "f2", "65", "64", "f367") for code in _STRINGS),
    *("65488b00", "65488900", "650f1000", "65ff10", "65f0480108", "64488b00", "64488900", "640f1100"),
    *("65488b042500000080", "64488b0425f8ffff7f", "67488b00", "67890408", "6748890498"),
)


class Surrounded:
    """An engine whose window lies between canaries."""

    def __init__(self, engine: t0.T0, every: int) -> None:
        """`every`: of the cases, only every so many-th is tried."""
        self.at = host.reserve(CANARY + GUARD + t0.TOP + GUARD + CANARY)
        self.window = self.at + CANARY + GUARD
        self.outside = ((self.at, CANARY), (self.window + t0.TOP + GUARD, CANARY))
        usable = host.PROT_READ | host.PROT_WRITE
        for start, length in self.outside:
            host.protect(start, length, usable)
            ctypes.memmove(start, MARK * (length // 4), length)
        host.protect(self.window + t0.MEMORY_BASE, t0.MEMORY_SIZE, usable)
        self.engine = engine
        self.every = every
        self.cases = 0
        engine.memory = (ctypes.c_char * t0.MEMORY_SIZE).from_address(self.window + t0.MEMORY_BASE)
        engine._machine = {**engine._machine, "window": self.window, "top": t0.TOP}

    def untouched(self) -> bool:
        return all(ctypes.string_at(at, size) == MARK * (size // 4) for at, size in self.outside)

    def targets(self) -> list[int]:
        """Guest addresses that would be the canaries', the state's and others if they were just added to the
        window's, the ends of the window, and the edges of the address space."""
        elsewhere = (
            self.at,
            self.at + CANARY - 8,
            self.window + t0.TOP + GUARD,
            self.engine.state,
            self.window - 8,
        )
        found = [at - self.window & U64 for at in elsewhere]
        found += [t0.TOP - 1, t0.TOP, t0.TOP + GUARD - 1, t0.TOP + GUARD, (1 << 40) - 8, (1 << 40) + 8]
        found += [(1 << 47) - 4, 1 << 47, 0x8000 << 48, 0xFFFF8000 << 32, U64, U64 - 15, -self.window & U64]
        return found


LONG = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(params=["t0", "t1", "t2", pytest.param("t2, all", marks=LONG)])
def guest(request: pytest.FixtureRequest) -> Surrounded:
    """Compiling takes long, so T2 tries a share only."""
    makers = {"t0": (t0.T0, 1), "t1": (t1.T1, 1), "t2": (t2.T2, 15), "t2, all": (t2.T2, 1)}
    make, every = makers[request.param]
    return Surrounded(make(), every)


def attack(guest: Surrounded, case: fuzz.Case) -> None:
    """Run a case; it must do what the oracle says and leave everything outside alone."""
    guest.cases += 1
    if guest.cases % guest.every:
        return
    if isinstance(guest.engine, t2.T2):
        got, _ = compiled.run(case, guest.engine)
    else:
        got = harness.run_engine(guest.engine, case)
    assert guest.untouched(), f"{case!r} wrote outside the window"
    assert bytes(got.state.buffer).find(MARK) < 0, f"{case!r} read outside the window"
    if compare.has_oracle(case):
        wrong = compare.differences(case, harness.run_on_oracle(case), got, sticky=False)
        assert not wrong, compare.describe(case, wrong)


def encoded(raw: Instruction, state: r.CpuState) -> fuzz.Case | None:
    """The instruction as a case, None for combinations of registers that do not exist."""
    encoder = Encoder(64)
    try:
        encoder.encode(raw, fuzz.AT)
    except ValueError:
        return None
    data = encoder.take_buffer()
    return fuzz.Case(data, Decoder(64, data, ip=fuzz.AT).decode(), state)


def aimed(states: States, base: int, index: int, scale: int, target: int) -> tuple[MemoryOperand, r.CpuState]:
    """base + index * scale + displacement that comes out at the target; 16 stands for no register."""
    state = states.draw()
    displacement = states.rng.choice(DISPLACEMENTS)
    if base == index and scale == 1 and (target - displacement) & 1:
        displacement += 1 if displacement < 127 else -1
    rest = target - displacement
    if base == index:
        value = rest // 2 if scale == 1 else rest * pow(scale + 1, -1, 1 << 64)
        state.set_gpr(base, value & U64)
    elif base < 16:
        if index < 16:
            rest -= state.gpr(index) * scale
        state.set_gpr(base, rest & U64)
    else:
        state.set_gpr(index, rest // scale & U64)
    operand = MemoryOperand(
        base=Register.RAX + base if base < 16 else Register.NONE,
        index=Register.RAX + index if index < 16 else Register.NONE,
        scale=scale,
        displ=displacement,
        displ_size=8,
    )
    return operand, state


def access(rng: random.Random, code: int, operand: MemoryOperand) -> Instruction:
    """The access to the operand, its other operand any register; locked half of the time if it can be."""
    if code in REG_MEM:
        raw = Instruction.create_reg_mem(code, register_for(rng, code, 0), operand)
    elif code in BY_CL:
        raw = Instruction.create_mem_reg(code, operand, Register.CL)
    elif code in MEM:
        raw = Instruction.create_mem(code, operand)
    else:
        raw = Instruction.create_mem_reg(code, operand, register_for(rng, code, 1))
    if code in LOCKABLE:
        raw.has_lock_prefix = rng.random() < 0.5
    return raw


def register_for(rng: random.Random, code: int, position: int) -> int:
    """A random register of the kind that the instruction has there."""
    first, count = {
        OpCodeOperandKind.R8_REG: (Register.AL, 8),
        OpCodeOperandKind.R16_REG: (Register.AX, 16),
        OpCodeOperandKind.R32_REG: (Register.EAX, 16),
        OpCodeOperandKind.R64_REG: (Register.RAX, 16),
        OpCodeOperandKind.XMM_REG: (Register.XMM0, 16),
    }[OpCodeInfo(code).op_kind(position)]
    return first + rng.randrange(count)


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=LONG)])
def test_every_form_of_address(guest: Surrounded, rounds: int) -> None:
    """Every base with every index and scale, with accesses and targets by chance."""
    states = States(random.Random(SEED))
    rng = states.rng
    targets = guest.targets()
    tried = 0
    if isinstance(guest.engine, t2.T2) and guest.every == 1:
        rounds = 1
    for base in range(17):
        for index in range(17):
            for scale in (1, 2, 4, 8):
                if index == r.RSP or base == index == 16:
                    continue
                for _ in range(rounds):
                    operand, state = aimed(states, base, index, scale, rng.choice(targets))
                    made = encoded(access(rng, rng.choice(ACCESSES), operand), state)
                    if made is not None:
                        tried += 1
                        attack(guest, made)
    assert tried > 1000 * rounds


def test_every_access_at_every_target(guest: Surrounded) -> None:
    """Each kind of access, plain address, each target."""
    states = States(random.Random(SEED))
    rng = states.rng
    for code in ACCESSES:
        for target in guest.targets():
            operand, state = aimed(states, r.RBX, 16, 1, target)
            made = encoded(access(rng, code, operand), state)
            assert made is not None
            attack(guest, made)


def implicit(states: States, targets: list[int]) -> Iterator[fuzz.Case]:
    """Accesses through rsp, rbp, rsi, rdi, rbx and segment bases, absolute and rip-relative ones; repeated
    strings run both ways, from inside the window out of it too."""
    rng = states.rng
    for code in IMPLICIT:
        data = bytes.fromhex(code)
        decoded = Decoder(64, data, ip=fuzz.AT).decode()
        for target in targets:
            for inside in (False, True) if decoded.is_string_instruction else (False,):
                state = states.draw()
                state.eflags = state.eflags & ~r.FLAG_DF | rng.choice((0, r.FLAG_DF))
                for register in (r.RAX, r.RBX, r.RSP, r.RBP, r.RSI, r.RDI):
                    state.set_gpr(register, target)
                if inside:
                    state.set_gpr(rng.choice((r.RSI, r.RDI)), fuzz.MEMORY + rng.randrange(fuzz.MEMORY_SIZE))
                state.rcx = rng.choice((1, 7, 4096, 1 << 20, U64))
                state.gs_base = rng.choice((0, target, U64 - 7))
                state.fs_base = rng.choice((0, target))
                yield fuzz.Case(data, decoded, state)
    for target in targets:
        state = states.draw()
        for code in ("a0", "48a1", "a2", "48a3"):  # mov al,[moffs64] and the like
            data = bytes.fromhex(code) + target.to_bytes(8, "little")
            yield fuzz.Case(data, Decoder(64, data, ip=fuzz.AT).decode(), state)
    for displacement in (-(1 << 31), -fuzz.AT - 7, -fuzz.AT - 8, (1 << 31) - 1, t0.TOP - fuzz.AT - 7):
        for code in ("488b05", "488905", "0f1005", "ff15", "f0480105"):
            data = bytes.fromhex(code) + (displacement & 0xFFFFFFFF).to_bytes(4, "little")
            yield fuzz.Case(data, Decoder(64, data, ip=fuzz.AT).decode(), states.draw())


def test_implicit_addresses(guest: Surrounded) -> None:
    tried = 0
    for case in implicit(States(random.Random(SEED)), guest.targets()):
        assert not case.instruction.is_invalid, case
        attack(guest, case)
        tried += 1
    assert tried > 1000


def test_an_address_is_not_as_small_as_what_it_loads(guest: Surrounded) -> None:
    """mov r13d,[rcx+rcx*8+7fh]: too many times a register to follow, and a result of 32 bits."""
    guest.every = 1
    states = States(random.Random(SEED))
    code = bytes.fromhex("448bacc97f000000")
    for target in guest.targets():
        state = states.draw()
        state.rcx = (target - 0x7F) * pow(9, -1, 1 << 64) & U64
        attack(guest, fuzz.Case(code, Decoder(64, code, ip=fuzz.AT).decode(), state))


def test_bit_strings_reach_far(guest: Surrounded) -> None:
    """bt [m],r has a bit offset of 64 bits beside its address: 2^60 bytes in both directions."""
    states = States(random.Random(SEED))
    for target in guest.targets():
        for code in (
            "480fab03",
            "480fa303",
            "480fb303",
            "480fbb03",
            "f0480fab03",
        ):  # bts bt btr btc [rbx],rax
            state = states.draw()
            far = (target - fuzz.MEMORY) * 8
            state.rbx, state.rax = fuzz.MEMORY, far & U64
            if not -(1 << 63) <= far < 1 << 63:
                state.rbx, state.rax = target, 0
            data = bytes.fromhex(code)
            attack(guest, fuzz.Case(data, Decoder(64, data, ip=fuzz.AT).decode(), state))


@pytest.mark.parametrize("family", sorted(features.families()))
def test_every_family(guest: Surrounded, family: str) -> None:
    """Random instructions of every file of semantics - gathers, masked moves and whatever comes - with their
    base register moved to a wild place."""
    states = States(random.Random(SEED))
    targets = guest.targets()
    tried = 0
    for form in fuzz.random_forms(features.encodings(family), states.rng):
        case = form.case(states)
        if case is not None:
            base = case.instruction.memory_base
            if base in GENERAL and GENERAL[base][0] < 16:
                places = fuzz.accesses(case)
                missed = states.rng.choice(targets) - (places[0][0] if places else 0)
                state, slot = case.state, GENERAL[base][0]
                state.set_gpr(slot, state.gpr(slot) + missed & U64)
            attack(guest, case)
        tried += 1
        if tried == FORMS:
            break
    assert tried == FORMS


def test_a_hole_in_the_wall_is_seen(guest: Surrounded) -> None:
    """The canaries notice a write and a read, where `top` lies behind them."""
    guest.engine._machine["top"], guest.every = U64, 1
    for code in ("488903", "488b03"):  # mov [rbx],rax; mov rax,[rbx]
        case = harness.case(code, rbx=t0.TOP + GUARD, rax=0)
        with pytest.raises(AssertionError, match="outside the window"):
            attack(guest, case)
        ctypes.memmove(guest.outside[1][0], MARK * 2, 8)
