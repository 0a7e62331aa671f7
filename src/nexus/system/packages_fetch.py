"""Downloading a package with pip or npm as the user configured them, and unpacking it without running
anything of it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

from nexus.base.errors import BadImage, NexusError, NotFound, Unsupported
from nexus.base.folders import private_folder
from nexus.base.terminal import Progress, detail, notice, progress_wanted
from nexus.loader.runnable import check_program
from nexus.loader.source import FileBytes
from nexus.system import host
from nexus.system.archives import unpack_tgz, unpack_zip
from nexus.system.clients import exclusive, run_client
from nexus.system.packages import INDEX, Reference

NETWORK_SIGNS = (
    "Max retries exceeded",
    "NewConnectionError",
    "Temporary failure in name resolution",
    "ProxyError",
    "ConnectTimeoutError",
    "SSLError",
    "Connection broken",
    "Connection refused",
    "Read timed out",
    "ENOTFOUND",
    "ECONNREFUSED",
    "ECONNRESET",
    "EAI_AGAIN",
    "ETIMEDOUT",
    "ENETUNREACH",
    "UNABLE_TO_",
    "SELF_SIGNED_CERT",
)
DISK_SIGNS = ("No space left on device", "ENOSPC", "Disk quota exceeded")
DAMAGE_SIGNS = ("DO NOT MATCH THE HASHES", "EINTEGRITY", "is not a valid wheel", "is invalid.")


def fetch(reference: Reference) -> str:
    """Download and unpack; returns the folder of the version, which becomes `current` unless asked for."""
    packages = private_folder("packages")
    with exclusive(private_folder(), "packages.lock", "downloading a package"):
        for name in os.listdir(packages):
            if name.startswith(".partial-"):
                shutil.rmtree(os.path.join(packages, name), ignore_errors=True)
        work = tempfile.mkdtemp(prefix=".partial-", dir=packages)
        try:
            downloads, files = os.path.join(work, "downloads"), os.path.join(work, "files")
            os.mkdir(downloads)
            os.mkdir(files)
            host.require_space(packages, 200, f"the package {reference}")
            archive = (download_pypi if reference.kind == "pypi" else download_npm)(reference, downloads)
            version = unpack_pypi(archive, files) if reference.kind == "pypi" else unpack_npm(archive, files)
            write_index(files)
            top = private_folder("packages", reference.kind, os.path.basename(reference.folder))
            final = os.path.join(top, version)
            if os.path.exists(final):
                os.rename(final, os.path.join(work, "old"))
            os.rename(files, final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if not reference.version:
            temporary = os.path.join(top, ".current")
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(version + "\n")
            os.replace(temporary, os.path.join(top, "current"))
    if progress_wanted():
        notice(f"{reference.kind}:{reference.name} {version}")
    return final


def download_pypi(reference: Reference, folder: str) -> str:
    """One wheel for 64-bit Windows, by pip."""
    requirement = reference.name + (f"=={reference.version}" if reference.version else "")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--only-binary=:all:",
        "--no-deps",
        "--no-input",
        "--platform",
        "win_amd64",
        "--disable-pip-version-check",
        "-d",
        folder,
        "--",
        requirement,
    ]
    code, output = client(command, folder, reference)
    wheels = [entry.path for entry in os.scandir(folder) if entry.name.endswith(".whl")]
    if code == 0 and len(wheels) == 1:
        return wheels[0]
    raise common_failure(reference, output) or explain_pip(reference)


def explain_pip(reference: Reference) -> NexusError:
    """pip says the same for an unknown name, an unknown version and a package without wheels: ask which it
    is.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "index",
        "versions",
        "--pre",
        "--disable-pip-version-check",
        "--no-input",
        "--",
        reference.name,
    ]
    code, output = client(command, os.getcwd(), reference)
    if code:
        return common_failure(reference, output) or NotFound(
            f"there is no package {reference.name} on PyPI", hint="check the spelling of the name"
        )
    line = next((line for line in output.splitlines() if line.startswith("Available versions:")), "")
    versions = [version.strip() for version in line.partition(":")[2].split(",") if version.strip()]
    if reference.version and reference.version not in versions:
        return NotFound(
            f"{reference.name} has no version {reference.version}",
            hint="there are " + ", ".join(versions[:8]) + (", ..." if len(versions) > 8 else ""),
        )
    return BadImage(
        f"{reference} is published without a wheel for 64-bit Windows",
        hint="packages that come as source only hold no program to run; try another package or version",
    )


def download_npm(reference: Reference, folder: str) -> str:
    """One package archive, by npm, without its scripts."""
    npm = shutil.which("npm")
    if npm is None:
        raise NexusError(
            "npm: references need the npm command, which is not installed",
            hint=host.install_command("npm") or "install Node.js with npm",
        )
    wanted = f"{reference.name}@{reference.version or 'latest'}"
    command = [
        npm,
        "pack",
        "--ignore-scripts",
        "--silent",
        "--loglevel",
        "error",
        "--pack-destination",
        folder,
        "--",
        wanted,
    ]
    code, output = client(command, folder, reference)
    archives = [entry.path for entry in os.scandir(folder) if entry.name.endswith(".tgz")]
    if code == 0 and len(archives) == 1:
        return archives[0]
    if "ETARGET" in output or "No matching version" in output:
        raise NotFound(
            f"{reference.name} has no version {reference.version}", hint=f"npm view {reference.name} versions"
        )
    if "E404" in output or "404 Not Found" in output:
        raise NotFound(f"there is no package {reference.name} on npm", hint="check the spelling of the name")
    raise common_failure(reference, output) or failure(reference, output)


def client(command: list[str], folder: str, reference: Reference) -> tuple[int, str]:
    """Run pip or npm quietly in `folder`; exit code and output. Progress is the size of what arrived."""
    detail(" ".join(command))
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")
    }
    with Progress(f"fetching {reference}") as progress:
        progress.update("")

        def watch() -> None:
            here = sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder))
            if here:
                progress.bytes(here, 0)

        return run_client(command, folder, environment, watch)


def common_failure(reference: Reference, output: str) -> NexusError | None:
    """The failures pip and npm share; None when it is something about the package."""
    if any(sign in output for sign in DISK_SIGNS):
        return NexusError(
            f"the disk is full; {reference} was not downloaded",
            hint="free some space, or set NEXUS_CACHE to a folder on another disk",
        )
    if any(sign in output for sign in DAMAGE_SIGNS):
        return NexusError(
            f"what was downloaded for {reference} does not match its checksum", hint="start again"
        )
    if any(sign in output for sign in NETWORK_SIGNS):
        return NexusError(
            f"{reference} could not be downloaded: the package index does not answer",
            hint="check the network and the proxy settings; what was run before works with --offline",
        )
    return None


def failure(reference: Reference, output: str) -> NexusError:
    lines = [line for line in output.splitlines() if line.strip() and "notice" not in line]
    return NexusError("\n".join([f"{reference} could not be downloaded:", *lines[-5:]]))


def unpack_pypi(archive: str, folder: str) -> str:
    """Unpack a wheel; its version is the second part of its name."""
    unpack_zip(archive, folder, lambda name: name)
    return os.path.basename(archive).split("-")[1]


def unpack_npm(archive: str, folder: str) -> str:
    """Unpack an npm archive without its top folder; the version stands in package.json."""
    import json

    unpack_tgz(archive, folder, lambda name: name.partition("/")[2] or None)
    try:
        with open(os.path.join(folder, "package.json"), encoding="utf-8") as file:
            version = json.load(file)["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NexusError(f"the npm package has no usable package.json: {error}") from None
    if not isinstance(version, str) or "/" in version or version.startswith("."):
        raise NexusError("the npm package states no proper version")
    return version


def write_index(folder: str) -> None:
    """List every .exe of the package and why it cannot run, if so."""
    rows = []
    for place, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(".exe"):
                path = os.path.join(place, name)
                rows.append(f"{os.path.relpath(path, folder)}\t{obstacle(path)}\n")
    with open(os.path.join(folder, INDEX), "w", encoding="utf-8") as file:
        file.writelines(sorted(rows))


def obstacle(path: str) -> str:
    """Why a program cannot run here, in one line; empty when nothing in its headers speaks against it."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            check_program(FileBytes(file.fileno(), size), os.path.basename(path))
    except (BadImage, Unsupported) as error:
        return str(error).partition("\n")[0].replace("\t", " ")
    return ""
