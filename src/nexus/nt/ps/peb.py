"""PEB, TEB and process parameters: the structures a process finds when its first instruction runs.

Only fields that the kernel fills are named; offsets are those of the 64-bit structures (winternl.h).
"""

from __future__ import annotations

import struct

from nexus.abi.struct import Struct, span
from nexus.abi.types import u32, uptr
from nexus.nt.attributes import UNICODE_STRING
from nexus.nt.errors import NtError
from nexus.nt.mm.memory import AddressSpace, Limits
from nexus.nt.mm.vad import Region, round_up
from nexus.nt.shared_data import ADDRESS as SHARED_DATA
from nexus.nt.shared_data import BUILD, MAJOR_VERSION, MINOR_VERSION
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.loader.pe import Image
    from nexus.machine.window import Window

LOW = Limits(high=SHARED_DATA - 1)
"""TEBs and the PEB lie below the shared page, as on Windows before address randomisation."""

PEB_SIZE = 0x4000
PEB_BEING_DEBUGGED, PEB_GLOBAL_FLAG = 0x2, 0xBC
TEB_ARBITRARY_USER_POINTER = 0x28
TEB_SIZE = 0x8000
WINE_DEBUG_OPTIONS = 0x2000  # behind the PEB: struct __wine_debug_channel[], ended by an empty name

_PLATFORM_NT = 2
_HEAP = (0x100000, 0x2000, 0x10000, 0x1000)  # segment reserve, commit, decommit total, decommit block
_CRITICAL_SECTION_TIMEOUT = -(30 * 24 * 3600) * 10_000_000
_MAXIMUM_PATH_BYTES = 520

STATIC_UNICODE_STRING, STATIC_UNICODE_BUFFER, STATIC_UNICODE_BYTES = 0x1258, 0x1268, 522
TEB_DEALLOCATION_STACK, TEB_TLS_SLOTS, TEB_TLS_EXPANSION = 0x1478, 0x1480, 0x1780


class RTL_USER_PROCESS_PARAMETERS(Struct):
    AllocationSize: u32
    Size: u32
    Flags: u32
    DebugFlags: u32
    ConsoleHandle: uptr
    ConsoleFlags: u32
    hStdInput: uptr
    hStdOutput: uptr
    hStdError: uptr
    CurrentDirectory: UNICODE_STRING
    CurrentDirectoryHandle: uptr
    DllPath: UNICODE_STRING
    ImagePathName: UNICODE_STRING
    CommandLine: UNICODE_STRING
    Environment: uptr
    dwX: u32
    dwY: u32
    dwXSize: u32
    dwYSize: u32
    dwXCountChars: u32
    dwYCountChars: u32
    dwFillAttribute: u32
    dwFlags: u32
    wShowWindow: u32
    WindowTitle: UNICODE_STRING
    Desktop: UNICODE_STRING
    ShellInfo: UNICODE_STRING
    RuntimeInfo: UNICODE_STRING
    DLCurrentDirectory: bytes = span(0x20 * 24)
    EnvironmentSize: uptr
    EnvironmentVersion: uptr
    PackageDependencyData: uptr
    ProcessGroupId: u32
    LoaderThreads: u32


_STRINGS = ("DllPath", "ImagePathName", "CommandLine", "WindowTitle", "Desktop", "ShellInfo", "RuntimeInfo")
_NUMBERS = (
    "ConsoleHandle",
    "ConsoleFlags",
    "hStdInput",
    "hStdOutput",
    "hStdError",
    "dwX",
    "dwY",
    "dwXSize",
    "dwYSize",
    "dwXCountChars",
    "dwYCountChars",
    "dwFillAttribute",
    "dwFlags",
    "wShowWindow",
    "ProcessGroupId",
)
_NORMALIZED = 1
_MAX_ENVIRONMENT = 1 << 22


class Parameters:
    """Process parameters as values: what a parent hands to a child, the command line to the first program.

    `environment` holds `NAME=value` strings; `numbers` the plain fields by name (handles, window hints).
    """

    __slots__ = ("current_directory", "environment", "numbers", "strings")

    def __init__(self, image: str, command_line: str, current_directory: str, environment: list[str]) -> None:
        self.strings = dict.fromkeys(_STRINGS, "")
        self.strings["ImagePathName"] = image
        self.strings["CommandLine"] = command_line
        self.strings["WindowTitle"] = image
        self.strings["Desktop"] = "WinSta0\\Default"
        self.current_directory = current_directory
        self.environment = environment
        self.numbers: dict[str, int] = {}

    @classmethod
    def read(cls, memory: Window, address: int) -> Parameters:
        """From the RTL_USER_PROCESS_PARAMETERS a parent prepared (normalised or with offsets)."""
        raw = RTL_USER_PROCESS_PARAMETERS.read(memory, address)
        bias = 0 if raw.Flags & _NORMALIZED else address

        def text(field: UNICODE_STRING) -> str:
            if not field.Length:
                return ""
            return memory.read(field.Buffer + bias, field.Length & ~1).decode("utf-16-le", "surrogatepass")

        parameters = cls("", "", text(raw.CurrentDirectory), _read_environment(memory, raw))
        parameters.strings = {name: text(getattr(raw, name)) for name in _STRINGS}
        parameters.numbers = {name: getattr(raw, name) for name in _NUMBERS}
        return parameters

    def write(self, space: AddressSpace) -> Region:
        """Lay the parameters out in a region of their own; the guest copies them and frees it."""
        block = ("\0".join([*self.environment, "", ""]) if self.environment else "\0\0").encode(
            "utf-16-le", "surrogatepass"
        )
        texts = {name: text.encode("utf-16-le", "surrogatepass") for name, text in self.strings.items()}
        directory = self.current_directory.encode("utf-16-le", "surrogatepass")
        size = RTL_USER_PROCESS_PARAMETERS.size
        room = size + _MAXIMUM_PATH_BYTES + len(directory) + len(block)
        room += sum(len(text) + 16 for text in texts.values())
        region = space.allocate_for_kernel(round_up(room, 0x1000), name="process parameters")
        region.charged = False
        raw = RTL_USER_PROCESS_PARAMETERS(**self.numbers)
        raw.AllocationSize = region.size
        raw.Flags = _NORMALIZED
        at = region.base + size

        def place(content: bytes, maximum: int) -> UNICODE_STRING:
            nonlocal at
            string = UNICODE_STRING(Length=len(content), MaximumLength=maximum, Buffer=at)
            space.window.write(at, content)
            at += round_up(max(maximum, len(content) + 2), 8)
            return string

        raw.CurrentDirectory = place(directory, max(_MAXIMUM_PATH_BYTES, len(directory) + 2))
        for name, text in texts.items():
            # The loader takes a DllPath that is there, a C runtime a RuntimeInfo, even an empty one.
            if text or name not in ("DllPath", "RuntimeInfo"):
                setattr(raw, name, place(text, len(text) + 2))
        raw.Size = at - region.base
        raw.Environment, raw.EnvironmentSize = at, len(block)
        space.window.write(at, block)
        space.window.write(region.base, raw.pack())
        return region


def _read_environment(memory: Window, raw: RTL_USER_PROCESS_PARAMETERS) -> list[str]:
    """The strings of an environment block, which ends with an empty one."""
    if not raw.Environment:
        return []
    content = b""
    limit = raw.EnvironmentSize or _MAX_ENVIRONMENT
    while len(content) < limit:
        part = min(0x1000 - (raw.Environment + len(content)) % 0x1000, limit - len(content))
        content += memory.read(raw.Environment + len(content), part)
        text = content.decode("utf-16-le", "surrogatepass")
        end = text.find("\0\0")
        if end >= 0:
            return text[:end].split("\0") if end else []
        if len(content) > _MAX_ENVIRONMENT:
            raise NtError(Status.INVALID_PARAMETER)
    return [entry for entry in content.decode("utf-16-le", "surrogatepass").split("\0") if entry]


def write_peb(
    space: AddressSpace, image: Image, image_base: int, parameters: int, apiset: int, processors: int
) -> int:
    """The PEB and Wine's debug options behind it; returns its address."""
    region = space.allocate_for_kernel(PEB_SIZE, name="PEB", limits=LOW, top_down=True)
    window, peb = space.window, region.base
    window.w64(peb + 0x10, image_base)
    window.w64(peb + 0x20, parameters)
    window.w64(peb + 0x68, apiset)
    window.w32(peb + 0xB8, processors)
    window.write(peb + 0xC0, struct.pack("<qQQQQ", _CRITICAL_SECTION_TIMEOUT, *_HEAP))
    window.write(peb + 0x118, struct.pack("<IIHHI", MAJOR_VERSION, MINOR_VERSION, BUILD, 0, _PLATFORM_NT))
    window.write(peb + 0x128, struct.pack("<III", image.subsystem, *image.subsystem_version))
    window.w64(peb + 0x138, (1 << processors) - 1)
    window.w32(peb + 0x2C0, 1)  # SessionId
    return peb


def write_debug_options(window: Window, peb: int, options: bytes) -> None:
    """Wine's debug channels: 16 bytes each (flags, name), the last with an empty name."""
    window.write(peb + WINE_DEBUG_OPTIONS, options)


def write_teb(
    space: AddressSpace, peb: int, process_id: int, thread_id: int, stack: Region, limit: int
) -> int:
    """A thread's TEB; returns its address."""
    region = space.allocate_for_kernel(TEB_SIZE, name="TEB", limits=LOW, top_down=True)
    window, teb = space.window, region.base
    window.write(teb, struct.pack("<QQQ", 0xFFFF_FFFF_FFFF_FFFF, stack.end, limit))
    window.w64(teb + 0x30, teb)
    window.write(teb + 0x40, struct.pack("<QQ", process_id, thread_id))
    window.w64(teb + 0x60, peb)
    activation = teb + 0x290  # ACTIVATION_CONTEXT_STACK; its list of frames is empty
    window.write(activation + 8, struct.pack("<QQ", activation + 8, activation + 8))
    window.w64(teb + 0x2C8, activation)
    window.write(teb + 0x7D8, struct.pack("<QQ", process_id, thread_id))
    window.write(
        teb + STATIC_UNICODE_STRING,
        struct.pack("<HHIQ", 0, STATIC_UNICODE_BYTES, 0, teb + STATIC_UNICODE_BUFFER),
    )
    window.w64(teb + TEB_DEALLOCATION_STACK, stack.base)
    return teb
