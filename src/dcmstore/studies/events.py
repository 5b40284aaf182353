"""tracker -> who plans jobs: what it tells of objects and studies."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from dcmstore.index.entries import Entry
from dcmstore.jobs.work import Facts


@dataclass(frozen=True, slots=True)
class InstanceStored:
    """An instance that was not told before."""

    entry: Entry


class Happening(Enum):
    """What happens to a study, by the name of its event."""

    COMPLETE = "study-complete"
    REOPENED = "study-reopened"


@dataclass(frozen=True, slots=True)
class StudyEvent:
    """Something that happened to a study.

    `key` is another one each time it happens and the same when it is told again; `order` is the Study Instance UID.
    `facts` are as `Gathered.facts` has them.
    """

    happening: Happening
    key: str
    order: str
    facts: Facts


Event: TypeAlias = InstanceStored | StudyEvent
