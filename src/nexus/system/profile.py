"""`run --profile`: where guest code spends its time, as a file for Speedscope.

A sample is the calls that a thread is in after every so many guest instructions (`machine/measure.py`), and
weighs the time in guest code since the sample before. What the kernel does for the guest is not in it. The
file format is Speedscope's own, one sampled profile per process.
"""

from __future__ import annotations

import json

from nexus import __version__
from nexus.machine.measure import MeasuredVcpu
from nexus.nt.ps.unwind import Unwinder
from nexus.system.symbols import Symbols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.isa.x86.registers import CpuState
    from nexus.nt.kernel import Kernel
    from nexus.nt.ps.process import Process

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


class Samples:
    """Those of one process: numbers of frames and nanoseconds, in order."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.symbols = Symbols(process)
        self.unwinder = Unwinder(process.window, self.symbols)
        self.stacks: list[list[int]] = []
        self.weights: list[int] = []


class Profile:
    """Collects the samples of a machine."""

    def __init__(self) -> None:
        self.kernel: Kernel | None = None  # of the machine, once it is there
        self._frames: dict[str, int] = {}
        self._of: dict[MeasuredVcpu, Samples | None] = {}

    def sample(self, vcpu: MeasuredVcpu, state: CpuState, nanoseconds: int) -> None:
        """One sample; merged with the one before if it is in the same calls."""
        if vcpu not in self._of:
            self._of[vcpu] = self._find(vcpu)
        samples = self._of[vcpu]
        if samples is None:
            return
        registers = [state.gpr(number) for number in range(16)]
        names = map(samples.symbols.describe, reversed(samples.unwinder.stack(registers, state.rip)))
        stack = [self._frames.setdefault(name, len(self._frames)) for name in names]
        if samples.stacks and samples.stacks[-1] == stack:
            samples.weights[-1] += nanoseconds
        else:
            samples.stacks.append(stack)
            samples.weights.append(nanoseconds)

    def _find(self, vcpu: MeasuredVcpu) -> Samples | None:
        assert self.kernel is not None
        return next((Samples(process) for process in self.kernel.processes if process.vcpu is vcpu), None)

    def write(self, descriptor: int) -> None:
        """Write the file into what was opened before the wall went up; the descriptor is closed."""
        profiles = []
        for samples in filter(None, self._of.values()):
            image = samples.process.image_name.rpartition("\\")[2] or "process"
            profiles.append(
                {
                    "type": "sampled",
                    "name": f"{image} ({samples.process.id:#x})",
                    "unit": "nanoseconds",
                    "startValue": 0,
                    "endValue": sum(samples.weights),
                    "samples": samples.stacks,
                    "weights": samples.weights,
                }
            )
        content = {
            "$schema": SCHEMA,
            "exporter": f"nexus {__version__}",
            "name": profiles[0]["name"] if profiles else "nothing ran",
            "activeProfileIndex": 0,
            "shared": {"frames": [{"name": name} for name in self._frames]},
            "profiles": profiles,
        }
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
