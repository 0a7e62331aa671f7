"""Guest bytes to IR: the instructions of one block, fetched as the processor would.

Only imported when something has to be translated; a program whose pages are all in the cache needs none.
"""

from __future__ import annotations

from nexus.base.errors import GuestFault
from nexus.ir.rewrite import rewrite
from nexus.ir.values import Block
from nexus.isa.x86.decode import LONGEST, decode, instructions
from nexus.isa.x86.operands import VECTOR
from nexus.isa.x86.semantics import lower
from nexus.isa.x86.semantics.float_exceptions import MAY_BE_TINY, RAISING
from nexus.machine.host import PAGE
from nexus.machine.stop import FetchFault
from nexus.machine.window import EXECUTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from nexus.isa.x86.decode import Instruction
    from nexus.machine.window import Window

    class Code(Protocol):
        """Where instructions are fetched from: a window, or a copy of some of its pages. `wide`: they may use
        AVX-512."""

        wide: bool

        def access(self, address: int) -> int | None: ...

        def read(self, address: int, size: int) -> bytes: ...


def lower_block(
    window: Code, pc: int, limit: int, stops: set[int], floats_alone: bool = False
) -> tuple[Block, tuple[int, ...]]:
    """The IR of at most `limit` instructions at `pc`, and the pages they are in; raises FetchFault.

    The block ends before an address in `stops`; with `floats_alone` an instruction that may raise an
    exception of MXCSR is a block of its own.
    """
    page = pc & -PAGE
    pages: tuple[int, ...] = (page,)
    code = _fetch(window, pc, pc, page + PAGE - pc)
    block = Block(pc, window.wide)
    at = pc
    for instruction in instructions(code, pc):
        if floats_alone and instruction.mnemonic in RAISING:
            if at != pc:
                break
            limit = 1
        at = instruction.next_ip
        if lower(instruction, block):
            rewrite(block)
            return block, pages
        limit -= 1
        if not limit or at in stops:
            break
    if at == pc:  # the first instruction crosses into the next page
        code += _fetch(window, pc, page + PAGE, LONGEST)
        pages = (page, page + PAGE)
        instruction = decode(code, pc)
        at = instruction.next_ip
        if lower(instruction, block):
            rewrite(block)
            return block, pages
    block.goto(at)
    rewrite(block)
    return block, pages


def float_result(window: Window, pc: int) -> tuple[int, int, int] | None:
    """What `floats.finish` has to know of the instruction at `pc`; None if it cannot raise."""
    instruction, _ = instruction_at(window, pc)
    if instruction.mnemonic not in RAISING:
        return None
    lane, count = MAY_BE_TINY.get(instruction.mnemonic, (32, 0))
    if not count or instruction.op0_register not in VECTOR:
        return 0, lane, 0
    number, type = VECTOR[instruction.op0_register]
    return number, lane, count if count == 1 else count * type.bits // 128


def instruction_at(window: Window, pc: int) -> tuple[Instruction, bytes]:
    """The instruction at an address, and its bytes; raises FetchFault."""
    size = min(PAGE - pc % PAGE, LONGEST)
    code = _fetch(window, pc, pc, size)
    if size < LONGEST and (window.access(pc + size) or 0) & EXECUTE:
        code += _fetch(window, pc, pc + size, LONGEST - size)
    instruction = decode(code, pc)
    return instruction, code[: instruction.len]


def _fetch(window: Code, pc: int, address: int, size: int) -> bytes:
    if not (window.access(address) or 0) & EXECUTE:
        raise FetchFault(pc, address)
    try:
        return window.read(address, size)
    except GuestFault:  # a page beyond the end of its file
        raise FetchFault(pc, address) from None
