"""a request for commitment -> the queue: once it is in there for good, it may be answered with success."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcmstore import commitment
from dcmstore.commitment.asked import Asked
from dcmstore.errors import DcmStoreError
from dcmstore.jobs.opening import Intake
from dcmstore.jobs.work import Job

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from dcmstore.jobs.opening import Plan


# What anybody may ask for is kept for weeks where its report reaches nobody. Beyond these, more is refused.
MAX_OF_ONE = 1000  # requests of one AE title; a scanner asks once a study
MAX_QUEUE = 1024 * 1024 * 1024  # bytes of the queue; the largest request takes 10 MB, a usual one 50 kB


class TooMany(DcmStoreError):
    """What waits already is enough; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Promises:
    """Puts requests into the queue at `path`, which belongs to who has the folder `like` when it is made.

    `wake` tells whoever does the jobs, and `doubt` that the queue seems to be damaged. For any thread and any process;
    each time with the queue opened anew.
    """

    path: str
    like: str
    wake: Callable[[], None]
    doubt: Callable[[], None] = lambda: None

    def add(self, asked: Asked) -> None:
        """A duplicate is marked as one. Raises QueueTrouble, and TooMany."""
        with contextlib.closing(Intake(self.path, self.like, self.wake, doubt=self.doubt)) as intake:
            intake.plan(_plan_of(asked))


def _plan_of(asked: Asked) -> Plan:
    """The job, or where its transaction UID stands for another request that waits, the one that says so."""
    from dcmstore.jobs import rows  # and with it SQLAlchemy
    from dcmstore.sqlite import size_of

    job = asked.job()  # which takes a while where it is large, and nobody else can write in a transaction
    question = rows.waiting_keys(commitment.JOB_KIND, job.target, job.order)
    count = rows.waiting_count(commitment.JOB_KIND, job.target)

    def chosen(waiting: Iterable[str]) -> Job:
        is_free = all(key == job.key or Asked.is_key_of_duplicate(key) for key in waiting)
        return job if is_free else dataclasses.replace(asked, is_duplicate=True).job()

    def plan(connection: Connection) -> list[Job]:
        if connection.execute(count).scalar_one() >= MAX_OF_ONE:
            raise TooMany(
                f"{MAX_OF_ONE} requests of {job.target} wait; `dcmstore queue` shows why, and drops one by its number"
            )
        if size_of(connection) >= MAX_QUEUE:
            raise TooMany(
                f"the queue has {MAX_QUEUE} bytes; `dcmstore queue` shows what waits, and drops a job by its number"
            )
        return [chosen(connection.execute(question).scalars())]

    return plan
