"""Moves: whole registers, parts of them, broadcasts, compressing, narrowing, gathering and scattering.

Facts: Intel SDM volume 2, the operation section of each instruction; alignment and fault suppression by its
exception class (chapter 2.7).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from iced_x86 import Instruction, Register

from isa.model.machine import CODES, K0, U64, Elements, Form, Meaning, Run, Stop, is_vector, vector_at
from isa.model.shapes import Maker, define, lanes, saturate, signed, whole
from nexus.ir.state import VECTOR_BYTES, Exit

WIDTHS = {"B": 8, "W": 16, "D": 32, "Q": 64}


# whole registers ------------------------------------------------------------------------------------


def _moved(bits: int, aligned: bool = False) -> Maker:
    """`aligned`: an address that is no multiple of the size is #GP, whatever the mask says."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // bits
        read = form.vector(1, bits, count, count)
        write = form.result(0, bits, count)
        if form.memory < 0 or not aligned:
            return lambda run: write(run, read(run))

        def run(state: Run) -> None:
            if form.address(state) % form.bytes:
                raise Stop(Exit.PRIVILEGED)
            write(state, read(state))

        return run

    return make


define("VMOVUPS VMOVDQU32 VLDDQU", _moved(32))
define("VMOVUPD VMOVDQU64 VMOVDQU", _moved(64))
define("VMOVDQU8", _moved(8))
define("VMOVDQU16", _moved(16))
define("VMOVAPS VMOVDQA32 VMOVNTPS VMOVNTDQ VMOVNTDQA", _moved(32, aligned=True))
define("VMOVAPD VMOVDQA64 VMOVNTPD VMOVDQA", _moved(64, aligned=True))


# the lowest element ---------------------------------------------------------------------------------


def _scalar_move(bits: int) -> Maker:
    """VMOVSS: from memory everything above becomes zero, from a register it comes from operand 1."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        if form.memory == 0:
            read, write = form.scalar(1, bits), form.result(0, bits, 1)
            return lambda run: write(run, [read(run)])
        last = len(form.operands) - 1
        read, put = form.scalar(last, bits), form.scalar_result(0, bits, 1 if last == 2 else -1)
        return lambda run: put(run, read(run))

    return make


define("VMOVSS", _scalar_move(32))
define("VMOVSD", _scalar_move(64))
define("VMOVSH", _scalar_move(16))


def _general_move(bits: int) -> Maker:
    """VMOVD, VMOVQ, VMOVW: the low bits of one to the other, all above zero."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        read = form.scalar(1, bits)
        if form.memory == 0 or not is_vector(raw.op0_register):
            put = form.integer_result(0, bits)
        else:
            put = form.scalar_result(0, bits)
        return lambda run: put(run, read(run))

    return make


define("VMOVD", _general_move(32))
define("VMOVQ", _general_move(64))
define("VMOVW", _general_move(16))


def _half_move(high: bool) -> Maker:
    """VMOVLPS and VMOVHPS: one half of 128 bits from or to memory, the other from operand 1."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        if form.memory == 0:
            halves, put = form.vector(1, 64, 2), form.integer_result(0, 64)
            return lambda run: put(run, halves(run)[high])
        kept, read, write = form.vector(1, 64, 2), form.scalar(2, 64), form.result(0, 64, 2)
        if high:
            return lambda run: write(run, [kept(run)[0], read(run)])
        return lambda run: write(run, [read(run), kept(run)[1]])

    return make


define("VMOVLPS VMOVLPD", _half_move(False))
define("VMOVHPS VMOVHPD", _half_move(True))
define("VMOVLHPS", whole(lambda a, b: [a[0], b[0]], (64, 64), 64))
define("VMOVHLPS", whole(lambda a, b: [b[1], a[1]], (64, 64), 64))


# parts ----------------------------------------------------------------------------------------------


def _extracted_element(bits: int) -> Maker:
    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        place = form.imm & 128 // bits - 1
        read, put = form.vector(1, bits, 128 // bits), form.integer_result(0, bits)
        return lambda run: put(run, read(run)[place])

    return make


def _inserted_element(bits: int) -> Maker:
    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        place = form.imm & 128 // bits - 1
        base, read = form.vector(1, bits, 128 // bits), form.integer(2, bits)
        write = form.result(0, bits, 128 // bits)

        def run(state: Run) -> None:
            elements = base(state)
            elements[place] = read(state)
            write(state, elements)

        return run

    return make


for _letter, _bits in WIDTHS.items():
    define("VPEXTR" + _letter, _extracted_element(_bits))
    define("VPINSR" + _letter, _inserted_element(_bits))
define("VEXTRACTPS", _extracted_element(32))


def _insertps(raw: Instruction) -> Meaning:
    form = Form(raw)
    base, write = form.vector(1, 32, 4), form.result(0, 32, 4)
    one, four = form.scalar(2, 32), None if form.memory == 2 else form.vector(2, 32, 4)
    imm = form.imm

    def run(state: Run) -> None:
        elements = base(state)
        elements[imm >> 4 & 3] = four(state)[imm >> 6] if four else one(state)
        write(state, [0 if imm >> n & 1 else x for n, x in enumerate(elements)])

    return run


define("VINSERTPS", _insertps)


def _extracted_lanes(bits: int, size: int) -> Maker:
    """So many bits of the source, by number; all of the memory is checked, whatever the mask says."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = size // bits
        start = form.imm % (form.bytes * 8 // size) * count
        read, write = form.vector(1, bits, form.bytes * 8 // bits), form.result(0, bits, count)

        def run(state: Run) -> None:
            if form.memory == 0:
                state.check(form.address(state), size // 8, True)
            write(state, read(state)[start : start + count])

        return run

    return make


def _inserted_lanes(bits: int, size: int) -> Maker:
    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = size // bits
        start = form.imm % (form.bytes * 8 // size) * count
        base, read = form.vector(1, bits, form.bytes * 8 // bits), form.vector(2, bits, count)
        write = form.result(0, bits, form.bytes * 8 // bits)

        def run(state: Run) -> None:
            elements = base(state)
            elements[start : start + count] = read(state)
            write(state, elements)

        return run

    return make


for _letter in "FI":
    for _bits, _times in ((32, 4), (64, 2), (32, 8), (64, 4)):
        define(f"VEXTRACT{_letter}{_bits}X{_times}", _extracted_lanes(_bits, _bits * _times))
        define(f"VINSERT{_letter}{_bits}X{_times}", _inserted_lanes(_bits, _bits * _times))
    define(f"VEXTRACT{_letter}128", _extracted_lanes(64, 128))
    define(f"VINSERT{_letter}128", _inserted_lanes(64, 128))


# again and again -------------------------------------------------------------------------------------


def _broadcast(bits: int, mask_bits: int, times: int = 1) -> Maker:
    """`times` elements of so many bits over and over, masked by elements of `mask_bits`. Memory is read only
    as far as the mask has elements that come from it."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // mask_bits
        each = bits * times // mask_bits
        write = form.result(0, mask_bits, count)
        size = bits * times // 8
        if form.memory != 1:
            if is_vector(raw.op1_register):
                read = form.vector(1, mask_bits, each)
            else:
                one = form.integer(1, bits)
                read = lambda run: [one(run)]  # noqa: E731
            return lambda run: write(run, read(run) * (count // each))

        def run(state: Run) -> None:
            active = form.active(state, count)
            at = form.address(state)
            out: Elements = []
            for n in range(each):
                used = any(active >> i & 1 for i in range(n, count, each))
                place = at + n * mask_bits // 8 & U64
                out.append(int.from_bytes(state.load(place, size // each), "little") if used else 0)
            write(state, out * (count // each))

        return run

    return make


for _letter, _bits in WIDTHS.items():
    define("VPBROADCAST" + _letter, _broadcast(_bits, _bits))
define("VBROADCASTSS", _broadcast(32, 32))
define("VBROADCASTSD", _broadcast(64, 64))
for _letter in "FI":
    for _bits, _times in ((32, 2), (32, 4), (32, 8), (64, 2), (64, 4)):
        define(f"VBROADCAST{_letter}{_bits}X{_times}", _broadcast(_bits, _bits, _times))
    define(f"VBROADCAST{_letter}128", _broadcast(64, 64, 2))


# by the mask ------------------------------------------------------------------------------------------


def _compressed(bits: int) -> Maker:
    """The active elements one behind the other; only so many are stored."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // bits
        read = form.vector(1, bits, count)

        def taken(run: Run) -> Elements:
            active = form.active(run, count)
            return [x for i, x in enumerate(read(run)) if active >> i & 1]

        if form.memory == 0:
            return lambda run: run.store(form.address(run), _joined(taken(run), bits))
        zeroing, old = form.zeroing, form.vector(0, bits, count)
        write = form.result(0, bits, count, masked=False)

        def run(state: Run) -> None:
            elements = taken(state)
            rest = [0] * count if zeroing else old(state)
            write(state, elements + rest[len(elements) :])

        return run

    return make


def _joined(elements: Elements, bits: int) -> bytes:
    return b"".join(x.to_bytes(bits // 8, "little") for x in elements)


def _expanded(bits: int) -> Maker:
    """Elements one behind the other to the places of the active ones; only so many are loaded."""

    def make(raw: Instruction) -> Meaning:
        form = Form(raw)
        count = form.bytes * 8 // bits
        write = form.result(0, bits, count)
        read = None if form.memory == 1 else form.vector(1, bits, count)

        def run(state: Run) -> None:
            active = form.active(state, count)
            if read is not None:
                source = read(state)
            else:
                data = state.load(form.address(state), active.bit_count() * bits // 8)
                source = memoryview(data).cast(CODES[bits]).tolist() if data else []
            following = iter(source)
            write(state, [next(following) if active >> i & 1 else 0 for i in range(count)])

        return run

    return make


for _ending, _bits in (*WIDTHS.items(), ("PS", 32), ("PD", 64)):
    _kind = "V" if _ending in ("PS", "PD") else "VP"
    define(f"{_kind}COMPRESS{_ending}", _compressed(_bits))
    define(f"{_kind}EXPAND{_ending}", _expanded(_bits))


# narrower ----------------------------------------------------------------------------------------------


def _cut(x: int, wide: int, narrow: int) -> int:
    return x & (1 << narrow) - 1


def _saturated(x: int, wide: int, narrow: int) -> int:
    return saturate(signed(x, wide), narrow, True)


def _saturated_unsigned(x: int, wide: int, narrow: int) -> int:
    return saturate(x, narrow, False)


for _from, _to in ("QB", "QW", "QD", "DB", "DW", "WB"):
    for _name, _function in (("", _cut), ("S", _saturated), ("US", _saturated_unsigned)):
        _wide, _narrow = WIDTHS[_from], WIDTHS[_to]
        _each = partial(_function, wide=_wide, narrow=_narrow)
        define(f"VPMOV{_name}{_from}{_to}", lanes(_each, (_wide,), _narrow))


# many addresses -----------------------------------------------------------------------------------------


def _addresses(form: Form, bits: int, count: int) -> Callable[[Run], Elements]:
    """The address of each element, by a vector of indices of so many bits."""
    raw = form.raw
    first = vector_at(raw.memory_index)
    scale, narrow = raw.memory_index_scale, raw.memory_base in range(Register.EAX, Register.R15D + 1)
    mask = 0xFFFFFFFF if narrow else U64
    end, code = first + count * bits // 8, CODES[bits]

    def addresses(run: Run) -> Elements:
        base = form.address(run)
        indices = run.buffer[first:end].cast(code).tolist()
        return [base + signed(index, bits) * scale & mask for index in indices]

    return addresses


def _many(index_bits: int, bits: int, stores: bool) -> Maker:
    """One element after the other, each done when its bit of the mask is cleared."""

    def make(raw: Instruction) -> Meaning:
        if raw.op_count == 3:
            return _gathered_by_signs(raw, index_bits, bits)
        form = Form(raw)
        count = form.bytes * 8 // max(index_bits, bits)
        addresses = _addresses(form, index_bits, count)
        at = vector_at(form.register(1 if stores else 0))
        slot, size = K0 + form.mask, bits // 8

        def run(state: Run) -> None:
            active = form.active(state, count)
            for i, address in enumerate(addresses(state)):
                if active >> i & 1:
                    place = slice(at + i * size, at + (i + 1) * size)
                    if stores:
                        state.store(address, bytes(state.buffer[place]))
                    else:
                        state.buffer[place] = state.load(address, size)
                    state.slots[slot] &= ~(1 << i) & U64
            state.slots[slot] = 0
            if not stores:
                done = at + count * size
                state.buffer[done : at + VECTOR_BYTES] = bytes(VECTOR_BYTES - count * size)

        return run

    return make


def _gathered_by_signs(raw: Instruction, index_bits: int, bits: int) -> Meaning:
    """AVX2: the mask is the signs of a vector."""
    form = Form(raw)
    count = form.bytes * 8 // max(index_bits, bits)
    addresses = _addresses(form, index_bits, count)
    at, mask_at, size = vector_at(form.register(0)), vector_at(form.register(2)), bits // 8

    def run(state: Run) -> None:
        for register in (at, mask_at):
            state.buffer[register + 32 : register + VECTOR_BYTES] = bytes(VECTOR_BYTES - 32)
        wanted = [state.buffer[mask_at + (i + 1) * size - 1] >> 7 for i in range(count)]
        for i, address in enumerate(addresses(state)):
            place = slice(at + i * size, at + (i + 1) * size)
            if wanted[i]:
                state.buffer[place] = state.load(address, size)
            state.buffer[mask_at + i * size : mask_at + (i + 1) * size] = bytes(size)
        for register in (at, mask_at):
            done = register + count * size
            state.buffer[done : register + VECTOR_BYTES] = bytes(register + VECTOR_BYTES - done)

    return run


for _index, _index_bits in (("D", 32), ("Q", 64)):
    for _ending, _bits in (("PS", 32), ("PD", 64), ("D", 32), ("Q", 64)):
        _kind = "V" if _ending in ("PS", "PD") else "VP"
        define(f"{_kind}GATHER{_index}{_ending}", _many(_index_bits, _bits, stores=False))
        define(f"{_kind}SCATTER{_index}{_ending}", _many(_index_bits, _bits, stores=True))
