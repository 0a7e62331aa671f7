"""Which syscall a number means: read from the export stubs of the guest's own ntdll and win32u.

A stub begins with `mov r10, rcx; mov eax, number`. Both DLLs of every Wine version (and of Windows) look like
that, so the numbers of any sysroot are found without a table. The scan is pure data and can be cached.
"""

from __future__ import annotations

from nexus.nt.syscall import SYSCALLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nexus.nt.syscall import Syscall

_STUB = b"\x4c\x8b\xd1\xb8"  # mov r10, rcx; mov eax, imm32
UNIX_CALL = 0xFFFF  # our own number, behind __wine_unix_call_dispatcher


def scan(exports: Mapping[str, int], code_at: Mapping[int, bytes]) -> dict[int, str]:
    """Numbers to names from a DLL's exports (name -> RVA) and the code bytes at these RVAs."""
    numbers: dict[int, str] = {}
    for name, rva in exports.items():
        code = code_at[rva]
        if code.startswith(_STUB) and len(code) >= 8:
            number = int.from_bytes(code[4:8], "little")
            if number not in numbers or name.startswith("Nt"):  # other names are aliases: Zw*, a few Rtl*
                numbers[number] = name
    return numbers


class Numbers:
    """The syscall table of one sysroot."""

    __slots__ = ("_entries", "_names")

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = dict(names)
        self._entries: dict[int, Syscall] = {
            number: SYSCALLS[name] for number, name in names.items() if name in SYSCALLS
        }
        if "unix_call" in SYSCALLS:
            self._entries[UNIX_CALL] = SYSCALLS["unix_call"]

    def entry(self, number: int) -> Syscall | None:
        return self._entries.get(number)

    def name(self, number: int) -> str | None:
        """The name of a number that the DLLs use, whether we have it or not."""
        return self._names.get(number)

    def missing(self) -> Iterable[str]:
        """Names that have no implementation."""
        return sorted(name for name in self._names.values() if name not in SYSCALLS)
