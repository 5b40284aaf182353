"""input -> another one that is nearly right: what is inside is changed, and the lengths around it are made to fit.

Plain mutation breaks a length with almost every change, and never gets past it. A third of the inputs are changed
plainly all the same, for the lengths must be wrong too.
"""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from fuzz import words

Mutate: TypeAlias = Callable[[bytes, int], bytes]  # the fuzzer's own: data, longest result
Inside: TypeAlias = Callable[["_Change", bytes, bytes], bytes]  # change, head, body -> another body

PLAIN = 0.3  # of the inputs that are changed without regard to what they mean
GROWTH = 48  # bytes that a value may grow by at a time


@dataclass(frozen=True)
class Layout:
    """How a part with a length looks: its head's size, and where in it the length stands."""

    head: int
    offset: int
    length: struct.Struct


PDU = Layout(6, 2, struct.Struct(">I"))
ITEM = Layout(4, 2, struct.Struct(">H"))
PDV = Layout(4, 0, struct.Struct(">I"))
IMPLICIT = Layout(8, 4, struct.Struct("<I"))
SHORT = {False: Layout(8, 6, struct.Struct("<H")), True: Layout(8, 6, struct.Struct(">H"))}
LONG = {False: Layout(12, 8, struct.Struct("<I")), True: Layout(12, 8, struct.Struct(">I"))}
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


@dataclass
class _Change:
    """One change: where chance comes from, and what changes plain bytes."""

    chance: random.Random
    mutate: Mutate

    def leaf(self, head: bytes, body: bytes) -> bytes:
        if self.chance.random() < 0.25:
            return self.chance.choice(words.WORDS)
        return self.mutate(body, len(body) + GROWTH) if body else self.mutate(b"\0", GROWTH)

    def one_of(self, data: bytes, layout: Callable[[bytes], Layout], inside: Inside) -> bytes:
        """Change, drop, repeat or move one of the parts that stand one behind the other."""
        parts = _parts(data, layout)
        if not parts:
            return self.leaf(b"", data)
        place, roll = self.chance.randrange(len(parts)), self.chance.random()
        if roll < 0.06:
            del parts[place]
        elif roll < 0.12:
            parts.insert(self.chance.randrange(len(parts) + 1), parts[place])
        elif roll < 0.18:
            other = self.chance.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        else:
            shape = layout(parts[place])
            head, body = parts[place][: shape.head], parts[place][shape.head :]
            if roll < 0.26:
                head = self.mutate(head, shape.head).ljust(shape.head, b"\0")[: shape.head]
            else:
                body = inside(self, head, body)
            parts[place] = _fitted(shape, head, body)
        return b"".join(parts)


def _parts(data: bytes, layout: Callable[[bytes], Layout]) -> list[bytes]:
    """The parts; what is left behind the last whole one is a part too."""
    parts, position = [], 0
    while position < len(data):
        shape = layout(data[position : position + 12])
        size = len(data)
        if position + shape.head <= size:
            (length,) = shape.length.unpack_from(data, position + shape.offset)
            size = min(size, position + shape.head + length) if length != 0xFFFFFFFF else position + shape.head
        parts.append(data[position:size])
        position = size
    return parts


def _fitted(shape: Layout, head: bytes, body: bytes) -> bytes:
    if len(head) < shape.head:
        return head + body
    largest = (1 << 8 * shape.length.size) - 1
    length = shape.length.pack(min(len(body), largest))
    return head[: shape.offset] + length + head[shape.offset + shape.length.size :] + body


# --- the upper layer -----------------------------------------------------------------------------


def _inside_pdu(change: _Change, head: bytes, body: bytes) -> bytes:
    if head[0] in (1, 2):
        if change.chance.random() < 0.15:
            return change.mutate(body[:68], 68).ljust(68, b"\0") + body[68:]
        return body[:68] + change.one_of(body[68:], lambda _: ITEM, _inside_item)
    if head[0] == 4:
        return change.one_of(body, lambda _: PDV, _inside_pdv)
    return change.leaf(head, body)


def _inside_item(change: _Change, head: bytes, body: bytes) -> bytes:
    if head[0] in (0x20, 0x21):
        return body[:4] + change.one_of(body[4:], lambda _: ITEM, _Change.leaf)
    if head[0] == 0x50:
        return change.one_of(body, lambda _: ITEM, _Change.leaf)
    return change.leaf(head, body)


def _inside_pdv(change: _Change, head: bytes, body: bytes) -> bytes:
    control, value = body[:2], body[2:]
    if len(control) == 2 and change.chance.random() < 0.1:  # two PDVs where there was one
        at = change.chance.randrange(len(value) + 1)
        first = bytes((control[0], control[1] & ~2)) + value[:at]
        return first + _fitted(PDV, bytes(4), control + value[at:])
    if len(control) == 2 and control[1] & 1:
        return control + change.one_of(value, lambda _: IMPLICIT, _Change.leaf)
    return control + change.one_of(value, _explicit, _Change.leaf)


# --- elements ------------------------------------------------------------------------------------


def _explicit(start: bytes, *, is_big: bool = False) -> Layout:
    """The layout of an element in Explicit VR; of an item, and of what has no VR, that of Implicit VR."""
    vr = start[4:6]
    if start[:2] in (b"\xfe\xff", b"\xff\xfe") or not (vr.isalpha() and vr.isupper()):
        return IMPLICIT
    return (LONG if vr in _LONG_VRS else SHORT)[is_big]


def _big(start: bytes) -> Layout:
    return _explicit(start, is_big=True)


def _inside_element(change: _Change, head: bytes, body: bytes) -> bytes:
    """Items inside a sequence are changed as elements are, for they have a tag and a length as well."""
    if body[:4] in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00"):
        return change.one_of(body, _explicit, _inside_element)
    return change.leaf(head, body)


# --- what the fuzzer calls -------------------------------------------------------------------------


def mutator(prefix: int, layout: Callable[[bytes], Layout], inside: Inside) -> Callable[..., bytes]:
    """A custom mutator for inputs with so many bytes of choices in front."""

    def mutate(mutate: Mutate, data: bytes, longest: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if len(data) <= prefix or chance.random() < PLAIN:
            return mutate(data, longest)
        choices, rest = data[:prefix], data[prefix:]
        if prefix and chance.random() < 0.05:
            choices = bytes((chance.randrange(256),)) + choices[1:]
        change = _Change(chance, mutate)
        for _ in range(1 + chance.randrange(3)):
            rest = change.one_of(rest, layout, inside)
        return (choices + rest)[:longest]

    return mutate


STREAM = mutator(0, lambda _: PDU, _inside_pdu)
STREAM_WITH_CHOICE = mutator(1, lambda _: PDU, _inside_pdu)
COMMAND = mutator(0, lambda _: IMPLICIT, _Change.leaf)
_ELEMENTS = {
    0: mutator(1, _explicit, _inside_element),
    1: mutator(1, lambda _: IMPLICIT, _inside_element),
    2: mutator(1, _big, _inside_element),
}


def ELEMENTS(mutate: Mutate, data: bytes, longest: int, seed: int) -> bytes:
    """By the transfer syntax that the first byte chooses; what is deflated is changed plainly."""
    chosen = _ELEMENTS.get(data[0] % 8 if data else 0, _ELEMENTS[0])
    return chosen(mutate, data, longest, seed)
