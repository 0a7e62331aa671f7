"""Binary interfaces of the guest: how its structures, pointers and arguments look in memory.

`types` names the scalar types and their codecs, `struct` turns annotated classes into layouts for 64-bit and
32-bit guests, `pointer` gives typed access to guest memory. Everything here is pure data and generated
accessors; nothing knows an operating system.
"""
