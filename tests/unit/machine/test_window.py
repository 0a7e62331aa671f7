"""The window: mappings, protection, guarded copies, locks."""

import mmap
import os
import tempfile

import pytest

from nexus.base.errors import GuestFault
from nexus.machine import host
from nexus.machine.window import CODE, EXECUTE, READ, WRITE, Window

PAGE = 4096
BASE = 0x10000


@pytest.fixture
def window():
    window = Window(1 << 33)
    yield window
    window.close()


def fault(call, *arguments):
    with pytest.raises(GuestFault) as caught:
        call(*arguments)
    return caught.value.address, caught.value.write


def test_fresh_pages_are_zero_even_where_something_was(window):
    window.map(BASE, 2 * PAGE, READ | WRITE)
    window.write(BASE + PAGE - 2, b"data")
    assert window.read(BASE + PAGE - 3, 6) == b"\0data\0"
    window.map(BASE + PAGE, PAGE, READ | WRITE)
    assert window.read(BASE + PAGE - 3, 6) == b"\0da\0\0\0"
    window.unmap(BASE, PAGE)
    window.map(BASE, PAGE, READ)
    assert window.read(BASE, PAGE) == bytes(PAGE)


def test_faults_name_the_first_byte_that_is_refused(window):
    window.map(BASE, 2 * PAGE, READ | WRITE)
    window.protect(BASE + PAGE, PAGE, READ)
    assert fault(window.write, BASE + PAGE - 4, b"12345678") == (BASE + PAGE, True)
    assert fault(window.write, BASE + PAGE + 12, b"1") == (BASE + PAGE + 12, True)
    assert fault(window.read, BASE + PAGE, PAGE + 1) == (BASE + 2 * PAGE, False)
    assert fault(window.u32, BASE - 2) == (BASE - 2, False)
    window.protect(BASE, PAGE, 0)
    assert fault(window.read, BASE + 8, 1) == (BASE + 8, False)
    assert window.access(BASE) == 0
    assert window.access(BASE + 2 * PAGE) is None


WILD = [(1 << 64) - 1, 1 << 63 | BASE, BASE + (1 << 42), 0xFFFF_8000_0000_0000, 0, (1 << 33) - 1, 1 << 33]
NONSENSE = [(1, PAGE), (0, 1), (0, 0), (-PAGE, PAGE), (1 << 33, PAGE), (0, 1 << 34)]


@pytest.mark.parametrize("address", WILD)
@pytest.mark.parametrize("size", [1, 8, 1 << 17])
def test_wild_addresses_fault_as_themselves(window, address, size):
    window.map(BASE, PAGE, READ | WRITE)
    assert fault(window.read, address, size) == (address, False)
    assert fault(window.write, address, bytes(size)) == (address, True)
    assert fault(window.write_forced, address, bytes(size)) == (address, True)
    assert fault(window.read_forced, address, size) == (address, False)


def test_an_access_across_the_top_faults_at_the_top(window):
    window.map(window.top - PAGE, PAGE, READ | WRITE)
    window.w64(window.top - 8, 1)
    assert fault(window.read, window.top - 8, 9) == (window.top, False)
    assert fault(window.w64, window.top - 7, 0) == (window.top, True)
    assert window.u64(window.top - 8) == 1


def test_an_empty_access_does_not_fault(window):
    assert window.read(1 << 60, 0) == b""
    window.write(0, b"")
    window.write_forced(0, b"")
    assert window.read_forced(5, 0) == b""


def test_words(window):
    window.map(BASE, PAGE, READ | WRITE)
    for bits in (8, 16, 32, 64):
        value = 0xF1E2D3C4B5A69788 >> (64 - bits)
        getattr(window, f"w{bits}")(BASE + 1, value)
        assert getattr(window, f"u{bits}")(BASE + 1) == value
        assert window.read(BASE + 1, bits // 8) == value.to_bytes(bits // 8, "little")


def test_long_copies(window):
    data = os.urandom(200_001)
    window.map(BASE, 64 * PAGE, READ | WRITE)
    window.write(BASE + 5, data)
    assert window.read(BASE + 5, len(data)) == data
    window.protect(BASE + 40 * PAGE, PAGE, 0)
    assert fault(window.read, BASE + 5, len(data)) == (BASE + 40 * PAGE, False)
    assert window.read_forced(BASE + 5, len(data)) == data


def test_forced_access_leaves_the_protection_as_it_was(window):
    window.map(BASE, 2 * PAGE, READ)
    window.protect(BASE + PAGE, PAGE, 0)
    window.write_forced(BASE + PAGE - 2, b"abcd")
    assert window.read_forced(BASE + PAGE - 2, 4) == b"abcd"
    assert window.read(BASE + PAGE - 2, 2) == b"ab"
    assert fault(window.read, BASE + PAGE, 1) == (BASE + PAGE, False)
    assert fault(window.write, BASE, b"x") == (BASE, True)
    assert fault(window.write_forced, BASE + 2 * PAGE - 1, b"xy") == (BASE + 2 * PAGE, True)


def test_writable_means_readable_and_executable_means_readable(window):
    window.map(BASE, PAGE, WRITE)
    window.write(BASE, b"1")
    assert window.read(BASE, 1) == b"1"
    window.protect(BASE, PAGE, EXECUTE)
    assert window.read(BASE, 1) == b"1"
    assert fault(window.write, BASE, b"2") == (BASE, True)


def test_shared_memory_is_one_memory_in_two_windows(window):
    other = Window(1 << 33)
    fd = host.create_shared("test", 2 * PAGE)
    try:
        window.map_file(BASE, 2 * PAGE, READ | WRITE, fd, 0, True)
        other.map_file(BASE, PAGE, READ, fd, PAGE, True)
        other.map_file(BASE + PAGE, PAGE, READ | WRITE, fd, PAGE, False)
        window.write(BASE + PAGE, b"seen")
        assert other.read(BASE, 4) == b"seen"
        other.write(BASE + PAGE, b"mine")
        assert window.read(BASE + PAGE, 4) == b"seen"
        assert fault(other.write, BASE, b"x") == (BASE, True)
    finally:
        os.close(fd)
        other.close()


def test_pages_past_the_end_of_a_file_fault(window):
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100)
        file.flush()
        window.map_file(BASE, 2 * PAGE, READ, file.fileno(), 0, False)
        assert window.read(BASE, 101) == b"x" * 100 + b"\0"
        assert fault(window.read, BASE + PAGE, 1) == (BASE + PAGE, False)


def test_a_write_to_a_code_page_is_seen_once(window):
    seen = []
    window.on_code_write = seen.append
    window.map(BASE, 3 * PAGE, READ | WRITE | EXECUTE)
    for page in (BASE, BASE + PAGE, BASE + 2 * PAGE):
        window.lock(page, CODE)
    window.write(BASE + PAGE - 1, b"12")
    window.write(BASE, b"3")
    assert seen == [BASE, BASE + PAGE]
    window.write_forced(BASE + 2 * PAGE, b"4")
    assert seen == [BASE, BASE + PAGE, BASE + 2 * PAGE]
    assert window.read(BASE + PAGE - 1, 2) == b"12"


def test_a_code_page_lock_survives_a_change_of_protection(window):
    seen = []
    window.on_code_write = seen.append
    window.map(BASE, PAGE, READ | EXECUTE)
    window.lock(BASE, CODE)
    window.protect(BASE, PAGE, READ | WRITE)
    assert seen == []
    window.w8(BASE, 1)
    assert seen == [BASE]


def test_write_watch(window):
    window.map(BASE, 8 * PAGE, READ | WRITE)
    window.write(BASE, b"before")
    window.watch(BASE, 8 * PAGE)
    window.write(BASE + 3 * PAGE - 1, b"12")
    window.write(BASE + 6 * PAGE, b"3")
    pages = [BASE + 2 * PAGE, BASE + 3 * PAGE, BASE + 6 * PAGE]
    assert window.written(BASE, 8 * PAGE, False) == pages
    assert window.written(BASE, 4 * PAGE, True) == pages[:2]
    assert window.written(BASE, 8 * PAGE, False) == pages[2:]
    window.write(BASE + 2 * PAGE, b"again")
    assert window.written(BASE, 8 * PAGE, True) == [pages[0], pages[2]]
    assert window.written(BASE, 8 * PAGE, True) == []


def test_admit_tells_what_can_be_repeated(window):
    window.map(BASE, 2 * PAGE, READ | WRITE)
    window.protect(BASE + PAGE, PAGE, READ)
    window.watch(BASE, PAGE)
    assert not window.admit(BASE + PAGE, True)
    assert not window.admit(BASE + 2 * PAGE, False)
    assert not window.admit(1 << 63, True)
    assert window.admit(BASE + 5, True)
    assert window.written(BASE, PAGE, False) == [BASE]


def test_listeners_hear_of_every_change_before_it_happens(window):
    window.map(BASE, 4 * PAGE, READ)
    heard = []
    window.on_change.append(lambda start, end: heard.append((start, end, window.access(start))))
    window.protect(BASE, PAGE, READ | WRITE)
    window.unmap(BASE + PAGE, PAGE)
    window.map(BASE, 2 * PAGE, READ)
    assert heard == [(BASE, BASE + PAGE, 1), (BASE + PAGE, BASE + 2 * PAGE, 1), (BASE, BASE + 2 * PAGE, 3)]


def test_equal_neighbours_share_one_host_mapping(window):
    def mappings():
        with open("/proc/self/maps") as maps:
            starts = [int(line.split("-")[0], 16) for line in maps]
        return sum(window.host <= start < window.host + window.top for start in starts)

    window.map(BASE, 64 * PAGE, READ | WRITE)
    before = mappings()
    for number in range(64):
        window.protect(BASE + number * PAGE, PAGE, READ)
    assert mappings() == before
    for number in range(64):
        window.unmap(BASE + number * PAGE, PAGE)
    assert mappings() == before - 2


def test_watched_pages_in_too_many_pieces_all_count_as_written(window, monkeypatch):
    monkeypatch.setattr("nexus.machine.window._MAPPINGS_LIMIT", Window._mappings + 100)  # counts all windows
    window.map(BASE, 200 * PAGE, READ | WRITE)
    window.watch(BASE, 200 * PAGE)
    for number in range(0, 200, 2):
        window.write(BASE + number * PAGE, b"1")
    assert len(window.written(BASE, 200 * PAGE, False)) == 200


def test_too_many_mappings_are_refused_and_nothing_changes(window):
    pages = 70_000
    window.map(BASE, pages * PAGE, READ | WRITE)
    with pytest.raises(host.HostMemoryError):
        for number in range(0, pages, 2):
            window.protect(BASE + number * PAGE, PAGE, READ)
    assert window.access(BASE + number * PAGE) == READ | WRITE
    window.write(BASE + number * PAGE, b"still writable")
    window.unmap(BASE, pages * PAGE)


@pytest.mark.parametrize("address, size", NONSENSE)
def test_a_kernel_that_maps_nonsense_is_told(window, address, size):
    for call in (window.map, window.protect):
        with pytest.raises(ValueError, match="whole pages"):
            call(address, size, READ)
    with pytest.raises(ValueError, match="whole pages"):
        window.unmap(address, size)


def test_protecting_what_is_not_mapped_is_our_bug(window):
    window.map(BASE, PAGE, READ)
    with pytest.raises(ValueError, match="not mapped"):
        window.protect(BASE, 2 * PAGE, READ)


def test_page_size_is_the_hosts():
    assert mmap.PAGESIZE == PAGE
