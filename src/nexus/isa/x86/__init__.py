"""The x86-64 instruction set: decoding, register state, and the meaning of each instruction.

`decode.decode` gives an iced instruction, `semantics.lower` appends its IR to a block; nothing in here
runs while the guest does, except the few instructions in `helpers.py`. Read next: `ins.py`, then any file
of `semantics/`.
"""
