"""The registry script of a sysroot, kept between runs: reading it takes half as long as a whole start.

It is written before guest code runs and its process cannot write to the cache any more, and read when a
program first asks for one of its keys.
"""

from __future__ import annotations

import marshal
import os
import zlib

from nexus.base.folders import private_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.nt.cm.registry_script import Tree
    from nexus.system.sysroot import Sysroot


def registry_script(sysroot: Sysroot) -> Callable[[], dict[str, Tree]]:
    """What reads `registry_script.read` of the sysroot's kernelbase from the cache."""
    dll = sysroot.dll("kernelbase.dll")
    info = os.stat(dll)
    name = f"{info.st_ino:x}.{info.st_mtime_ns:x}.{info.st_size:x}.registry"
    path = os.path.join(private_folder("numbers"), name)
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        content = b""
    if zlib.crc32(content[4:]).to_bytes(4, "little") != content[:4]:
        content = _write(dll, path)
    return lambda: marshal.loads(content[4:])


def _write(dll: str, path: str) -> bytes:
    from nexus.nt.cm.registry_script import read

    plain = marshal.dumps(read(dll))
    content = zlib.crc32(plain).to_bytes(4, "little") + plain
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, path)
    return content
