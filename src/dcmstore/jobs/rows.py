"""jobs <-> rows, and the statements that keep exactly one job of each order the next one."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Delete, Insert, Select, Update, and_, bindparam, case, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from dcmstore.jobs.tables import BEHIND, DEAD, NEXT, PAUSE, jobs, state, targets
from dcmstore.jobs.work import Job

_REVIVED = ("order", "made_at", "due_at", "attempts", "state", "reason")


@dataclass(frozen=True, slots=True)
class Target:
    """What jobs of one kind work for."""

    id: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A job as it stands in the queue. Times are those of time.time."""

    id: int
    target: Target
    job: Job
    made_at: float
    due_at: float  # of a dead one, when it died
    attempts: int  # that failed
    reason: str  # why the last one did
    is_next: bool  # nothing has to be done before it


def row_of(job: Job, now: float) -> dict[str, Any]:
    """A row for a job that waits behind all others, its target still missing."""
    return {
        "key": clean(job.key),
        "order": clean(job.order),
        "facts": encoded(job),
        "made_at": now,
        "due_at": now,
        "attempts": 0,
        "state": BEHIND,
        "reason": "",
    }


def queued(row: Any, target: Target) -> Queued:
    job = Job(target.kind, target.name, row.key, row.order, json.loads(row.facts))
    return Queued(row.id, target, job, row.made_at, row.due_at, row.attempts, row.reason, row.state == NEXT)


def encoded(job: Job) -> str:
    return json.dumps(dict(job.facts), sort_keys=True)


def clean(text: str) -> str:
    """What a peer or a file's name brought and is no Unicode would keep a whole transaction from being written."""
    return text.encode("utf-8", "backslashreplace").decode()


# --- statements ----------------------------------------------------------------------------------


def _statement_to_enter() -> Any:
    entered = insert(jobs)
    is_dead = jobs.c.state == DEAD
    revived = {name: case((is_dead, entered.excluded[name]), else_=jobs.c[name]) for name in _REVIVED}
    changed = {"facts": entered.excluded.facts, **revived}
    return entered.on_conflict_do_update(index_elements=["target", "key"], set_=changed)


def _statement_to_advance() -> Update:
    others = jobs.alias()
    same = and_(others.c.target == bindparam("of_target"), others.c.order == bindparam("of_order"))
    first = select(func.min(others.c.id)).where(same, others.c.state == BEHIND).scalar_subquery()
    has_next = select(others.c.id).where(same, others.c.state == NEXT).exists()
    return update(jobs).where(jobs.c.id == first, ~has_next).values(state=NEXT)


ENTER = _statement_to_enter()  # rows; what is there already gets their facts, and comes to life again
ADVANCE = _statement_to_advance()  # orders; where one has no next job, the first behind becomes it


def order_of(target_id: int, order: str) -> dict[str, Any]:
    """An order as ADVANCE takes it."""
    return {"of_target": target_id, "of_order": order}


def next_question(target_id: int) -> Select[Any]:
    """The jobs that nothing has to be done before, the first due first."""
    return select(jobs).where(jobs.c.target == target_id, jobs.c.state == NEXT).order_by(jobs.c.due_at, jobs.c.id)


def waiting_keys(kind: str, target: str, order: str) -> Select[Any]:
    """The keys of the jobs of one order that wait, or are being done."""
    return _of_waiting(select(jobs.c.key), kind, target).where(jobs.c.order == clean(order))


def waiting_count(kind: str, target: str) -> Select[Any]:
    """How many jobs of a target wait, or are being done."""
    return _of_waiting(select(func.count()), kind, target)


def _of_waiting(question: Select[Any], kind: str, target: str) -> Select[Any]:
    of_target = and_(targets.c.kind == kind, targets.c.name == clean(target))
    return question.select_from(jobs.join(targets)).where(of_target, jobs.c.state.in_((NEXT, BEHIND)))


def is_still(job: Queued) -> Any:
    """The row of a job, unless its facts have changed since."""
    return and_(jobs.c.id == job.id, jobs.c.state == NEXT, jobs.c.facts == encoded(job.job))


def again(job: Queued, now: float) -> Update:
    """As if it had just been added."""
    values = {"attempts": 0, "made_at": now, "due_at": now, "reason": ""}
    return update(jobs).where(jobs.c.id == job.id, jobs.c.state == NEXT).values(**values)


def tell(job: Queued, reason: str) -> Update:
    """Why the target fails, or with nothing that it works."""
    is_news = targets.c.reason != clean(reason)
    return update(targets).where(targets.c.id == job.target.id, is_news).values(reason=clean(reason))


# --- the state of the queue ----------------------------------------------------------------------

_IS_PAUSE = state.c.name.startswith(f"{PAUSE} ")
PAUSES = select(state).where(_IS_PAUSE)
END_PAUSES = delete(state).where(_IS_PAUSE)


def set_state(name: str, value: str) -> Insert:
    return insert(state).values(name=name, value=value).on_conflict_do_update(["name"], set_={"value": value})


def pause(target: Target, until: float) -> Insert:
    return set_state(f"{PAUSE} {target.id}", repr(until))


def end_pause(target: Target) -> Delete:
    return delete(state).where(state.c.name == f"{PAUSE} {target.id}")


def pauses(found: Iterable[Any]) -> dict[int, float]:
    """What PAUSES has found, by the rows of the targets."""
    return {int(row.name.removeprefix(f"{PAUSE} ")): float(row.value) for row in found}
