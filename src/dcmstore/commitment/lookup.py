"""SOP Instance UIDs -> what the index has of them: the files, their digests and their studies."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import select

from dcmstore.index import tables
from dcmstore.index.database import AT_ONCE, Database


class Kept(NamedTuple):
    """A file as the index has it. One SOP Instance UID may stand in several."""

    sop_instance_uid: str
    sop_class_uid: str
    root: str
    path: str
    size: int
    sha256: str
    transfer_syntax: str
    study_instance_uid: str
    patient_id: str


_FROM = tables.instances.join(tables.series).join(tables.studies)
_COLUMNS = [(tables.studies if name in tables.studies.c else tables.instances).c[name] for name in Kept._fields]


def find(database: Database, sop_instance_uids: Collection[str]) -> dict[str, list[Kept]]:
    """The files of each of these that the index has. Raises what Database does."""
    found: dict[str, list[Kept]] = {}
    wanted = list(sop_instance_uids)
    for start in range(0, len(wanted), AT_ONCE):
        chosen = wanted[start : start + AT_ONCE]
        question = select(*_COLUMNS).select_from(_FROM).where(tables.instances.c.sop_instance_uid.in_(chosen))
        for row in database.rows(question):
            found.setdefault(row[0], []).append(Kept._make(row))
    return found
