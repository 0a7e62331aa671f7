"""What can go wrong in a job. After any of these the engine can be used again."""

from __future__ import annotations

from nexus.base.errors import NexusError


class ComputeError(NexusError):
    """A job could not be finished."""


class BadInput(ComputeError):
    """The arguments make no job: shapes that do not match, no elements, NaN or Inf, an unknown type."""


class DeviceLost(ComputeError):
    """A device went away or stopped answering."""


class OutOfDeviceMemory(ComputeError):
    """A device could not hold its part, or no tile of the problem fits into the memory allowed."""


class WrongResult(ComputeError):
    """A device returned numbers that the check refuted, and no other device could repeat the work."""
