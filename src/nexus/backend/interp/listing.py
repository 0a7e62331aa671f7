"""The records of a block as lines to read: the handler by name, its operands, immediates and literals."""

from __future__ import annotations

import struct

from nexus.backend.interp.records import Variant, variants
from nexus.ir.ops import ROWS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nexus.backend.interp.engine import Interpreter
    from nexus.ir.types import Type

    SlotName = Callable[[int, bool], str]  # (slot, whether it is a vector one)


def records(data: bytes, at: int, engine: Interpreter, slot_name: SlotName) -> Iterator[tuple[int, str, str]]:
    """(offset, handler, operands) of the records in `data`, assembled for the host address `at`."""
    base = at, len(data)
    handlers = {address: name for name, address in engine.symbols.items()}
    known = {variant.name: variant for row in ROWS.values() for variant in variants(row)}
    offset = 0
    while offset < len(data):
        address, packed = struct.unpack_from("<QQ", data, offset)
        size = engine.record_sizes[address]
        literal = struct.unpack_from("<QQ", data, offset + 16) if size > 16 else ()
        name = handlers[address]
        if name in known:
            text = _operands(known[name], packed, literal, base, slot_name)
        else:
            text = _control(name, packed, literal, base, slot_name)
        yield offset, name, text
        offset += size


def _signed(packed: int) -> int:
    immediate = packed >> 32
    return immediate - (immediate >> 31 << 32)


def _slots(kinds: list[Type], packed: int, literal: tuple[int, ...], slot_name: SlotName) -> list[str]:
    numbers = [packed >> 8 * place & 255 for place in (1, 2, 3)]
    if literal:
        numbers += literal[1].to_bytes(8, "little")
    return [slot_name(number, kind.is_vector) for number, kind in zip(numbers, kinds, strict=False)]


def _operands(
    variant: Variant, packed: int, literal: tuple[int, ...], base: tuple[int, int], slot_name: SlotName
) -> str:
    """What a row's record says: the result, the operands in their order, the address in brackets."""
    row = variant.row
    kinds = list(row.operands)
    if variant.second is not None and len(variant.second.operands) > len(kinds):
        kinds = list(variant.second.operands)
    shown = _slots(kinds[: len(kinds) - variant.imm_last], packed, literal, slot_name)
    if variant.imm_last:
        wide = row.address or variant.imm_wide
        shown.append(f"{literal[0]:#x}" if wide and literal else str(_signed(packed)))
    elif variant.imm_wide:
        shown.append(f"{literal[0]:#x}")
    elif row.has_imm and not row.address:
        shown.append(str(_signed(packed)))
    if row.address:
        place = " + ".join(shown[:1] + [f"{index} << {variant.scale}" for index in shown[1 : row.address]])
        shown[: row.address] = [f"[{place} + {_signed(packed)}]"]
    result = row.result
    if result is None and variant.second is not None:
        result = variant.second.result
    text = ", ".join(shown)
    if result is not None and not variant.branches:
        text = f"{slot_name(packed & 255, result.is_vector)} = {text}"
    if variant.branches:
        text += f" ? {_place(literal[0], base)} : {_place(literal[1], base)}"
    return text


def _control(
    name: str, packed: int, literal: tuple[int, ...], base: tuple[int, int], slot_name: SlotName
) -> str:
    """A control record: its slot where it has one, its immediate, its literals as they are."""
    parts = [slot_name(packed >> 8 & 255, False)] if name in ("branch", "jump", "trap_if") else []
    if name in ("enter", "exit", "trap_if"):
        parts.append(str(_signed(packed)))
    return ", ".join(parts + [_place(word, base) for word in literal])


def _place(word: int, base: tuple[int, int]) -> str:
    """A number, or the offset that it points to among the records."""
    start, size = base
    return f"+{word - start:03x}" if start <= word < start + size else f"{word:#x}"
