"""Processors by name: what `--cpu` and `nexus.windows(cpu=...)` take.

A named processor shows what that one has, as far as it is implemented here; instructions beyond it still run.
The x86-64 levels are those of the System V ABI (x86-64 psABI, 3.1.1). Families and models: Intel SDM volume
4, table 2-1; AMD's revision guides.
"""

from __future__ import annotations

from nexus.isa.x86.cpuid import EVERYTHING, SKYLAKE, Cpu

_BASELINE = {"FPU", "TSC", "CX8", "CMOV", "CLFSH", "MMX", "FXSR", "SSE", "SSE2", "SYSCALL"}
_V2 = _BASELINE | {"SSE3", "SSSE3", "SSE4_1", "SSE4_2", "CMPXCHG16B", "POPCNT"}
_V3 = _V2 | {"AVX", "AVX2", "BMI1", "BMI2", "F16C", "FMA", "LZCNT", "MOVBE", "XSAVE"}
_V4 = _V3 | {"AVX512F", "AVX512BW", "AVX512CD", "AVX512DQ", "AVX512VL"}
_WESTMERE = _V2 | {"AES", "PCLMULQDQ", "RDTSCP"}
_HASWELL = _WESTMERE | _V3 | {"RDRAND", "FSGSBASE", "XSAVEOPT"}
_SKYLAKE = _HASWELL | {"ADX", "RDSEED", "CLFLUSHOPT", "XSAVEC", "PREFETCHW"}
_SKYLAKE_X = _SKYLAKE | _V4 | {"CLWB"}
_ICELAKE = _SKYLAKE_X | {
    *("AVX512_IFMA", "AVX512_VBMI", "AVX512_VBMI2", "AVX512_VNNI", "AVX512_BITALG", "AVX512_VPOPCNTDQ"),
    *("GFNI", "VAES", "VPCLMULQDQ", "SHA", "RDPID"),
}
_ZEN2 = (_SKYLAKE | {"SHA", "RDPID", "CLWB", "CLZERO", "SSE4A"}) - {"RTM"}
_ZEN3 = _ZEN2 | {"VAES", "VPCLMULQDQ"}
_ZEN4 = _ZEN3 | (_ICELAKE - _SKYLAKE) | {"AVX512_BF16"}

_INTEL, _AMD = b"GenuineIntel", b"AuthenticAMD"
_WESTMERE_VERSION = (_INTEL, 6, 0x2C, 2)
_ANY = (_INTEL, 6, 15, 6)  # a Core 2, for the levels, which are no processor
_NAMED = {
    "baseline": (_ANY, _BASELINE),
    "x86-64-v2": (_WESTMERE_VERSION, _V2),
    "x86-64-v3": ((_INTEL, 6, 0x3C, 3), _V3),
    "x86-64-v4": ((_INTEL, 6, 0x55, 4), _V4),
    "westmere": (_WESTMERE_VERSION, _WESTMERE),
    "haswell": ((_INTEL, 6, 0x3C, 3), _HASWELL),
    "skylake": (SKYLAKE, _SKYLAKE),
    "skylake-x": ((_INTEL, 6, 0x55, 4), _SKYLAKE_X),
    "icelake": ((_INTEL, 6, 0x6A, 6), _ICELAKE),
    "zen2": ((_AMD, 0x17, 0x31, 0), _ZEN2),
    "zen3": ((_AMD, 0x19, 0x21, 0), _ZEN3),
    "zen4": ((_AMD, 0x19, 0x61, 2), _ZEN4),
}
NAMES = ("max", *_NAMED)


def cpu(name: str) -> Cpu:
    """The processor of a name; "max" is everything there is. Raises KeyError."""
    if name == "max":
        return EVERYTHING
    version, features = _NAMED[name]
    return Cpu(*version, features)
