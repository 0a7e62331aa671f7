"""Atom tables: names that stand for 16-bit numbers, counted."""

from __future__ import annotations

from nexus.nt.errors import NtError
from nexus.nt.status import Status

FIRST, LAST = 0xC000, 0xFFFF
MAXIMUM_LENGTH = 255


class Atom:
    __slots__ = ("count", "name", "pinned")

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.pinned = False


class AtomTable:
    """Names are compared without case and shown as first given. Numbers below 0xC000 are integer atoms."""

    def __init__(self) -> None:
        self._by_name: dict[str, int] = {}
        self._atoms: dict[int, Atom] = {}

    def add(self, name: str) -> int:
        """The atom of a name, counted once more."""
        number = self._by_name.get(name.upper())
        if number is None:
            number = next((n for n in range(FIRST, LAST + 1) if n not in self._atoms), 0)
            if not number:
                raise NtError(Status.NO_MEMORY)
            self._by_name[name.upper()] = number
            self._atoms[number] = Atom(name)
        self._atoms[number].count += 1
        return number

    def find(self, name: str) -> int:
        number = self._by_name.get(name.upper())
        if number is None:
            raise NtError(Status.OBJECT_NAME_NOT_FOUND)
        return number

    def get(self, number: int) -> Atom:
        atom = self._atoms.get(number)
        if atom is None:
            raise NtError(Status.INVALID_HANDLE)
        return atom

    def delete(self, number: int) -> None:
        """Count a name down; the last use removes it."""
        atom = self.get(number)
        if atom.pinned:
            raise NtError(Status.WAS_LOCKED)
        atom.count -= 1
        if not atom.count:
            del self._atoms[number]
            del self._by_name[atom.name.upper()]

    def numbers(self) -> list[int]:
        return sorted(self._atoms)
