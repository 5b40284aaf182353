"""the queue -> what waits and what is dead, for a person who lets dead jobs wait again, or drops them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from dcmstore.jobs import rows
from dcmstore.jobs.queue import Queue
from dcmstore.jobs.rows import Queued, Target
from dcmstore.jobs.tables import BEHIND, DEAD, NEXT, jobs, targets

AT_ONCE = 500  # jobs in a transaction, so that nobody waits long for the right to write


@dataclass(frozen=True, slots=True)
class Summary:
    """How it stands with a target. Times are those of time.time, None where nothing waits."""

    target: Target
    waiting: int
    dead: int
    oldest: float | None  # when the oldest of those that wait was made
    next_try: float | None
    reason: str  # why the last job failed, where none was done since


def summaries(queue: Queue) -> list[Summary]:
    """One for each target that has a job."""
    sums = func.count().label("jobs"), func.min(jobs.c.made_at).label("oldest"), func.min(jobs.c.due_at).label("due")
    counted = queue.rows(select(jobs.c.target, jobs.c.state, *sums).group_by(jobs.c.target, jobs.c.state))
    found = {(row.target, row.state): row for row in counted}
    made = []
    for target in queue.rows(select(targets).order_by(targets.c.kind, targets.c.name)):
        states = {state: row for state in (NEXT, BEHIND, DEAD) if (row := found.get((target.id, state)))}
        waiting = [states[state] for state in (NEXT, BEHIND) if state in states]
        if states:
            made.append(
                Summary(
                    Target(target.id, target.kind, target.name),
                    waiting=sum(row.jobs for row in waiting),
                    dead=states[DEAD].jobs if DEAD in states else 0,
                    oldest=min((row.oldest for row in waiting), default=None),
                    next_try=states[NEXT].due if NEXT in states else None,
                    reason=target.reason,
                )
            )
    return made


def dead(queue: Queue, target: Target, limit: int | None = None) -> list[Queued]:
    """The dead jobs of a target, the last that died first."""
    question = select(jobs).where(jobs.c.target == target.id, jobs.c.state == DEAD)
    question = question.order_by(jobs.c.due_at.desc(), jobs.c.id.desc()).limit(limit)
    return [rows.queued(row, target) for row in queue.rows(question)]


def retry(queue: Queue, of: Iterable[Target], job_id: int | None, now: float) -> int:
    """Let a dead job of these targets, or all of them, wait again as if new; return how many."""
    values = {"attempts": 0, "made_at": now, "due_at": now, "reason": "", "state": BEHIND}
    done = 0
    for target, some in _dead_ids(queue, of, job_id, now):
        chosen = jobs.c.id.in_(some), jobs.c.state == DEAD
        with queue.transaction() as connection:
            orders = connection.execute(select(jobs.c.order).where(*chosen).distinct()).scalars().all()
            done += connection.execute(update(jobs).where(*chosen).values(**values)).rowcount
            if orders:
                connection.execute(rows.ADVANCE, [rows.order_of(target.id, order) for order in orders])
    return done


def drop(queue: Queue, of: Iterable[Target], job_id: int | None, now: float) -> int:
    """Remove a dead job of these targets, or all of them; return how many."""
    done = 0
    for _, some in _dead_ids(queue, of, job_id, now):
        with queue.transaction() as connection:
            done += connection.execute(delete(jobs).where(jobs.c.id.in_(some), jobs.c.state == DEAD)).rowcount
    return done


def _dead_ids(
    queue: Queue, of: Iterable[Target], job_id: int | None, now: float
) -> Iterator[tuple[Target, Sequence[int]]]:
    """Some at a time, until none is left that died before `now`; whoever gets them makes something else of them."""
    for target in of:
        question = select(jobs.c.id).where(jobs.c.target == target.id, jobs.c.state == DEAD, jobs.c.due_at <= now)
        if job_id is not None:
            question = question.where(jobs.c.id == job_id)
        while some := queue.rows(question.limit(AT_ONCE)):
            yield target, [row.id for row in some]
