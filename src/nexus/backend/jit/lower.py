"""The LLVM text of a region: one function of the interpreter's convention.

Every slot that the region uses is an `alloca`, filled at the entry, which LLVM turns into SSA values; they
go back to the state where the region is left (`writer.py`).
"""

from __future__ import annotations

from nexus.backend.interp.handlers import CONVENTION, PARAMETERS
from nexus.backend.jit import flags, unit
from nexus.backend.jit.bounds import Bounds, Room
from nexus.backend.jit.region import Region
from nexus.backend.jit.writer import Writer, entrance
from nexus.backend.llvm.expand import declarations
from nexus.ir.state import SLOTS, VECTOR_BYTES, VECTOR_OFFSET
from nexus.ir.types import V128

_PC, _BUDGET = SLOTS["pc"], SLOTS["budget"]


class Unfit(Exception):
    """The region begins with an instruction that is left to the interpreter."""


def lower(region: Region, room: Room) -> tuple[str, list[int]]:
    """The module's text and the ways out, in the order of their numbers; raises Unfit.

    Entries that begin with an instruction which is left to the interpreter are taken out of the region.
    """
    while True:
        function = Function(region, room)
        text = function.text()
        kept = [pc for pc in region.entries if pc not in function.stuck]
        if kept == region.entries:
            return text, list(function.ways)
        if region.entries[0] not in kept:
            raise Unfit(f"{region.entries[0]:#x}")
        region.entries = kept


class Slots:
    """What of the state the blocks of a region use, and which of it they write. Vector slots have the LLVM
    type of their widest use."""

    def __init__(self, region: Region) -> None:
        scalars = {_BUDGET}
        widths: dict[int, int] = {}
        self.written = {_BUDGET}
        self.written_vectors: set[int] = set()
        for block in region.blocks.values():
            for op in block.ops:
                head, row = op.row.name.partition(".")[0], op.row
                if head == "clear":
                    widths[op.imm] = max(widths.get(op.imm, 0), V128.bits)
                    self.written_vectors.add(op.imm)
                elif head in ("get", "put"):
                    type = row.operands[0] if head == "put" else row.result
                    assert type is not None
                    if type.is_vector:
                        widths[op.imm] = max(widths.get(op.imm, 0), type.bits)
                    else:
                        scalars.add(op.imm)
                    if head == "put":
                        (self.written_vectors if type.is_vector else self.written).add(op.imm)
                scalars.update(SLOTS[name] for name in (*row.reads, *row.writes))
                self.written.update(SLOTS[name] for name in row.writes)
        self.scalars = sorted(scalars - {_PC})
        self.vectors = {slot: f"<{bits // 64} x i64>" for slot, bits in sorted(widths.items())}
        self.written.discard(_PC)


class Function:
    """The function under construction: lines of text, and what its blocks share."""

    def __init__(self, region: Region, room: Room) -> None:
        self.region = region
        self.bounds = Bounds(region, room)
        self.pending = flags.pending(region.blocks, region.sources(), region.entries)
        self.lines: list[str] = []
        self.count = 0
        self.ways: dict[int, int] = {}
        self.stuck: set[int] = set()  # entries that would lead to themselves without a step forward
        self.slots = Slots(region)

    def op(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"%v{self.count} = {text}")
        return f"%v{self.count}"

    def do(self, text: str) -> None:
        self.lines.append(text)

    def new_label(self) -> str:
        self.count += 1
        return f"l{self.count}"

    def field(self, name: str, offset: int) -> None:
        self.do(f"{name} = getelementptr inbounds i8, ptr %state, i64 {offset}")

    def text(self) -> str:
        region = self.region
        self.do("entry:")
        self.do('call void asm sideeffect "wrgsbase $0", "r"(ptr %window)')
        self.field("%pc", 8 * _PC)
        self.field("%target", 8 * unit.TARGET)
        for slot in self.slots.scalars:
            self.field(f"%at{slot}", 8 * slot)
            self.do(f"%s{slot} = alloca i64")
            self.do(f"store i64 {self.op(f'load i64, ptr %at{slot}')}, ptr %s{slot}")
        for place in range(2):
            self.do(f"%flags{place} = alloca i64")
        for slot, type in self.slots.vectors.items():
            self.field(f"%xat{slot}", VECTOR_OFFSET + VECTOR_BYTES * slot)
            self.do(f"%x{slot} = alloca {type}")
            value = self.op(f"load {type}, ptr %xat{slot}, align 16")
            self.do(f"store {type} {value}, ptr %x{slot}")
        base = self.op(f"getelementptr i8, ptr %record, i64 {unit.BASE_POINTER}")
        self.do(f"%base = load ptr, ptr {base}")
        entry = self.op(f"getelementptr i8, ptr %record, i64 {unit.ENTRY_NUMBER}")
        cases = " ".join(
            f"i32 {index}, label %{entrance(pc)}" for index, pc in enumerate(region.entries) if index
        )
        chosen = self.op(f"load i32, ptr {entry}")
        self.do(f"switch i32 {chosen}, label %{entrance(region.entries[0])} [ {cases} ]")
        writers: dict[int, Writer] = {}
        before = region.only_ways()
        for number in region.blocks:
            chain = []
            while number not in writers:
                chain.append(number)
                if number not in before:
                    break
                number = before[number]
            for number in reversed(chain):
                writers[number] = Writer(self, number, writers.get(before.get(number, -1)))
                writers[number].write()
        body = "\n  ".join(self.lines)
        text = f"define {CONVENTION} void @unit({PARAMETERS}) #0 {{\n  {body}\n}}\n"
        return (
            text
            + declarations(text)
            + '!0 = !{}\n!1 = !{!"branch_weights", i32 1, i32 10000}\n'
            + '!2 = !{!"branch_weights", i32 10000, i32 1}\n'
            + 'attributes #0 = { nounwind "no-builtins" }\nattributes #1 = { cold }\n'
        )
