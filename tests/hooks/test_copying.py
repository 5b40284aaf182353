"""Copies of real files."""

import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from dcmstore.hooks import COPY, copying
from dcmstore.hooks.copying import CopyHandler
from dcmstore.jobs.work import Job
from dcmstore.storage import files, part10
from dcmstore.storage.part10 import FileMeta
from tests.hooks.support import FACTS, STUDY, doing, failure, job, wait_for
from tests.support import CT, element


def _image(uid: str, study: str, pixels: bytes) -> bytes:
    return b"".join(
        (
            element(0x0008, 0x0016, "UI", CT.encode()),
            element(0x0008, 0x0018, "UI", uid.encode()),
            element(0x0020, 0x000D, "UI", study.encode()),
            element(0x7FE0, 0x0010, "OW", pixels),
        )
    )


class Tree:
    """A root folder with files of studies, and a folder to copy to."""

    def __init__(self, folder: Path) -> None:
        self.root, self.target = folder / "images", folder / "copies"
        self.root.mkdir()
        self.target.mkdir()

    def file(self, path: str, *, study: str = "1.9.1", pixels: bytes = b"1234") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        uid = file.name.removesuffix(".dcm")
        head = part10.encode(FileMeta(CT, uid, "1.2.840.10008.1.2.1", "CT1"))
        file.write_bytes(head + _image(uid, study, pixels))
        return file

    def job(self, path: Path, facts: Mapping[str, str | int] = FACTS) -> Job:
        """Of an object, or of a study in a folder."""
        place = {"folder": str(path)} if path.is_dir() else {"path": str(path), "folder": str(path.parent)}
        return job(f"copy to {self.target}", {**facts, "root": str(self.root), **place}, kind=COPY)

    def copies(self) -> list[str]:
        found = (path.relative_to(self.target) for path in self.target.rglob("*") if path.is_file())
        return sorted(path.as_posix() for path in found)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def handler() -> CopyHandler:
    return CopyHandler()


def test_a_file_is_copied_under_the_same_path(tree: Tree, handler: CopyHandler) -> None:
    file = tree.file("4711/7/3/1.2.3.4.dcm")
    handler.do(tree.job(file))
    assert tree.copies() == ["4711/7/3/1.2.3.4.dcm"]
    assert (tree.target / "4711/7/3/1.2.3.4.dcm").read_bytes() == file.read_bytes()


def test_a_file_that_is_there_already_is_done(tree: Tree, handler: CopyHandler) -> None:
    file = tree.file("4711/7/3/1.2.3.4.dcm")
    handler.do(tree.job(file))
    before = (tree.target / "4711/7/3/1.2.3.4.dcm").stat().st_mtime_ns
    handler.do(tree.job(file))
    assert tree.copies() == ["4711/7/3/1.2.3.4.dcm"]
    assert (tree.target / "4711/7/3/1.2.3.4.dcm").stat().st_mtime_ns == before


def test_another_file_stays_and_the_copy_gets_a_number(tree: Tree, handler: CopyHandler) -> None:
    for pixels in (b"1234", b"5678", b"9999", b"5678"):
        handler.do(tree.job(tree.file("4711/1.2.3.4.dcm", pixels=pixels)))
    assert tree.copies() == ["4711/1.2.3.4 (2).dcm", "4711/1.2.3.4 (3).dcm", "4711/1.2.3.4.dcm"]
    assert b"1234" in (tree.target / "4711/1.2.3.4.dcm").read_bytes()


def test_a_folder_with_the_name_of_the_file_stays(tree: Tree, handler: CopyHandler) -> None:
    (tree.target / "1.2.3.4.dcm").mkdir()
    handler.do(tree.job(tree.file("1.2.3.4.dcm")))
    assert tree.copies() == ["1.2.3.4 (2).dcm"]


def test_of_a_study_its_files_are_copied_and_no_others(tree: Tree, handler: CopyHandler) -> None:
    for path, study in (("4711/7/3/1.1.dcm", "1.9.1"), ("4711/7/4/1.2.dcm", "1.9.1"), ("4711/7/4/1.3.dcm", "1.9.2")):
        tree.file(path, study=study)
    (tree.root / "4711/7/DICOMDIR").write_bytes(b"no object")
    tree.file(".incoming/1.4.dcm")
    tree.file("QUARANTINE/1.5.dcm")
    handler.do(tree.job(tree.root / "4711/7", STUDY))
    assert tree.copies() == ["4711/7/3/1.1.dcm", "4711/7/4/1.2.dcm"]
    handler.do(tree.job(tree.root, STUDY))
    assert tree.copies() == ["4711/7/3/1.1.dcm", "4711/7/4/1.2.dcm"]


def test_a_study_that_was_half_copied_is_copied_on(
    tree: Tree, handler: CopyHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uid in ("1.1", "1.2"):
        tree.file(f"4711/7/3/{uid}.dcm")
    give_name = files.give_name

    def full(source: str, target: str) -> None:
        if any(name.endswith(".dcm") for name in tree.copies()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        give_name(source, target)

    monkeypatch.setattr(files, "give_name", full)
    error = failure(handler, tree.job(tree.root / "4711/7", STUDY))
    assert "No space left on device; see to these disks" in str(error)
    assert not error.is_final
    assert len(tree.copies()) == 1
    monkeypatch.undo()
    handler.do(tree.job(tree.root / "4711/7", STUDY))
    assert tree.copies() == ["4711/7/3/1.1.dcm", "4711/7/3/1.2.dcm"]


@pytest.mark.parametrize("folder", ["4711", "gone"])
def test_a_study_of_which_nothing_is_there_is_given_up_unless_its_disk_is_away(
    tree: Tree, handler: CopyHandler, folder: str
) -> None:
    (tree.root / "4711").mkdir()
    facts = {**STUDY, "root": str(tree.root), "folder": str(tree.root / folder)}
    of_study = job(f"copy to {tree.target}", facts, kind=COPY)
    error = failure(handler, of_study)
    assert str(error) == (
        "every file of the study is missing, and its root folder is empty or missing; is its disk away?"
    )
    assert not error.is_final
    tree.file("4712/1.9.dcm")
    error = failure(handler, of_study)
    assert str(error) == "every file of the study is gone: moved or deleted before it was copied"
    assert error.is_final


def test_a_target_that_is_away_is_not_made(tree: Tree, handler: CopyHandler) -> None:
    tree.target.rmdir()
    error = failure(handler, tree.job(tree.file("1.2.dcm")))
    assert str(error) == f"{tree.target}: there is no such folder; make it, or see to its disk or share"
    assert not error.is_final
    assert not tree.target.exists()


def test_a_file_that_is_gone_is_told_and_makes_no_folders(tree: Tree, handler: CopyHandler) -> None:
    file = tree.file("4711/7/1.2.dcm")
    gone = tree.job(file)
    file.unlink()
    assert not failure(handler, gone).is_final  # its disk may be away
    tree.file("4712/1.9.dcm")
    assert str(failure(handler, gone)) == "its file is gone: moved or deleted before it was copied"
    assert failure(handler, gone).is_final
    assert list(tree.target.iterdir()) == []


@pytest.mark.parametrize("call", ["write_all", "give_name", "sync_folder"])
def test_a_copy_that_fails_leaves_nothing_of_it_under_its_name(
    tree: Tree, handler: CopyHandler, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tree.target / "4711").mkdir()

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(files, call, fail)
    copied = tree.job(tree.file("4711/1.2.dcm"))
    assert "input/output error" in str(failure(handler, copied))
    assert [name for name in tree.copies() if name != "4711/1.2.dcm"] == []
    monkeypatch.undo()
    handler.do(copied)
    assert tree.copies() == ["4711/1.2.dcm"]


def test_what_a_crash_left_is_written_anew(tree: Tree, handler: CopyHandler) -> None:
    copied = tree.job(tree.file("1.2.dcm"))
    (tree.target / f".1.2.dcm.{copying._suffix(copied)}").write_bytes(b"half")
    handler.do(copied)
    assert tree.copies() == ["1.2.dcm"]
    assert (tree.target / "1.2.dcm").read_bytes() == (tree.root / "1.2.dcm").read_bytes()


def test_nothing_is_written_beside_the_target(tree: Tree, handler: CopyHandler, tmp_path: Path) -> None:
    other = tmp_path / "other.dcm"
    other.write_bytes(b"x")
    error = failure(handler, tree.job(other))
    assert error.is_final
    assert str(error) == f"the file does not lie below {tree.root}"
    assert tree.copies() == []


def test_the_file_is_synced_before_it_has_its_name(
    tree: Tree, handler: CopyHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, give_name = os.fsync, files.give_name
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("sync"), fsync(descriptor)))
    monkeypatch.setattr(files, "give_name", lambda *names: (done.append("name"), give_name(*names)))
    monkeypatch.setattr(files, "sync_folder", lambda folder: done.append(f"folder {Path(folder).name}"))
    handler.do(tree.job(tree.file("4711/1.2.dcm")))
    assert done == ["folder copies", "sync", "name", "folder 4711"]


def test_when_the_receiver_stops_a_copy_is_left(
    tree: Tree, handler: CopyHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_writing, may_go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(copying, "_STEP", 16)
    write_all = files.write_all

    def slowly(descriptor: int, buffers: list[bytes]) -> None:
        write_all(descriptor, buffers)
        is_writing.set()
        may_go_on.wait()

    monkeypatch.setattr(files, "write_all", slowly)
    with doing(handler, tree.job(tree.file("1.2.dcm"))) as failures:
        wait_for(is_writing.is_set)
        handler.close()
        may_go_on.set()
    assert [str(error) for error in failures] == ["the receiver stops; it is done again"]
    assert tree.copies() == []


def test_paths_are_asked_for_as_the_system_wants_them(tree: Tree) -> None:
    asked: list[str] = []
    file = tree.file("4711/1.2.dcm")

    def as_system(path: str) -> str:
        asked.append(path)
        return path

    CopyHandler(as_system).do(tree.job(file))
    assert set(asked) == {str(tree.root), str(tree.target), str(file)}


def test_a_line_that_is_none_any_more_ends_the_job(handler: CopyHandler) -> None:
    assert failure(handler, job("copy to elsewhere", kind=COPY)).is_final
