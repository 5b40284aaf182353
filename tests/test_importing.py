"""Files on disk, filed by the same path as those that are received."""

import os
import signal
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from dcmstore import importing
from dcmstore.importing import Imported, Verdict
from dcmstore.storage import part10
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.part10 import FileMeta
from dcmstore.storage.store import Outcome, Store
from tests.support import CT, data_set, stored_data_set

EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    roots = {Root.IMAGES: str(tmp_path / "images"), Root.DOSE_REPORTS: str(tmp_path / "rdsr")}
    for folder in roots.values():
        os.mkdir(folder)
    store = Store(roots, FilingPolicy(), durable=False)
    store.open()
    return store


def write(folder: Path, uid: str, *, name: str = "", pixels: bytes = b"1234") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{uid}.any")
    path.write_bytes(part10.encode(FileMeta(CT, uid, EXPLICIT, "SCANNER")) + data_set(uid, pixels=pixels))
    return path


def run(store: Store, *folders: Path, move: bool = False) -> list[Imported]:
    return list(importing.import_files(importing.find_files(folders), store, move=move))


def test_a_file_is_filed_with_its_bytes_and_its_source(store: Store, tmp_path: Path) -> None:
    source = write(tmp_path / "old" / "deep", "1.2.3")
    (imported,) = run(store, tmp_path / "old")
    target = tmp_path / "images/PAT1/7/3/1.2.3.dcm"
    assert imported.verdict is Verdict.FILED
    assert stored_data_set(target) == data_set("1.2.3", pixels=b"1234")
    with target.open("rb") as file:
        assert part10.read(file).source_ae_title == "SCANNER"
    assert source.exists()


def test_a_second_run_finds_everything_there(store: Store, tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / "old", f"1.2.{number}")
    assert Counter(one.verdict for one in run(store, tmp_path / "old")) == {Verdict.FILED: 5}
    assert Counter(one.verdict for one in run(store, tmp_path / "old")) == {Verdict.THERE: 5}


def test_move_removes_what_is_safe_and_nothing_else(store: Store, tmp_path: Path) -> None:
    good, broken = write(tmp_path / "old", "1.2.3"), tmp_path / "old" / "broken.dcm"
    broken.write_bytes(good.read_bytes()[:400])
    text = tmp_path / "old" / "notes.txt"
    text.write_text("not DICOM")
    verdicts = {one.source.name: one.verdict for one in run(store, tmp_path / "old", move=True)}
    assert verdicts == {good.name: Verdict.FILED, "broken.dcm": Verdict.FAILED, "notes.txt": Verdict.NOT_DICOM}
    assert not good.exists()
    assert broken.exists()
    assert text.exists()


def test_move_does_not_remove_a_file_that_lies_in_its_place(store: Store, tmp_path: Path) -> None:
    run(store, write(tmp_path / "old", "1.2.3"))
    (imported,) = run(store, tmp_path / "images", move=True)
    assert imported.verdict is Verdict.IN_PLACE
    assert (tmp_path / "images/PAT1/7/3/1.2.3.dcm").exists()


def test_another_data_set_under_a_known_uid_is_kept_too(store: Store, tmp_path: Path) -> None:
    run(store, write(tmp_path / "a", "1.2.3", pixels=b"old!"))
    (imported,) = run(store, write(tmp_path / "b", "1.2.3", pixels=b"new!"))
    assert imported.stored is not None
    assert imported.stored.outcome is Outcome.NUMBERED
    assert len(list((tmp_path / "images").rglob("*.dcm"))) == 2


def test_a_bare_data_set_is_filed_in_the_syntax_that_it_is_in(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "bare"
    source.write_bytes(data_set("1.2.3"))
    (imported,) = run(store, source)
    assert imported.verdict is Verdict.FILED
    with (tmp_path / "images/PAT1/7/3/1.2.3.dcm").open("rb") as file:
        assert part10.read(file).transfer_syntax_uid == EXPLICIT


def test_a_full_disk_fails_one_file_and_says_why(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    (imported,) = run(store, write(tmp_path / "old", "1.2.3"), move=True)
    assert (imported.verdict, imported.reason) == (Verdict.FAILED, "IMG-DIR: disk is full")
    assert (tmp_path / "old" / "1.2.3.any").exists()


def test_our_working_folders_are_not_imported(tmp_path: Path) -> None:
    write(tmp_path / "images" / ".incoming", "1.1")
    write(tmp_path / "images" / "QUARANTINE", "1.2")
    kept = write(tmp_path / "images" / "PAT", "1.3")
    assert importing.find_files([tmp_path / "images"]) == [kept]


# --- the command ---------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "dcmstore"]


def command(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    whole = [*COMMAND, *map(str, arguments)]
    return subprocess.run(whole, cwd=folder, capture_output=True, text=True, timeout=100)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    assert command(tmp_path, "init", ".").returncode == 0
    return tmp_path


def test_the_command_files_the_files_of_pydicom(place: Path) -> None:
    spec = find_spec("pydicom")
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "data" / "test_files"
    first = command(place, "import", source)
    filed = len(list((place / "received").rglob("*.dcm")))
    assert filed > 120
    assert f"{filed} filed, " in first.stdout
    again = command(place, "import", source)
    assert again.stdout.startswith("0 filed, ")
    assert len(list((place / "received").rglob("*.dcm"))) == filed


def test_a_dry_run_prints_the_places_and_touches_nothing(place: Path) -> None:
    source = write(place / "old", "1.2.3")
    done = command(place, "import", "--dry-run", "old")
    assert done.stdout == (
        f"{source.relative_to(place)} -> {place}/received/images/PAT1/7/3/1.2.3.dcm\n"
        "1 to file, 0 not DICOM or not readable\n"
    )
    assert list((place / "received").rglob("*.dcm")) == []


def test_an_interrupted_import_goes_on_with_the_same_command(place: Path) -> None:
    for number in range(400):
        write(place / "old", f"1.2.{number}")
    with subprocess.Popen(
        [*COMMAND, "import", "--move", "old"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not list((place / "received").rglob("*.dcm")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, text = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted; the same command goes on from here" in text
    left, filed = len(list((place / "old").iterdir())), len(list((place / "received").rglob("*.dcm")))
    assert filed < 400
    assert left + filed in (400, 401)  # between renaming and removing, a file is in both places
    assert command(place, "import", "--move", "old").returncode == 0
    assert len(list((place / "received").rglob("*.dcm"))) == 400
    assert list((place / "old").iterdir()) == []
    assert not (place / "received/images/.incoming").exists()


def test_a_missing_folder_is_wrong_usage(place: Path) -> None:
    done = command(place, "import", "nowhere")
    assert done.returncode == 2
    assert done.stderr == "dcmstore: FOLDER nowhere: does not exist\n"
