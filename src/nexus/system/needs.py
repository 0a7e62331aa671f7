"""What a program needs and does not find here: DLLs, exports, instructions and system calls, with the places.

Everything is read from files, nothing runs. An instruction counts where the exception directory says there
is code (else anywhere in executable sections), so data between functions is not mistaken for code. That
something is missing here does not mean that the program ever gets there.
"""

from __future__ import annotations

import os
import struct

from iced_x86 import Decoder, EncodingKind, Instruction, Mnemonic, Register

from nexus.base.errors import NexusError
from nexus.isa.x86.semantics import MODULES
from nexus.isa.x86.table import SEMANTICS
from nexus.loader import directories, pe
from nexus.loader.source import FileBytes
from nexus.nt import syscalls
from nexus.nt.syscall import SYSCALLS
from nexus.system.apisets import ApiSets
from nexus.system.numbers_cache import syscall_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus.loader.pe import Image
    from nexus.system.sysroot import Sysroot

assert MODULES and syscalls.__all__  # imported for their registrations
MOST_PLACES = 8
_MNEMONICS = {value: name for name, value in vars(Mnemonic).items() if isinstance(value, int)}


class Need:
    """One missing thing: `kind` is dll, export, syscall, instruction or extension; `places` are some of
    `count`.

    An extension (AVX and the like) is not announced by CPUID, so a program that tests for it needs it not.
    """

    __slots__ = ("count", "kind", "late", "name", "places")

    def __init__(self, kind: str, name: str, late: bool = False) -> None:
        self.kind = kind
        self.name = name
        self.late = late
        self.places: list[str] = []
        self.count = 0

    def add(self, place: str) -> None:
        self.count += 1
        if len(self.places) < MOST_PLACES:
            self.places.append(place)


class Library:
    """A DLL that was found: where, its image and its exports by name and ordinal."""

    __slots__ = ("exports", "image", "name", "own", "path")

    def __init__(self, name: str, path: str, own: bool) -> None:
        self.name = name
        self.path = path
        self.own = own  # the program's, not the sysroot's
        self.image = read_image(path)
        self.exports: dict[str | int, str] = {}
        for export in directories.exports(self.image):
            self.exports[export.ordinal] = export.forward
            if export.name:
                self.exports[export.name] = export.forward


class Survey:
    """Walks over a program and the DLLs it loads."""

    def __init__(self, program: str, sysroot: Sysroot) -> None:
        self.folder = os.path.dirname(os.path.abspath(program))
        self.sysroot = sysroot
        self.api_sets = ApiSets(sysroot)
        self.libraries: dict[str, Library | None] = {}
        self.needs: dict[tuple[str, str], Need] = {}
        self.unanswered = set(syscall_names(sysroot).values()) - set(SYSCALLS)
        self._files = {name.lower(): name for name in os.listdir(self.folder)}

    def run(self, program: str) -> list[Need]:
        """All needs of the program and of the DLLs that come with it, most frequent first within a kind."""
        todo = [(os.path.basename(program), read_image(program), True)]
        seen: set[str] = set()
        while todo:
            name, image, own = todo.pop()
            slots = self._imports(name, image, own)
            if own:
                self._code(name, image, slots)
            for library in list(self.libraries.values()):
                if library is not None and library.name not in seen:
                    seen.add(library.name)
                    todo.append((library.name, library.image, library.own))
        order = ("dll", "export", "syscall", "instruction", "extension")
        return sorted(self.needs.values(), key=lambda need: (order.index(need.kind), -need.count, need.name))

    def _need(self, kind: str, name: str, place: str, late: bool = False) -> Need:
        need = self.needs.setdefault((kind, name), Need(kind, name, late))
        need.late = need.late and late
        need.add(place)
        return need

    def _imports(self, name: str, image: Image, own: bool) -> dict[int, Need]:
        """Note what cannot be bound; returns the import slots of what is missing, to find their callers."""
        slots: dict[int, Need] = {}
        for late, table in ((False, directories.imports(image)), (True, directories.delay_imports(image))):
            if late and not own:
                continue  # Wine's own late imports are Wine's business
            for module, functions in table.items():
                library = self._library(module)
                if library is None:
                    self._need("dll", module, f"imported by {name}", late)
                    continue
                for function in functions:
                    key: str | int = function.name or function.ordinal
                    if not own:
                        continue
                    if not self._has(library, key, 0):
                        shown = f"{library.name}!{function.name or f'#{function.ordinal}'}"
                        slots[image.image_base + function.slot] = self._need(
                            "export", shown, f"imported by {name}", late
                        )
                    elif library.name in ("ntdll.dll", "win32u.dll") and key in self.unanswered:
                        slots[image.image_base + function.slot] = self._need(
                            "syscall", str(key), f"imported by {name}"
                        )
        return slots

    def _library(self, module: str) -> Library | None:
        name = self.api_sets.resolve(module.lower())
        if "." not in name:
            name += ".dll"
        if name not in self.libraries:
            self.libraries[name] = self._find(name)
        return self.libraries[name]

    def _find(self, name: str) -> Library | None:
        if name in self._files:
            return Library(name, os.path.join(self.folder, self._files[name]), True)
        try:
            return Library(name, self.sysroot.dll(name), False)
        except NexusError:
            return None

    def _has(self, library: Library, key: str | int, depth: int) -> bool:
        """Whether a DLL exports something, following forwards."""
        forward = library.exports.get(key)
        if forward is None or depth > 8:
            return False
        if not forward:
            return True
        module, _, function = forward.rpartition(".")
        target = self._library(module)
        wanted: str | int = int(function[1:]) if function.startswith("#") else function
        return target is not None and self._has(target, wanted, depth + 1)

    def _code(self, name: str, image: Image, slots: dict[int, Need]) -> None:
        """Decode the program's code: instructions without semantics, and uses of missing imports."""
        instruction = Instruction()
        for start, end in code_ranges(image):
            decoder = Decoder(64, image.read(start, end - start), ip=image.image_base + start)
            while decoder.can_decode:
                decoder.decode_out(instruction)
                mnemonic = instruction.mnemonic
                if mnemonic not in SEMANTICS and not instruction.is_invalid:
                    place = f"{name}+{instruction.ip - image.image_base:#x}"
                    legacy = instruction.encoding == EncodingKind.LEGACY
                    self._need("instruction" if legacy else "extension", _MNEMONICS[mnemonic].lower(), place)
                if slots and instruction.memory_base == Register.RIP:
                    need = slots.get(instruction.memory_displacement)
                    if need is not None:
                        need.add(f"used at {name}+{instruction.ip - image.image_base:#x}")


def read_image(path: str) -> Image:
    with open(path, "rb") as file:
        return pe.parse(FileBytes(os.dup(file.fileno()), os.fstat(file.fileno()).st_size))


def code_ranges(image: Image) -> Iterator[tuple[int, int]]:
    """(start, end) offsets of functions, from the exception directory, else of executable sections."""
    start, size = image.directory(pe.EXCEPTION)
    if start and size >= 12:
        table = image.read(start, size - size % 12)
        for begin, end, _ in struct.iter_unpack("<III", table):
            if begin < end <= image.size_of_image:
                yield begin, end
        return
    for section in image.sections:
        if section.characteristics & pe.SCN_EXECUTE:
            yield section.address, section.address + min(section.virtual_size, section.file_size)
