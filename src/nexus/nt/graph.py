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
from operator import attrgetter, is_
from types import BuiltinFunctionType, BuiltinMethodType, FunctionType, MethodType, ModuleType

from nexus.base.intervals import IntervalMap
from nexus.isa.x86.registers import CpuState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    _Names = tuple[str, ...]

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


class Graph:
    """The objects that `root` leads to, without those in `leave_out` and what only they lead to."""

    def __init__(self, root: object, leave_out: tuple[object, ...] = ()) -> None:
        self._left_out = leave_out
        self._known: dict[int, object] = {id(target): target for target in leave_out}
        self._instances: list[tuple[Any, Callable[[Any], tuple[Any, ...]], tuple[Any, ...], _Names]] = []
        self._unset: list[tuple[Any, _Names]] = []
        self._sequences: list[tuple[Any, tuple[Any, ...]]] = []
        self._dicts: list[tuple[dict[Any, Any], tuple[Any, ...], tuple[Any, ...]]] = []
        self._sets: list[tuple[set[Any], frozenset[Any]]] = []
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
            self._dicts.append((target, tuple(target), tuple(target.values())))
        elif kind in (list, deque, bytearray):
            self._sequences.append((target, tuple(target)))
        elif kind is set:
            self._sets.append((target, frozenset(target)))
        elif kind is CpuState:
            self._states.append((target, bytes(target.buffer)))
        elif _is_ours(kind):
            self._remember_instance(target)

    def _remember_instance(self, target: Any) -> None:
        fields = _fields_of(type(target))
        names = _names(target)
        if names:
            get = attrgetter(*names) if len(names) > 1 else attrgetter(names[0], names[0])
            self._instances.append((target, get, get(target), names))
        unset = tuple(name for name in fields.names if name not in names)
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
        instances = [row for row in self._instances if not all(map(is_, row[1](row[0]), row[2]))]
        sequences = [
            row for row in self._sequences if len(row[0]) != len(row[1]) or not all(map(is_, row[0], row[1]))
        ]
        dicts = [
            row
            for row in self._dicts
            if len(row[0]) != len(row[1])
            or not all(map(is_, row[0].values(), row[2]))
            or not all(map(is_, row[0], row[1]))
        ]
        sets = [row for row in self._sets if row[0] != row[1]]
        self._dispose_of_new(
            [value for target, get, _, _ in instances for value in get(target)]
            + [value for sequence, _ in sequences for value in sequence]
            + [value for mapping, _, _ in dicts for value in (*mapping, *mapping.values())]
            + [value for values, _ in sets for value in values],
            dispose,
        )
        for target, _, values, names in instances:
            for name, value in zip(names, values, strict=False):  # a single field's value is there twice
                setattr(target, name, value)
        for target, names in self._unset:
            for name in names:
                if hasattr(target, name):
                    delattr(target, name)
        for sequence, values in sequences:
            sequence.clear()
            sequence.extend(values)
        for mapping, keys, values in dicts:
            mapping.clear()
            mapping.update(zip(keys, values, strict=True))
        for values, members in sets:
            values.clear()
            values.update(members)
        for state, content in self._states:
            state.buffer[:] = content
        for target, name, fd in self._descriptors:
            if getattr(target, name) < 0:
                setattr(target, name, os.dup(fd))  # perhaps with another number
        for put_back in self._outside:
            put_back()

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
