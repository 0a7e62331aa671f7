"""The calls that a thread is in, from the unwind data of x64 images (Microsoft, "x64 exception handling").

Good enough for samples and crash reports: epilogues are taken for bodies, and where something does not fit
the walk ends.
"""

from __future__ import annotations

from struct import unpack_from

from nexus.base.errors import GuestFault
from nexus.isa.x86.registers import RSP
from nexus.loader import pe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from nexus.machine.window import Window
    from nexus.nt.ps.process import Module, Process

    class Functions(Protocol):
        """Finds the function around an address (None for one without unwind data) and the base of its
        module; None outside of all modules.
        """

        def find(self, address: int) -> tuple[Function | None, int] | None: ...


DEEPEST = 64
_CHAINED = 4
(
    _PUSH_NONVOL, _ALLOC_LARGE, _ALLOC_SMALL, _SET_FPREG, _SAVE_NONVOL, _SAVE_NONVOL_FAR,
    _EPILOG, _SPARE, _SAVE_XMM128, _SAVE_XMM128_FAR, _PUSH_MACHFRAME,
) = range(11)  # fmt: skip
_SLOTS = (1, 2, 1, 1, 2, 3, 1, 2, 2, 3, 1)  # of two bytes; ALLOC_LARGE with info 1 has one more
_MOST_CHAINED = 8


_ROW = 12  # bytes of a RUNTIME_FUNCTION
_DIRECTORIES = 112  # of the 64-bit optional header: where the data directories begin


class Function:
    """A row of the exception directory: offsets in the image."""

    __slots__ = ("begin", "end", "unwind")

    def __init__(self, begin: int, end: int, unwind: int) -> None:
        self.begin = begin
        self.end = end
        self.unwind = unwind


class MappedFunctions:
    """`Functions` of a process, looked up in the exception directories as they are mapped."""

    __slots__ = ("_process",)

    def __init__(self, process: Process) -> None:
        self._process = process

    def find(self, address: int) -> tuple[Function | None, int] | None:
        module = self._process.module_at(address)
        if module is None:
            return None
        start, count = self._table(module)
        offset, low = address - module.base, 0
        while low < count:
            middle = (low + count) // 2
            row = Function(*unpack_from("<III", self._process.window.read(start + _ROW * middle, _ROW)))
            if row.begin <= offset < row.end:
                return row, module.base
            if offset < row.begin:
                count = middle
            else:
                low = middle + 1
        return None, module.base

    def _table(self, module: Module) -> tuple[int, int]:
        """Address of the exception directory and how many functions it has."""
        window, base = self._process.window, module.base
        at = base + window.u32(base + 0x3C) + 24 + _DIRECTORIES + 8 * pe.EXCEPTION
        offset, size = window.u32(at), window.u32(at + 4)
        if not offset or offset + size > module.size:
            return 0, 0
        return base + offset, size // _ROW


class Unwound:
    """One UNWIND_INFO: (offset in the prologue, operation, its info, its argument) in order; `frame` is
    (register, offset), register 0 for none; `chained` is where the next one is, 0 for none."""

    __slots__ = ("chained", "codes", "frame")

    def __init__(self, data: bytes) -> None:
        flags, _, count, frame = unpack_from("<BBBB", data)
        self.frame = frame & 15, frame >> 4 << 4
        self.codes: list[tuple[int, int, int, int]] = []
        at = 4
        end = 4 + 2 * count
        while at < end:
            offset, code = unpack_from("<BB", data, at)
            operation, info = code & 15, code >> 4
            if operation >= len(_SLOTS):
                raise ValueError(f"unwind operation {operation}")
            slots = _SLOTS[operation] + (operation == _ALLOC_LARGE and info == 1)
            argument = 0
            if slots == 2:
                (argument,) = unpack_from("<H", data, at + 2)
            elif slots == 3:
                (argument,) = unpack_from("<I", data, at + 2)
            self.codes.append((offset, operation, info, argument))
            at += 2 * slots
        self.chained = 0
        if flags >> 3 & _CHAINED:
            (self.chained,) = unpack_from("<I", data, 4 + 2 * (count + count % 2) + 8)


class Unwinder:
    """Walks the stacks of one process."""

    def __init__(self, window: Window, functions: Functions) -> None:
        self._window = window
        self._functions = functions
        self._known: dict[int, Unwound] = {}

    def stack(self, registers: list[int], rip: int) -> list[int]:
        """Addresses in the functions that are active, the innermost first, of a thread with these registers
        (in hardware order). What lies outside of all modules counts as a function without a frame.
        """
        registers = registers.copy()
        found = [rip]
        place = rip
        try:
            while len(found) < DEEPEST:
                function, base = self._functions.find(place) or (None, 0)
                if function is not None:
                    self._undo(registers, function, base, place - base - function.begin)
                back = self._window.u64(registers[RSP])
                registers[RSP] += 8
                if self._functions.find(back) is None:
                    break
                place = back - 1  # in the call, for one that is the last instruction
                found.append(place)
        except (GuestFault, ValueError):
            return found
        return found

    def _undo(self, registers: list[int], function: Function, base: int, offset: int) -> None:
        """Take back what the prologue has done by an offset into the function."""
        info = self._read(base + function.unwind)
        for _ in range(_MOST_CHAINED):
            for at, operation, what, argument in info.codes:
                if at <= offset:
                    self._undo_one(registers, info, operation, what, argument)
            if not info.chained:
                return
            info, offset = self._read(base + info.chained), 1 << 32

    def _undo_one(
        self, registers: list[int], info: Unwound, operation: int, what: int, argument: int
    ) -> None:
        if operation == _PUSH_NONVOL:
            registers[what] = self._window.u64(registers[RSP])
            registers[RSP] += 8
        elif operation == _ALLOC_SMALL:
            registers[RSP] += 8 * what + 8
        elif operation == _ALLOC_LARGE:
            registers[RSP] += argument if what else 8 * argument
        elif operation == _SET_FPREG:
            register, distance = info.frame
            registers[RSP] = registers[register] - distance
        elif operation == _SAVE_NONVOL:
            registers[what] = self._window.u64(registers[RSP] + 8 * argument)
        elif operation == _SAVE_NONVOL_FAR:
            registers[what] = self._window.u64(registers[RSP] + argument)
        elif operation == _PUSH_MACHFRAME:
            raise ValueError("a frame of the kernel")

    def _read(self, address: int) -> Unwound:
        found = self._known.get(address)
        if found is None:
            (count,) = self._window.read(address + 2, 1)
            found = self._known[address] = Unwound(
                self._window.read(address, 4 + 2 * (count + count % 2) + 12)
            )
        return found
