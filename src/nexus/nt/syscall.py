"""`@syscall`: a typed signature is the decoder, the trace line, the documentation row and the fuzz generator.

    @syscall
    def NtSetEvent(call: Call, event: Handle[Event, EVENT_MODIFY_STATE], previous: Out[i32] | None) -> None:

What an annotation makes of the raw 64-bit argument:
    u8 ... u64, i8 ... i64, uptr, boolean   masked (and sign-extended) to the declared width
    Handle[T, rights]             the object of class T behind the handle, with `rights` checked; `| None`
    Ptr[T], In[T], Out[T]         a typed pointer (not yet read); `| None`: 0 becomes None, everywhere
    NewHandle                     Out[uptr] that holds 0 until the call succeeds
    UnicodeString                 the text of a UNICODE_STRING*; `| None`
    ObjectAttributes              OBJECT_ATTRIBUTES* read into `attributes.Attributes`; `| None`
Results: None is STATUS_SUCCESS, an int goes to rax, `raise NtError(status)` fails, `Wait`, `UserCallback`
and `RESUME` are described in `wait`. Decoders are generated at a syscall's first use and shared by equal
signatures.
"""

from __future__ import annotations

import struct

from nexus.abi.pointer import In, Out, Ptr
from nexus.abi.struct import StructType
from nexus.abi.types import SCALARS, Scalar
from nexus.nt.attributes import read_attributes, read_unicode_string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Annotated as Handle
    from typing import Any, ClassVar, TypeVar

    from nexus.abi.types import Memory
    from nexus.nt.attributes import Attributes
    from nexus.nt.call import Call

    F = TypeVar("F", bound=Callable[..., Any])
    Decoder = Callable[..., Any]
    UnicodeString = str
    NewHandle = Out[int]
    ObjectAttributes = Attributes

__all__ = ["Handle", "In", "NewHandle", "ObjectAttributes", "Out", "Ptr", "UnicodeString", "stub", "syscall"]

REGISTER_ARGUMENTS = 4
STACK_ARGUMENTS = 0x28


class Kind:
    """How one declared parameter type reads its raw argument.

    `key` identifies equal kinds; `constants` are objects that the expression names as `{k}_0`, `{k}_1`, ...;
    `mask` has the bits of the raw argument that count; `first` ones are decoded before the others.
    """

    __slots__ = ("constants", "expression", "first", "key", "mask", "optional", "text")

    def __init__(
        self,
        text: str,
        expression: str,
        constants: tuple[Any, ...] = (),
        optional: bool = False,
        mask: int = 0xFFFF_FFFF_FFFF_FFFF,
        first: bool = False,
    ) -> None:
        self.text = text
        self.first = first
        self.mask = mask
        self.expression = expression
        self.constants = constants
        self.optional = optional
        self.key = (text, expression, tuple(id(c) for c in constants))

    def __or__(self, other: None) -> Kind:
        text = f"{self.text} | None"
        expression = f"({self.expression} if {{a}} else None)"
        return Kind(text, expression, self.constants, True, self.mask, self.first)


class _HandleMaker:
    def __getitem__(self, item: tuple[type, int]) -> Kind:
        kind, rights = item
        text = f"Handle[{kind.__name__}, {rights:#x}]"
        return Kind(text, "call.process.handles.resolve({a}, {k}_0, {k}_1)", (kind, rights))


class _PointerMaker:
    __slots__ = ("pointer",)

    def __init__(self, pointer: type) -> None:
        self.pointer = pointer

    def __getitem__(self, item: Any) -> Kind:
        if isinstance(item, Kind):
            codec: Any = SCALARS[item.text]
        else:
            codec = item.x64 if isinstance(item, StructType) else item
        name = item.text if isinstance(item, Kind) else item.__name__
        text = f"{self.pointer.__name__}[{name}]"
        return Kind(text, "{k}_0(call.memory, {a}, {k}_1)", (self.pointer, codec))


def _scalar(scalar: Scalar) -> Kind:
    if scalar.name == "boolean":
        return Kind(scalar.name, "(1 if {a} & 0xff else 0)", mask=0xFF)
    masked = "{a}" if scalar.size == 8 else f"({{a}} & {scalar.mask:#x})"
    if scalar.sign:
        masked = f"(({masked} ^ {scalar.sign:#x}) - {scalar.sign:#x})"
    return Kind(scalar.name, masked, mask=scalar.mask)


def _new_handle(memory: Memory, address: int) -> Out[int]:
    out: Out[int] = Out(memory, address, SCALARS["uptr"])
    out.write(0)
    return out


KINDS: dict[str, Any] = {name: _scalar(scalar) for name, scalar in SCALARS.items()}
KINDS.update(Ptr=_PointerMaker(Ptr), In=_PointerMaker(In), Out=_PointerMaker(Out))

if not TYPE_CHECKING:
    Handle = _HandleMaker()
    UnicodeString = Kind("UnicodeString", "{k}_0(call.memory, {a})", (read_unicode_string,))
    ObjectAttributes = Kind(
        "ObjectAttributes", "{k}_0(call.memory, call.process.handles, {a})", (read_attributes,)
    )
    NewHandle = Kind("NewHandle", "{k}_0(call.memory, {a})", (_new_handle,), first=True)
    KINDS.update(
        Handle=Handle, NewHandle=NewHandle, UnicodeString=UnicodeString, ObjectAttributes=ObjectAttributes
    )


class Syscall:
    """One entry of the table: the function, its parameters, and the decoder compiled at first use."""

    __slots__ = ("_decode", "_parameters", "count", "function", "name", "stub_reason")
    kinds: ClassVar[dict[str, Any]] = KINDS

    def __init__(self, function: Callable[..., Any], stub_reason: str = "") -> None:
        self.function = function
        self.name: str = function.__name__
        self.stub_reason = stub_reason
        self._decode: Decoder | None = None
        self._parameters: list[tuple[str, Kind]] | None = None
        self.count = len(self.parameter_names)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        code = self.function.__code__
        return code.co_varnames[1 : code.co_argcount]

    @property
    def parameters(self) -> list[tuple[str, Kind]]:
        """Names and kinds, resolved from the annotations."""
        if self._parameters is None:
            scope = {**self.function.__globals__, **self.kinds}
            annotations = self.function.__annotations__
            found: list[tuple[str, Kind]] = []
            for name in self.parameter_names:
                if name not in annotations:
                    raise TypeError(f"{self.name}: the parameter {name} has no type")
                kind = annotations[name]
                if isinstance(kind, str):
                    kind = eval(kind, scope)
                if not isinstance(kind, Kind):
                    raise TypeError(f"{self.name}: {annotations[name]} is not a type of arguments")
                found.append((name, kind))
            self._parameters = found
        return self._parameters

    def invoke(self, call: Call, raw: tuple[int, int, int, int], stack: int) -> Any:
        """Decode the arguments (four from registers, the others from the guest's stack) and run the
        function.
        """
        decode = self._decode
        if decode is None:
            decode = self._decode = _decoder([kind for _, kind in self.parameters])
        return decode(self.function, call, raw, stack)

    def signature(self) -> str:
        """The documentation row."""
        return f"{self.name}({', '.join(f'{name}: {kind.text}' for name, kind in self.parameters)})"

    def raw_arguments(self, call: Call, raw: tuple[int, int, int, int], stack: int) -> list[int]:
        """All arguments as undecoded 64-bit values, for traces and crash reports."""
        values = list(raw[: self.count])
        extra = self.count - REGISTER_ARGUMENTS
        if extra > 0:
            values += struct.unpack(f"<{extra}Q", call.memory.read(stack + STACK_ARGUMENTS, 8 * extra))
        return values


_decoders: dict[tuple[Any, ...], Decoder] = {}


def _decoder(kinds: list[Kind]) -> Decoder:
    """The function (function, call, raw, stack) -> result for a list of kinds; equal lists share one."""
    key = tuple(kind.key for kind in kinds)
    found = _decoders.get(key)
    if found is not None:
        return found
    scope: dict[str, Any] = {"unpack": struct.unpack}
    arguments, loads, first = [], "", ""
    for index, kind in enumerate(kinds):
        name = f"a{index}"
        for number, constant in enumerate(kind.constants):
            scope[f"k{index}_{number}"] = constant
        expression = kind.expression.format(a=name, k=f"k{index}")
        if kind.first:
            first += f"    {name} = {expression}\n"
            expression = name
        arguments.append(expression)
    if kinds:
        names = [f"a{i}" for i in range(max(len(kinds), REGISTER_ARGUMENTS))]
        loads = f"    {', '.join(names[:REGISTER_ARGUMENTS])} = raw\n"
        if (extra := len(kinds) - REGISTER_ARGUMENTS) and extra > 0:
            read = f"call.memory.read(stack + {STACK_ARGUMENTS:#x}, {8 * extra})"
            loads += f"    {', '.join(names[REGISTER_ARGUMENTS:])}, = unpack('<{extra}Q', {read})\n"
    passed = ", ".join(["call", *arguments])
    source = f"def decode(function, call, raw, stack):\n{loads}{first}    return function({passed})\n"
    exec(compile(source, "<syscall decoder>", "exec"), scope)
    decode: Decoder = scope["decode"]
    _decoders[key] = decode
    return decode


SYSCALLS: dict[str, Syscall] = {}


def syscall(function: F) -> F:
    """Put a function into the table under its own name."""
    _register(Syscall(function))
    return function


def stub(reason: str) -> Callable[[F], F]:
    """Like `syscall`, for a deliberate stub: it answers without doing the work, for the stated reason, and
    is counted.
    """

    def register(function: F) -> F:
        _register(Syscall(function, reason))
        return function

    return register


def _register(entry: Syscall) -> None:
    if entry.name in SYSCALLS:
        raise ValueError(f"{entry.name} is declared twice")
    SYSCALLS[entry.name] = entry
