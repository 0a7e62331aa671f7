"""The compiled modules of a start in one file of the cache: a start imports 190 of them.

    magic, checksum and size of the index; index: name -> source, its time and size, place of its code; codes

Python's importer looks for each module in several places, opens two files for it and checks one; here it is
one `stat`, which tells whether the source is still the one that was compiled. What is not in the file, or has
changed, is imported as ever, and `keep` writes the file again. Only commands use it (`install`), never a
program that imports nexus.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib

from nexus.base.errors import NexusError
from nexus.base.folders import PACKAGE, private_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec, SourceFileLoader
    from importlib.util import spec_from_file_location
    from types import CodeType, ModuleType

    # source, compiled file, is it a package, time and size of the source; of the code: place, size, checksum
    Kept = tuple[str, str | None, bool, int, int, int, int, int]
else:  # the same without importing importlib
    from _frozen_importlib_external import SourceFileLoader, spec_from_file_location

_MAGIC = b"NXMODS01"
_HEAD = len(_MAGIC) + 8


class _Loader(SourceFileLoader):
    """Python's own, with the code from the file."""

    def get_code(self, fullname: str) -> CodeType | None:
        assert _finder is not None
        content = _finder.code(fullname)
        if content is None:
            return super().get_code(fullname)
        code: CodeType = marshal.loads(content)
        return code


class Finder:
    """Finds modules in the file; goes before Python's own finders."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.modules, self._codes = _load(path)
        self.stale = not self.modules  # whether the file should be written again

    def code(self, name: str) -> memoryview | None:
        """The marshalled code of a module; None if it is not there or damaged."""
        kept = self.modules.get(name)
        if kept is None:
            return None
        at, size, check = kept[5:]
        content = self._codes[at : at + size]
        if len(content) == size and zlib.crc32(content) == check:
            return content
        self.stale = True
        return None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        kept = self.modules.get(name)
        if kept is None:
            return None
        source, compiled, is_package, time, size = kept[:5]
        try:
            info = os.stat(source)
        except OSError:
            info = None
        if info is None or (info.st_mtime_ns, info.st_size) != (time, size):
            del self.modules[name]
            self.stale = True
            return None
        folders = [os.path.dirname(source)] if is_package else None
        spec = spec_from_file_location(
            name, source, loader=_Loader(name, source), submodule_search_locations=folders
        )
        if spec is not None:
            spec.cached = compiled
        return spec


_finder: Finder | None = None


def install() -> None:
    """Import from the file from now on, if there can be one."""
    global _finder
    if _finder is not None:
        return
    try:
        folder = private_folder("modules")
    except NexusError:  # whoever needs the cache says what is wrong with it
        return
    version = f"{sys.implementation.cache_tag}{sys.flags.optimize}"
    name = f"{version}-{zlib.crc32(PACKAGE.encode('utf-8', 'surrogateescape')):08x}"
    _finder = Finder(os.path.join(folder, name))
    sys.meta_path.insert(0, _finder)


def keep() -> None:
    """Write the file if it has to be, with what is imported now."""
    if _finder is None or not _finder.stale:
        return
    _finder.stale = False
    modules: dict[str, Kept] = {}
    codes = b""
    for name, module in list(sys.modules.items()):
        spec = module.__spec__ if name.partition(".")[0] == "nexus" else None
        if spec is None or not isinstance(spec.loader, SourceFileLoader) or spec.origin is None:
            continue
        info = os.stat(spec.origin)
        code = marshal.dumps(spec.loader.get_code(name))
        is_package = spec.submodule_search_locations is not None
        place = len(codes), len(code), zlib.crc32(code)
        modules[name] = (spec.origin, spec.cached, is_package, info.st_mtime_ns, info.st_size, *place)
        codes += code
    index = marshal.dumps(modules)
    head = zlib.crc32(index).to_bytes(4, "little") + len(index).to_bytes(4, "little")
    temporary = f"{_finder.path}.{os.getpid()}.new"
    try:
        with open(temporary, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(_MAGIC + head + index + codes)
        os.replace(temporary, _finder.path)
    except OSError:  # a full disk; the next run tries again
        if os.path.exists(temporary):
            os.unlink(temporary)


def _load(path: str) -> tuple[dict[str, Kept], memoryview]:
    """The index and all code; empty if there is no such file, or it is not what was written."""
    try:
        with open(path, "rb", buffering=0) as file:
            content = memoryview(file.read())
    except OSError:
        content = memoryview(b"")
    size = int.from_bytes(content[_HEAD - 4 : _HEAD], "little")
    index = content[_HEAD : _HEAD + size]
    if content[: _HEAD - 4] != _MAGIC + zlib.crc32(index).to_bytes(4, "little"):
        return {}, content[:0]
    modules: dict[str, Kept] = marshal.loads(index)
    return modules, content[_HEAD + size :]
