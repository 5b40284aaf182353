"""What was stored is in the index, soon and for good, whatever the database does."""

import hashlib
import math
import os
import queue
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dcmstore.errors import CannotUnderstand
from dcmstore.index import entries, indexer, notes, walk
from dcmstore.index.database import Database, IndexTrouble, name_key
from dcmstore.index.entries import Came, Root
from dcmstore.index.indexer import Indexer
from dcmstore.index.mark import Mark
from dcmstore.index.notes import Note, Notes, Unread
from dcmstore.storage.filing import FilingPolicy
from dcmstore.storage.filing import Root as Kind
from dcmstore.storage.store import Instance, Outcome, Store, Stored
from tests.index.support import EXPLICIT, ignored, image, locked, rows, write
from tests.support import CT, WAIT, wait_until


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(str(path))
    yield database
    database.close()


class Kept:
    """An indexer that keeps what it reports."""

    def __init__(
        self,
        path: Path,
        root: Root,
        *,
        max_notes: int = 1000,
        keeps_whole: bool = True,
        follower: indexer.Follower | None = None,
    ) -> None:
        self.root = root
        self.reported: queue.SimpleQueue[tuple[str, dict[str, object]]] = queue.SimpleQueue()
        self.indexer = Indexer(
            str(path),
            lambda: [root],
            lambda event, **facts: self.reported.put((event, facts)),
            max_notes=max_notes,
            keeps_whole=keeps_whole,
            follower=follower,
        )

    def add(self, file_path: str, *, is_new: bool = True, calling: str = "CT2") -> None:
        *folders, name = file_path.split("/")
        now = time.time(), is_new, 0, time.monotonic()
        self.indexer.add(Note(self.root.system, tuple(folders), name, calling, "192.0.2.7", *now))

    def heard(self, event: str) -> dict[str, object]:
        """The facts of the next report of this event."""
        while True:
            reported, facts = self.reported.get(timeout=WAIT)
            if reported == event:
                return facts

    def silence(self) -> list[str]:
        """What was reported and not heard yet."""
        return [self.reported.get()[0] for _ in range(self.reported.qsize())]


def raise_(error: Exception) -> None:
    raise error


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer, "PAUSE", 0.0)
    monkeypatch.setattr(indexer, "RETRY", (0.01,))
    monkeypatch.setattr(indexer, "PATIENCE", 0.01)


# --- a file -> an entry --------------------------------------------------------------------------


def test_an_entry_has_what_a_person_searches_for(root: Root) -> None:
    encoded = image()
    write(root, "PAT1/7/3/x.dcm", encoded)
    entry = entries.read(root, "PAT1/7/3/x.dcm", Came("CT2", "192.0.2.7", 0.0, is_new=True))
    assert entry.study == ("1.9.1", "PAT1", "Doe^Jane", "19700101", "7", "20261125", "ACC9", "Thorax")
    assert entry.series == ("1.9.1.3", "CT", "3", "lung")
    assert (entry.sop_class_uid, entry.sop_instance_uid, entry.instance_number) == (CT, "1.2.3.4", "12")
    assert entry.sha256 == hashlib.sha256(encoded).hexdigest()
    assert entry.size == os.stat(root.path_of("PAT1/7/3/x.dcm")).st_size
    assert (entry.transfer_syntax, entry.calling_ae_title, entry.host) == (EXPLICIT, "CT2", "192.0.2.7")
    assert entry.stored_at == "1970-01-01T00:00:00.000Z"


def test_a_file_alone_tells_who_sent_it_and_when(root: Root) -> None:
    file = write(root, "x.dcm", image(), calling="MR5")
    os.utime(file, (86400, 86400))
    entry = entries.read(root, "x.dcm")
    assert (entry.calling_ae_title, entry.host, entry.stored_at) == ("MR5", "", "1970-01-02T00:00:00.000Z")


def test_names_are_read_in_their_character_set(root: Root) -> None:
    write(root, "x.dcm", image(name="Müller^Jörg".encode("latin-1"), character_set=b"ISO_IR 100"))
    assert entries.read(root, "x.dcm").study.patient_name == "Müller^Jörg"


@pytest.mark.parametrize("content", [b"", b"notes", b"\0" * 4096, b"\0" * 128 + b"DICM"])
def test_what_is_no_dicom_object_has_no_entry(root: Root, content: bytes) -> None:
    Path(root.system, "x").write_bytes(content)
    with pytest.raises(CannotUnderstand):
        entries.read(root, "x")


def test_a_value_too_long_to_be_read_keeps_nothing_else_from_its_entry(root: Root) -> None:
    write(root, "x.dcm", image(description=b"x" * 60_000))
    entry = entries.read(root, "x.dcm")
    assert (entry.sop_instance_uid, entry.study.study_description) == ("1.2.3.4", "")


# --- entries -> rows -----------------------------------------------------------------------------


def test_a_study_and_a_series_are_one_row_each(root: Root, database: Database, path: Path) -> None:
    for number in range(3):
        write(root, f"{number}.dcm", image(f"1.2.{number}"), uid=f"1.2.{number}")
    database.write([entries.read(root, f"{number}.dcm") for number in range(3)])
    assert rows(path, "SELECT count(*) FROM studies") == rows(path, "SELECT count(*) FROM series") == [(1,)]
    assert rows(path) == [("0.dcm",), ("1.dcm",), ("2.dcm",)]


def test_one_study_uid_of_two_patients_is_two_studies(root: Root, database: Database, path: Path) -> None:
    write(root, "a.dcm", image("1.2.1", patient_id=b"A"))
    write(root, "b.dcm", image("1.2.2", patient_id=b"B"))
    database.write([entries.read(root, name) for name in ("a.dcm", "b.dcm")])
    assert rows(path, "SELECT patient_id FROM studies ORDER BY 1") == [("A",), ("B",)]


def test_what_one_object_leaves_blank_the_next_fills(root: Root, database: Database, path: Path) -> None:
    for name, description in (("a.dcm", b""), ("b.dcm", b"Thorax"), ("c.dcm", b"Abdomen")):
        write(root, name, image(description=description))
        database.write([entries.read(root, name)])
    assert rows(path, "SELECT study_description FROM studies") == [("Thorax",)]


def test_one_instance_may_stand_at_several_paths(root: Root, database: Database, path: Path) -> None:
    for name in ("1.2.3.4.dcm", "1.2.3.4 (2).dcm"):
        write(root, name, image())
    database.write([entries.read(root, name) for name in ("1.2.3.4.dcm", "1.2.3.4 (2).dcm")])
    assert rows(path, "SELECT DISTINCT sop_instance_uid FROM instances") == [("1.2.3.4",)]
    assert len(rows(path)) == 2


def test_an_index_of_another_format_is_not_touched(path: Path, database: Database) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE state SET value = '99' WHERE name = 'schema'")
    with pytest.raises(IndexTrouble, match=r"format 99.*reindex") as caught:
        Database(str(path))
    assert caught.value.is_damaged


def test_names_are_found_without_accents_and_case() -> None:
    assert name_key("MÜLLER^Jörg=山田") == "muller jorg 山田"


# --- notes ---------------------------------------------------------------------------------------


def test_a_full_queue_drops_and_counts() -> None:
    queued = Notes(lambda: None, 2)
    for number in range(5):
        queued.add(a_note(f"{number}"))
    assert ([note.path for note in queued.take(9)], queued.dropped) == (["0", "1"], 3)


def a_note(name: str, *, is_new: bool = True, at: float = 0.0) -> Note:
    return Note("/r", (), name, "", "", 0.0, is_new=is_new, association=0, at=at)


def test_what_can_not_be_read_is_due_later_and_later_and_then_given_up() -> None:
    unread, note = Unread(), a_note("x")
    for seconds in notes.AGAIN:
        assert unread.failed(note, 100.0)
        assert unread.due(100.0 + seconds - 0.1, 9) == []
        assert unread.due(100.0 + seconds, 9) == [note]
    assert not unread.failed(note, 100.0)
    assert len(unread) == 0


def test_there_is_room_for_so_many_unread_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "MAX_UNREAD", 2)
    unread = Unread()
    assert [unread.failed(a_note(name), 0.0) for name in "abc"] == [True, True, False]


def test_an_object_that_replaces_an_unread_one_takes_its_place() -> None:
    unread, older, newer, again = Unread(), a_note("x"), a_note("x", at=1.0), a_note("x", is_new=False, at=2.0)
    unread.failed(older, 0.0)
    unread.done(again)
    assert list(unread.notes()) == [older]
    unread.failed(newer, 0.0)
    assert list(unread.notes()) == [newer]
    unread.failed(again, 0.0)
    assert list(unread.notes()) == [newer]
    unread.done(newer)
    assert len(unread) == 0


# --- the thread ----------------------------------------------------------------------------------


def test_what_the_store_keeps_is_in_the_index(root: Root, path: Path, tmp_path: Path) -> None:
    (tmp_path / "rdsr").mkdir()
    roots = {Kind.IMAGES: root.system, Kind.DOSE_REPORTS: str(tmp_path / "rdsr")}
    store = Store(roots, FilingPolicy(), durable=False)
    store.open()
    kept = Kept(path, root)
    kept.indexer.start()
    for encoded in (image(), image(), image(pixels=b"abcd")):
        incoming = store.begin(Instance(CT, "1.2.3.4", EXPLICIT, "CT2"))
        incoming.receive(memoryview(encoded))
        stored: Stored = incoming.finish()
        path_below = "/".join((*stored.folders, stored.file_name))
        kept.add(path_below, is_new=stored.outcome is not Outcome.IDENTICAL)
    store.close()
    kept.heard("index.caught_up")
    assert kept.indexer.close(WAIT)
    assert rows(path, "SELECT path, calling_ae_title, host FROM instances ORDER BY path") == [
        ("PAT1/7/3/1.2.3.4 (2).dcm", "CT2", "192.0.2.7"),
        ("PAT1/7/3/1.2.3.4.dcm", "CT2", "192.0.2.7"),
    ]


def test_what_comes_without_a_pause_is_entered_after_all(
    root: Root, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    monkeypatch.setattr(indexer, "BATCH", 3)
    monkeypatch.setattr(indexer, "PAUSE", 0.1)
    monkeypatch.setattr(indexer, "MAX_REST", 0.2)
    for number in range(10):
        write(root, f"{number}.dcm", image(f"1.2.{number}"), uid=f"1.2.{number}")
    for number in range(10):
        kept.add(f"{number}.dcm")
    kept.indexer._notes.last_added = math.inf  # more come all the time
    wait_until(lambda: len(rows(path)) == 10)
    assert kept.indexer.close(WAIT)


def test_an_end_waits_for_no_pause(root: Root, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    monkeypatch.setattr(indexer, "PAUSE", 2 * WAIT)
    write(root, "x.dcm", image())
    kept.add("x.dcm")
    assert rows(path) == []
    assert kept.indexer.close(WAIT)
    assert rows(path) == [("x.dcm",)]


def test_an_object_that_came_again_keeps_who_sent_it_first(root: Root, path: Path) -> None:
    write(root, "x.dcm", image())
    kept = Kept(path, root)
    kept.add("x.dcm", calling="CT1")
    kept.add("x.dcm", calling="CT2", is_new=False)
    kept.indexer.close(WAIT)
    assert rows(path, "SELECT calling_ae_title FROM instances") == [("CT1",)]


def test_a_replaced_file_has_its_new_sender_and_digest(root: Root, path: Path) -> None:
    kept = Kept(path, root)
    write(root, "x.dcm", image())
    kept.add("x.dcm", calling="CT1")
    kept.indexer.start()
    kept.heard("index.caught_up")
    encoded = image(pixels=b"abcd")
    write(root, "x.dcm", encoded)
    kept.add("x.dcm", calling="CT2")
    kept.indexer.close(WAIT)
    (row,) = rows(path, "SELECT calling_ae_title, sha256 FROM instances")
    assert row == ("CT2", hashlib.sha256(encoded).hexdigest())


def test_a_file_that_is_gone_again_hinders_nobody(root: Root, path: Path) -> None:
    write(root, "x.dcm", image())
    kept = Kept(path, root)
    kept.add("gone.dcm")
    kept.add("x.dcm")
    kept.indexer.close(WAIT)
    assert rows(path) == [("x.dcm",)]


def test_a_file_that_could_not_be_read_now_is_looked_for_at_the_next_start(
    root: Root, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, "x.dcm", image())
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    with monkeypatch.context() as patch:
        patch.setattr(entries.files, "open_to_read", lambda _: raise_(OSError(5, "Input/output error")))
        write(root, "y.dcm", image("1.2.9"))
        kept.add("y.dcm")
        assert not kept.indexer.close(WAIT)
    again = Kept(path, root)
    again.indexer.start()
    assert again.heard("index.caught_up")["files"] == 1
    again.indexer.close(WAIT)
    assert rows(path) == [("x.dcm",), ("y.dcm",)]


@pytest.fixture
def again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "AGAIN", (0.01, 0.01))
    monkeypatch.setattr(indexer, "LOOK", 0.02)


class Refusal:
    """Files with these names can't be read, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, names: set[str], times: int) -> None:
        self.times = dict.fromkeys(names, times)
        self._open = entries.files.open_to_read
        monkeypatch.setattr(entries.files, "open_to_read", self._open_to_read)

    def _open_to_read(self, path: str) -> object:
        name = os.path.basename(path)
        if self.times.get(name, 0):
            self.times[name] -= 1
            raise PermissionError(13, "Permission denied")
        return self._open(path)


@pytest.mark.usefixtures("again_soon")
def test_a_file_that_somebody_has_open_is_tried_again_and_nothing_is_walked(
    root: Root, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    refusal = Refusal(monkeypatch, {"x.dcm"}, 2)
    write(root, "x.dcm", image())
    kept.add("x.dcm")
    assert not kept.indexer.has_all
    wait_until(lambda: kept.indexer.has_all)
    assert refusal.times == {"x.dcm": 0}
    assert kept.indexer.close(WAIT)
    assert rows(path, "SELECT path, calling_ae_title FROM instances") == [("x.dcm", "CT2")]
    assert kept.silence() == []


class Looking:
    """A follower that keeps up to when all was known each time that it was asked whether something is due."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def began(self, association: int) -> None: ...

    def ended(self, association: int) -> None: ...

    def entered(self, arrivals: Sequence[indexer.Arrival]) -> None: ...

    def is_due(self, now: float) -> bool:
        self.asked.append(now)
        return False

    def look(self, now: float) -> None: ...

    def close(self) -> None: ...


@pytest.mark.usefixtures("again_soon")
def test_a_file_that_is_tried_again_holds_back_what_is_due_after_it(
    root: Root, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "AGAIN", (600.0,))
    follower = Looking()
    kept = Kept(path, root, follower=follower)
    kept.indexer.start()
    kept.heard("index.caught_up")
    refusal = Refusal(monkeypatch, {"x.dcm"}, 1)
    write(root, "x.dcm", image())
    kept.add("x.dcm")
    added = time.monotonic()
    wait_until(lambda: not refusal.times["x.dcm"])
    seen = len(follower.asked)
    wait_until(lambda: len(follower.asked) > seen + 3)
    assert max(follower.asked[seen + 1 :]) <= added
    assert kept.indexer.close(WAIT)  # tried once more at the end
    assert rows(path) == [("x.dcm",)]


@pytest.mark.usefixtures("again_soon")
def test_a_file_that_can_not_be_read_is_named_and_then_looked_for(
    root: Root, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    Refusal(monkeypatch, {"x.dcm"}, 3)
    write(root, "x.dcm", image())
    kept.add("x.dcm")
    told = kept.heard("index.unread")
    assert (told["root"], told["path"], told["files"]) == (root.system, "x.dcm", 1)
    assert str(told["reason"]).startswith("Permission denied; let the user that runs dcmstore read it")
    assert kept.heard("index.caught_up")["files"] == 1
    assert not kept.indexer.close(WAIT)  # the next start looks once more


@pytest.mark.usefixtures("again_soon")
def test_files_that_can_not_be_read_are_told_together(root: Root, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    refusal = Refusal(monkeypatch, {"a", "b", "c"}, 99)
    for name in "abc":
        write(root, name, image())
    kept.add("a")
    kept.heard("index.unread")
    kept.heard("index.caught_up")
    for name in "bc":
        tries = refusal.times[name]
        kept.add(name)
        wait_until(lambda: refusal.times[name] == tries - 3)  # noqa: B023  called before the next one
    assert not kept.indexer.close(WAIT)
    assert kept.heard("index.unread")["files"] == 2
    assert kept.silence() == []


def test_after_a_clean_end_nothing_is_walked(root: Root, path: Path) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    assert kept.indexer.close(WAIT)
    again = Kept(path, root)
    again.indexer.start()
    assert again.indexer.close(WAIT)
    assert again.silence() == []
    assert Mark(str(path) + "-clean").take() != ""


def test_the_mark_of_a_clean_end_is_gone_before_anything_can_be_stored(root: Root, path: Path) -> None:
    Mark(str(path) + "-clean").set("token")
    kept = Kept(path, root)
    assert not path.with_name(path.name + "-clean").exists()
    kept.indexer.close(WAIT)


def test_a_mark_of_another_database_counts_for_nothing(root: Root, path: Path) -> None:
    write(root, "x.dcm", image())
    Mark(str(path) + "-clean").set("token")
    kept = Kept(path, root)
    kept.indexer.start()
    assert kept.heard("index.caught_up")["files"] == 1
    kept.indexer.close(WAIT)


def test_what_found_no_room_is_caught_up_in_the_same_run(root: Root, path: Path) -> None:
    kept = Kept(path, root, max_notes=2)
    kept.indexer.start()
    kept.heard("index.caught_up")
    with locked(path):
        for number in range(9):
            write(root, f"{number}.dcm", image(f"1.2.{number}"))
            kept.add(f"{number}.dcm")
        kept.heard("index.failed")
    assert kept.heard("index.behind")["dropped"]
    kept.heard("index.caught_up")
    assert len(rows(path)) == 9
    assert kept.indexer.close(WAIT)


def test_a_locked_database_is_told_once_and_tried_again(root: Root, path: Path) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    with locked(path):
        write(root, "x.dcm", image())
        kept.add("x.dcm")
        assert "database is locked; another program" in str(kept.heard("index.failed")["reason"])
    kept.heard("index.recovered")
    assert kept.indexer.close(WAIT)
    assert rows(path) == [("x.dcm",)]
    assert kept.silence() == []


def test_a_damaged_database_says_what_to_do_and_a_new_one_is_taken(root: Root, path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    write(root, "x.dcm", image())
    kept = Kept(path, root)
    kept.add("x.dcm")
    kept.indexer.start()
    assert "`dcmstore reindex`" in str(kept.heard("index.failed")["reason"])
    path.unlink()
    kept.heard("index.recovered")
    kept.heard("index.caught_up")
    assert kept.indexer.close(WAIT)
    assert rows(path) == [("x.dcm",)]


def test_a_database_put_in_place_of_another_is_caught_up(root: Root, path: Path) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    write(root, "old.dcm", image())
    other = path.with_name("other")
    Database(str(other)).close()
    os.replace(other, path)
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    write(root, "new.dcm", image("1.2.9"))
    kept.add("new.dcm")
    kept.heard("index.caught_up")
    assert kept.indexer.close(WAIT)
    assert rows(path) == [("new.dcm",), ("old.dcm",)]


def test_an_end_with_the_database_locked_is_not_a_clean_one(root: Root, path: Path) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    with locked(path):
        write(root, "x.dcm", image())
        kept.add("x.dcm")
        assert not kept.indexer.close(WAIT)
    assert Mark(str(path) + "-clean").take() == ""


def test_quarantine_and_files_under_way_are_not_indexed(root: Root, path: Path) -> None:
    for folder in ("QUARANTINE", ".incoming", "PAT1"):
        write(root, f"{folder}/x.dcm", image())
    Path(root.system, "notes.txt").write_text("no DICOM")
    kept = Kept(path, root)
    kept.indexer.start()
    assert kept.heard("index.caught_up")["files"] == 1
    kept.indexer.close(WAIT)
    assert rows(path) == [("PAT1/x.dcm",)]


def test_a_note_that_comes_after_a_clean_end_takes_its_mark_away(root: Root, path: Path) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    assert kept.indexer.close(WAIT)
    kept.add("late.dcm")
    assert Mark(str(path) + "-clean").take() == ""


def test_what_came_while_nobody_took_notes_is_looked_for(root: Root, path: Path) -> None:
    kept = Kept(path, root)
    kept.indexer.start()
    kept.heard("index.caught_up")
    write(root, "x.dcm", image())
    kept.indexer.miss()
    assert kept.heard("index.caught_up")["files"] == 1
    assert not kept.indexer.close(WAIT)  # more may have come since


def test_a_root_in_a_root_is_walked_once(root: Root, path: Path, database: Database) -> None:
    inner = Root(root.path_of("rdsr"), root.path_of("rdsr"))
    outer = Root(root.name, root.system, (inner.system,))
    write(outer, "x.dcm", image())
    write(inner, "y.dcm", image("1.2.9"))
    for _ in walk.catch_up(database, [outer, inner], ignored, ignored):
        pass
    assert rows(path, "SELECT root, path FROM instances ORDER BY path") == [
        (outer.name, "x.dcm"),
        (inner.name, "y.dcm"),
    ]


def test_catching_up_hides_no_change_from_verify(root: Root, path: Path, database: Database) -> None:
    write(root, "x.dcm", image())
    database.write([entries.read(root, "x.dcm")])
    write(root, "x.dcm", image(pixels=b"abcdef"))
    assert sum(walk.catch_up(database, [root], ignored, ignored)) == 0
    assert rows(path, "SELECT sha256 FROM instances") == [(hashlib.sha256(image()).hexdigest(),)]


def test_a_command_that_may_be_given_again_walks_nothing(root: Root, path: Path) -> None:
    write(root, "old.dcm", image())
    write(root, "new.dcm", image())
    kept = Kept(path, root, keeps_whole=False)
    kept.add("new.dcm")
    assert kept.indexer.close(WAIT)
    assert rows(path) == [("new.dcm",)]
