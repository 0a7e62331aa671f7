"""The syscall numbers of a sysroot, kept between runs: scanning the exports of two DLLs costs more than
reading a list.
"""

from __future__ import annotations

import os

from nexus.base.folders import private_folder
from nexus.nt.numbers import scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.system.sysroot import Sysroot

_DLLS = ("ntdll.dll", "win32u.dll")


def syscall_names(sysroot: Sysroot) -> dict[int, str]:
    """Number to name for every syscall stub of ntdll and win32u."""
    paths = [sysroot.dll(name) for name in _DLLS]
    key = "-".join(f"{info.st_ino:x}.{info.st_mtime_ns:x}.{info.st_size:x}" for info in map(os.stat, paths))
    path = os.path.join(private_folder("numbers"), key)
    try:
        with open(path, encoding="ascii") as file:
            rows = file.read().split()
    except FileNotFoundError:
        names = {number: name for dll in paths for number, name in _scan(dll).items()}
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="ascii") as file:
            file.writelines(f"{number} {name}\n" for number, name in sorted(names.items()))
        os.replace(temporary, path)
        return names
    return {int(number): name for number, name in zip(rows[::2], rows[1::2], strict=True)}


def _scan(path: str) -> dict[int, str]:
    from nexus.loader import directories, pe

    with open(path, "rb") as file:
        image = pe.parse(file.read())
    exports = directories.export_addresses(image)
    starts: dict[int, bytes] = {}
    for address in exports.values():
        section = image.section_at(address)
        inside = section is not None and section.characteristics & pe.SCN_EXECUTE
        starts[address] = image.read(address, 8) if inside else b""
    return scan(exports, starts)
