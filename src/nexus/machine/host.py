"""The few calls of the host's C library that the machine is made of, through ctypes."""

from __future__ import annotations

import ctypes
import os

PAGE = 4096

PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 1, 2, 0x10, 0x20, 0x4000
_FAILED = (1 << 64) - 1

_libc = ctypes.CDLL(None, use_errno=True)
_word, _int = ctypes.c_size_t, ctypes.c_int


class HostMemoryError(MemoryError):
    """The host refused memory or another mapping; a kernel answers with its "no memory" status."""


_mmap = _libc.mmap
_mmap.argtypes = (_word, _word, _int, _int, _int, ctypes.c_int64)
_mmap.restype = _word
_mprotect = _libc.mprotect
_mprotect.argtypes = (_word, _word, _int)
_munmap = _libc.munmap
_munmap.argtypes = (_word, _word)


def _check(failed: bool, what: str) -> None:
    if failed:
        raise HostMemoryError(f"{what}: {os.strerror(ctypes.get_errno())}")


def reserve(size: int) -> int:
    """Address space nobody can touch; costs no memory. Returns its host address."""
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
    address = int(_mmap(0, size, PROT_NONE, flags, -1, 0))
    _check(address == _FAILED, f"reserving {size:#x} bytes of address space")
    return address


def allocate(size: int) -> int:
    """Zeroed readable and writable memory, which costs what is touched of it. Returns its host address."""
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
    address = int(_mmap(0, size, PROT_READ | PROT_WRITE, flags, -1, 0))
    _check(address == _FAILED, f"allocating {size:#x} bytes")
    return address


def forget(address: int, size: int) -> None:
    """Give the pages back and leave the range reserved: what is mapped there next is zero."""
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED
    _check(_mmap(address, size, PROT_NONE, flags, -1, 0) == _FAILED, "unmapping")


def map_file(address: int, size: int, protection: int, fd: int, offset: int, shared: bool) -> None:
    """Put a file's pages at a reserved address, shared or copy-on-write."""
    flags = _MAP_FIXED | _MAP_NORESERVE | (_MAP_SHARED if shared else _MAP_PRIVATE)
    _check(_mmap(address, size, protection, flags, fd, offset) == _FAILED, "mapping a file")


def map_anywhere(size: int, protection: int, fd: int) -> int:
    """Map the beginning of a shared file; returns the host address."""
    address = int(_mmap(0, size, protection, _MAP_SHARED | _MAP_NORESERVE, fd, 0))
    _check(address == _FAILED, f"mapping {size:#x} bytes")
    return address


def protect(address: int, size: int, protection: int) -> None:
    _check(_mprotect(address, size, protection) != 0, "changing page protection")


def release(address: int, size: int) -> None:
    """End a reservation or an allocation."""
    _check(_munmap(address, size) != 0, "releasing address space")


_madvise = _libc.madvise
_madvise.argtypes = (_word, _word, _int)
_DONT_NEED = 4


def drop_private(address: int, size: int) -> None:
    """Forget what was written to private pages: a file's are the file's again, others are zero."""
    _check(_madvise(address, size, _DONT_NEED) != 0, "dropping pages")


class _Scan(ctypes.Structure):
    """`struct pm_scan_arg` of linux/fs.h (Linux 6.7)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "size",
            "flags",
            "start",
            "end",
            "walk_end",
            "vec",
            "vec_len",
            "max_pages",
            "inverted",
            "mask",
            "any_of",
            "returned",
        )
    )


_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_IS_FILE, _PRESENT, _SWAPPED = 1 << 2, 1 << 3, 1 << 4
_RANGES = 1024
_ioctl = _libc.ioctl
_ioctl.argtypes = (_int, ctypes.c_ulong, ctypes.c_void_p)


def mappings(start: int, end: int) -> list[tuple[int, int, tuple[int, int], int]]:
    """(address, end, device and inode, offset) of what is mapped privately from files in a range of ours."""
    found = []
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            place, access, offset, device, inode = line.split(maxsplit=5)[:5]
            low, high = (int(part, 16) for part in place.split("-"))
            if start <= low and high <= end and access[3] == "p" and inode != "0":
                major, minor = (int(part, 16) for part in device.split(":"))
                found.append((low, high, (os.makedev(major, minor), int(inode)), int(offset, 16)))
    return found


class PrivatePages:
    """Finds the pages of a range that were written since they were mapped from a private file."""

    __slots__ = ("_fd", "_found", "_scan")

    def __init__(self, address: int, size: int) -> None:
        self._found = (ctypes.c_uint64 * (3 * _RANGES))()
        self._fd = -1
        self._scan = _Scan(
            size=ctypes.sizeof(_Scan),
            start=address,
            end=address + size,
            vec=ctypes.addressof(self._found),
            vec_len=_RANGES,
            inverted=_IS_FILE,
            mask=_IS_FILE,
            any_of=_PRESENT | _SWAPPED,
            returned=_IS_FILE | _PRESENT | _SWAPPED,
        )
        try:
            self._fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # behind a wall, or no /proc
            return
        if self.ranges() is None:
            self.close()

    def ranges(self) -> list[tuple[int, int]] | None:
        """(host address, end) of written pages; None where the host cannot tell, or they are too many."""
        if self._fd < 0:
            return None
        count = _ioctl(self._fd, _PAGEMAP_SCAN, ctypes.addressof(self._scan))
        if not 0 <= count < _RANGES:
            return None
        found = self._found[: 3 * count]
        return list(zip(found[::3], found[1::3], strict=True))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def create_shared(name: str, size: int) -> int:
    """A file descriptor of zero-filled memory that can be mapped shared in several places and windows."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


_process_vm_readv = _libc.process_vm_readv
_process_vm_readv.argtypes = (_int, _word, ctypes.c_ulong, _word, ctypes.c_ulong, ctypes.c_ulong)
_process_vm_readv.restype = ctypes.c_ssize_t


def copy(target: int, source: int, size: int) -> int:
    """Copy between host addresses without ever faulting; returns how many bytes were not copied.

    It asks the host's kernel to read our own process, which needs nothing else and takes about a microsecond;
    an engine that handles faults has a faster one.
    """
    done = 0
    while done < size:
        left = size - done
        vectors = (ctypes.c_uint64 * 4)(target + done, left, source + done, left)
        local = ctypes.addressof(vectors)
        count = int(_process_vm_readv(os.getpid(), local, 1, local + 16, 1, 0))
        if count <= 0:
            break
        done += count
    return size - done
