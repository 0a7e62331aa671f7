"""Builds the interpreter's blob: `python -m nexus.backend.interp.build FILE`, in a process of its own."""

from __future__ import annotations

import os
import sys

from iced_x86 import (
    Decoder,
    Formatter,
    FormatterSyntax,
    InstructionInfoFactory,
    Mnemonic,
    OpAccess,
    Register,
    RegisterExt,
)

from nexus.backend import blob, cache
from nexus.backend.interp import handlers, runtime
from nexus.backend.interp.layout import CONTROLS
from nexus.backend.interp.records import variants
from nexus.backend.link import Image, link
from nexus.backend.llvm.compile import compile_object
from nexus.base.errors import NexusError
from nexus.ir.ops import LOAD, ROWS, STORE

_WRITES = (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE)


def violations(code: bytes) -> list[str]:
    """The instructions of a handler that change r12, where the fault handler must find the state.

    Saving and restoring it around a call is no change; the tail call leaves it as it is."""
    factory = InstructionInfoFactory()
    formatter = Formatter(FormatterSyntax.NASM)
    found = []
    for instruction in Decoder(64, code):
        if instruction.mnemonic == Mnemonic.INVALID:
            found.append(f"{instruction.ip:#x}: not an instruction")
            continue
        if instruction.mnemonic == Mnemonic.POP and instruction.op0_register == Register.R12:
            continue
        for used in factory.info(instruction).used_registers():
            if used.access in _WRITES and RegisterExt.full_register(used.register) == Register.R12:
                found.append(f"{instruction.ip:#x}: {formatter.format(instruction)}")
    return found


def check(image: Image) -> None:
    """Refuse an image in which a handler that accesses guest memory changes r12."""
    for row in ROWS.values():
        for variant in variants(row) if row.effect in (LOAD, STORE) else ():
            start = image.symbols[variant.name]
            bad = violations(image.code[start : start + image.sizes[variant.name]])
            if bad:
                raise NexusError(f"the handler of {variant.name} changes r12: {'; '.join(bad)}")


def build() -> Image:
    """Compile, link and check the interpreter for the rows there are."""
    image = link(compile_object(runtime.around(handlers.module(ROWS.values()))))
    check(image)
    return image


def record_sizes() -> dict[str, int]:
    """The length of the record of each handler."""
    return {**CONTROLS, **{v.name: v.size for row in ROWS.values() for v in variants(row)}}


if __name__ == "__main__":
    try:
        cache.write(sys.argv[1], blob.pack(os.path.basename(sys.argv[1]), build(), record_sizes()))
    except NexusError as error:
        sys.exit(f"{error} ({error.hint})" if error.hint else str(error))
