"""A hook: a typed Python function that sees calls of an exported function of the guest.

    from nexus.nt.hook import HookCall, WideString, u32

    @win.hook("kernel32!CreateFileW")
    def open_file(call: HookCall, name: WideString | None, access: u32) -> None:
        print(name, "opened by", call.caller)
        call.after(lambda result: print("handle", hex(result)))

It runs before the function's first instruction. The parameters after `call` are read by the x64 calling
convention - rcx, rdx, r8, r9, then the stack - in the vocabulary of `nt/syscall.py`, with `WideString` (str)
and `AnsiString` (bytes) for text that ends with a zero; later ones may be left out. Text that is not there is
None with `| None`, else a GuestFault. Floating-point arguments are in `call.thread.state.xmm(n)`. What a hook
raises ends the run and reaches the caller of `win.run`.
"""

from __future__ import annotations

from nexus.abi.pointer import In, Out, Ptr
from nexus.base.errors import GuestFault, UsageError
from nexus.nt.syscall import (
    KINDS,
    STACK_ARGUMENTS,
    Handle,
    Kind,
    ObjectAttributes,
    Syscall,
    UnicodeString,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    from nexus.abi.types import Memory, boolean, i8, i16, i32, i64, u8, u16, u32, u64, uptr
    from nexus.nt.kernel import Kernel
    from nexus.nt.ps.process import Process
    from nexus.nt.ps.thread import Thread

    WideString = str
    AnsiString = bytes

__all__ = [
    "AnsiString", "Handle", "Hook", "HookCall", "In", "ObjectAttributes", "Out", "Ptr", "UnicodeString",
    "WideString", "boolean", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "uptr",
]  # fmt: skip

LONGEST_TEXT = 1 << 16  # bytes that are read in search of the zero
_REGISTERS = ("rcx", "rdx", "r8", "r9")
_U64 = 0xFFFF_FFFF_FFFF_FFFF
_PAGE = 0x1000
TEB_LAST_ERROR = 0x68


def read_wide(memory: Memory, address: int) -> str:
    """UTF-16 text up to its zero; raises GuestFault."""
    return _read_text(memory, address, 2).decode("utf-16-le", "surrogatepass")


def read_ansi(memory: Memory, address: int) -> bytes:
    """Bytes up to a zero; raises GuestFault."""
    return _read_text(memory, address, 1)


def _read_text(memory: Memory, address: int, width: int) -> bytes:
    found = bytearray()
    while len(found) < LONGEST_TEXT:
        at = address + len(found)
        size = _PAGE - at % _PAGE
        part = memory.read(at, size - size % width or width)
        for offset in range(0, len(part), width):
            if not any(part[offset : offset + width]):
                return bytes(found + part[:offset])
        found += part
    return bytes(found[:LONGEST_TEXT])


class _TextKind(Kind):
    """Text by its address; None, where that is allowed, when it cannot be read."""

    __slots__ = ()

    def __or__(self, other: None) -> Kind:
        read = self.constants[0]

        def read_or_none(memory: Memory, address: int) -> str | bytes | None:
            try:
                text: str | bytes = read(memory, address)
            except GuestFault:
                return None
            return text

        return Kind(f"{self.text} | None", self.expression, (read_or_none,), True)


if not TYPE_CHECKING:
    WideString = _TextKind("WideString", "{k}_0(call.memory, {a})", (read_wide,))
    AnsiString = _TextKind("AnsiString", "{k}_0(call.memory, {a})", (read_ansi,))
    u8, u16, u32, u64 = (KINDS[name] for name in ("u8", "u16", "u32", "u64"))
    i8, i16, i32, i64 = (KINDS[name] for name in ("i8", "i16", "i32", "i64"))
    uptr, boolean = KINDS["uptr"], KINDS["boolean"]


class _Decoder(Syscall):
    """The hook's signature, read like a syscall's."""

    __slots__ = ()
    kinds: ClassVar[dict[str, Any]] = {**KINDS, "WideString": WideString, "AnsiString": AnsiString}


class Hook:
    """`module!name` with the function to call. Both parts may have * and ?; then it need match nothing."""

    __slots__ = ("_decoder", "function", "module", "name", "required", "text")

    def __init__(self, text: str, function: Callable[..., Any], required: bool = True) -> None:
        module, mark, name = text.partition("!")
        if not (module and mark and name):
            raise UsageError(
                f"{text} names no function", hint="write module!function, like kernel32!CreateFileW"
            )
        code = getattr(function, "__code__", None)
        if code is None or not code.co_argcount or hasattr(function, "__self__"):
            raise TypeError(
                f"the hook of {text} has to be a plain function whose first parameter is the call"
            )
        self.text = text
        self.module = module_key(module)
        self.name = name
        self.function = function
        self.required = required
        self._decoder = _Decoder(function)
        assert self._decoder.parameters is not None  # a wrong annotation is told now, not in the run

    @property
    def is_pattern(self) -> bool:
        return "*" in self.name or "?" in self.name

    def invoke(self, call: HookCall) -> None:
        """Decode the arguments and run the function; decoders use of a `Call` what a `HookCall` has too."""
        self._decoder.invoke(call, call.registers(), call.stack)  # type: ignore[arg-type]


def module_key(name: str) -> str:
    """How modules are compared: without case, and without .dll."""
    return name.lower().removesuffix(".dll")


class HookCall:
    """One call of a hooked function, from its first instruction to its return.

    All its hooks share it. `module` and `name` are what the hook that runs asked for, `address` is where a
    forwarded export really is.
    """

    __slots__ = (
        "_abandoned",
        "_after",
        "address",
        "kernel",
        "memory",
        "module",
        "name",
        "process",
        "return_address",
        "skipped",
        "stack",
        "stack_base",
        "thread",
    )

    def __init__(self, thread: Thread, return_address: int) -> None:
        state = thread.state
        self.thread = thread
        self.process: Process = thread.process
        self.kernel: Kernel = thread.kernel
        self.memory = thread.process.window
        self.module = self.name = ""
        self.address: int = state.rip
        self.stack: int = state.rsp
        self.return_address = return_address
        region = thread.process.space.regions.at(state.rsp)
        self.stack_base = region.base if region is not None else 0  # tells stacks of fibers apart
        self.skipped = False
        self._after: list[Callable[[int], int | None]] = []
        self._abandoned: list[Callable[[], object]] = []

    @property
    def caller(self) -> str:
        """`module+offset` of the place the call returns to."""
        return self.process.describe_address(self.return_address)

    def registers(self) -> tuple[int, int, int, int]:
        """The first four arguments as they are."""
        state = self.thread.state
        return state.rcx, state.rdx, state.r8, state.r9

    def argument(self, index: int) -> int:
        """Argument `index`, from 0, as an undecoded 64-bit value; may raise GuestFault."""
        if index < len(_REGISTERS):
            return self.registers()[index]
        return self.memory.u64(self._stack_slot(index))

    def set_argument(self, index: int, value: int) -> None:
        """What the function gets instead; other hooks of this call see it as well."""
        if index < len(_REGISTERS):
            setattr(self.thread.state, _REGISTERS[index], value & _U64)
        else:
            self.memory.w64(self._stack_slot(index), value & _U64)

    def _stack_slot(self, index: int) -> int:
        return self.stack + STACK_ARGUMENTS + 8 * (index - len(_REGISTERS)) & _U64

    def place(self, data: bytes | str) -> int:
        """Put bytes, or text as UTF-16 with its zero, into the guest's memory; returns the address.

        It stays until the process ends.
        """
        if isinstance(data, str):
            data = data.encode("utf-16-le", "surrogatepass") + b"\0\0"
        region = self.process.space.allocate_for_kernel(max(len(data), 1), name="hook")
        self.memory.write_forced(region.base, data)
        return region.base

    def set_last_error(self, code: int) -> None:
        """What GetLastError says; to go with a result that means failure."""
        self.memory.w32(self.thread.teb + TEB_LAST_ERROR, code)

    def skip(self, result: int = 0) -> None:
        """Do not run the function: it returns `result` at once. Later hooks of this call are left out."""
        state = self.thread.state
        state.rax = result & _U64
        state.rip = self.return_address
        state.rsp = self.stack + 8
        self.skipped = True

    def after(self, function: Callable[[int], int | None]) -> None:
        """Call `function(result)` when the hooked function returns: rax, for which it may return another."""
        self._after.append(function)

    def abandoned(self, function: Callable[[], object]) -> None:
        """Call `function()` if the call never returns: its thread ended, or an exception or longjmp
        left it.
        """
        self._abandoned.append(function)

    @property
    def awaited(self) -> bool:
        """Does anybody want to know how it ends?"""
        return bool(self._after or self._abandoned)

    def finish(self) -> None:
        """The function has returned to its caller."""
        state = self.thread.state
        for function in self._after:
            result = function(state.rax)
            if result is not None:
                state.rax = result & _U64

    def abandon(self) -> None:
        """The function will never return."""
        for function in self._abandoned:
            function()
