"""The host instructions of guest accesses, as inline assembly with a note for the signal handler."""

from __future__ import annotations

from nexus.ir.types import I32, I64, V256, V512, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.values import Value

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
LANES = {I32: ("float", "vmovss"), I64: ("double", "vmovsd")}  # how vector registers hold numbers
_FROM_NUMBERS = ("v.from.", "v.splat.", "v.insert.", "v.pair.")


def is_lane(op: Value, users: list[Value]) -> bool:
    """Whether a load or store is better done with a vector register: because of what its value is made of, or
    what is made of it."""
    if op.type is not None:
        return op.type in LANES and bool(users) and all(u.row.name.startswith(_FROM_NUMBERS) for u in users)
    value = op.args[-1]
    return value.type in LANES and any(arg.type is not None and arg.type.is_vector for arg in value.args)


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


def load(type: Type, aligned: bool, place: str, lane: bool = False) -> str:
    """Load operand 0 from a place; a `lane` is a number in a vector register."""
    if lane:
        return f"{LANES[type][1]} {place}, $0"
    if type.is_vector:
        return f"{'vmovaps' if aligned else 'vmovups'} {place}, $0"
    return _LOADS[type.name].format(place)


def store(type: Type, aligned: bool, place: str, lane: bool = False) -> str:
    """Store operand 0 to a place."""
    if lane:
        return f"{LANES[type][1]} $0, {place}"
    if type.is_vector:
        return f"{'vmovaps' if aligned else 'vmovups'} $0, {place}"
    return _STORES[type.name].format(place)
