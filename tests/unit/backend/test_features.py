"""What the host must have for the engine's code."""

from __future__ import annotations

import llvmlite.binding as llvm
import pytest

from nexus.backend.llvm import compile
from nexus.base.errors import NexusError


def test_a_host_without_aes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {name: True for name in ("ssse3", "sse4.1", "sse4.2", "pclmul", "cx16")}
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: have)
    with pytest.raises(NexusError, match="lacks aes,"):
        compile.features()


def test_avx_is_never_used() -> None:
    assert compile.features().endswith(",-avx") and "+avx" not in compile.features()
