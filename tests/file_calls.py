"""File system calls as tests make them, on a folder of the host that is granted."""

from __future__ import annotations

import struct
from pathlib import Path

from fake_machine import Machine
from nexus.nt.io.place import Grant
from nexus.nt.io.volume import Volume
from nexus.nt.status import Status

READ, WRITE, DELETE, SYNC = 0x80000000, 0x40000000, 0x10000, 0x100000
OPEN, CREATE, OPEN_IF, OVERWRITE, OVERWRITE_IF = 1, 2, 3, 4, 5
SYNCHRONOUS, DIRECTORY, NON_DIRECTORY, DELETE_ON_CLOSE = 0x20, 0x1, 0x40, 0x1000


class Files:
    """The folder `host` is the drive X: of a machine."""

    def __init__(self, machine: Machine, host: Path, write: bool = True) -> None:
        self.machine, self.host = machine, host
        volume = Volume("X", "HarddiskVolume9")
        volume.mount([], Grant(str(host), write=write))
        machine.kernel.io.add_volume(volume)
        self.volume = volume
        self.handle = machine.put(8)
        self.iosb = machine.put(16)
        self.buffer = machine.put(0x2000)

    def create(
        self,
        name: str,
        access: int = READ | SYNC,
        share: int = 7,
        disposition: int = OPEN,
        options: int = SYNCHRONOUS,
    ) -> int:
        attributes = self.machine.attributes(f"\\??\\X:\\{name}")
        status: int = self.machine.NtCreateFile(
            self.handle, access, attributes, self.iosb, 0, 0, share, disposition, options, 0, 0
        )
        return status

    def open(self, *args: object, **named: object) -> int:
        status = self.create(*args, **named)  # type: ignore[arg-type]
        assert status == Status.SUCCESS, hex(status)
        return self.machine.memory.u64(self.handle)

    @property
    def information(self) -> int:
        return self.machine.memory.u64(self.iosb + 8)

    def write(self, handle: int, data: bytes, offset: int = 0) -> int:
        status: int = self.machine.NtWriteFile(
            handle, 0, 0, 0, self.iosb, self.machine.put(data), len(data), offset, 0
        )
        return status

    def read(self, handle: int, length: int, offset: int = 0) -> tuple[int, bytes]:
        status = self.machine.NtReadFile(handle, 0, 0, 0, self.iosb, self.buffer, length, offset, 0)
        return status, self.machine.memory.read(self.buffer, self.information) if not status else b""

    def query(self, handle: int, kind: int, length: int) -> tuple[int, bytes]:
        status = self.machine.NtQueryInformationFile(handle, self.iosb, self.buffer, length, kind)
        return status, self.machine.memory.read(self.buffer, self.information) if status < 0xC0000000 else b""

    def set(self, handle: int, kind: int, data: bytes) -> int:
        status: int = self.machine.NtSetInformationFile(
            handle, self.iosb, self.machine.put(data), len(data), kind
        )
        return status

    def close(self, handle: int) -> None:
        self.machine.process.handles.close(handle)

    def rename(self, handle: int, target: str, kind: int = 10, flags: int = 0) -> int:
        name = target.encode("utf-16-le")
        return self.set(handle, kind, struct.pack("<IxxxxQI", flags, 0, len(name)) + name)
