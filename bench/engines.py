"""How fast the engines run compiled functions, side by side in one run.

    python bench/engines.py [REPEAT]

The functions of `tests/peers/programs.ll` run natively, on T0, T1 and Unicorn, the best of REPEAT times;
the columns are times native execution. Both results are checked against the native one. Unicorn counts
instructions, as `peers/unicorn_cpu.py` needs it to.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from math import prod

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What is measured is this checkout, whatever is installed: hence the imports below this line.
sys.path[:0] = [os.path.join(ROOT, "src"), os.path.join(ROOT, "tests")]

from nexus.ir.state import Exit  # noqa: E402
from nexus.isa.x86.registers import CpuState  # noqa: E402
from nexus.machine.vcpu import Vcpu  # noqa: E402
from nexus.machine.window import EXECUTE, READ, WRITE, Window  # noqa: E402
from peers import test_programs as programs  # noqa: E402
from peers import unicorn_cpu  # noqa: E402

SIZES = {"fib": 27, "sort": 4000, "divide": 100_000, "bytes": 400_000, "float": 300_000}
BUFFER_BYTES = 0x8_0000
SLICE = 1_000_000


def best(repeat: int, run: Callable[[str, int], int], name: str, n: int) -> tuple[float, int]:
    """The shortest processor time in seconds, and the result."""
    shortest, result = float("inf"), 0
    for _ in range(repeat):
        start = time.thread_time()
        result = run(name, n)
        shortest = min(shortest, time.thread_time() - start)
    return shortest, result


class Host:
    """The programs on this processor."""

    def __init__(self, level: int) -> None:
        self._level = level

    def call(self, name: str, n: int) -> int:
        return programs.on_host(name, self._level, n, BUFFER_BYTES)[0]


class Guest:
    """The programs in a window, to be called again and again."""

    def __init__(self, make_vcpu: Callable[[Window], Vcpu], level: int) -> None:
        code, self.symbols = programs.compiled(level)
        self.window = Window()
        self.vcpu = make_vcpu(self.window)
        self.end = programs.CODE + len(code)
        self.window.map(programs.CODE, len(code) + programs.PAGE, READ | EXECUTE)
        self.window.write_forced(programs.CODE, code + b"\x0f\x05")
        self.window.map(programs.BUFFER, BUFFER_BYTES, READ | WRITE)
        self.window.map(programs.STACK, programs.STACK_BYTES, READ | WRITE)

    def call(self, name: str, n: int) -> int:
        state = CpuState()
        state.reset()
        state.rip, state.rdi, state.rsi = programs.CODE + self.symbols[name], programs.BUFFER, n
        state.rsp = programs.STACK + programs.STACK_BYTES - 24
        self.window.w64(state.rsp, self.end)
        while self.vcpu.run(state, SLICE).kind == Exit.BUDGET:
            pass
        return state.rax

    def close(self) -> None:
        self.vcpu.close()
        self.window.close()


def columns(ratios: list[float]) -> str:
    return "".join(f"{ratio:{8 if index < 2 else 9}.1f}" for index, ratio in enumerate(ratios))


def main(repeat: int) -> None:
    heads = f"{'T0':>8}{'T1':>8}{'Unicorn':>9}"
    print(f"{'function':12}{'native ms':>11}{heads}   times native, best of {repeat}")
    for level in (0, 2):
        host = Host(level)
        makers = (Vcpu, partial(Vcpu, engine="t1"), unicorn_cpu.Vcpu)
        guests = [Guest(make, level) for make in makers]
        ratios: list[list[float]] = [[], [], []]
        for name, n in SIZES.items():
            native, expected = best(repeat, host.call, name, n)
            cells = []
            for guest, column in zip(guests, ratios, strict=True):
                taken, result = best(repeat, guest.call, name, n)
                if result != expected:
                    raise SystemExit(f"{name} -O{level}: {result:#x} instead of {expected:#x}")
                column.append(taken / native)
                cells.append(taken / native)
            print(f"{name + ' -O' + str(level):12}{native * 1000:11.3f}{columns(cells)}")
        means = [prod(column) ** (1 / len(column)) for column in ratios]
        print(f"{'geomean -O' + str(level):12}{'':11}{columns(means)}")
        for guest in guests:
            guest.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
