"""the index -> folders in which studies or patients are mixed that a tree can tell apart."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from sqlalchemy import CTE, ColumnElement, Row, Select, Subquery, and_, case, distinct, func, or_, select

from dcmstore.index import tables
from dcmstore.index.database import Database

FIELDS = ("root", "folder", "studies", "patients", "instances", "study_instance_uids", "patient_ids", "last_stored")

AT_ONCE = 1000  # rows fetched together: a folder into which all was put has one for each study

Record = dict[str, Any]

_instances, _series, _studies = tables.instances.c, tables.series.c, tables.studies.c
# As filing tells patients apart: one without an ID is known by name.
_PATIENT = case((_studies.patient_id != "", "patient " + _studies.patient_id), else_="name " + _studies.patient_name)


def collisions(database: Database, *, by_study: bool = True, limit: int | None = None) -> list[Record]:
    """A record a folder, in the order of their names; `folder` is below `root`, with slashes.

    A master folder is mixed when it holds several patients; one below it when it holds several patients or studies.
    Where the tree has no level for studies (`by_study`), those of one patient are meant to share their folders.
    What lies in a root folder itself is in no tree.
    """
    with database.transaction() as connection:
        return list(_records(connection.execute(_question(by_study, limit), execution_options={"yield_per": AT_ONCE})))


def _records(rows: Iterable[Row[Any]]) -> Iterator[Record]:
    """The rows of a folder stand together, each a study in it."""
    for (root, folder), group in groupby(rows, key=lambda row: (row.root, row.folder)):
        held = list(group)
        yield {
            "root": root,
            "folder": folder,
            "studies": len(held),
            "patients": len({row.patient for row in held}),
            "instances": sum(int(row.instances) for row in held),
            "study_instance_uids": sorted({row.study_instance_uid for row in held}),
            "patient_ids": sorted({row.patient_id for row in held} - {""}),
            "last_stored": max(row.last_stored for row in held),
        }


def _question(by_study: bool, limit: int | None) -> Select[Any]:
    held = _held()
    mixed = _mixed(held, by_study, limit)
    joined = held.join(mixed, and_(held.c.root == mixed.c.root, held.c.folder == mixed.c.folder))
    joined = joined.join(tables.studies, _studies.id == held.c.study)
    columns = (*held.c, _studies.study_instance_uid, _studies.patient_id, _PATIENT.label("patient"))
    return select(*columns).select_from(joined).order_by(held.c.root, held.c.folder, held.c.study)


def _held() -> CTE:
    """Each folder that files lie in, and each above it, with each study that it holds files of."""
    own = _parent(_instances.path)
    key = _instances.root, own, _series.study
    sums = func.count().label("instances"), func.max(_instances.stored_at).label("last_stored")
    lowest = select(key[0], own.label("folder"), key[2], *sums).group_by(*key)
    lowest = lowest.select_from(tables.instances.join(tables.series))
    each = lowest.cte("each", recursive=True)
    of_each = each.c
    above = select(of_each.root, _parent(of_each.folder), of_each.study, of_each.instances, of_each.last_stored)
    each = each.union_all(above.where(of_each.folder != ""))
    sums = func.sum(each.c.instances).label("instances"), func.max(each.c.last_stored).label("last_stored")
    held = select(each.c.root, each.c.folder, each.c.study, *sums).where(each.c.folder != "")
    return held.group_by(each.c.root, each.c.folder, each.c.study).cte("held")


def _parent(path: ColumnElement[str]) -> ColumnElement[str]:
    """The folder that a path lies in, empty for none: all but slashes is taken off its end, then the slash."""
    return func.rtrim(func.rtrim(path, func.replace(path, "/", "")), "/")


def _mixed(held: CTE, by_study: bool, limit: int | None) -> Subquery:
    is_mixed: ColumnElement[bool] = func.count(distinct(_PATIENT)) > 1
    if by_study:
        is_mixed = or_(is_mixed, and_(held.c.folder.contains("/"), func.count(distinct(held.c.study)) > 1))
    key = held.c.root, held.c.folder
    joined = held.join(tables.studies, _studies.id == held.c.study)
    question = select(*key).select_from(joined).group_by(*key).having(is_mixed)
    return question.order_by(*key).limit(limit).subquery("mixed")
