"""Kept is what is there with its size and digest and was synced; everything else has its reason."""

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dcmstore.commitment import checking
from dcmstore.commitment.action import Reference
from dcmstore.commitment.checking import LOOKS, Checker
from dcmstore.commitment.event import FailureReason
from dcmstore.index import entries
from dcmstore.index.database import Database, IndexTrouble
from dcmstore.index.entries import Root
from dcmstore.jobs.work import JobFailed
from dcmstore.storage import files, part10
from dcmstore.storage.part10 import FileMeta
from tests.commitment.support import ct
from tests.index.support import EXPLICIT, image, write
from tests.support import CT, MR


@pytest.fixture
def root(tmp_path: Path) -> Root:
    folder = tmp_path / "images"
    folder.mkdir()
    return Root(str(folder), str(folder))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "DcmStore.index")


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "PAUSE", 0.01)


def enter(path: str, root: Root, *uids: str, folder: str = "P/7/3") -> None:
    """Files with these UIDs, in the index."""
    with contextlib.closing(Database(path)) as database:
        names = [f"{folder}/{uid}.dcm" for uid in uids]
        for uid, name in zip(uids, names, strict=True):
            write(root, name, image(uid), uid=uid)
        database.write([entries.read(root, name) for name in names])


@pytest.fixture
def checker(path: str, root: Root, no_pause: None) -> Checker:
    return Checker(
        open_index=lambda: contextlib.closing(Database(path, may_write=False)),
        roots=lambda: [root],
        is_current=lambda: True,
        supports=lambda sop_class: sop_class in (CT, MR),
        stopping=threading.Event(),
    )


def file_of(root: Root, uid: str) -> Path:
    (found,) = Path(root.system).rglob(f"{uid}.dcm")
    return found


def reasons(checker: Checker, *references: Reference) -> list[FailureReason]:
    return [reason for _, reason in checker.check(references).failed]


def test_what_is_as_it_was_is_kept(checker: Checker, path: str, root: Root) -> None:
    enter(path, root, "1.2.1", "1.2.2")
    verdict = checker.check(ct("1.2.2", "1.2.1"))
    assert (verdict.kept, verdict.failed) == (ct("1.2.2", "1.2.1"), ())
    assert verdict.studies == {("1.9.1", "PAT1"): {"1.2.1", "1.2.2"}}


def test_an_instance_that_is_asked_for_twice_is_kept_twice(checker: Checker, path: str, root: Root) -> None:
    enter(path, root, "1.2.1")
    assert checker.check(ct("1.2.1", "1.2.1")).kept == ct("1.2.1", "1.2.1")


def test_more_than_one_question_of_uids_is_asked(checker: Checker, path: str, root: Root) -> None:
    uids = [f"1.2.{number}" for number in range(700)]
    enter(path, root, *uids)
    verdict = checker.check(ct(*uids, "1.3.1"))
    assert verdict.kept == ct(*uids)
    assert verdict.failed == ((Reference(CT, "1.3.1"), FailureReason.NO_SUCH_OBJECT_INSTANCE),)


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2])


def falsify(file: Path) -> None:
    """Another content of the same size."""
    encoded = file.read_bytes()
    file.write_bytes(encoded[:-1] + bytes([encoded[-1] ^ 1]))


def overwrite(file: Path) -> None:
    file.write_bytes(b"no DICOM at all")


def relabel(file: Path) -> None:
    """The same data set, under a head that says another transfer syntax."""
    file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"))


@pytest.mark.parametrize("damage", [shorten, falsify, overwrite, relabel])
def test_a_file_that_is_not_as_it_was_is_not_kept(checker: Checker, path: str, root: Root, damage) -> None:  # type: ignore[no-untyped-def]
    enter(path, root, "1.2.1")
    damage(file_of(root, "1.2.1"))
    assert reasons(checker, *ct("1.2.1")) == [FailureReason.PROCESSING_FAILURE]


def test_a_file_that_is_gone_is_not_kept(checker: Checker, path: str, root: Root) -> None:
    enter(path, root, "1.2.1", "1.2.2")
    file_of(root, "1.2.1").unlink()
    verdict = checker.check(ct("1.2.1", "1.2.2"))
    assert verdict.kept == ct("1.2.2")
    assert verdict.failed == ((Reference(CT, "1.2.1"), FailureReason.NO_SUCH_OBJECT_INSTANCE),)


def test_one_good_file_of_several_is_enough(checker: Checker, path: str, root: Root) -> None:
    enter(path, root, "1.2.1", folder="A")
    enter(path, root, "1.2.1", folder="B")
    (Path(root.system) / "A/1.2.1.dcm").unlink()
    assert checker.check(ct("1.2.1")).kept == ct("1.2.1")
    falsify(Path(root.system) / "B/1.2.1.dcm")
    assert reasons(checker, *ct("1.2.1")) == [FailureReason.PROCESSING_FAILURE]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (Reference(MR, "1.2.1"), FailureReason.CLASS_INSTANCE_CONFLICT),
        (Reference("1.2.3", "1.2.1"), FailureReason.CLASS_INSTANCE_CONFLICT),
        (Reference(CT, "1.2.9"), FailureReason.NO_SUCH_OBJECT_INSTANCE),
        (Reference("1.2.3", "1.2.9"), FailureReason.REFERENCED_SOP_CLASS_NOT_SUPPORTED),
    ],
)
def test_what_is_not_here_under_that_class_is_told_apart(
    checker: Checker, path: str, root: Root, reference: Reference, reason: FailureReason
) -> None:
    enter(path, root, "1.2.1")
    assert reasons(checker, reference) == [reason]


@pytest.mark.parametrize("away", [shutil.rmtree, lambda folder: [shutil.rmtree(one) for one in folder.iterdir()]])
def test_a_root_that_is_away_says_nothing_of_its_files(checker: Checker, path: str, root: Root, away) -> None:  # type: ignore[no-untyped-def]
    enter(path, root, "1.2.1")
    away(Path(root.system))
    with pytest.raises(JobFailed, match="see to that disk or share") as failure:
        checker.check(ct("1.2.1"))
    assert not failure.value.is_final


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    calls: list[str] = []
    monkeypatch.setattr(files, "sync_file", calls.append)
    monkeypatch.setattr(files, "sync_folder", calls.append)
    return calls


def test_a_file_and_the_folders_to_it_are_synced_before_it_counts_as_kept(
    checker: Checker, path: str, root: Root, synced: list[str]
) -> None:
    enter(path, root, "1.2.1", "1.2.2")
    synced.clear()
    assert checker.check(ct("1.2.1", "1.2.2")).kept == ct("1.2.1", "1.2.2")
    folders = [os.path.join(root.system, *parts) for parts in (("P", "7", "3"), ("P", "7"), ("P",), ())]
    first, second = (str(file_of(root, uid)) for uid in ("1.2.1", "1.2.2"))
    assert synced == [first, *folders, second]  # a folder once


@pytest.mark.parametrize("call", ["sync_file", "sync_folder"])
def test_what_cannot_be_synced_is_not_kept(
    checker: Checker, path: str, root: Root, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise OSError(5, "Input/output error")

    enter(path, root, "1.2.1")
    monkeypatch.setattr(files, call, fail)
    assert reasons(checker, *ct("1.2.1")) == [FailureReason.RESOURCE_LIMITATION]


# --- an index that is behind -----------------------------------------------------------------------


def test_what_is_entered_only_now_is_found(checker: Checker, path: str, root: Root) -> None:
    enter(path, root, "1.2.1")
    looks = iter(range(10))

    def is_current() -> bool:
        if next(looks) == LOOKS - 1:  # the last look counts too
            enter(path, root, "1.2.2")
        return True

    assert replace(checker, is_current=is_current).check(ct("1.2.1", "1.2.2")).kept == ct("1.2.1", "1.2.2")


def test_an_index_that_is_behind_is_waited_for(checker: Checker, path: str, root: Root) -> None:
    enter(path, root, "1.2.1")
    looks = iter(range(100))

    def is_current() -> bool:
        look = next(looks)
        if look == LOOKS * 5:
            enter(path, root, "1.2.2")
        return look > LOOKS * 5

    assert replace(checker, is_current=is_current).check(ct("1.2.2")).kept == ct("1.2.2")


def test_an_index_that_stays_behind_is_asked_again_later(
    checker: Checker, path: str, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(path, root, "1.2.1")
    monkeypatch.setattr(checking, "PATIENCE", 0.05)
    with pytest.raises(JobFailed, match="asked again later") as failure:
        replace(checker, is_current=lambda: False).check(ct("1.2.9"))
    assert not failure.value.is_final


def test_an_index_that_is_not_there_yet_is_waited_for(checker: Checker, path: str, root: Root) -> None:
    looks = iter(range(100))

    def is_current() -> bool:
        if next(looks) == LOOKS * 2:
            enter(path, root, "1.2.2")
        return True

    assert replace(checker, is_current=is_current).check(ct("1.2.2")).kept == ct("1.2.2")


def test_an_index_that_stays_away_is_told(checker: Checker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "PATIENCE", 0.05)
    with pytest.raises(IndexTrouble, match="there is no index yet"):
        checker.check(ct("1.2.1"))


def test_a_receiver_that_stops_is_not_held_up(checker: Checker, path: str, root: Root) -> None:
    enter(path, root, "1.2.1")
    checker.stopping.set()
    with pytest.raises(JobFailed, match="the receiver stops"):
        checker.check(ct("1.2.1"))


def test_a_file_whose_head_says_another_instance_is_not_kept(checker: Checker, path: str, root: Root) -> None:
    """The same data set, of which the UIDs are only in the head."""
    pixels = image("1.2.1")[image("1.2.1").index(b"\x08\x00\x20\x00") :]
    file = Path(root.path_of("a.dcm"))
    file.write_bytes(part10.encode(FileMeta(CT, "1.2.1", EXPLICIT, "CT1")) + pixels)
    with contextlib.closing(Database(path)) as database:
        database.write([entries.read(root, "a.dcm")])
    assert checker.check(ct("1.2.1")).kept == ct("1.2.1")
    file.write_bytes(part10.encode(FileMeta(CT, "1.2.9", EXPLICIT, "CT1")) + pixels)
    assert reasons(checker, *ct("1.2.1")) == [FailureReason.PROCESSING_FAILURE]
