"""a study and how far it is <-> its row."""

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, Select, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from dcmstore.jobs import tables as of_queue
from dcmstore.studies import completeness, known
from dcmstore.studies.completeness import Progress
from dcmstore.studies.gathered import Gathered
from dcmstore.studies.tables import carriers, state, studies

Key: TypeAlias = tuple[str, str]  # Study Instance UID and Patient ID

AT_ONCE = 250  # keys or associations in one question; SQLite takes 999 values before 3.32


@dataclass(frozen=True, slots=True)
class Held:
    """A study as the file has it. `seen` is when its newest instance came, on the system's clock."""

    row: int
    key: Key
    openings: int
    seen: float
    reason: str
    progress: Progress
    gathered: Gathered


_IS_CARRIED = select(carriers.c.study).where(carriers.c.study == studies.c.id).exists().label("is_carried")


def find_all(connection: Connection, keys: Collection[Key]) -> Iterator[Held]:
    """Those of these studies that are there."""
    wanted = list(keys)
    for start in range(0, len(wanted), AT_ONCE):
        some = set(wanted[start : start + AT_ONCE])
        question = _question().where(studies.c.study_instance_uid.in_([key[0] for key in some]))
        yield from (held for held in _held(connection.execute(question)) if held.key in some)


def to_look_at(connection: Connection, now: float, limit: int) -> list[Held]:
    question = _question().where(studies.c.look_at <= now).order_by(studies.c.look_at).limit(limit)
    return list(_held(connection.execute(question)))


def next_look(connection: Connection) -> float | None:
    """When a study is to be looked at next, on the clock of this run."""
    found: float | None = connection.execute(select(func.min(studies.c.look_at))).scalar_one()
    return found


def save(
    connection: Connection,
    key: Key,
    openings: int,
    seen: float,
    progress: Progress,
    look_at: float | None,
    gathered: Gathered,
) -> int:
    """What a study is while it comes; return its row."""
    values: dict[str, Any] = {
        "openings": openings,
        "seen": seen,
        "last": progress.last,
        "instances": progress.instances,
        "announced": progress.announced,
        "asked": progress.asked,
        "look_at": look_at,
        "reason": "",
        "completed": None,
        "gathered": gathered.encode(),
    }
    statement = insert(studies).values(study_instance_uid=key[0], patient_id=key[1], **values)
    statement = statement.on_conflict_do_update(index_elements=["study_instance_uid", "patient_id"], set_=values)
    return int(connection.execute(statement.returning(studies.c.id)).scalar_one())


def look_later(connection: Connection, row: int, at: float | None) -> None:
    connection.execute(update(studies).where(studies.c.id == row).values(look_at=at))


def complete(connection: Connection, row: int, reason: str, wall: float) -> None:
    connection.execute(update(studies).where(studies.c.id == row).values(look_at=None, reason=reason, completed=wall))


def committed(connection: Connection, key: Key, sop_instance_uids: Collection[str]) -> None:
    """Storage commitment was asked for these instances of a study, and everything that it was asked for is here."""
    held = next(find_all(connection, [key]), None)
    if held is None or held.progress.is_complete:
        return
    values = {"asked": known.ask(connection, held.row, sop_instance_uids), "look_at": held.progress.last}
    connection.execute(update(studies).where(studies.c.id == held.row).values(values))


def resume(connection: Connection, wall: float, now: float, quiet: float) -> None:
    """All that comes was seen in another run, whose clock was another and whose associations are gone."""
    connection.execute(delete(carriers))
    coming = connection.execute(select(studies.c.id, studies.c.seen).where(studies.c.reason == "")).all()
    lasts = [{"row": row.id, "at": completeness.resumed(row.seen, wall, now, quiet)} for row in coming]
    if lasts:
        values: dict[str, Any] = {"last": bindparam("at"), "look_at": bindparam("at")}
        connection.execute(update(studies).where(studies.c.id == bindparam("row")).values(values), lasts)


def forget(connection: Connection, before: float, limit: int) -> int:
    """Remove studies that were complete before this moment of the system's clock; return how many."""
    question = select(studies.c.id).where(studies.c.completed < before).order_by(studies.c.completed).limit(limit)
    gone = list(connection.execute(question).scalars())
    known.forget(connection, gone)
    connection.execute(delete(studies).where(studies.c.id.in_(gone)))
    return len(gone)


# --- associations --------------------------------------------------------------------------------


def carry(connection: Connection, carried: Collection[tuple[int, int]]) -> None:
    """Open associations have carried these studies."""
    if carried:
        added = [{"association": association, "study": row} for association, row in carried]
        connection.execute(insert(carriers).on_conflict_do_nothing(), added)


def release(connection: Connection, associations: Collection[int], now: float) -> set[int]:
    """These are over: look at what they have carried. Return those of them that had carried something."""
    found: set[int] = set()
    over = sorted(associations)
    for start in range(0, len(over), AT_ONCE):
        is_one = carriers.c.association.in_(over[start : start + AT_ONCE])
        is_coming = studies.c.id.in_(select(carriers.c.study).where(is_one)), studies.c.reason == ""
        connection.execute(update(studies).where(*is_coming).values(look_at=now))
        found |= set(connection.execute(delete(carriers).where(is_one).returning(carriers.c.association)).scalars())
    return found


# --- the state of it all -------------------------------------------------------------------------


def state_of(connection: Connection, name: str) -> str:
    value = connection.execute(select(state.c.value).where(state.c.name == name)).scalar_one_or_none()
    return value or ""


def set_state(connection: Connection, name: str, value: str) -> None:
    statement = insert(state).values(name=name, value=value)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))


def lower_state(connection: Connection, name: str, moment: float) -> None:
    """A moment of the system's clock, where none or a later one is there: the clock was set back."""
    if moment < float(state_of(connection, name) or math.inf):
        set_state(connection, name, repr(moment))


def lacks(connection: Connection) -> float:
    """Since when a queue that was here before may have had no jobs, on the system's clock."""
    question = select(of_queue.state.c.value).where(of_queue.state.c.name == of_queue.LACKS)
    return float(connection.execute(question).scalar_one_or_none() or math.inf)


def _question() -> Select[Any]:
    return select(*studies.c, _IS_CARRIED)


def _held(found: Iterable[Row[Any]]) -> Iterator[Held]:
    for row in found:
        progress = Progress(
            last=row.last,
            instances=row.instances,
            announced=row.announced,
            asked=row.asked,
            is_carried=bool(row.is_carried),
            is_complete=row.reason != "",
        )
        key = row.study_instance_uid, row.patient_id
        yield Held(row.id, key, row.openings, row.seen, row.reason, progress, Gathered.decode(row.gathered))
