"""Blocks that lead back to themselves, whose further rounds are a second copy of the code: what they leave at
the end, at any interruption, and where an access fails in any round, is what the interpreter leaves."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from nexus.ir.state import Exit
from nexus.isa.x86.registers import CpuState
from nexus.machine import native
from nexus.machine.tiers import AT_ONCE
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window

PAGE = 4096
CODE, DATA, STACK = 0x10000, 0x20000, 0x30000
ROUNDS = 20
INTEGERS = (
    "4d01d1",  # add r9,r10
    "4901f3",  # add r11,rsi
    "4d29e5",  # sub r13,r12
    "4d31fe",  # xor r14,r15
    "49ffc4",  # inc r12
    "49ffcf",  # dec r15
    "4983c208",  # add r10,0x8
    "4983e980",  # sub r9,0xffffffffffffff80
    "4d01e4",  # add r12,r12
    "4d29ed",  # sub r13,r13
    "41c1c505",  # rol r13d,0x5
    "41d3e6",  # shl r14d,cl
    "49d3e9",  # shr r9,cl
    "49c1fa03",  # sar r10,0x3
    "4d0fafd3",  # imul r10,r11
    "4c01f0",  # add rax,r14
    "4883d200",  # adc rdx,0x0
    "4519c0",  # sbb r8d,r8d
    "410f94c1",  # sete r9b
    "410f92c6",  # setb r14b
    "4d39d1",  # cmp r9,r10
    "4139c4",  # cmp r12d,eax
    "4d85db",  # test r11,r11
    "41f6c207",  # test r10b,0x7
    "4921d7",  # and r15,rdx
    "49f7d8",  # neg r8
    "664501d9",  # add r9w,r11w
    "4528e2",  # sub r10b,r12b
    "f34d0fb8d9",  # popcnt r11,r9
    "4991",  # xchg r9,rax
    "90",  # nop
    "90",  # nop
    "90",  # nop
    "90",  # nop
)
MEMORY = (
    "4f8d1c33",  # lea r11,[r11+r14*1]
    "4c8b07",  # mov r8,[rdi]
    "4c010f",  # add [rdi],r9
    "4c896f08",  # mov [rdi+0x8],r13
    "4c3927",  # cmp [rdi],r12
    "4c033c2f",  # add r15,[rdi+rbp*1]
    "44034caf04",  # add r9d,[rdi+rbp*4+0x4]
    "c6470307",  # mov BYTE [rdi+0x3],0x7
)
SSE = (
    "440f280f",  # movaps xmm9,[rdi]
    "440f2927",  # movaps [rdi],xmm12
    "450f58cc",  # addps xmm9,xmm12
    "66440ffedb",  # paddd xmm11,xmm3
    "66410f72f507",  # pslld xmm13,0x7
    "66450f6ef1",  # movd xmm14,r9d
    "66450f7ef2",  # movd r10d,xmm14
    "66490f6edb",  # movq xmm3,r11
    "66450f2ecb",  # ucomisd xmm9,xmm11
    "440f2fdb",  # comiss xmm11,xmm3
    "66450f60eb",  # punpcklbw xmm13,xmm11
    "66450f70e51b",  # pshufd xmm12,xmm13,0x1b
    "f2450f59d9",  # mulsd xmm11,xmm9
)
AVX = (
    "c4411c58e1",  # vaddps ymm12,ymm12,ymm9
    "c44111feeb",  # vpaddd xmm13,xmm13,xmm11
    "c4c115fedb",  # vpaddd ymm3,ymm13,ymm11
    "c57c2927",  # vmovaps [rdi],ymm12
    "c57c100f",  # vmovups ymm9,[rdi]
    "c4627d185f04",  # vbroadcastss ymm11,[rdi+0x4]
    "c57a1037",  # vmovss xmm14,[rdi]
    "c4637d19e301",  # vextractf128 xmm3,ymm12,0x1
    "c4c1792fde",  # vcomisd xmm3,xmm14
    "c5e1ebdb",  # vpor xmm3,xmm3,xmm3
    "c44235b8e3",  # vfmadd231ps ymm12,ymm9,ymm11
    "c442e1a9ee",  # vfmadd213sd xmm13,xmm3,xmm14
)
ENDS = (  # what comes before a near jump back, and its condition
    ("48ffcb", "85"),  # dec rbx; jne
    ("4883eb01", "85"),  # sub rbx, 1; jne
    ("4883eb01 4885db", "8f"),  # sub rbx, 1; test rbx, rbx; jg
    ("4883eb01 4883fb01", "83"),  # sub rbx, 1; cmp rbx, 1; jae
    ("4883eb01 f2480f2ac3 0f57c9 660f2ec1", "87"),  # sub rbx, 1; cvtsi2sd; xorps; ucomisd xmm0, xmm1; ja
)


class Rig:
    def __init__(self, engine: str) -> None:
        self.window = Window()
        self.vcpu = Vcpu(self.window, engine, AT_ONCE)
        self.window.map(CODE, PAGE, READ | EXECUTE)
        self.window.map(DATA, PAGE, READ | WRITE)
        self.window.map(STACK, PAGE, READ | WRITE)
        self.state = CpuState()

    def start(self, seed: int, code: bytes, pointer: int) -> None:
        rng = random.Random(seed)
        self.window.write_forced(CODE, code)
        self.window.write_forced(DATA, rng.randbytes(PAGE))
        self.state.reset()
        for number in range(16):
            self.state.set_gpr(number, rng.choice((rng.getrandbits(64), rng.getrandbits(5), 0)))
            vector = rng.randbytes(32) if seed % 2 else rng.randbytes(16) + bytes(16)
            self.state.set_ymm(number, vector)
        self.state.eflags = rng.getrandbits(32) & 0x8D5
        self.state.rip, self.state.rsp, self.state.rbp = CODE, STACK + PAGE, 0
        self.state.rdi, self.state.rbx = pointer, ROUNDS

    def looks(self) -> tuple[object, ...]:
        state = self.state
        vectors = [state.vector(number) for number in range(16)]
        return state.rip, [state.gpr(n) for n in range(16)], vectors, state.eflags, state.mxcsr

    def close(self) -> None:
        self.vcpu.close()
        self.window.close()


@pytest.fixture(scope="module")
def rigs() -> Iterator[tuple[Rig, Rig]]:
    try:
        native.prepare()
    except native.NexusError as reason:
        pytest.skip(f"not run: {reason}")
    made = Rig("t0"), Rig("t1")
    yield made
    for rig in made:
        rig.close()


def loop(rng: random.Random) -> bytes:
    """Some instructions, among them few or many that access memory or use vectors, again and again."""
    kinds = [INTEGERS, *rng.sample((MEMORY, SSE, AVX, INTEGERS), 2)]
    body = b"".join(bytes.fromhex(rng.choice(rng.choice(kinds))) for _ in range(rng.randint(1, 10)))
    if rng.random() < 0.7:
        body += bytes.fromhex("4883c720")  # add rdi, 32
    before, condition = rng.choice(ENDS)
    body += bytes.fromhex(before) + b"\x0f" + bytes.fromhex(condition)
    return body + struct.pack("<i", -len(body) - 4) + b"\x0f\x05"


@pytest.mark.parametrize("ten", range(40))
def test_rounds_leave_what_the_interpreter_leaves(rigs: tuple[Rig, Rig], ten: int) -> None:
    for seed in range(10 * ten, 10 * ten + 10):
        rng = random.Random(seed)
        code = loop(rng)
        # the page ends, or the vector is misaligned, in one of the rounds
        pointer = DATA + PAGE - 32 * rng.choice((ROUNDS + 1, rng.randint(1, ROUNDS)))
        pointer += rng.choice((0, 0, 0, 4, 16))
        budgets = [rng.choice((1, 3, 20, 200, 1000)) for _ in range(400)]
        for rig in rigs:
            rig.start(seed, code, pointer)
        for budget in budgets:
            ends = [rig.vcpu.run(rig.state, budget) for rig in rigs]
            assert rigs[0].looks() == rigs[1].looks(), f"seed {seed}, {code.hex()}"
            assert (ends[0].kind, ends[0].address) == (ends[1].kind, ends[1].address), f"seed {seed}"
            if ends[0].kind != Exit.BUDGET:
                break
        assert ends[0].kind in (Exit.SYSCALL, Exit.FAULT), f"seed {seed}"
        assert rigs[0].window.read(DATA, PAGE) == rigs[1].window.read(DATA, PAGE), f"seed {seed}"
