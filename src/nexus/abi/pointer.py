"""Typed pointers into guest memory: `Ptr[T]` (both ways), `In[T]` (read only), `Out[T]` (write only).

`T` is a scalar of `abi.types` or a `Struct`. A pointer is a plain value, reading and writing are guarded
copies that raise `GuestFault`. In signatures the type stands in the annotation; elsewhere pass the codec: a
`Scalar` of `abi.types.SCALARS`, or the `Layout` of a structure (`UNICODE_STRING.x64`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generic, TypeVar

    from nexus.abi.types import Memory

    T = TypeVar("T")

    class _Typed(Generic[T]):
        pass
else:
    T = None

    class _Typed:
        __slots__ = ()

        def __class_getitem__(cls, item):
            return cls


class Ptr(_Typed[T]):
    """A guest address together with what lies there. `+ n` steps by elements."""

    __slots__ = ("address", "codec", "memory")

    def __init__(self, memory: Memory, address: int, codec: Any) -> None:
        self.memory = memory
        self.address = address
        self.codec = codec

    def read(self) -> T:
        value: T = self.codec.read(self.memory, self.address)
        return value

    def write(self, value: T) -> None:
        self.codec.write(self.memory, self.address, value)

    def at(self, index: int) -> Ptr[T]:
        """The pointer to element `index` of the array that starts here."""
        return Ptr(self.memory, self.address + index * self.codec.size & 0xFFFF_FFFF_FFFF_FFFF, self.codec)

    def array(self, count: int) -> list[T]:
        """`count` elements from here."""
        return [self.at(i).read() for i in range(count)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address:#x})"


class In(Ptr[T]):
    """A pointer the callee only reads."""

    __slots__ = ()


class Out(Ptr[T]):
    """A pointer the callee only writes."""

    __slots__ = ()
