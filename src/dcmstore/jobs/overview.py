"""the queue -> what waits and what is dead, for a person who lets jobs be tried now, or drops them."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, select, update

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
    next_try: float | None  # when the first is due: before now, where only its target's pause keeps it
    paused_until: float | None  # it failed, and is left alone so long
    reason: str  # why the last job failed, where none was done since


def summaries(queue: Queue) -> list[Summary]:
    """One for each target that has a job."""
    sums = func.count().label("jobs"), func.min(jobs.c.made_at).label("oldest"), func.min(jobs.c.due_at).label("due")
    counted = queue.rows(select(jobs.c.target, jobs.c.state, *sums).group_by(jobs.c.target, jobs.c.state))
    found = {(row.target, row.state): row for row in counted}
    pauses = queue.pauses()
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
                    paused_until=pauses.get(target.id),
                    reason=target.reason,
                )
            )
    return made


def dead(queue: Queue, target: Target, limit: int | None = None) -> list[Queued]:
    """The dead jobs of a target, the last that died first."""
    question = select(jobs).where(jobs.c.target == target.id, jobs.c.state == DEAD)
    question = question.order_by(jobs.c.due_at.desc(), jobs.c.id.desc()).limit(limit)
    return [rows.queued(row, target) for row in queue.rows(question)]


def waiting(queue: Queue, target: Target, limit: int | None = None) -> list[Queued]:
    """The jobs of a target that wait, the first due first: those that are next in their order, then the others."""
    found: list[Queued] = []
    for state in (NEXT, BEHIND):
        left = None if limit is None else limit - len(found)
        question = select(jobs).where(jobs.c.target == target.id, jobs.c.state == state)
        question = question.order_by(jobs.c.due_at, jobs.c.id).limit(left)
        found += [rows.queued(row, target) for row in queue.rows(question)]
    return found


# --- what a person changes -----------------------------------------------------------------------


def retry(queue: Queue, of: Iterable[Target], job_id: int | None, now: float) -> int:
    """Let a job of these targets, or all of them, be tried now; return how many. Dead ones wait as if new.

    What waits behind another in its order stays there: then the other one is tried.
    """
    done = 0
    for target in of:
        changed = _hurry(queue, target, job_id, now) + _revive(queue, target, job_id, now)
        if changed:
            with queue.transaction() as connection:
                connection.execute(rows.end_pause(target))
        done += changed
    return done


def _hurry(queue: Queue, target: Target, job_id: int | None, now: float) -> int:
    chosen = [jobs.c.target == target.id, jobs.c.state == NEXT]
    if job_id is not None:
        waits = jobs.alias()
        is_meant = waits.c.id == job_id, waits.c.target == target.id, waits.c.state.in_((NEXT, BEHIND))
        chosen.append(jobs.c.order.in_(select(waits.c.order).where(*is_meant)))
    count = int(queue.rows(select(func.count()).select_from(jobs).where(*chosen))[0][0])
    while some := queue.rows(select(jobs.c.id).where(*chosen, jobs.c.due_at > now).limit(AT_ONCE)):
        ids = [row.id for row in some]
        with queue.transaction() as connection:
            connection.execute(update(jobs).where(jobs.c.id.in_(ids), *chosen).values(due_at=now))
    return count


def _revive(queue: Queue, target: Target, job_id: int | None, now: float) -> int:
    values = {"attempts": 0, "made_at": now, "due_at": now, "reason": "", "state": BEHIND}
    question = select(jobs.c.id).where(jobs.c.target == target.id, jobs.c.state == DEAD, jobs.c.due_at <= now)
    if job_id is not None:
        question = question.where(jobs.c.id == job_id)
    done = 0
    while some := queue.rows(question.limit(AT_ONCE)):
        chosen = jobs.c.id.in_([row.id for row in some]), jobs.c.state == DEAD
        with queue.transaction() as connection:
            orders = connection.execute(select(jobs.c.order).where(*chosen).distinct()).scalars().all()
            done += connection.execute(update(jobs).where(*chosen).values(**values)).rowcount
            if orders:
                connection.execute(rows.ADVANCE, [rows.order_of(target.id, order) for order in orders])
    return done


def drop(queue: Queue, of: Iterable[Target], job_id: int) -> int:
    """Remove a job of these targets, whether it waits or is dead; return how many that were."""
    return sum(_remove(queue, target, jobs.c.id == job_id) for target in of)


def drop_dead(queue: Queue, of: Iterable[Target]) -> int:
    return sum(_remove(queue, target, jobs.c.state == DEAD) for target in of)


def drop_all(queue: Queue, of: Iterable[Target]) -> int:
    """Remove also what waits. What is in hand just now is done all the same."""
    return sum(_remove(queue, target, jobs.c.state.in_((NEXT, BEHIND, DEAD))) for target in of)


def _remove(queue: Queue, target: Target, is_meant: ColumnElement[bool]) -> int:
    """Those that are there now; what comes meanwhile stays."""
    newest = queue.rows(select(func.max(jobs.c.id)))[0][0] or 0
    chosen = jobs.c.target == target.id, is_meant, jobs.c.id <= newest
    done = 0
    while some := queue.rows(select(jobs.c.id).where(*chosen).limit(AT_ONCE)):
        with queue.transaction() as connection:
            gone = delete(jobs).where(jobs.c.id.in_([row.id for row in some]), *chosen).returning(jobs.c.order)
            orders = connection.execute(gone).scalars().all()
            if orders:
                connection.execute(rows.ADVANCE, [rows.order_of(target.id, order) for order in dict.fromkeys(orders)])
            done += len(orders)
    return done
