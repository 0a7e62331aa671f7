"""What differs between the versions of the DLLs.

The only place that knows; found out from ntdll's exports.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container


class Version:
    """`machine_frames`: the Ki* dispatchers expect Windows' own stack layouts (else Wine 8's older ones).
    `unix_calls`: the number of each of ntdll's unix calls, by name. `user_thread_end`: the codes of
    NtUserCallNoParam with which user32 says that a thread ends. `pipe_overwrite`: CreatePipe asks for
    FILE_OVERWRITE_IF, which pipes do not have, and means FILE_OPEN_IF. `release_whole`: VirtualFree leaves it
    to the kernel to refuse MEM_RELEASE of a part, which NT allows. `dos_masks`: FindFirstFile passes masks on
    as its callers wrote them.
    """

    __slots__ = (
        "dos_masks",
        "machine_frames",
        "name",
        "pipe_overwrite",
        "release_whole",
        "unix_calls",
        "user_thread_end",
    )

    def __init__(
        self,
        name: str,
        machine_frames: bool,
        unix_calls: tuple[str, ...],
        user_thread_end: tuple[int, ...] = (),
        pipe_overwrite: bool = False,
        release_whole: bool = False,
        dos_masks: bool = False,
    ) -> None:
        self.dos_masks = dos_masks
        self.release_whole = release_whole
        self.pipe_overwrite = pipe_overwrite
        self.name = name
        self.user_thread_end = user_thread_end
        self.machine_frames = machine_frames
        self.unix_calls = unix_calls


WINE_8 = Version(
    "Wine 8",
    False,
    ("load_so_dll", "unwind_builtin_dll", "system_time_precise"),
    (9, 10),
    pipe_overwrite=True,
    release_whole=True,
    dos_masks=True,
)
WINE_10 = Version(
    "Wine 10",
    True,
    (
        "load_so_dll",
        "unwind_builtin_dll",
        "wine_dbg_write",
        "wine_server_call",
        "wine_server_fd_to_handle",
        "wine_server_handle_to_fd",
        "wine_spawnvp",
        "system_time_precise",
    ),
    (11, 12),
)
WINDOWS = Version("Windows", True, ())


def version_of(ntdll_exports: Container[str]) -> Version:
    """Which kind of ntdll this is."""
    if "__wine_unixlib_handle" in ntdll_exports:
        return WINE_10
    if "__wine_unix_call_dispatcher" in ntdll_exports:
        return WINE_8
    return WINDOWS
