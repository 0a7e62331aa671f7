"""Who may talk to a cluster. A dask port runs any code it is sent, so only the loopback is open without keys.

A folder of keys holds one certificate, its private key and the authority that signed it. Every end shows that
certificate and demands it of the other: who has the folder belongs to the cluster.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from nexus.compute.errors import BadInput, ComputeError

AUTHORITY, CERTIFICATE, KEY = "ca.pem", "cert.pem", "key.pem"
VALID_DAYS = 365
SKEW = datetime.timedelta(days=2)
"""How far clocks of nodes may be apart: certificates are valid from this long before they were made."""


def make(folder: str) -> None:
    """Write new keys into a folder that is not there yet, readable by its owner only."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        raise BadInput(
            f"{folder} is there already", hint="keys are never overwritten: name a new folder"
        ) from None
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=VALID_DAYS)
    encoding = serialization.Encoding.PEM

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issued = x509.CertificateBuilder().issuer_name(named("nexus cluster")).not_valid_before(now - SKEW)
    issued = issued.not_valid_after(end)
    authority = (
        issued.subject_name(named("nexus cluster"))
        .public_key(root.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root.public_key()), critical=False)
        .sign(root, hashes.SHA256())
    )
    certificate = (
        issued.subject_name(named("nexus node"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
        .sign(root, hashes.SHA256())
    )
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for name, data in (
        (AUTHORITY, authority.public_bytes(encoding)),
        (CERTIFICATE, certificate.public_bytes(encoding)),
        (KEY, private),
    ):
        fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)


def security(folder: str | None) -> Any:
    """dask's Security of a folder of keys; None without one. Raises ComputeError for a folder that is not
    whole or that others can read.
    """
    if folder is None:
        return None
    from distributed.security import Security

    paths = {name: os.path.join(folder, name) for name in (AUTHORITY, CERTIFICATE, KEY)}
    for path in paths.values():
        if not os.path.isfile(path):
            raise ComputeError(f"{path} is missing", hint="nexus compute cluster keys FOLDER makes keys")
    if os.stat(paths[KEY]).st_mode & 0o077:
        raise ComputeError(f"others can read {paths[KEY]}", hint=f"chmod 600 {paths[KEY]}")
    try:
        context = ssl.create_default_context(cafile=paths[AUTHORITY])
        context.load_cert_chain(paths[CERTIFICATE], paths[KEY])
    except (ssl.SSLError, OSError) as error:
        raise ComputeError(f"the keys in {folder} cannot be used: {error}") from None
    roles = ("client", "scheduler", "worker")
    return Security(
        require_encryption=True,
        tls_ca_file=paths[AUTHORITY],
        **{f"tls_{role}_cert": paths[CERTIFICATE] for role in roles},
        **{f"tls_{role}_key": paths[KEY] for role in roles},
    )


def check_address(address: str, folder: str | None) -> str:
    """The address with its scheme. Raises BadInput for one that leaves this machine without keys."""
    if "://" not in address:
        address = f"{'tls' if folder else 'tcp'}://{address}"
    try:
        parts = urlsplit(address)
        host, port, scheme = parts.hostname, parts.port, parts.scheme
    except ValueError as error:
        raise BadInput(f"{address} is not an address: {error}") from None
    if scheme not in ("tcp", "tls") or not host or not port:
        raise BadInput(
            f"{address} is not an address", hint="an address is tcp://HOST:PORT or tls://HOST:PORT"
        )
    if scheme == "tls" and folder is None:
        raise BadInput(f"{address} needs keys", hint="--keys FOLDER with the cluster's keys")
    if scheme == "tcp":
        check_host(host, folder)
        if folder is not None:
            raise BadInput(f"{address} is not encrypted, keys are of no use there", hint="write tls://")
    return address


def check_host(host: str, folder: str | None) -> str:
    """A host to listen on. Raises BadInput for one beyond the loopback without keys."""
    if folder is None and not is_loopback(host):
        raise BadInput(
            f"{host} is not this machine alone, and whoever reaches a cluster's port can run code there",
            hint="nexus compute cluster keys FOLDER, then --keys FOLDER on every node",
        )
    return host


def is_loopback(host: str) -> bool:
    """Whether every address of a host is one of this machine's loopback."""
    try:
        found = {row[4][0] for row in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise BadInput(f"the host {host} is not known: {error}") from None
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
