"""Instructions by CPUID feature: the groups of `nexus fuzz isa` and of the coverage page."""

from __future__ import annotations

from functools import cache

from iced_x86 import Code, CpuidFeature, EncodingKind, Instruction, Mnemonic, OpCodeInfo

from nexus.isa.x86.masks import NOT_COMPARED, VENDORS_DIFFER
from nexus.isa.x86.semantics import ENCODINGS, SEMANTICS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Numbered  # a number of one of iced's enums, which its stubs call classes

# iced's features that are one group here: what every x86-64 processor has, and the x87
_BASE = (
    "INTEL8086",
    "INTEL186",
    "INTEL286",
    "INTEL386",
    "INTEL486",
    "X64",
    "MULTIBYTENOP",
    "PAUSE",
    "CET_IBT",
)
_GROUP = {**dict.fromkeys(_BASE, "BASE"), **dict.fromkeys(("FPU", "FPU287", "FPU387"), "FPU")}
_ENCODINGS = (EncodingKind.LEGACY, EncodingKind.VEX, EncodingKind.EVEX)

_FEATURES = {number: name for name, number in vars(CpuidFeature).items() if isinstance(number, int)}
_CODES: dict[int, list[Numbered]] = {}


def names() -> dict[int, str]:
    """iced's mnemonic numbers -> names."""
    return {value: name for name, value in vars(Mnemonic).items() if isinstance(value, int)}


def codes_of(mnemonic: int) -> list[Numbered]:
    """The encodings of a mnemonic in 64-bit user mode: legacy, VEX and EVEX, but for Knights Corner's."""
    if not _CODES:
        values: dict[str, Numbered] = vars(Code)
        for name, code in values.items():
            if not name.isupper():
                continue
            info = OpCodeInfo(code)
            decoded = info.intel_decoder64 or info.amd_decoder64
            known = info.encoding in _ENCODINGS and info.mode64 and info.cpl3
            if known and info.is_instruction and decoded and features_of(code) != ["KNC"]:
                _CODES.setdefault(info.mnemonic, []).append(code)
    return _CODES.get(mnemonic, [])


def features_of(code: Numbered) -> list[str]:
    """iced's names of the features that an encoding needs."""
    instruction = Instruction()
    instruction.code = code
    return sorted(_FEATURES[feature] for feature in instruction.cpuid_features())


def group_of(code: Numbered) -> str:
    """The group of an encoding. AVX512VL has no group of its own, nor has AVX512F where it is one of two."""
    found = [_GROUP.get(name, name) for name in features_of(code)]
    for common in ("AVX512VL", "AVX512F"):
        if len(found) > 1 and common in found:
            found.remove(common)
    if "FPU" in found:
        return "FPU"
    return "+".join(found)


def _known(mnemonic: int) -> list[Numbered]:
    """The encodings of a mnemonic that its function is made for and processors agree on."""
    codes = [code for code in codes_of(mnemonic) if OpCodeInfo(code).encoding in ENCODINGS]
    return [code for code in codes if code not in VENDORS_DIFFER]


@cache
def groups() -> dict[str, list[Numbered]]:
    """Group -> the encodings in it that have semantics and can be compared with the host."""
    out: dict[str, list[Numbered]] = {}
    known = names()
    for mnemonic in SEMANTICS:
        if known[mnemonic] not in NOT_COMPARED:
            for code in _known(mnemonic):
                out.setdefault(group_of(code), []).append(code)
    return out


@cache
def families() -> dict[str, list[Numbered]]:
    """The same by the module of `semantics/` that the meaning is in."""
    out: dict[str, list[Numbered]] = {}
    known = names()
    for mnemonic, function in SEMANTICS.items():
        if known[mnemonic] not in NOT_COMPARED:
            family = function.__module__.rpartition(".")[2]
            out.setdefault(family, []).extend(_known(mnemonic))
    return out


def encodings(group: str) -> list[Numbered]:
    """What a name stands for: a feature, a module of `semantics/` or a mnemonic; empty for anything else."""
    for table in (groups(), families()):
        if group in table:
            return table[group]
    mnemonic = vars(Mnemonic).get(group)
    return _known(mnemonic) if isinstance(mnemonic, int) else []
