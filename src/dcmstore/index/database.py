"""entries <-> rows: what is written into the index, and what it knows."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Table, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from dcmstore.index import tables
from dcmstore.index.entries import Entry, Root, Series, Study
from dcmstore.index.tables import instances, series, state, studies
from dcmstore.sqlite import Contents, SqliteFile, SqliteTrouble
from dcmstore.storage import files

AT_ONCE = 500  # paths in one question; SQLite takes 32766, and 999 before 3.32

# What an entry says of a file: what it is, and how it came
_IDENTITY = ("sop_instance_uid", "sop_class_uid", "instance_number", "transfer_syntax", "size", "modified", "sha256")
_ORIGIN = ("calling_ae_title", "host", "stored_at")


class IndexTrouble(SqliteTrouble):
    """The index can't be read or written; the text says what to do. `is_damaged` where only a new one will do."""


_CONTENTS = Contents(
    state,
    tables.SCHEMA,
    "NORMAL",  # what a power cut takes of the last transactions, the walk at the next start finds
    IndexTrouble,
    ("there is no index yet", "`index= 1` lets the receiver write it, `dcmstore reindex` makes it from the folders"),
    "`dcmstore reindex` builds a new one",
)


class Known(NamedTuple):
    """A file as the index has it."""

    path: str
    size: int
    modified: int
    sha256: str
    transfer_syntax: str
    sop_class_uid: str
    sop_instance_uid: str


class Database(SqliteFile):
    """The index, as SqliteFile has it. Everything here raises IndexTrouble."""

    def __init__(
        self, path: str, *, may_write: bool = True, like: str = "", patience: float = 30.0, is_glance: bool = False
    ) -> None:
        super().__init__(path, _CONTENTS, may_write=may_write, like=like, patience=patience, is_glance=is_glance)

    # --- state -----------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """What `mark` holds after a clean end."""
        rows = self.rows(select(state.c.value).where(state.c.name == "token"))
        return str(rows[0][0]) if rows else ""

    @token.setter
    def token(self, token: str) -> None:
        with self.transaction() as connection:
            connection.execute(delete(state).where(state.c.name == "token"))
            connection.execute(state.insert().values(name="token", value=token))

    # --- writing ---------------------------------------------------------------------------------

    def write(self, entries: Sequence[Entry]) -> None:
        """Enter files, or what has become of them, in one transaction.

        What the index knows of how a file came stays, unless it has come again. Of a blank attribute of a study or
        series the next object may say more; what one has said stays.
        """
        if not entries:
            return
        with self.transaction() as connection:
            ids = _ids(connection, entries)
            rows = [_row(entry, ids[entry.study[:2], entry.series[0]]) for entry in entries]
            for is_new in (False, True):
                chosen = [row for row, entry in zip(rows, entries, strict=True) if entry.is_new is is_new]
                if not chosen:
                    continue
                origin = _ORIGIN if is_new else ()
                statement = insert(instances)
                changed = {name: statement.excluded[name] for name in ("series", *_IDENTITY, *origin)}
                statement = statement.on_conflict_do_update(index_elements=["root", "path"], set_=changed)
                connection.execute(statement, chosen)

    def remove_gone(self, root: Root, paths: Collection[str]) -> int:
        """Remove those of these files that are not there; return how many."""
        gone = [path for path in paths if files.is_gone(root.path_of(path))]
        if not gone:
            return 0
        with self.transaction() as connection:
            gone = [path for path in gone if files.is_gone(root.path_of(path))]  # now nobody else can enter it
            for chosen in _chunks(gone):
                connection.execute(delete(instances).where(instances.c.root == root.name, instances.c.path.in_(chosen)))
        return len(gone)

    def prune(self) -> None:
        """Remove series and studies of which no instance is left."""
        with self.transaction() as connection:
            connection.execute(delete(series).where(series.c.id.not_in(select(instances.c.series))))
            connection.execute(delete(studies).where(studies.c.id.not_in(select(series.c.study))))

    # --- what it knows ---------------------------------------------------------------------------

    def known(self, root: str, paths: Collection[str]) -> dict[str, Known]:
        """Those of these files that are in the index, by path."""
        found: dict[str, Known] = {}
        for chosen in _chunks(list(paths)):
            question = _known().where(instances.c.root == root, instances.c.path.in_(chosen))
            found |= {row[0]: Known._make(row) for row in self.rows(question)}
        return found

    def all_known(self, root: str) -> Iterator[list[Known]]:
        """Every file of a root folder in the order of paths, some at a time: nobody has to wait for a writer."""
        after = ""
        while True:
            question = _known().where(instances.c.root == root, instances.c.path > after)
            rows = self.rows(question.order_by(instances.c.path).limit(AT_ONCE))
            if not rows:
                return
            after = rows[-1][0]
            yield [Known._make(row) for row in rows]

    def totals(self) -> dict[str, tuple[int, int]]:
        """Files and bytes by root folder."""
        sums = func.count().label("files"), func.sum(instances.c.size).label("bytes")
        rows = self.rows(select(instances.c.root, *sums).group_by(instances.c.root))
        return {row.root: (row.files, int(row.bytes)) for row in rows}


def name_key(name: str) -> str:
    """A name as it is searched: case, accents and the signs between its parts do not count."""
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", name) if not unicodedata.combining(sign))
    return " ".join(plain.casefold().replace("^", " ").replace("=", " ").split())


def _known() -> Select[Any]:
    return select(*(instances.c[name] for name in Known._fields))


def _ids(connection: Connection, entries: Iterable[Entry]) -> dict[tuple[Any, str], int]:
    """The series' row for each entry's study and series, made where it was missing."""
    wanted_studies: dict[tuple[str, str], Study] = {}
    wanted_series: dict[tuple[Any, str], Series] = {}
    for entry in entries:
        study = entry.study[:2]
        wanted_studies[study] = Study(*_merged(wanted_studies.get(study, entry.study), entry.study))
        key = study, entry.series[0]
        wanted_series[key] = Series(*_merged(wanted_series.get(key, entry.series), entry.series))
    study_ids = {}
    for study, attributes in wanted_studies.items():
        values = {**attributes._asdict(), "name_key": name_key(attributes.patient_name)}
        study_ids[study] = _id(connection, studies, ("study_instance_uid", "patient_id"), values)
    return {
        key: _id(connection, series, ("study", "series_instance_uid"), {"study": study_ids[key[0]], **wanted._asdict()})
        for key, wanted in wanted_series.items()
    }


def _merged(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one or other for one, other in zip(first, second, strict=True))


def _id(connection: Connection, table: Table, keys: tuple[str, ...], values: dict[str, Any]) -> int:
    """The row with these keys: made where there is none, and what is blank in it filled."""
    row = connection.execute(select(table).where(*(table.c[name] == values[name] for name in keys))).mappings().first()
    if row is None:
        made = connection.execute(table.insert().values(**values)).inserted_primary_key
        assert made is not None
        return int(made[0])
    if blank := {name: value for name, value in values.items() if value and not row[name]}:
        connection.execute(update(table).where(table.c.id == row["id"]).values(**blank))
    return int(row["id"])


def _row(entry: Entry, series_id: int) -> dict[str, Any]:
    names = ("root", "path", *_IDENTITY, *_ORIGIN)
    return {"series": series_id, **{name: getattr(entry, name) for name in names}}


def _chunks(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(paths), AT_ONCE):
        yield paths[start : start + AT_ONCE]
