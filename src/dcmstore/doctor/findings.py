"""something looked at -> a line for a person: fine, worth knowing, or wrong and what to do about it."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `advice` is what to do next, unless the text says so itself."""

    kind: Kind
    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value:4}  {self.text}" + (f"; {self.advice}" if self.advice else "")


def ok(text: str) -> Finding:
    return Finding(Kind.OK, text)


def note(text: str, advice: str = "") -> Finding:
    return Finding(Kind.NOTE, text, advice)


def fail(text: str, advice: str = "") -> Finding:
    return Finding(Kind.FAIL, text, advice)
