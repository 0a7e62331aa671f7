"""Readers of program files.

A loader turns bytes into plain facts: which machine a file is for, where its sections lie, what it imports.
It maps nothing, runs nothing and trusts nothing: every offset of a file is checked against its size before
it is followed, so a hostile file costs a `BadImage`, never a traceback or unbounded memory.

Read `pe.py` first (headers and sections), then `directories.py` (exports, imports, relocations, ...),
`formats.py` (what a file is, in words) and `runnable.py` (can it run here, and if not, what can be done).
"""
