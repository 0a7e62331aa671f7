"""Locked instructions on two host threads over the same memory: no update is lost."""

from __future__ import annotations

import threading

import pytest
from iced_x86 import Decoder

import t0
from nexus.ir.state import SLOTS, Exit
from nexus.ir.values import Block
from nexus.isa.x86 import fuzz
from nexus.isa.x86.semantics import lower

ROUNDS = 100_000
PLACE = 0x11000

LOOPS = {
    "add": ("f0480103", 2 * ROUNDS),  # lock add [rbx],rax
    "adc": ("f0481103", 2 * ROUNDS),  # with CF 0
    "xadd": ("f0480fc103", 2 * ROUNDS),  # rax becomes the old value; see the register reset below
    "inc": ("f048ff03", 2 * ROUNDS),
    "sub": ("f0482903", -2 * ROUNDS % 2**64),
    "dec": ("f048ff0b", -2 * ROUNDS % 2**64),
    "neg": ("f048f71b", 0),  # of 0: by way of compare and exchange
    "not": ("f048f713", 0),  # an even number of times
    "btc": ("f0480fba3b07", 0),
    "xor": ("f0483103", 0),
}


def _loop(code: str) -> list[Block]:
    """The instruction, counted by rcx, with rax 1 and CF 0 every time; a block per instruction."""
    data = bytes.fromhex("b801000000" + "f8" + code + "48ffc9" + "75")
    data += (-len(data) - 1 & 255).to_bytes(1, "little")
    blocks = []
    for instruction in Decoder(64, data, ip=fuzz.AT):
        block = Block(instruction.ip)
        if not lower(instruction, block):
            block.goto(instruction.next_ip)
        blocks.append(block)
    return blocks


class Thread:
    """A state and records of its own, on the memory of the shared T0."""

    def __init__(self, blocks: list[Block]) -> None:
        self.t0 = t0.T0()
        self.t0._machine["window"] = t0.shared()._machine["window"]
        records, links = {}, {}
        for number, block in enumerate(blocks):
            offset = number * 4096
            records[block.start] = self.t0.place(block, offset)
            links.update({self.t0.records + offset + at: target for at, target in self.t0.code.links.items()})
        for stub, target in links.items():
            if target in records:
                self.t0.engine.link(stub, records[target])
        self.t0.load({1: ROUNDS, 3: PLACE})
        self.thread = threading.Thread(target=self.t0.engine.run, args=(self.t0.state, records[fuzz.AT]))


@pytest.mark.parametrize("name", LOOPS)
def test_no_update_is_lost(name: str) -> None:
    code, expected = LOOPS[name]
    shared = t0.shared()
    offset = PLACE - t0.MEMORY_BASE
    shared.memory[offset : offset + 8] = bytes(8)
    threads = [Thread(_loop(code)) for _ in range(2)]
    for each in threads:
        each.thread.start()
    for each in threads:
        each.thread.join()
        assert each.t0.slots[1] == 0
        assert each.t0.slots[SLOTS["exit"]] == Exit.LINK
    assert int.from_bytes(shared.memory[offset : offset + 8], "little") == expected
