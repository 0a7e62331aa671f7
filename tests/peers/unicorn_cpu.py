"""`machine.vcpu.Vcpu` on Unicorn.

Unicorn executes on the window's own host pages, mapped into it run by run when first touched. A kernel cannot
tell the difference, but for what Unicorn does not model: segment selectors, EFLAGS.AC checks, #XM, wild
addresses of `rep` instructions.
"""

from __future__ import annotations

import os
from time import perf_counter_ns
from typing import Any

from unicorn import (
    UC_ARCH_X86,
    UC_HOOK_INSN,
    UC_HOOK_INSN_INVALID,
    UC_HOOK_INTR,
    UC_HOOK_MEM_INVALID,
    UC_MEM_FETCH_PROT,
    UC_MEM_FETCH_UNMAPPED,
    UC_MEM_WRITE_PROT,
    UC_MEM_WRITE_UNMAPPED,
    UC_MODE_64,
    UC_PROT_EXEC,
    UC_TLB_VIRTUAL,
    Uc,
    UcError,
    x86_const,
)

from nexus.base.intervals import IntervalMap
from nexus.ir.state import Exit
from nexus.isa.x86 import registers
from nexus.isa.x86.helpers import Machine
from nexus.isa.x86.registers import CpuState
from nexus.machine.host import PAGE
from nexus.machine.stop import Stop
from nexus.machine.window import CODE, EXECUTE, READ, WRITE, Window

_GPRS = [getattr(x86_const, f"UC_X86_REG_{name.upper()}") for name in registers.GPR_NAMES]
_WORDS = [
    *_GPRS,
    x86_const.UC_X86_REG_RIP,
    x86_const.UC_X86_REG_EFLAGS,
    x86_const.UC_X86_REG_FS_BASE,
    x86_const.UC_X86_REG_GS_BASE,
    x86_const.UC_X86_REG_MXCSR,
    x86_const.UC_X86_REG_FPCW,
    x86_const.UC_X86_REG_FPSW,
    x86_const.UC_X86_REG_FPTAG,
]
_XMM = [x86_const.UC_X86_REG_XMM0 + number for number in range(16)]
_X87 = [x86_const.UC_X86_REG_FP0 + number for number in range(8)]
_ALL = [*_WORDS, *_XMM, *_X87]
_NOWHERE = 1 << 63 | 1  # where no guest can be: Unicorn would stop there
_WRITES = (UC_MEM_WRITE_PROT, UC_MEM_WRITE_UNMAPPED)
_FETCHES = (UC_MEM_FETCH_PROT, UC_MEM_FETCH_UNMAPPED)
_EXCEPTIONS = {0: Exit.DIVIDE, 1: Exit.TRAP, 6: Exit.ILLEGAL, 16: Exit.FP_ERROR, 19: Exit.FP_ERROR}
_PRIVILEGED = {bytes((op,)) for op in b"\xf4\xfa\xfb\x6c\x6d\x6e\x6f\xe4\xe5\xe6\xe7\xec\xed\xee\xef"}
_PRIVILEGED |= {bytes((0x0F, op)) for op in (0x06, 0x08, 0x09, 0x20, 0x21, 0x22, 0x23, 0x30, 0x32)}


class Vcpu:
    """Runs guest threads of one window."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.machine = Machine(perf_counter_ns, os.urandom, window.read, window.write)
        self._uc = Uc(UC_ARCH_X86, UC_MODE_64)
        self._uc.ctl_set_tlb_mode(UC_TLB_VIRTUAL)
        self._mapped: IntervalMap[int] = IntervalMap(0)  # 0, or 1 + the start of the Unicorn region
        self._ends: dict[int, int] = {}
        self._loose: set[int] = set()  # regions with code that the kernel can write without our seeing it
        self._synced: bytes = b""
        self.admitted = 0  # how often Unicorn was started again because a page was new to it
        self._stop: Stop | None = None
        self._invalid: tuple[int, int] | None = None
        window.on_change.append(self._forget)
        window.on_code_write = lambda page: self._forget(page, page + PAGE)
        self._uc.hook_add(UC_HOOK_INSN, self._on_syscall, None, 1, 0, x86_const.UC_X86_INS_SYSCALL)
        self._uc.hook_add(UC_HOOK_MEM_INVALID, self._on_memory)
        self._uc.hook_add(UC_HOOK_INTR, self._on_interrupt)
        self._uc.hook_add(UC_HOOK_INSN_INVALID, self._on_invalid)

    def close(self) -> None:
        """Let go of the window."""
        if self.window.top:
            self._forget(0, self.window.top)
        if self._forget in self.window.on_change:
            self.window.on_change.remove(self._forget)

    def run(self, state: CpuState, budget: int) -> Stop:
        """Execute at most `budget` instructions, or until something happens that a kernel must answer.

        An iteration of a repeated string instruction is one.
        """
        self._load(state)
        for region in self._loose:
            self._uc.ctl_remove_cache(region, self._ends[region])
        rip = state.rip
        while True:
            self._stop, self._invalid = None, None
            try:
                self._uc.emu_start(rip, _NOWHERE, count=budget)
            except UcError as error:
                if self._invalid is None and self._stop is None:
                    rip = self._uc.reg_read(x86_const.UC_X86_REG_RIP)
                    raise RuntimeError(f"Unicorn: {error} at {rip:#x}") from error
            rip = self._uc.reg_read(x86_const.UC_X86_REG_RIP)
            if self._invalid is not None:
                if self._admit(*self._invalid):
                    continue
                kind, address = self._invalid
                self._stop = Stop(Exit.FAULT, 0, address, kind in _WRITES, kind in _FETCHES)
            break
        self._save(state)
        stop = self._stop or Stop(Exit.BUDGET)
        if stop.kind == Exit.SYSCALL:
            state.rcx, state.r11 = rip, state.eflags
        elif stop.kind == Exit.PRIVILEGED and not self._privileged(rip):
            stop = Stop(Exit.FAULT, 0, (1 << 64) - 1)
        return stop

    def watch(self, kind: int, callback: Any) -> None:
        """Add a hook of Unicorn's."""
        self._uc.hook_add(kind, callback)

    # hooks -----------------------------------------------------------------------------------------

    def _on_syscall(self, uc: Uc, _: Any) -> None:
        self._stop = Stop(Exit.SYSCALL)
        uc.emu_stop()

    def _on_memory(self, _uc: Uc, kind: int, address: int, _size: int, _value: int, _data: Any) -> bool:
        self._invalid = (kind, address & (1 << 64) - 1)
        return False

    def _on_interrupt(self, uc: Uc, number: int, _: Any) -> None:
        if number == 13:
            self._stop = Stop(Exit.PRIVILEGED)
        elif number in _EXCEPTIONS:
            self._stop = Stop(_EXCEPTIONS[number], number)
        else:
            self._stop = Stop(Exit.INTERRUPT, number)
        uc.emu_stop()

    def _on_invalid(self, uc: Uc, _: Any) -> bool:
        self._stop = Stop(Exit.ILLEGAL)
        uc.emu_stop()
        return False

    def _privileged(self, rip: int) -> bool:
        code = self.window.read(rip, 2)
        return code in _PRIVILEGED or code[:1] in _PRIVILEGED

    # memory ----------------------------------------------------------------------------------------

    def _admit(self, kind: int, address: int) -> bool:
        """Let Unicorn see a page if the guest may do what it tried."""
        window = self.window
        access = window.access(address)
        needed = WRITE if kind in _WRITES else EXECUTE if kind in _FETCHES else READ
        if not access or (needed != READ and not access & needed):
            return False
        if kind in _WRITES:
            window.admit(address, True)
        elif self._mapped[address]:
            return False
        self._map(address, kind in _WRITES)
        self.admitted += 1
        return True

    def _map(self, address: int, writing: bool) -> None:
        """Map the run around an address. Executable pages are locked, so that the kernel's writes are seen,
        until the guest itself writes to them."""
        window = self.window
        page = address & -PAGE
        self._forget(page, page + PAGE)
        start, end, allowed = window.host_access(page)
        access = window.access(page)
        for begin, stop, _ in window.runs(start, end):
            if begin <= page < stop:
                start, end = begin, stop
                break
        for begin, stop, region in list(self._mapped.runs(start, end)):
            if region and stop <= page:
                start = stop
            elif region and begin > page:
                end = begin
                break
        if access and access & EXECUTE:
            allowed |= UC_PROT_EXEC
            if allowed & WRITE and writing:
                self._loose.add(start)
            else:
                for code_page in range(start, end, PAGE):
                    window.lock(code_page, CODE)
                allowed &= ~WRITE
        self._uc.mem_map_ptr(start, end - start, allowed, window.host + start)
        self._mapped.set(start, end, start + 1)
        self._ends[start] = end

    def _forget(self, start: int, end: int) -> None:
        """Take regions out of Unicorn that touch a range."""
        for region in {region - 1 for _, _, region in self._mapped.runs(start, end) if region}:
            stop = self._ends.pop(region)
            self._loose.discard(region)
            self._uc.ctl_remove_cache(region, stop)
            self._uc.mem_unmap(region, stop - region)
            self._mapped.set(region, stop, 0)

    # registers -------------------------------------------------------------------------------------

    def _load(self, state: CpuState) -> None:
        current = bytes(state.buffer)
        if current == self._synced:
            return
        values: list[Any] = [state.gpr(number) for number in range(16)]
        used = state.slots[registers.FTAG]
        tags = sum((0 if used >> number & 1 else 3) << 2 * number for number in range(8))
        values += [state.rip, state.eflags, state.fs_base, state.gs_base, state.mxcsr]
        values += [state.fcw, state.fsw, tags]
        values += [int.from_bytes(state.xmm(number), "little") for number in range(16)]
        for number in range(8):
            raw = state.st(number - (state.fsw >> 11) & 7)
            values.append((int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")))
        self._uc.reg_write_batch(list(zip(_ALL, values, strict=True)))

    def _save(self, state: CpuState) -> None:
        values = self._uc.reg_read_batch(_ALL)
        for number in range(16):
            state.set_gpr(number, values[number])
        state.rip, state.eflags, state.fs_base, state.gs_base, state.mxcsr = values[16:21]
        state.fcw, state.fsw, tags = values[21:24]
        state.slots[registers.FTAG] = sum((tags >> 2 * number & 3 != 3) << number for number in range(8))
        for number in range(16):
            state.set_xmm(number, values[24 + number].to_bytes(16, "little"))
        for number, (mantissa, exponent) in enumerate(values[40:]):
            raw = mantissa.to_bytes(8, "little") + exponent.to_bytes(2, "little")
            state.set_st(number - (state.fsw >> 11) & 7, raw)
        self._synced = bytes(state.buffer)
