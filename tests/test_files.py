"""The few things done to files, and what a person is told when they fail."""

import contextlib
import errno
import functools
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from dcmstore.errors import OutOfResources
from dcmstore.storage import files
from dcmstore.storage.filing import Root

MAX_ERROR_COMMENT = 64  # characters (PS3.7 annex E: VR is LO)


def written(path: Path, buffers: Sequence[files.Buffer]) -> bytes:
    descriptor = files.create(str(path))
    try:
        files.write_all(descriptor, buffers)
    finally:
        os.close(descriptor)
    return path.read_bytes()


BUFFERS = (b"head", memoryview(b"a longer fragment"), b"", memoryview(b"x"))
JOINED = b"heada longer fragmentx"


def test_buffers_are_written_one_behind_the_other(tmp_path: Path) -> None:
    assert written(tmp_path / "file", BUFFERS) == JOINED


def test_buffers_are_written_where_there_is_no_writev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_HAS_WRITEV", False)
    monkeypatch.delattr(os, "writev", raising=False)
    assert written(tmp_path / "file", BUFFERS) == JOINED


@pytest.mark.parametrize("taken", range(len(JOINED) + 1))
def test_what_the_system_takes_only_in_part_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    write = os.write
    monkeypatch.setattr(files, "_HAS_WRITEV", True)
    monkeypatch.setattr(os, "writev", lambda fd, buffers: write(fd, b"".join(buffers)[:taken]), raising=False)
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
    assert written(tmp_path / "file", BUFFERS) == JOINED


def test_a_file_that_is_there_is_not_created_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    with pytest.raises(FileExistsError):
        files.create(str(path))
    assert path.read_bytes() == b"kept"


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system has no O_NOFOLLOW")
def test_a_file_is_not_created_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        files.create(str(tmp_path / "link"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_replaced_file_has_the_content_of_the_other(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    files.replace(str(source), str(target))
    assert (source.exists(), target.read_bytes()) == (False, b"new")


def fail_to_replace(monkeypatch: pytest.MonkeyPatch, times: int) -> list[float]:
    """Let os.replace refuse so many times as a virus scanner does; return the pauses, which take no time."""
    replace, refusals, pauses = os.replace, [PermissionError(errno.EACCES, "in use")] * times, list[float]()

    def refuse(source: str, target: str) -> None:
        if refusals:
            raise refusals.pop()
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


def test_a_file_that_a_scanner_holds_on_windows_is_renamed_when_it_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"new")
    monkeypatch.setattr(files, "IS_WINDOWS", True)
    pauses = fail_to_replace(monkeypatch, 5)
    files.replace(str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == b"new"
    assert len(pauses) == 5


def test_a_file_that_is_never_let_go_on_windows_is_given_up_after_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"new")
    monkeypatch.setattr(files, "IS_WINDOWS", True)
    pauses = fail_to_replace(monkeypatch, 1000)
    with pytest.raises(PermissionError):
        files.replace(str(tmp_path / "source"), str(tmp_path / "target"))
    assert 0.5 <= sum(pauses) <= 2


def test_a_missing_permission_on_linux_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").write_bytes(b"new")
    monkeypatch.setattr(files, "IS_WINDOWS", False)
    pauses = fail_to_replace(monkeypatch, 1)
    with pytest.raises(PermissionError):
        files.replace(str(tmp_path / "source"), str(tmp_path / "target"))
    assert not pauses


def another_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every rename say that the target is on another file system."""

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", refuse)


@pytest.mark.parametrize("is_another_disk", [False, True])
def test_a_moved_file_is_at_its_new_place_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_another_disk: bool
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x" * 3_000_000)
    if is_another_disk:
        another_disk(monkeypatch)
    files.move_between_disks(str(source), str(target), durable=True)
    assert (source.exists(), target.read_bytes()) == (False, b"x" * 3_000_000)


@pytest.mark.parametrize("call", ["writev", "fsync", "close", "unlink"])
def test_a_move_to_another_disk_that_fails_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"content")
    another_disk(monkeypatch)
    original = getattr(os, call)

    def fail(*arguments: object) -> None:
        monkeypatch.setattr(os, call, original)
        if call == "close":
            original(*arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        files.move_between_disks(str(source), str(target), durable=True)
    assert (source.read_bytes(), target.exists()) == (b"content", False)


def test_a_move_that_fails_for_another_reason_is_not_tried_as_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"content")
    with pytest.raises(FileNotFoundError):
        files.move_between_disks(str(tmp_path / "source"), str(tmp_path / "missing" / "target"), durable=True)
    assert (tmp_path / "source").read_bytes() == b"content"


@pytest.mark.parametrize(
    "first, start, other, other_start, same",
    [
        (b"HEADdata", 4, b"LONGHEADdata", 8, True),
        (b"HEADdata", 4, b"HEADdatb", 4, False),
        (b"HEADdata", 4, b"HEADdat", 4, False),
        (b"HEADdata", 4, b"HEADdata ", 4, False),
        (b"HEAD", 4, b"LONGHEAD", 8, True),
        (b"", 0, b"", 0, True),
    ],
)
def test_content_is_compared_from_the_given_positions_to_the_ends(
    tmp_path: Path, first: bytes, start: int, other: bytes, other_start: int, same: bool
) -> None:
    (tmp_path / "first").write_bytes(first)
    (tmp_path / "other").write_bytes(other)
    assert files.same_content(str(tmp_path / "first"), start, str(tmp_path / "other"), other_start) is same


def test_a_difference_in_the_last_byte_of_a_long_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"x" * 2_500_000 + b"1")
    (tmp_path / "other").write_bytes(b"x" * 2_500_000 + b"2")
    assert not files.same_content(str(tmp_path / "first"), 0, str(tmp_path / "other"), 0)


@pytest.mark.parametrize(
    "number, advice",
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk quota is used up"),
        (errno.EROFS, "disk is mounted read-only"),
        (errno.EACCES, "no permission to write in it or below it"),
        (errno.EPERM, "no permission to write in it or below it"),
        (errno.ENOENT, "folder is missing"),
        (errno.ENOTDIR, "a file stands where a folder is needed"),
        (errno.EIO, "disk reports an input/output error"),
        (errno.ENAMETOOLONG, "path is too long"),
        (errno.EMFILE, "too many open files"),
        (errno.EXDEV, "a folder in the tree is on another disk"),
    ],
)
def test_an_error_names_the_key_of_the_folder_and_what_is_wrong(number: int, advice: str) -> None:
    error = files.out_of_resources(OSError(number, "some text"), "RDSR-DIR")
    assert isinstance(error, OutOfResources)
    assert str(error) == f"RDSR-DIR: {advice}"


def test_an_unknown_error_is_told_in_the_words_of_the_system() -> None:
    assert str(files.out_of_resources(OSError(errno.ELOOP, "Too many links"), "IMG-DIR")) == "IMG-DIR: Too many links"


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_fits_an_error_comment(number: int) -> None:
    for root in Root:
        error = files.out_of_resources(OSError(number, os.strerror(number)), root.value)
        assert len(str(error)) <= MAX_ERROR_COMMENT


# --- taking a name without the kernel's help -------------------------------------------------------


@pytest.fixture(params=["link", "look"])
def without_renameat2(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a network share that refuses the flag, with hard links and without."""
    monkeypatch.setattr(files, "_renameat2", None)
    if request.param == "look":

        def refuse(source: str, target: str) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)


def test_a_free_name_is_taken_there_too(without_renameat2: None, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    files.give_name(str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == b"new"
    assert not (tmp_path / "source").exists()


def test_a_taken_name_is_left_alone_there_too(without_renameat2: None, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.give_name(str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == b"old"
    assert (tmp_path / "source").read_bytes() == b"new"


def test_of_two_threads_that_want_a_name_one_gets_it(without_renameat2: None, tmp_path: Path) -> None:
    for number in range(200):
        target, got, start = tmp_path / f"target{number}", [], threading.Barrier(2)
        take = functools.partial(take_name, target, start, got)
        threads = [threading.Thread(target=take, args=(tmp_path / name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert got == [target.read_bytes().decode()]


def take_name(target: Path, start: threading.Barrier, got: list[str], source: Path) -> None:
    source.write_text(source.name)
    start.wait(30)
    with contextlib.suppress(FileExistsError):
        files.give_name(str(source), str(target))
        got.append(source.name)
