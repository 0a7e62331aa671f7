"""The registry: a tree of keys in memory.

`Key` is one node; names compare without case and keep it, subkeys are enumerated in sorted order, values in
the order in which they were first set. `KeyObject` is what a handle refers to. Defaults are in
`registry_defaults`, keeping a registry in a file is `registry_store`.
"""

from __future__ import annotations

import bisect

from nexus.nt import access
from nexus.nt.errors import NtError
from nexus.nt.io.path import units, upcase, wide
from nexus.nt.objects import KernelObject, ObjectType
from nexus.nt.status import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nexus.nt.ps.process import Process

REG_NONE, REG_SZ, REG_EXPAND_SZ, REG_BINARY, REG_DWORD = 0, 1, 2, 3, 4
REG_LINK, REG_MULTI_SZ, REG_QWORD = 6, 7, 11

REG_NOTIFY_CHANGE_NAME = 1
REG_NOTIFY_CHANGE_ATTRIBUTES = 2
REG_NOTIFY_CHANGE_LAST_SET = 4
REG_NOTIFY_CHANGE_SECURITY = 8

MAX_KEY_NAME = 256
MAX_VALUE_NAME = 16383
MAX_LINKS = 32
MAX_NOTED = 10_000
LINK_VALUE = "SYMBOLICLINKVALUE"
WOW_NODE = "WOW6432NODE"
ROOT = "REGISTRY"


class Value:
    """A named value: `type` is a REG_* number, `data` raw bytes."""

    __slots__ = ("data", "name", "type")

    def __init__(self, name: str, type: int, data: bytes) -> None:
        self.name = name
        self.type = type
        self.data = data


class Key:
    """One node of the tree. `modified` is its last write time (system time, 100 ns)."""

    __slots__ = (
        "_sorted",
        "class_name",
        "deleted",
        "fill",
        "link",
        "modified",
        "name",
        "parent",
        "subkeys",
        "values",
        "volatile",
        "watches",
    )
    snapshot_keeps = tuple(name for name in __slots__ if name != "watches")  # those are the registry's

    def __init__(self, name: str, parent: Key | None, modified: int = 0) -> None:
        self.name = name
        self.parent = parent
        self.subkeys: dict[str, Key] = {}
        self._sorted: list[str] = []  # upper-cased names of the subkeys
        self.values: dict[str, Value] = {}
        self.class_name = ""
        self.modified = modified
        self.volatile = False
        self.link = False
        self.deleted = False
        self.fill: Callable[[Key], None] | None = None  # completes the key when it is first reached
        self.watches: list[Watch] = []

    @property
    def path(self) -> str:
        parts = []
        key: Key | None = self
        while key is not None:
            parts.append(key.name)
            key = key.parent
        return "\\" + "\\".join(reversed(parts))

    def child(self, name: str) -> Key | None:
        return self.subkeys.get(upcase(name))

    def subkey_at(self, index: int) -> Key:
        """The subkey with that number in sorted order; raises STATUS_NO_MORE_ENTRIES."""
        if not 0 <= index < len(self._sorted):
            raise NtError(Status.NO_MORE_ENTRIES)
        return self.subkeys[self._sorted[index]]

    def value_at(self, index: int) -> Value:
        if not 0 <= index < len(self.values):
            raise NtError(Status.NO_MORE_ENTRIES)
        for number, value in enumerate(self.values.values()):
            if number == index:
                return value
        raise NtError(Status.NO_MORE_ENTRIES)

    def value(self, name: str) -> Value:
        value = self.values.get(upcase(name))
        if value is None:
            raise NtError(Status.OBJECT_NAME_NOT_FOUND)
        return value

    def walk(self) -> Iterator[Key]:
        """This key and everything below, parents first, in sorted order."""
        yield self
        for name in self._sorted:
            yield from self.subkeys[name].walk()

    # changing --------------------------------------------------------------------------------------

    def add(self, name: str, modified: int = 0) -> Key:
        """A new subkey (the caller has checked that there is none)."""
        key = Key(name, self, modified)
        folded = upcase(name)
        self.subkeys[folded] = key
        bisect.insort(self._sorted, folded)
        return key

    def remove(self, key: Key) -> None:
        folded = upcase(key.name)
        del self.subkeys[folded]
        self._sorted.remove(folded)
        key.deleted = True

    def ensure(self, path: str) -> Key:
        """The key at a relative path, made where missing; for defaults and stored files."""
        key = self
        for part in path.split("\\"):
            if part:
                key = key.child(part) or key.add(part)
        return key

    def set(self, name: str, type: int, data: bytes) -> bool:
        """Store a value; False when nothing changed."""
        folded = upcase(name)
        known = self.values.get(folded)
        if known is None:
            self.values[folded] = Value(name, type, data)
            return True
        if known.type == type and known.data == data:
            return False
        known.type, known.data = type, data
        return True

    def set_text(self, name: str, text: str, type: int = REG_SZ) -> None:
        self.set(name, type, wide(text) + b"\0\0")

    def set_number(self, name: str, number: int) -> None:
        self.set(name, REG_DWORD, number.to_bytes(4, "little"))

    def text(self, name: str) -> str:
        """A string value without its terminator; empty when missing."""
        value = self.values.get(upcase(name))
        return value.data.decode("utf-16-le", "replace").rstrip("\0") if value is not None else ""

    def touched(self, change: int, now: int) -> None:
        """Stamp the key and fire the watches on it and, for whole trees, above it."""
        self.modified = now
        key: Key | None = self
        while key is not None:
            for watch in list(key.watches):
                if change & watch.owner.watch_filter and (key is self or watch.owner.watch_tree):
                    watch.fire(Status.NOTIFY_ENUM_DIR)
            key = key.parent


class Watch(KernelObject):
    """A request to be told about changes: signalled once, then forgotten. `status` tells why it fired.

    What is watched for was settled by the first request on the handle (`KeyObject.watch_filter`).
    """

    __slots__ = ("event", "key", "owner", "status")

    def __init__(self, owner: KeyObject, event: KernelObject | None) -> None:
        super().__init__()
        self.key = owner.live
        self.owner = owner
        self.event = event
        self.status = Status.PENDING
        self.key.watches.append(self)

    def fire(self, status: int) -> None:
        if self in self.key.watches:
            self.key.watches.remove(self)
        self.status = status
        self.signaled = True
        if self.event is not None:
            self.event.signaled = True


class KeyObject(KernelObject):
    """An open key."""

    __slots__ = ("key", "watch_filter", "watch_tree", "watched")

    type = ObjectType(
        "Key",
        read=access.KEY_QUERY_VALUE | access.KEY_ENUMERATE_SUB_KEYS | access.KEY_NOTIFY,
        write=access.KEY_SET_VALUE | access.KEY_CREATE_SUB_KEY,
        execute=access.KEY_QUERY_VALUE
        | access.KEY_ENUMERATE_SUB_KEYS
        | access.KEY_NOTIFY
        | access.KEY_CREATE_LINK,
        all=access.STANDARD_RIGHTS_REQUIRED | 0x3F,
        more=access.SYNCHRONIZE,
    )
    waitable = False

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key = key
        self.watched = False
        self.watch_filter = 0
        self.watch_tree = False

    def watch(self, filter: int, tree: bool, event: KernelObject | None) -> Watch:
        """Ask to be told of the next change; the first call on a handle decides which changes count."""
        if not self.watched:
            self.watched, self.watch_filter, self.watch_tree = True, filter, tree
        return Watch(self, event)

    @property
    def live(self) -> Key:
        """The key, unless it was deleted meanwhile."""
        if self.key.deleted:
            raise NtError(Status.KEY_DELETED)
        return self.key

    @property
    def path(self) -> str:
        return self.live.path

    def handle_closed(self, process: Process) -> None:
        for watch in [w for w in self.key.watches if w.owner is self]:
            watch.fire(Status.NOTIFY_CLEANUP)


class Registry:
    """The whole tree; `root` is the key `\\\\REGISTRY`."""

    __slots__ = ("changes", "noted", "root")
    snapshot_keeps = ("changes", "noted", "root")

    def __init__(self) -> None:
        self.root = Key("REGISTRY", None)
        self.changes = 0  # writes by the guest, so that a store knows when to save
        self.noted: dict[tuple[str, str, str | None], None] = {}  # the first of them: (action, key, value)

    def snapshot_outside(self) -> Callable[[], None]:
        """See `nt/graph.py`: all keys, if a guest has changed any."""
        from nexus.nt.cm.registry_saved import SavedTree

        return SavedTree(self).restore

    def note(self, action: str, key: str, value: str | None = None) -> None:
        """Keep a write for the report, each once; a guest that makes very many is not followed further."""
        if len(self.noted) < MAX_NOTED:
            self.noted[action, key, value] = None

    def split(self, name: str, start: Key | None) -> tuple[Key, list[str]]:
        """Where a walk begins and its components. Raises for names that cannot be registry paths."""
        if start is not None:
            if name.startswith("\\"):
                raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
            return start, self._components(name)
        if not name.startswith("\\"):
            raise NtError(Status.OBJECT_PATH_SYNTAX_BAD)
        first, _, rest = name[1:].partition("\\")
        if upcase(first) != ROOT:
            raise NtError(Status.OBJECT_NAME_NOT_FOUND)
        return self.root, self._components(rest)

    @staticmethod
    def _components(name: str) -> list[str]:
        return [part for part in name.split("\\") if part]

    def find(self, name: str, start: Key | None = None, open_link: bool = False) -> tuple[Key, str]:
        """Walk to a key: (the key, "") or, if only the last component is missing, (its parent, that name).

        A 64-bit program sees everything; Wine's kernelbase finds the 32-bit views (Wow6432Node) itself.
        """
        key, parts = self.split(name, start)
        links = 0
        while True:
            if key.fill is not None:
                fill, key.fill = key.fill, None
                fill(key)
            if key.deleted:
                raise NtError(Status.KEY_DELETED)
            if key.link and not (open_link and not parts):
                links += 1
                value = key.values.get(LINK_VALUE)
                target = (
                    value.data.decode("utf-16-le", "surrogatepass")
                    if value and len(value.data) % 2 == 0
                    else ""
                )
                if links > MAX_LINKS:
                    raise NtError(Status.NAME_TOO_LONG)
                if not target.startswith("\\"):
                    raise NtError(Status.OBJECT_NAME_NOT_FOUND)
                key, more = self.split(target, None)
                parts = more + parts
                continue
            if not parts:
                return key, ""
            name = parts[0]
            if units(name) > MAX_KEY_NAME:
                raise NtError(Status.INVALID_PARAMETER)
            child = key.child(name)
            if child is None:
                if len(parts) > 1:
                    raise NtError(Status.OBJECT_NAME_NOT_FOUND)
                return key, name
            key, parts = child, parts[1:]

    def open(self, name: str, start: Key | None = None, open_link: bool = False) -> Key:
        key, missing = self.find(name, start, open_link)
        if missing:
            raise NtError(Status.OBJECT_NAME_NOT_FOUND)
        return key

    def create(
        self,
        name: str,
        start: Key | None,
        now: int,
        *,
        volatile: bool = False,
        link: bool = False,
        open_link: bool = False,
    ) -> tuple[Key, bool]:
        """The key and whether it is new. Only the last component is made."""
        key, missing = self.find(name, start, link or open_link)
        if not missing:
            if link:
                raise NtError(Status.OBJECT_NAME_COLLISION)
            return key, False
        if key is self.root:
            raise NtError(Status.ACCESS_DENIED)
        if key.volatile and not volatile:
            raise NtError(Status.CHILD_MUST_BE_VOLATILE)
        made = key.add(missing, now)
        made.volatile = volatile
        made.link = link
        self.note("create", made.path)
        self.changed(key, REG_NOTIFY_CHANGE_NAME, now)
        return made, True

    def changed(self, key: Key, change: int, now: int) -> None:
        self.changes += 1
        key.touched(change, now)

    def delete(self, key: Key, now: int) -> None:
        if key.parent is None or key.parent is self.root:
            raise NtError(Status.ACCESS_DENIED)
        if key.subkeys:
            raise NtError(Status.ACCESS_DENIED)
        self.note("delete", key.path)
        key.parent.remove(key)
        for watch in list(key.watches):
            watch.fire(Status.KEY_DELETED)
        self.changed(key.parent, REG_NOTIFY_CHANGE_NAME, now)

    def rename(self, key: Key, name: str, now: int) -> None:
        if not name or "\\" in name or units(name) > MAX_KEY_NAME:
            raise NtError(Status.INVALID_PARAMETER)
        parent = key.parent
        if parent is None or parent.child(name) is not None:
            raise NtError(Status.CANNOT_DELETE)
        if WOW_NODE in (upcase(key.name), upcase(name)):
            raise NtError(Status.INVALID_PARAMETER)
        self.note("rename", key.path, name)
        parent.remove(key)
        key.deleted = False
        key.name = name
        folded = upcase(name)
        parent.subkeys[folded] = key
        bisect.insort(parent._sorted, folded)
        self.changed(key, REG_NOTIFY_CHANGE_NAME, now)

    def set_value(self, key: Key, name: str, type: int, data: bytes, now: int) -> None:
        if units(name) > MAX_VALUE_NAME:
            raise NtError(Status.INVALID_PARAMETER)
        if key.link and (type != REG_LINK or upcase(name) != LINK_VALUE):
            raise NtError(Status.ACCESS_DENIED)
        if key.set(name, type, data):
            self.note("set", key.path, name)
            self.changed(key, REG_NOTIFY_CHANGE_LAST_SET, now)

    def delete_value(self, key: Key, name: str, now: int) -> None:
        key.value(name)
        del key.values[upcase(name)]
        self.note("delete value", key.path, name)
        self.changed(key, REG_NOTIFY_CHANGE_LAST_SET, now)
