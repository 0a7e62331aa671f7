"""Why the loader inside the guest gave up, said by name.

ntdll ends a program whose DLLs cannot be found or loaded with nothing but a status. The program's headers,
read again, tell which part it was; where they do not, the status stays an exit code like any other.
"""

from __future__ import annotations

from nexus.base.errors import NexusError
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.system.sysroot import Sysroot

LOADER_STATUSES = (
    Status.DLL_NOT_FOUND,
    Status.ENTRYPOINT_NOT_FOUND,
    Status.ORDINAL_NOT_FOUND,
    Status.INVALID_IMAGE_FORMAT,
)
_SHOWN = 5


class MissingParts(NexusError):
    """The program was not started because DLLs or functions it is bound to are not there."""

    exit_code = 126


def missing_parts(program: str, sysroot: Sysroot, status: int) -> MissingParts | None:
    """What `program` lacks, if it ended with a status of the loader and really lacks something."""
    if status not in LOADER_STATUSES:
        return None
    from nexus.system.needs import Survey

    found = [need for need in Survey(program, sysroot).run(program) if not need.late]
    found = [need for need in found if need.kind in ("dll", "export")]
    if not found:
        return None
    lines = [f"{need.name} is missing, {need.places[0]}" for need in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more (nexus check lists them)")
    return MissingParts(
        "\n".join(lines), hint="put the missing DLLs beside the program, or get the whole of it"
    )
