"""Making a sysroot: from the distribution's packages, or from what the user has (folder, .deb, .rpm,
System32).

Everything is unpacked into a folder that starts with a dot and renamed when it is complete; a lock
serialises two first runs; leftovers of a killed one are removed by the next.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from nexus.base.errors import NexusError, UsageError
from nexus.base.folders import private_folder
from nexus.base.terminal import Progress, notice, progress_wanted
from nexus.system import clients, host, prng_dll, sysroot
from nexus.system.apt import Apt
from nexus.system.archives import unpack_deb, unpack_rpm
from nexus.system.sysroot import Sysroot

UNPACKED_MB = 800
_DEBIAN = {"10.0": "trixie", "8.0": "bookworm"}
_UBUNTU = {"10.0": "questing", "9.0": "noble"}


def fetch(version: str) -> Sysroot:
    """Download Wine's DLLs of this version with apt; NexusError with the next step where that is
    impossible.
    """
    with exclusive() as top:
        ready = sysroot.cached(version)
        if ready is not None:
            return ready
        apt = apt_for(version)
        if apt is None:
            raise no_apt(version)
        name, size = apt.describe("libwine")
        megabytes = size // 1_000_000
        host.require_space(top, UNPACKED_MB + megabytes, "the Windows DLLs of Wine")
        if progress_wanted():
            notice(
                f"fetching Wine's Windows DLLs, once: {name}, {megabytes} MB to download, "
                f"about {UNPACKED_MB} MB on disk"
            )
        with building(top) as partial:
            take_package(apt, "libwine", partial)
            take_package(apt, "libz-mingw-w64", partial)
            found = name.split("_")[1].partition("~")[0].partition("-")[0].partition("%")[0]
            return finish(partial, top, found, f"libwine of {apt.suite}, {name}")


def add(path: str) -> Sysroot:
    """Copy a sysroot from a folder, .deb or .rpm into the cache."""
    if not os.path.exists(path):
        raise UsageError(f"{path} does not exist")
    with exclusive() as top, building(top) as partial:
        if os.path.isdir(path):
            source = sysroot.inspect(path)
            if source is None:
                raise UsageError(
                    f"{path} holds no ntdll.dll with NLS tables",
                    hint="name the folder that holds x86_64-windows, an unpacked package or a System32",
                )
            host.require_space(top, folder_megabytes(source.windows), "this sysroot")
            with Progress("copying the sysroot") as progress:
                progress.update(source.windows)
                copy_files(source.windows, os.path.join(partial, "windows"))
                copy_files(source.nls, os.path.join(partial, "nls"), ".nls")
                if source.extra:
                    shutil.copyfile(
                        os.path.join(source.extra, "zlib1.dll"), os.path.join(partial, "windows", "zlib1.dll")
                    )
            version = source.version
        else:
            host.require_space(top, UNPACKED_MB, "this sysroot")
            unpack(path, partial)
            version = read_version(partial)
        return finish(partial, top, version, f"added from {os.path.abspath(path)}")


def remove(version: str) -> str:
    """Delete a sysroot of the cache; returns its folder."""
    target = os.path.join(sysroot.folder(), f"wine-{version.removeprefix('wine-')}")
    if os.path.basename(target) not in {
        os.path.basename(os.path.dirname(s.windows)) for s in sysroot.everything()
    }:
        raise UsageError(f"there is no sysroot {version} in the cache", hint="nexus sysroot list")
    with exclusive() as top:
        doomed = tempfile.mkdtemp(prefix=".removed-", dir=top)
        os.rename(target, os.path.join(doomed, "it"))
        shutil.rmtree(doomed)
    return target


def apt_for(version: str) -> Apt | None:
    """apt on the suite that has this Wine: Debian's by version, Ubuntu's newest for the default."""
    if "ubuntu" in host.os_release().get("ID", ""):
        suite = _UBUNTU.get(version)
        return Apt.for_this_machine(suite, ("main", "universe")) if suite else None
    suite = _DEBIAN.get(version)
    if suite is None:
        raise UsageError(
            f"Wine {version} is in no suite known here",
            hint="known are " + ", ".join(_DEBIAN) + "; others: nexus sysroot add PATH",
        )
    return Apt.for_this_machine(suite)


def no_apt(version: str) -> NexusError:
    command = host.install_command("wine")
    if host.package_manager() == "apt":
        hint = f"get a libwine package of version {version} and run: nexus sysroot add libwine.deb"
    elif command is not None:
        hint = f"{command}   (then start again; or unpack a package yourself: nexus sysroot add PATH)"
    else:
        hint = "install Wine 8.0 or newer, or: nexus sysroot add PATH (folder, .deb, .rpm or a System32)"
    return NexusError(
        "no Windows DLLs to run on: no Wine is installed and this machine has no apt archive", hint=hint
    )


def take_package(apt: Apt, package: str, partial: str) -> None:
    archive = apt.download(package, partial)
    unpack(archive, partial)
    os.remove(archive)


def unpack(archive: str, partial: str) -> None:
    """The DLLs and NLS tables of a package; the rest of it is not written."""
    with Progress("unpacking") as progress:
        progress.update(os.path.basename(archive))
        unpack_any = unpack_rpm if archive.endswith(".rpm") else unpack_deb
        if not unpack_any(archive, partial, wanted):
            raise NexusError(f"{archive} holds no x86-64 Windows DLLs")


def wanted(name: str) -> str | None:
    """Where a file of a Wine or zlib package goes in a sysroot; None for the many that are not needed."""
    above, _, base = name.rpartition("/")
    if above.endswith("/x86_64-windows") or (base == "zlib1.dll" and "x86_64-w64-mingw32" in above):
        return f"windows/{base}"
    if above.endswith("wine/nls"):
        return f"nls/{base}"
    if above.endswith("share/wine") and base == "wine.inf":
        return "wine.inf"
    return None


def read_version(partial: str) -> str:
    if not os.path.exists(os.path.join(partial, "windows", "ntdll.dll")):
        raise NexusError(
            "the package holds no ntdll.dll", hint="Debian's package is called libwine, Fedora's wine-core"
        )
    return sysroot.version_of(os.path.join(partial, "windows"), os.path.join(partial, "nls"))


def finish(partial: str, top: str, version: str, origin: str) -> Sysroot:
    """Complete a sysroot and give it its name; one of the same version is replaced."""
    for needed in ("windows/ntdll.dll", "windows/kernelbase.dll", "nls/l_intl.nls"):
        if not os.path.exists(os.path.join(partial, needed)):
            raise NexusError(f"{os.path.basename(needed)} is missing; this is not a whole Wine")
    missing = os.path.join(partial, "windows", prng_dll.NAME)
    if version != "0" and not os.path.exists(missing):
        with open(missing, "wb") as library:
            library.write(prng_dll.build())
    with open(os.path.join(partial, "sysroot"), "w", encoding="utf-8") as file:
        file.write(f"{version}\n{origin}\n")
    final = os.path.join(top, f"wine-{version}")
    if os.path.exists(final):
        os.rename(final, os.path.join(partial + ".old"))
        shutil.rmtree(partial + ".old")
    os.rename(partial, final)
    found = sysroot.load(final)
    assert found is not None
    return found


def copy_files(source: str, target: str, ending: str = "") -> None:
    os.makedirs(target)
    for entry in os.scandir(source):
        if entry.is_file() and entry.name.lower().endswith(ending):
            shutil.copyfile(entry.path, os.path.join(target, entry.name.lower()))


def folder_megabytes(path: str) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file()) // 1_000_000 + 1


@contextmanager
def building(top: str) -> Iterator[str]:
    """A fresh folder that vanishes unless it was renamed."""
    for name in os.listdir(top):
        if name.startswith("."):
            shutil.rmtree(os.path.join(top, name), ignore_errors=True)
    partial = tempfile.mkdtemp(prefix=".partial-", dir=top)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def exclusive() -> Iterator[str]:
    """The folder of all sysroots, while nobody else changes it."""
    top = private_folder("sysroots")
    with clients.exclusive(private_folder(), "sysroots.lock", "fetching a sysroot"):
        yield top
