"""Names for addresses of a running process: exported functions, and functions that have unwind data only."""

from __future__ import annotations

from bisect import bisect_right
from struct import iter_unpack

from nexus.base.errors import BadImage, GuestFault
from nexus.loader import directories, pe
from nexus.machine.window import Window
from nexus.nt.ps.unwind import Function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.ps.process import Module, Process


class MappedBytes:
    """A mapped image as the bytes of a file whose sections lie where they are mapped."""

    def __init__(self, window: Window, base: int, size: int) -> None:
        self._window = window
        self._base = base
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        try:
            return self._window.read_forced(self._base + start, max(0, stop - start))
        except GuestFault:
            return b""


class ModuleNames:
    """The functions of one image, ascending, and the exported names by offset."""

    def __init__(self, window: Window, module: Module) -> None:
        self.name = module.name
        self.base = module.base
        self.exported: dict[int, str] = {}
        self._functions: list[Function] = []
        self._begins: list[int] = []
        self._addresses: list[int] = []
        try:
            self._read(MappedBytes(window, module.base, module.size))
        except (BadImage, ValueError):
            return  # no image that can be read: its addresses stay numbers

    def _read(self, data: MappedBytes) -> None:
        image = pe.parse(data)
        for section in image.sections:
            section.file_offset, section.file_size = section.address, section.virtual_size
        for export in directories.exports(image):
            if not export.forward:
                self.exported.setdefault(export.address, export.name or f"#{export.ordinal}")
        self.exported.setdefault(image.entry_point, "entry point")
        self._addresses = sorted(self.exported)
        start, size = image.directory(pe.EXCEPTION)
        table = image.read(start, size - size % 12) if start and size >= 12 else b""
        rows = sorted(row for row in iter_unpack("<III", table) if row[0] < row[1])
        self._functions = [Function(*row) for row in rows]
        self._begins = [row[0] for row in rows]

    def function(self, offset: int) -> Function | None:
        """What the exception directory knows of the function around an offset."""
        index = bisect_right(self._begins, offset) - 1
        if index >= 0 and offset < self._functions[index].end:
            return self._functions[index]
        return None

    def describe(self, offset: int) -> str:
        """`module!name` or, where only its place is known, `module!+0x1234`.

        A function without unwind data is called by the export before it."""
        found = self.function(offset)
        if found is not None:
            begin = found.begin
        else:
            known = bisect_right(self._addresses, offset) - 1
            begin = self._addresses[known] if known >= 0 else offset
        return f"{self.name}!{self.exported.get(begin) or f'+{begin:#x}'}"


class Symbols:
    """The names of one process. Modules are read when an address in them is first asked for."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._modules: dict[tuple[str, int], ModuleNames] = {}

    def _module(self, address: int) -> ModuleNames | None:
        module = self._process.module_at(address)
        if module is None:
            return None
        key = module.name, module.base
        if key not in self._modules:
            self._modules[key] = ModuleNames(self._process.window, module)
        return self._modules[key]

    def find(self, address: int) -> tuple[Function | None, int] | None:
        """The function around an address, None for one without unwind data, and the base of its module; None
        outside of all modules."""
        names = self._module(address)
        return None if names is None else (names.function(address - names.base), names.base)

    def describe(self, address: int) -> str:
        """The name of the function that an address belongs to."""
        names = self._module(address)
        return "code outside of all modules" if names is None else names.describe(address - names.base)
