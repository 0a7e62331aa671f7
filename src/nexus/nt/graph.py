"""What a set of kernel objects was like at one moment, found by walking from one of them.

Kernel objects are plain Python: fields and containers that lead to other objects of this package. `Graph`
remembers the fields of every instance and the contents of every container that it reaches, and `restore`
looks which of them are others now and puts those back, in place, so that everybody's references stay right.
Nothing has to be logged while the guest runs, so nothing can be forgotten there; looking at 600 objects takes
0.1 to 0.2 ms (`docs/experiments/snapshot.md`).

What lies outside of fields is said by the class:

    snapshot_keeps = ("fd",)     fields that are not put back
    snapshot_descriptors = ("fd",)   kept fields with a host descriptor that the object owns, -1 for none
    def snapshot_outside(self)   called when the moment is remembered; returns a function that puts back what
                                 is not in fields, or None; raises NotReversible

Objects of other packages are not looked into: what they hold is not the guest's state, or somebody else's
business (a window's memory).
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from itertools import chain
from operator import attrgetter, call, is_
from types import BuiltinFunctionType, BuiltinMethodType, FunctionType, MethodType, ModuleType

from nexus.base.intervals import IntervalMap
from nexus.isa.x86.registers import CpuState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    _Names = tuple[str, ...]
    _Get = Callable[[Any], Any]
    _Row = tuple[Any, _Get, tuple[Any, ...], Callable[..., None], _Names]

_PLAIN = frozenset((int, str, bytes, float, bool, complex, type(None), type(Ellipsis), range))
_CODE = (type, FunctionType, BuiltinFunctionType, BuiltinMethodType, ModuleType)
_OURS = "nexus.nt."


class _Fields:
    """How to read and write the fields of instances of a class."""

    __slots__ = ("descriptors", "names", "outside")

    def __init__(self, kind: type) -> None:
        kept = {*getattr(kind, "snapshot_keeps", ()), *getattr(kind, "snapshot_descriptors", ())}
        found: dict[str, None] = {}
        for base in reversed(kind.__mro__):
            slots = base.__dict__.get("__slots__", ())
            found.update(dict.fromkeys((slots,) if isinstance(slots, str) else slots))
        self.names = tuple(name for name in found if name not in kept and not name.startswith("__"))
        self.descriptors: tuple[str, ...] = getattr(kind, "snapshot_descriptors", ())
        self.outside: Callable[[Any], Callable[[], None] | None] | None = getattr(
            kind, "snapshot_outside", None
        )


_fields: dict[type, _Fields] = {}


def _fields_of(kind: type) -> _Fields:
    found = _fields.get(kind)
    if found is None:
        found = _fields[kind] = _Fields(kind)
    return found


def _names(target: object) -> tuple[str, ...]:
    """The fields of an object that are set."""
    fields = _fields_of(type(target))
    names = [name for name in fields.names if hasattr(target, name)]
    kept = getattr(type(target), "snapshot_keeps", ())
    names += [name for name in getattr(target, "__dict__", ()) if name not in kept]
    return tuple(names)


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith(_OURS) or kind is IntervalMap


def _below(target: object) -> Iterator[Any]:
    """What an object leads to."""
    kind = type(target)
    if kind is dict:
        yield from target  # type: ignore[misc]
        yield from target.values()  # type: ignore[attr-defined]
    elif kind in (list, tuple, set, frozenset, deque):
        yield from target  # type: ignore[misc]
    elif kind is MethodType:
        yield target.__self__  # type: ignore[attr-defined]
    elif kind is partial:
        yield target.func  # type: ignore[attr-defined]
        yield target.args  # type: ignore[attr-defined]
        yield target.keywords  # type: ignore[attr-defined]
    else:
        for name in _names(target):
            yield getattr(target, name)


class _Rows:
    """What objects hold: (object, how to get at it, what it was, how to put that back, names of fields).

    Most objects never change, and those are looked at in one go.
    """

    __slots__ = ("_all", "_cold", "_hot", "_sizes", "_values")

    def __init__(self) -> None:
        self._all: list[_Row] = []
        self._hot: list[_Row] = []  # those that were found different once
        self._cold: tuple[list[_Get], list[Any]] = ([], [])
        self._sizes: list[int] = []
        self._values: list[Any] = []

    def add(self, target: Any, get: _Get, put_back: Callable[..., None], names: _Names = ()) -> None:
        self._all.append((target, get, tuple(get(target)), put_back, names))

    def settle(self) -> None:
        """All rows are there, or one more has changed."""
        hot = {id(row[0]) for row in self._hot}
        cold = [row for row in self._all if id(row[0]) not in hot]
        self._hot = [row for row in self._all if id(row[0]) in hot]
        self._cold = [row[1] for row in cold], [row[0] for row in cold]
        self._sizes = [len(row[2]) for row in cold]
        self._values = [value for row in cold for value in row[2]]

    def changed(self) -> list[_Row]:
        """What holds something else now."""
        now = list(map(call, *self._cold))
        if list(map(len, now)) == self._sizes and all(map(is_, chain.from_iterable(now), self._values)):
            return [row for row in self._hot if _differs(row)]
        found = [row for row in self._all if _differs(row)]
        self._hot += found
        self.settle()
        return found


def _differs(row: _Row) -> bool:
    now = row[1](row[0])
    return len(now) != len(row[2]) or not all(map(is_, now, row[2]))


def _put_fields(target: Any, values: tuple[Any, ...], names: _Names) -> None:
    for name, value in zip(names, values, strict=True):
        setattr(target, name, value)


def _put_items(target: Any, values: tuple[Any, ...], _: _Names) -> None:
    target.clear()
    target.extend(values)


def _put_members(target: Any, values: tuple[Any, ...], _: _Names) -> None:
    target.clear()
    target.update(values)


def _keys_and_values(target: dict[Any, Any]) -> tuple[Any, ...]:
    return (*target, *target.values())


def _put_pairs(target: dict[Any, Any], values: tuple[Any, ...], _: _Names) -> None:
    half = len(values) // 2
    target.clear()
    target.update(zip(values[:half], values[half:], strict=True))


class Graph:
    """The objects that `root` leads to, without those in `leave_out` and what only they lead to."""

    def __init__(self, root: object, leave_out: tuple[object, ...] = ()) -> None:
        self._left_out = leave_out
        self._known: dict[int, object] = {id(target): target for target in leave_out}
        self._rows = _Rows()
        self._unset: list[tuple[Any, _Names]] = []
        self._states: list[tuple[CpuState, bytes]] = []
        self._descriptors: list[tuple[Any, str, int]] = []  # object, field, our own copy of its descriptor
        self._outside: list[Callable[[], None]] = []
        try:
            waiting = [root]
            while waiting:
                target = waiting.pop()
                if id(target) not in self._known and self._is_state(target):
                    self._known[id(target)] = target
                    self._remember(target)
                    waiting.extend(_below(target))
            self._rows.settle()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the copies of descriptors back."""
        for _, _, fd in self._descriptors:
            os.close(fd)
        self._descriptors = []

    def __len__(self) -> int:
        return len(self._known)

    def _is_state(self, target: object) -> bool:
        kind = type(target)
        if kind in _PLAIN or isinstance(target, _CODE):
            return False
        if kind in (dict, list, tuple, set, frozenset, deque, bytearray, MethodType, partial, CpuState):
            return True
        return _is_ours(kind) and not isinstance(target, (int, str, bytes, BaseException))

    def _remember(self, target: Any) -> None:
        kind = type(target)
        if kind is dict:
            self._rows.add(target, _keys_and_values, _put_pairs)
        elif kind in (list, deque, bytearray):
            self._rows.add(target, tuple, _put_items)
        elif kind is set:
            self._rows.add(target, tuple, _put_members)
        elif kind is CpuState:
            self._states.append((target, bytes(target.buffer)))
        elif _is_ours(kind):
            self._remember_instance(target)

    def _remember_instance(self, target: Any) -> None:
        fields = _fields_of(type(target))
        names = _names(target)
        if names:
            # of a single name it would not be a tuple
            names = names if len(names) > 1 else names * 2
            self._rows.add(target, attrgetter(*names), _put_fields, names)
        unset = tuple(name for name in fields.names if name not in set(names))
        if unset:
            self._unset.append((target, unset))
        for name in fields.descriptors:
            fd = getattr(target, name)
            if fd >= 0:
                self._descriptors.append((target, name, os.dup(fd)))
        if fields.outside is not None:
            put_back = fields.outside(target)
            if put_back is not None:
                self._outside.append(put_back)

    # going back ------------------------------------------------------------------------------------

    def restore(self, dispose: Callable[[object], None]) -> None:
        """Put everything back. Objects that came since are handed to `dispose`, and their descriptors are
        closed.
        """
        rows = self._rows.changed()
        self._dispose_of_new([value for row in rows for value in row[1](row[0])], dispose)
        for target, _, values, put_back, names in rows:
            put_back(target, values, names)
        for target, names in self._unset:
            for name in names:
                if hasattr(target, name):
                    delattr(target, name)
        for state, content in self._states:
            state.buffer[:] = content
        for target, name, fd in self._descriptors:
            if getattr(target, name) < 0:
                setattr(target, name, os.dup(fd))  # perhaps with another number
        for outside in self._outside:
            outside()

    def _dispose_of_new(self, waiting: list[Any], dispose: Callable[[object], None]) -> None:
        """Close what objects hold that were not there."""
        known, seen = self._known, set()
        waiting = [value for value in waiting if type(value) not in _PLAIN and id(value) not in known]
        while waiting:
            target = waiting.pop()
            if id(target) in known or id(target) in seen or not self._is_state(target):
                continue
            seen.add(id(target))
            waiting.extend(_below(target))
            if _is_ours(type(target)):
                dispose(target)
                for name in _fields_of(type(target)).descriptors:
                    fd = getattr(target, name)
                    if fd >= 0:
                        os.close(fd)
                        setattr(target, name, -1)
