"""Instructions that the host does in Python, by number (`Exit.HELPER`): their cost does not matter.

The argument of the exit is the number and above it, from bit 8 on, what the instruction's operands are.
Imported where programs run, so it imports nothing else than what it needs for that.
"""

from __future__ import annotations

from nexus.ir.state import Exit
from nexus.isa.x86 import registers as r
from nexus.isa.x86.cpuid import DEFAULT, Cpu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

(
    FLAGS_LOADED, CPUID, RDTSC, RDTSCP, MXCSR_LOADED,
    XGETBV, RANDOM, XSAVE, XRSTOR,
) = range(9)  # fmt: skip
PROCESSOR = 0  # TSC_AUX: the number of the processor, as Windows keeps it there
MEMORY_OPERAND = 16  # the scalar slot that holds the address for XSAVE and XRSTOR
_LOW = 0xFFFFFFFF


class Machine:
    """What helpers ask of the machine around the processor.

    `ticks()` is the time stamp counter, real or virtual; `processors` what CPUID counts; `random_bytes` the
    source of RDRAND; `read` and `write` are guarded and raise GuestFault.
    """

    __slots__ = ("cpu", "processors", "random_bytes", "read", "ticks", "write")

    def __init__(
        self,
        ticks: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        read: Callable[[int, int], bytes],
        write: Callable[[int, bytes], None],
    ) -> None:
        self.ticks = ticks
        self.random_bytes = random_bytes
        self.read = read
        self.write = write
        self.processors = 1
        self.cpu: Cpu = DEFAULT


def _nothing(state: r.CpuState, machine: Machine, operands: int) -> None:
    """Nothing to do: the exit gives the machine the occasion to see a TF that has just been set, or an
    exception that is unmasked now."""


def _cpuid(state: r.CpuState, machine: Machine, operands: int) -> None:
    answer = machine.cpu.cpuid(state.rax & _LOW, state.rcx & _LOW, machine.processors)
    state.rax, state.rbx, state.rcx, state.rdx = answer


def _rdtsc(state: r.CpuState, machine: Machine, operands: int) -> None:
    now = machine.ticks()
    state.rax, state.rdx = now & _LOW, now >> 32 & _LOW


def _rdtscp(state: r.CpuState, machine: Machine, operands: int) -> None:
    _rdtsc(state, machine, operands)
    state.rcx = PROCESSOR


def _xgetbv(state: r.CpuState, machine: Machine, operands: int) -> int | None:
    """XCR0, or with ECX = 1 the components in use: all of them, since none is tracked."""
    cpu = machine.cpu
    if "XSAVE" not in cpu.features:
        return Exit.ILLEGAL
    if state.rcx & _LOW > 1:
        return Exit.PRIVILEGED
    state.rax, state.rdx = cpu.xcr0 & _LOW, cpu.xcr0 >> 32
    return None


def _random(state: r.CpuState, machine: Machine, operands: int) -> None:
    """RDRAND, RDSEED: register in bits 0..3, its size in bytes above. Always a success: CF 1, the others
    0."""
    register, size = operands & 15, operands >> 4
    value = int.from_bytes(machine.random_bytes(size), "little")
    if size == 2:
        value |= state.gpr(register) & ~0xFFFF
    state.set_gpr(register, value)
    state.eflags = state.eflags & ~(r.SPLIT_FLAGS & ~r.FLAG_DF) | r.FLAG_CF


def _xsave(state: r.CpuState, machine: Machine, operands: int) -> int | None:
    from nexus.isa.x86 import xsave

    return xsave.save(state, machine, bool(operands & 1))


def _xrstor(state: r.CpuState, machine: Machine, operands: int) -> int | None:
    from nexus.isa.x86 import xsave

    return xsave.restore(state, machine)


HELPERS: tuple[Callable[[r.CpuState, Machine, int], int | None], ...] = (
    _nothing, _cpuid, _rdtsc, _rdtscp, _nothing,
    _xgetbv, _random, _xsave, _xrstor,
)  # fmt: skip
LENGTH_SHIFT = 16
"""The instruction's length is in bits 16..19 of the argument of a helper that may fail."""


def run(argument: int, state: r.CpuState, machine: Machine) -> int | None:
    """Do a helper; pc is past the instruction already. Returns the Exit kind of what it raises instead: pc is
    then at the instruction, as it is when this raises GuestFault."""
    number, operands = argument & 255, argument >> 8
    after = state.rip
    state.rip = after - (argument >> LENGTH_SHIFT & 15)
    raised = HELPERS[number](state, machine, operands & 255)
    if raised is None:
        state.rip = after
    return raised
