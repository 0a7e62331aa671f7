"""T1: host code put together from stencils, made from the records of a block.

A stencil is a handler of the interpreter (`interp/handlers.py`) whose record fields have become holes: LLVM
compiles it at build time, with eight guest registers in host registers. A hole for a register is found by
decoding the stencil; other registers are put in by encoding it again (`registers.py`). `assemble.py` walks
the records of a block and copies a stencil for each. A row without a good stencil runs the interpreter's
handler in place.

Read `layout.py` (which register is where), `source.py` (the LLVM text), `build.py` (compile, check, keep),
then `assemble.py` and `engine.py`.
"""
