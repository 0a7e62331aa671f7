"""`IoManager`: the devices of a machine, what is open on them, and the way from a name to a device."""

from __future__ import annotations

import os

from nexus.nt.attributes import Attributes
from nexus.nt.cm.registry import Registry
from nexus.nt.cm.registry_store import save
from nexus.nt.errors import NtError
from nexus.nt.io.file import (
    FILE_DIRECTORY_FILE,
    FILE_NON_DIRECTORY_FILE,
    FILE_OPENED,
    FILE_OVERWRITE_IF,
    SYNCHRONOUS,
    FileObject,
    OpenRequest,
)
from nexus.nt.io.file_disk import DiskFile
from nexus.nt.io.file_node import Disk, FileNode
from nexus.nt.io.file_open import VolumeDevice, open_file
from nexus.nt.io.file_stream import NullDevice
from nexus.nt.io.mailslot import MailslotDevice
from nexus.nt.io.pipe_device import PipeDevice
from nexus.nt.io.place import Place, Refusals
from nexus.nt.io.volume import Volume
from nexus.nt.namespace import Device, Directory, SymbolicLink
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from nexus.nt.call import Call
    from nexus.nt.io.directory_watch import DirectoryWatch
    from nexus.nt.kernel import Kernel
    from nexus.nt.ps.thread import Thread

    class NetworkRules(Protocol):
        """What a guest may do with the network; addresses are numeric."""

        def may_resolve(self, name: str) -> bool: ...
        def learn(self, name: str, addresses: Iterable[str]) -> None: ...
        def may_use(self, address: str, port: int) -> bool: ...


SYNCHRONIZE = 0x10_0000
DISK_LIMIT = 4 << 30


class AfdDevice(Device):
    """`\\\\Device\\\\Afd`: sockets. A name below it (`\\\\Device\\\\Afd\\\\Mio`) opens a handle that
    only polls.
    """

    __slots__ = ("io",)

    def __init__(self, io: IoManager) -> None:
        super().__init__()
        self.io = io

    def open(self, request: OpenRequest) -> tuple[FileObject, int]:
        from nexus.nt.net.afd import open_socket  # loaded with the first socket: most programs never open one

        return open_socket(self.io, request)


class DiskDevice(Device):
    """`\\\\Device\\\\Harddisk0\\\\DR0`: the disk that a volume lies on."""

    __slots__ = ("number", "volume")

    def __init__(self, volume: Volume, number: int) -> None:
        super().__init__()
        self.volume = volume
        self.number = number

    def open(self, request: OpenRequest) -> tuple[FileObject, int]:
        from nexus.nt.io.file_volume import RawDisk

        if request.rest:
            raise NtError(Status.OBJECT_PATH_NOT_FOUND)
        return RawDisk(request, self.volume, self.number), FILE_OPENED


class MountManager(Device):
    """`\\\\Device\\\\MountPointManager`: which names lead to which volume."""

    __slots__ = ("io",)

    def __init__(self, io: IoManager) -> None:
        super().__init__()
        self.io = io

    def open(self, request: OpenRequest) -> tuple[FileObject, int]:
        from nexus.nt.io.mount_manager import MountManagerFile

        if request.rest:
            raise NtError(Status.OBJECT_PATH_NOT_FOUND)
        return MountManagerFile(self.io, request), FILE_OPENED


class IoManager:
    """One per kernel. `touched` collects the host files that guests opened: path -> "read" or "written"."""

    snapshot_keeps = ("touched", "refusals", "disk", "broken_output", "network", "_saved_changes")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.registry = Registry()
        self.registry_path: str | None = None
        self.refusals = Refusals()
        self.volumes: dict[str, Volume] = {}
        self.nodes: dict[tuple[int, int], FileNode] = {}
        self.disk = Disk(DISK_LIMIT)
        self.watches: list[DirectoryWatch] = []
        self.touched: dict[str, str] = {}
        self.broken_output = False
        self.network: NetworkRules | None = None
        self.certificates: list[bytes] | None = None
        self._saved_changes = 0
        kernel.namespace.insert("\\Device\\Null", NullDevice())
        kernel.namespace.insert("\\GLOBAL??\\NUL", SymbolicLink("\\Device\\Null"))
        kernel.namespace.insert("\\Device\\NamedPipe", PipeDevice(kernel))
        kernel.namespace.insert("\\Device\\Mailslot", MailslotDevice(kernel))
        kernel.namespace.insert("\\GLOBAL??\\MAILSLOT", SymbolicLink("\\Device\\Mailslot"))
        kernel.namespace.insert("\\Device\\Afd", AfdDevice(self))
        kernel.namespace.insert("\\Device\\MountPointManager", MountManager(self))
        kernel.namespace.insert("\\GLOBAL??\\MountPointManager", SymbolicLink("\\Device\\MountPointManager"))
        kernel.namespace.insert("\\GLOBAL??\\PIPE", SymbolicLink("\\Device\\NamedPipe"))
        kernel.on_thread_end.append(self._thread_ended)

    # volumes -----------------------------------------------------------------------------------------

    def add_volume(self, volume: Volume) -> None:
        """Give a volume its device name and drive letter."""
        namespace = self.kernel.namespace
        number = len(self.volumes)
        self.volumes[volume.letter] = volume
        device = f"\\Device\\{volume.device}"
        namespace.insert(device, VolumeDevice(volume, number))
        disk = f"\\Device\\Harddisk{number}"
        namespace.insert(disk, Directory())
        namespace.insert(f"{disk}\\DR{number}", DiskDevice(volume, number))
        namespace.insert(f"\\GLOBAL??\\PhysicalDrive{number}", SymbolicLink(f"{disk}\\DR{number}"))
        namespace.insert(f"\\GLOBAL??\\{volume.letter}:", SymbolicLink(device))
        namespace.insert(f"\\GLOBAL??\\Volume{{{volume.guid}}}", SymbolicLink(device))

    def close(self) -> None:
        """Give the descriptors of the volumes back."""
        for volume in self.volumes.values():
            volume.close()

    def node_of(self, info: os.stat_result) -> FileNode:
        """The node of a host file; a new one is not yet entered into `nodes`."""
        key = info.st_dev, info.st_ino
        known = self.nodes.get(key)
        return known if known is not None and known.used else FileNode(key)

    # opening -----------------------------------------------------------------------------------------

    def open(
        self,
        call: Call,
        attributes: Attributes,
        desired: int,
        share: int,
        disposition: int,
        options: int,
        file_attributes: int = 0,
        allocation: int = 0,
        ea: bytes = b"",
    ) -> tuple[FileObject, int]:
        """NtCreateFile up to the handle: the file object and what goes into the status block."""
        if attributes.name is None:
            raise NtError(Status.OBJECT_NAME_INVALID if attributes.root is None else Status.INVALID_PARAMETER)
        request = OpenRequest(call, "", desired, share, disposition, options, file_attributes, allocation, ea)
        _check(request)
        root = attributes.root
        if isinstance(root, FileObject):
            if attributes.name.startswith("\\"):
                raise NtError(Status.INVALID_PARAMETER)
            request.root, request.rest = root, attributes.name
            return self._open_relative(root, request)
        if not attributes.name and root is None:
            raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
        found = call.kernel.namespace.parse(attributes.name, root)
        opener: Callable[[OpenRequest], tuple[FileObject, int]] | None = getattr(found.object, "open", None)
        if opener is None:
            raise NtError(Status.OBJECT_TYPE_MISMATCH)
        request.rest = found.rest
        if not request.rest and attributes.name.endswith("\\"):
            request.rest = "\\"
        return opener(request)

    def _open_relative(self, root: FileObject, request: OpenRequest) -> tuple[FileObject, int]:
        if isinstance(root, DiskFile):
            return open_file(root.place.volume, request)
        opener: Callable[[OpenRequest], tuple[FileObject, int]] | None = getattr(root, "open_relative", None)
        if opener is None:
            raise NtError(Status.OBJECT_PATH_NOT_FOUND)
        return opener(request)

    def find(self, call: Call, attributes: Attributes) -> Place | None:
        """The place a name stands for, without opening it; None for names that are not on a volume."""
        from nexus.nt.io.file_open import find

        if attributes.name is None:
            raise NtError(Status.OBJECT_NAME_INVALID)
        request = OpenRequest(call, "", 0x80, 7, 1, 0)
        root = attributes.root
        if isinstance(root, DiskFile):
            if attributes.name.startswith("\\"):
                raise NtError(Status.INVALID_PARAMETER)
            request.root, request.rest = root, attributes.name
            return find(root.place.volume, request)
        if not attributes.name:
            raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
        found = call.kernel.namespace.parse(attributes.name, root)
        if not isinstance(found.object, VolumeDevice):
            return None
        request.rest = found.rest
        return find(found.object.volume, request)

    # records -----------------------------------------------------------------------------------------

    def touched_file(self, file: DiskFile, written: bool) -> None:
        """Note a file for the report of the run."""
        path = file.place.host_path
        if written:
            self.touched[path] = "written"
        else:
            self.touched.setdefault(path, "read")

    def names_changed(self) -> None:
        """A guest made, removed or renamed something: tell at once whoever watches the folder."""
        for watch in list(self.watches):
            watch.collect()

    def save_registry(self) -> None:
        """Write the registry to its file, if it has one and anything changed."""
        if self.registry_path is not None and self.registry.changes != self._saved_changes:
            save(self.registry, self.registry_path)
            self._saved_changes = self.registry.changes

    def _thread_ended(self, thread: Thread) -> None:
        """Operations that a thread began and nobody else will collect end with it."""
        for _, entry in list(thread.process.handles.items()):
            target = entry.object
            if isinstance(target, FileObject):
                for op in [op for op in target.pending if op.thread is thread]:
                    op.abandon(Status.CANCELLED)


def _check(request: OpenRequest) -> None:
    """The checks that do not depend on the device."""
    options = request.options
    if request.disposition > FILE_OVERWRITE_IF or options & ~0x00FF_FFFF:
        raise NtError(Status.INVALID_PARAMETER)
    if request.share & ~7 or request.attributes & ~0x0007_FFFF:
        raise NtError(Status.INVALID_PARAMETER)
    if options & SYNCHRONOUS == SYNCHRONOUS:
        raise NtError(Status.INVALID_PARAMETER)
    if options & SYNCHRONOUS and not (request.desired & SYNCHRONIZE or request.maximum):
        raise NtError(Status.INVALID_PARAMETER)
    if options & FILE_DIRECTORY_FILE and options & FILE_NON_DIRECTORY_FILE:
        raise NtError(Status.INVALID_PARAMETER)
