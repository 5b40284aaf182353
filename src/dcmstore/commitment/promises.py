"""a request for commitment -> the queue: once it is in there for good, it may be answered with success."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcmstore import commitment
from dcmstore.commitment.asked import Asked
from dcmstore.jobs.opening import Intake
from dcmstore.jobs.work import Job

if TYPE_CHECKING:
    from dcmstore.jobs.opening import Plan


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
        """A duplicate is marked as one. Raises QueueTrouble."""
        with contextlib.closing(Intake(self.path, self.like, self.wake, doubt=self.doubt)) as intake:
            intake.plan(_plan_of(asked))


def _plan_of(asked: Asked) -> Plan:
    """The job, or where its transaction UID stands for another request that waits, the one that says so."""
    from dcmstore.jobs import rows  # and with it SQLAlchemy

    job = asked.job()  # which takes a while where it is large, and nobody else can write in a transaction
    question = rows.waiting_keys(commitment.JOB_KIND, job.target, job.order)

    def chosen(waiting: Iterable[str]) -> Job:
        is_free = all(key == job.key or Asked.is_key_of_duplicate(key) for key in waiting)
        return job if is_free else dataclasses.replace(asked, is_duplicate=True).job()

    return lambda connection: [chosen(connection.execute(question).scalars())]
