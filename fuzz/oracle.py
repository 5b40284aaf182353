"""What the checks of all targets share: how they complain, how they cut a stream, how they weigh what is held."""

import random
import zlib
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from typing import Any

WHOLE_BYTES = 160  # streams up to here are also fed a byte at a time


class Violation(AssertionError):
    """An invariant does not hold."""


def require(holds: bool, words: str, *facts: object) -> None:
    """Raise a Violation unless `holds`. The facts are shown only then, so they may be large."""
    if not holds:
        raise Violation(": ".join([words, *map(repr, facts)]))


def cuttings(stream: bytes) -> Iterator[list[memoryview]]:
    """The stream whole, in pieces of any size, and where that is not too long a byte at a time.

    Each piece is a view of a buffer that is overwritten when the next one is asked for, as the receiver's is. The
    places follow from the stream, so that the same input is always cut alike.
    """
    chance = random.Random(zlib.crc32(stream))
    yield [memoryview(stream)]
    inside = sorted({chance.randrange(len(stream) + 1) for _ in range(1 + chance.randrange(8))})
    yield [memoryview(stream)[start:end] for start, end in pairwise([0, *inside, len(stream)])]
    if len(stream) <= WHOLE_BYTES:
        yield [memoryview(stream)[place : place + 1] for place in range(len(stream))]


def received(pieces: list[memoryview]) -> Iterator[memoryview]:
    """The pieces, each in the one buffer that the next overwrites: who keeps a view of it keeps rubbish."""
    buffer = bytearray(max(map(len, pieces), default=0))
    view = memoryview(buffer)
    for piece in pieces:
        view[: len(piece)] = piece
        yield view[: len(piece)]


def bytes_held(holder: Any) -> int:
    """How many bytes an object keeps in its own attributes and in those of its parts."""
    held = 0
    for value in vars(holder).values():
        if isinstance(value, bytes | bytearray | memoryview | str):
            held += len(value)
        elif isinstance(value, list | set | tuple):
            held += 8 * len(value)
        elif isinstance(value, dict):
            held += sum(len(part) if isinstance(part, bytes | bytearray | str) else 8 for part in value.values())
        elif hasattr(value, "__dict__") and not isinstance(value, type | Enum):
            held += bytes_held(value)
    return held


class Source:
    """An input read as choices: each takes what it needs from the front, and zeros where nothing is left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def byte(self) -> int:
        self._position += 1
        return self._data[self._position - 1] if self._position <= len(self._data) else 0

    def choice(self, options: Any) -> Any:
        return options[self.byte() % len(options)]

    def some(self, longest: int) -> bytes:
        """As many bytes as the next one says, two bytes where it says 255."""
        size = self.byte()
        if size == 255:
            size = self.byte() << 8 | self.byte()
        start = self._position
        self._position += min(size, longest)
        return self._data[start : self._position]
