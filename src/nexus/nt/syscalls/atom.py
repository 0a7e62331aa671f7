"""The global atom table."""

from __future__ import annotations

import struct

from nexus.abi.types import u16, u32, uptr
from nexus.nt.atoms import FIRST, MAXIMUM_LENGTH
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.query import answer
from nexus.nt.status import Status
from nexus.nt.syscall import Out, syscall

_BASIC, _TABLE = 0, 1


def _name_or_number(call: Call, name: int, length: int) -> str | int:
    """The text, or the number of an integer atom (`#123`, or a small value instead of a pointer)."""
    if not name >> 16:
        if not 0 < name < FIRST:
            raise NtError(Status.INVALID_PARAMETER)
        return name
    if not length:
        raise NtError(Status.OBJECT_NAME_INVALID)
    if length > MAXIMUM_LENGTH * 2:
        raise NtError(Status.INVALID_PARAMETER)
    text = call.memory.read(name, length & ~1).decode("utf-16-le", "surrogatepass")
    digits = text[1:]
    if text.startswith("#") and digits.isascii() and digits.isdigit():
        number = int(digits)
        if not 0 < number < FIRST:
            raise NtError(Status.INVALID_PARAMETER)
        return number
    return text


@syscall
def NtAddAtom(call: Call, name: uptr, length: u32, atom: Out[u16] | None) -> None:
    """Add a name to the global atom table, or count it once more."""
    wanted = _name_or_number(call, name, length)
    number = wanted if isinstance(wanted, int) else call.kernel.atoms.add(wanted)
    if atom is not None:
        atom.write(number)


@syscall
def NtFindAtom(call: Call, name: uptr, length: u32, atom: Out[u16] | None) -> None:
    """The atom of a name."""
    wanted = _name_or_number(call, name, length)
    number = wanted if isinstance(wanted, int) else call.kernel.atoms.find(wanted)
    if atom is not None:
        atom.write(number)


@syscall
def NtDeleteAtom(call: Call, atom: u16) -> None:
    """Count an atom down."""
    if atom >= FIRST:
        call.kernel.atoms.delete(atom)
    elif not atom:
        raise NtError(Status.INVALID_HANDLE)


@syscall
def NtQueryInformationAtom(
    call: Call, atom: u16, information_class: u32, buffer: uptr, length: u32, returned: Out[u32] | None
) -> None:
    """Name and count of an atom, or the list of all."""
    if information_class == _TABLE:
        numbers = call.kernel.atoms.numbers()
        data = struct.pack(f"<I{len(numbers)}H", len(numbers), *numbers)
        answer(call, buffer, length, returned, data)
        return
    if information_class != _BASIC:
        raise NtError(Status.INVALID_INFO_CLASS)
    if not atom:
        raise NtError(Status.INVALID_PARAMETER)
    if atom < FIRST:
        name, count, pinned = f"#{atom}", 1, True
    else:
        found = call.kernel.atoms.get(atom)
        name, count, pinned = found.name, found.count, found.pinned
    encoded = name.encode("utf-16-le", "surrogatepass")
    if length < 8:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    if returned is not None:
        returned.write(6 + len(encoded) + 2)
    fitting = encoded[: (length - 8) & ~1] if length < 8 + len(encoded) else encoded
    if not fitting and encoded:
        raise NtError(Status.BUFFER_TOO_SMALL)
    call.memory.write(buffer, struct.pack("<HHH", count, pinned, len(fitting)) + fitting + b"\0\0")
