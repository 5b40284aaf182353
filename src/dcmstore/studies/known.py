"""arrivals of one study -> those that were not told before."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from dcmstore.index.indexer import Arrival
from dcmstore.studies.tables import instances

AT_ONCE = 500  # values in one question; SQLite takes 999 before 3.32


class News(NamedTuple):
    """Something that has come, as it is remembered. `is_another` where no instance of that UID had come before."""

    arrival: Arrival
    instance: int
    content: int
    stored: int
    is_another: bool


def news(connection: Connection, study: int | None, arrivals: Sequence[Arrival]) -> list[News]:
    """Those that are new, in their order; `study` is its row, where it has one.

    What is entered again after a failure, or found by a walk after a crash, is known by its content. What really came
    again is new, for its file had gone: then it came at another time.
    """
    digests = [_digest(arrival.entry.sop_instance_uid) for arrival in arrivals]
    known = {} if study is None else _known(connection, study, set(digests))
    found = []
    for arrival, instance in zip(arrivals, digests, strict=True):
        entry = arrival.entry
        contents = known.setdefault(instance, {})
        content, stored = _start(bytes.fromhex(entry.sha256)), _milliseconds(entry.stored_at)
        before = contents.get(content)
        if before is not None and not (entry.is_new and before != stored):
            continue
        found.append(News(arrival, instance, content, stored, is_another=not contents))
        contents[content] = stored
    return found


def remember(connection: Connection, found: Sequence[tuple[int, News]]) -> None:
    """What has come, each with the row of its study."""
    if not found:
        return
    rows = [
        {"study": study, "instance": new.instance, "content": new.content, "stored": new.stored, "is_asked": False}
        for study, new in found
    ]
    statement = insert(instances)
    changed = {name: statement.excluded[name] for name in ("stored", "is_asked")}
    keys = ["study", "instance", "content"]
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)


def ask(connection: Connection, study: int, sop_instance_uids: Collection[str]) -> int:
    """Storage commitment was asked for these; return for how many of the study it was by now."""
    return _set_asked(connection, study, {_digest(uid) for uid in sop_instance_uids}, is_asked=True)


def unask(connection: Connection, study: int, found: Sequence[News]) -> int:
    """Of these, some came before, and storage commitment has to be asked for anew; return for how many it was."""
    return _set_asked(connection, study, {new.instance for new in found if not new.is_another}, is_asked=False)


def forget(connection: Connection, chosen: Collection[int]) -> None:
    for some in _chunks(chosen):
        connection.execute(delete(instances).where(instances.c.study.in_(some)))


def _set_asked(connection: Connection, study: int, chosen: Collection[int], *, is_asked: bool) -> int:
    for some in _chunks(chosen):
        of_these = instances.c.study == study, instances.c.instance.in_(some)
        connection.execute(update(instances).where(*of_these).values(is_asked=is_asked))
    question = select(func.count(instances.c.instance.distinct()))
    return int(connection.execute(question.where(instances.c.study == study, instances.c.is_asked)).scalar_one())


def _known(connection: Connection, study: int, chosen: Collection[int]) -> dict[int, dict[int, int]]:
    """What is remembered of these instances: contents, and when they were stored."""
    known: dict[int, dict[int, int]] = {}
    for some in _chunks(chosen):
        question = select(instances.c.instance, instances.c.content, instances.c.stored)
        for row in connection.execute(question.where(instances.c.study == study, instances.c.instance.in_(some))):
            known.setdefault(row.instance, {})[row.content] = row.stored
    return known


def _chunks(chosen: Collection[int]) -> Iterator[list[int]]:
    values = sorted(chosen)
    for start in range(0, len(values), AT_ONCE):
        yield values[start : start + AT_ONCE]


def _digest(text: str) -> int:
    return _start(hashlib.sha256(text.encode()).digest())


def _start(digest: bytes) -> int:
    """Eight bytes: that two instances of one study have the same ones is less likely than a fault of the disk."""
    return int.from_bytes(digest[:8], "big", signed=True)


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
