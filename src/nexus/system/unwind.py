"""The calls that a thread is in, from the unwind data of x64 images (Microsoft, "x64 exception handling").

Good enough for samples: epilogues are taken for bodies, and where something does not fit the walk ends.
"""

from __future__ import annotations

from struct import unpack_from

from nexus.base.errors import GuestFault
from nexus.isa.x86.registers import RSP, CpuState
from nexus.system.symbols import Function, Symbols

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.machine.window import Window

DEEPEST = 64
_CHAINED = 4
(
    _PUSH_NONVOL, _ALLOC_LARGE, _ALLOC_SMALL, _SET_FPREG, _SAVE_NONVOL, _SAVE_NONVOL_FAR,
    _EPILOG, _SPARE, _SAVE_XMM128, _SAVE_XMM128_FAR, _PUSH_MACHFRAME,
) = range(11)  # fmt: skip
_SLOTS = (1, 2, 1, 1, 2, 3, 1, 2, 2, 3, 1)  # of two bytes; ALLOC_LARGE with info 1 has one more
_MOST_CHAINED = 8


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

    def __init__(self, window: Window, symbols: Symbols) -> None:
        self._window = window
        self._symbols = symbols
        self._known: dict[int, Unwound] = {}

    def stack(self, state: CpuState) -> list[int]:
        """Addresses in the functions that are active, the innermost first."""
        registers = [state.gpr(number) for number in range(16)]
        found = [state.rip]
        place = state.rip
        try:
            while len(found) < DEEPEST:
                at = self._symbols.find(place)
                if at is None:
                    break
                function, base = at
                if function is not None:
                    self._undo(registers, function, base, place - base - function.begin)
                back = self._window.u64(registers[RSP])
                registers[RSP] += 8
                if self._symbols.find(back) is None:
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
