"""how a job ended -> the queue, what is known of its target, and the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from dcmstore.jobs import patience
from dcmstore.jobs.circuit import Circuit
from dcmstore.jobs.work import JobFailed

if TYPE_CHECKING:
    from dcmstore.jobs.queue import Queue
    from dcmstore.jobs.rows import Queued, Target
    from dcmstore.jobs.workers import Ended

Report: TypeAlias = Callable[..., None]


class Outcomes:
    """Writes down what becomes of jobs that have ended. Reports as Runner has it. Times are those of time.time."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._circuits: dict[tuple[str, str], Circuit] = {}

    def circuit(self, target: Target) -> Circuit:
        return self._circuits.setdefault((target.kind, target.name), Circuit())

    def write(self, queue: Queue, ended: Ended, now: float) -> None:
        """Raises QueueTrouble; then nothing was told, and it is to be written once more."""
        queued, failure = ended.task.queued, ended.failure
        if failure is None:
            self._done(queue, queued, ended.seconds, now)
            return
        circuit = self.circuit(queued.target)
        is_of_target = not failure.is_about_one or (not failure.is_final and circuit.is_enough(queued.id))
        pause = circuit.pause(now) if is_of_target else None
        is_too_old = now - queued.made_at > patience.of(queued.target.kind).horizon
        if failure.is_final or is_too_old:
            self._died(queue, queued, failure, now, pause)
        else:
            self._failed(queue, queued, failure, now, pause)
        if is_of_target:
            circuit.failed(now)
        if failure.is_about_one and not failure.is_final:
            circuit.refused(queued.id)
        if ended.is_fault:
            self._tell("job.fault", queued, error=str(failure))

    def _done(self, queue: Queue, queued: Queued, seconds: float, now: float) -> None:
        queue.done(queued, now)
        self._tell("job.done", queued, attempts=queued.attempts + 1, seconds=f"{seconds:.1f}")
        if self.circuit(queued.target).worked():
            self._report("job.recovered", kind=queued.target.kind, target=queued.target.name)

    def _died(self, queue: Queue, queued: Queued, failure: JobFailed, now: float, pause: float | None) -> None:
        reason = str(failure)
        queue.died(queued, reason, now, pause)
        dead = queue.dead(queued.target)  # first, for it may raise, and what is news counts as told
        if self.circuit(queued.target).is_news_of_one(f"dead: {reason}", now):
            self._tell("job.dead", queued, attempts=queued.attempts + 1, reason=reason, dead=dead)

    def _failed(self, queue: Queue, queued: Queued, failure: JobFailed, now: float, pause: float | None) -> None:
        reason = str(failure)
        delay = patience.of(queued.target.kind).delay(queued.attempts + 1)
        queue.failed(queued, reason, now + delay, pause)
        circuit = self.circuit(queued.target)
        waiting = queue.waiting(queued.target)  # first, as above
        if circuit.is_news_of_one(reason, now) if failure.is_about_one else circuit.is_news(reason):
            self._tell("job.failed", queued, reason=reason, again_in=f"{delay:g} s", waiting=waiting)

    def _tell(self, event: str, queued: Queued, **facts: object) -> None:
        self._report(event, kind=queued.target.kind, target=queued.target.name, id=queued.id, **facts)
