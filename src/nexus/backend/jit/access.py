"""The host instructions of guest accesses, as inline assembly with a note for the signal handler."""

from __future__ import annotations

from nexus.ir.types import V256, V512, Type

MOST = 1 << 31  # displacements are less than that, up and down
ACCESSES = ".nexus.accesses"  # the section of the table

_LOADS = {
    "i8": "movzbl {}, ${{0:k}}",
    "i16": "movzwl {}, ${{0:k}}",
    "i32": "movl {}, ${{0:k}}",
    "i64": "movq {}, $0",
}
_STORES = {
    "i8": "movb ${{0:b}}, {}",
    "i16": "movw ${{0:w}}, {}",
    "i32": "movl ${{0:k}}, {}",
    "i64": "movq $0, {}",
}


def note(operand: int) -> str:
    """The assembler's lines that enter the next instruction into the table, with the label operand."""
    return (
        f".pushsection {ACCESSES},\\22a\\22,@progbits\\0A.long .Laccess${{:uid}}-.\\0A"
        f".long ${{{operand}:l}}-.\\0A.popsection\\0A.Laccess${{:uid}}:\\0A"
    )


def pieces(type: Type) -> list[Type]:
    """What the host moves at once."""
    return [type] if type is not V512 else [V256, V256]


def held(type: Type) -> str:
    """The LLVM type that a value has in a host register; a number is extended by zeros."""
    return f"<{type.bits // 64} x i64>" if type.is_vector else "i64"


def place(displacement: int, base: int, index: int, scale: int) -> str:
    """The operand of an instruction: `base` and `index` are numbers of the assembly's operands, 0 for none.
    The window's host address is in GS."""
    inside = (f"${base}" if base else "") + (f",${index},{scale}" if index else "")
    return f"%gs:{displacement or ''}({inside})" if inside else f"%gs:{displacement}"


def load(type: Type, aligned: bool, place: str) -> str:
    """Load operand 0 from a place."""
    if type.is_vector:
        return f"{'vmovaps' if aligned else 'vmovups'} {place}, $0"
    return _LOADS[type.name].format(place)


def store(type: Type, aligned: bool, place: str) -> str:
    """Store operand 0 to a place."""
    if type.is_vector:
        return f"{'vmovaps' if aligned else 'vmovups'} $0, {place}"
    return _STORES[type.name].format(place)
