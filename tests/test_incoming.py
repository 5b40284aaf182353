"""The folder of temporary files: who lives there, who died there, and that nothing is left behind."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore.storage.incoming import IncomingFolder

PROCESS = """
import os, sys
from dcmstore.storage.incoming import IncomingFolder
folder = IncomingFolder(sys.argv[1])
folder.open()
for _ in range(3):
    path, descriptor = folder.create()
    os.write(descriptor, b"half an object")
print("ready", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def process_at_work(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has three objects under way; it ends when its standard input does."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def parts(root: Path) -> list[Path]:
    return sorted((root / ".incoming").glob("*.part"))


def test_what_a_killed_process_left_is_removed_and_counted(tmp_path: Path) -> None:
    with process_at_work(tmp_path) as process:
        process.kill()
        process.wait(30)
        assert len(parts(tmp_path)) == 3
        folder = IncomingFolder(str(tmp_path))
        assert folder.open() == 3
        assert parts(tmp_path) == []
        folder.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_has_under_way_is_left_alone(tmp_path: Path) -> None:
    with process_at_work(tmp_path):
        folder = IncomingFolder(str(tmp_path))
        assert folder.open() == 0
        assert len(parts(tmp_path)) == 3
        folder.close()
        assert len(parts(tmp_path)) == 3


def test_two_folders_in_one_process_leave_each_other_alone(tmp_path: Path) -> None:
    first, second = IncomingFolder(str(tmp_path)), IncomingFolder(str(tmp_path))
    first.open()
    path, descriptor = first.create()
    os.close(descriptor)
    assert second.open() == 0
    assert os.path.exists(path)
    second.close()
    first.close()


def test_parts_whose_owner_left_no_lock_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".incoming").mkdir()
    (tmp_path / ".incoming" / "0123456789ab-0.part").write_bytes(b"half")
    folder = IncomingFolder(str(tmp_path))
    assert folder.open() == 1
    folder.close()


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".incoming").mkdir()
    (tmp_path / ".incoming" / "notes.txt").write_bytes(b"mine")
    folder = IncomingFolder(str(tmp_path))
    assert folder.open() == 0
    folder.close()
    assert os.listdir(tmp_path / ".incoming") == ["notes.txt"]


@pytest.mark.skipif(os.name == "nt", reason="only some may make links there")
def test_a_link_to_nowhere_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".incoming").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        IncomingFolder(str(tmp_path)).open()


def test_an_owner_whose_lock_cannot_be_tried_may_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (incoming / "0123456789ab.lock").write_bytes(b"")
    (incoming / "0123456789ab-0.part").write_bytes(b"half")
    open_file = os.open

    def refuse(path: str, flags: int, *mode: int) -> int:
        if path.endswith("0123456789ab.lock"):
            raise PermissionError(13, "Permission denied")
        return open_file(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    folder = IncomingFolder(str(tmp_path))
    assert folder.open() == 0
    assert (incoming / "0123456789ab-0.part").exists()
    folder.close()


def test_close_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = IncomingFolder(str(tmp_path))
    folder.open()
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_close_leaves_nothing_behind_when_the_folder_was_removed_and_made_again(tmp_path: Path) -> None:
    folder = IncomingFolder(str(tmp_path))
    folder.open()
    os.unlink(folder._lock_file)
    os.rmdir(tmp_path / ".incoming")
    path, descriptor = folder.create()
    os.close(descriptor)
    os.unlink(path)
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_close_twice_is_harmless(tmp_path: Path) -> None:
    folder = IncomingFolder(str(tmp_path))
    folder.open()
    folder.close()
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_every_temporary_file_is_another(tmp_path: Path) -> None:
    folder = IncomingFolder(str(tmp_path))
    folder.open()
    created = [folder.create() for _ in range(10)]
    for path, descriptor in created:
        os.close(descriptor)
        os.unlink(path)
    folder.close()
    assert len({path for path, _ in created}) == 10


def test_a_folder_removed_under_our_feet_is_made_again(tmp_path: Path) -> None:
    folder = IncomingFolder(str(tmp_path))
    folder.open()
    os.unlink(folder._lock_file)
    os.rmdir(tmp_path / ".incoming")
    path, descriptor = folder.create()
    os.close(descriptor)
    assert os.path.exists(path)
    os.unlink(path)
    folder.close()


def test_a_file_of_another_root_is_taken_over(tmp_path: Path) -> None:
    folder = IncomingFolder(str(tmp_path))
    folder.open()
    (tmp_path / "elsewhere").write_bytes(b"content")
    path = folder.take_over(str(tmp_path / "elsewhere"), durable=True)
    assert Path(path).read_bytes() == b"content"
    assert parts(tmp_path) == [Path(path)]
    os.unlink(path)
    folder.close()


def test_a_file_is_taken_over_into_a_folder_removed_under_our_feet(tmp_path: Path) -> None:
    folder = IncomingFolder(str(tmp_path))
    folder.open()
    os.unlink(folder._lock_file)
    os.rmdir(tmp_path / ".incoming")
    (tmp_path / "elsewhere").write_bytes(b"content")
    path = folder.take_over(str(tmp_path / "elsewhere"), durable=False)
    assert Path(path).read_bytes() == b"content"
    os.unlink(path)
    folder.close()


def test_a_missing_root_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        IncomingFolder(str(tmp_path / "missing")).open()
    assert list(tmp_path.iterdir()) == []
