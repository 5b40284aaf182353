"""What is told of events is true for good, and no fault of ours keeps what was stored from the index."""

import queue
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection

from dcmstore.afterwards import DAMAGED_TRIES, Afterwards, Planner
from dcmstore.index.indexer import Arrival, Held
from dcmstore.jobs import opening
from dcmstore.jobs.queue import Queue
from dcmstore.jobs.work import Facts, Job
from dcmstore.studies.associations import Associations
from dcmstore.studies.events import Event, Happening, InstanceStored, StudyEvent
from dcmstore.studies.tracker import Tracker
from tests.index.support import locked
from tests.jobs.support import job, waiting
from tests.studies.support import entry

FACTS: dict[str, str | int] = {
    "event": "study-complete",
    "study_instance_uid": "1.9",
    "instances": 2,
    "reason": "quiet",
}
COMPLETE = StudyEvent(Happening.COMPLETE, "key", "1.9", FACTS)
Told = list[tuple[str, dict[str, object]]]


class Events:
    """In place of a tracker: every time the same events."""

    def __init__(self, *events: Event) -> None:
        self.events = events

    quiet = 0.0

    def resume(self, connection: Connection) -> None: ...

    def is_due(self, now: float) -> bool:
        return False

    def entered(self, connection: Connection, arrivals: Iterable[Arrival]) -> Sequence[Event]:
        return self.events

    def due(self, connection: Connection, now: float) -> Sequence[Event]:
        return self.events


def plan(facts: Facts) -> list[Job]:
    uid = str(facts.get("sop_instance_uid", "study"))
    return [job(uid, order=uid)]


class Place:
    def __init__(self, path: Path, *events: Event, planners: Sequence[Planner] = (plan,)) -> None:
        self.told: Told = []
        self.is_doubted = False
        self.doubts: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.afterwards = Afterwards(
            str(path),
            "",
            Associations(),
            lambda: cast(Tracker, Events(*events)),
            lambda: 60.0,
            lambda: planners,
            lambda _: "images",
            lambda: None,
            lambda: self.doubts.put(None),
            lambda: self.is_doubted,
            lambda event, **facts: self.told.append((event, facts)),
        )

    def close(self) -> None:
        self.afterwards.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PATIENCE", 0.01)


def made(path: Path) -> list[str]:
    opened = Queue(str(path))
    keys = [queued.job.key for queued in waiting(opened)]
    opened.close()
    return keys


def test_a_study_is_told_once_it_is_written_and_not_before(path: Path, opened: Queue, hasty: None) -> None:
    place = Place(path, COMPLETE)
    with locked(path), pytest.raises(Held, match="database is locked"):
        place.afterwards.look(0.0)
    assert [event for event, _ in place.told] == ["queue.failed"]
    place.afterwards.look(0.0)
    place.close()
    told = {"study_instance_uid": "1.9", "instances": 2, "reason": "quiet"}
    assert place.told[1:] == [("queue.recovered", {"path": str(path), "index": "goes on"}), ("study.complete", told)]


def test_a_study_whose_jobs_cant_be_written_is_not_told(path: Path) -> None:
    place = Place(path, COMPLETE, planners=[lambda _: [job("1", size=cast(Any, b"no JSON"))]])
    with pytest.raises(TypeError):
        place.afterwards.look(0.0)
    place.close()
    assert place.told == []


def test_what_is_wrong_with_the_queue_is_told_once(path: Path, opened: Queue, hasty: None) -> None:
    place = Place(path, COMPLETE)
    with locked(path):
        for _ in range(3):
            with pytest.raises(Held):
                place.afterwards.look(0.0)
    place.close()
    ((event, facts),) = place.told
    assert event == "queue.failed"
    assert str(path) in str(facts["reason"])


def test_a_damaged_queue_is_doubted_and_told_when_nobody_puts_it_aside(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    place = Place(path, COMPLETE)
    for _ in range(DAMAGED_TRIES):
        with pytest.raises(Held):
            place.afterwards.look(0.0)
    assert (place.told, place.doubts.qsize()) == ([], DAMAGED_TRIES)
    with pytest.raises(Held):
        place.afterwards.look(0.0)
    place.close()
    assert [event for event, _ in place.told] == ["queue.failed"]


def test_a_queue_that_is_doubted_is_not_kept_open(path: Path) -> None:
    place = Place(path, COMPLETE)
    place.afterwards.look(0.0)
    assert path.with_name(f"{path.name}-wal").exists()
    place.is_doubted = True
    place.afterwards.is_due(0.0)
    assert not path.with_name(f"{path.name}-wal").exists()
    place.close()


def at_fault(facts: Facts) -> Iterator[Job]:
    uid = str(facts["sop_instance_uid"])
    yield job(f"other {uid}", order=f"other {uid}")
    if facts["study_instance_uid"] == "1.9":
        raise KeyError("modality")


def test_a_planner_at_fault_keeps_nothing_from_the_index_and_the_log_says_what_has_no_jobs(path: Path) -> None:
    stored = [
        InstanceStored(entry(uid, study=study)) for uid, study in (("1.1", "1.9"), ("1.2", "1.9"), ("2.1", "1.8"))
    ]
    place = Place(path, *stored, planners=[at_fault, plan])
    place.afterwards.entered([Arrival(stored[0].entry, 0.0)])
    place.close()
    assert place.told == [
        ("job.not_made", {"study_instance_uid": "1.9", "events": 2, "error": "KeyError: 'modality'"}),
    ]
    assert sorted(made(path)) == ["1.1", "1.2", "2.1", "other 2.1"]


def test_settings_at_fault_keep_nothing_from_the_index_either(path: Path) -> None:
    place = Place(path, COMPLETE, planners=cast(Any, [None]))
    place.afterwards.look(0.0)
    place.close()
    assert [event for event, _ in place.told] == ["study.complete", "job.not_made"]
