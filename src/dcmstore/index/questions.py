"""filters -> what the index knows: studies, series or instances, the newest last."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select

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

# The fields of the records, in their order
STUDY_FIELDS = (*entries.Study._fields, "modalities", "series", *_SUMS)
SERIES_FIELDS = (*entries.Study._fields, *entries.Series._fields, *_SUMS)
INSTANCE_FIELDS = tuple(column.name for column in _OF_INSTANCE)

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filters:
    """What has to hold of an instance; empty does not count. Those with a `*` in them stand for many values."""

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
            (series.modality, self.modality.upper()),
        ):
            if wanted:
                yield column.like(_pattern(wanted), escape=_ESCAPE) if "*" in wanted else column == wanted
        if self.name:
            yield studies.name_key.like(_pattern(f"*{name_key(self.name)}*"), escape=_ESCAPE)
        if self.study_dates is not None:
            yield studies.study_date.between(*self.study_dates)
        if self.since is not None:
            yield instances.stored_at >= entries.moment(self.since.timestamp())
        if self.until is not None:
            yield instances.stored_at < entries.moment(self.until.timestamp())


def studies(database: Database, filters: Filters, limit: int | None = None) -> list[Record]:
    """A record a study: of its instances, those count that the filters let through."""
    found = []
    for parts in _grouped(database.rows(_by_sender(filters)), "study"):
        attributes = {name: parts[0][name] for name in entries.Study._fields}
        modalities = _distinct(part["modality"] for part in parts)
        found.append({**attributes, "modalities": modalities, "series": len({p["id"] for p in parts}), **_sums(parts)})
    return _newest(found, limit)


def series(database: Database, filters: Filters, limit: int | None = None) -> list[Record]:
    """A record a series, with the attributes of its study."""
    names = (*entries.Study._fields, *entries.Series._fields)
    groups = _grouped(database.rows(_by_sender(filters)), "id")
    return _newest([{name: parts[0][name] for name in names} | _sums(parts) for parts in groups], limit)


def instances(database: Database, filters: Filters, limit: int | None = None) -> list[Record]:
    """A record an instance, or rather a file."""
    question = select(*_OF_INSTANCE).select_from(_FROM).where(*filters.conditions())
    question = question.order_by(tables.instances.c.stored_at.desc(), tables.instances.c.id.desc()).limit(limit)
    return [dict(row._mapping) for row in reversed(database.rows(question))]


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


def _grouped(rows: Iterable[Row[Any]], name: str) -> Iterable[list[Record]]:
    groups: dict[int, list[Record]] = {}
    for row in rows:
        groups.setdefault(row._mapping[name], []).append(dict(row._mapping))
    return groups.values()


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


def _newest(found: list[Record], limit: int | None) -> list[Record]:
    found.sort(key=lambda record: record["last_stored"])
    return found if limit is None else found[-limit:]


def _pattern(wanted: str) -> str:
    for sign in (_ESCAPE, "%", "_"):
        wanted = wanted.replace(sign, _ESCAPE + sign)
    return wanted.replace("*", "%")
