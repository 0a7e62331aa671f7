"""Handles, names, directories, links, security descriptors and atoms."""

from __future__ import annotations

import struct

import pytest

from fake_machine import Machine
from nexus.nt.namespace import Device, Namespace, SymbolicLink
from nexus.nt.status import Status

OBJECT_NAME_INFORMATION = 1
TOKEN_USER, TOKEN_GROUPS, TOKEN_OWNER = 1, 2, 4

ALL = 0x1F0003
CURRENT_PROCESS = (1 << 64) - 1
SAME_ACCESS, CLOSE_SOURCE = 2, 1


def test_duplicating_keeps_or_reduces_rights(machine: Machine) -> None:
    event = machine.new_handle("NtCreateEvent", ALL, 0, 0, 0)
    out = machine.put(8)
    arguments = (CURRENT_PROCESS, event, CURRENT_PROCESS, out)
    assert machine.NtDuplicateObject(*arguments, 0, 0, SAME_ACCESS) == Status.SUCCESS
    assert machine.NtSetEvent(machine.memory.u64(out), 0) == Status.SUCCESS
    assert machine.NtDuplicateObject(*arguments, 1, 2, 0) == Status.SUCCESS
    weak = machine.memory.u64(out)
    assert machine.NtSetEvent(weak, 0) == Status.ACCESS_DENIED
    assert machine.NtDuplicateObject(CURRENT_PROCESS, event, 0, 0, 0, 0, CLOSE_SOURCE) == Status.SUCCESS
    assert machine.NtSetEvent(event, 0) == Status.INVALID_HANDLE
    assert machine.NtCompareObjects(weak, weak) == Status.SUCCESS


def test_handle_flags_protect_from_closing(machine: Machine) -> None:
    event = machine.new_handle("NtCreateEvent", ALL, 0, 0, 0)
    flags = machine.put(b"\0\1")
    assert machine.NtSetInformationObject(event, 4, flags, 2) == Status.SUCCESS
    assert machine.NtClose(event) == Status.HANDLE_NOT_CLOSABLE
    machine.memory.write(flags, b"\0\0")
    assert machine.NtSetInformationObject(event, 4, flags, 2) == Status.SUCCESS
    assert machine.NtClose(event) == Status.SUCCESS
    assert machine.NtClose(event) == Status.INVALID_HANDLE
    assert machine.NtClose(CURRENT_PROCESS) == Status.SUCCESS


def test_query_object_tells_name_and_type(machine: Machine) -> None:
    name = "\\BaseNamedObjects\\Known"
    event = machine.new_handle("NtCreateEvent", ALL, machine.attributes(name), 0, 0)
    buffer, length = machine.put(256), machine.put(4)
    assert machine.NtQueryObject(event, 1, buffer, 256, length) == Status.SUCCESS
    size, maximum, at = struct.unpack("<HH4xQ", machine.memory.read(buffer, 16))
    assert (size, maximum, at) == (2 * len(name), 2 * len(name) + 2, buffer + 16)
    assert machine.memory.read(at, size).decode("utf-16-le") == name
    assert machine.NtQueryObject(event, 1, buffer, 20, length) == Status.INFO_LENGTH_MISMATCH
    assert machine.memory.u32(length) == 16 + maximum
    assert machine.NtQueryObject(event, 1, buffer, 8, length) == Status.INFO_LENGTH_MISMATCH
    assert machine.NtQueryObject(event, 2, buffer, 256, 0) == Status.SUCCESS
    size, _, at = struct.unpack("<HH4xQ", machine.memory.read(buffer, 16))
    assert machine.memory.read(at, size).decode("utf-16-le") == "Event"
    assert machine.NtQueryObject(event, 0, buffer, 56, 0) == Status.SUCCESS
    _, granted, handles = struct.unpack("<3I", machine.memory.read(buffer, 12))
    assert (granted, handles) == (ALL, 1)
    assert machine.NtQueryObject(event, 99, buffer, 56, 0) == Status.INVALID_INFO_CLASS


def test_directories_and_links_of_the_guest(machine: Machine) -> None:
    folder = machine.new_handle("NtCreateDirectoryObject", 0xF, machine.attributes("\\BaseNamedObjects\\Box"))
    machine.new_handle("NtCreateEvent", ALL, machine.attributes("Inside", root=folder), 0, 0)
    link = machine.attributes("\\BaseNamedObjects\\Way")
    handle = machine.new_handle(
        "NtCreateSymbolicLinkObject", 1, link, machine.unicode("\\BaseNamedObjects\\Box")
    )
    assert machine.new_handle("NtOpenEvent", ALL, machine.attributes("\\BaseNamedObjects\\Way\\Inside"))
    target = machine.put(struct.pack("<HH4xQ", 0, 100, machine.put(100)))
    assert machine.NtQuerySymbolicLinkObject(handle, target, 0) == Status.SUCCESS
    length, _, at = struct.unpack("<HH4xQ", machine.memory.read(target, 16))
    assert machine.memory.read(at, length).decode("utf-16-le") == "\\BaseNamedObjects\\Box"
    buffer, context = machine.put(512), machine.put(4)
    assert machine.NtQueryDirectoryObject(folder, buffer, 512, 1, 1, context, 0) == Status.SUCCESS
    length, _, at = struct.unpack("<HH4xQ", machine.memory.read(buffer, 16))
    assert machine.memory.read(at, length).decode("utf-16-le") == "Inside"
    assert machine.NtQueryDirectoryObject(folder, buffer, 512, 1, 0, context, 0) == Status.NO_MORE_ENTRIES


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("relative", Status.OBJECT_PATH_SYNTAX_BAD),
        ("\\No\\Such", Status.OBJECT_PATH_NOT_FOUND),
        ("\\BaseNamedObjects\\Such", Status.OBJECT_NAME_NOT_FOUND),
        ("\\BaseNamedObjects\\\\Such", Status.OBJECT_NAME_INVALID),
        ("\\BaseNamedObjects", Status.OBJECT_TYPE_MISMATCH),
        ("\\KernelObjects\\CritSecOutOfMemoryEvent\\More", Status.OBJECT_TYPE_MISMATCH),
    ],
)
def test_names_that_lead_nowhere(machine: Machine, path: str, status: int) -> None:
    assert machine.NtOpenEvent(machine.put(8), ALL, machine.attributes(path)) == status


def test_a_device_gets_the_rest_of_the_name() -> None:
    names = Namespace()
    device = Device()
    names.insert("\\Device\\Disk", device)
    names.insert("\\??\\Q:", SymbolicLink("\\Device\\Disk"))
    found = names.parse("\\DosDevices\\q:\\Folder\\file.txt")
    assert (found.object, found.rest) == (device, "\\Folder\\file.txt")
    assert names.parse("\\??\\Q:").rest == ""


def test_links_in_a_circle_end(machine: Machine) -> None:
    names = machine.kernel.namespace
    names.insert("\\BaseNamedObjects\\A", SymbolicLink("\\BaseNamedObjects\\B"))
    names.insert("\\BaseNamedObjects\\B", SymbolicLink("\\BaseNamedObjects\\A"))
    attributes = machine.attributes("\\BaseNamedObjects\\A")
    assert machine.NtOpenEvent(machine.put(8), ALL, attributes) == Status.OBJECT_NAME_INVALID


def test_security_descriptors_are_kept_in_parts(machine: Machine) -> None:
    event = machine.new_handle("NtCreateEvent", ALL, 0, 0, 0)
    buffer, length = machine.put(256), machine.put(4)
    assert machine.NtQuerySecurityObject(event, 1, buffer, 4, length) == Status.BUFFER_TOO_SMALL
    assert machine.NtQuerySecurityObject(event, 1, buffer, 256, length) == Status.SUCCESS
    _, control, owner, group, sacl, dacl = struct.unpack("<BxHIIII", machine.memory.read(buffer, 20))
    assert (control & 0x8000, owner, group, sacl, dacl) == (0x8000, 20, 0, 0, 0)
    everyone = bytes.fromhex("010100000000000100000000")
    given = machine.put(struct.pack("<BxHIIII", 1, 0x8000, 20, 0, 0, 0) + everyone)
    assert machine.NtSetSecurityObject(event, 1, given) == Status.SUCCESS
    assert machine.NtQuerySecurityObject(event, 1, buffer, 256, length) == Status.SUCCESS
    assert machine.memory.read(buffer + 20, 12) == everyone


def test_atoms_are_counted(machine: Machine) -> None:
    text = "Nexus".encode("utf-16-le")
    name, atom = machine.put(text), machine.put(2)
    assert machine.NtAddAtom(name, len(text), atom) == Status.SUCCESS
    number = machine.memory.u16(atom)
    assert number >= 0xC000
    lower = machine.put("nexus".encode("utf-16-le"))
    assert machine.NtAddAtom(lower, len(text), atom) == Status.SUCCESS
    assert machine.memory.u16(atom) == number
    buffer = machine.put(64)
    assert machine.NtQueryInformationAtom(number, 0, buffer, 64, 0) == Status.SUCCESS
    assert machine.NtQueryInformationAtom(0, 0, buffer, 64, 0) == Status.INVALID_PARAMETER
    assert struct.unpack("<HHH", machine.memory.read(buffer, 6)) == (2, 0, len(text))
    assert machine.memory.read(buffer + 6, len(text)) == text
    assert machine.NtDeleteAtom(number) == machine.NtDeleteAtom(number) == Status.SUCCESS
    assert machine.NtFindAtom(name, len(text), atom) == Status.OBJECT_NAME_NOT_FOUND
    assert machine.NtAddAtom(0x1234, 0, atom) == Status.SUCCESS
    assert machine.memory.u16(atom) == 0x1234


def test_a_name_that_no_string_can_count(machine: Machine) -> None:
    """UNICODE_STRING counts in 16 bits; a path through three directories can be longer than that."""
    path, root, handle = "\\BaseNamedObjects", 0, 0
    for _ in range(3):
        path = "d" * 30000 if root else path + "\\" + "d" * 30000
        handle = machine.new_handle("NtCreateDirectoryObject", 3, machine.attributes(path, root=root))
        root = handle
    buffer = machine.put(16)
    status = machine.NtQueryObject(handle, OBJECT_NAME_INFORMATION, buffer, 0x2_0000, 0)
    assert status == Status.NAME_TOO_LONG


@pytest.mark.parametrize("kind", [TOKEN_USER, TOKEN_GROUPS, TOKEN_OWNER])
def test_an_answer_at_the_end_of_the_address_space(machine: Machine, kind: int) -> None:
    process_token = -4
    status = machine.NtQueryInformationToken(process_token, kind, -2, 0x1000, machine.put(4))
    assert status == Status.ACCESS_VIOLATION
