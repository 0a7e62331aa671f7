"""Machine code to instructions, by iced-x86 (64-bit mode).

iced gives the mnemonic, the operands and their sizes; what an instruction means is in `semantics/`.
"""

from __future__ import annotations

from iced_x86 import Decoder, DecoderError, Instruction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 15


class Truncated(Exception):
    """The bytes end inside an instruction: the rest would have to be fetched from the next page."""


def decode(code: bytes, address: int) -> Instruction:
    """The first instruction of `code`; an undecodable one has `is_invalid` set and lowers to #UD.

    Raises Truncated when more bytes are needed.
    """
    decoder = Decoder(64, code[:LONGEST], ip=address)
    instruction = decoder.decode()
    if instruction.is_invalid and decoder.last_error == DecoderError.NO_MORE_BYTES and len(code) < LONGEST:
        raise Truncated
    return instruction


def instructions(code: bytes, address: int) -> Iterator[Instruction]:
    """The instructions of `code` one after the other, in an object that is used again for the next one.

    It ends where an instruction needs more bytes.
    """
    decoder, instruction = Decoder(64, code, ip=address), Instruction()
    while decoder.can_decode:
        decoder.decode_out(instruction)
        if instruction.is_invalid and decoder.last_error == DecoderError.NO_MORE_BYTES:
            return
        yield instruction


__all__ = ["LONGEST", "Instruction", "Truncated", "decode", "instructions"]
