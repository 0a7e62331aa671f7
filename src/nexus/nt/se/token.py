"""Access tokens: one ordinary, unelevated user without enabled dangerous privileges."""

from __future__ import annotations

import struct

from nexus.nt import access
from nexus.nt.objects import KernelObject, ObjectType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.kernel import Kernel

TOKEN_PRIMARY = 1
TOKEN_IMPERSONATION = 2

SE_PRIVILEGE_ENABLED_BY_DEFAULT = 0x1
SE_PRIVILEGE_ENABLED = 0x2
SE_GROUP_MANDATORY = 0x1
SE_GROUP_ENABLED_BY_DEFAULT = 0x2
SE_GROUP_ENABLED = 0x4
SE_GROUP_OWNER = 0x8
SE_GROUP_INTEGRITY = 0x20
SE_GROUP_INTEGRITY_ENABLED = 0x40
SE_GROUP_LOGON_ID = 0xC000_0000
_ENABLED_GROUP = SE_GROUP_MANDATORY | SE_GROUP_ENABLED_BY_DEFAULT | SE_GROUP_ENABLED


def sid(authority: int, *parts: int) -> bytes:
    """A SID, S-1-authority-parts."""
    return struct.pack(">BBHI", 1, len(parts), authority >> 32, authority & 0xFFFF_FFFF) + struct.pack(
        f"<{len(parts)}I", *parts
    )


DOMAIN = (21, 0, 0, 0)  # the domain Wine's DLLs know as the local one
USER_SID = sid(5, *DOMAIN, 1000)
PRIMARY_GROUP_SID = sid(5, *DOMAIN, 513)
EVERYONE_SID = sid(1, 0)
LOCAL_SID = sid(2, 0)
INTERACTIVE_SID = sid(5, 4)
AUTHENTICATED_USERS_SID = sid(5, 11)
ADMINISTRATORS_SID = sid(5, 32, 544)
USERS_SID = sid(5, 32, 545)
LOGON_SID = sid(5, 5, 0, 0)
MEDIUM_INTEGRITY_SID = sid(16, 0x2000)

PRIVILEGES = {
    5: 0,  # SeIncreaseQuotaPrivilege
    17: 0,  # SeBackupPrivilege: what it would open is refused by the grants anyway; saving hives asks for it
    18: 0,  # SeRestorePrivilege
    19: 0,  # SeShutdownPrivilege
    23: SE_PRIVILEGE_ENABLED | SE_PRIVILEGE_ENABLED_BY_DEFAULT,  # SeChangeNotifyPrivilege
    25: 0,  # SeUndockPrivilege
    33: 0,  # SeIncreaseWorkingSetPrivilege
    34: 0,  # SeTimeZonePrivilege
}


class Token(KernelObject):
    """User, groups with their attributes, privileges (LUID -> attributes) and the default DACL."""

    type = ObjectType(
        "Token",
        read=access.TOKEN_QUERY | access.TOKEN_QUERY_SOURCE | access.TOKEN_DUPLICATE,
        write=access.TOKEN_ADJUST_PRIVILEGES
        | access.TOKEN_ADJUST_GROUPS
        | access.TOKEN_ADJUST_DEFAULT
        | access.TOKEN_ADJUST_SESSIONID,
        execute=access.TOKEN_IMPERSONATE | access.TOKEN_ASSIGN_PRIMARY,
        all=access.STANDARD_RIGHTS_REQUIRED | 0x1FF,
        more=access.SYNCHRONIZE,
    )
    waitable = False

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.id = kernel.new_luid()
        self.modified_id = kernel.new_luid()
        self.kind = TOKEN_PRIMARY
        self.impersonation_level = 0
        self.elevated = False
        self.user = USER_SID
        self.owner = USER_SID
        self.primary_group = PRIMARY_GROUP_SID
        self.integrity = MEDIUM_INTEGRITY_SID
        self.session = 1
        self.groups: list[tuple[bytes, int]] = [
            (PRIMARY_GROUP_SID, _ENABLED_GROUP),
            (EVERYONE_SID, _ENABLED_GROUP),
            (LOCAL_SID, _ENABLED_GROUP),
            (INTERACTIVE_SID, _ENABLED_GROUP),
            (AUTHENTICATED_USERS_SID, _ENABLED_GROUP),
            (USERS_SID, _ENABLED_GROUP),
            (LOGON_SID, _ENABLED_GROUP | SE_GROUP_LOGON_ID),
        ]
        self.privileges = dict(PRIVILEGES)
        self.default_dacl = default_dacl()
        self.source = b"User32 \0"

    def duplicate(self, kind: int, level: int, enabled_only: bool) -> Token:
        """A copy with its own identity."""
        copy = Token(self.kernel)
        copy.kind, copy.impersonation_level = kind, level
        copy.elevated, copy.session, copy.integrity = self.elevated, self.session, self.integrity
        copy.user, copy.owner, copy.primary_group = self.user, self.owner, self.primary_group
        copy.groups = list(self.groups)
        copy.privileges = {
            luid: attributes
            for luid, attributes in self.privileges.items()
            if attributes & SE_PRIVILEGE_ENABLED or not enabled_only
        }
        copy.default_dacl = self.default_dacl
        return copy


def default_dacl() -> bytes:
    """Full access for the user and for the system."""
    entries = [USER_SID, sid(5, 18)]
    aces = b"".join(struct.pack("<BBHI", 0, 0, 8 + len(s), access.GENERIC_ALL) + s for s in entries)
    return struct.pack("<BBHHH", 2, 0, 8 + len(aces), len(entries), 0) + aces
