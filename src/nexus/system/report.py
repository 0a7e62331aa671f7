"""`nexus run --report FILE`: what a run did, as JSON for other programs. The schema is
`docs/report.schema.json`.
"""

from __future__ import annotations

import hashlib
import json

from nexus import __version__
from nexus.base.errors import NexusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.ps.process import Process
    from nexus.system.windows import Machine

VERSION = 1


def write_report(
    descriptor: int, machine: Machine, process: Process | None, ended: NexusError | None, exit_code: int
) -> None:
    """Write the report into a file that was opened before the wall went up; the descriptor is closed."""
    text = json.dumps(report(machine, process, ended, exit_code), indent=1) + "\n"
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def report(
    machine: Machine, process: Process | None, ended: NexusError | None, exit_code: int
) -> dict[str, object]:
    """The report as plain values; 64-bit numbers are hexadecimal strings."""
    sysroot = machine.settings.sysroot
    return {
        "version": VERSION,
        "nexus": __version__,
        "program": {"path": machine.program, "sha256": sha256(machine.program)},
        "sysroot": {"version": sysroot.version, "path": sysroot.windows},
        "exit": {
            "code": exit_code,
            "status": None if process is None or not process.terminated else process.exit_status,
            "error": None if ended is None else str(ended),
        },
        "crash": crash(process),
        "processes": [
            {
                "id": seen.id,
                "parent": seen.parent_id,
                "image": seen.image_name,
                "status": seen.exit_status if seen.terminated else None,
                "modules": [
                    {"name": module.name, "base": f"{module.base:#x}", "size": module.size}
                    for module in seen.modules
                ],
            }
            for seen in machine.seen
        ],
        "files": [
            {"path": path, "access": kind, "sha256": sha256(path) if kind == "written" else None}
            for path, kind in sorted(machine.io.touched.items())
        ],
        "registry_writes": [
            {"action": action, "key": key, "value": value} for action, key, value in machine.io.registry.noted
        ],
        "network": sorted(machine.network.used),
        "refusals": [
            *({"kind": kind, "what": path} for path, kind in sorted(machine.io.refusals.seen.items())),
            *({"kind": "net", "what": target} for target in sorted(machine.network.refused)),
        ],
        "stubs": dict(sorted(machine.kernel.stub_counts.items())),
    }


def crash(process: Process | None) -> dict[str, object] | None:
    """Code, place, registers and calls of an unhandled exception."""
    found = process.crash if process is not None else None
    if found is None:
        return None
    return {
        "code": f"{found.code:#010x}",
        "name": found.name,
        "address": f"{found.address:#x}",
        "parameters": [f"{value:#x}" for value in found.parameters],
        "registers": [f"{value:#x}" for value in found.registers],
        "stack": list(found.where),
    }


def sha256(path: str) -> str | None:
    """The digest of a file that still exists as one, else None."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
