"""What CPUID answers: a processor with what the front-end implements, and nothing else.

`FEATURES` is the one list of optional instruction groups; a test asks iced for the instructions of each and
looks for their semantics. Layout: Intel SDM volume 2, CPUID; AMD64 APM volume 3, appendix E. Subleaf 1 of a
leaf is written `leaf | SUBLEAF_1`.

A `Cpu` is what one guest sees: everything, or what a named processor has of it (`cpus.py`).
"""

from __future__ import annotations

BRAND = b"Bellum Nexus x86-64 processor"
SUBLEAF_1 = 1 << 32
_XSAVE = 0xD | SUBLEAF_1

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
    "XSAVE": (1, 2, 26),
    "FMA": (1, 2, 12),
    "AVX": (1, 2, 28),
    "F16C": (1, 2, 29),
    "RDRAND": (1, 2, 30),
    "FSGSBASE": (7, 1, 0),
    "BMI1": (7, 1, 3),
    "AVX2": (7, 1, 5),
    "BMI2": (7, 1, 8),
    "ADX": (7, 1, 19),
    "CLFLUSHOPT": (7, 1, 23),
    "CLWB": (7, 1, 24),
    "SHA": (7, 1, 29),
    "RDSEED": (7, 1, 18),
    "AVX512F": (7, 1, 16),
    "AVX512DQ": (7, 1, 17),
    "AVX512_IFMA": (7, 1, 21),
    "AVX512CD": (7, 1, 28),
    "AVX512BW": (7, 1, 30),
    "AVX512VL": (7, 1, 31),
    "AVX512_VBMI": (7, 2, 1),
    "AVX512_VBMI2": (7, 2, 6),
    "AVX512_VNNI": (7, 2, 11),
    "AVX512_BITALG": (7, 2, 12),
    "AVX512_VPOPCNTDQ": (7, 2, 14),
    "AVX512_VP2INTERSECT": (7, 3, 8),
    "AVX512_FP16": (7, 3, 23),
    "AVX512_BF16": (7 | SUBLEAF_1, 0, 5),
    "GFNI": (7, 2, 8),
    "VAES": (7, 2, 9),
    "VPCLMULQDQ": (7, 2, 10),
    "RDPID": (7, 2, 22),
    "CLDEMOTE": (7, 2, 25),
    "MOVDIRI": (7, 2, 27),
    "MOVDIR64B": (7, 2, 28),
    "SERIALIZE": (7, 3, 14),
    "XSAVEOPT": (_XSAVE, 0, 0),
    "XSAVEC": (_XSAVE, 0, 1),
    "LZCNT": (0x80000001, 2, 5),
    "PREFETCHW": (0x80000001, 2, 8),
    "SYSCALL": (0x80000001, 3, 11),
    "RDTSCP": (0x80000001, 3, 27),
    "SSE4A": (0x80000001, 2, 6),
    "CLZERO": (0x80000008, 1, 0),
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
    "OSXSAVE": (1, 2, 27),
    "XGETBV_ECX1": (_XSAVE, 0, 2),
    "INVARIANT_TSC": (0x80000007, 3, 8),
}
_SEVERAL = 1 << 28  # HTT of leaf 1: the processor count there is valid
_HIGHEST, _HIGHEST_EXTENDED = 0xD, 0x80000008

Answer = tuple[int, int, int, int]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def _words(text: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(text[at : at + 4], "little") for at in range(0, len(text), 4))


def _cache(kind: int, level: int, ways: int, sets: int) -> Answer:
    """Leaf 4: `kind` 1 data, 2 instructions, 3 both; 64-byte lines, not shared."""
    return kind | level << 5 | 1 << 8, (ways - 1) << 22 | 63, sets - 1, 0


_CACHES = (_cache(1, 1, 8, 64), _cache(2, 1, 8, 64), _cache(3, 2, 8, 1024), _cache(3, 3, 16, 8192))


# state components of XSAVE: number -> (offset in the standard form, size, feature that brings it)
COMPONENTS = {
    2: (576, 256, "AVX"),
    5: (1088, 64, "AVX512F"),
    6: (1152, 512, "AVX512F"),
    7: (1664, 1024, "AVX512F"),
}
LEGACY_BYTES = 576  # the FXSAVE image and the header


class Cpu:
    """A processor as CPUID shows it; `features` are names of FEATURES, others are not there."""

    __slots__ = ("_table", "features", "xcr0")

    def __init__(
        self, vendor: bytes, family: int, model: int, stepping: int, features: Iterable[str] = FEATURES
    ) -> None:
        self.features = frozenset(features) & FEATURES.keys()
        self.xcr0 = 3  # x87 and SSE
        for number, (_, _, feature) in COMPONENTS.items():
            self.xcr0 |= (feature in self.features) << number
        table = {
            leaf: list(answer) for leaf, answer in _static(vendor, _version(family, model, stepping)).items()
        }
        bits = [place for name, place in FEATURES.items() if name in self.features]
        for name, place in _PLAIN.items():
            if "XSAVE" in self.features or name not in _WITH_XSAVE:
                bits.append(place)
        for leaf, register, bit in bits:
            table.setdefault(leaf, [0, 0, 0, 0])[register] |= 1 << bit
        if 7 | SUBLEAF_1 in table:
            table[7][0] = 1  # the last subleaf
        if "XSAVE" in self.features:
            self._add_xsave(table)
        self._table = {leaf: (a[0], a[1], a[2], a[3]) for leaf, a in table.items()}

    def _add_xsave(self, table: dict[int, list[int]]) -> None:
        """Leaf 0xD: the sizes and places of the components."""
        there = {n: row for n, row in COMPONENTS.items() if self.xcr0 >> n & 1}
        size = max((offset + length for offset, length, _ in there.values()), default=LEGACY_BYTES)
        table[0xD] = [self.xcr0, size, size, 0]
        table.setdefault(_XSAVE, [0, 0, 0, 0])[1] = LEGACY_BYTES + sum(
            length for _, length, _ in there.values()
        )
        for number, (offset, length, _) in there.items():
            table[0xD | number << 32] = [length, offset, 0, 0]

    def cpuid(self, leaf: int, subleaf: int, processors: int = 1) -> Answer:
        """(eax, ebx, ecx, edx); all zero for leaves that do not exist.

        All processors are cores of one package, each with a single thread.
        """
        if leaf == 1 and processors > 1:
            eax, ebx, ecx, edx = self._table[1]
            return eax, ebx & ~(0xFF << 16) | min(processors, 0xFF) << 16, ecx, edx | _SEVERAL
        if leaf == 4:
            if subleaf >= len(_CACHES):
                return 0, 0, 0, 0
            eax, ebx, ecx, edx = _CACHES[subleaf]
            return eax | min(processors - 1, 0x3F) << 26, ebx, ecx, edx
        return self._table.get(leaf | subleaf << 32 if leaf in _WITH_SUBLEAVES else leaf, (0, 0, 0, 0))


_WITH_XSAVE = ("OSXSAVE", "XGETBV_ECX1")
_WITH_SUBLEAVES = (7, 0xD)


def _version(family: int, model: int, stepping: int) -> int:
    extended = max(family - 15, 0)
    return stepping | (model & 15) << 4 | min(family, 15) << 8 | model >> 4 << 16 | extended << 20


def _static(vendor: bytes, version: int) -> dict[int, Answer]:
    low, middle, high = _words(vendor)
    brand = _words(BRAND.ljust(48, b"\0"))
    return {
        0: (_HIGHEST, low, high, middle),
        1: (version, 8 << 8 | 1 << 16, 0, 0),  # CLFLUSH line in 8-byte units, one logical processor
        0x80000000: (_HIGHEST_EXTENDED, 0, 0, 0),
        0x80000002: (brand[0], brand[1], brand[2], brand[3]),
        0x80000003: (brand[4], brand[5], brand[6], brand[7]),
        0x80000004: (brand[8], brand[9], brand[10], brand[11]),
        0x80000006: (0, 0, 64 | 6 << 12 | 512 << 16, 0),  # L2: 512 KiB, 8 ways, 64-byte lines
        0x80000008: (48 | 48 << 8, 0, 0, 0),  # address bits, physical and linear
    }


SKYLAKE = (b"GenuineIntel", 6, 0x5E, 3)
"""The last Intel generation with AVX2 and without AVX-512: programs take the paths that are made for it."""
WITHOUT_AVX512 = frozenset(name for name in FEATURES if not name.startswith("AVX512"))
DEFAULT = Cpu(*SKYLAKE, WITHOUT_AVX512)
"""Without AVX-512, though it is there: the host does its 512 bits in two steps, so that programs that take
such a path are slower than with AVX2."""
SAPPHIRE_RAPIDS = (b"GenuineIntel", 6, 0x8F, 8)
EVERYTHING = Cpu(*SAPPHIRE_RAPIDS)
