"""The second wall: what the host's kernel itself forbids the process that runs guest code.

The guest is contained by its memory window and by the NT kernel written in Python. Should that fail,
Landlock still limits which files this process can reach, and seccomp which host syscalls it can make. Both
are given up for good by the process that calls `raise_wall`, so only the `nexus` command does; a Python
program that embeds nexus is not restricted behind its back. What the host does not offer is left out;
`nexus doctor` shows it.

Sources: landlock(7), seccomp(2), prctl(2); numbers are those of x86-64.
"""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1

_READ = (1 << 0) | (1 << 2) | (1 << 3)  # EXECUTE (for mapping), READ_FILE, READ_DIR
_READ_FILE_ONLY = (1 << 0) | (1 << 2)
_ALL_BY_ABI = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
_FILE_RIGHTS = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14)
_MAKE_SPECIAL = (1 << 6) | (1 << 9) | (1 << 10) | (1 << 11)  # CHAR, SOCK, FIFO, BLOCK
_NET_TCP = 0b11

_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # EPERM for what is refused
_ARCH_X86_64 = 0xC000003E
_LOAD, _EQUAL, _GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x35, 0x06
_FORBIDDEN = (
    *(59, 322),  # execve, execveat
    *(101, 312),  # ptrace, kcmp
    *(165, 166, 155, 161, 428, 429, 430, 431, 432, 433, 442),  # mounts, pivot_root, chroot
    *(272, 308),  # unshare, setns
    *(169, 167, 168, 163, 172, 173),  # reboot, swapon, swapoff, acct, iopl, ioperm
    *(175, 176, 313, 246, 320),  # kernel modules, kexec
    *(298, 321, 323, 425, 426, 427),  # perf_event_open, bpf, userfaultfd, io_uring
    *(248, 249, 250, 304, 135),  # keys, open_by_handle_at, personality
)
_NETWORK = (
    42,
    43,
    44,
    46,
    49,
    50,
    288,
    307,
)  # connect, accept, sendto, sendmsg, bind, listen, accept4, sendmmsg
_OWN_MEMORY = (310, 311)  # process_vm_readv and process_vm_writev: how guarded copies work, on ourselves only

_CACHE_PROTECTED = (
    "a run cannot change the engine; it can change translations of guest code (docs/sandbox.md)"
)
_CACHE_OPEN = "without Landlock a run that breaks out can change the engine that the next one starts"


def raise_wall(readable: Iterable[str], writable: Iterable[str], network: bool) -> None:
    """Restrict this process for good: these folders, no new programs, no peers unless `network`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return
    _landlock(libc, readable, writable, network)
    _seccomp(libc, network)


def landlock_version(libc: ctypes.CDLL | None = None) -> int:
    """The Landlock ABI of this host's kernel; 0 when there is none."""
    libc = libc or ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, 1)))


def available() -> list[tuple[str, bool, str]]:
    """(name, whether it is there, what it does) of each part of the wall on this host."""
    version = landlock_version()
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        seccomp = "Seccomp:" in file.read()
    absent = "not offered by this kernel"
    files = f"version {version}: host files are limited to the grants"
    return [
        ("no_new_privs", True, "set before guest code runs"),
        ("seccomp", seccomp, "host syscalls are filtered" if seccomp else absent),
        ("landlock", version > 0, files if version else absent),
        ("code cache", version > 0, _CACHE_PROTECTED if version else _CACHE_OPEN),
    ]


def _landlock(libc: ctypes.CDLL, readable: Iterable[str], writable: Iterable[str], network: bool) -> None:
    version = landlock_version(libc)
    if not version:
        return
    every = _ALL_BY_ABI.get(version, 0x7FFF)
    net = 0 if network or version < 4 else _NET_TCP
    attributes = struct.pack("<QQ", every, net) if version >= 4 else struct.pack("<Q", every)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return
    try:
        for path in readable:
            _add(libc, ruleset, path, _READ, every)
        for path in writable:
            _add(libc, ruleset, path, every & ~_MAKE_SPECIAL, every)
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _add(libc: ctypes.CDLL, ruleset: int, path: str, rights: int, every: int) -> None:
    """Allow `rights` beneath a path; one that does not exist needs no rule."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS & every
        rule = struct.pack("<Qi", rights & every, fd)
        libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)


def _seccomp(libc: ctypes.CDLL, network: bool) -> None:
    """Install a filter: another architecture is killed, the listed syscalls fail with EPERM, the rest
    passes.
    """
    numbers = [*_FORBIDDEN, *([] if network else _NETWORK)]
    program = [
        _bpf(_LOAD, 0, 0, 4),  # the architecture
        _bpf(_EQUAL, 1, 0, _ARCH_X86_64),
        _bpf(_RETURN, 0, 0, _KILL),
        _bpf(_LOAD, 0, 0, 0),  # the number
        _bpf(_GREATER_EQUAL, 0, 1, 0x40000000),  # the x32 table is used by nothing here
        _bpf(_RETURN, 0, 0, _DENY),
    ]
    for number in _OWN_MEMORY:
        program += [
            _bpf(_EQUAL, 0, 4, number),
            _bpf(_LOAD, 0, 0, 16),  # the process id
            _bpf(_EQUAL, 1, 0, os.getpid()),
            _bpf(_RETURN, 0, 0, _DENY),
            _bpf(_RETURN, 0, 0, _ALLOW),
        ]
    for number in numbers:
        program += [_bpf(_EQUAL, 0, 1, number), _bpf(_RETURN, 0, 0, _DENY)]
    program.append(_bpf(_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(program))
    header = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code))
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0)


def _bpf(code: int, when_true: int, when_false: int, value: int) -> bytes:
    return struct.pack("<HBBI", code, when_true, when_false, value)
