"""The profile's file and the names in it, of a process that is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from struct import pack
from types import SimpleNamespace
from typing import Any

import pytest

from nexus.ir.state import Exit
from nexus.isa.x86.registers import CpuState
from nexus.loader import pe
from nexus.machine.measure import Measure
from nexus.machine.window import READ, WRITE, Window
from nexus.nt.ps.process import Module
from nexus.nt.ps.unwind import Unwinder, Unwound
from nexus.system.profile import Profile
from nexus.system.stats import text
from nexus.system.symbols import Symbols
from unit.loader.test_pe import build

BASE = 0x180000000


def process(window: Window) -> Any:
    """One with a mapped module: `one` at 0x1000 and an unnamed function at 0x1020 have unwind data; `two` at
    0x1040 has none; the entry point is 0x1060."""
    names = b"mod.dll\0one\0two\0"
    at = 0x2000 + 40
    body = pack("<IIIIIIIIIII", 0, 0, 0, 0, 1, 2, 2, at, at + 8, at + 16, 0)[:40]
    body += pack("<II", 0x1000, 0x1040) + pack("<II", at + 28, at + 32) + pack("<HH", 0, 1) + names
    infos = 0x2000 + len(body) + -len(body) % 4 + 24
    unwind = pack("<IIIIII", 0x1000, 0x1010, infos, 0x1020, 0x1030, infos + 12)
    # push rbp (1 byte); sub rsp,0x20 (4 bytes)
    unwind += bytes((1, 5, 2, 0, 5, 3 << 4 | 2, 1, 5 << 4 | 0)) + bytes(4)
    # push rbp; sub rsp,0x1000 (7 bytes); lea rbp,[rsp+0x40] (5 bytes); mov [rsp+0x50],rbx (5 bytes)
    unwind += bytes((1, 18, 6, 0x45, 18, 3 << 4 | 4, 10, 0, 13, 3, 8, 0 << 4 | 1, 0x00, 0x02, 1, 5 << 4 | 0))
    body += bytes(-len(body) % 4)
    file = build(
        text=bytes(0x80),
        data=body + unwind,
        entry=0x1060,
        directories={pe.EXPORT: (0x2000, len(body)), pe.EXCEPTION: (0x2000 + len(body), 24)},
    )
    image = pe.parse(bytes(file))
    window.map(BASE, 0x3000, READ)
    window.write_forced(BASE, bytes(file[: image.size_of_headers]))
    for section in image.sections:
        window.write_forced(BASE + section.address, image.read(section.address, section.virtual_size))
    module = Module("mod.dll", BASE, 0x3000)

    def module_at(address: int) -> Module | None:
        return module if BASE <= address < BASE + 0x3000 else None

    return SimpleNamespace(window=window, module_at=module_at, image_name="\\??\\Z:\\a.exe", id=0x20)


def test_functions_have_their_names() -> None:
    window = Window()
    symbols = Symbols(process(window))
    offsets = (0x1000, 0x100F, 0x1020, 0x1018, 0x1044, 0x1061, 0x10)
    assert [symbols.describe(BASE + offset) for offset in offsets] == [
        "mod.dll!one", "mod.dll!one", "mod.dll!+0x1020", "mod.dll!one", "mod.dll!two", "mod.dll!entry point",
        "mod.dll!+0x10",
    ]  # fmt: skip
    assert symbols.describe(0x1234) == "code outside of all modules"
    window.unmap(BASE, 0x3000)
    assert Symbols(process(window)).describe(BASE + 0x1000) == "mod.dll!one"
    window.unmap(BASE + 0x1000, 0x2000)
    assert Symbols(process_without_sections(window)).describe(BASE + 0x1000) == "mod.dll!+0x1000"
    window.close()


def process_without_sections(window: Window) -> Any:
    module = Module("mod.dll", BASE, 0x3000)
    return SimpleNamespace(window=window, module_at=lambda address: module)


def test_the_file_is_speedscope_s(tmp_path: Path) -> None:
    window = Window()
    running = process(window)
    vcpu: Any = object()
    running.vcpu = vcpu
    profile = Profile()
    kernel: Any = SimpleNamespace(processes=[running])
    profile.kernel = kernel
    for offset, nanoseconds in ((0x1000, 5), (0x1004, 6), (0x1040, 7), (0x1000, 8)):
        state = CpuState()
        state.rip = BASE + offset  # and no stack
        profile.sample(vcpu, state, nanoseconds)
    stranger: Any = object()
    profile.sample(stranger, state, 1)  # of a process that is gone
    path = tmp_path / "p.json"
    profile.write(os.open(path, os.O_WRONLY | os.O_CREAT))
    content = json.loads(path.read_text())
    assert content["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert [frame["name"] for frame in content["shared"]["frames"]] == ["mod.dll!one", "mod.dll!two"]
    (only,) = content["profiles"]
    assert (only["type"], only["unit"], only["name"]) == ("sampled", "nanoseconds", "a.exe (0x20)")
    assert (only["samples"], only["weights"]) == ([[0], [1], [0]], [11, 7, 8])
    assert (only["startValue"], only["endValue"]) == (0, 26)
    window.close()


def test_stats_name_what_happened() -> None:
    measure = Measure()
    measure.instructions, measure.nanoseconds = 3_000_000, 2_000_000
    measure.exits = {Exit.SYSCALL: 1234, Exit.LINK: 5}
    shown = text(measure, 0.5)
    assert "3,000,000 (1,500 million a second in guest code)" in shown
    assert "0.500 s in all, 0.002 s of processor time in guest code" in shown
    assert "system calls     1,234" in shown and "syscall 1,234, link 5" in shown


def registers(state: CpuState) -> list[int]:
    return [state.gpr(number) for number in range(16)]


def test_stacks_are_unwound() -> None:
    """Frames laid out by hand, as the prologues leave them."""
    window = Window()
    running = process(window)
    stack = 0x100000
    window.map(stack, 0x4000, READ | WRITE)
    state = CpuState()
    # in `one`: 0x20 bytes, rbp, back into the function at 0x1020, whose rbp is that of its frame
    state.rip, state.rsp, state.rbp = BASE + 0x1008, stack, 0x1111
    frame = stack + 0x30
    window.w64(stack + 0x20, frame + 0x40)
    window.w64(stack + 0x28, BASE + 0x102C)
    # that one: 0x1000 bytes, of which rbx is at 0x50, rbp, back into `two`, a leaf; then out of all modules
    window.w64(frame + 0x50, 0x2222)
    window.w64(frame + 0x1000, 0x3333)
    window.w64(frame + 0x1008, BASE + 0x1048)
    window.w64(frame + 0x1010, 0x1234)
    unwinder = Unwinder(window, Symbols(running))
    assert unwinder.stack(registers(state), state.rip) == [BASE + 0x1008, BASE + 0x102B, BASE + 0x1047]
    state.rip, state.rsp = BASE + 0x1000, stack + 0x28  # before its prologue
    state.rbp = frame + 0x40
    assert unwinder.stack(registers(state), state.rip)[1] == BASE + 0x102B
    state.rsp = 0x10  # unreadable
    assert unwinder.stack(registers(state), state.rip) == [BASE + 0x1000]
    window.close()


def test_unwind_data_is_read_as_microsoft_lays_it_out() -> None:
    chained = bytes((4 << 3 | 1, 0, 1, 0, 5, 0 << 4 | 2, 0, 0)) + pack("<III", 1, 2, 0x77)
    assert Unwound(chained).chained == 0x77
    large = Unwound(bytes((1, 11, 3, 0, 11, 1 << 4 | 1, 0x78, 0x56, 0x34, 0x12)))
    assert large.codes == [(11, 1, 1, 0x12345678)]
    with pytest.raises(ValueError, match="unwind operation 11"):
        Unwound(bytes((1, 0, 1, 0, 0, 11)))
