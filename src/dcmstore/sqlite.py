"""a path -> a SQLite file open for transactions, and what goes wrong with it in words that say what to do."""

import contextlib
import os
import re
import secrets
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, Table, create_engine, event, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from dcmstore import inheriting
from dcmstore.errors import DcmStoreError, reason_of
from dcmstore.storage import files

# What SQLite says -> what to do
_ADVICE = (
    ("database is locked", "another program has it open for writing: end that, or wait until it is done"),
    ("disk is full", "make room on that disk"),
    ("disk I/O error", "see to that disk or share"),
    ("unable to open", "let the user that runs dcmstore read and write it and its folder, or use sudo"),
    ("readonly", "let the user that runs dcmstore write it and its folder, or use sudo"),
)


# Only these say that the file itself is no database any more: all else may pass, or is the fault of something else.
_DAMAGE = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
_PRIMARY = 0xFF  # of a result code; what is above says more
_FAILURE = re.compile(r"error code=(\d+)")  # where integrity_check could not read, which it reports and does not raise


class SqliteTrouble(DcmStoreError):
    """The file can't be read or written; the text says what to do. `is_damaged` where only a new one will do.

    `is_other_format` is true of one that another version of dcmstore can use.
    """

    def __init__(
        self, path: str, reason: str, advice: str, *, is_damaged: bool = False, is_other_format: bool = False
    ) -> None:
        super().__init__(f"{path}: {reason}; {advice}")
        self.reason = reason
        self.is_damaged = is_damaged
        self.is_other_format = is_other_format


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file of ours holds, and what is said where it can't be used."""

    state: Table  # names and values; all tables beside it are made in a new file
    schema: str  # raised when one of them changes
    synchronous: str  # NORMAL where a power cut may take the last transactions, FULL where not
    trouble: type[SqliteTrouble]
    if_absent: tuple[str, str]  # reason and advice
    if_damaged: str  # advice
    if_other_format: str = ""  # advice, where it is another one


class SqliteFile:
    """A file open on the thread that made it; `close` at the end. Everything here raises the trouble of its contents.

    `patience` is how many seconds it waits for another process that is writing. One that `may_write` is made where
    there is none, and belongs to who has the folder `like`: then the receiver can use what root has made.
    `made` is the name by which one file is told from the next. A short `is_glance` of one that may not write leaves no
    file beside it.
    """

    def __init__(
        self,
        path: str,
        contents: Contents,
        *,
        may_write: bool,
        like: str,
        patience: float,
        is_glance: bool = False,
    ) -> None:
        self.path = path
        self.is_new = False
        self._contents = contents
        self._may_write = may_write
        self._is_glance = is_glance
        self._patience = patience
        with self.troubles():
            if may_write and like:
                _make(path, like)
            self._engine = self._new_engine()
            try:
                self._open()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        if connection := getattr(self, "_connection", None):
            with contextlib.suppress(SQLAlchemyError, sqlite3.Error):
                connection.close()
        self._engine.dispose()

    @contextlib.contextmanager
    def troubles(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Everything in it or nothing."""
        with self.troubles(), self._connection.begin():
            yield self._connection

    def rows(self, question: Select[Any]) -> Sequence[Row[Any]]:
        with self.transaction() as connection:
            return connection.execute(question).all()

    def examine(self) -> None:
        """Look at all of it: raises what is wrong with it, or why nobody can say. Takes seconds for 100 MB."""
        with self.troubles():
            said = str(self._raw("PRAGMA integrity_check(1)")[0][0])
        if said != "ok":
            reason = said.splitlines()[-1]
            failure = _FAILURE.search(reason)
            if failure and int(failure[1]) & _PRIMARY not in _DAMAGE:
                raise self._contents.trouble(self.path, reason, "see to that disk or share")
            raise self._contents.trouble(self.path, reason, self._contents.if_damaged, is_damaged=True)

    @property
    def is_replaced(self) -> bool:
        """True where another file stands in its place, or none."""
        return _identity(self.path) != self._identity

    # --- opening ---------------------------------------------------------------------------------

    def _new_engine(self) -> Engine:
        mode = "rwc" if self._may_write else "ro"
        uri = Path(self.path).absolute().as_uri() + f"?mode={mode}"
        if self._is_glance and not os.path.exists(self.path + "-wal"):  # nobody has it open
            uri += "&immutable=1"  # else SQLite makes two files for those who may come, and leaves them there

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(uri, uri=True, timeout=self._patience, isolation_level=None)

        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
        begin = "BEGIN IMMEDIATE" if self._may_write else "BEGIN"  # who reads first and then writes can't wait

        @event.listens_for(engine, "begin")
        def _(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    def _open(self) -> None:
        if not self._may_write:
            os.stat(self.path)
        self._connection = self._engine.connect()
        self._identity = _identity(self.path)
        if self._may_write:
            for pragma in ("journal_mode=WAL", f"synchronous={self._contents.synchronous}", "foreign_keys=ON"):
                self._raw(f"PRAGMA {pragma}")
        state = self._contents.state
        with self.transaction() as connection:
            if self._may_write and not self._raw("SELECT 1 FROM sqlite_master LIMIT 1"):
                state.metadata.create_all(connection)
                connection.execute(state.insert().values(name="schema", value=self._contents.schema))
                connection.execute(state.insert().values(name="made", value=secrets.token_hex(16)))
                self.is_new = True
            there = self._require_some_table()
            found = {row.name: row.value for row in connection.execute(select(state))} if self._has_state() else {}
        schema, self.made = found.get("schema"), found.get("made", "")
        if schema in (None, self._contents.schema):
            self._require_tables(there)
        if schema != self._contents.schema:
            reason = f"has the format {schema}, and this version of dcmstore has {self._contents.schema}"
            advice, is_other = self._contents.if_other_format or self._contents.if_damaged, schema is not None
            raise self._contents.trouble(self.path, reason, advice, is_damaged=True, is_other_format=is_other)

    def _require_some_table(self) -> set[str]:
        there = {row[0] for row in self._raw("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not there:  # as whoever makes it left it a moment ago
            raise self._contents.trouble(self.path, *self._contents.if_absent)
        return there

    def _has_state(self) -> bool:
        """True where it may be of another version, whatever its other tables are."""
        state = self._contents.state
        return set(state.columns.keys()) <= {row[1] for row in self._raw(f'PRAGMA table_info("{state.name}")')}

    def _require_tables(self, there: set[str]) -> None:
        """Raise the trouble where it is a database of something else, or one that lost a table."""
        if missing := sorted(self._contents.state.metadata.tables.keys() - there):
            reason = f"has no table {missing[0]}"
            raise self._contents.trouble(self.path, reason, self._contents.if_damaged, is_damaged=True)

    def _raw(self, statement: str) -> list[Any]:
        """Around SQLAlchemy's transactions: a PRAGMA within one does nothing."""
        raw = self._connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        return raw.execute(statement).fetchall()

    def _trouble(self, error: Exception) -> SqliteTrouble:
        trouble = self._contents.trouble
        if isinstance(error, FileNotFoundError):
            return trouble(self.path, *self._contents.if_absent)
        if isinstance(error, OSError):
            return trouble(self.path, reason_of(error), "see to that disk or share")
        original = error.orig if isinstance(error, DBAPIError) and error.orig else error
        reason = str(original).splitlines()[0]
        if getattr(original, "sqlite_errorcode", 0) & _PRIMARY in _DAMAGE:
            return trouble(self.path, reason, self._contents.if_damaged, is_damaged=True)
        advice = next((advice for words, advice in _ADVICE if words in reason), "please report the line")
        return trouble(self.path, reason, advice)


def size_of(connection: Connection) -> int:
    """Bytes that are in use, in no time."""
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _make(path: str, like: str) -> None:
    """An empty file is an empty database."""
    if sys.platform == "win32" or os.path.lexists(path):
        return
    heir = inheriting.heir_of(like)
    descriptor = files.create(path)
    inheriting.give(descriptor, heir)
    os.close(descriptor)


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino
