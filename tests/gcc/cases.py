"""What GCC's tests ask for: the DejaGnu directives in their comments, for a 64-bit Windows target."""

from __future__ import annotations

import glob
import os
import re
import shlex

_DIRECTIVE = re.compile(r"\{\s*dg-([a-z-]+)\s+((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_TOKEN = re.compile(r"\{|\}|&&|\|\||!|\"[^\"]*\"|[^\s{}!]+")

# What a selector may name and this target is, or is not; anything else in one is taken for no.
_TRUE = {"x86_64-*-*", "i?86-*-*", "*-*-*", "*-*-mingw*", "x86_64-*-mingw*", "int128", "llp64", "c", "nonpic"}
# Requirements of the language and the runtime that mingw does not meet: the test is not for it.
_WITHOUT = {
    *("ia32", "lp64", "x32", "maybe_x32", "fork", "mmap", "signal", "mempcpy", "gas_hidden", "ifunc", "fpic"),
    *("pthread", "sysconf", "vma_equals_lma", "openacc", "tls_emulated", "split_stack", "masm_intel", "cet"),
    *("string_merging", "pie", "shared", "fstack_protector_enabled", "dfprt", "dfp", "ucn", "mfentry"),
}
# options of a test -> features of CPUID that its checks look for
_FEATURES = {
    **{
        f"-m{name.lower()}": name.upper()
        for name in ("sse", "sse2", "sse3", "ssse3", "avx", "avx2", "fma", "aes")
    },
    **{
        f"-m{name}": name.upper()
        for name in ("bmi2", "f16c", "sha", "adx", "popcnt", "movbe", "lzcnt", "sse4a")
    },
    **{
        f"-m{name}": name.upper()
        for name in ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "gfni")
    },
    **{f"-m{name}": name.upper() for name in ("vaes", "vpclmulqdq", "fma4", "xop", "tbm", "rdrnd", "rdseed")},
    **{f"-mavx512{name}": f"AVX512_{name.upper()}" for name in ("ifma", "vbmi", "vbmi2", "vnni", "bitalg")},
    **{f"-mavx512{name}": f"AVX512_{name.upper()}" for name in ("vpopcntdq", "bf16", "fp16", "vp2intersect")},
    **{"-mavxvnni": "AVX_VNNI", "-mavx512er": "AVX512ER", "-mavx512pf": "AVX512PF", "-m3dnow": "D3NOW"},
    **{"-msse4": "SSE4_2", "-msse4.1": "SSE4_1", "-msse4.2": "SSE4_2", "-mbmi": "BMI1", "-mmmx": "MMX"},
    **{"-mpclmul": "PCLMULQDQ", "-mrdrnd": "RDRAND", "-mabm": "LZCNT", "-mpku": "PKU", "-mrtm": "RTM"},
    **{"-mavx5124fmaps": "AVX512_4FMAPS", "-mavx5124vnniw": "AVX512_4VNNIW", "-mwaitpkg": "WAITPKG"},
    **{"-mamx-tile": "AMX_TILE", "-mamx-int8": "AMX_INT8", "-mamx-bf16": "AMX_BF16", "-mcx16": "CMPXCHG16B"},
}
_GROUPS = (
    *(
        "avx512fp16",
        "avx512bf16",
        "avx512vl",
        "avx512bw",
        "avx512dq",
        "avx512f",
        "avx512",
        "avxvnni",
        "avx2",
        "avx",
    ),
    *(
        "sse4_1",
        "sse4_2",
        "sse4a",
        "ssse3",
        "sse3",
        "sse2",
        "sse",
        "mmx",
        "3dnow",
        "fma4",
        "fma",
        "f16c",
        "xop",
    ),
    *("bmi2", "bmi", "tbm", "aes", "sha", "gfni", "vaes", "pclmul", "amx", "adx", "rtm", "memcpy", "memset"),
)


class Case:
    """One test with the options of one run; `required` are features that CPUID must report."""

    def __init__(self, path: str, options: list[str], group: str) -> None:
        self.path = path
        self.options = options
        self.group = group
        self.required = sorted({_FEATURES[option] for option in options if option in _FEATURES})

    @property
    def name(self) -> str:
        """The file, and the level of optimisation of torture tests."""
        return os.path.basename(self.path) + (
            f" {self.options[-1]}" if self.group.startswith("torture") else ""
        )


def holds(text: str) -> bool:
    """Whether a selector (`target { ... }`) takes this target in."""
    tokens = _TOKEN.findall(text)

    def either() -> bool:
        value = both()
        while tokens and tokens[0] not in ("}",):
            if tokens[0] == "||":
                tokens.pop(0)
            value = both() or value  # words side by side: any of them
        return value

    def both() -> bool:
        value = one()
        while tokens and tokens[0] == "&&":
            tokens.pop(0)
            value = one() and value
        return value

    def one() -> bool:
        token = tokens.pop(0) if tokens else ""
        if token == "!":
            return not one()
        if token == "{":
            value = either()
            if tokens:
                tokens.pop(0)
            return value
        return token in _TRUE or (
            token not in _WITHOUT and "*" not in token and token not in ("target", "xfail")
        )

    return either() if tokens else True


def _selected(rest: str) -> bool:
    """Whether a directive with perhaps a `{ target ... }` at its end is meant for us."""
    found = re.search(r"\{\s*target\s+(.*)\}\s*$", rest, re.S)
    return found is None or holds(found.group(1))


def read(path: str) -> list[str] | None:
    """The options of a test that is to be run, None for one that is not for this target."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    options, runs = ["-ansi", "-pedantic-errors"], False
    for word, rest in _DIRECTIVE.findall(text):
        if word == "do":
            kind, _, selector = rest.strip().partition(" ")
            runs = kind == "run" and (not selector.strip() or _selected(selector))
        elif word in ("options", "additional-options"):
            given = re.search(r'"([^"]*)"', rest)
            if given and _selected(rest):
                options = (options if word.startswith("add") else []) + shlex.split(given.group(1))
        elif word == "require-effective-target":
            name = rest.split()[0] if rest.split() else ""
            if name in _WITHOUT:
                return None
        elif word == "require-ifunc":
            return None
        elif word == "additional-sources":
            options += [os.path.join(os.path.dirname(path), name) for name in rest.strip(' "').split()]
        elif word == "skip-if":
            selector = re.findall(r"\{([^{}]*)\}", rest)
            if selector and selector[0].strip() and holds(selector[0]) and '"*"' in rest:
                return None
    return options if runs else None


def group_of(path: str) -> str:
    name = os.path.basename(path)
    return next((group for group in _GROUPS if name.startswith(group)), "other")


def i386(tests: str) -> list[Case]:
    """The run tests of gcc.target/i386, with the options of each."""
    out = []
    for path in sorted(glob.glob(os.path.join(tests, "gcc.target", "i386", "*.c"))):
        options = read(path)
        if options is not None:
            out.append(Case(path, options, group_of(path)))
    return out


def torture(tests: str, levels: tuple[str, ...] = ("-O0", "-O2")) -> list[Case]:
    """The tests of gcc.c-torture/execute at two levels of optimisation."""
    out = []
    folder = os.path.join(tests, "gcc.c-torture", "execute")
    for kind, pattern in (("torture", "*.c"), ("torture ieee", os.path.join("ieee", "*.c"))):
        for path in sorted(glob.glob(os.path.join(folder, pattern))):
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            extra: list[str] = []
            wanted = True
            for word, rest in _DIRECTIVE.findall(text):
                given = re.search(r'"([^"]*)"', rest)
                if word in ("options", "additional-options") and given and _selected(rest):
                    extra += shlex.split(given.group(1))
                elif word == "require-effective-target":
                    wanted = wanted and (not rest.split() or rest.split()[0] not in _WITHOUT)
                elif word == "skip-if":
                    selector = re.findall(r"\{([^{}]*)\}", rest)
                    wanted = wanted and not (selector and selector[0].strip() and holds(selector[0]))
            if kind == "torture ieee":
                extra.append("-fno-fast-math")
            for level in levels:
                if wanted:
                    out.append(Case(path, ["-w", *extra, level], f"{kind} {level}"))
    return out
