"""A queue that a test opens anew as often as it likes, entries without files, and clocks that a test turns."""

import contextlib
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, String, Table

from dcmstore.index import entries
from dcmstore.index.entries import Entry, Series, Study
from dcmstore.index.indexer import Arrival
from dcmstore.sqlite import Contents, SqliteFile, SqliteTrouble
from dcmstore.studies import states as asking
from dcmstore.studies.associations import Associations
from dcmstore.studies.events import Event, InstanceStored, StudyEvent
from dcmstore.studies.tracker import Tracker
from tests.support import CT

QUIET = 60.0
NOON = 1_800_000_000.0  # on the system's clock
ROOTS = {"/data/images": "images", "/data/rdsr": "rdsr"}

_STATE = Table("state", MetaData(), Column("name", String, primary_key=True), Column("value", String, nullable=False))
_CONTENTS = Contents(_STATE, "1", "OFF", SqliteTrouble, ("", ""), "")


def entry(
    uid: str = "1.1",
    *,
    study: str = "1.9",
    patient: str = "PAT1",
    path: str = "PAT1/7/3/x.dcm",
    root: str = "/data/images",
    content: str = "",
    stored: float = NOON,
    is_new: bool = True,
    announced: int | None = None,
    name: str = "Doe^Jane",
    modality: str = "CT",
    calling: str = "CT2",
) -> Entry:
    return Entry(
        root=root,
        path=path,
        size=1000,
        modified=0,
        sha256=hashlib.sha256(f"{uid} {content}".encode()).hexdigest(),
        transfer_syntax="1.2.840.10008.1.2.1",
        calling_ae_title=calling,
        host="192.0.2.7",
        stored_at=entries.moment(stored),
        sop_class_uid=CT,
        sop_instance_uid=uid,
        instance_number="1",
        study=Study(study, patient, name, "", "7", "20261126", "", ""),
        series=Series("1.9.3", modality, "3", ""),
        is_new=is_new,
        announced="" if announced is None else str(announced),
    )


class Kept:
    """A tracker and its file; both clocks go forward together unless a test sets one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = 1000.0
        self.wall = NOON
        self.file = self._opened()
        self.tracker = self._tracker()

    def close(self) -> None:
        self.file.close()

    def restart(self, *, clock: float = 5.0, off: float = 0.0) -> None:
        """Kill the receiver and start it, `off` seconds later on the system's clock."""
        self.file.close()
        self.clock, self.wall = clock, self.wall + off
        self.file = self._opened()
        self.tracker = self._tracker()

    def pass_(self, seconds: float) -> None:
        self.clock += seconds
        self.wall += seconds

    def came(self, *came: Entry, over: int = 0) -> list[str]:
        with self.file.transaction() as connection:
            return told(self.tracker.entered(connection, [Arrival(one, self.clock, over) for one in came]))

    def due(self, now: float = math.inf) -> list[str]:
        return told(self.events(now))

    def events(self, now: float = math.inf) -> list[Event]:
        with self.file.transaction() as connection:
            return self.tracker.due(connection, min(now, self.clock))

    def states(self, *keys: tuple[str, str]) -> list[str | None]:
        with self.file.transaction() as connection:
            found = asking.states(connection, keys, self.wall, QUIET)
        return [found.get(key) for key in keys]

    @contextlib.contextmanager
    def killed(self) -> Iterator[Connection]:
        """A transaction that never comes to its end."""
        with contextlib.suppress(_Killed), self.file.transaction() as connection:
            yield connection
            raise _Killed

    def count(self, table: str) -> int:
        with self.file.transaction() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())

    def _opened(self) -> SqliteFile:
        return SqliteFile(str(self.path), _CONTENTS, may_write=True, like="", patience=1.0)

    def _tracker(self) -> Tracker:
        self.associations = Associations(lambda: self.clock)
        tracker = Tracker(QUIET, lambda root: ROOTS[root], self.associations, lambda: self.wall)
        with self.file.transaction() as connection:
            tracker.resume(connection)
        return tracker


class _Killed(Exception):
    pass


def told(events: list[Event]) -> list[str]:
    return [_told(event) for event in events]


def _told(event: Event) -> str:
    if isinstance(event, InstanceStored):
        return f"stored {event.entry.sop_instance_uid}"
    reason = f" {event.facts['reason']}" if event.facts["reason"] else ""
    return f"{event.happening.value} {event.order}{reason}"


def study_event(events: list[Event]) -> StudyEvent:
    (event,) = (event for event in events if isinstance(event, StudyEvent))
    return event


def facts(events: list[Event]) -> dict[str, Any]:
    return dict(study_event(events).facts)
