"""A block of guest code at every stage of its translation, for people to read."""

from __future__ import annotations

import ctypes

from iced_x86 import Decoder, FlowControl, Formatter, FormatterSyntax, Instruction

from nexus.backend.interp import listing
from nexus.base.errors import NexusError, UsageError
from nexus.ir import text
from nexus.ir.rewrite import ORDER, PASSES
from nexus.ir.state import FIRST_TEMP, FIRST_VECTOR_TEMP, FIRST_X87, SLOT_NAMES
from nexus.ir.values import Block
from nexus.isa.x86.decode import instructions
from nexus.isa.x86.registers import GPR_NAMES
from nexus.isa.x86.semantics import lower
from nexus.isa.x86.table import SEMANTICS
from nexus.machine.bare import BareT0, BareT1
from nexus.machine.window import GUARDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nexus.backend.jit.unit import Unit

MOST = 100  # instructions of a block, as many as a translation has at most
_NEVER_BEYOND = (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.INDIRECT_BRANCH, FlowControl.RETURN)
_MEMORY, _SIZE, _TOP = 0x10000, 0x1000, 0x20000  # of the machine that the code is assembled for


class Line:
    """A piece of code: its place, its bytes (none for a record) and its text; `record` names the record that
    host code was made from."""

    __slots__ = ("at", "code", "record", "text")

    def __init__(self, at: int, code: bytes, text: str, record: str = "") -> None:
        self.at = at
        self.code = code
        self.text = text
        self.record = record


class Stages:
    """What became of one block: instructions, IR as built, after each rewrite, records, host code.

    `missing` are those of its instructions that have no semantics; `native` is empty where T1 cannot run, and
    `why` says why."""

    __slots__ = ("block", "instructions", "ir", "missing", "native", "records", "rewrites", "why")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.instructions: list[Line] = []
        self.missing: list[Line] = []
        self.ir = ""
        self.rewrites: list[tuple[str, str]] = []
        self.records: list[Line] = []
        self.native: list[Line] = []
        self.why = ""


class Translator:
    """Translates blocks outside of any machine."""

    def __init__(self) -> None:
        self._t0 = BareT0(_MEMORY, _SIZE, _TOP)
        self._why = ""
        try:
            self._t1: BareT1 | None = BareT1(_MEMORY, _SIZE, _TOP)
        except NexusError as reason:
            self._t1, self._why = None, str(reason)
        self._format = Formatter(FormatterSyntax.INTEL)
        self._format.hex_prefix, self._format.hex_suffix = "0x", ""
        self._format.branch_leading_zeros = self._format.show_branch_size = False
        self._format.uppercase_hex = False
        self._format.space_after_operand_separator = True

    def stages(self, code: bytes, address: int, limit: int = MOST) -> Stages:
        """The block at the beginning of `code`, at most `limit` instructions."""
        block = Block(address)
        found = Stages(block)
        for instruction in instructions(code, address):
            at = instruction.ip - address
            raw = code[at : at + instruction.len]
            name = "(not an instruction)" if instruction.is_invalid else self._format.format(instruction)
            found.instructions.append(Line(instruction.ip, raw, name))
            known = instruction.mnemonic in SEMANTICS or instruction.is_privileged
            if not known and not instruction.is_invalid:
                found.missing.append(found.instructions[-1])
            ended = lower(instruction, block)
            limit -= 1
            if ended or not limit:
                break
        else:
            ended = False
        if not found.instructions:
            raise UsageError(f"{code.hex(' ')} ends in the middle of an instruction")
        if not ended:
            block.goto(block.end)
        found.ir = text.show(block)
        for name in ORDER:
            PASSES[name](block)
            found.rewrites.append((name, text.show(block)))
        self._t0.place(block)
        found.records = list(self._records())
        if self._t1 is None:
            found.why = self._why
        else:
            self._t1.place(block)
            found.native = list(self._host_code(self._t1))
        return found

    def region(self, found: Sequence[Stages]) -> tuple[list[Line], str]:
        """The code of T2 for these blocks as one region, entered at the first; if there is none, why."""
        from nexus.backend.jit.bounds import Room
        from nexus.backend.jit.build import compile_region
        from nexus.backend.jit.lower import Unfit
        from nexus.backend.jit.region import Region

        blocks = {stages.block.start: stages.block for stages in found}
        try:
            unit = compile_region(Region(found[0].block.start, blocks), Room(_TOP, GUARDS[0]))
        except Unfit as reason:
            return [], str(reason)
        return list(self._compiled(unit)), ""

    def _compiled(self, unit: Unit) -> Iterator[Line]:
        """The instructions of compiled code, up to a jump that no other one leads beyond; tables follow."""
        reach = max((landing for _, landing in unit.accesses), default=0)
        for instruction, line in self._disassembled(unit.code, unit.main):
            yield line
            if instruction.near_branch_target < len(unit.code):
                reach = max(reach, instruction.near_branch_target)
            if instruction.flow_control in _NEVER_BEYOND and instruction.next_ip > reach:
                return

    def _records(self) -> Iterator[Line]:
        t0 = self._t0
        data = ctypes.string_at(t0.records, t0.size)
        for offset, name, operands in listing.records(data, t0.records, t0.engine, slot_name):
            yield Line(offset, b"", f"{name:24} {operands}")

    def _host_code(self, t1: BareT1) -> Iterator[Line]:
        """Host instructions, each with the record it was made from where that changes."""
        code = t1.code
        data, offsets = bytes(code.data), list(code.offsets)
        made_from = dict(zip(offsets, code.records, strict=True))
        names = {line.at: line.text for line in self._records()}
        for _, line in self._disassembled(data, 0):
            record = made_from.get(line.at)
            if record is not None:
                line.record = f"+{record:03x} {' '.join(names.get(record, '').split())}"
            yield line

    def _disassembled(self, data: bytes, start: int) -> Iterator[tuple[Instruction, Line]]:
        for instruction in Decoder(64, data[start:], ip=start):
            at = instruction.ip
            raw = data[at : at + instruction.len]
            shown = self._format.format(instruction)
            target = instruction.near_branch_target
            if target >> 63:  # something that the code of every block shares
                shown = f"{shown.split()[0]} -{(1 << 64) - target:#x}"
            yield instruction, Line(at, raw, shown)


def slot_name(slot: int, vector: bool) -> str:
    """A slot of the state as people call it: rax, cf, xmm3; t0, t1, ... and w0, w1, ... are temporaries."""
    if vector:
        if slot >= FIRST_VECTOR_TEMP:
            return f"w{slot - FIRST_VECTOR_TEMP}"
        return f"xmm{slot}" if slot < FIRST_X87 else f"x87[{slot - FIRST_X87}]"
    if slot >= FIRST_TEMP:
        return f"t{slot - FIRST_TEMP}"
    return GPR_NAMES[slot] if slot < len(GPR_NAMES) else SLOT_NAMES.get(slot, f"s{slot}")
