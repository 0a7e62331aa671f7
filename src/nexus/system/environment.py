"""The private Python environments: one for the core, one more for each group a command needs.

`./nexus` runs `main` with the host's Python before any environment exists, so this module and what it
imports stay within the standard library of Python 3.11. An environment is built beside its final place and
renamed; the file `current` says which one is valid and is replaced last. Being killed at any point leaves
nothing that a later start would mistake for a finished environment.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager

from nexus.base.errors import NexusError
from nexus.base.folders import CHECKOUT, cache_folder
from nexus.base.terminal import notice, progress_wanted, report_error
from nexus.system import clients, host

PROBES = {
    "core": ("iced_x86", "llvmlite"),
    "test": (
        *("pytest", "hypothesis", "mypy", "ruff", "importlinter", "unicorn", "capstone", "ziglang"),
        *("numpy", "threadpoolctl", "wgpu", "distributed", "cryptography"),
    ),
    "bench": ("unicorn", "ziglang"),
    "compute": ("numpy", "threadpoolctl", "wgpu"),
    "cluster": ("numpy", "threadpoolctl", "wgpu", "distributed", "cryptography"),
}


class Lock:
    """A hash-pinned requirement file: its path, the digest line it opens with and the announced size."""

    def __init__(self, group: str, checkout: str = CHECKOUT) -> None:
        self.group = group
        self.path = os.path.join(checkout, "locks", f"{group}.txt")
        with open(self.path, encoding="ascii") as file:
            self.line = file.readline().rstrip("\n")
            self.megabytes = int(file.readline().split()[2])

    @property
    def digest(self) -> str:
        return self.line.rpartition(" ")[2]


def main(arguments: list[str]) -> int:
    """Build the core environment: the source folder and the environments' home are the two arguments."""
    try:
        _, home = arguments
        prepare_core(home)
    except NexusError as error:
        report_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        notice("interrupted; the next start continues with what was downloaded")
        return 130
    except OSError as error:
        report_error(NexusError(f"the Python environment could not be prepared: {error}"))
        return 125
    return 0


def prepare_core(home: str) -> None:
    """Build `home`/env-... and point `home`/current at it; waits for another process doing the same."""
    lock = Lock("core")
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    with exclusive(home):
        record = [lock.line, interpreter, CHECKOUT]
        if current(home)[:3] == record and is_intact(current(home)[3], interpreter):
            return
        environment = build(home, lock, interpreter, [os.path.join(CHECKOUT, "src")])
        previous = current(home)[3:]
        write_atomically(os.path.join(home, "current"), "\n".join([*record, environment]) + "\n")
        remove_stale(home, keep={environment, *previous})


def group_python(group: str) -> str:
    """The interpreter of an environment that has `group` on top of the core, built on first need.

    An interpreter that already imports everything (a developer's own environment) is used as it is.
    """
    if all(importlib.util.find_spec(name) for name in PROBES["core"] + PROBES[group]):
        return sys.executable
    home = os.path.dirname(sys.prefix)
    if not os.path.exists(os.path.join(sys.prefix, "interpreter")):
        raise NexusError(
            f"this Python lacks what `{group}` needs",
            hint=f"start nexus through {CHECKOUT}/nexus, which installs it",
        )
    lock = Lock(group)
    environment = os.path.join(home, f"{group}-{lock.digest[:12]}-{os.path.basename(sys.prefix)}")
    interpreter = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    with exclusive(home):
        if not is_intact(environment, interpreter):
            paths = [os.path.join(CHECKOUT, "src"), sysconfig.get_path("purelib")]
            build(home, lock, interpreter, paths, environment)
    return os.path.join(environment, "bin", "python")


def build(home: str, lock: Lock, interpreter: str, paths: list[str], final: str = "") -> str:
    """Create an environment that sees `paths` and the wheels of `lock`; return its folder."""
    host.require_space(home, lock.megabytes * 5, "a Python environment")
    if progress_wanted():
        notice(f"preparing a private Python environment ({lock.group}: up to {lock.megabytes} MB, once)")
    final = final or os.path.join(home, f"env-{lock.digest[:12]}-{secrets.token_hex(4)}")
    partial = final + ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        venv.EnvBuilder(with_pip=False, symlinks=True).create(partial)
        python = os.path.join(partial, "bin", "python")
        site = glob.glob(os.path.join(glob.escape(partial), "lib", "python3.*", "site-packages"))[0]
        with open(os.path.join(site, "nexus.pth"), "w", encoding="utf-8") as file:
            file.write("\n".join(paths) + "\n")
        install(python, lock)
        marker = os.path.join(partial, "interpreter")
        with open(marker, "w", encoding="utf-8") as file:
            file.write(interpreter + "\n")
        made = os.stat(interpreter)
        os.utime(marker, ns=(made.st_mtime_ns, made.st_mtime_ns))
        shutil.rmtree(final, ignore_errors=True)
        os.rename(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def install(python: str, lock: Lock) -> None:
    """Install the wheels of a lock with pip, else with uv; the user's own index, proxy and CA settings
    apply.
    """
    with pip_command(python) as pip:
        if pip is not None:
            command = [
                *pip,
                "install",
                "--no-deps",
                "--require-hashes",
                "--only-binary=:all:",
                "--no-input",
                "--disable-pip-version-check",
                "--no-warn-script-location",
                "--no-user",
                "-r",
                lock.path,
            ]
        elif shutil.which("uv"):
            command = [
                "uv",
                "pip",
                "install",
                "--python",
                python,
                "--no-deps",
                "--require-hashes",
                "--only-binary",
                ":all:",
                "-r",
                lock.path,
            ]
        else:
            advice = host.install_command("pip") or "install pip for your Python, or uv"
            raise NexusError("this Python has no pip to set up the private environment with", hint=advice)
        run_quietly(command, f"the packages of the group {lock.group} could not be installed")


@contextmanager
def pip_command(python: str) -> Iterator[list[str] | None]:
    """How to run pip for `python`: bundled with the interpreter, from the distribution's wheel, or None."""
    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR"), "/usr/share/python-wheels"]
    bundled = importlib.util.find_spec("ensurepip")
    if bundled is not None and bundled.origin:
        folders.append(os.path.join(os.path.dirname(bundled.origin), "_bundled"))
    for folder in filter(None, folders):
        for wheel in sorted(glob.glob(os.path.join(glob.escape(folder), "pip-*.whl"))):
            yield [python, os.path.join(wheel, "pip")]
            return
    if importlib.util.find_spec("pip") is not None:
        yield [sys.executable, "-m", "pip", "--python", python]
        return
    from nexus.system.apt import Apt

    apt = Apt.for_this_machine()
    if apt is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="nexus-pip-") as scratch:
        unpacked = apt.unpack("python3-pip-whl", scratch)
        wheels = glob.glob(os.path.join(glob.escape(unpacked), "usr/share/python-wheels/pip-*.whl"))
        yield [python, os.path.join(wheels[0], "pip")] if wheels else None


def run_quietly(command: list[str], failure: str) -> None:
    """Run a command; its output goes to stderr on a terminal, and elsewhere only when it fails."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PYTHONPATH", "PYTHONHOME")
    }
    shown = progress_wanted()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.STDOUT,
            env=environment,
            check=False,
        )
    except OSError as error:
        raise NexusError(f"{failure}: {command[0]}: {error.strerror}") from None
    if done.returncode and not host.has_certificates():
        raise NexusError(
            f"{failure}: this machine has no CA certificates to check downloads with",
            hint=host.install_command("certificates") or "install the CA certificates of your distribution",
        )
    if done.returncode:
        output = (done.stdout or b"").decode(errors="replace").strip().splitlines()
        raise NexusError(
            "\n".join([failure + ":", *output[-12:]]) if output else failure,
            hint="check the network, proxy and index settings of pip, then start again",
        )


def current(home: str) -> list[str]:
    """The four lines of `current`: lock, interpreter, checkout, environment; empty when there is none."""
    try:
        with open(os.path.join(home, "current"), encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    return lines if len(lines) == 4 else []


def is_intact(environment: str, interpreter: str) -> bool:
    marker = os.path.join(environment, "interpreter")
    return (
        os.access(os.path.join(environment, "bin", "python"), os.X_OK)
        and os.path.exists(marker)
        and os.stat(marker).st_mtime_ns == os.stat(interpreter).st_mtime_ns
    )


def remove_stale(home: str, keep: set[str]) -> None:
    """Delete leftovers; the previous environment stays for processes that still run from it."""
    for name in os.listdir(home):
        path = os.path.join(home, name)
        known = any(path == kept or name.endswith("-" + os.path.basename(kept)) for kept in keep)
        ours = name.startswith(("env-", *(f"{group}-" for group in PROBES)))
        if ours and not known and os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)


def write_atomically(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@contextmanager
def exclusive(home: str) -> Iterator[None]:
    """Hold the lock of `home`; says so once when another process is preparing the same environment."""
    if home.startswith(cache_folder()):
        from nexus.base.folders import private_folder

        private_folder()
    os.makedirs(home, exist_ok=True)
    with clients.exclusive(home, "lock", "preparing this environment"):
        yield
