"""How a syscall fails: it raises `NtError` with an NTSTATUS, which becomes the guest's return value."""

from __future__ import annotations

from nexus.nt.status import status_name


class NtError(Exception):
    """Ends a syscall with `status`; see `nexus.nt.status.Status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status_name(status))
        self.status = status
