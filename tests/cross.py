"""Building small Windows programs for tests: by the `ziglang` wheel of the test group, else by mingw."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys

from nexus.base.folders import private_folder

_MINGW = "x86_64-w64-mingw32-"
_LIBRARIES = ("-lws2_32", "-lmswsock", "-lntdll")


def compiler(cplusplus: bool) -> list[str] | None:
    """The command that compiles for Windows, or None."""
    if importlib.util.find_spec("ziglang") is not None:
        return [
            sys.executable,
            "-m",
            "ziglang",
            "c++" if cplusplus else "cc",
            "-target",
            "x86_64-windows-gnu",
        ]
    found = shutil.which(_MINGW + ("g++" if cplusplus else "gcc"))
    return [found, "-static"] if found else None


def build(source: str) -> str:
    """The path of the .exe made from a C or C++ source file, built once per content and compiler."""
    command = compiler(source.endswith(".cpp"))
    if command is None:
        raise FileNotFoundError("no cross compiler: install the test group (ziglang) or mingw-w64")
    with open(source, "rb") as file:
        content = file.read()
    key = hashlib.sha256(repr(command).encode() + content).hexdigest()[:16]
    name = os.path.splitext(os.path.basename(source))[0]
    target = os.path.join(private_folder("guests"), f"{name}-{key}.exe")
    if os.path.exists(target):
        return target
    with open(f"{target}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(target):
            part = f"{target}.part"
            subprocess.run([*command, "-O1", "-w", "-o", part, source, *_LIBRARIES], check=True)
            os.replace(part, target)
    return target
