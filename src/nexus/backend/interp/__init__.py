"""T0, the threaded interpreter: a block becomes a list of records, each handled by a piece of code made
from a row.

records     the layout of a record, and which variants of a row have a handler (read this first)
assemble    a block as records: slots for values, aliases, puts folded into the op that computes the value
engine      loads the blob; runs, links and unlinks records; finds the guest address of a fault
handlers    (building only) the LLVM text of every handler
runtime     (building only) entry, exit, guarded copies and the fault handler, in assembly and LLVM text
build       (building only) compiles, checks the machine code and writes the blob
"""
