"""What CPUID promises is there: every user-mode instruction of the baseline and of each reported feature."""

from __future__ import annotations

from iced_x86 import Instruction

from nexus.isa.x86 import features
from nexus.isa.x86.cpuid import FEATURES
from nexus.isa.x86.semantics import SEMANTICS

BASELINE = {
    *("INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486", "X64"),
    *("FPU287", "FPU387", "MULTIBYTENOP", "PAUSE", "CET_IBT"),
}
ABSENT = {
    **dict.fromkeys(("FINIT", "FCLEX", "FSTCW", "FSTSW", "FSTENV", "FSAVE"), "decoded as WAIT and FN..."),
    **dict.fromkeys(("FENI", "FDISI", "FSETPM", "FNENI", "FNDISI", "FNSETPM"), "8087 and 80287 only"),
}


def test_every_reported_instruction_is_implemented() -> None:
    names = features.names()
    there = BASELINE | set(FEATURES)
    missing = set()
    for mnemonic, name in names.items():
        for code in features.codes_of(mnemonic):
            instruction = Instruction()
            instruction.code = code
            needs = set(features.features_of(code))
            if needs <= there and not instruction.is_privileged and mnemonic not in SEMANTICS:
                missing.add(name)
    assert missing == set(ABSENT)
