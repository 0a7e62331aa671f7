"""API sets: the names like api-ms-win-core-file-l1-1-0 that stand for real DLLs.

The map is the `.apiset` section of apisetschema.dll, version 6 of a format that Microsoft does not
document; the offsets are those seen in every such file. Only the part of a name before its last hyphen
counts.
"""

from __future__ import annotations

import os
import struct

from nexus.base.errors import BadImage, NexusError
from nexus.loader import pe
from nexus.loader.source import FileBytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.system.sysroot import Sysroot


class ApiSets:
    """`resolve(name)` gives the DLL behind an API set, any other name as it is."""

    def __init__(self, sysroot: Sysroot) -> None:
        self._hosts: dict[str, str] = {}
        try:
            path = sysroot.dll("apisetschema.dll")
        except NexusError:
            return
        with open(path, "rb") as file:
            image = pe.parse(FileBytes(file.fileno(), os.fstat(file.fileno()).st_size))
            for section in image.sections:
                if section.name == ".apiset":
                    self._read(image.read(section.address, section.virtual_size))

    def _read(self, data: bytes) -> None:
        version, _, _, count, entries = struct.unpack_from("<5I", data)
        if version != 6:
            raise BadImage(f"apisetschema.dll has the unknown version {version}")

        def text(offset: int, length: int) -> str:
            return data[offset : offset + length].decode("utf-16-le").lower()

        for number in range(count):
            _, name, _, hashed, values, hosts = struct.unpack_from("<6I", data, entries + 24 * number)
            if hosts:
                _, _, _, value, length = struct.unpack_from("<5I", data, values)
                self._hosts[text(name, hashed)] = text(value, length)

    def resolve(self, name: str) -> str:
        if not name.startswith(("api-", "ext-")):
            return name
        key = name.removesuffix(".dll").rpartition("-")[0]
        return self._hosts.get(key) or name
