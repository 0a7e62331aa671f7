"""The sort versions of locales: registry values that Wine keeps in a script inside kernelbase.dll.

Only programs that compare strings by the rules of a particular language ask for them, so they are read when
the key is opened for the first time.
"""

from __future__ import annotations

import os

from nexus.loader import pe
from nexus.loader.resources import resource
from nexus.loader.source import FileBytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.cm.registry import Key

SORTING_IDS = "\\Registry\\Machine\\System\\CurrentControlSet\\Control\\Nls\\Sorting\\Ids"
_SCRIPT = "WINE_REGISTRY"


def fill_sorting_ids(key: Key, kernelbase: str) -> None:
    """Put what the DLL at host path `kernelbase` says about sorting into the key; nothing if it says
    nothing.
    """
    fd = os.open(kernelbase, os.O_RDONLY | os.O_CLOEXEC)
    try:
        script = resource(pe.parse(FileBytes(fd, os.fstat(fd).st_size)), _SCRIPT) or b""
    finally:
        os.close(fd)
    for name, text in sorting_ids(script.decode("latin-1")):
        key.set_text(name, text)


def sorting_ids(script: str) -> list[tuple[str, str]]:
    """(locale, sort version) from the script's block `Sorting { Ids = s 'default' { val 'locale' = s '...'
    } }`.
    """
    lines = iter(script.splitlines())
    for line in lines:
        if line.strip() == "Sorting":
            break
    found = []
    for line in lines:
        words = line.split("'")
        if line.strip().startswith("val ") and len(words) >= 4:
            found.append((words[1], words[3]))
        elif line.strip() == "}":
            break
    return found
