"""SystemFirmwareTableInformation: a small SMBIOS table that names this machine; no ACPI tables.

Layout: DMTF's System Management BIOS Reference Specification 2.4. Nothing of the host's firmware is shown.
"""

from __future__ import annotations

import struct

from nexus.nt.errors import NtError
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.pointer import Out
    from nexus.nt.call import Call

_RSMB = 0x52534D42  # 'RSMB', as a multi-character constant
_ENUMERATE, _GET = 0, 1
_HEADER = 16
_BIOS, _SYSTEM, _END = 0, 1, 127
_VENDOR, _PRODUCT, _VERSION, _DATE = "Bellum Nexus", "Virtual Machine", "1.0", "01/01/2020"


def firmware_table(call: Call, buffer: int, length: int, returned: Out[int] | None) -> None:
    """SYSTEM_FIRMWARE_TABLE_INFORMATION: which tables there are, or one of them."""
    if length < _HEADER:
        if returned is not None:
            returned.write(_HEADER)
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    provider, action = struct.unpack("<II", call.memory.read(buffer, 8))
    if provider != _RSMB or action not in (_ENUMERATE, _GET):
        if returned is not None:
            returned.write(0)
        raise NtError(Status.NOT_IMPLEMENTED)
    content = smbios() if action == _GET else bytes(4)
    call.memory.w32(buffer + 12, len(content))
    if returned is not None:
        returned.write(_HEADER + len(content))
    if length < _HEADER + len(content):
        raise NtError(Status.BUFFER_TOO_SMALL)
    call.memory.write(buffer + _HEADER, content)


def smbios() -> bytes:
    """RawSMBIOSData with BIOS, system and end-of-table structures."""
    no_controller = (0xFF, 0xFF)
    bios = struct.pack("<BBHBBQBBBBBB", 1, 2, 0xE000, 3, 0, 1 << 3, 0, 0, 1, 0, *no_controller)
    system = struct.pack("<BBBB16sBBB", 1, 2, 3, 0, bytes(16), 6, 0, 0)
    table = _structure(_BIOS, 0, bios, (_VENDOR, _VERSION, _DATE))
    table += _structure(_SYSTEM, 1, system, (_VENDOR, _PRODUCT, _VERSION))
    table += _structure(_END, 2, b"", ())
    return struct.pack("<BBBBI", 0, 2, 4, 0, len(table)) + table


def _structure(kind: int, handle: int, body: bytes, strings: tuple[str, ...]) -> bytes:
    """A structure: header, formatted area, its strings, and the empty string that ends it."""
    text = b"".join(string.encode() + b"\0" for string in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(body), handle) + body + text + b"\0"
