"""A file that somebody else has open, as virus scanners and viewers have: on Windows it can't be renamed or removed."""

import ctypes
import time
from collections.abc import Callable
from ctypes import wintypes
from pathlib import Path

import pytest

from dcmstore.errors import OutOfResources
from dcmstore.storage import files
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.store import Duplicates, Outcome, Store
from tests.test_store import FIRST, SECOND, data_sets, opened, receive, roots_below, send, visible


def held_alone(path: Path) -> Callable[[], object]:
    """Open a file so that nobody else can; call what is returned to let go."""
    kernel = ctypes.WinDLL("kernel32")
    kernel.CreateFileW.restype = wintypes.HANDLE
    generic_read, no_sharing, open_existing = 0x80000000, 0, 3
    handle = kernel.CreateFileW(str(path), generic_read, no_sharing, None, open_existing, 0, None)
    assert handle != wintypes.HANDLE(-1).value
    return lambda: kernel.CloseHandle(wintypes.HANDLE(handle))


def let_go_after(monkeypatch: pytest.MonkeyPatch, pauses: int, let_go: Callable[[], object]) -> list[float]:
    """Let go of a file in so many pauses between two tries, which take no time; return the pauses."""
    taken: list[float] = []

    def pause(seconds: float) -> None:
        taken.append(seconds)
        if len(taken) == pauses:
            let_go()

    monkeypatch.setattr(time, "sleep", pause)
    return taken


def test_a_file_that_a_scanner_holds_is_renamed_when_it_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    scanner = source.open("rb")
    pauses = let_go_after(monkeypatch, 3, scanner.close)
    files.give_name(str(source), str(target))
    assert (source.exists(), target.read_bytes(), len(pauses)) == (False, b"new", 3)


def test_a_file_that_is_never_let_go_is_given_up_after_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"new")
    pauses = let_go_after(monkeypatch, 1000, lambda: None)
    with source.open("rb"), pytest.raises(PermissionError):
        files.replace(str(source), str(tmp_path / "target"))
    assert 0.5 <= sum(pauses) <= 2


def test_a_taken_name_is_told_from_a_file_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    pauses = let_go_after(monkeypatch, 1000, lambda: None)
    with target.open("rb"), pytest.raises(FileExistsError):
        files.give_name(str(source), str(target))
    assert (source.read_bytes(), target.read_bytes(), pauses) == (b"new", b"old", [])


def test_an_object_under_a_scanner_is_stored_when_it_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(Store(roots_below(tmp_path), FilingPolicy())) as store:
        incoming = receive(store, FIRST)
        (temporary,) = visible(tmp_path)
        scanner = temporary.open("rb")
        let_go_after(monkeypatch, 2, scanner.close)
        incoming.finish()
    assert data_sets(tmp_path) == [FIRST]


def test_an_object_that_stays_in_use_is_refused_and_gone_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = roots_below(tmp_path)
    let_go_after(monkeypatch, 1000, lambda: None)
    with opened(Store(roots, FilingPolicy())) as store:
        incoming = receive(store, FIRST)
        (temporary,) = visible(tmp_path)
        with temporary.open("rb"), pytest.raises(OutOfResources, match="IMG-DIR"):
            incoming.finish()
        assert [path.suffix for path in visible(tmp_path)] in ([], [".part"])
    with opened(Store(roots, FilingPolicy())):
        assert visible(tmp_path) == {}


def test_a_good_file_that_somebody_views_is_not_harmed_by_its_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go_after(monkeypatch, 1000, lambda: None)
    with opened(Store(roots_below(tmp_path), FilingPolicy(), duplicates=Duplicates.REPLACE)) as store:
        send(store, FIRST)
        (good,) = visible(tmp_path)
        with good.open("rb"):
            with pytest.raises(OutOfResources, match="IMG-DIR"):
                send(store, SECOND)
            assert data_sets(tmp_path) == [FIRST]
        send(store, SECOND)
    assert data_sets(tmp_path) == [SECOND]


def test_what_comes_again_is_known_although_a_scanner_holds_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(Store(roots_below(tmp_path), FilingPolicy())) as store:
        send(store, FIRST)
        (good,) = visible(tmp_path)
        pauses = let_go_after(monkeypatch, 2, held_alone(good))
        assert send(store, FIRST).outcome is Outcome.IDENTICAL
    assert len(pauses) == 2
    assert data_sets(tmp_path) == [FIRST]


def test_a_file_in_the_place_of_the_folder_for_temporary_files_is_told_of(tmp_path: Path) -> None:
    (tmp_path / ".incoming").write_text("in the way")
    store = Store({Root.IMAGES: str(tmp_path)}, FilingPolicy())
    with pytest.raises(OSError) as caught:
        store.open()
    store.close()
    assert str(caught.value.filename).startswith(str(tmp_path / ".incoming"))


def test_a_folder_that_an_open_store_needs_cannot_be_removed(tmp_path: Path) -> None:
    with opened(Store(roots_below(tmp_path), FilingPolicy())):
        (lock,) = tmp_path.glob("images/.incoming/*.lock")
        with pytest.raises(PermissionError):
            lock.unlink()
