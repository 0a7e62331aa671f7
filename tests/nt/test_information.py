"""Information classes: sizes and fields as the Windows headers and Wine's tests give them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from fake_machine import Machine
from nexus.base.errors import Unsupported
from nexus.nt.cm.registry_script import parse
from nexus.nt.status import Status

SELF, THREAD = -1, -2


def ask(machine: Machine, name: str, *arguments: int, size: int) -> tuple[int, bytes, int]:
    """(status, content, returned length) of a query whose last arguments are buffer, length, returned."""
    buffer, returned = machine.put(max(size, 8)), machine.put(8)
    status = machine.call(name, *arguments, buffer, size, returned)
    return status, machine.memory.read(buffer, size), machine.memory.u32(returned)


def system(machine: Machine, kind: int, size: int) -> tuple[int, bytes, int]:
    return ask(machine, "NtQuerySystemInformation", kind, size=size)


def test_basic_system_information_has_exactly_64_bytes(machine: Machine) -> None:
    status, content, size = system(machine, 0, 64)
    fields: Any = struct.unpack("<IIIIIIQQQQB7x", content)
    assert (status, size) == (Status.SUCCESS, 64)
    assert fields[1:3] == (156250, 0x1000) and fields[6:8] == (0x10000, 0x10000)
    assert fields[8] == machine.process.space.top - 1 and fields[10] == machine.kernel.processors
    for wrong in (63, 65):
        status, _, size = system(machine, 0, wrong)
        assert (status, size) == (Status.INFO_LENGTH_MISMATCH, 64)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (1, 12),
        (2, 312),
        (21, 64),
        (28, 12),
        (35, 2),
        (37, 16),
        (44, 172),
        (58, 4),
        (102, 432),
        (103, 8),
        (149, 3),
    ],
)
def test_sizes_of_system_classes(machine: Machine, kind: int, size: int) -> None:
    assert system(machine, kind, size)[::2] == (Status.SUCCESS, size)
    assert system(machine, kind, size - 1)[0] == Status.INFO_LENGTH_MISMATCH


def test_interrupt_information_is_random_and_as_long_as_asked(machine: Machine) -> None:
    status, content, _ = system(machine, 23, 256)
    assert status == Status.SUCCESS and len(set(content)) > 64


def test_the_process_list_names_processes_and_threads(machine: Machine) -> None:
    machine.process.image_name = "\\??\\C:\\dir\\tool.exe"
    status, content, _ = system(machine, 5, 0x400)
    assert status == Status.SUCCESS
    following, threads = struct.unpack_from("<II", content)
    length, _, buffer = struct.unpack_from("<HHxxxxQ", content, 0x38)
    assert (following, threads) == (0, 1)
    assert machine.memory.read(buffer, length).decode("utf-16-le") == "tool.exe"
    assert struct.unpack_from("<Q", content, 0x50)[0] == machine.process.id
    assert struct.unpack_from("<QQ", content, 0x100 + 0x28) == (machine.process.id, machine.thread.id)


def test_supported_machines_are_amd64_alone(machine: Machine) -> None:
    query = machine.put(struct.pack("<Q", SELF & (1 << 64) - 1))
    status, content, size = ask(machine, "NtQuerySystemInformationEx", 181, query, 8, size=8)
    assert (status, size) == (Status.SUCCESS, 8)
    assert struct.unpack("<II", content) == (0x8664 | 0xF << 16, 0)


def test_basic_process_information(machine: Machine) -> None:
    machine.process.peb = 0x7FFC0000
    status, content, _ = ask(machine, "NtQueryInformationProcess", SELF, 0, size=48)
    code, peb, affinity, _, number, _ = struct.unpack("<I4xQQi4xQQ", content)
    assert (status, code, peb, number) == (Status.SUCCESS, Status.PENDING, 0x7FFC0000, machine.process.id)
    assert affinity == (1 << machine.kernel.processors) - 1
    assert ask(machine, "NtQueryInformationProcess", 0x123, 0, size=40)[0] == Status.INFO_LENGTH_MISMATCH
    assert ask(machine, "NtQueryInformationProcess", 0x123, 0, size=48)[0] == Status.INVALID_HANDLE


def test_image_names_in_both_spellings(machine: Machine) -> None:
    machine.process.image_name = "\\??\\Z:\\dir\\tool.exe"
    for kind, expected in ((27, "\\Device\\HarddiskVolume26\\dir\\tool.exe"), (43, "Z:\\dir\\tool.exe")):
        status, content, _ = ask(machine, "NtQueryInformationProcess", SELF, kind, size=256)
        length, _, buffer = struct.unpack_from("<HHxxxxQ", content)
        assert status == Status.SUCCESS
        assert machine.memory.read(buffer, length).decode("utf-16-le") == expected


def test_nobody_is_debugged(machine: Machine) -> None:
    assert ask(machine, "NtQueryInformationProcess", SELF, 7, size=8) == (Status.SUCCESS, bytes(8), 8)
    assert ask(machine, "NtQueryInformationProcess", SELF, 30, size=8)[0] == Status.PORT_NOT_SET


def test_basic_thread_information_is_cut_to_the_buffer(machine: Machine) -> None:
    machine.thread.teb = 0x7FFB0000
    status, content, size = ask(machine, "NtQueryInformationThread", THREAD, 0, size=32)
    assert (status, size) == (Status.SUCCESS, 32)
    assert struct.unpack("<I4xQQQ", content) == (
        Status.PENDING, 0x7FFB0000, machine.process.id, machine.thread.id,
    )  # fmt: skip


def test_a_thread_keeps_its_name(machine: Machine) -> None:
    text = machine.put("worker".encode("utf-16-le"))
    name = machine.put(struct.pack("<HHIQ", 12, 12, 0, text))
    assert machine.NtSetInformationThread(THREAD, 38, name, 16) == Status.SUCCESS
    assert ask(machine, "NtQueryInformationThread", THREAD, 38, size=16)[::2] == (Status.BUFFER_TOO_SMALL, 28)
    status, content, _ = ask(machine, "NtQueryInformationThread", THREAD, 38, size=28)
    assert status == Status.SUCCESS and content[16:].decode("utf-16-le") == "worker"


def test_affinity_must_be_processors_that_exist(machine: Machine) -> None:
    mask = machine.put(struct.pack("<Q", 0))
    assert machine.NtSetInformationThread(THREAD, 4, mask, 8) == Status.INVALID_PARAMETER
    machine.memory.w64(mask, 1)
    assert machine.NtSetInformationThread(THREAD, 4, mask, 8) == Status.SUCCESS


def test_classes_wine_answers_and_we_do_not_are_loud(machine: Machine) -> None:
    setattr(machine.kernel, "return_address", lambda thread: 0)  # noqa: B010
    with pytest.raises(Unsupported, match="NtSetInformationProcess class 1000"):
        machine.NtSetInformationProcess(SELF, 1000, machine.put(8), 8)
    assert ask(machine, "NtQuerySystemInformation", 200, size=8)[0] == Status.INVALID_INFO_CLASS
    assert machine.kernel.stub_counts["NtQuerySystemInformation class 200"] == 1


def test_smbios_names_the_machine(machine: Machine) -> None:
    buffer, returned = machine.put(512), machine.put(8)
    machine.memory.write(buffer, struct.pack("<II", 0x52534D42, 1))
    assert machine.NtQuerySystemInformation(76, buffer, 512, returned) == Status.SUCCESS
    content = machine.memory.read(buffer, machine.memory.u32(returned))
    _, major, minor, _, length = struct.unpack_from("<BBBBI", content, 16)
    assert (major, minor, length) == (2, 4, len(content) - 24)
    assert b"Bellum Nexus\0" in content and content[24:26] == bytes((0, 0x18))


def test_locales(machine: Machine) -> None:
    out = machine.put(8)
    assert machine.NtQueryDefaultLocale(1, out) == Status.SUCCESS
    assert machine.memory.u32(out) == 0x409
    machine.NtSetDefaultLocale(1, 0x407)
    machine.NtQueryDefaultLocale(1, out)
    assert machine.memory.u32(out) == 0x407


REG_BINARY, REG_DWORD = 3, 4
SCRIPT = """HKLM
{
    Sorting
    {
        Ids = s '{0}'
        {
            val 'tr' = s '{1}'
            val 'ja' = s '{2}'
        }
    }
    NoRemove 'Windows NT'
    {
        'Cote d''Ivoire'
        {
            val 'TZI' = b 0a0b
            'Dynamic DST'
            {
                val 'FirstEntry' = d 2004
            }
        }
    }
}"""


def test_keys_come_from_the_registry_script() -> None:
    script = parse(SCRIPT)
    ids, zone = script.find("Ids"), script.find("Cote d'Ivoire")
    assert ids is not None
    assert zone is not None
    assert {name: data.decode("utf-16-le") for name, (_, data) in ids.values.items()} == {
        "": "{0}\0",
        "tr": "{1}\0",
        "ja": "{2}\0",
    }
    assert zone.values == {"TZI": (REG_BINARY, b"\x0a\x0b")}
    assert zone.below[0].values == {"FirstEntry": (REG_DWORD, (2004).to_bytes(4, "little"))}
    assert parse("").find("Ids") is None
