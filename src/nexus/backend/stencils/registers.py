"""Stencils as instructions: decodes one, puts in other registers, encodes it again.

Only whole registers are exchanged, so the code does the same with the new ones as it did with the old, as
long as no two become one that must not (`build.py` sees to that) and no instruction has its register by
definition (`implicit`).
"""

from __future__ import annotations

import struct

from iced_x86 import (
    Code,
    Decoder,
    Encoder,
    Instruction,
    InstructionInfoFactory,
    OpKind,
    Register,
    RegisterExt,
)

from nexus.backend.stencils import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from iced_x86._iced_x86_py import Register as Number

    from nexus.backend.stencils.store import Hole, Stencil

# in the holes meanwhile, so that they stay as wide as they are
MARK = {1: 0x12, 4: 0x12345678, 8: 0x123456789ABCDEF0}
_FORMAT = {1: "<B", 4: "<I", 8: "<Q"}
_HIGH = (Register.AH, Register.BH, Register.CH, Register.DH)
_NEAR = (OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64)

NUMBER: dict[str, Number] = {name: value for name, value in vars(Register).items() if name.isupper()}


def full(register: Number) -> Number:
    """The whole general register that one is a part of; of a vector register, the XMM one."""
    if RegisterExt.is_gpr(register):
        return RegisterExt.full_register(register)
    if RegisterExt.is_vector_register(register):
        return NUMBER[f"XMM{RegisterExt.number(register)}"]
    return register


def _parts() -> dict[tuple[Number, int], Number]:
    """(whole register, size) -> register, of the general ones."""
    every: Iterable[Number] = (r for r in NUMBER.values() if RegisterExt.is_gpr(r) and r not in _HIGH)
    return {(RegisterExt.full_register(r), RegisterExt.size(r)): r for r in every}


_PARTS = _parts()
factory = InstructionInfoFactory()


def is_exchangeable(register: Number) -> bool:
    return RegisterExt.is_gpr(register) or RegisterExt.is_xmm(register)


def explicit(instruction: Instruction) -> set[Number]:
    """The registers that its encoding names."""
    found = {
        full(instruction.op_register(index))
        for index in range(instruction.op_count)
        if instruction.op_kind(index) == OpKind.REGISTER
    }
    return found | {full(instruction.memory_base), full(instruction.memory_index)}


def implicit(instruction: Instruction) -> set[Number]:
    """The registers that it uses without naming them in a way that could be changed."""
    if instruction.code == Code.VEX_VZEROUPPER:
        return set()  # those are not what we have in them
    found: set[Number] = set()
    moved = instruction.copy()  # its operands elsewhere: `blendvps xmm0, xmm1` needs the xmm0 it names twice
    for index in range(instruction.op_count):
        if instruction.op_kind(index) == OpKind.REGISTER:
            register = instruction.op_register(index)
            if not _can_change(instruction, index):  # named in the text but not in the encoding
                found.add(full(register))
            elif is_exchangeable(full(register)):
                moved.set_op_register(index, _elsewhere(register))
    moved.memory_base, moved.memory_index = (
        _elsewhere(r) if is_exchangeable(full(r)) else r for r in (moved.memory_base, moved.memory_index)
    )
    used = {full(u.register) for u in factory.info(moved).used_registers()}
    return {register for register in found | used - explicit(moved) if is_exchangeable(register)}


def _elsewhere(register: Number) -> Number:
    """A register of the same size that no instruction has by definition."""
    return _part(register, Register.XMM9 if RegisterExt.is_vector_register(register) else Register.R9)


def _can_change(instruction: Instruction, index: int) -> bool:
    """Is the register operand a field of the encoding? `shl eax, cl` has cl, `blendvps` xmm0 by
    definition."""
    register = instruction.op_register(index)
    if not is_exchangeable(full(register)):
        return True
    changed = instruction.copy()
    changed.set_op_register(index, _elsewhere(register))
    try:
        Encoder(64).encode(changed, instruction.ip)
    except ValueError:
        return False
    return True


class Step:
    """One instruction of a stencil: `holes` as (size, what, more) in the order they lie in it; `goes_to` is
    where it jumps within the stencil."""

    __slots__ = ("goes_to", "holes", "instruction")

    def __init__(self, instruction: Instruction, holes: list[tuple[int, str, int]]) -> None:
        self.instruction = instruction
        self.holes = holes
        self.goes_to: Step | None = None


def decoded(stencil: Stencil) -> list[Step]:
    """The instructions, with marks in the holes. A step at the end stands for what follows."""
    code, holes = stencil
    marked = bytearray(code)
    for at, size, what, _ in holes:
        if what not in (*RELATIVE, *WITH_RIP):
            struct.pack_into(_FORMAT[size], marked, at, MARK[size])
    steps: list[Step] = []
    at_offset: dict[int, Step] = {}
    for instruction in Decoder(64, bytes(marked)):
        begin, end = instruction.ip, instruction.next_ip
        step = Step(instruction, [(size, what, more) for at, size, what, more in holes if begin <= at < end])
        steps.append(step)
        at_offset[begin] = step
    for step in steps:
        if step.instruction.op_count and step.instruction.op0_kind in _NEAR and not step.holes:
            step.goes_to = at_offset[step.instruction.near_branch_target]
    return steps


def encoded(steps: list[Step]) -> Stencil:
    """The stencil of these instructions; raises ValueError where one cannot be encoded."""
    out = bytearray()
    starts: dict[int, int] = {}
    jumps: list[tuple[int, int, Step]] = []  # offset of a displacement, its size, where to
    holes: list[Hole] = []
    for step in steps:
        starts[id(step)] = len(out)
        instruction = step.instruction
        encoder = Encoder(64)
        if _is_near(instruction) and step.goes_to is None:
            instruction = instruction.copy()
            instruction.near_branch64 = _FAR  # far enough away for the long form
        encoder.encode(instruction, instruction.ip)
        code: bytes = encoder.take_buffer()
        if step.goes_to is not None:
            size = 4 if len(code) > 2 else 1
            jumps.append((len(out) + len(code) - size, size, step.goes_to))
        searched = 0
        for size, what, more in step.holes:
            if what in WITH_RIP:
                where = encoder.get_constant_offsets().displacement_offset
            elif what in RELATIVE or size == 1:
                where = len(code) - size
            else:
                where = code.index(struct.pack(_FORMAT[size], MARK[size]), searched)
            searched = where + size
            holes.append((len(out) + where, size, what, more))
        out += code
    for at, size, target in jumps:
        distance = starts[id(target)] - at - size
        if size == 1 and not -128 <= distance < 128:
            raise ValueError("a jump inside the stencil becomes too long")
        out[at : at + size] = distance.to_bytes(size, "little", signed=True)
    return bytes(out), tuple(holes)


def _is_near(instruction: Instruction) -> bool:
    return bool(instruction.op_count) and instruction.op0_kind in _NEAR


def substitute(stencil: Stencil, mapping: dict[str, str]) -> Stencil:
    """The stencil with register `mapping[name]` instead of `name`, all exchanged at once; raises ValueError
    where that cannot be encoded."""
    wanted = {NUMBER[old]: NUMBER[new] for old, new in mapping.items()}
    steps = decoded(stencil)
    for step in steps:
        changed = step.instruction.copy()
        for index in range(changed.op_count):
            if changed.op_kind(index) == OpKind.REGISTER:
                register = changed.op_register(index)
                new = _replaced(register, wanted)
                if new != register:
                    changed.set_op_register(index, new)
        changed.memory_base = _replaced(changed.memory_base, wanted)
        changed.memory_index = _replaced(changed.memory_index, wanted)
        step.instruction = changed
    return encoded(steps)


POOL = "pool"
WITH_RIP = (POOL, "h_exit", "h_copy")  # displacements of operands
RELATIVE = ("next", "taken", "leave", "outside", "settle")
_FAR = 1 << 30


def _part(register: Number, whole: Number) -> Number:
    """The part of `whole` that corresponds to `register`."""
    if RegisterExt.is_gpr(register):
        return _PARTS[whole, RegisterExt.size(register)]
    kind = "XMM" if RegisterExt.is_xmm(register) else "YMM" if RegisterExt.is_ymm(register) else "ZMM"
    return NUMBER[f"{kind}{RegisterExt.number(whole)}"]


def _replaced(register: Number, wanted: dict[Number, Number]) -> Number:
    whole = full(register)
    if whole not in wanted or wanted[whole] == whole:
        return register
    if register in _HIGH:
        raise ValueError("the high byte of a register has no equivalent")
    return _part(register, wanted[whole])


def placed(stencil: Stencil, operands: dict[str, str], borrow: bool = False) -> Stencil:
    """A stencil as it was compiled, with its operands in other registers and everything else it uses moved to
    the scratch registers, and with `borrow` to more of them; raises ValueError where that is not possible."""
    used: list[Number] = []
    fixed: set[Number] = set()
    for instruction in Decoder(64, stencil[0]):
        fixed |= implicit(instruction)
        used += sorted(explicit(instruction) | implicit(instruction))
    mapping = {NUMBER[old]: NUMBER[new] for old, new in operands.items()}
    for names, more in (
        (layout.SCRATCH, layout.BORROWED),
        (layout.VECTOR_SCRATCH, layout.VECTORS_BORROWED),
    ):
        room = [NUMBER[name] for name in (*names, *more) if borrow or name in names]
        same_kind = RegisterExt.is_xmm(room[0])
        wanted = dict.fromkeys(
            r
            for r in used
            if is_exchangeable(r)
            and RegisterExt.is_xmm(r) == same_kind
            and r not in mapping
            and r not in _KEPT
        )
        for register in sorted(wanted, key=lambda r: (r not in fixed, r not in room)):
            if register in room:
                mapping[register] = register
            elif register in fixed or not room:
                raise ValueError("it needs more registers than are free")
            else:
                mapping[register] = room[0]
            room.remove(mapping[register])
    if any(register in fixed and new != register for register, new in mapping.items()):
        raise ValueError("an operand is in a register that an instruction has by definition")
    return substitute(stencil, {_NAME[old]: _NAME[new] for old, new in mapping.items()})


def uses(stencil: Stencil, names: tuple[str, ...]) -> list[str]:
    """Which of the registers a stencil names."""
    found: set[Number] = set()
    for instruction in Decoder(64, stencil[0]):
        found |= explicit(instruction)
    return [name for name in names if NUMBER[name] in found]


_KEPT = {NUMBER["R12"], NUMBER["RSP"]}
_NAME = {value: name for name, value in NUMBER.items()}
