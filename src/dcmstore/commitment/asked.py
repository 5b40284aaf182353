"""a request for commitment <-> a job in the queue: what was asked, by whom, and where the answer goes."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from dcmstore import commitment
from dcmstore.commitment.action import Reference
from dcmstore.jobs.work import Facts, Job

_DUPLICATE = " duplicate"  # at the end of a key


@dataclass(frozen=True, slots=True)
class Asked:
    """One N-ACTION. `line` is the token of the association on which it came; `asked_at` is UTC in ISO 8601.

    With `is_duplicate` its transaction UID stands for another request that was under way when it came.
    """

    transaction_uid: str
    references: tuple[Reference, ...]
    calling_ae_title: str
    host: str
    asked_at: str
    line: str = ""
    is_duplicate: bool = False

    @property
    def key(self) -> str:
        """A request that is sent again is the same one; another one under the same transaction UID is not."""
        digest = hashlib.sha256(_written(self.references).encode()).hexdigest()
        return f"{self.transaction_uid} {digest[:16]}{_DUPLICATE if self.is_duplicate else ''}"

    @staticmethod
    def is_key_of_duplicate(key: str) -> bool:
        return key.endswith(_DUPLICATE)

    def job(self) -> Job:
        facts: Facts = {
            "transaction_uid": self.transaction_uid,
            "references": _written(self.references),
            "calling_ae_title": self.calling_ae_title,
            "host": self.host,
            "asked_at": self.asked_at,
            "line": self.line,
            "is_duplicate": int(self.is_duplicate),
        }
        return Job(commitment.JOB_KIND, self.calling_ae_title, self.key, self.transaction_uid, facts)

    @classmethod
    def of(cls, job: Job) -> "Asked":
        facts = job.facts
        return cls(
            transaction_uid=str(facts["transaction_uid"]),
            references=tuple(_read(str(facts["references"]))),
            calling_ae_title=str(facts["calling_ae_title"]),
            host=str(facts["host"]),
            asked_at=str(facts["asked_at"]),
            line=str(facts["line"]),
            is_duplicate=bool(facts["is_duplicate"]),
        )


def _written(references: Iterable[Reference]) -> str:
    """A line for each run of one SOP class: the class, then the instances."""
    runs = groupby(references, attrgetter("sop_class_uid"))
    return "\n".join(" ".join((sop_class, *(one.sop_instance_uid for one in run))) for sop_class, run in runs)


def _read(written: str) -> Iterator[Reference]:
    for line in written.splitlines():
        sop_class, *instances = line.split()
        yield from (Reference(sop_class, instance) for instance in instances)
