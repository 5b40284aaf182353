"""filters -> what the index knows: studies, series or instances, the newest last."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, func, select, tuple_

from dcmstore.index import entries, tables
from dcmstore.index.database import Database, name_key

_FROM = tables.instances.join(tables.series).join(tables.studies)
_OF_STUDY = [column for column in tables.studies.c if column.name not in ("id", "name_key")]
_OF_INSTANCE = [
    *(column for column in tables.instances.c if column.name not in ("id", "series", "modified")),
    *(column for column in tables.series.c if column.name not in ("id", "study")),
    *_OF_STUDY,
]
_SUMS = ("instances", "bytes", "calling_ae_titles", "hosts", "first_stored", "last_stored")
_ESCAPE = "\\"
PAGE = 500  # records asked for together: however many there are, memory holds so many; SQLite before 3.32 takes 999

# The fields of the records, in their order
STUDY_FIELDS = (*entries.Study._fields, "modalities", "series", *_SUMS)
SERIES_FIELDS = (*entries.Study._fields, *entries.Series._fields, *_SUMS)
INSTANCE_FIELDS = tuple(column.name for column in _OF_INSTANCE)

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filters:
    """What has to hold of an instance; empty does not count, and case neither. A `*` stands for anything."""

    patient: str = ""
    name: str = ""
    calling_ae_title: str = ""
    host: str = ""
    modality: str = ""
    study_dates: tuple[str, str] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        instances, series, studies = tables.instances.c, tables.series.c, tables.studies.c
        for column, wanted in (
            (studies.patient_id, self.patient),
            (instances.calling_ae_title, self.calling_ae_title),
            (instances.host, self.host),
            (series.modality, self.modality),
        ):
            if wanted:
                yield column.ilike(_pattern(wanted), escape=_ESCAPE)
        if self.name:
            yield studies.name_key.like(_pattern(f"*{name_key(self.name)}*"), escape=_ESCAPE)
        if self.study_dates is not None:
            yield studies.study_date.between(*self.study_dates)
        if self.since is not None:
            yield instances.stored_at >= entries.moment(self.since.timestamp())
        if self.until is not None:
            yield instances.stored_at < entries.moment(self.until.timestamp())


def studies(database: Database, filters: Filters, limit: int | None = None) -> Iterator[Record]:
    """A record a study: of its instances, those count that the filters let through."""
    for parts in _groups(database, filters, tables.series.c.study, limit):
        attributes = {name: parts[0][name] for name in entries.Study._fields}
        modalities = _distinct(part["modality"] for part in parts)
        yield {**attributes, "modalities": modalities, "series": len({part["id"] for part in parts}), **_sums(parts)}


def series(database: Database, filters: Filters, limit: int | None = None) -> Iterator[Record]:
    """A record a series, with the attributes of its study."""
    names = (*entries.Study._fields, *entries.Series._fields)
    for parts in _groups(database, filters, tables.series.c.id, limit):
        yield {name: parts[0][name] for name in names} | _sums(parts)


def instances(database: Database, filters: Filters, limit: int | None = None) -> Iterator[Record]:
    """A record an instance, or rather a file."""
    place = tables.instances.c.stored_at, tables.instances.c.id
    let_through = select(*_OF_INSTANCE, tables.instances.c.id).select_from(_FROM).where(*filters.conditions())
    question = let_through
    if limit is not None:
        newest = select(*place).select_from(_FROM).where(*filters.conditions())
        newest = newest.order_by(*(column.desc() for column in place)).offset(limit - 1).limit(1)
        for first in database.rows(newest):
            question = let_through.where(tuple_(*place) >= tuple_(*first))
    while rows := database.rows(question.order_by(*place).limit(PAGE)):
        for row in rows:
            yield dict(zip(INSTANCE_FIELDS, row[:-1], strict=True))
        question = let_through.where(tuple_(*place) > tuple_(rows[-1].stored_at, rows[-1].id))


def _groups(database: Database, filters: Filters, of: Column[int], limit: int | None) -> Iterator[list[Record]]:
    """What the filters let through of each study, or of each series: a part for each series and sender.

    `of` is the column that tells them apart.
    """
    newest = func.max(tables.instances.c.stored_at).desc(), of.desc()
    chosen = select(of).select_from(_FROM).where(*filters.conditions()).group_by(of).order_by(*newest).limit(limit)
    ids = [row[0] for row in reversed(database.rows(chosen))]
    for start in range(0, len(ids), PAGE):
        some = ids[start : start + PAGE]
        groups: dict[int, list[Record]] = {}
        for row in database.rows(_by_sender(filters).where(of.in_(some))):
            groups.setdefault(row._mapping[of.name], []).append(dict(row._mapping))
        yield from (groups[one] for one in some if one in groups)


def _by_sender(filters: Filters) -> Select[Any]:
    """Every series with its study's attributes, counted for each sender."""
    instances = tables.instances.c
    group = [*tables.series.c, *_OF_STUDY, instances.calling_ae_title, instances.host]
    sums = (
        func.count().label("instances"),
        func.sum(instances.size).label("bytes"),
        func.min(instances.stored_at).label("first_stored"),
        func.max(instances.stored_at).label("last_stored"),
    )
    return select(*group, *sums).select_from(_FROM).where(*filters.conditions()).group_by(*group)


def _sums(parts: Sequence[Record]) -> Record:
    return {
        "instances": sum(part["instances"] for part in parts),
        "bytes": sum(int(part["bytes"]) for part in parts),
        "calling_ae_titles": _distinct(part["calling_ae_title"] for part in parts),
        "hosts": _distinct(part["host"] for part in parts),
        "first_stored": min(part["first_stored"] for part in parts),
        "last_stored": max(part["last_stored"] for part in parts),
    }


def _distinct(values: Iterable[str]) -> list[str]:
    return sorted(set(values) - {""})


def _pattern(wanted: str) -> str:
    for sign in (_ESCAPE, "%", "_"):
        wanted = wanted.replace(sign, _ESCAPE + sign)
    return wanted.replace("*", "%")
