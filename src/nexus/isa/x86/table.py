"""The registry of semantics: iced mnemonic -> the function that builds its IR."""

from __future__ import annotations

from collections.abc import Callable

from iced_x86 import Mnemonic

from nexus.isa.x86.ins import Ins

Semantics = Callable[[Ins], None]
SEMANTICS: dict[int, Semantics] = {}


def register(name: str, function: Semantics) -> None:
    """Add one mnemonic, spelled as in `iced_x86.Mnemonic`; it can be given once."""
    mnemonic: int = getattr(Mnemonic, name)
    if mnemonic in SEMANTICS:
        raise ValueError(f"{name} has semantics already: {SEMANTICS[mnemonic].__qualname__}")
    SEMANTICS[mnemonic] = function


def register_vectors(name: str, function: Semantics) -> None:
    """Add an SSE mnemonic and that of its AVX form, where there is one."""
    register(name, function)
    if hasattr(Mnemonic, "V" + name):
        register("V" + name, function)


def semantics(*names: str) -> Callable[[Semantics], Semantics]:
    """Decorator: the function builds the IR of these mnemonics."""

    def add(function: Semantics) -> Semantics:
        for name in names:
            register(name, function)
        return function

    return add


def vector_semantics(*names: str) -> Callable[[Semantics], Semantics]:
    """Decorator: as `semantics`, for the AVX forms of the mnemonics too."""

    def add(function: Semantics) -> Semantics:
        for name in names:
            register_vectors(name, function)
        return function

    return add
