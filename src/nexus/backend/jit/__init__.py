"""T2: whole regions of guest code, compiled by LLVM.

Read `region.py` (blocks that belong together, and which flags anybody reads), `lower.py` and `writer.py`
(their LLVM text: the guest's registers are SSA values, and leave for memory only where the region is left),
`access.py` (accesses that may fail), `unit.py` (what a compiled region is made of), `build.py`.

A unit is to its surroundings one handler of the interpreter: it is entered by a record, and leaves by
dispatching one. An access that fails needs nothing prepared: the signal handler finds the instruction in a
table and sends it to the code that stores the registers, as Linux does for its own accesses of user memory.
"""
