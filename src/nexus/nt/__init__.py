"""The NT kernel: what answers the `syscall` instruction under the real Windows DLLs.

Read in this order: `status`, `errors`, `objects` (kernel objects and their types), `handles`, `namespace`,
`syscall` (how a typed signature becomes a decoder), `wait` and `callback` (blocking and calling into the
guest are values), `ps.thread`, `ps.process`, `kernel` (the run loop). Each file of `syscalls/` holds one
object family; what they are made of is in `io`, `net`, `mm` (memory), `cm` (registry), `ps` (processes and
threads), `se` (security) and `unix`, called as in Windows where it has a name for them.

Invariants: guest memory is touched only through guarded copies; a syscall that cannot be answered stops
loudly (`Unsupported`), it never fakes success; nothing here knows the instruction set's encoding or the
host's files except through the parts that `system` plugs in.
"""
