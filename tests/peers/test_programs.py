"""Compiled functions on T0: their results against the host CPU's, their every step against Unicorn's."""

import ctypes
import mmap
import os
from functools import cache

import llvmlite.binding as llvm
import pytest

from nexus.backend.link import link
from nexus.ir.state import Exit
from nexus.isa.x86.registers import CpuState
from nexus.machine.vcpu import Vcpu
from nexus.machine.window import EXECUTE, READ, WRITE, Window
from peers.lockstep import LockstepVcpu

PAGE = 4096
CODE, BUFFER, STACK, STACK_BYTES = 0x40_0000, 0x50_0000, 0x60_0000, 0x1_0000
PROGRAMS = {"fib": 14, "sort": 60, "divide": 500, "bytes": 2000, "float": 100}


@cache
def compiled(level):
    """The programs as machine code for plain x86-64, and where each begins."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    with open(os.path.join(os.path.dirname(__file__), "programs.ll")) as file:
        module = llvm.parse_assembly(file.read())
    target = llvm.Target.from_triple("x86_64-pc-linux-gnu")
    machine = target.create_target_machine(cpu="x86-64", opt=level, reloc="pic", codemodel="small")
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = level > 1
    llvm.create_pass_builder(machine, options).getModulePassManager().run(
        module, llvm.create_pass_builder(machine, options)
    )
    image = link(machine.emit_object(module))
    return image.code, image.symbols


@cache
def native(level):
    """The programs in executable memory of this process."""
    code, _ = compiled(level)
    area = mmap.mmap(-1, len(code), prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    area[:] = code
    return area, ctypes.addressof(ctypes.c_char.from_buffer(area))


def on_host(name, level, n, size=PAGE):
    """The result of a program, and the buffer it leaves."""
    _, base = native(level)
    buffer = ctypes.create_string_buffer(size)
    prototype = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
    function = prototype(base + compiled(level)[1][name])
    return function(buffer, n), buffer.raw


def on_guest(make_vcpu, name, level, n):
    code, symbols = compiled(level)
    window = Window()
    vcpu = make_vcpu(window)
    try:
        window.map(CODE, len(code) + PAGE, READ | EXECUTE)
        window.write_forced(CODE, code)
        window.write_forced(CODE + len(code), b"\x0f\x05")
        window.map(BUFFER, PAGE, READ | WRITE)
        window.map(STACK, STACK_BYTES, READ | WRITE)
        state = CpuState()
        state.reset()
        state.rip, state.rsp = CODE + symbols[name], STACK + STACK_BYTES - 16 - 8
        state.rdi, state.rsi = BUFFER, n
        window.w64(state.rsp, CODE + len(code))
        while True:
            stop = vcpu.run(state, 10_000)
            if stop.kind != Exit.BUDGET:
                break
        assert (stop.kind, state.rip) == (Exit.SYSCALL, CODE + len(code) + 2)
        return state.rax, window.read(BUFFER, PAGE)
    finally:
        vcpu.close()
        window.close()


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_the_host(name, level):
    assert on_guest(Vcpu, name, level, PROGRAMS[name]) == on_host(name, level, PROGRAMS[name])


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_step_is_that_of_unicorn(name, level):
    n = 6 if name == "fib" else PROGRAMS[name] // 10
    assert on_guest(LockstepVcpu, name, level, n) == on_host(name, level, n)
