"""The C and C++ run-time libraries of the programs that tests build, from the sources in the `ziglang` wheel.

Asked for a Windows program, zig first compiles the whole of mingw's C library and libc++, which takes a cold
machine four minutes. These are the files that our programs need, in a few seconds; everything else comes from
the guest's ucrtbase.dll. A program that needs more fails to link: its missing symbol is in one more file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

TARGET = ("-target", "x86_64-windows-gnu")
START = "crtexe.o"
LIBRARY = "libruntime.a"
FLAGS = ("-O1", "-w", "-c", "-fno-sanitize=all")

_C = {
    "crt": "crtexe CRT_fp10 _newmode cinitexe crt_handler dllargv gccmain merr mingw_helpers natstart pesect "
    "pseudo-reloc tlsmcrt tlssup tlsthrd usermatherr wildcard xncommod xthdloc xtxtmode",
    "misc": "__initenv __p___initenv mingw_matherr ucrt__getmainargs ucrt_amsg_exit",
    "stdio": "ucrt___local_stdio_printf_options ucrt_fprintf ucrt_printf ucrt_snprintf ucrt_sprintf "
    "ucrt_vfprintf ucrt_vsnprintf",
}
_C_FLAGS = (
    *("-std=gnu11", "-DHAVE_CONFIG_H", "-D_CRTBLD", "-D_SYSCRT=1", "-DCRTDLL=1"),
    *("-D__USE_MINGW_ANSI_STDIO=0", "-D__MSVCRT_VERSION__=0xE00", "-D_WIN32_WINNT=0x0f00"),
)

_CXX = {
    "libcxxabi/src": "abort_message cxa_default_handlers cxa_demangle cxa_exception cxa_exception_storage "
    "cxa_guard cxa_handlers cxa_personality cxa_virtual fallback_malloc private_typeinfo stdlib_exception "
    "stdlib_new_delete stdlib_stdexcept stdlib_typeinfo",
    "libcxx/src": "chrono exception stdexcept support/win32/thread_win32",
}
_CXX_FLAGS = (
    *("-std=c++23", "-fvisibility=hidden", "-D_LIBCPP_BUILDING_LIBRARY", "-D_LIBCXXABI_BUILDING_LIBRARY"),
    *("-DLIBCXX_BUILDING_LIBCXXABI", "-D_LIBCPP_DISABLE_EXTERN_TEMPLATE"),
    *("-D_LIBCPP_DISABLE_VISIBILITY_ANNOTATIONS", "-D_LIBCXXABI_DISABLE_VISIBILITY_ANNOTATIONS"),
)

_UNWIND = ("Unwind-seh.cpp", "libunwind.cpp", "UnwindLevel1.c", "UnwindRegistersSave.S")
_UNWIND_FLAGS = ("-fno-exceptions", "-fno-rtti", "-D_LIBUNWIND_IS_NATIVE_ONLY", "-D_LIBUNWIND_HIDE_SYMBOLS")

# What a function with a frame of more than a page calls: rax bytes below its caller's rsp are touched, page
# by page and from the top, so that the stack's guard page is met. It keeps all registers.
_PROBE = """
    .globl ___chkstk_ms
___chkstk_ms:
    push %rcx
    push %rax
    lea 24(%rsp), %rcx
1:  cmp $4096, %rax
    jb 2f
    sub $4096, %rcx
    orl $0, (%rcx)
    sub $4096, %rax
    jmp 1b
2:  sub %rax, %rcx
    orl $0, (%rcx)
    pop %rax
    pop %rcx
    ret
"""


def build(sources: str, folder: str) -> None:
    """Put START and LIBRARY into a folder; `sources` is the folder `lib` of the wheel.

    The library appears last, so a folder that has it is complete. Raises CalledProcessError with the
    compiler's words on the terminal.
    """
    os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
        probe = os.path.join(scratch, "probe.S")
        with open(probe, "w", encoding="ascii") as file:
            file.write(_PROBE)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(
                pool.map(lambda job: _compile(scratch, *job), [*_jobs(sources), ("cc", probe, ())])
            )
        library = os.path.join(scratch, LIBRARY)
        subprocess.run([sys.executable, "-m", "ziglang", "ar", "rcs", library, *objects[1:]], check=True)
        os.replace(objects[0], os.path.join(folder, START))
        os.replace(library, os.path.join(folder, LIBRARY))


def ready(folder: str) -> bool:
    """Whether a folder has what `build` makes."""
    return os.path.exists(os.path.join(folder, LIBRARY))


def _jobs(top: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """(compiler, file, flags) of everything, the program's start first."""
    mingw, abi, cxx, unwind = (
        f"{top}/{name}" for name in ("libc/mingw", "libcxxabi", "libcxx/src", "libunwind")
    )
    c_flags = (*_C_FLAGS, f"-I{mingw}/include")
    cxx_flags = (*_CXX_FLAGS, f"-I{cxx}", f"-I{abi}/include", f"-I{abi}/src")
    unwind_flags = (*_UNWIND_FLAGS, f"-I{unwind}/include")
    return [
        *(("cc", f"{mingw}/{place}/{name}.c", c_flags) for place in _C for name in _C[place].split()),
        *(("c++", f"{top}/{place}/{name}.cpp", cxx_flags) for place in _CXX for name in _CXX[place].split()),
        *(("cc", f"{unwind}/src/{name}", unwind_flags) for name in _UNWIND),
    ]


def _compile(folder: str, command: str, source: str, flags: tuple[str, ...]) -> str:
    base, ending = os.path.splitext(os.path.basename(source))
    target = os.path.join(folder, f"{base}.o")
    if ending == ".S":
        flags = tuple(flag for flag in flags if flag.startswith("-I"))
    subprocess.run(
        [sys.executable, "-m", "ziglang", command, *TARGET, *FLAGS, *flags, "-o", target, source], check=True
    )
    return target
