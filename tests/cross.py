"""Building small Windows programs for tests: by the `ziglang` wheel of the test group, else by mingw-w64."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys

import runtime
from nexus.base.folders import private_folder

_MINGW = "x86_64-w64-mingw32-"
_LIBRARIES = ("-lws2_32", "-lmswsock", "-ladvapi32", "-lntdll")


def compiler() -> str | None:
    """ "zig" or "mingw", or None where there is neither."""
    if importlib.util.find_spec("ziglang") is not None:
        return "zig"
    return "mingw" if shutil.which(_MINGW + "g++") else None


def build(source: str) -> str:
    """The path of the .exe made from a C or C++ source file, built once per content and compiler."""
    chosen = compiler()
    if chosen is None:
        raise FileNotFoundError("no cross compiler: install the test group (ziglang) or mingw-w64")
    with open(source, "rb") as file:
        content = file.read()
    key = hashlib.sha256(chosen.encode() + content).hexdigest()[:16]
    name = os.path.splitext(os.path.basename(source))[0]
    target = os.path.join(private_folder("guests"), f"{name}-{key}.exe")
    if os.path.exists(target):
        return target
    with open(f"{target}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(target):
            part = f"{target}.part"
            (_by_zig if chosen == "zig" else _by_mingw)(source, part)
            os.replace(part, target)
    return target


def _by_mingw(source: str, target: str) -> None:
    command = _MINGW + ("g++" if source.endswith(".cpp") else "gcc")
    subprocess.run([command, "-static", "-O1", "-w", "-o", target, source, *_LIBRARIES], check=True)


def _by_zig(source: str, target: str) -> None:
    """Compiled and linked in two steps: in one, zig would build its whole C library first."""
    library = _runtime()
    zig = [sys.executable, "-m", "ziglang"]
    compiled = f"{target}.o"
    kind = "c++" if source.endswith(".cpp") else "cc"
    subprocess.run(
        [*zig, kind, *runtime.TARGET, "-O1", "-w", "-fno-sanitize=all", "-c", "-o", compiled, source],
        check=True,
    )
    parts = (compiled, os.path.join(library, runtime.START), os.path.join(library, runtime.LIBRARY))
    subprocess.run(
        [
            *(*zig, "cc", *runtime.TARGET, "-O1", "-nostdlib", "-Wl,-e,mainCRTStartup", "-o", target),
            *(*parts, *_LIBRARIES, "-lkernel32", "-lucrtbase"),
        ],
        check=True,
    )
    os.remove(compiled)


def _runtime() -> str:
    """The folder with the run-time library, built once per version of zig and of its list."""
    wheel = importlib.util.find_spec("ziglang")
    assert wheel is not None and wheel.origin is not None
    with open(runtime.__file__, "rb") as file:
        key = hashlib.sha256(importlib.metadata.version("ziglang").encode() + file.read()).hexdigest()[:16]
    folder = private_folder("guests", f"runtime-{key}")
    with open(os.path.join(folder, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not runtime.ready(folder):
            runtime.build(os.path.join(os.path.dirname(wheel.origin), "lib"), folder)
    return folder
