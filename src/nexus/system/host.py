"""What kind of Linux this is, and which command installs something on it.

Only the standard library of Python 3.11: the launcher uses it before the private environment exists.
"""

from __future__ import annotations

import os
import shlex
import shutil

from nexus.base.errors import NexusError

FAMILIES = {
    "debian": "apt",
    "ubuntu": "apt",
    "fedora": "dnf",
    "rhel": "dnf",
    "centos": "dnf",
    "arch": "pacman",
    "suse": "zypper",
    "opensuse": "zypper",
    "nixos": "nix",
}
INSTALL = {
    "apt": "sudo apt install",
    "dnf": "sudo dnf install",
    "pacman": "sudo pacman -S",
    "zypper": "sudo zypper install",
    "nix": "nix-shell -p",
}
PACKAGES = {
    "wine": {"apt": "libwine", "dnf": "wine-core", "pacman": "wine", "zypper": "wine", "nix": "wine64"},
    "pip": {
        "apt": "python3-venv",
        "dnf": "python3-pip",
        "pacman": "python-pip",
        "zypper": "python3-pip",
        "nix": "python3Packages.pip",
    },
    "certificates": {
        "apt": "ca-certificates",
        "dnf": "ca-certificates",
        "pacman": "ca-certificates",
        "zypper": "ca-certificates",
        "nix": "cacert",
    },
    "npm": {"apt": "npm", "dnf": "nodejs-npm", "pacman": "npm", "zypper": "npm-default", "nix": "nodejs"},
}

CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def has_certificates() -> bool:
    """Whether this machine can tell a genuine download server from any other."""
    return any(os.path.exists(path) for path in CERTIFICATES)


def os_release() -> dict[str, str]:
    """The fields of os-release; `NEXUS_OS_RELEASE` names another file than /etc/os-release."""
    path = os.environ.get("NEXUS_OS_RELEASE", "/etc/os-release")
    fields: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return fields
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            try:
                fields[name.strip()] = "".join(shlex.split(value))
            except ValueError:
                fields[name.strip()] = value
    return fields


def package_manager() -> str | None:
    """apt, dnf, pacman, zypper or nix, from ID and ID_LIKE; None for a distribution we do not know."""
    fields = os_release()
    for name in [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]:
        for family, manager in FAMILIES.items():
            if name == family or (family == "suse" and "suse" in name):
                return manager
    return None


def install_command(what: str) -> str | None:
    """The command that installs `what` (a key of PACKAGES) here; None when we do not know it."""
    manager = package_manager()
    if manager is None or manager not in PACKAGES[what]:
        return None
    return f"{INSTALL[manager]} {PACKAGES[what][manager]}"


def require_space(folder: str, megabytes: int, purpose: str) -> None:
    """Raise NexusError when the file system of `folder` has less than `megabytes` free."""
    existing = folder
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    free = shutil.disk_usage(existing).free // 1_000_000
    if free < megabytes:
        raise NexusError(
            f"{purpose}: {megabytes} MB are needed in {folder}, but only {free} MB are free",
            hint="free some space or set NEXUS_CACHE to a folder on another disk",
        )
