"""What CPUID answers: a processor with what the front-end implements, and nothing else.

`FEATURES` is the one list of optional instruction groups; a test asks iced for the instructions of each and
looks for their semantics. Layout: Intel SDM volume 2, CPUID; AMD64 APM volume 3, appendix E.
"""

from __future__ import annotations

VENDOR = b"GenuineIntel"
BRAND = b"Bellum Nexus x86-64 processor"
FAMILY, MODEL, STEPPING = 6, 0x2C, 2  # Westmere: the last Intel generation without AVX

# name as in iced_x86.CpuidFeature -> (leaf, register index in eax ebx ecx edx, bit)
FEATURES: dict[str, tuple[int, int, int]] = {
    "FPU": (1, 3, 0),
    "TSC": (1, 3, 4),
    "CX8": (1, 3, 8),
    "CMOV": (1, 3, 15),
    "CLFSH": (1, 3, 19),
    "MMX": (1, 3, 23),
    "FXSR": (1, 3, 24),
    "SSE": (1, 3, 25),
    "SSE2": (1, 3, 26),
    "SSE3": (1, 2, 0),
    "PCLMULQDQ": (1, 2, 1),
    "SSSE3": (1, 2, 9),
    "CMPXCHG16B": (1, 2, 13),
    "SSE4_1": (1, 2, 19),
    "SSE4_2": (1, 2, 20),
    "MOVBE": (1, 2, 22),
    "POPCNT": (1, 2, 23),
    "AES": (1, 2, 25),
    "FSGSBASE": (7, 1, 0),
    "BMI1": (7, 1, 3),
    "BMI2": (7, 1, 8),
    "ADX": (7, 1, 19),
    "CLFLUSHOPT": (7, 1, 23),
    "CLWB": (7, 1, 24),
    "LZCNT": (0x80000001, 2, 5),
    "PREFETCHW": (0x80000001, 2, 8),
    "SYSCALL": (0x80000001, 3, 11),
    "RDTSCP": (0x80000001, 3, 27),
}
# Properties of the processor that bring no instruction of their own.
_PLAIN = {
    "PSE": (1, 3, 3),
    "MSR": (1, 3, 5),
    "PAE": (1, 3, 6),
    "APIC": (1, 3, 9),
    "MTRR": (1, 3, 12),
    "PGE": (1, 3, 13),
    "PAT": (1, 3, 16),
    "ERMS": (7, 1, 9),
    "UMIP": (7, 2, 2),
    "FSRM": (7, 3, 4),
    "LAHF": (0x80000001, 2, 0),
    "NX": (0x80000001, 3, 20),
    "LM": (0x80000001, 3, 29),
    "INVARIANT_TSC": (0x80000007, 3, 8),
}
_SEVERAL = 1 << 28  # HTT of leaf 1: the processor count there is valid
_HIGHEST, _HIGHEST_EXTENDED = 7, 0x80000008

Answer = tuple[int, int, int, int]


def _version() -> int:
    return STEPPING | (MODEL & 15) << 4 | FAMILY << 8 | MODEL >> 4 << 16


def _words(text: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(text[at : at + 4], "little") for at in range(0, len(text), 4))


def _cache(kind: int, level: int, ways: int, sets: int) -> Answer:
    """Leaf 4: `kind` 1 data, 2 instructions, 3 both; 64-byte lines, not shared."""
    return kind | level << 5 | 1 << 8, (ways - 1) << 22 | 63, sets - 1, 0


_CACHES = (_cache(1, 1, 8, 64), _cache(2, 1, 8, 64), _cache(3, 2, 8, 1024), _cache(3, 3, 16, 8192))


def _static() -> dict[int, Answer]:
    low, middle, high = _words(VENDOR)
    brand = _words(BRAND.ljust(48, b"\0"))
    return {
        0: (_HIGHEST, low, high, middle),
        1: (_version(), 8 << 8 | 1 << 16, 0, 0),  # CLFLUSH line in 8-byte units, one logical processor
        0x80000000: (_HIGHEST_EXTENDED, 0, 0, 0),
        0x80000002: (brand[0], brand[1], brand[2], brand[3]),
        0x80000003: (brand[4], brand[5], brand[6], brand[7]),
        0x80000004: (brand[8], brand[9], brand[10], brand[11]),
        0x80000006: (0, 0, 64 | 6 << 12 | 512 << 16, 0),  # L2: 512 KiB, 8 ways, 64-byte lines
        0x80000008: (48 | 48 << 8, 0, 0, 0),  # address bits, physical and linear
    }


def _table() -> dict[int, Answer]:
    table = {leaf: list(answer) for leaf, answer in _static().items()}
    for leaf, register, bit in (*FEATURES.values(), *_PLAIN.values()):
        table.setdefault(leaf, [0, 0, 0, 0])[register] |= 1 << bit
    return {leaf: (a[0], a[1], a[2], a[3]) for leaf, a in table.items()}


_TABLE = _table()


def cpuid(leaf: int, subleaf: int, processors: int = 1) -> Answer:
    """(eax, ebx, ecx, edx); all zero for leaves that do not exist.

    All processors are cores of one package, each with a single thread.
    """
    if leaf == 1 and processors > 1:
        eax, ebx, ecx, edx = _TABLE[1]
        return eax, ebx & ~(0xFF << 16) | min(processors, 0xFF) << 16, ecx, edx | _SEVERAL
    if leaf == 4:
        if subleaf >= len(_CACHES):
            return 0, 0, 0, 0
        eax, ebx, ecx, edx = _CACHES[subleaf]
        return eax | min(processors - 1, 0x3F) << 26, ebx, ecx, edx
    if leaf == 7 and subleaf:
        return 0, 0, 0, 0
    return _TABLE.get(leaf, (0, 0, 0, 0))
