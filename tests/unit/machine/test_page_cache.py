"""Translations kept between runs: used when the bytes are the same, and only then."""

import os
import struct

import pytest

from nexus.base.errors import NexusError
from nexus.ir.state import Exit
from nexus.isa.x86.registers import CpuState
from nexus.machine import faults, lowering
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window

PAGE = 4096
BASE, TEXT, DATA = 0x140000000, 0x140001000, 0x140003000
BLOCKS = 20


def text():
    """Block k: add rax, k; jmp next. Then mov edx, 0 across pages; mov rcx, [rbx]; add rax, rcx; syscall."""
    code = bytearray()
    for number in range(BLOCKS):
        code += bytes((0x48, 0x83, 0xC0, number, 0xEB, 10)) + bytes(10)
    code += b"\xe9" + struct.pack("<i", PAGE - 3 - len(code) - 5)
    code = code.ljust(PAGE - 3, b"\x90") + bytes.fromhex("ba00000000" + "488b0b" + "4801c8" + "0f05")
    return code.ljust(2 * PAGE, b"\xcc")


class Run:
    """One process with the image, run to its syscall or fault."""

    def __init__(self, code, pointer=DATA, access=READ | EXECUTE, between=None, how=("t0", None)):
        self.window = Window()
        header = bytearray(PAGE)
        header[0:2], header[0x3C] = b"MZ", 0x80
        header[0x80:0x84], header[0xD0:0xD4] = b"PE\0\0", struct.pack("<I", 4 * PAGE)
        self.window.map(BASE, 4 * PAGE, READ | WRITE)
        self.window.write(BASE, header + code + struct.pack("<Q", 1000))
        self.window.protect(TEXT, 2 * PAGE, access)
        self.state = CpuState()
        self.state.reset()
        self.state.rip, self.state.rbx, self.state.rax = TEXT, pointer, 0
        vcpu = Vcpu(self.window, *how)
        self.counts = vcpu.translations.counts
        self.stop = vcpu.run(self.state, 10_000)
        if between is not None:
            between(self.window)
            self.state.rip, self.state.rax = TEXT, 0
            self.stop = vcpu.run(self.state, 10_000)
        vcpu.close()
        self.window.close()

    @property
    def result(self):
        return self.stop.kind, self.state.rax, self.state.rip


ACROSS, SECOND = TEXT + PAGE - 3, TEXT + PAGE + 2
EXPECTED = (Exit.SYSCALL, BLOCKS * (BLOCKS - 1) // 2 + 1000, SECOND + 8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(faults.engine(), "path", str(tmp_path / "engine.blob"))
    (tmp_path / "pages").mkdir(mode=0o700)
    return tmp_path / "pages"


@pytest.fixture
def translations(monkeypatch):
    """The addresses of blocks that were translated."""
    seen = []
    real = lowering.lower_block

    def lower_block(window, pc, *rest):
        seen.append(pc)
        return real(window, pc, *rest)

    monkeypatch.setattr(lowering, "lower_block", lower_block)
    return seen


def test_a_second_run_translates_nothing(folder, translations):
    assert Run(text()).result == EXPECTED
    assert len(translations) == BLOCKS + 3
    assert len(os.listdir(folder)) == 1
    translations.clear()
    for _ in range(2):
        assert Run(text()).result == EXPECTED
    assert translations == []


def test_a_fault_in_a_kept_block_has_its_exact_place(folder, translations):
    Run(text())
    translations.clear()
    run = Run(text(), pointer=0x18)
    assert (run.stop.kind, run.stop.address, run.state.rip) == (Exit.FAULT, 0x18, SECOND)
    assert run.state.rax == BLOCKS * (BLOCKS - 1) // 2
    assert translations == []


def test_a_page_with_other_bytes_is_translated_again(folder, translations):
    Run(text())
    translations.clear()
    code = bytearray(text())
    code[3] = 100  # the first block adds 100
    assert Run(bytes(code)).result == (Exit.SYSCALL, EXPECTED[1] + 100, EXPECTED[2])
    assert translations == [*(TEXT + 16 * number for number in range(BLOCKS + 1)), ACROSS]
    translations.clear()
    assert Run(text()).result == EXPECTED


def test_the_part_of_an_instruction_in_the_next_page_counts(folder, translations):
    Run(text())
    translations.clear()
    code = text()
    code[PAGE + 1] = 0x12  # the last byte of mov edx, 0
    run = Run(code)
    assert run.result == EXPECTED
    assert run.state.rdx == 0x12000000
    assert {ACROSS, SECOND} <= set(translations)


def test_a_block_across_pages_is_dropped_with_the_second(folder, translations):
    Run(text())
    code = text()

    def change(window):
        window.write_forced(SECOND - 1, b"\x34")

    run = Run(code, between=change)
    assert run.result == EXPECTED
    assert run.state.rdx == 0x34000000


DAMAGE = [lambda data: data[:100], lambda data: data[:-1] + b"?", lambda data: b""]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_written_again(folder, translations, damage):
    Run(text())
    (name,) = os.listdir(folder)
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    for damaged in (True, False):
        translations.clear()
        assert Run(text()).result == EXPECTED
        assert bool(translations) == damaged


def test_pages_that_can_be_written_are_not_kept(folder, translations):
    assert Run(text(), access=READ | WRITE | EXECUTE).result == EXPECTED
    assert os.listdir(folder) == []


def test_a_folder_that_cannot_be_written_only_costs_time(folder):
    folder.rmdir()
    folder.write_text("no folder")
    assert Run(text()).result == EXPECTED


def test_a_folder_that_others_can_write_is_refused(folder):
    folder.chmod(0o770)
    with pytest.raises(NexusError, match="cannot be trusted"):
        Run(text())


@pytest.mark.parametrize("spoil", ["mode", "owner", "link"])
def test_a_file_that_others_could_have_written_is_not_used(folder, translations, monkeypatch, spoil):
    Run(text())
    (name,) = os.listdir(folder)
    file = folder / name
    assert file.stat().st_mode & 0o777 == 0o600
    if spoil == "mode":
        file.chmod(0o622)
    elif spoil == "link":
        file.rename(folder / "elsewhere")
        file.symlink_to("elsewhere")
    else:
        real = os.fstat
        monkeypatch.setattr(
            os, "fstat", lambda fd: os.stat_result([*real(fd)[:4], os.geteuid() + 1, *real(fd)[5:]])
        )
    translations.clear()
    assert Run(text()).result == EXPECTED
    assert translations
