"""What a fresh registry holds: the keys and values that Wine's DLLs and ordinary programs read.

The tables below are data: `path, {value: text or number}`. `%SystemRoot%` style texts become REG_EXPAND_SZ
where the name stands in `_EXPANDED`. Numbers are REG_DWORD, lists REG_MULTI_SZ.
"""

from __future__ import annotations

from nexus.nt.cm.registry import REG_EXPAND_SZ, REG_LINK, REG_MULTI_SZ, REG_SZ, Key, Registry
from nexus.nt.io.path import wide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Setting = str | int | list[str]

_EXPANDED = {
    "PATH",
    "TEMP",
    "TMP",
    "ComSpec",
    "windir",
    "ProgramFilesPath",
    "ProfileImagePath",
    "ProfilesDirectory",
}

_CURRENT = "Software\\Microsoft\\Windows\\CurrentVersion"
_NT = "Software\\Microsoft\\Windows NT\\CurrentVersion"
_CONTROL = "System\\ControlSet001\\Control"
_SERVICES = "System\\ControlSet001\\Services"
_IUNKNOWN = "{00000000-0000-0000-C000-000000000046}"
_CRYPTO = "Software\\Microsoft\\Cryptography"

_MACHINE: tuple[tuple[str, dict[str, Setting]], ...] = (
    (
        _CURRENT,
        {
            "ProgramFilesDir": "C:\\Program Files",
            "ProgramFilesDir (x86)": "C:\\Program Files (x86)",
            "CommonFilesDir": "C:\\Program Files\\Common Files",
            "CommonFilesDir (x86)": "C:\\Program Files (x86)\\Common Files",
            "ProgramFilesPath": "%ProgramFiles%",
            "ProductId": "00000-00000-00000-00000",
        },
    ),
    (_CURRENT + "\\App Paths", {}),
    (_CURRENT + "\\Explorer\\FolderDescriptions", {}),
    (_CURRENT + "\\Policies\\System", {"EnableLUA": 1}),
    (_CURRENT + "\\Run", {}),
    (_CURRENT + "\\Uninstall", {}),
    (
        _NT,
        {
            "CurrentVersion": "10.0",
            "CurrentBuild": "19045",
            "CurrentBuildNumber": "19045",
            "CurrentMajorVersionNumber": 10,
            "CurrentMinorVersionNumber": 0,
            "CurrentType": "Multiprocessor Free",
            "DisplayVersion": "22H2",
            "EditionID": "Professional",
            "InstallationType": "Client",
            "PathName": "C:\\windows",
            "ProductName": "Windows 10 Pro",
            "ReleaseId": "2009",
            "SystemRoot": "C:\\windows",
            "RegisteredOwner": "",
            "RegisteredOrganization": "",
            "UBR": 0,
        },
    ),
    # An empty debugger command: without one a crashing program would start winedbg.
    (_NT + "\\AeDebug", {"Auto": "1", "Debugger": ""}),
    (_NT + "\\Fonts", {}),
    (_NT + "\\FontSubstitutes", {}),
    (_NT + "\\Image File Execution Options", {}),
    (_NT + "\\IniFileMapping", {}),
    (
        _NT + "\\ProfileList",
        {"ProfilesDirectory": "C:\\users", "ProgramData": "C:\\ProgramData", "Public": "C:\\users\\Public"},
    ),
    (_NT + "\\Time Zones", {}),
    (_NT + "\\Winlogon", {}),
    (_CRYPTO, {"MachineGuid": "6e657875-7320-4c61-8000-000000000000"}),
    ("Software\\Classes\\CLSID", {}),
    ("Software\\Classes\\Interface\\" + _IUNKNOWN, {"": "IUnknown"}),
    ("Software\\Classes\\TypeLib", {}),
    ("Software\\Classes\\.exe", {"": "exefile"}),
    ("Software\\Classes\\exefile", {"": "Application"}),
    ("Software\\Classes\\Wow6432Node\\CLSID", {}),
    ("Software\\Classes\\Wow6432Node\\Interface\\" + _IUNKNOWN, {"": "IUnknown"}),
    ("Software\\Wow6432Node\\Microsoft", {}),
    ("Software\\Microsoft\\Wow64\\x86", {"": "wow64cpu.dll"}),
    ("Software\\Microsoft\\OLE", {}),
    ("Software\\Policies", {}),
    (
        "Software\\Wine\\LicenseInformation",
        {
            "Kernel-MUI-Language-Allowed": "EMPTY",
            "Kernel-MUI-Language-Disallowed": "EMPTY",
            "Kernel-MUI-Number-Allowed": 1000,
        },
    ),
    (_CONTROL, {"CurrentUser": "USERNAME", "SystemStartOptions": ""}),
    (_CONTROL + "\\ComputerName\\ActiveComputerName", {"ComputerName": "NEXUS"}),
    (_CONTROL + "\\ComputerName\\ComputerName", {"ComputerName": "NEXUS"}),
    (_CONTROL + "\\FileSystem", {"LongPathsEnabled": 1, "NtfsDisableLastAccessUpdate": 1}),
    (_CONTROL + "\\Lsa", {}),
    (_CONTROL + "\\Nls\\CodePage", {"ACP": "1252", "MACCP": "10000", "OEMCP": "437"}),
    (_CONTROL + "\\Nls\\Language", {"Default": "0409", "InstallLanguage": "0409"}),
    (_CONTROL + "\\Nls\\Language Groups", {}),
    (_CONTROL + "\\Nls\\Locale", {"": "00000409"}),
    (_CONTROL + "\\Nls\\Locale\\Alternate Sorts", {}),
    (_CONTROL + "\\Nls\\Sorting\\Ids", {"": "{00000001-57EE-1E5C-00B4-D0000BB1E11E}"}),
    (_CONTROL + "\\ProductOptions", {"ProductType": "WinNT"}),
    (_CONTROL + "\\SafeBoot", {}),
    (
        _CONTROL + "\\Session Manager",
        {"CriticalSectionTimeout": 0x278D00, "GlobalFlag": 0, "SafeDllSearchMode": 1},
    ),
    (
        _CONTROL + "\\Session Manager\\Environment",
        {
            "ComSpec": "%SystemRoot%\\system32\\cmd.exe",
            "PATH": "%SystemRoot%\\system32;%SystemRoot%;%SystemRoot%\\system32\\wbem",
            "PATHEXT": ".com;.exe;.bat;.cmd",
            "TEMP": "%SystemRoot%\\temp",
            "TMP": "%SystemRoot%\\temp",
            "windir": "%SystemRoot%",
            "OS": "Windows_NT",
            "PROCESSOR_ARCHITECTURE": "AMD64",
        },
    ),
    (_CONTROL + "\\Session Manager\\Memory Management", {}),
    (_CONTROL + "\\Terminal Server", {"TSUserEnabled": 0}),
    (
        _CONTROL + "\\TimeZoneInformation",
        {"TimeZoneKeyName": "UTC", "StandardName": "UTC", "Bias": 0, "ActiveTimeBias": 0},
    ),
    (_CONTROL + "\\Windows", {"CSDVersion": 0}),
    (
        _SERVICES + "\\Tcpip\\Parameters",
        {
            "Hostname": "nexus",
            "NV Hostname": "nexus",
            "Domain": "",
            "DataBasePath": "%SystemRoot%\\system32\\drivers\\etc",
        },
    ),
    (_SERVICES + "\\WinSock2\\Parameters", {}),
    ("System\\ControlSet001\\Hardware Profiles\\Current", {}),
    ("System\\Select", {"Current": 1, "Default": 1, "Failed": 0, "LastKnownGood": 1}),
    ("System\\Setup", {"SystemSetupInProgress": 0}),
    ("Hardware\\Description\\System", {"Identifier": "AT compatible", "SystemBiosVersion": ["NEXUS"]}),
    ("Hardware\\DeviceMap", {}),
)

_PROVIDERS = (
    ("Microsoft Base Cryptographic Provider v1.0", 1),
    ("Microsoft Enhanced Cryptographic Provider v1.0", 1),
    ("Microsoft Strong Cryptographic Provider", 1),
    ("Microsoft RSA SChannel Cryptographic Provider", 12),
    ("Microsoft Enhanced RSA and AES Cryptographic Provider", 24),
    ("Microsoft Enhanced RSA and AES Cryptographic Provider (Prototype)", 24),
)
_PROVIDER_TYPES = (
    (1, "Microsoft Strong Cryptographic Provider", "RSA Full (Signature and Key Exchange)"),
    (12, "Microsoft RSA SChannel Cryptographic Provider", "RSA SChannel"),
    (24, "Microsoft Enhanced RSA and AES Cryptographic Provider", "RSA Full and AES"),
)

_USER: tuple[tuple[str, dict[str, Setting]], ...] = (
    ("AppEvents", {}),
    ("Console", {}),
    ("Control Panel\\Desktop", {}),
    (
        "Control Panel\\International",
        {
            "Locale": "00000409",
            "LocaleName": "en-US",
            "sLanguage": "ENU",
            "sCountry": "United States",
            "iCountry": "1",
            "sList": ",",
            "sDecimal": ".",
            "sThousand": ",",
            "sGrouping": "3;0",
            "sNativeDigits": "0123456789",
            "iDigits": "2",
            "iLZero": "1",
            "iMeasure": "1",
            "iNegNumber": "1",
            "NumShape": "1",
            "sCurrency": "$",
            "sMonDecimalSep": ".",
            "sMonThousandSep": ",",
            "sMonGrouping": "3;0",
            "iCurrDigits": "2",
            "iCurrency": "0",
            "iNegCurr": "0",
            "sPositiveSign": "",
            "sNegativeSign": "-",
            "sDate": "/",
            "sTime": ":",
            "s1159": "AM",
            "s2359": "PM",
            "sShortDate": "M/d/yyyy",
            "sLongDate": "dddd, MMMM d, yyyy",
            "sShortTime": "h:mm tt",
            "sTimeFormat": "h:mm:ss tt",
            "sYearMonth": "MMMM yyyy",
            "iCalendarType": "1",
            "iFirstDayOfWeek": "6",
            "iFirstWeekOfYear": "0",
            "iPaperSize": "1",
        },
    ),
    ("Control Panel\\International\\Geo", {"Nation": "244", "Name": "US"}),
    (
        "Environment",
        {"TEMP": "%USERPROFILE%\\AppData\\Local\\Temp", "TMP": "%USERPROFILE%\\AppData\\Local\\Temp"},
    ),
    ("Software\\Classes", {}),
    (_CURRENT + "\\Explorer", {}),
    (_CURRENT + "\\Policies", {}),
    (_CURRENT + "\\Run", {}),
    (_NT, {}),
    ("Software\\Policies", {}),
    ("Software\\Wine", {}),
    ("Volatile Environment", {}),
)


def fill(registry: Registry, sid: str, user: str, processors: int, now: int) -> None:
    """Put the defaults of a machine with `processors` CPUs and one user into an empty registry."""
    root = registry.root
    machine = root.ensure("Machine")
    _settings(machine, _MACHINE)
    _settings(machine, _cryptography())
    for number in range(processors):
        _settings(
            machine,
            (
                (
                    f"Hardware\\Description\\System\\CentralProcessor\\{number}",
                    {
                        "~MHz": 2000,
                        "Identifier": "Intel64 Family 6 Model 94 Stepping 3",
                        "ProcessorNameString": "Bellum Nexus virtual x86-64 CPU",
                        "VendorIdentifier": "GenuineIntel",
                    },
                ),
            ),
        )
    _link(machine.ensure("System\\CurrentControlSet"), "\\Registry\\Machine\\System\\ControlSet001")
    _link(
        machine.ensure("Software\\Wow6432Node\\Classes"),
        "\\Registry\\Machine\\Software\\Classes\\Wow6432Node",
    )
    _link(machine.ensure(_CURRENT + "\\Time Zones"), f"\\Registry\\Machine\\{_NT}\\Time Zones")
    utc = machine.ensure(_NT + "\\Time Zones\\UTC")
    for name in ("Display", "Dlt", "Std"):
        utc.set_text(
            name, "(UTC) Coordinated Universal Time" if name == "Display" else "Coordinated Universal Time"
        )
    utc.set("TZI", 3, bytes(44))
    profile = machine.ensure(f"{_NT}\\ProfileList\\{sid}")
    profile.set_text("ProfileImagePath", f"C:\\users\\{user}", REG_EXPAND_SZ)
    users = root.ensure("User")
    for name in (sid, ".Default"):
        _settings(users.ensure(name), _USER)
    users.ensure(f"{sid}_Classes")
    users.ensure(sid).ensure("Volatile Environment").set_text("USERNAME", user)
    machine.ensure("Hardware").volatile = True
    for key in root.walk():
        key.modified = now


def _cryptography() -> Iterator[tuple[str, dict[str, Setting]]]:
    for name, kind in _PROVIDERS:
        yield f"{_CRYPTO}\\Defaults\\Provider\\{name}", {"Image Path": "rsaenh.dll", "Type": kind}
    for kind, name, description in _PROVIDER_TYPES:
        yield f"{_CRYPTO}\\Defaults\\Provider Types\\Type {kind:03d}", {"Name": name, "TypeName": description}


def _settings(
    root: Key, table: Iterator[tuple[str, dict[str, Setting]]] | tuple[tuple[str, dict[str, Setting]], ...]
) -> None:
    for path, values in table:
        key = root.ensure(path)
        for name, setting in values.items():
            if isinstance(setting, int):
                key.set_number(name, setting)
            elif isinstance(setting, list):
                key.set(name, REG_MULTI_SZ, b"".join(wide(text) + b"\0\0" for text in setting) + b"\0\0")
            else:
                key.set_text(name, setting, REG_EXPAND_SZ if name in _EXPANDED else REG_SZ)


def _link(key: Key, target: str) -> None:
    key.link = True
    key.set("SymbolicLinkValue", REG_LINK, wide(target))
