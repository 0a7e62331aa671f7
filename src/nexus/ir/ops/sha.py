"""SHA-1 and SHA-256 steps, four and two rounds at a time. The oracles follow FIPS 180-4."""

from __future__ import annotations

from nexus.ir.ops.table import row
from nexus.ir.ops.vector import join, split

_U32 = 0xFFFFFFFF
_K1 = (0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6)  # FIPS 180-4, 4.2.1


def _rol(word: int, count: int) -> int:
    return (word << count | word >> 32 - count) & _U32


def _ror(word: int, count: int) -> int:
    return _rol(word, 32 - count)


def _big_0(a: int) -> int:
    return _ror(a, 2) ^ _ror(a, 13) ^ _ror(a, 22)


def _big_1(e: int) -> int:
    return _ror(e, 6) ^ _ror(e, 11) ^ _ror(e, 25)


def _small_0(w: int) -> int:
    return _ror(w, 7) ^ _ror(w, 18) ^ w >> 3


def _small_1(w: int) -> int:
    return _ror(w, 17) ^ _ror(w, 19) ^ w >> 10


def _sha1_rounds(x: int, y: int, imm: int) -> int:
    d, c, b, a = split(x, 32, 128)
    words = split(y, 32, 128)[::-1]
    e, stage = 0, imm & 3
    for word in words:
        f = (b & c ^ ~b & d, b ^ c ^ d, b & c ^ b & d ^ c & d, b ^ c ^ d)[stage]
        a, b, c, d, e = (f + _rol(a, 5) + e + word + _K1[stage]) & _U32, a, _rol(b, 30), c, d
    return join((d, c, b, a), 32)


def _sha1_message_1(x: int, y: int) -> int:
    w3, w2, w1, w0 = split(x, 32, 128)
    _, _, w5, w4 = split(y, 32, 128)
    return join((w5 ^ w3, w4 ^ w2, w3 ^ w1, w2 ^ w0), 32)


def _sha1_message_2(x: int, y: int) -> int:
    x3, x2, x1, x0 = split(x, 32, 128)
    w15, w14, w13, _ = split(y, 32, 128)
    w16, w17, w18 = _rol(x0 ^ w13, 1), _rol(x1 ^ w14, 1), _rol(x2 ^ w15, 1)
    return join((_rol(x3 ^ w16, 1), w18, w17, w16), 32)


def _sha1_next(x: int, y: int) -> int:
    words = split(y, 32, 128)
    words[3] = words[3] + _rol(x >> 96, 30) & _U32
    return join(words, 32)


def _sha256_rounds(x: int, y: int, keyed: int) -> int:
    h, g, d, c = split(x, 32, 128)
    f, e, b, a = split(y, 32, 128)
    for word in split(keyed, 32, 128)[:2]:
        one = h + _big_1(e) + (e & f ^ ~e & g) + word
        two = _big_0(a) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = one + two & _U32, a, b, c, d + one & _U32, e, f, g
    return join((f, e, b, a), 32)


def _sha256_message_1(x: int, y: int) -> int:
    words = [*split(x, 32, 128), y & _U32]
    return join((words[n] + _small_0(words[n + 1]) & _U32 for n in range(4)), 32)


def _sha256_message_2(x: int, y: int) -> int:
    words = split(x, 32, 128)
    before = split(y, 32, 128)[2:]
    for n in range(4):
        before.append(words[n] + _small_1(before[n]) & _U32)
    return join(before[2:], 32)


class _Text:
    """LLVM text of arithmetic on 32-bit words; a word is the name of its value."""

    def __init__(self, *operands: str) -> None:
        self.lines: list[str] = []
        self._count = 0
        self.words = [self._split(operand) for operand in operands]

    def name(self, text: str) -> str:
        self._count += 1
        self.lines.append(f"%n{self._count} = {text}")
        return f"%n{self._count}"

    def _split(self, operand: str) -> list[str]:
        vector = self.name(f"bitcast i128 ${operand} to <4 x i32>")
        return [self.name(f"extractelement <4 x i32> {vector}, i64 {n}") for n in range(4)]

    def op(self, what: str, first: str, *others: str) -> str:
        for other in others:
            first = self.name(f"{what} i32 {first}, {other}")
        return first

    def rol(self, word: str, count: int) -> str:
        return self.name(f"call i32 @llvm.fshl.i32(i32 {word}, i32 {word}, i32 {count})")

    def turned(self, word: str, counts: tuple[int, int, int], shift: bool = False) -> str:
        """Three rotations to the right, the last one a shift on request, by exclusive or."""
        parts = [self.rol(word, 32 - count) for count in counts]
        if shift:
            parts[2] = self.op("lshr", word, str(counts[2]))
        return self.op("xor", *parts)

    def choose(self, x: str, y: str, z: str) -> str:
        return self.op("xor", self.op("and", self.op("xor", y, z), x), z)

    def majority(self, x: str, y: str, z: str) -> str:
        return self.op("or", self.op("and", x, y), self.op("and", self.op("or", x, y), z))

    def result(self, words: list[str]) -> str:
        vector = "zeroinitializer"
        for n, word in enumerate(words):
            vector = self.name(f"insertelement <4 x i32> {vector}, i32 {word}, i64 {n}")
        return "\n".join([*self.lines, f"$d = bitcast <4 x i32> {vector} to i128"])


def _sha1_rounds_text() -> str:
    text = _Text("a", "b")
    (d, c, b, a), words = text.words
    stage = text.name("and i64 $imm, 3")
    is_choice, is_majority = text.name(f"icmp eq i64 {stage}, 0"), text.name(f"icmp eq i64 {stage}, 2")
    is_second = text.name(f"icmp eq i64 {stage}, 1")
    key = text.name(f"select i1 {is_second}, i32 {_K1[1]}, i32 {_K1[3]}")
    key = text.name(f"select i1 {is_majority}, i32 {_K1[2]}, i32 {key}")
    key = text.name(f"select i1 {is_choice}, i32 {_K1[0]}, i32 {key}")
    e = "0"
    for word in reversed(words):
        f = text.op("xor", b, c, d)
        f = text.name(f"select i1 {is_majority}, i32 {text.majority(b, c, d)}, i32 {f}")
        f = text.name(f"select i1 {is_choice}, i32 {text.choose(b, c, d)}, i32 {f}")
        total = text.op("add", f, text.rol(a, 5), e, word, key)
        a, b, c, d, e = total, a, text.rol(b, 30), c, d
    return text.result([d, c, b, a])


def _sha1_message_1_text() -> str:
    text = _Text("a", "b")
    (w3, w2, w1, w0), (_, _, w5, w4) = text.words
    return text.result([text.op("xor", *pair) for pair in ((w5, w3), (w4, w2), (w3, w1), (w2, w0))])


def _sha1_message_2_text() -> str:
    text = _Text("a", "b")
    (x3, x2, x1, x0), (w15, w14, w13, _) = text.words
    w16, w17, w18 = (text.rol(text.op("xor", *pair), 1) for pair in ((x0, w13), (x1, w14), (x2, w15)))
    return text.result([text.rol(text.op("xor", x3, w16), 1), w18, w17, w16])


def _sha1_next_text() -> str:
    text = _Text("a", "b")
    (_, _, _, a), words = text.words
    return text.result([*words[:3], text.op("add", words[3], text.rol(a, 30))])


def _sha256_rounds_text() -> str:
    text = _Text("a", "b", "c")
    (h, g, d, c), (f, e, b, a), keyed = text.words
    for word in keyed[:2]:
        one = text.op("add", h, text.turned(e, (6, 11, 25)), text.choose(e, f, g), word)
        two = text.op("add", text.turned(a, (2, 13, 22)), text.majority(a, b, c))
        a, b, c, d, e, f, g, h = text.op("add", one, two), a, b, c, text.op("add", d, one), e, f, g
    return text.result([f, e, b, a])


def _sha256_message_1_text() -> str:
    text = _Text("a", "b")
    words = [*text.words[0], text.words[1][0]]
    return text.result(
        [text.op("add", words[n], text.turned(words[n + 1], (7, 18, 3), shift=True)) for n in range(4)]
    )


def _sha256_message_2_text() -> str:
    text = _Text("a", "b")
    words, before = text.words[0], text.words[1][2:]
    for n in range(4):
        before.append(text.op("add", words[n], text.turned(before[n], (17, 19, 10), shift=True)))
    return text.result(before[2:])


row(
    "v.sha1_rounds.v128",
    "v128 v128 -> v128",
    _sha1_rounds_text,
    lambda w, a, b, imm: _sha1_rounds(a, b, imm),
    "Four rounds of SHA-1 of stage imm (SHA1RNDS4).",
    imm=True,
)
for _name, _text, _oracle, _doc in (
    (
        "sha1_next",
        _sha1_next_text,
        _sha1_next,
        "E of the next four rounds, added to their words (SHA1NEXTE).",
    ),
    ("sha1_message_1", _sha1_message_1_text, _sha1_message_1, "First half of the schedule (SHA1MSG1)."),
    ("sha1_message_2", _sha1_message_2_text, _sha1_message_2, "Second half of the schedule (SHA1MSG2)."),
    (
        "sha256_message_1",
        _sha256_message_1_text,
        _sha256_message_1,
        "First half of the schedule (SHA256MSG1).",
    ),
    (
        "sha256_message_2",
        _sha256_message_2_text,
        _sha256_message_2,
        "Second half of the schedule (SHA256MSG2).",
    ),
):
    row(
        f"v.{_name}.v128",
        "v128 v128 -> v128",
        _text,
        lambda w, a, b, oracle=_oracle: oracle(a, b),
        _doc,
    )
row(
    "v.sha256_rounds.v128",
    "v128 v128 v128 -> v128",
    _sha256_rounds_text,
    lambda w, a, b, c: _sha256_rounds(a, b, c),
    "Two rounds of SHA-256, c the words with their keys added (SHA256RNDS2).",
)
