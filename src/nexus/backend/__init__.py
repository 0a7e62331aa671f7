"""The engines, made from the op table.

`llvm/` turns the rows of `ir/ops` into LLVM text, `blob` links what LLVM makes of it into one flat piece of
position-independent code that is cached on disk, and `interp/` is the first engine: a threaded interpreter.
Only building a blob needs llvmlite; running code loads the cached one. Read `interp/records.py` next.
"""
