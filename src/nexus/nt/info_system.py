"""The information classes of NtQuerySystemInformation and NtQuerySystemInformationEx."""

from __future__ import annotations

import os
import struct
import time

from nexus.nt.errors import NtError
from nexus.nt.info_firmware import firmware_table
from nexus.nt.information import AT_LEAST, EXACT, Answer, deliver, processor_time, refuse
from nexus.nt.mm.vad import GRANULARITY, LOWEST, PAGE
from nexus.nt.ps.info_process import device_path
from nexus.nt.ps.info_process_list import handle_list, handle_list_ex, process_list
from nexus.nt.ps.process import Process
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.abi.pointer import Out
    from nexus.nt.call import Call

FILE = "src/nexus/nt/info_system.py"
TIME_OF_DAY, PROCESSES, INTERRUPT, EXTENDED_PROCESSES, PROCESS_ID, WINE_VERSION = 3, 5, 23, 57, 88, 1000
PROCESSOR_PERFORMANCE, FIRMWARE_TABLE, BRAND = 8, 76, 105
IDLE_CYCLES, LOGICAL_PROCESSORS_EX, CPU_SETS, ARCHITECTURES = 83, 107, 175, 181

CLOCK_INTERVAL = 156250
_ARCHITECTURE_INTEL, _ARCHITECTURE_AMD64, _LEVEL, _REVISION = 0, 9, 6, 0x5E03
_MACHINE_AMD64 = 0x8664
_BRAND = b"Bellum Nexus x86-64 processor"
_CACHE_LINE = 64
_RELATION_CORE, _RELATION_NUMA_NODE, _RELATION_CACHE, _RELATION_PACKAGE, _RELATION_GROUP = range(5)
_RELATION_ALL = 0xFFFF
_CACHES = ((1, 32 << 10, 2), (1, 32 << 10, 1), (2, 512 << 10, 0), (3, 8 << 20, 0))  # level, size, kind
_FEATURE_BITS = 0x0000_0000_0001_3FFF


def query_system(call: Call, kind: int, buffer: int, length: int, returned: Out[int] | None) -> None:
    """NtQuerySystemInformation."""
    if kind == INTERRUPT:
        _random(call, buffer, length, returned)
    elif kind == TIME_OF_DAY:
        _time_of_day(call, buffer, length, returned)
    elif kind == PROCESS_ID:
        _process_id(call, buffer, length, returned)
    elif kind == WINE_VERSION:
        _wine_version(call, buffer, length, returned)
    elif kind == FIRMWARE_TABLE:
        firmware_table(call, buffer, length, returned)
    elif kind == PROCESSOR_PERFORMANCE:
        _processor_performance(call, buffer, length, returned)
    elif kind in (PROCESSES, EXTENDED_PROCESSES):
        content = process_list(call, buffer, extended=kind == EXTENDED_PROCESSES)
        deliver(call, content, AT_LEAST, buffer, length, returned)
    elif kind == IDLE_CYCLES:
        _deliver_or_too_small(call, _idle_cycles(call), buffer, length, returned)
    elif kind == CPU_SETS:
        raise NtError(Status.INVALID_PARAMETER)  # it needs the input that only the Ex call takes
    elif kind == BRAND and buffer % 4:
        raise NtError(Status.DATATYPE_MISALIGNMENT)
    elif kind in _HANDLE_LISTS:
        _handles(call, kind, buffer, length, returned)
    else:
        answer = _CLASSES.get(kind)
        if answer is None:
            raise refuse(call, "NtQuerySystemInformation", kind, (), FILE)
        deliver(call, answer.function(call), answer.rule, buffer, length, returned)


def query_system_ex(
    call: Call, kind: int, query: int, query_length: int, buffer: int, length: int, returned: Out[int] | None
) -> None:
    """NtQuerySystemInformationEx: the classes that take an input."""
    if kind == LOGICAL_PROCESSORS_EX:
        if not query or query_length < 4:
            raise NtError(Status.INVALID_PARAMETER)
        content = _logical_processors_ex(call, call.memory.u32(query))
        deliver(call, content, AT_LEAST, buffer, length, returned)
    elif kind == IDLE_CYCLES:
        if not query or query_length < 2 or call.memory.u16(query):
            raise NtError(Status.INVALID_PARAMETER)
        _deliver_or_too_small(call, _idle_cycles(call), buffer, length, returned)
    elif kind in (ARCHITECTURES, CPU_SETS):
        if not query or query_length < 8:
            raise NtError(Status.INVALID_PARAMETER)
        handle = call.memory.u64(query)
        if handle:
            call.process.handles.resolve(handle, Process, 0)
        content = _cpu_sets(call) if kind == CPU_SETS else _architectures(bool(handle))
        _deliver_or_too_small(call, content, buffer, length, returned)
    else:
        raise refuse(call, "NtQuerySystemInformationEx", kind, (), FILE, Status.NOT_IMPLEMENTED)


def _deliver_or_too_small(
    call: Call, content: bytes, buffer: int, length: int, returned: Out[int] | None
) -> None:
    if length < len(content):
        if returned is not None:
            returned.write(len(content))
        raise NtError(Status.BUFFER_TOO_SMALL)
    if content and not buffer:
        raise NtError(Status.ACCESS_VIOLATION)
    deliver(call, content, AT_LEAST, buffer, length, returned)


# classes with rules of their own -------------------------------------------------------------------


def _random(call: Call, buffer: int, length: int, returned: Out[int] | None) -> None:
    """Interrupt statistics, which Wine's DLLs use as a source of random bytes: as many as the buffer
    holds.
    """
    needed = 24 * call.kernel.processors
    if returned is not None:
        returned.write(needed)
    if not length:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    for offset in range(0, length, 0x10000):
        call.memory.write(buffer + offset, call.kernel.random_bytes(min(0x10000, length - offset)))


def _time_of_day(call: Call, buffer: int, length: int, returned: Out[int] | None) -> None:
    """SYSTEM_TIMEOFDAY_INFORMATION; callers may leave out its end, but not ask for more."""
    clock = call.kernel.clock
    now = clock.system()
    content = struct.pack("<qqqIIQQ", now - clock.monotonic(), now, _bias() * 600_000_000, 0, 0, 0, 0)
    if returned is not None:
        returned.write(len(content) if length > len(content) else length)
    if length > len(content):
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    if length:
        call.memory.write(buffer, content[:length])


def _process_id(call: Call, buffer: int, length: int, returned: Out[int] | None) -> None:
    """SYSTEM_PROCESS_ID_INFORMATION: the image name of a process id."""
    if returned is not None:
        returned.write(24)
    if length < 24:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    number, used, maximum, characters = struct.unpack("<QHHxxxxQ", call.memory.read(buffer, 24))
    if used or not number:
        raise NtError(Status.INVALID_PARAMETER if used else Status.INVALID_CID)
    process = call.kernel.process_by_id(number)
    if process is None:
        raise NtError(Status.INVALID_CID)
    text = device_path(process.image_name).encode("utf-16-le", "surrogatepass")
    call.memory.w16(buffer + 10, len(text) + 2)
    if len(text) + 2 > maximum:
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    call.memory.w16(buffer + 8, len(text))
    call.memory.write(characters, text + b"\0\0")


def _wine_version(call: Call, buffer: int, length: int, returned: Out[int] | None) -> None:
    """Wine's own class: version, build, host system and host release, each ended by a zero."""
    number = call.process.version.name.partition(" ")[2] + ".0"
    content = f"{number}\0wine-{number}\0Linux\0{os.uname().release}\0".encode()
    if returned is not None:
        returned.write(len(content))
    call.memory.write(buffer, content[:length])
    if length < len(content):
        raise NtError(Status.INFO_LENGTH_MISMATCH)


def _processor_performance(call: Call, buffer: int, length: int, returned: Out[int] | None) -> None:
    """SYSTEM_PROCESSOR_PERFORMANCE_INFORMATION for as many processors as fit."""
    count = min(length // 48, call.kernel.processors)
    if not count:
        if returned is not None:
            returned.write(0)
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    elapsed = call.kernel.clock.monotonic()
    busy = processor_time(call.kernel)
    row = struct.pack("<qqqqqI4x", max(0, elapsed - busy), max(0, elapsed - busy), busy, 0, 0, 0)
    deliver(call, row * count, AT_LEAST, buffer, length, returned)


def _handles(call: Call, kind: int, buffer: int, length: int, returned: Out[int] | None) -> None:
    """All open handles of the machine."""
    make, smallest = _HANDLE_LISTS[kind]
    if length < smallest:
        if returned is not None:
            returned.write(smallest)
        raise NtError(Status.INFO_LENGTH_MISMATCH)
    if not buffer:
        raise NtError(Status.ACCESS_VIOLATION)
    deliver(call, make(call), AT_LEAST, buffer, length, returned)


# classes of a fixed form ---------------------------------------------------------------------------


def basic_information(call: Call) -> bytes:
    """SYSTEM_BASIC_INFORMATION."""
    kernel = call.kernel
    pages = kernel.commitment.limit // PAGE
    return struct.pack(
        "<IIIIIIQQQQB7x",
        0,
        CLOCK_INTERVAL,
        PAGE,
        pages,
        1,
        pages,
        GRANULARITY,
        LOWEST,
        call.process.space.top - 1,
        (1 << kernel.processors) - 1,
        kernel.processors,
    )


def _cpu(call: Call) -> bytes:
    """SYSTEM_CPU_INFORMATION."""
    return struct.pack(
        "<HHHHI", _ARCHITECTURE_AMD64, _LEVEL, _REVISION, call.kernel.processors, _FEATURE_BITS
    )


def _emulated_cpu(call: Call) -> bytes:
    """SYSTEM_CPU_INFORMATION of the 32-bit processor that programs see under emulation."""
    return struct.pack("<H", _ARCHITECTURE_INTEL) + _cpu(call)[2:]


def _performance(call: Call) -> bytes:
    """SYSTEM_PERFORMANCE_INFORMATION: memory is what the guest may commit; I/O is not counted."""
    commitment = call.kernel.commitment
    free = max(0, commitment.limit - commitment.used) // PAGE
    idle = call.kernel.clock.monotonic() - processor_time(call.kernel)
    head = struct.pack("<qqqqIII", idle, 0, 0, 0, 0, 0, 0)
    memory = struct.pack(
        "<IIII", free, commitment.used // PAGE, commitment.limit // PAGE, commitment.peak // PAGE
    )
    return (head + memory).ljust(312, b"\0")


def _modules(call: Call) -> bytes:
    """RTL_PROCESS_MODULES: the kernel itself."""
    return struct.pack("<I4x", 1) + _module_entry()


def _module_entry() -> bytes:
    path = b"\\SystemRoot\\system32\\ntoskrnl.exe"
    name = path.rindex(b"\\") + 1
    return struct.pack("<QQQIIHHHH256s", 0, 0, 0xFFFFF80000000000, 0x800000, 0, 0, 0, 1, name, path)


def _modules_ex(call: Call) -> bytes:
    """RTL_PROCESS_MODULE_INFORMATION_EX, ended by an entry without successor."""
    entry = struct.pack("<H6x", 0x140) + _module_entry() + struct.pack("<IIQ", 0, 0, 0)
    return entry.ljust(0x140, b"\0") + bytes(2)


def _file_cache(call: Call) -> bytes:
    return struct.pack("<QQI4xQQQQII", 0, 0, 0, 0, 0, 0, 0, 0, 0)


def _time_adjustment(call: Call) -> bytes:
    return struct.pack("<IIBxxx", CLOCK_INTERVAL, CLOCK_INTERVAL, 1)


def _no_kernel_debugger(call: Call) -> bytes:
    return b"\0\1"


def _no_kernel_debugger_ex(call: Call) -> bytes:
    return bytes(3)


def _registry_quota(call: Call) -> bytes:
    return struct.pack("<IIQ", 0x2000000, 0x200000, 0x200000)


def _bias() -> int:
    """Minutes that UTC is ahead of local time, as of now."""
    return -(time.localtime().tm_gmtoff // 60)


_UTC = ("@tzres.dll,-932", "@tzres.dll,-931", "UTC")


def _zone_names() -> tuple[str, str, str]:
    """Standard name, daylight name and registry key; UTC has Windows' names, other zones keep the host's."""
    names = time.tzname
    if not time.localtime().tm_gmtoff and names[0] in ("UTC", "GMT"):
        return _UTC
    return names[0], names[1], names[0]


def _wide(text: str, characters: int) -> bytes:
    return text[: characters - 1].encode("utf-16-le").ljust(2 * characters, b"\0")


def _time_zone(call: Call) -> bytes:
    """RTL_TIME_ZONE_INFORMATION: the offset of now, all year round (no transition dates)."""
    standard, daylight, _ = _zone_names()
    return struct.pack("<i64s16xi64s16xi", _bias(), _wide(standard, 32), 0, _wide(daylight, 32), 0)


def _dynamic_time_zone(call: Call) -> bytes:
    """RTL_DYNAMIC_TIME_ZONE_INFORMATION."""
    return (_time_zone(call) + _wide(_zone_names()[2], 128)).ljust(432, b"\0")


def _alignment(call: Call) -> bytes:
    return struct.pack("<I", _CACHE_LINE)


def _code_integrity(call: Call) -> bytes:
    return struct.pack("<II", 8, 1)


def _brand(call: Call) -> bytes:
    return _BRAND.ljust(49, b"\0")


def _features(call: Call) -> bytes:
    return struct.pack("<Q24x", _FEATURE_BITS)


def _logical_processors(call: Call) -> bytes:
    """SYSTEM_LOGICAL_PROCESSOR_INFORMATION: a core of its own for each processor, one package."""
    rows = [
        struct.pack("<QI4xB15x", 1 << index, _RELATION_CORE, 0) for index in range(call.kernel.processors)
    ]
    rows.append(struct.pack("<QI4x16x", (1 << call.kernel.processors) - 1, _RELATION_PACKAGE))
    return b"".join(rows)


def _logical_processors_ex(call: Call, relation: int) -> bytes:
    """SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX rows of one relation, or of all."""
    count = call.kernel.processors
    everyone = (1 << count) - 1
    content = b""
    if relation in (_RELATION_CORE, _RELATION_ALL):
        for index in range(count):
            content += struct.pack("<IIBB20xHQH6x", _RELATION_CORE, 48, 0, 0, 1, 1 << index, 0)
    if relation in (_RELATION_NUMA_NODE, _RELATION_ALL):
        content += struct.pack("<III18xHQH6x", _RELATION_NUMA_NODE, 48, 0, 1, everyone, 0)
    if relation in (_RELATION_CACHE, _RELATION_ALL):
        for level, size, kind in _CACHES:
            content += struct.pack(
                "<IIBBHII18xHQH6x", _RELATION_CACHE, 56, level, 8, _CACHE_LINE, size, kind, 1, everyone, 0
            )
    if relation in (_RELATION_PACKAGE, _RELATION_ALL):
        content += struct.pack("<IIBB20xHQH6x", _RELATION_PACKAGE, 48, 0, 0, 1, everyone, 0)
    if relation in (_RELATION_GROUP, _RELATION_ALL):
        content += struct.pack("<IIHH20xBB38xQ", _RELATION_GROUP, 80, 1, 1, count, count, everyone)
    return content


def _idle_cycles(call: Call) -> bytes:
    idle = max(0, call.kernel.clock.monotonic() - processor_time(call.kernel))
    return struct.pack("<Q", idle) * call.kernel.processors


def _cpu_sets(call: Call) -> bytes:
    """SYSTEM_CPU_SET_INFORMATION."""
    rows = []
    for index in range(call.kernel.processors):
        rows.append(struct.pack("<IIIHBBBBBBIQ", 32, 0, 0x100 + index, 0, index, index, 0, 0, 0, 0, 0, 0))
    return b"".join(rows)


def _architectures(for_process: bool) -> bytes:
    """Machines that programs can be for, ended by a zero entry: AMD64 in kernel and user mode, native."""
    kernel_mode, user_mode, native, of_process = 1 << 16, 1 << 17, 1 << 18, 1 << 19
    flags = kernel_mode | user_mode | native | (of_process if for_process else 0)
    return struct.pack("<II", _MACHINE_AMD64 | flags, 0)


_HANDLE_LISTS = {16: (handle_list, 32), 64: (handle_list_ex, 56)}  # and the size of a list of one
_CLASSES = {
    0: Answer(basic_information),
    1: Answer(_cpu, AT_LEAST),
    2: Answer(_performance, AT_LEAST),
    11: Answer(_modules, AT_LEAST),
    21: Answer(_file_cache, AT_LEAST),
    28: Answer(_time_adjustment, EXACT),
    35: Answer(_no_kernel_debugger, AT_LEAST),
    37: Answer(_registry_quota, AT_LEAST),
    44: Answer(_time_zone, AT_LEAST),
    58: Answer(_alignment, AT_LEAST),
    62: Answer(basic_information),
    63: Answer(_emulated_cpu, AT_LEAST),
    73: Answer(_logical_processors, AT_LEAST),
    77: Answer(_modules_ex, AT_LEAST),
    102: Answer(_dynamic_time_zone, AT_LEAST),
    103: Answer(_code_integrity, AT_LEAST),
    BRAND: Answer(_brand, AT_LEAST),
    114: Answer(basic_information),
    115: Answer(_cpu, AT_LEAST),
    149: Answer(_no_kernel_debugger_ex, AT_LEAST),
    154: Answer(_features, AT_LEAST),
}
