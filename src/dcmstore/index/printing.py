"""records -> lines for a person, or for a program: nothing that a peer wrote can steer a terminal."""

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

LEAST = 6  # columns that a value keeps where the terminal is narrow: with fewer, nobody knows it again
TOGETHER = 10_000  # rows that are aligned as one, for memory has to hold them
_GAP = 2  # blanks between columns


def safe(value: str) -> str:
    """Without anything but visible characters and blanks: `?` stands for the others."""
    return value if value.isprintable() else "".join(map(_safe_sign, value))


def escaped(value: str) -> str:
    """As it is, but for what can steer a terminal, or ends a line: that is written with a backslash."""
    return "".join(sign if sign == _safe_sign(sign) else sign.encode("unicode_escape").decode() for sign in value)


def _safe_sign(sign: str) -> str:
    if sign.isprintable():
        return sign
    return " " if unicodedata.category(sign) == "Zs" else "?"


def width_of(value: str) -> int:
    """How many columns of a terminal a text takes."""
    if value.isascii():
        return len(value)
    return sum(_width_of_sign(sign) for sign in value)


def _width_of_sign(sign: str) -> int:
    if unicodedata.combining(sign):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in ("W", "F") else 1


def local(moment: str) -> str:
    """A moment of the index in the time of this machine, to the second."""
    parsed = datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return f"{parsed.astimezone():%Y-%m-%d %H:%M:%S}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """Aligned lines; where they would be wider than `width`, the widest columns are cut."""
    needed = [0] * len(heads)
    left = itertools.chain([heads], rows)
    while cells := [[safe(value) for value in row] for row in itertools.islice(left, TOGETHER)]:
        needed = [max(before, *map(width_of, column)) for before, *column in zip(needed, *cells, strict=True)]
        widths = needed.copy()
        if width is not None:
            _narrow(widths, width - _GAP * (len(widths) - 1))
        for row in cells:
            fitted = [_fit(value, columns) for value, columns in zip(row, widths, strict=True)]
            yield (" " * _GAP).join(fitted).rstrip()


def _narrow(widths: list[int], room: int) -> None:
    while sum(widths) > room and max(widths) > LEAST:
        widths[widths.index(max(widths))] -= 1


def _fit(value: str, columns: int) -> str:
    """The value in so many columns: filled with blanks, or cut with a sign that says so."""
    if width_of(value) > columns:
        while width_of(value) > columns - 1:
            value = value[:-1]
        value += "…"
    return value + " " * (columns - width_of(value))


def write_json(records: Iterable[dict[str, Any]], file: TextIO) -> None:
    """One array, in ASCII: whatever the console takes for an encoding."""
    import json  # what a receiver that starts has no use for, is imported where it is used

    before = "[\n"
    for record in records:
        file.write(before + json.dumps(record).replace("\x7f", "\\u007f"))
        before = ",\n"
    file.write("[]\n" if before == "[\n" else "\n]\n")


def write_csv(records: Iterable[dict[str, Any]], names: Sequence[str], file: TextIO) -> None:
    """As RFC 4180, with a header; of several values in one field, a backslash stands between them as in DICOM."""
    import csv

    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(names)
    for record in records:
        writer.writerow([_field(record[name]) for name in names])


def _field(value: Any) -> str:
    return safe("\\".join(value) if isinstance(value, list) else str(value))
