"""The keys and values of a registry at one moment, to go back to.

Thousands of values that hardly ever change are not worth looking at one by one each time: the registry counts
the writes of guests. Keys that are only completed when they are first reached may stay complete.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nexus.nt.cm.registry import Key, Registry, Value

    _Values = tuple[tuple[str, Value, str, int, bytes], ...]

_FIELDS = ("name", "parent", "class_name", "modified", "volatile", "link", "deleted", "fill")


class SavedTree:
    """What `Key.watches` holds is not among it."""

    __slots__ = ("_changes", "_keys", "_registry")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._changes = registry.changes
        self._keys: list[tuple[Key, tuple[object, ...], dict[str, Key], list[str], _Values]] = []
        for key in registry.root.walk():
            values = tuple((name, v, v.name, v.type, v.data) for name, v in key.values.items())
            fields = tuple(getattr(key, name) for name in _FIELDS)
            self._keys.append((key, fields, dict(key.subkeys), list(key._sorted), values))

    def restore(self) -> None:
        """Put everything back, if there was a write."""
        if self._registry.changes == self._changes:
            return
        for key, fields, subkeys, order, values in self._keys:
            for name, value in zip(_FIELDS, fields, strict=True):
                setattr(key, name, value)
            key.subkeys = dict(subkeys)
            key._sorted = list(order)
            key.values = {}
            for folded, value, spelling, kind, data in values:
                value.name, value.type, value.data = spelling, kind, data
                key.values[folded] = value
        self._changes = self._registry.changes
