"""The errors a user or a caller of the library can meet.

Every message says what happened, where, and what to do next. Whatever reaches the command line as a
`NexusError` is printed as one short text and becomes an exit code; anything else is a bug of ours.
"""

from errno import EDQUOT, EMFILE, ENFILE, ENOSPC

_FULL = "free some space, or set NEXUS_CACHE to a folder on another disk"
_FILES = "raise the limit with: ulimit -n"
_HINTS = {ENOSPC: _FULL, EDQUOT: _FULL, EMFILE: _FILES, ENFILE: _FILES}


class NexusError(Exception):
    """Something the user should read. `exit_code` is what the command line ends with."""

    exit_code = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unsupported(NexusError):
    """The guest asked for something not written yet: `what`, needed by `where`, belongs into `file`."""

    exit_code = 126

    def __init__(self, what: str, where: str = "", file: str = "") -> None:
        self.what, self.where, self.file = what, where, file
        message = f"{what} is not implemented"
        if where:
            message += f" (needed at {where})"
        super().__init__(message, hint=f"to add it, extend {file}" if file else "")


class BadImage(NexusError):
    """A file is not a program that can run here; the message names what it is instead."""

    exit_code = 126


class NotFound(NexusError):
    """The program, package or version that was asked for does not exist."""

    exit_code = 127


class UsageError(NexusError):
    """The command line is wrong."""

    exit_code = 2


class NotReversible(NexusError):
    """A machine cannot be saved: it holds something whose state the host keeps and cannot put back."""


class GuestFault(Exception):
    """A guarded copy met guest memory that is not accessible.

    `address` is the first guest address that failed (64-bit, as the guest wrote it); `write` tells the
    direction. At the syscall boundary this becomes STATUS_ACCESS_VIOLATION.
    """

    def __init__(self, address: int, write: bool) -> None:
        super().__init__(f"guest memory at {address:#x} cannot be {'written' if write else 'read'}")
        self.address = address
        self.write = write


def host_failed(error: OSError) -> NexusError:
    """A host failure that no one below expected: what failed and on which file, without a traceback."""
    place = f"{error.filename}: " if error.filename else ""
    return NexusError(f"{place}{error.strerror or error}", hint=_HINTS.get(error.errno or 0, ""))
