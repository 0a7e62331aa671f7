"""What running records needs to know of them, without the op table: see `records.py` for the whole
picture."""

from __future__ import annotations

from nexus.base.errors import NexusError

RECORD = 16
LITERAL = 16

LOOKUP_BITS = 16
LOOKUP_ENTRIES = 1 << LOOKUP_BITS
LOOKUP_BYTES = LOOKUP_ENTRIES * 16  # guest address, record
LOOKUP_MULTIPLIER = 0x9E3779B97F4A7C15

# Where an enter record has the number of times its block may still run, and a number that no block reaches.
COUNT = 24
NEVER = (1 << 63) - 1

# control records and how long they are
CONTROLS = {"enter": 32, "goto": 32, "branch": 32, "link": 32, "jump": 16, "trap_if": 32, "exit": 16}


class OutOfSlots(NexusError):
    """The block needs more temporaries than the state has; translate fewer instructions at once."""
