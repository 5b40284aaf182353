"""What root makes belongs to who has the folder, and who has it can't get anything else by that."""

import os
from pathlib import Path

import pytest

from dcmstore import inheriting
from dcmstore.inheriting import Heir
from dcmstore.logs import FileSink

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

pytestmark = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of somebody else's."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 1001, 1002)
    return folder


def owner_of(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_a_file_and_a_folder_belong_to_who_has_the_folder(theirs: Path) -> None:
    os.close(inheriting.create(str(theirs / "file"), NEW, 0o640))
    inheriting.make_folder(str(theirs / "folder"))
    assert owner_of(theirs / "file") == owner_of(theirs / "folder") == (1001, 1002)
    with pytest.raises(FileExistsError) as caught:
        inheriting.make_folder(str(theirs / "folder"))
    assert caught.value.filename == str(theirs / "folder")


def test_in_a_folder_of_roots_all_stays_roots(tmp_path: Path) -> None:
    inheriting.make_folder(str(tmp_path / "folder"))
    assert owner_of(tmp_path / "folder") == (0, 0)
    assert inheriting.heir_of(str(tmp_path)) is None


def test_a_folder_that_is_exchanged_for_a_link_gives_nothing_of_roots_away(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    real = inheriting.heir_of

    def exchange(folder: str | int) -> Heir | None:
        found = real(folder)
        if folder == str(theirs) and not theirs.is_symlink():
            theirs.rename(tmp_path / "moved")
            theirs.symlink_to(tmp_path / "etc")
        return found

    monkeypatch.setattr(inheriting, "heir_of", exchange)
    inheriting.make_folder(str(theirs / "made"))
    assert owner_of(tmp_path / "etc" / "made") == owner_of(tmp_path / "etc") == (0, 0)


def test_a_new_log_is_theirs_and_one_that_is_there_stays_whose_it_is(theirs: Path) -> None:
    FileSink(theirs / "new.log", 1000, 1).close()
    (theirs / "old.log").touch()
    FileSink(theirs / "old.log", 1000, 1).close()
    assert owner_of(theirs / "new.log") == (1001, 1002)
    assert owner_of(theirs / "old.log") == (0, 0)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_log_that_leads_elsewhere_is_not_written_by_root(theirs: Path, tmp_path: Path, is_there: bool) -> None:
    victim = tmp_path / "victim"
    if is_there:
        victim.touch()
    (theirs / "DcmStore.log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        FileSink(theirs / "DcmStore.log", 1000, 1)
    assert not is_there or (owner_of(victim), victim.read_bytes()) == ((0, 0), b"")
    assert victim.exists() is is_there
