"""Debian and Ubuntu packages without root: a private apt configuration beside the machine's own.

The mirror, its keyring, proxies and certificates come from the machine's sources and apt.conf; only the
suite is chosen here. Lists and downloads live in the cache folder, nothing of the system is changed,
signatures are checked as apt always does. Nothing is installed: packages are unpacked as archives.
"""

from __future__ import annotations

import getpass
import glob
import os
import shutil
import time
from collections.abc import Callable

from nexus.base.errors import NexusError
from nexus.base.folders import private_folder
from nexus.base.terminal import Progress
from nexus.system import host
from nexus.system.clients import run_client

PORTAL_SIGNS = ("NOSPLIT", "does the network require authentication", "Clearsigned file isn't valid")
MISMATCH_SIGNS = ("Hash Sum mismatch", "File has unexpected size", "Mirror sync in progress")
SIGNATURE_SIGNS = (
    "NO_PUBKEY",
    "is not signed",
    "couldn't be verified",
    "Sub-process /usr/bin/sqv",
    "EXPKEYSIG",
)


class Source:
    """One line of apt's sources: where an archive is and how it is trusted."""

    def __init__(
        self, uris: list[str], suites: list[str], components: list[str], options: dict[str, str]
    ) -> None:
        self.uris = uris
        self.suites = suites
        self.components = components
        self.options = options


def read_one_line(text: str) -> list[Source]:
    """sources.list: `deb [option=value ...] URI SUITE COMPONENT ...`."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] != "deb":
            continue
        options: dict[str, str] = {}
        rest = words[1:]
        if rest and rest[0].startswith("["):
            while rest:
                word = rest.pop(0)
                name, equals, value = word.strip("[]").partition("=")
                if equals:
                    options[name.lower()] = value
                if word.endswith("]"):
                    break
        if len(rest) >= 2:
            found.append(Source([rest[0]], [rest[1]], rest[2:], options))
    return found


def read_deb822(text: str) -> list[Source]:
    """*.sources: paragraphs of `Field: value` with continuation lines; an inline key stays with its field."""
    found = []
    for paragraph in "\n".join("" if not line.strip() else line for line in text.splitlines()).split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        options: dict[str, str] = {name: fields[name] for name in ("signed-by", "trusted") if name in fields}
        found.append(
            Source(
                fields.get("uris", "").split(),
                fields.get("suites", "").split(),
                fields.get("components", "").split(),
                options,
            )
        )
    return found


def machine_sources(folder: str = "/etc/apt") -> list[Source]:
    """Every archive the machine is configured with, in apt's own order."""
    found = []
    for path in [
        os.path.join(folder, "sources.list"),
        *sorted(glob.glob(os.path.join(folder, "sources.list.d/*"))),
    ]:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        if path.endswith(".list"):
            found += read_one_line(text)
        elif path.endswith(".sources"):
            found += read_deb822(text)
    return found


def main_archive(sources: list[Source], codename: str) -> Source | None:
    """The entry that provides the distribution itself: the one whose suite is this release."""
    names = {codename, "stable", "testing", "sid", "unstable", "oldstable"} - {""}
    for source in sources:
        if (
            "main" in source.components
            and names & set(source.suites)
            and source.options.get("trusted") != "yes"
        ):
            return source
    return None


class Apt:
    """apt-get with private lists for one suite of the distribution's archive."""

    def __init__(self, archive: Source, suite: str, components: list[str], types: str = "deb") -> None:
        self.suite = suite
        self.types = types
        self.folder = private_folder("apt", suite + ("-source" if types != "deb" else ""))
        self.updated = False
        for part in ("lists/partial", "archives/partial"):
            os.makedirs(os.path.join(self.folder, part), exist_ok=True)
        self.write_configuration(archive, components)

    @classmethod
    def for_this_machine(
        cls, suite: str = "", components: tuple[str, ...] = ("main",), source: bool = False
    ) -> Apt | None:
        """apt for `suite` (default: the machine's own release); None where apt or its sources are missing.
        `source`: source packages too."""
        if not shutil.which("apt-get"):
            return None
        codename = host.os_release().get("VERSION_CODENAME", "")
        archive = main_archive(machine_sources(), codename)
        if archive is None:
            return None
        types = "deb deb-src" if source else "deb"
        return cls(archive, suite or codename or archive.suites[0], list(components), types)

    def write_configuration(self, archive: Source, components: list[str]) -> None:
        lines = [
            "Types: " + self.types,
            "URIs: " + " ".join(archive.uris),
            f"Suites: {self.suite}",
            "Components: " + " ".join(components),
            "Architectures: amd64",
        ]
        if "signed-by" in archive.options:
            lines.append("Signed-By: " + archive.options["signed-by"].lstrip())
        self.write("nexus.sources", "\n".join(lines) + "\n")
        self.write("status", "")
        user = getpass.getuser()
        self.write(
            "apt.conf",
            f"""\
Dir::State::Lists "{self.folder}/lists";
Dir::State::status "{self.folder}/status";
Dir::Cache "{self.folder}";
Dir::Cache::archives "{self.folder}/archives";
Dir::Etc::SourceList "{self.folder}/nexus.sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures "amd64";
APT::Sandbox::User "{user}";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
Acquire::Retries "2";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
""",
        )

    def write(self, name: str, text: str) -> None:
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def update(self) -> None:
        """Fetch the package lists of the suite, once per object and at most once a day."""
        stamp = os.path.join(self.folder, "updated")
        if self.updated or (os.path.exists(stamp) and time.time() - os.stat(stamp).st_mtime < 86400):
            return
        with Progress("package lists of " + self.suite) as progress:
            progress.update("")
            self.run(["update", "-o", "APT::Update::Error-Mode=any"], self.folder)
        self.write("updated", "")
        self.updated = True

    def describe(self, package: str) -> tuple[str, int]:
        """File name and download size in bytes of the package's newest version in the suite."""
        self.update()
        output = self.run(["--print-uris", "download", package], self.folder)
        for line in output.splitlines():
            words = line.split()
            if len(words) >= 3 and words[0].startswith("'") and words[2].isdecimal():
                return words[1], int(words[2])
        raise NexusError(f"the package {package} is not in the suite {self.suite}")

    def download(self, package: str, folder: str) -> str:
        """Download one package into `folder`, with progress; the path of the .deb."""
        name, size = self.describe(package)
        with Progress(f"downloading {package}") as progress:

            def watch() -> None:
                partial = max(
                    (
                        entry.stat().st_size
                        for entry in os.scandir(folder)
                        if entry.name.endswith(".deb") and entry.is_file(follow_symlinks=False)
                    ),
                    default=0,
                )
                progress.bytes(partial, size)

            self.run(["download", package], folder, watch)
        for entry in os.scandir(folder):
            if entry.name.startswith(package + "_") and entry.name.endswith(".deb"):
                if entry.stat().st_size != size:
                    raise NexusError(f"{name} was not downloaded completely", hint="start again")
                return entry.path
        raise NexusError(f"apt-get downloaded no file for {package}")

    def download_source(self, package: str, folder: str) -> None:
        """Download the archives of a source package into `folder`."""
        self.update()
        with Progress(f"downloading the source of {package}") as progress:
            progress.update("")
            self.run(["source", "--download-only", package], folder)

    def unpack(self, package: str, folder: str) -> str:
        """Download a small package and unpack all of it below `folder`."""
        from nexus.system.archives import unpack_deb

        archive = self.download(package, folder)
        target = os.path.join(folder, package)
        unpack_deb(archive, target, lambda name: name)
        os.remove(archive)
        return target

    def run(self, arguments: list[str], folder: str, watch: Callable[[], None] | None = None) -> str:
        command = ["apt-get", "-q", "-y", "-c", os.path.join(self.folder, "apt.conf"), *arguments]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        code, output = run_client(command, folder, environment, watch)
        if code:
            raise explain_failure(output, self.suite)
        return output


def explain_failure(output: str, suite: str) -> NexusError:
    """apt's messages as one short text with the next step."""

    def has(signs: tuple[str, ...]) -> bool:
        return any(sign in output for sign in signs)

    if has(PORTAL_SIGNS):
        return NexusError(
            "the network answered with a page of its own instead of the package lists",
            hint="log in to this network (captive portal) or set its proxy, then start again",
        )
    if has(MISMATCH_SIGNS):
        return NexusError(
            "what the mirror delivered does not match its checksums",
            hint="start again later; if it stays so, a proxy on the way changes downloads",
        )
    if has(SIGNATURE_SIGNS):
        return NexusError(
            f"the signature of the suite {suite} could not be checked with this machine's keys",
            hint="sudo apt install --only-upgrade debian-archive-keyring",
        )
    lines = [line for line in output.splitlines() if line.startswith(("E:", "Err:", "W:"))]
    return NexusError(
        "\n".join(["the packages could not be downloaded:", *(lines or output.splitlines())[-4:]]),
        hint="check the network and apt's sources, or use an own copy: nexus sysroot add PATH",
    )
