"""What LLVM leaves to be done to a stencil, because it cannot know what a hole is. Only to build them.

mov rax, hole; add ecx, eax          add ecx, hole           LLVM takes a symbol for wider than an i32
mov rax, hole; shlx ecx, ecx, eax    shl ecx, hole           or than a count
mov rax, hole; and eax, 31;
movd xmm0, eax; pslld xmm1, xmm0     pslld xmm1, hole        a mask on top of that: `Stencil.below`
vmovaps ymm0, ymm1; vfmadd132ps ymm0, ymm3, ymm2; vmovaps ymm3, ymm0
                                     vfmadd231ps ymm3, ymm1, ymm2    inline assembly has one form only
jcc a; ...; a: jmp taken             jcc taken; ...
jcc next; jmp taken                  jncc taken              what follows a stencil is `next`
jmp next, at the end                 nothing
"""

from __future__ import annotations

from iced_x86 import Code, Instruction, InstructionInfoFactory, OpKind, Register

from nexus.backend.stencils.registers import MARK, Step, decoded, encoded, full

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iced_x86._iced_x86_py import Register as Number

    from nexus.backend.stencils.store import Stencil

_NAMES = (
    "JO",
    "JNO",
    "JB",
    "JAE",
    "JE",
    "JNE",
    "JBE",
    "JA",
    "JS",
    "JNS",
    "JP",
    "JNP",
    "JL",
    "JGE",
    "JLE",
    "JG",
)
# conditional jumps in the short and the long form -> in the long form
_LONG = {
    getattr(Code, f"{name}_REL{size}_64"): getattr(Code, f"{name}_REL32_64")
    for name in _NAMES
    for size in (8, 32)
}
_ARITHMETIC = ("ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP")
# op r/m, r or r, r/m -> op r/m, imm; bytes of that
_IMMEDIATE = {
    getattr(Code, f"{name}_{form}"): (
        getattr(Code, f"{name}_RM{width}_IMM{min(width, 32)}"),
        min(width // 8, 4),
    )
    for name in (*_ARITHMETIC, "MOV")
    for width in (8, 32, 64)
    for form in (f"RM{width}_R{width}", f"R{width}_RM{width}")
}
_IMMEDIATE |= {
    getattr(Code, f"TEST_RM{width}_R{width}"): (getattr(Code, f"TEST_RM{width}_IMM{size * 8}"), size)
    for width, size in ((8, 1), (32, 4), (64, 4))
}
_WIDE = tuple(getattr(Code, f"{name}_RM64_IMM32") for name in (*_ARITHMETIC, "MOV", "TEST"))
# shifts by a register -> by a number
_COUNTED = {
    getattr(Code, f"{name}_RM{width}_CL"): getattr(Code, f"{name}_RM{width}_IMM8")
    for name in ("ROL", "ROR", "SHL", "SHR", "SAR")
    for width in (32, 64)
} | {
    getattr(Code, f"VEX_{name}X_R{width}_RM{width}_R{width}"): getattr(Code, f"{name}_RM{width}_IMM8")
    for name in ("SHL", "SHR", "SAR")
    for width in (32, 64)
}
# shifts of all lanes by the low half of a register -> by a number
_LANES_COUNTED = {
    getattr(Code, f"{name}_{form}_XMMM128"): getattr(Code, f"{name}_{form}_IMM8")
    for shift in ("SLLW", "SLLD", "SLLQ", "SRLW", "SRLD", "SRLQ", "SRAW", "SRAD")
    for name, form in ((f"P{shift}", "XMM"), (f"VEX_VP{shift}", "XMM_XMM"), (f"VEX_VP{shift}", "YMM_YMM"))
}
_TO_LANES = (Code.MOVD_XMM_RM32, Code.VEX_VMOVD_XMM_RM32, Code.MOVQ_XMM_RM64, Code.VEX_VMOVQ_XMM_RM64)
_COPIES = tuple(
    getattr(Code, f"{prefix}MOVAPS_{form}_{form}M{bits}")
    for prefix, form, bits in (("VEX_V", "XMM", 128), ("VEX_V", "YMM", 256))
)
# a * b + c of all lanes with the result where a was -> where c was
_FUSED = {
    getattr(Code, name.replace("231", "132")): code
    for name, code in vars(Code).items()
    if name.startswith("VEX_VF") and "231P" in name
}
_ENDS = (Code.JMP_REL32_64, Code.JMP_REL8_64, Code.JMP_RM64)
_factory = InstructionInfoFactory()


def tidy(stencil: Stencil) -> Stencil:
    """The same in fewer instructions; what follows in memory is `next`."""
    steps = decoded(stencil)
    _thread(steps)
    _fold_immediate(steps)
    _fold_lane_count(steps)
    _fuse(steps)
    if len(steps) > 1 and steps[-2].instruction.code in _LONG and _symbol(steps[-2]) == "next":
        last = _symbol(steps[-1])
        if last and not any(step.goes_to is steps[-1] for step in steps):
            steps.pop()
            _retarget(steps[-1], last, negate=True)
    if steps and _always(steps[-1]) == "next" and not any(step.goes_to is steps[-1] for step in steps):
        steps.pop()
    return encoded(steps)


def _symbol(step: Step) -> str:
    """The symbol that a jump leads to, or nothing."""
    return step.holes[0][1] if step.holes and step.instruction.op0_kind == OpKind.NEAR_BRANCH64 else ""


def _always(step: Step) -> str:
    """The symbol that it always jumps to, or nothing."""
    return _symbol(step) if step.instruction.code == Code.JMP_REL32_64 else ""


def _retarget(step: Step, symbol: str, negate: bool = False) -> None:
    instruction = step.instruction.copy()
    if negate:
        instruction.negate_condition_code()
    step.instruction = Instruction.create_branch(_LONG[instruction.code], 0)
    step.holes = [(4, symbol, 0)]
    step.goes_to = None


def _thread(steps: list[Step]) -> None:
    """Conditional jumps to jumps; then drop what nobody reaches."""
    for step in steps:
        if step.instruction.code in _LONG and step.goes_to is not None and _always(step.goes_to):
            _retarget(step, _always(step.goes_to))
    index = 1
    while index < len(steps):
        falls = steps[index - 1].instruction.code not in _ENDS
        if falls or any(step.goes_to is steps[index] for step in steps):
            index += 1
        else:
            del steps[index]


def _fold_immediate(steps: list[Step]) -> None:
    """Put an immediate that is loaded into a register first into the one instruction that uses it."""
    for index, step in enumerate(steps):
        load = step.instruction
        if (
            load.code not in (Code.MOV_RM64_IMM32, Code.MOV_R32_IMM32)
            or load.op0_kind != OpKind.REGISTER
            or len(step.holes) != 1
        ):
            continue
        register = full(load.op0_register)
        users = [i for i, s in enumerate(steps) if s is not step and _uses(s.instruction, register)]
        if len(users) != 1 or users[0] < index or any(s.goes_to for s in steps):
            continue
        reads_flags = any(s.instruction.rflags_read for s in steps[users[0] + 1 :])
        if steps[users[0]].instruction.code in _COUNTED and reads_flags:
            continue
        user = steps[users[0]]
        made = _with_immediate(user.instruction, register)
        if made is not None:
            user.instruction, size = made
            _, what, more = step.holes[0]
            user.holes = [*user.holes, (size, what, more)]  # it is the last thing in an instruction
            del steps[index]
            return


def _fold_lane_count(steps: list[Step]) -> None:
    """Put the count that comes in a vector register into the shift."""
    for index, step in enumerate(steps):
        if step.instruction.code not in _LANES_COUNTED or any(s.goes_to for s in steps):
            continue
        shift = step.instruction
        last = shift.op_count - 1
        if shift.op_kind(last) != OpKind.REGISTER:
            return
        chain = []  # what loads the count, the last first
        wanted = full(shift.op_register(last))
        for before in reversed(steps[:index]):
            load = before.instruction
            if not load.op_count or load.op0_kind != OpKind.REGISTER or full(load.op0_register) != wanted:
                continue
            chain.append(before)
            if load.code in _TO_LANES and load.op1_kind == OpKind.REGISTER:
                wanted = full(load.op1_register)
            elif load.code not in (Code.AND_RM32_IMM8, Code.AND_EAX_IMM32, Code.AND_RM32_IMM32):
                break
        if len(chain) < 2 or chain[-1].instruction.code not in (Code.MOV_RM64_IMM32, Code.MOV_R32_IMM32):
            return
        if len(chain[-1].holes) != 1 or full(shift.op_register(last - 1)) == full(shift.op_register(last)):
            return
        code, to = _LANES_COUNTED[shift.code], shift.op0_register
        if last == 1:
            step.instruction = Instruction.create_reg_i32(code, to, MARK[1])
        else:
            step.instruction = Instruction.create_reg_reg_i32(code, to, shift.op1_register, MARK[1])
        step.holes = [(1, *chain[-1].holes[0][1:])]
        for loading in chain:
            steps.remove(loading)
        return


def _fuse(steps: list[Step]) -> None:
    """A multiply-add between two copies, at the end."""
    for index in range(len(steps) - 2):
        first, middle, last = (step.instruction for step in steps[index : index + 3])
        if (
            all(_always(step) for step in steps[index + 3 :])
            and first.code in _COPIES
            and last.code == first.code
            and middle.code in _FUSED
            and all(i.op_kind(i.op_count - 1) == OpKind.REGISTER for i in (first, middle, last))
            and full(first.op0_register) == full(middle.op0_register) == full(last.op1_register)
            and full(middle.op1_register) == full(last.op0_register)
        ):
            steps[index].instruction = Instruction.create_reg_reg_reg(
                _FUSED[middle.code], middle.op1_register, first.op1_register, middle.op2_register
            )
            del steps[index + 1 : index + 3]
            return


def _uses(instruction: Instruction, register: Number) -> bool:
    return any(full(used.register) == register for used in _factory.info(instruction).used_registers())


def _with_immediate(instruction: Instruction, register: Number) -> tuple[Instruction, int] | None:
    """The instruction with the mark in place of the register as its last operand, if there is such a one, and
    the size of that."""
    if instruction.code in (Code.LEA_R32_M, Code.LEA_R64_M):
        return _with_displacement(instruction, register)
    if instruction.code in _COUNTED:
        return _with_count(instruction, register)
    code, size = _IMMEDIATE.get(instruction.code, (0, 0))
    if not code or instruction.op1_kind != OpKind.REGISTER or full(instruction.op1_register) != register:
        return None
    if instruction.op0_kind == OpKind.REGISTER and full(instruction.op0_register) == register:
        return None
    if instruction.op0_kind == OpKind.MEMORY and full(instruction.memory_base) == register:
        return None
    made = instruction.copy()
    made.code = code
    if size == 1:
        made.op1_kind = OpKind.IMMEDIATE8
        made.immediate8 = MARK[1]
    elif code in _WIDE:
        made.op1_kind = OpKind.IMMEDIATE32TO64
        made.immediate32to64 = MARK[4]
    else:
        made.op1_kind = OpKind.IMMEDIATE32
        made.immediate32 = MARK[4]
    return made, size


def _with_displacement(instruction: Instruction, register: Number) -> tuple[Instruction, int] | None:
    """A LEA of two registers with the second one in the displacement."""
    if instruction.memory_displ_size or instruction.memory_index_scale != 1 or not instruction.memory_index:
        return None
    made = instruction.copy()
    if full(instruction.memory_base) == register:
        made.memory_base = instruction.memory_index
    if full(made.memory_base) == register:
        return None
    made.memory_index = Register.NONE
    made.memory_displacement = MARK[4]
    made.memory_displ_size = 4
    return made, 4


def _with_count(instruction: Instruction, register: Number) -> tuple[Instruction, int] | None:
    """A shift by a register as one by a number. It sets flags, which no stencil uses that shifts."""
    last = instruction.op_count - 1
    same = last == 1 or instruction.op0_register == instruction.op1_register
    operand = instruction.op_kind(last) == OpKind.REGISTER and full(instruction.op_register(last)) == register
    if not same or not operand or full(instruction.op0_register) == register:
        return None
    made = Instruction.create_reg_i32(_COUNTED[instruction.code], instruction.op0_register, MARK[1])
    return made, 1
