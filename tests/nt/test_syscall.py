"""The decoder that `@syscall` makes from a signature."""

from __future__ import annotations

from typing import Any

import pytest

from fake_machine import STACK, Machine
from nexus.abi.types import boolean, i8, i32, u8, u16, u32, u64, uptr
from nexus.base.errors import GuestFault, Unsupported
from nexus.nt.attributes import UNICODE_STRING
from nexus.nt.call import Call
from nexus.nt.errors import NtError
from nexus.nt.kernel import located
from nexus.nt.ps.process import Module
from nexus.nt.status import Status
from nexus.nt.sync import Event
from nexus.nt.syscall import SYSCALLS, Handle, In, ObjectAttributes, Out, Syscall, UnicodeString
from nexus.nt.trace import format_call


def scalars(call: Call, a: u8, b: u16, c: u32, d: u64, e: i8, f: i32, g: boolean, h: uptr) -> Any:
    return a, b, c, d, e, f, g, h


def pointers(call: Call, a: In[u32], b: Out[u16] | None, c: In[UNICODE_STRING] | None) -> Any:
    return a, b, c


def texts(call: Call, a: UnicodeString, b: UnicodeString | None, c: ObjectAttributes | None) -> Any:
    return a, b, c


def handles(call: Call, a: Handle[Event, 2], b: Handle[Event, 0] | None) -> Any:
    return a, b


def invoke(machine: Machine, function: Any, *arguments: int) -> Any:
    values = [*arguments, 0, 0, 0, 0]
    machine.memory.write(STACK + 0x28, b"".join(value.to_bytes(8, "little") for value in values[4:]))
    return Syscall(function).invoke(machine.thread.call, (values[0], values[1], values[2], values[3]), STACK)


ONES = (1 << 64) - 1


def test_every_argument_has_its_declared_width(machine: Machine) -> None:
    assert invoke(machine, scalars, *[ONES] * 8) == (0xFF, 0xFFFF, 0xFFFFFFFF, ONES, -1, -1, 1, ONES)
    garbage = 0xAAAA_BBBB_CCCC_0000
    assert invoke(machine, scalars, *[garbage | 0x80] * 8)[4:7] == (-128, 0xCCCC0080 - (1 << 32), 1)
    assert invoke(machine, scalars, *[garbage] * 8)[6] == 0


def test_pointers_are_typed_and_lazy(machine: Machine) -> None:
    at = machine.put(b"\x78\x56\x34\x12" + bytes(12))
    a, b, c = invoke(machine, pointers, at, at + 8, 0)
    assert (a.read(), c) == (0x12345678, None)
    b.write(0x1FFFF)
    assert machine.memory.read(at + 8, 4) == b"\xff\xff\0\0"
    a, _, _ = invoke(machine, pointers, 0x10, 0, 0)
    with pytest.raises(GuestFault):
        a.read()


def test_strings_and_object_attributes(machine: Machine) -> None:
    a, b, c = invoke(
        machine, texts, machine.unicode("née \ud800"), 0, machine.attributes("\\Name", flags=0x42)
    )
    assert (a, b, c.name, c.inherit) == ("née \ud800", None, "\\Name", True)
    with pytest.raises(GuestFault):
        invoke(machine, texts, 0, 0, 0)
    short = machine.put((0x18).to_bytes(8, "little") + bytes(40))
    with pytest.raises(NtError) as error:
        invoke(machine, texts, machine.unicode(""), 0, short)
    assert error.value.status == Status.INVALID_PARAMETER


def test_handles_are_resolved_with_their_rights(machine: Machine) -> None:
    event = Event(True)
    strong, weak = (machine.process.handles.add(event, access) for access in (0x3, 0x1))
    assert invoke(machine, handles, strong, 0) == (event, None)
    assert invoke(machine, handles, strong | 1, weak) == (event, event)
    with pytest.raises(NtError) as error:
        invoke(machine, handles, weak, 0)
    assert error.value.status == Status.ACCESS_DENIED


def test_equal_signatures_share_a_decoder(machine: Machine) -> None:
    first, second = SYSCALLS["NtCreateMutant"], SYSCALLS["NtOpenMutant"]
    machine.NtOpenMutant(0, 0, 0)
    machine.NtOpenEvent(0, 0, 0)
    assert SYSCALLS["NtOpenEvent"]._decode is second._decode is not first._decode


def test_every_declared_syscall_has_a_decodable_signature() -> None:
    for entry in SYSCALLS.values():
        assert len(entry.parameters) == entry.count
        assert entry.function.__doc__ or entry.name


def test_a_trace_line_shows_masked_values_and_names(machine: Machine) -> None:
    name = machine.attributes("\\BaseNamedObjects\\Shown")
    entry = SYSCALLS["NtCreateMutant"]
    line = format_call(machine.thread, entry, (0x1000, (7 << 32) | 0x1F0001, name, 0), STACK)
    expected = (
        "NtCreateMutant(handle=0x1000, access=0x1f0001, attributes='\\\\BaseNamedObjects\\\\Shown', owned=0)"
    )
    assert line == expected


def test_what_the_processor_lacks_is_named_by_module(machine: Machine) -> None:
    machine.process.modules.append(Module("a.dll", 0x5000, 0x1000))
    found = located(Unsupported("the instruction x", "0x5123", "file"), machine.thread)
    assert (found.what, found.where, found.file) == ("the instruction x", "a.dll+0x123", "file")
    known = Unsupported("the syscall x", "b.dll+0x1", "file")
    assert located(known, machine.thread) is known
