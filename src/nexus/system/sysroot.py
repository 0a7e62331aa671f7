"""The Windows DLLs a guest runs on: found on this machine, added by the user, or fetched with apt.

A sysroot is a folder of x86-64 Windows DLLs and a folder of NLS tables, unchanged from a Wine of 8.0 or
later (or a Windows). Ours live under `sysroots/` in the cache as `wine-VERSION/{windows,nls,sysroot}`; an
installed Wine is used in place. This module only finds one, in a few file system calls, because `run` does
it at every start; fetching is in `sysroot_fetch`.
"""

from __future__ import annotations

import os

from nexus.base.errors import NexusError, UsageError
from nexus.base.folders import cache_folder
from nexus.base.terminal import notice

DEFAULT_VERSION = "10.0"
TESTED = ("10.0", "8.0")
OLDEST = 8

_DLL_FOLDERS = (
    "windows",
    "x86_64-windows",
    "lib/x86_64-linux-gnu/wine/x86_64-windows",
    "lib64/wine/x86_64-windows",
    "lib/wine/x86_64-windows",
)
_NLS_FOLDERS = ("nls", "share/wine/nls")
_PREFIXES = ("", "usr", "opt/wine-stable", "opt/wine-devel", "opt/wine-staging")


class Sysroot:
    """`windows` holds the DLLs, `nls` the code page tables, `extra` (or None) DLLs that `windows` lacks."""

    __slots__ = ("extra", "nls", "origin", "version", "windows")

    def __init__(self, windows: str, nls: str, version: str, origin: str, extra: str | None = None) -> None:
        self.windows = windows
        self.nls = nls
        self.version = version
        self.origin = origin
        self.extra = extra

    def dll(self, name: str) -> str:
        """The path of a DLL; NexusError when the sysroot has none of that name."""
        for folder in (self.windows, self.extra):
            if folder is not None and os.path.exists(path := os.path.join(folder, name)):
                return path
        raise NexusError(f"{name} is missing in the sysroot {self.windows}", hint="nexus sysroot list")


def find(request: str | None = None) -> Sysroot:
    """The sysroot to run on: the requested path or version, a cached one, an installed Wine, else a fresh
    download.
    """
    if request is not None and not is_version(request):
        found = inspect(request)
        if found is None:
            raise UsageError(
                f"{request} holds no Windows DLLs (no ntdll.dll with NLS tables was found in it)",
                hint="name a folder with x86_64-windows and nls, or: nexus sysroot add PATH",
            )
        return accept(found)
    version = request or os.environ.get("NEXUS_SYSROOT", "")
    if version and not is_version(version):
        return find(version)
    found = cached(version) or installed(version)
    if found is None:
        from nexus.system.sysroot_fetch import fetch

        found = fetch(version or DEFAULT_VERSION)
    return accept(found)


def is_version(text: str) -> bool:
    return all(part.isdecimal() for part in text.split("."))


def folder() -> str:
    return os.path.join(cache_folder(), "sysroots")


def cached(version: str = "") -> Sysroot | None:
    """A sysroot of the cache: this version, else 10.0, else the newest."""
    if version:
        return load(os.path.join(folder(), f"wine-{version}"))
    preferred = load(os.path.join(folder(), f"wine-{DEFAULT_VERSION}"))
    if preferred is not None:
        return preferred
    found = everything()
    return found[-1] if found else None


def everything() -> list[Sysroot]:
    """All sysroots of the cache, oldest version first."""
    try:
        names = os.listdir(folder())
    except OSError:
        return []
    found = [load(os.path.join(folder(), name)) for name in names if not name.startswith(".")]
    return sorted(filter(None, found), key=lambda sysroot: sort_key(sysroot.version))


def load(path: str) -> Sysroot | None:
    """A finished sysroot of the cache; its file `sysroot` is written last and holds version and origin."""
    try:
        with open(os.path.join(path, "sysroot"), encoding="utf-8") as file:
            version, origin = file.read().splitlines()[:2]
    except (OSError, ValueError):
        return None
    return Sysroot(os.path.join(path, "windows"), os.path.join(path, "nls"), version, origin)


def installed(version: str = "") -> Sysroot | None:
    """A Wine of this machine, used in place; too old ones are passed over."""
    for prefix in ("/usr", "/opt/wine-stable", "/opt/wine-devel", "/opt/wine-staging", "/usr/local"):
        found = inspect(prefix)
        if found is not None and sort_key(found.version) >= (OLDEST,) and version in ("", found.version):
            return found
    return None


def inspect(path: str) -> Sysroot | None:
    """What kind of sysroot a folder is: ours, a Wine installation, an unpacked package or a System32; None
    if none.
    """
    own = load(path)
    if own is not None:
        return own
    tops = [os.path.normpath(os.path.join(path, prefix)) for prefix in _PREFIXES]
    places = [os.path.join(top, name) for top in tops for name in _DLL_FOLDERS]
    nls_places = [os.path.join(top, name) for top in tops for name in _NLS_FOLDERS] + [path]
    windows = next(
        (place for place in [path, *places] if os.path.exists(os.path.join(place, "ntdll.dll"))), None
    )
    if windows is None:
        return None
    outer = windows
    for _ in range(5):
        outer = os.path.dirname(outer)
        nls_places += [os.path.join(outer, name) for name in _NLS_FOLDERS]
    nls = next((place for place in nls_places if os.path.exists(os.path.join(place, "l_intl.nls"))), None)
    if nls is None:
        return None
    extra = next(
        (
            place
            for place in (
                os.path.join(path, "usr/x86_64-w64-mingw32/lib"),
                "/usr/x86_64-w64-mingw32/lib",
                "/usr/x86_64-w64-mingw32/sys-root/mingw/bin",
            )
            if os.path.exists(os.path.join(place, "zlib1.dll"))
        ),
        None,
    )
    return Sysroot(windows, nls, version_of(windows, nls), "used in place", extra)


def version_of(windows: str, nls: str) -> str:
    """The Wine version: from wine.inf beside the NLS tables, else from what ntdll exports."""
    try:
        with open(os.path.join(os.path.dirname(nls), "wine.inf"), encoding="utf-8", errors="replace") as file:
            head = file.read(200)
    except OSError:
        head = ""
    _, mark, rest = head.partition("Version: Wine ")
    if mark:
        return rest.split()[0]
    with open(os.path.join(windows, "ntdll.dll"), "rb") as library:
        data = library.read()
    if b"wine_get_version\0" not in data:
        return "0"
    return "10.0" if b"__wine_unixlib_handle\0" in data else "8.0"


def sort_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split("."))


def accept(sysroot: Sysroot) -> Sysroot:
    """Refuse what is too old; say once per start that an untested version is used."""
    if sysroot.version == "0":
        notice("these DLLs are not Wine's; they may ask for things that only Windows has")
    elif sort_key(sysroot.version) < (OLDEST,):
        raise NexusError(
            f"Wine {sysroot.version} in {sysroot.windows} is older than 8.0",
            hint="nexus sysroot add PATH with a newer one, or leave --sysroot out",
        )
    elif sysroot.version not in TESTED:
        notice(f"Wine {sysroot.version} is not tested with nexus (10.0 and 8.0 are)")
    return sysroot
