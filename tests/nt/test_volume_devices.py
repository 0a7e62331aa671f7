"""The mount point manager, and volumes and disks opened as devices. Codes and layouts: mountmgr.h,
winioctl.h and ntddstor.h of the Windows SDK; the rules of short buffers: kernel32's volume test of Wine.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from fake_machine import Machine
from nexus.nt.io.place import Grant
from nexus.nt.io.volume import Volume
from nexus.nt.status import Status

GENERIC_READ, GENERIC_WRITE, SYNCHRONIZE = 0x80000000, 0x40000000, 0x100000
SYNCHRONOUS, DIRECTORY = 0x20, 0x1
QUERY_POINTS, QUERY_UNIX_DRIVE, CREATE_POINT, QUERY_DOS_VOLUME_PATH = 0x6D0008, 0x6D4084, 0x6DC000, 0x6D0030
DISK_EXTENTS, GEOMETRY, GEOMETRY_EX, LENGTH, DEVICE_NUMBER = 0x560000, 0x70000, 0x700A0, 0x7405C, 0x2D1080
QUERY_PROPERTY, QUERY_DEVICE_NAME = 0x2D1400, 0x4D0008


class Devices:
    def __init__(self, machine: Machine, host: Path) -> None:
        self.machine = machine
        self.volumes = {}
        for letter, name in (("C", "HarddiskVolume1"), ("X", "HarddiskVolume2")):
            volume = Volume(letter, name)
            volume.mount([], Grant(str(host), write=True))
            machine.kernel.io.add_volume(volume)
            self.volumes[letter] = volume
        self.handle, self.iosb, self.buffer = machine.put(8), machine.put(16), machine.put(0x1000)

    def create(self, name: str, access: int = GENERIC_READ, disposition: int = 1, options: int = 0) -> int:
        attributes = self.machine.attributes(name)
        status: int = self.machine.NtCreateFile(
            *(self.handle, access | SYNCHRONIZE, attributes, self.iosb, 0, 0, 3, disposition),
            *(options | SYNCHRONOUS, 0, 0),
        )
        return status

    def open(self, name: str, access: int = GENERIC_READ) -> int:
        assert self.create(name, access) == Status.SUCCESS
        return self.machine.memory.u64(self.handle)

    def control(self, handle: int, code: int, data: bytes = b"", length: int = 0x1000) -> int:
        given = self.machine.put(data) if data else 0
        status: int = self.machine.NtDeviceIoControlFile(
            handle, 0, 0, 0, self.iosb, code, given, len(data), self.buffer, length
        )
        return status

    @property
    def answer(self) -> bytes:
        return self.machine.memory.read(self.buffer, self.machine.memory.u64(self.iosb + 8))

    def points(self, handle: int, request: bytes) -> list[tuple[str, str]]:
        """(link, device) of each point that QUERY_POINTS tells."""
        assert self.control(handle, QUERY_POINTS, request) == Status.SUCCESS
        data = self.answer
        size, count = struct.unpack_from("<II", data)
        assert size == len(data)
        found = []
        for at in range(8, 8 + 24 * count, 24):
            link, link_length, _, _, device, device_length = struct.unpack_from("<IHxxIHxxIHxx", data, at)
            found.append(
                (
                    data[link : link + link_length].decode("utf-16-le"),
                    data[device : device + device_length].decode("utf-16-le"),
                )
            )
        return found


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    return Devices(Machine(), tmp_path)


def point(link: str = "", device: str = "") -> bytes:
    """MOUNTMGR_MOUNT_POINT with its names."""
    first, second = link.encode("utf-16-le"), device.encode("utf-16-le")
    offsets = (24 if first else 0, len(first), 0, 0, 24 + len(first) if second else 0, len(second))
    return struct.pack("<IHxxIHxxIHxx", *offsets) + first + second


def test_every_volume_has_a_letter_and_a_name(devices: Devices) -> None:
    manager = devices.open("\\??\\MountPointManager", 0)
    found = devices.points(manager, point())
    names = [f"\\??\\Volume{{{devices.volumes[letter].guid}}}" for letter in "CX"]
    assert found == [
        ("\\DosDevices\\C:", "\\Device\\HarddiskVolume1"),
        (names[0], "\\Device\\HarddiskVolume1"),
        ("\\DosDevices\\X:", "\\Device\\HarddiskVolume2"),
        (names[1], "\\Device\\HarddiskVolume2"),
    ]
    assert devices.points(manager, point(device="\\device\\harddiskvolume2")) == found[2:]
    assert devices.points(manager, point(link=names[0].upper())) == [found[1]]
    assert devices.points(manager, point(link="\\DosDevices\\C:", device="\\Device\\HarddiskVolume2")) == []


def test_short_buffers_of_query_points(devices: Devices) -> None:
    manager = devices.open("\\??\\MountPointManager", 0)
    for data, length in ((b"", 0x1000), (point()[:23], 0x1000), (point(), 31)):
        assert devices.control(manager, QUERY_POINTS, data, length) == Status.INVALID_PARAMETER
    assert devices.control(manager, QUERY_POINTS, point(), 32) == Status.BUFFER_OVERFLOW
    size, count = struct.unpack("<II", devices.answer)
    assert count == 4
    assert devices.control(manager, QUERY_POINTS, point(), size) == Status.SUCCESS


def test_names_outside_the_request_are_refused(devices: Devices) -> None:
    manager = devices.open("\\??\\MountPointManager", 0)
    request = struct.pack("<IHxxIHxxIHxx", 24, 2, 0, 0, 0xFFFFFFFF, 0xFFFF)
    assert devices.control(manager, QUERY_POINTS, request) == Status.INVALID_PARAMETER


def test_mount_points_are_fixed(devices: Devices) -> None:
    manager = devices.open("\\??\\MountPointManager", GENERIC_READ | GENERIC_WRITE)
    assert devices.control(manager, CREATE_POINT, bytes(8)) == Status.ACCESS_DENIED


def test_letters_of_a_volume_name(devices: Devices) -> None:
    manager = devices.open("\\??\\MountPointManager", 0)
    name = f"\\??\\Volume{{{devices.volumes['X'].guid}}}".encode("utf-16-le")
    request = struct.pack("<H", len(name)) + name
    assert devices.control(manager, QUERY_DOS_VOLUME_PATH, request) == Status.SUCCESS
    assert devices.answer[4:].decode("utf-16-le") == "X:\0\0"
    assert devices.control(manager, QUERY_DOS_VOLUME_PATH, request[:-2]) == Status.INVALID_PARAMETER


def test_drives_are_fixed_ones(devices: Devices) -> None:
    request = struct.pack("<IIIIQHHHH", 0, 0, 0, 0, 0, ord("x"), 0, 0, 0)
    manager = devices.open("\\??\\MountPointManager")
    assert devices.control(manager, QUERY_UNIX_DRIVE, request) == Status.SUCCESS
    assert struct.unpack_from("<4xI", devices.answer) == (3,)
    assert devices.control(manager, QUERY_UNIX_DRIVE, request.replace(b"x", b"q")) == Status.NO_SUCH_DEVICE
    without_access = devices.open("\\??\\MountPointManager", 0)
    assert devices.control(without_access, QUERY_UNIX_DRIVE, request) == Status.ACCESS_DENIED


@pytest.mark.parametrize("name", ["\\??\\C:", "\\??\\X:"])
def test_a_volume_lies_on_a_disk_of_its_own(devices: Devices, name: str) -> None:
    volume = devices.open(name)
    number = "CX".index(name[-2])
    assert devices.control(volume, DEVICE_NUMBER) == Status.SUCCESS
    assert struct.unpack("<III", devices.answer) == (7, number, 1)
    assert devices.control(volume, DISK_EXTENTS, length=31) == Status.BUFFER_TOO_SMALL
    assert devices.control(volume, DISK_EXTENTS) == Status.SUCCESS
    count, disk, start, size = struct.unpack("<I4xI4xQQ", devices.answer)
    assert (count, disk) == (1, number)
    assert devices.control(volume, LENGTH) == Status.SUCCESS
    assert struct.unpack("<Q", devices.answer) == (size,)
    drive = devices.open(f"\\??\\PhysicalDrive{number}")
    assert devices.control(drive, LENGTH) == Status.SUCCESS
    assert struct.unpack("<Q", devices.answer) == (start + size,)
    assert devices.control(drive, GEOMETRY_EX) == Status.SUCCESS
    cylinders, media, tracks, sectors, bytes_per_sector, total = struct.unpack_from("<QIIIIQ", devices.answer)
    assert (media, bytes_per_sector, total) == (12, 512, start + size)
    assert 0 <= total - cylinders * tracks * sectors * 512 < tracks * sectors * 512
    assert devices.control(drive, GEOMETRY, length=23) == Status.BUFFER_TOO_SMALL


def test_volume_sizes_are_the_hosts(devices: Devices, tmp_path: Path) -> None:
    volume = devices.open("\\??\\X:")
    devices.control(volume, LENGTH)
    info = os.statvfs(tmp_path)
    assert struct.unpack("<Q", devices.answer)[0] == info.f_blocks * info.f_frsize // 512 * 512


def test_storage_properties(devices: Devices) -> None:
    drive = devices.open("\\??\\PhysicalDrive0")
    for kind, size in ((0, 40), (7, 12)):  # STORAGE_DEVICE_DESCRIPTOR, DEVICE_SEEK_PENALTY_DESCRIPTOR
        query = struct.pack("<III", kind, 0, 0)
        for length, told in ((8, 8), (size, size)):
            assert devices.control(drive, QUERY_PROPERTY, query, length) == Status.SUCCESS
            assert len(devices.answer) == told
            assert struct.unpack_from("<II", devices.answer) == (size, size)
        assert devices.control(drive, QUERY_PROPERTY, query, 7) == Status.INVALID_PARAMETER


def test_device_name_of_a_volume(devices: Devices) -> None:
    volume = devices.open(f"\\??\\Volume{{{devices.volumes['X'].guid}}}")
    assert devices.control(volume, QUERY_DEVICE_NAME) == Status.SUCCESS
    name = "\\Device\\HarddiskVolume2".encode("utf-16-le")
    assert devices.answer == struct.pack("<H", len(name)) + name


def test_volume_information_through_a_volume_handle(devices: Devices) -> None:
    volume = devices.open("\\??\\X:", 0)
    status = devices.machine.NtQueryVolumeInformationFile(volume, devices.iosb, devices.buffer, 0x100, 1)
    assert status == Status.SUCCESS
    assert struct.unpack_from("<8xI", devices.answer) == (devices.volumes["X"].serial,)


def test_raw_contents_are_not_given(devices: Devices) -> None:
    assert devices.create("\\??\\C:", GENERIC_READ | GENERIC_WRITE) == Status.ACCESS_DENIED
    assert devices.create("\\??\\PhysicalDrive0", GENERIC_WRITE) == Status.ACCESS_DENIED
    assert devices.create("\\??\\C:", options=DIRECTORY) == Status.NOT_A_DIRECTORY
    assert devices.create("\\??\\C:\\", options=DIRECTORY) == Status.SUCCESS
    assert devices.create("\\??\\PhysicalDrive7") == Status.OBJECT_NAME_NOT_FOUND
    volume = devices.open("\\??\\C:")
    status = devices.machine.NtReadFile(volume, 0, 0, 0, devices.iosb, devices.buffer, 512, 0, 0)
    assert status == Status.INVALID_DEVICE_REQUEST


def test_files_relative_to_a_volume(devices: Devices, tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_bytes(b"x")
    volume = devices.open("\\??\\X:")
    for name, status in (("here.txt", Status.SUCCESS), ("none.txt", Status.OBJECT_NAME_NOT_FOUND)):
        attributes = devices.machine.attributes(name, root=volume)
        found = devices.machine.NtCreateFile(
            *(devices.handle, GENERIC_READ | SYNCHRONIZE, attributes, devices.iosb, 0, 0, 3, 1),
            *(SYNCHRONOUS, 0, 0),
        )
        assert found == status
