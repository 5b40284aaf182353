"""entries of one study -> the facts of the study."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dcmstore.index.entries import Entry, Study
from dcmstore.jobs.work import Facts

SEPARATOR = "\\"  # as in DICOM: no value of these can have one
MAX_VALUES = 100  # different values kept of one attribute: a row is read and written with each object of its study

# What may differ from instance to instance, and is kept as the set of what came
_SEVERAL: Mapping[str, Callable[[Entry], str]] = {
    "calling_ae_title": lambda entry: entry.calling_ae_title,
    "host": lambda entry: entry.host,
    "modality": lambda entry: entry.series.modality,
    "sop_class_uid": lambda entry: entry.sop_class_uid,
}


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is known of a study. `folders` has for each root the folder that all files below it share, with slashes."""

    study: Study
    folders: Mapping[str, str]  # the root that was used last stands last
    several: Mapping[str, tuple[str, ...]]
    first_stored: str
    last_stored: str

    @classmethod
    def of(cls, entry: Entry) -> "Gathered":
        folders = {entry.root: _folder(entry)}
        several = {name: (value,) if (value := of(entry)) else () for name, of in _SEVERAL.items()}
        return cls(entry.study, folders, several, entry.stored_at, entry.stored_at)

    def with_entry(self, entry: Entry) -> "Gathered":
        """Of a blank attribute the next object may say more; what one has said stays."""
        folders = dict(self.folders)
        before = folders.pop(entry.root, None)
        folders[entry.root] = _folder(entry) if before is None else _common(before, _folder(entry))
        return Gathered(
            self.study if all(self.study) else Study._make(map(_first, self.study, entry.study)),
            folders,
            {name: _with_value(self.several[name], of(entry)) for name, of in _SEVERAL.items()},
            min(self.first_stored, entry.stored_at),
            max(self.last_stored, entry.stored_at),
        )

    def encode(self) -> str:
        fields = (list(self.study), self.folders, self.several, self.first_stored, self.last_stored)
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def decode(cls, encoded: str) -> "Gathered":
        study, folders, several, first_stored, last_stored = json.loads(encoded)
        values = {name: tuple(several[name]) for name in _SEVERAL}
        return cls(Study._make(study), folders, values, first_stored, last_stored)

    def facts(self, event: str, at: str, instances: int, reason: str, root_key: Callable[[str], str]) -> Facts:
        """What a job about an event of a study knows of it, `at` being when it happened; docs/hooks.md names them.

        Where there are several values, a backslash stands between them.

        A study may lie below both roots: its folder is the one of its images, where it has any.
        """
        keys = {root: root_key(root) for root in self.folders}
        root = max(self.folders, key=lambda root: (keys[root] == "images", list(self.folders).index(root)))
        facts: dict[str, Any] = {
            "event": event,
            "event_at": at,
            "root": root,
            "root_key": SEPARATOR.join(sorted(set(keys.values()) - {""})),
            "folder": os.path.join(root, *filter(None, self.folders[root].split("/"))),
            "instances": instances,
            "reason": reason,
            "first_stored_at": self.first_stored,
            "stored_at": self.last_stored,
        }
        facts |= self.study._asdict()
        facts |= {name: SEPARATOR.join(values) for name, values in self.several.items()}
        return facts


def _first(one: str, other: str) -> str:
    return one or other


def _with_value(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    if not value or value in values or len(values) == MAX_VALUES:
        return values
    return tuple(sorted((*values, value)))


def _folder(entry: Entry) -> str:
    return entry.path.rpartition("/")[0]


def _common(one: str, other: str) -> str:
    """The folder that holds both; empty for the root."""
    if one == other:
        return one
    parts = []
    for left, right in zip(one.split("/"), other.split("/"), strict=False):
        if left != right:
            break
        parts.append(left)
    return "/".join(parts)
