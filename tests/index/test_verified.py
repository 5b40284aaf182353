"""The index against the disk: what `verify` finds, and what `reindex` makes of it."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from dcmstore.index import comparing, entries, reindexing, walk
from dcmstore.index.comparing import Comparer, Verdict
from dcmstore.index.database import Database, IndexTrouble
from dcmstore.index.entries import Came, Root
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta
from tests.index.support import EXPLICIT, ignored, image, refuse, rows, write
from tests.support import CT

OLD = time.time() - 3600  # a file of then is not coming just now


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "SETTLE", 0.0)


@pytest.fixture
def database(path: Path, root: Root) -> Iterator[Database]:
    """The index of three files, which are an hour old."""
    database = Database(str(path))
    for name in ("a", "b", "c"):
        age(write(root, f"P/{name}.dcm", image(f"1.2.{ord(name)}"), uid=f"1.2.{ord(name)}"))
        came = Came("CT2", "192.0.2.7", 1000.0, is_new=True)
        database.write([entries.read(root, f"P/{name}.dcm", came)])
    yield database
    database.close()


def age(file: Path) -> None:
    os.utime(file, (OLD, OLD))


def compare(database: Database, root: Root, *, is_quick: bool = False) -> list[tuple[str, str, str]]:
    comparer = Comparer(database, lambda _: None, is_quick)
    return [(finding.verdict.value, Path(finding.path).name, finding.reason) for finding in comparer.compare([root])]


# --- verify --------------------------------------------------------------------------------------


def test_what_is_as_it_was_has_no_finding(database: Database, root: Root) -> None:
    comparer = Comparer(database, lambda _: None)
    assert list(comparer.compare([root])) == []
    assert comparer.comparison.good == 3


def test_a_file_that_is_gone_is_missing(database: Database, root: Root) -> None:
    os.unlink(root.path_of("P/b.dcm"))
    assert compare(database, root) == [("missing", "b.dcm", "")]


def test_one_changed_bit_is_found_and_a_quick_look_does_not_see_it(database: Database, root: Root) -> None:
    file = Path(root.path_of("P/b.dcm"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    age(file)
    assert compare(database, root) == [("changed", "b.dcm", "another content of the same size")]
    assert compare(database, root, is_quick=True) == []


def test_a_file_of_another_size_is_changed(database: Database, root: Root) -> None:
    file = Path(root.path_of("P/b.dcm"))
    size = file.stat().st_size
    os.truncate(file, size - 2)
    age(file)
    assert compare(database, root, is_quick=True) == [("changed", "b.dcm", f"has {size - 2} bytes, had {size}")]


def test_a_head_that_tells_another_transfer_syntax_is_changed(database: Database, root: Root) -> None:
    file = Path(root.path_of("P/b.dcm"))
    file.write_bytes(file.read_bytes().replace(EXPLICIT.encode() + b"\0", b"1.2.840.10008.1.2.2\0"))
    age(file)
    ((verdict, _, reason),) = compare(database, root)
    assert (verdict, "Transfer Syntax UID 1.2.840.10008.1.2.2, had" in reason) == ("changed", True)


def test_a_head_that_is_gone_is_changed(database: Database, root: Root) -> None:
    file = Path(root.path_of("P/b.dcm"))
    file.write_bytes(bytes(file.stat().st_size))
    age(file)
    assert [found[:2] for found in compare(database, root)] == [("changed", "b.dcm")]


def test_an_object_that_nobody_entered_is_unknown_and_other_files_are_counted(database: Database, root: Root) -> None:
    age(write(root, "P/x.dcm", image("1.2.9")))
    Path(root.system, "notes.txt").write_text("no DICOM")
    write(root, ".incoming/y", image())
    write(root, "QUARANTINE/z.dcm", image())
    comparer = Comparer(database, lambda _: None)
    (finding,) = comparer.compare([root])
    assert (finding.verdict, finding.path) == (Verdict.UNKNOWN, root.path_of("P/x.dcm"))
    assert comparer.comparison.others == 1


def test_an_object_that_came_just_now_is_no_finding(database: Database, root: Root) -> None:
    write(root, "P/x.dcm", image("1.2.9"))
    comparer = Comparer(database, lambda _: None)
    assert list(comparer.compare([root])) == []
    assert comparer.comparison.just_now == 1


def test_a_file_that_was_damaged_just_now_is_found(database: Database, root: Root) -> None:
    file = Path(root.path_of("P/b.dcm"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    ((verdict, name, reason),) = compare(database, root)
    assert (verdict, name) == ("changed", "b.dcm")
    assert reason.startswith("another content of the same size; written less than a minute ago")


def test_the_index_gets_time_to_enter_what_replaces_a_file(
    database: Database, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "SETTLE", 10.0)
    age(write(root, "P/a.dcm", image("1.2.97", pixels=b"abcd"), uid="1.2.97"))
    waited: list[float] = []

    def enter(seconds: float) -> None:
        waited.append(seconds)
        database.write([entries.read(root, "P/a.dcm", Came("CT2", "", 2000.0, is_new=True))])

    comparer = Comparer(database, lambda _: None, sleep=enter)
    assert list(comparer.compare([root])) == []
    assert comparer.comparison.good == 3
    assert 9.0 < sum(waited) <= 10.0


def test_what_waits_for_the_index_is_bounded(database: Database, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "SETTLE", 10.0)
    monkeypatch.setattr(comparing, "MAX_DOUBTS", 1)
    monkeypatch.setattr("dcmstore.index.database.AT_ONCE", 1)
    for name in ("a", "b", "c"):
        os.truncate(root.path_of(f"P/{name}.dcm"), 200)
    left: list[int] = []
    comparer = Comparer(database, lambda _: None, sleep=lambda _: left.append(len(comparer._doubts)))
    assert len(list(comparer.compare([root]))) == 3
    assert max(left) == 1


def test_a_file_that_may_not_be_read_is_no_missing_one(
    database: Database, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(comparing.files, "open_to_read", refuse)
    assert compare(database, root)[1] == ("unreadable", "b.dcm", "Permission denied")


@pytest.mark.skipif(which("sha256sum") is None, reason="needs sha256sum")
def test_what_is_good_comes_with_the_digest_of_the_whole_file(database: Database, root: Root, tmp_path: Path) -> None:
    found: list[tuple[str, str]] = []
    comparer = Comparer(database, lambda _: None, found_good=lambda file, digest: found.append((file, digest)))
    assert list(comparer.compare([root])) == []
    sums = subprocess.run(["sha256sum", *(file for file, _ in found)], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in sums.stdout.splitlines()] == [digest for _, digest in found]
    assert len(found) == 3


def test_bytes_that_are_done_with_add_up(database: Database, root: Root) -> None:
    moved: list[int] = []
    assert list(Comparer(database, moved.append).compare([root])) == []
    assert sum(moved) == database.totals()[root.name][1]


# --- reindex -------------------------------------------------------------------------------------


def reindex(database: Database, root: Root) -> reindexing.Reindexed:
    return reindexing.reindex(database, [root], ignored, ignored)


def test_reindexing_finds_what_is_new_changed_and_gone(database: Database, root: Root, path: Path) -> None:
    os.unlink(root.path_of("P/a.dcm"))
    write(root, "P/b.dcm", image("1.2.98", pixels=b"abcdef"), uid="1.2.98")
    write(root, "Q/d.dcm", image("1.2.9", study="1.9.7"), uid="1.2.9")
    done = reindex(database, root)
    assert (done.seen, done.entered, done.removed) == (3, 2, 1)
    assert rows(path) == [("P/b.dcm",), ("P/c.dcm",), ("Q/d.dcm",)]
    assert compare(database, root) == []


def test_reindexing_keeps_who_sent_a_file_and_when(database: Database, root: Root, path: Path) -> None:
    write(root, "P/b.dcm", image("1.2.98", pixels=b"abcdef"), uid="1.2.98")
    reindex(database, root)
    assert set(rows(path, "SELECT calling_ae_title, host, stored_at FROM instances")) == {
        ("CT2", "192.0.2.7", "1970-01-01T00:16:40.000Z")
    }


def test_reindexing_again_reads_no_file(database: Database, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "read_all", lambda _, paths, __: pytest.fail("read") if paths else [])
    assert reindex(database, root).entered == 0


def test_what_was_broken_off_goes_on(root: Root, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "AT_ONCE", 2)
    for number in range(6):
        write(root, f"{number}.dcm", image(f"1.2.{number}"), uid=f"1.2.{number}")
    database = Database(str(path))

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reindexing.reindex(database, [root], interrupt, ignored)
    assert len(rows(path)) == 2
    assert reindex(database, root).entered == 4
    database.close()


def test_studies_of_which_nothing_is_left_are_gone(database: Database, root: Root, path: Path) -> None:
    write(root, "P/d.dcm", image("1.2.9", study="1.9.7", series="1.9.7.1"))
    for name in ("a", "b", "c"):
        os.unlink(root.path_of(f"P/{name}.dcm"))
    reindex(database, root)
    assert rows(path, "SELECT study_instance_uid FROM studies") == [("1.9.7",)]
    assert rows(path, "SELECT series_instance_uid FROM series") == [("1.9.7.1",)]


def test_an_empty_root_loses_nothing_of_the_index(database: Database, root: Root, path: Path) -> None:
    for name in ("a", "b", "c"):
        os.unlink(root.path_of(f"P/{name}.dcm"))
    assert reindex(database, root).kept == (root.name,)
    assert len(rows(path)) == 3


def test_a_mount_point_with_what_a_receiver_makes_loses_nothing_of_the_index(
    database: Database, root: Root, path: Path
) -> None:
    for name in ("a", "b", "c"):
        os.unlink(root.path_of(f"P/{name}.dcm"))
    Path(root.system, "P").rmdir()
    write(root, ".incoming/x", image())
    assert reindex(database, root).kept == (root.name,)
    assert len(rows(path)) == 3


@pytest.mark.skipif(os.name == "nt", reason="links are not for everybody there")
def test_what_lies_where_nobody_can_look_stays_in_the_index(database: Database, root: Root, path: Path) -> None:
    os.rename(root.path_of("P"), root.path_of("Q"))
    Path(root.system, "P").symlink_to("P")  # leads nowhere, so that the system refuses every path through it
    told: list[tuple[str, str]] = []
    done = reindexing.reindex(
        database, [root], ignored, lambda _, path, error: told.append((path, str(error.strerror)))
    )
    assert (done.unread, done.removed, done.entered) == (1, 0, 3)
    assert told == [("P", "Too many levels of symbolic links")]
    assert len(rows(path)) == 6


@pytest.mark.parametrize(("folder", "is_told"), [("P", True), ("lost+found", False)])
def test_a_folder_that_can_not_be_read_is_told_but_not_one_of_the_file_system(
    database: Database, root: Root, monkeypatch: pytest.MonkeyPatch, folder: str, is_told: bool
) -> None:
    Path(root.path_of(folder)).mkdir(exist_ok=True)
    refuse(monkeypatch, root.path_of(folder))
    assert reindex(database, root).unread == is_told
    findings = compare(database, root)
    assert findings == ([("unreadable", "P", "Permission denied")] if is_told else [])


def test_a_file_replaced_while_it_was_read_is_left_to_who_replaced_it(root: Root, tmp_path: Path) -> None:
    write(root, "x.dcm", image())
    read = walk.read_all(root, ["x.dcm"], ignored)
    write(root, "x.dcm", image(pixels=b"abcdef"))
    assert walk.as_they_are(root, read) == []


def test_a_damaged_index_is_put_aside_for_a_new_one(root: Root, path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(IndexTrouble):
        Database(str(path))
    database, is_put_aside = reindexing.open_anew(str(path), root.system)
    database.close()
    assert is_put_aside
    assert (path.parent / "DcmStore.index.damaged").read_bytes().startswith(b"no database")


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_no_unicode_is_left_out(root: Root, path: Path) -> None:
    head = part10.encode(FileMeta(CT, "1.2.9", EXPLICIT, "CT1"))
    with open(os.fsencode(root.system) + b"/\xff.dcm", "wb") as file:
        file.write(head + image("1.2.9"))
    database = Database(str(path))
    assert reindex(database, root).entered == 0
    database.close()
