"""The host half of crypt32.dll: the certificates the host trusts."""

from __future__ import annotations

import binascii
import struct

from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

_NAMES = (
    "process_attach",
    "process_detach",
    "open_cert_store",
    "import_store_key",
    "import_store_cert",
    "close_cert_store",
    "enum_root_certs",
)
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def crypt32(call: Call, number: int, parameters: int) -> int:
    name = _NAMES[number] if number < len(_NAMES) else str(number)
    if name in ("process_attach", "process_detach"):
        return Status.SUCCESS
    if name == "enum_root_certs":
        return _next_root(call, parameters)
    raise call.unsupported(f"crypt32's unix call {name}", "src/nexus/nt/unix/crypt32.py")


def _next_root(call: Call, parameters: int) -> int:
    """Hand out one certificate (DER) per call; a buffer that is too small gets only the size."""
    buffer, size, needed = struct.unpack("<QIxxxxQ", call.memory.read(parameters, 24))
    io = call.kernel.io
    if io.certificates is None:
        io.certificates = host_certificates()
    if not io.certificates:
        return Status.NO_MORE_ENTRIES
    certificate = io.certificates[-1]
    call.memory.write(needed, struct.pack("<I", len(certificate)))
    if len(certificate) <= size:
        call.memory.write(buffer, certificate)
        io.certificates.pop()
    return Status.SUCCESS


def host_certificates() -> list[bytes]:
    """The host's trusted certificates as DER; none if the host has no bundle in a known place."""
    for path in BUNDLES:
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        parts = text.split("-----BEGIN CERTIFICATE-----")[1:]
        return [binascii.a2b_base64(part.split("-----END")[0]) for part in reversed(parts)]
    return []
