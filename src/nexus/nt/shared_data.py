"""KUSER_SHARED_DATA: the page at 0x7ffe0000 where processes read the time, the version and the processor.

It is one page of memory for the whole machine: mapped read-only into each process, written by us when time
moves. Offsets: `KUSER_SHARED_DATA` of the Windows Driver Kit.
"""

from __future__ import annotations

import mmap
import os
import struct

from nexus.isa.x86.cpuid import COMPONENTS
from nexus.nt.mm.memory import ANYWHERE
from nexus.nt.mm.vad import MEM_PRIVATE, PAGE_READONLY, READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus.isa.x86.cpuid import Cpu
    from nexus.nt.clock import Clock
    from nexus.nt.kernel import Kernel
    from nexus.nt.mm.memory import AddressSpace

ADDRESS = 0x7FFE0000
SIZE = 0x1000
SYSTEM_ROOT = "C:\\windows"
MAJOR_VERSION, MINOR_VERSION, BUILD = 10, 0, 19045
PRODUCT_WORKSTATION = 1
TICKS_PER_MILLISECOND = 10_000

_NATIVE_ARCHITECTURE_AMD64 = 9
_SUITE_SINGLE_USER = 0x110
_TICK_MULTIPLIER = 1 << 24

_PF_COMPARE_EXCHANGE_DOUBLE, _PF_MMX, _PF_SSE, _PF_RDTSC, _PF_PAE, _PF_SSE2 = 2, 3, 6, 8, 9, 10
_PF_NX, _PF_SSE3, _PF_COMPARE_EXCHANGE_128, _PF_FASTFAIL = 12, 13, 14, 23
PROCESSOR_FEATURES = (
    _PF_COMPARE_EXCHANGE_DOUBLE,
    _PF_MMX,
    _PF_SSE,
    _PF_RDTSC,
    _PF_PAE,
    _PF_SSE2,
    _PF_NX,
    _PF_SSE3,
    _PF_COMPARE_EXCHANGE_128,
    _PF_FASTFAIL,
)
_PF_OF_FEATURE = {  # the names of cpuid.FEATURES
    "XSAVE": 17,
    "FSGSBASE": 22,
    "RDRAND": 28,
    "RDTSCP": 32,
    "RDPID": 33,
    "SSSE3": 36,
    "SSE4_1": 37,
    "SSE4_2": 38,
    "AVX": 39,
    "AVX2": 40,
    "AVX512F": 41,
    "BMI2": 60,
}
_XSTATE = 0x3D8  # XSTATE_CONFIGURATION
_XSTATE_FEATURES, _XSTATE_ALL_SIZE, _XSTATE_ALL = _XSTATE + 0x18, _XSTATE + 0x228, _XSTATE + 0x22C
_X87_BYTES, _SSE_BYTES = 160, 256  # of the FXSAVE image


class SharedData:
    """The page and the descriptor under which it is mapped."""

    __slots__ = ("_page", "fd")

    def __init__(self, kernel: Kernel) -> None:
        self.fd = os.memfd_create("shared-data")
        os.ftruncate(self.fd, SIZE)
        self._page = mmap.mmap(self.fd, SIZE)
        page = self._page
        root = (SYSTEM_ROOT + "\0").encode("utf-16-le")
        page[0x30 : 0x30 + len(root)] = root
        struct.pack_into("<I", page, 0x04, _TICK_MULTIPLIER)
        struct.pack_into("<IIBxH", page, 0x260, BUILD, PRODUCT_WORKSTATION, 1, _NATIVE_ARCHITECTURE_AMD64)
        struct.pack_into("<II", page, 0x26C, MAJOR_VERSION, MINOR_VERSION)
        for feature in PROCESSOR_FEATURES:
            page[0x274 + feature] = 1
        for name, feature in _PF_OF_FEATURE.items():
            page[0x274 + feature] = name in kernel.cpu.features
        _put_xstate(page, kernel.cpu)
        struct.pack_into("<I", page, 0x2D0, _SUITE_SINGLE_USER)
        struct.pack_into("<I", page, 0x2D8, 1)  # ActiveConsoleId
        struct.pack_into("<I", page, 0x2E8, kernel.commitment.limit >> 12)  # NumberOfPhysicalPages
        struct.pack_into("<Q", page, 0x300, 10_000_000)  # QpcFrequency
        struct.pack_into("<I", page, 0x330, int.from_bytes(kernel.random_bytes(4), "little"))  # Cookie
        struct.pack_into("<IB", page, 0x3C0, kernel.processors, 1)
        self.update(kernel.clock)

    def update(self, clock: Clock) -> None:
        """Let the guest see what time it is."""
        interrupt = clock.monotonic()
        ticks = interrupt // TICKS_PER_MILLISECOND
        page = self._page
        _put_time(page, 0x08, interrupt)
        _put_time(page, 0x14, clock.system())
        _put_time(page, 0x320, ticks)
        struct.pack_into("<I", page, 0x00, ticks & 0xFFFF_FFFF)

    def snapshot_outside(self) -> Callable[[], None]:
        """See `nt/graph.py`."""
        content = self._page[:]

        def put_back() -> None:
            self._page[:] = content

        return put_back

    def close(self) -> None:
        """Give the page and its descriptor back; views in processes stay."""
        self._page.close()
        os.close(self.fd)

    def map_into(self, space: AddressSpace) -> None:
        region = space.new_region(ADDRESS, SIZE, MEM_PRIVATE, 0, PAGE_READONLY, ANYWHERE)
        region.name = "KUSER_SHARED_DATA"
        region.charged = False
        space.window.map_file(ADDRESS, SIZE, READ, self.fd, 0, shared=True)
        space.pages.set(ADDRESS, ADDRESS + SIZE, PAGE_READONLY)


def _put_xstate(page: mmap.mmap, cpu: Cpu) -> None:
    """What a CONTEXT can hold beyond SSE: nothing, or the components of XSAVE in its standard form."""
    places = {n: (at, size) for n, (at, size, _) in COMPONENTS.items() if cpu.xcr0 >> n & 1}
    if not places:
        return
    whole = max(at + size for at, size in places.values())
    places.update({0: (0, _X87_BYTES), 1: (_X87_BYTES, _SSE_BYTES)})
    struct.pack_into("<QQII", page, _XSTATE, cpu.xcr0, cpu.xcr0, whole, 0)
    struct.pack_into("<I", page, _XSTATE_ALL_SIZE, whole)
    for number, (at, size) in places.items():
        struct.pack_into("<II", page, _XSTATE_FEATURES + 8 * number, at, size)
        struct.pack_into("<I", page, _XSTATE_ALL + 4 * number, size)


def _put_time(page: mmap.mmap, offset: int, value: int) -> None:
    """A KSYSTEM_TIME: readers compare its two high parts, so the second one is written first."""
    high = value >> 32
    struct.pack_into("<I", page, offset + 8, high)
    struct.pack_into("<II", page, offset, value & 0xFFFF_FFFF, high)
