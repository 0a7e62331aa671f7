"""The object directory: named kernel objects under `\\`, object directories and symbolic links.

A name is looked up component by component, without regard to case. The walk ends at the first object that is
neither a directory nor a link; when it is a `Device` the rest of the name is the device's own business,
otherwise a rest is an error. Links restart the walk with their target.
"""

from __future__ import annotations

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.handles import OBJ_CASE_INSENSITIVE, OBJ_OPENIF, OBJ_OPENLINK, OBJ_PERMANENT
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from nexus.nt.attributes import Attributes

    K = TypeVar("K", bound=KernelObject)

MAX_LINKS = 63
SEPARATOR = "\\"


class Directory(KernelObject):
    """An object directory: names differ by case, but can be looked up without it."""

    __slots__ = ("entries",)

    type = ObjectType(
        "Directory",
        read=access.DIRECTORY_QUERY | access.DIRECTORY_TRAVERSE,
        write=access.DIRECTORY_CREATE_OBJECT | access.DIRECTORY_CREATE_SUBDIRECTORY,
        execute=access.DIRECTORY_QUERY | access.DIRECTORY_TRAVERSE,
        all=access.STANDARD_RIGHTS_REQUIRED | 0xF,
    )
    waitable = False

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, KernelObject] = {}

    def insert(self, name: str, target: KernelObject) -> None:
        self.entries[name] = target
        target.name = name
        target.directory = self

    def remove(self, target: KernelObject) -> None:
        """Take the object's name away."""
        if self.entries.get(target.name) is target:
            del self.entries[target.name]
        target.directory = None
        target.name = ""

    def find(self, name: str, any_case: bool) -> KernelObject | None:
        """The entry of that name; the exact spelling wins."""
        found = self.entries.get(name)
        if found is None and any_case:
            upper = name.upper()
            newest_first = reversed(self.entries.items())
            found = next((entry for key, entry in newest_first if key.upper() == upper), None)
        return found

    @property
    def path(self) -> str:
        if self.directory is None:
            return SEPARATOR if not self.name else self.name
        return super().path


class SymbolicLink(KernelObject):
    """A name that stands for another one."""

    __slots__ = ("target",)

    type = ObjectType(
        "SymbolicLink",
        read=access.SYMBOLIC_LINK_QUERY,
        write=0,
        execute=access.SYMBOLIC_LINK_QUERY,
        all=access.STANDARD_RIGHTS_REQUIRED | access.SYMBOLIC_LINK_QUERY,
    )
    waitable = False

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target


class Device(KernelObject):
    """A name below which something else resolves names: a volume, the pipe file system, AFD, the null
    device.
    """

    __slots__ = ()

    type = ObjectType(
        "Device",
        read=0x120089,
        write=0x120116,
        execute=0x1200A0,
        all=access.STANDARD_RIGHTS_ALL | 0x1FF,
    )
    waitable = False


class Found:
    """The end of a walk: the object, and what is left of the name (with its backslash) for a device."""

    __slots__ = ("object", "rest")

    def __init__(self, target: KernelObject, rest: str) -> None:
        self.object = target
        self.rest = rest


class Namespace:
    """The tree of names. `parse` is the walk; `open` and `create` are what syscalls use."""

    __slots__ = ("root",)

    def __init__(self) -> None:
        self.root = Directory()
        self.root.permanent = True
        for path in _DIRECTORIES:
            self.insert(path, Directory())
        for path, target in _LINKS:
            self.insert(path, SymbolicLink(target))

    def insert(self, path: str, target: KernelObject) -> None:
        """Give a permanent object of the system an absolute name; its directory must exist."""
        parent, _, name = path.rpartition(SEPARATOR)
        directory = self.parse(parent).object if parent else self.root
        if not isinstance(directory, Directory):
            raise NtError(Status.OBJECT_PATH_NOT_FOUND)
        target.permanent = True
        directory.insert(name, target)

    def parse(
        self, name: str, root: KernelObject | None = None, open_link: bool = False, any_case: bool = True
    ) -> Found:
        """Walk `name` from the root directory (or from `root`). Raises the NT status of the first problem."""
        directory, missing = self._walk(name, root, open_link, any_case)
        if missing is not None:
            raise NtError(
                Status.OBJECT_PATH_NOT_FOUND if SEPARATOR in missing else Status.OBJECT_NAME_NOT_FOUND
            )
        return directory

    def _walk(
        self, name: str, root: KernelObject | None, open_link: bool, any_case: bool = True
    ) -> tuple[Found, str | None]:
        """The walk: (what was reached, the components that do not exist or None)."""
        current, rest = self._start(name, root)
        links, trailing = 0, False
        while True:
            if isinstance(current, SymbolicLink) and not (open_link and not rest):
                links += 1
                if links > MAX_LINKS:
                    raise NtError(Status.OBJECT_NAME_INVALID)
                target = current.target
                rest = f"{target.rstrip(SEPARATOR)}{SEPARATOR}{rest}" if rest else target or SEPARATOR
                current, rest = self._start(rest, None)
                continue
            if not isinstance(current, Directory):
                if rest and not isinstance(current, Device):
                    raise NtError(Status.OBJECT_TYPE_MISMATCH)
                return Found(current, SEPARATOR + rest if rest else ""), None
            if not rest:
                if trailing:
                    raise NtError(Status.OBJECT_NAME_INVALID)
                return Found(current, ""), None
            component, more, after = rest.partition(SEPARATOR)
            if not component:
                raise NtError(Status.OBJECT_NAME_INVALID)
            child = current.find(component, any_case)
            if child is None:
                return Found(current, ""), rest
            trailing = trailing or (bool(more) and not after)
            current, rest = child, after

    def _start(self, name: str, root: KernelObject | None) -> tuple[KernelObject, str]:
        if root is not None:
            if isinstance(root, SymbolicLink):
                raise NtError(Status.OBJECT_TYPE_MISMATCH)
            if name.startswith(SEPARATOR):
                raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
            return root, name
        if not name.startswith(SEPARATOR):
            raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
        return self.root, name[1:]

    def open(self, attributes: Attributes, kind: type[K]) -> K:
        """The existing object of class `kind` with that name."""
        if attributes.name is None and attributes.root_handle:
            raise NtError(Status.OBJECT_NAME_INVALID)
        if attributes.name is None or (not attributes.name and attributes.root is None):
            raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
        if not attributes.name:
            if isinstance(attributes.root, kind) and kind in (Directory, SymbolicLink):
                return attributes.root  # these open themselves again
            raise NtError(Status.OBJECT_TYPE_MISMATCH)
        open_link, any_case = attributes.flags & OBJ_OPENLINK, attributes.flags & OBJ_CASE_INSENSITIVE
        found = self.parse(attributes.name, attributes.root, bool(open_link), bool(any_case)).object
        if not isinstance(found, kind):
            raise NtError(Status.OBJECT_TYPE_MISMATCH)
        return found

    def create(self, attributes: Attributes | None, kind: type[K], make: Callable[[], K]) -> tuple[K, int]:
        """A new object, named if the attributes say so; with OBJ_OPENIF an existing one is returned instead.

        The second value is STATUS_SUCCESS or STATUS_OBJECT_NAME_EXISTS.
        """
        if attributes is not None and attributes.name is None and attributes.root_handle:
            raise NtError(Status.OBJECT_NAME_INVALID)
        if attributes is None or not attributes.name:
            target = make()
            if attributes is not None:
                target.security = attributes.security
            return target, Status.SUCCESS
        any_case = bool(attributes.flags & OBJ_CASE_INSENSITIVE)
        found, missing = self._walk(attributes.name, attributes.root, kind is SymbolicLink, any_case)
        if missing is None:
            if not isinstance(found.object, kind):
                raise NtError(Status.OBJECT_TYPE_MISMATCH)
            if not attributes.flags & OBJ_OPENIF:
                raise NtError(Status.OBJECT_NAME_COLLISION)
            return found.object, Status.OBJECT_NAME_EXISTS
        if SEPARATOR in missing:
            raise NtError(Status.OBJECT_PATH_NOT_FOUND)
        target = make()
        target.security = attributes.security
        target.permanent = bool(attributes.flags & OBJ_PERMANENT)
        assert isinstance(found.object, Directory)
        found.object.insert(missing, target)
        return target, Status.SUCCESS


_DIRECTORIES = (
    "\\Device",
    "\\Driver",
    "\\ObjectTypes",
    "\\KernelObjects",
    "\\GLOBAL??",
    "\\Windows",
    "\\RPC Control",
    "\\BaseNamedObjects",
    "\\Sessions",
    "\\Sessions\\0",
    "\\Sessions\\1",
    "\\Sessions\\1\\BaseNamedObjects",
    "\\Sessions\\1\\Windows",
    "\\Sessions\\1\\Windows\\WindowStations",
    "\\Sessions\\BNOLINKS",
)
_LINKS = (
    ("\\??", "\\GLOBAL??"),
    ("\\DosDevices", "\\??"),
    ("\\GLOBAL??\\Global", "\\GLOBAL??"),
    ("\\GLOBAL??\\GLOBALROOT", ""),
    ("\\BaseNamedObjects\\Global", "\\BaseNamedObjects"),
    ("\\BaseNamedObjects\\Local", "\\BaseNamedObjects"),
    ("\\BaseNamedObjects\\Session", "\\Sessions\\BNOLINKS"),
    ("\\Sessions\\0\\BaseNamedObjects", "\\BaseNamedObjects"),
    ("\\Sessions\\0\\DosDevices", "\\??"),
    ("\\Sessions\\1\\DosDevices", "\\??"),
    ("\\Sessions\\1\\BaseNamedObjects\\Global", "\\BaseNamedObjects"),
    ("\\Sessions\\1\\BaseNamedObjects\\Local", "\\Sessions\\1\\BaseNamedObjects"),
    ("\\Sessions\\1\\BaseNamedObjects\\Session", "\\Sessions\\BNOLINKS"),
    ("\\Sessions\\BNOLINKS\\0", "\\BaseNamedObjects"),
    ("\\Sessions\\BNOLINKS\\1", "\\Sessions\\1\\BaseNamedObjects"),
)
