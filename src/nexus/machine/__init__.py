"""The machine under a guest: memory (`window.py`), translation and vCPU; no operating system.

A guest thread's registers are a `CpuState` (isa), its memory a `Window`; `Vcpu.run` executes it until
something happens that only a kernel can answer, and says what in a `Stop`. The only place where isa meets
backend. Read `window.py`, then `vcpu.py`, then `translation.py`.
"""
