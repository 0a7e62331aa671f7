"""The host half of bcrypt.dll: keys. Hashes and random numbers are computed in the guest and never come
here.
"""

from __future__ import annotations

from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.call import Call

_NAMES = (
    "process_attach",
    "process_detach",
    "key_symmetric_vector_reset",
    "key_symmetric_set_auth_data",
    "key_symmetric_encrypt",
    "key_symmetric_decrypt",
    "key_symmetric_get_tag",
    "key_symmetric_destroy",
    "key_asymmetric_generate",
    "key_asymmetric_decrypt",
    "key_asymmetric_encrypt",
    "key_asymmetric_duplicate",
    "key_asymmetric_sign",
    "key_asymmetric_verify",
    "key_asymmetric_destroy",
    "key_asymmetric_export",
    "key_asymmetric_import",
    "key_asymmetric_derive_key",
)


def bcrypt(call: Call, number: int, parameters: int) -> int:
    """Attaching and detaching; encryption with keys is not written yet."""
    name = _NAMES[number] if number < len(_NAMES) else str(number)
    if name in ("process_attach", "process_detach"):
        return Status.SUCCESS
    raise call.unsupported(f"bcrypt's unix call {name}", "src/nexus/nt/unix/bcrypt.py")
