"""The environment variables a guest starts with: those of a fresh Windows, then what the user passes on."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

USER = "user"
COMPUTER = "NEXUS"
_PROFILE = f"C:\\users\\{USER}"

FOLDERS = (
    "windows",
    "windows\\system32",
    "windows\\temp",
    "Program Files",
    "Program Files (x86)",
    "ProgramData",
    f"users\\{USER}\\AppData\\Local\\Temp",
    f"users\\{USER}\\AppData\\Roaming",
    f"users\\{USER}\\Desktop",
    f"users\\{USER}\\Documents",
    "users\\Public",
)
"""What exists on a fresh C:."""


def variables(passed: Mapping[str, str], processors: int) -> list[str]:
    """`NAME=value` strings sorted as Windows sorts them; names that differ only in case are one, the last
    wins.
    """
    found = {
        "ALLUSERSPROFILE": "C:\\ProgramData",
        "APPDATA": f"{_PROFILE}\\AppData\\Roaming",
        "CommonProgramFiles": "C:\\Program Files\\Common Files",
        "COMPUTERNAME": COMPUTER,
        "ComSpec": "C:\\windows\\system32\\cmd.exe",
        "HOMEDRIVE": "C:",
        "HOMEPATH": f"\\users\\{USER}",
        "LOCALAPPDATA": f"{_PROFILE}\\AppData\\Local",
        "NUMBER_OF_PROCESSORS": str(processors),
        "OS": "Windows_NT",
        "PATH": "C:\\windows\\system32;C:\\windows",
        "PATHEXT": ".COM;.EXE;.BAT;.CMD",
        "PROCESSOR_ARCHITECTURE": "AMD64",
        "PROCESSOR_IDENTIFIER": "Intel64 Family 6 Model 94 Stepping 3, GenuineIntel",
        "PROCESSOR_LEVEL": "6",
        "PROCESSOR_REVISION": "5e03",
        "ProgramData": "C:\\ProgramData",
        "ProgramFiles": "C:\\Program Files",
        "ProgramW6432": "C:\\Program Files",
        "PUBLIC": "C:\\users\\Public",
        "SystemDrive": "C:",
        "SystemRoot": "C:\\windows",
        "TEMP": f"{_PROFILE}\\AppData\\Local\\Temp",
        "TMP": f"{_PROFILE}\\AppData\\Local\\Temp",
        "USERDOMAIN": COMPUTER,
        "USERNAME": USER,
        "USERPROFILE": _PROFILE,
        "windir": "C:\\windows",
        # Wine's DLLs ask for these two.
        "WINEHOMEDIR": f"\\??\\{_PROFILE}",
        "WINEUSERNAME": USER,
    }
    spelled = {name.upper(): name for name in found}
    for name, value in passed.items():
        if not name or "=" in name or "\0" in name + value:
            continue
        if name.upper() == "PATH" and value.startswith("/"):
            continue  # a list of host folders means nothing to the guest
        found.pop(spelled.get(name.upper(), ""), None)
        spelled[name.upper()] = name
        found[name] = value
    return [f"{name}={found[name]}" for name in sorted(found, key=str.upper)]
