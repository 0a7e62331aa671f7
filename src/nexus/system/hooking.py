"""Hooks before a run: is there such a function? And setting them up in a machine.

What is in the sysroot or beside the program is looked up before anything starts, so that a wrong name is told
at once. Imported only where somebody hooks something.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from fnmatch import fnmatchcase

from nexus.base.errors import BadImage, UsageError
from nexus.loader import directories, pe
from nexus.loader.source import FileBytes
from nexus.nt.hook import Hook, module_key
from nexus.nt.hooks import Hooks
from nexus.system.apisets import ApiSets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nexus.nt.kernel import Kernel
    from nexus.system.sysroot import Sysroot


def install(kernel: Kernel, sysroot: Sysroot, hooks: Iterable[Hook]) -> None:
    """Let a kernel have these hooks, from the first process or from now on."""
    if kernel.hooks is None:
        kernel.hooks = Hooks(kernel, ApiSets(sysroot).resolve)
    for hook in hooks:
        kernel.hooks.add(hook, kernel.processes)


def check(hooks: Iterable[Hook], sysroot: Sysroot, program: str, folder: str) -> None:
    """Raise UsageError for a hook of a module that is neither in the sysroot nor beside the program, or of a
    function that its module does not export.
    """
    places = [sysroot.windows, *filter(None, [sysroot.extra]), os.path.dirname(program), folder]
    names: dict[str, list[str]] = {}
    for hook in hooks:
        if not hook.required or "*" in hook.module or "?" in hook.module:
            continue
        if hook.module not in names:
            is_program = module_key(os.path.basename(program)) == hook.module
            path = program if is_program else _find(hook.module, places)
            if path is None:
                raise UsageError(
                    f"cannot hook {hook.text}: no {hook.module} is in the sysroot or beside the program",
                    hint="required=False hooks it if it appears",
                )
            names[hook.module] = _exported(path)
        _check_name(hook, names[hook.module])


def _find(module: str, places: Sequence[str]) -> str | None:
    wanted = {module, module + ".dll"}
    for place in places:
        try:
            found = [name for name in os.listdir(place) if name.lower() in wanted]
        except OSError:  # a folder that is not there holds nothing
            continue
        if found:
            return os.path.join(place, found[0])
    return None


def _exported(path: str) -> list[str]:
    """Names, and ordinals as #n."""
    with open(path, "rb") as file:
        try:
            image = pe.parse(FileBytes(file.fileno(), os.fstat(file.fileno()).st_size))
            rows = directories.exports(image)
        except BadImage as error:
            raise UsageError(f"the exports of {path} cannot be read: {error}") from error
    return [row.name for row in rows if row.name] + [f"#{row.ordinal}" for row in rows]


def _check_name(hook: Hook, names: Sequence[str]) -> None:
    if any(fnmatchcase(name, hook.name) for name in names):
        return
    close = get_close_matches(hook.name, names, 1)
    raise UsageError(
        f"cannot hook {hook.text}: {hook.module} exports no {hook.name}",
        hint=f"did you mean {close[0]}?" if close else "names of exports are exact, also in case",
    )
