"""The host instructions of guest accesses, as inline assembly with a note for the signal handler."""

from __future__ import annotations

from nexus.ir.types import I32, I64, TYPES, V256, V512, Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.ir.values import Value

    # the LLVM type of the operand, its constraint, the assembly with {} for the place
    Form = tuple[str, str, str]

MOST = 1 << 31  # displacements are less than that, up and down
ACCESSES = ".nexus.accesses"  # the section of the table

_LOADS = {
    "i8": "movzbl {}, ${0:k}",
    "i16": "movzwl {}, ${0:k}",
    "i32": "movl {}, ${0:k}",
    "i64": "movq {}, $0",
}
_STORES = {
    "i8": "movb ${0:b}, {}",
    "i16": "movw ${0:w}, {}",
    "i32": "movl ${0:k}, {}",
    "i64": "movq $0, {}",
}
LANES = {I32: ("float", "vmovss"), I64: ("double", "vmovsd")}  # how vector registers hold numbers
_SPLATS = {
    "v.splat.i32.v128": "vbroadcastss",
    "v.splat.i32.v256": "vbroadcastss",
    "v.splat.i64.v256": "vbroadcastsd",
}
_FROM_NUMBERS = ("v.from.", "v.splat.", "v.insert.", "v.pair.")


def is_lane(op: Value, users: list[Value]) -> bool:
    """Whether a load or store is better done with a vector register: because of what its value is made of, or
    what is made of it."""
    if op.type is not None:
        return op.type in LANES and bool(users) and all(u.row.name.startswith(_FROM_NUMBERS) for u in users)
    value = op.args[-1]
    return value.type in LANES and any(arg.type is not None and arg.type.is_vector for arg in value.args)


def splat(op: Value, users: list[Value]) -> tuple[Type, Form] | None:
    """The vector that a load's value is only spread over, and the instruction that does both at once."""
    name = users[0].row.name if users else ""
    if name not in _SPLATS or any(user.row.name != name for user in users):
        return None
    vector = TYPES[name.rpartition(".")[2]]
    return vector, (held(vector), "x", f"{_SPLATS[name]} {{}}, $0")


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


def loads(type: Type, aligned: bool, lane: bool) -> list[Form]:
    """The instructions that load operand 0, piece by piece; a `lane` is a number in a vector register."""
    if lane:
        return [(LANES[type][0], "x", f"{LANES[type][1]} {{}}, $0")]
    if type.is_vector:
        move = "vmovaps" if aligned else "vmovups"
        return [(held(piece), "x", f"{move} {{}}, $0") for piece in pieces(type)]
    return [("i64", "r", _LOADS[type.name])]


def stores(type: Type, aligned: bool, lane: bool) -> list[Form]:
    """The instructions that store operand 0."""
    if lane:
        return [(LANES[type][0], "x", f"{LANES[type][1]} $0, {{}}")]
    if type.is_vector:
        move = "vmovaps" if aligned else "vmovups"
        return [(held(piece), "x", f"{move} $0, {{}}") for piece in pieces(type)]
    return [(type.llvm, "r", _STORES[type.name])]
