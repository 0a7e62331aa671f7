"""GCC's tests: how their directives are read, and, with `--full`, that a share of them passes."""

from __future__ import annotations

import shutil

import pytest

import nexus
from gcc import cases, sources, suite

EVERY = 40  # one test in so many


@pytest.mark.parametrize(
    ("selector", "ours"),
    [
        ("x86_64-*-*", True),
        ("{ ! ia32 }", True),
        ("ia32", False),
        ("{ ia32 || lp64 }", False),
        ("{ i?86-*-* x86_64-*-* } && { ! lp64 }", True),
        ("*-*-linux*", False),
        ("{ { i?86-*-* x86_64-*-* } && { lp64 } }", False),
    ],
)
def test_selectors(selector: str, ours: bool) -> None:
    assert cases.holds(selector) is ours


def test_directives(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "sse2-one.c"
    file.write_text(
        '/* { dg-do run } */\n/* { dg-options "-O2 -msse2" } */\n'
        '/* { dg-additional-options "-mno-avx" { target { ! ia32 } } } */\n'
        '/* { dg-additional-options "-mavx" { target ia32 } } */\n'
        "/* { dg-require-effective-target sse2 } */\n"
    )
    assert cases.read(str(file)) == ["-O2", "-msse2", "-mno-avx"]
    case = cases.Case(str(file), ["-O2", "-msse2", "-mavx512vbmi"], "sse2")
    assert case.required == ["AVX512_VBMI", "SSE2"]
    file.write_text("/* { dg-do compile } */\n")
    assert cases.read(str(file)) is None
    file.write_text("/* { dg-do run { target ia32 } } */\n")
    assert cases.read(str(file)) is None


@pytest.mark.long
@pytest.mark.network
@pytest.mark.sysroot
@pytest.mark.compiler
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["i386", "torture"])
def test_a_share_of_them_passes(kind: str) -> None:
    """Those known to fail are in docs/gcc-tests.md."""
    if shutil.which("apt-get") is None:
        pytest.skip("not run: GCC's tests come through apt, which is not here")
    tests = sources.tests()
    chosen = (cases.i386(tests) if kind == "i386" else cases.torture(tests))[::EVERY]
    machine = nexus.windows(cpu="max")
    found = [suite.run(case, machine)[0] for case in chosen]
    ran = found.count(suite.PASS) + found.count(suite.FAIL)
    assert ran >= len(chosen) // 10
    assert found.count(suite.PASS) >= 0.97 * ran
