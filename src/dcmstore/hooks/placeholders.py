"""`{patient_id}` in a word -> its parts; which placeholders there are, and of which events they are known."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dcmstore.hooks import STORED, STUDY_COMPLETE

# Facts that this program made itself. All others are as a sender wrote them.
_OURS = (
    "event", "path", "root", "root_key", "folder", "host", "stored_at", "size", "sha256", "instances", "reason",
    "first_stored_at", "event_at",
)  # fmt: skip
_OF_SENDERS = (
    "sop_class_uid", "sop_instance_uid", "transfer_syntax", "study_instance_uid", "series_instance_uid", "patient_id",
    "patient_name", "birth_date", "study_id", "study_date", "accession_number", "study_description", "modality",
    "series_number", "series_description", "instance_number", "calling_ae_title",
)  # fmt: skip
NAMES = (*_OURS, *_OF_SENDERS)
PATHS = frozenset(("path", "root", "folder"))  # as the system has them, to the letter

# What is known of one event only
_ONLY_OF = {
    "path": STORED,
    "sop_instance_uid": STORED,
    "transfer_syntax": STORED,
    "series_instance_uid": STORED,
    "series_number": STORED,
    "series_description": STORED,
    "instance_number": STORED,
    "size": STORED,
    "sha256": STORED,
    "instances": STUDY_COMPLETE,
    "reason": STUDY_COMPLETE,
    "first_stored_at": STUDY_COMPLETE,
    "event_at": STUDY_COMPLETE,
}

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_UNCLOSED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?![A-Za-z0-9_}])")
_UNOPENED = re.compile(r"(?<![A-Za-z0-9_{])([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a word: text as it stands there, or the name of a placeholder."""

    text: str
    is_placeholder: bool

    @property
    def is_of_sender(self) -> bool:
        return self.is_placeholder and self.text not in _OURS


def parts_of(word: str) -> tuple[Part, ...]:
    """Any other braces are text."""
    pieces = _PLACEHOLDER.split(word)
    return tuple(Part(piece, index % 2 == 1) for index, piece in enumerate(pieces) if piece)


def names_in(text: str) -> list[str]:
    return _PLACEHOLDER.findall(text)


def problems(text: str, event: str) -> Iterator[str]:
    """What is wrong with the placeholders of a line for an event, and what to do about it."""
    yield from _half_braces(text)
    for name in names_in(text):
        if name not in NAMES:
            near = difflib.get_close_matches(name.lower(), NAMES, n=1)
            nearest = f"the nearest known one is {{{near[0]}}}; " if near else ""
            allowed = ", ".join(known for known in NAMES if _ONLY_OF.get(known, event) == event)
            yield f"{{{name}}} is no placeholder; {nearest}allowed are {allowed}"
        elif _ONLY_OF.get(name, event) != event:
            yield f"{{{name}}} is not known of {_OF_EVENT[event]}; {_ADVICE[event]}"


def _half_braces(text: str) -> Iterator[str]:
    """Placeholders that lack a brace. Braces that are closed later, or have been opened before, are text."""
    for match in _UNCLOSED.finditer(text):
        if match[1] in NAMES or "}" not in text[match.end() :]:
            yield f"{match[0]} has no closing brace; allowed is {{{match[1]}}}"
    for match in _UNOPENED.finditer(text):
        before = text[: match.start()]
        if match[1] in NAMES and before.count("{") <= before.count("}"):
            yield f"{match[0]} has no opening brace; allowed is {{{match[1]}}}"


_OF_EVENT = {STORED: "a single object", STUDY_COMPLETE: "a study"}
_ADVICE = {
    STORED: "use it with on-study-complete",
    STUDY_COMPLETE: "use {folder} for its files, or on-stored for each of them",
}
