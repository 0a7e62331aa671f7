"""Instructions that raise #UD, as on a processor that does not report their feature, with the reasons.

This is the list of what user mode could execute somewhere and cannot here.
"""

from __future__ import annotations

from iced_x86 import CpuidFeature, Instruction

_WITHDRAWN = "withdrawn: no processor made now has it"
_SYSTEM = "needs a system that Windows is not: it is #UD for ordinary programs there too"
_VENDOR = "VIA's processors only"
_NONE_YET = "announced; no processor to compare with"

# features (iced's names) -> why
REASONS: dict[str, str] = {
    "D3NOW": f"3DNow!, {_WITHDRAWN}",
    "D3NOWEXT": f"3DNow!, {_WITHDRAWN}",
    "XOP": f"AMD before Zen, {_WITHDRAWN}",
    "TBM": f"AMD before Zen, {_WITHDRAWN}",
    "FMA4": f"AMD before Zen, {_WITHDRAWN}",
    "LWP": f"AMD before Zen, {_WITHDRAWN}",
    "PCOMMIT": _WITHDRAWN,
    "MCOMMIT": "AMD's, off unless the system turns it on",
    "RTM": "transactional memory, turned off on the processors that had it",
    "HLE_OR_RTM": "transactional memory, turned off on the processors that had it",
    "TSXLDTRK": "transactional memory, turned off on the processors that had it",
    "AVX512ER": f"Xeon Phi, {_WITHDRAWN}",
    "AVX512PF": f"Xeon Phi, {_WITHDRAWN}",
    "AVX512_4FMAPS": f"Xeon Phi, {_WITHDRAWN}",
    "AVX512_4VNNIW": f"Xeon Phi, {_WITHDRAWN}",
    "KNC": f"Xeon Phi's predecessor, with encodings of its own, {_WITHDRAWN}",
    "PADLOCK_ACE": _VENDOR,
    "PADLOCK_GMI": _VENDOR,
    "PADLOCK_PHE": _VENDOR,
    "PADLOCK_PMM": _VENDOR,
    "PADLOCK_RNG": _VENDOR,
    "PADLOCK_UNDOC": _VENDOR,
    "MONITOR": "ring 0's unless the system says otherwise",
    "MONITORX": "AMD's; Windows does not report it to programs",
    "RDPRU": "AMD's; Windows does not turn it on",
    "PKU": "protection keys, which Windows does not turn on",
    "CET_SS": "shadow stacks, which are off; RDSSP is the hint that it is then",
    "AESKLE": "key locker: wrapping keys that only a system can load",
    "WIDE_KL": "key locker: wrapping keys that only a system can load",
    "ENQCMD": "work queues of devices that a system has to open",
    "UINTR": "user interrupts, which a system has to set up",
    "UDBG": _SYSTEM,
    "SGX1": "enclaves, which a system has to set up",
    "SMX": _SYSTEM,
    "SMM": _SYSTEM,
    "SVM": _SYSTEM,
    "SEV_ES": _SYSTEM,
    "VMX": _SYSTEM,
    "RAO_INT": _NONE_YET,
    "AMX_TILE": "tiles, whose state a program has to ask the system for",
    "AMX_INT8": "tiles, whose state a program has to ask the system for",
    "AMX_BF16": "tiles, whose state a program has to ask the system for",
    "AMX_FP16": "tiles, whose state a program has to ask the system for",
    "AMX_COMPLEX": "tiles, whose state a program has to ask the system for",
}
_NUMBERS = {getattr(CpuidFeature, name): why for name, why in REASONS.items() if hasattr(CpuidFeature, name)}


def reason(instruction: Instruction) -> str | None:
    """Why an instruction is refused; None if it is not."""
    for feature in instruction.cpuid_features():
        if feature in _NUMBERS:
            return _NUMBERS[feature]
    return None
