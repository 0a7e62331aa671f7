"""Guest structures declared as annotated classes.

    class UNICODE_STRING(Struct):
        Length: u16
        MaximumLength: u16
        Buffer: uptr

    class KSYSTEM(Struct):
        Root: bytes = span(520)      # a run of bytes
        Name: UNICODE_STRING         # a nested structure

One declaration serves 64-bit and 32-bit guests (`uptr` changes its width, natural alignment follows).
`UNICODE_STRING.size`, `.offset("Buffer")`, `.unpack(data)`, `.read(memory, address)`; an instance has the
fields as attributes, `.pack()` and `.write(memory, address)`; fields not given are zero.
`UNICODE_STRING.x86` is the 32-bit layout with the same methods. `packed = True` in the class body drops the
padding. Layouts are computed at first use.
"""

from __future__ import annotations

import struct
import sys

from nexus.abi.types import SCALARS, UPTR32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from nexus.abi.types import Memory


class _Span:
    __slots__ = ("length",)

    def __init__(self, length: int) -> None:
        self.length = length


def span(length: int) -> Any:
    """Declare a `bytes` field of a fixed length."""
    return _Span(length)


class _Nested:
    __slots__ = ("name", "offset", "size", "struct")

    def __init__(self, name: str, offset: int, size: int, struct: StructType) -> None:
        self.name = name
        self.offset = offset
        self.size = size
        self.struct = struct


class Layout:
    """Where the fields of a structure lie for one pointer width, and the conversions to and from bytes."""

    __slots__ = ("_codec", "_flat", "_nested", "alignment", "bits", "offsets", "owner", "size")

    def __init__(self, owner: StructType, bits: int) -> None:
        self.owner = owner
        self.bits = bits
        self.offsets: dict[str, int] = {}
        self._flat: list[str] = []
        self._nested: list[_Nested] = []
        position, self.alignment, code = 0, 1, "<"
        for name, kind in owner.fields():
            size, align, letter, nested = _field(kind, bits)
            if owner.packed:
                align = 1
            padding = -position % align
            code += f"{padding}x{letter}" if padding else letter
            position += padding
            self.offsets[name] = position
            if nested is None:
                self._flat.append(name)
            else:
                self._nested.append(_Nested(name, position, size, nested))
            position += size
            self.alignment = max(self.alignment, align)
        tail = -position % self.alignment
        self.size = position + tail
        self._codec = struct.Struct(code + (f"{tail}x" if tail else ""))

    def offset(self, name: str) -> int:
        return self.offsets[name]

    def unpack(self, data: bytes, start: int = 0) -> Any:
        """An instance from bytes; raises struct.error when there are too few."""
        owner: Any = self.owner
        instance = owner.__new__(owner)
        for name, value in zip(self._flat, self._codec.unpack_from(data, start), strict=True):
            setattr(instance, name, value)
        for nested in self._nested:
            value = nested.struct.layout(self.bits).unpack(data, start + nested.offset)
            setattr(instance, nested.name, value)
        return instance

    def pack(self, instance: Struct) -> bytes:
        packed = self._codec.pack(*[getattr(instance, name) for name in self._flat])
        if not self._nested:
            return packed
        whole = bytearray(packed)
        for nested in self._nested:
            part = nested.struct.layout(self.bits).pack(getattr(instance, nested.name))
            whole[nested.offset : nested.offset + nested.size] = part
        return bytes(whole)

    def read(self, memory: Memory, address: int) -> Any:
        return self.unpack(memory.read(address, self.size))

    def write(self, memory: Memory, address: int, instance: Struct) -> None:
        memory.write(address, self.pack(instance))


def _field(kind: Any, bits: int) -> tuple[int, int, str, StructType | None]:
    """Size, alignment, letters for the struct module and - for a nested structure - its class."""
    if isinstance(kind, _Span):
        return kind.length, 1, f"{kind.length}s", None
    if isinstance(kind, StructType):
        layout = kind.layout(bits)
        return layout.size, layout.alignment, f"{layout.size}x", kind
    scalar = UPTR32 if kind.name == "uptr" and bits == 32 else kind
    return scalar.size, scalar.size, scalar.code, None


class StructType(type):
    """The class of structure classes: collects the annotated fields, makes the instances slotted."""

    packed: bool
    _fields: dict[str, Any]
    _layouts: dict[int, Layout]

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> StructType:
        annotations: dict[str, str] = body.get("__annotations__", {})
        fields: dict[str, Any] = {}
        for base in bases:
            if isinstance(base, StructType):
                fields.update(base._fields)
        own = {}
        for field, annotation in annotations.items():
            own[field] = body.pop(field, annotation)
        body["__slots__"] = tuple(own)
        body["_fields"] = {**fields, **own}
        body["_layouts"] = {}
        return super().__new__(cls, name, bases, body)

    def fields(cls) -> list[tuple[str, Any]]:
        """Field names with their resolved kinds: Scalar, structure class or span."""
        return [(name, cls._resolve(name, kind)) for name, kind in cls._fields.items()]

    def _resolve(cls, field: str, kind: Any) -> Any:
        if not isinstance(kind, str):
            return kind
        scalar = SCALARS.get(kind)
        if scalar is not None:
            return scalar
        for owner in cls.__mro__:
            found = getattr(sys.modules[owner.__module__], kind, None)
            if isinstance(found, StructType):
                return found
        raise TypeError(f"{cls.__name__}.{field}: no guest type is called {kind}")

    def layout(cls, bits: int) -> Layout:
        layout = cls._layouts.get(bits)
        if layout is None:
            layout = cls._layouts[bits] = Layout(cls, bits)
        return layout

    @property
    def x64(cls) -> Layout:
        return cls.layout(64)

    @property
    def x86(cls) -> Layout:
        return cls.layout(32)

    @property
    def size(cls) -> int:
        return cls.layout(64).size

    def offset(cls, name: str) -> int:
        """Byte offset of a field in the 64-bit layout."""
        return cls.layout(64).offsets[name]


class Struct(metaclass=StructType):
    """Base of all guest structures; see the module's text."""

    packed = False

    def __init__(self, **values: Any) -> None:
        for name, kind in type(self).fields():
            if name in values:
                value = values.pop(name)
            elif isinstance(kind, _Span):
                value = bytes(kind.length)
            else:
                value = kind() if isinstance(kind, StructType) else 0
            setattr(self, name, value)
        if values:
            raise TypeError(f"{type(self).__name__} has no field {next(iter(values))}")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_show(getattr(self, name))}" for name in type(self)._fields)
        return f"{type(self).__name__}({shown})"

    @classmethod
    def unpack(cls, data: bytes, start: int = 0) -> Self:
        """An instance from the bytes of a 64-bit guest."""
        instance: Self = cls.layout(64).unpack(data, start)
        return instance

    @classmethod
    def read(cls, memory: Memory, address: int) -> Self:
        instance: Self = cls.layout(64).read(memory, address)
        return instance

    def pack(self) -> bytes:
        return type(self).layout(64).pack(self)

    def write(self, memory: Memory, address: int) -> None:
        memory.write(address, self.pack())


def _show(value: object) -> str:
    return hex(value) if isinstance(value, int) else repr(value)
