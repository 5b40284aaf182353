"""Files on disk, filed by the same path as those that are received."""

import os
import signal
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from dcmstore import cli, importing
from dcmstore.commands import imports
from dcmstore.errors import ConfigurationError
from dcmstore.importing import Imported, Verdict
from dcmstore.storage import part10, space
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
    sources = importing.find_files(folders, map(Path, store.roots.values()), pytest.fail)
    return list(importing.import_files(sources, store, move=move))


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


def keep(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let no file of this name be removed, as on a medium that is read-only."""
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)


def test_a_source_that_cannot_be_removed_is_filed_and_the_others_go_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = write(tmp_path / "old", "1.2.3"), write(tmp_path / "old", "1.2.4")
    keep(monkeypatch, stuck.name)
    first, second = run(store, tmp_path / "old", move=True)
    assert (first.verdict, first.kept, stuck.exists()) == (Verdict.FILED, "Permission denied", True)
    assert (second.verdict, second.kept, other.exists()) == (Verdict.FILED, "", False)
    assert len(list((tmp_path / "images").rglob("*.dcm"))) == 2
    (again,) = run(store, tmp_path / "old", move=True)
    assert (again.verdict, again.kept) == (Verdict.THERE, "Permission denied")


@pytest.mark.parametrize("move", [True, False])
def test_a_source_that_cannot_be_compared_with_its_copy_is_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: bool
) -> None:
    def fail(*_: object) -> bool:
        raise OSError(5, "Input/output error")

    source = write(tmp_path / "old", "1.2.3")
    monkeypatch.setattr(Path, "samefile", fail)
    (imported,) = run(store, tmp_path / "old", move=move)
    assert (imported.verdict, imported.kept) == (Verdict.FILED, "Input/output error" if move else "")
    assert source.exists()


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


def test_a_file_that_is_too_large_fails_alone(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "MAX_PASSED_OVER", 100_000)
    store.max_object = 100_000
    write(tmp_path / "old", "1.2.3", pixels=bytes(3_000_000))
    write(tmp_path / "old", "1.2.4")
    large, small = run(store, tmp_path / "old")
    assert (large.verdict, small.verdict) == (Verdict.FAILED, Verdict.FILED)
    assert "max-object-size" in large.reason


def test_our_working_folders_are_not_imported(tmp_path: Path) -> None:
    write(tmp_path / "images" / ".incoming", "1.1")
    write(tmp_path / "images" / "QUARANTINE", "1.2")
    write(tmp_path / "old" / ".incoming", "1.5")
    others = write(tmp_path / "images" / "PAT" / "QUARANTINE", "1.3"), write(tmp_path / "old" / "QUARANTINE", "1.4")
    assert importing.find_files([tmp_path], [tmp_path / "images"], pytest.fail) == [*others]


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


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_what_root_imports_belongs_to_who_has_the_folders(place: Path) -> None:
    for path in (place, *place.rglob("*")):
        os.chown(path, 65534, 65534)
    with open(place / "DcmStore.ini", "a") as ini:
        ini.write("index= 1\ndicomdir= 1\n")
    write(place / "source", "1.2.3")
    assert command(place, "import", "source").returncode == 0
    made = {path for path in place.rglob("*") if not path.is_relative_to(place / "source")}
    assert {path.name for path in made} >= {"DICOMDIR", "DcmStore.index", "DcmStore-import.log"}
    assert {path.stat().st_uid for path in made} == {65534}


def test_a_dry_run_prints_the_places_and_touches_nothing(place: Path) -> None:
    source = write(place / "old", "1.2.3")
    done = command(place, "import", "--dry-run", "old")
    assert done.stdout == (
        f"{source.relative_to(place)} -> {place}/received/images/PAT1/7/3/1.2.3.dcm\n"
        "1 to file, 0 not objects or not readable\n"
    )
    assert list((place / "received").rglob("*.dcm")) == []


def test_an_interrupted_import_goes_on_with_the_same_command(place: Path) -> None:
    for number in range(1000):
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
    assert filed < 1000
    assert left + filed in (1000, 1001)  # between renaming and removing, a file is in both places
    assert command(place, "import", "--move", "old").returncode == 0
    assert len(list((place / "received").rglob("*.dcm"))) == 1000
    assert list((place / "old").iterdir()) == []
    assert not (place / "received/images/.incoming").exists()


def test_a_missing_folder_is_wrong_usage(place: Path) -> None:
    done = command(place, "import", "nowhere")
    assert done.returncode == 2
    assert done.stderr == "dcmstore: FOLDER nowhere: does not exist\n"


def test_the_command_says_which_sources_are_kept_and_why(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck = write(place / "old", "1.2.3")
    write(place / "old", "1.2.4")
    keep(monkeypatch, stuck.name)
    assert cli.main(["import", "--move", str(place / "old"), "--config", str(place / "DcmStore.ini")]) == 1
    told = capsys.readouterr()
    assert f"dcmstore: {stuck}: filed, but the source is kept: Permission denied\n" in told.err
    assert told.out == "2 filed, 0 already there, 0 in its place, 0 not objects, 0 failed; 1 kept\n"
    assert [path.name for path in (place / "old").iterdir()] == [stuck.name]


def test_a_store_that_does_not_open_is_one_line(place: Path) -> None:
    source = write(place / "old", "1.2.3")
    (place / "received/rdsr/.incoming").write_text("in the way")
    done = command(place, "import", "old")
    assert done.returncode == 1
    assert done.stderr.startswith(f"dcmstore: {place}/received/rdsr/.incoming/")
    assert done.stderr.endswith(": Not a directory\n")
    assert len(done.stderr.splitlines()) == 1
    assert source.exists()
    assert list((place / "received/images").iterdir()) == []


@pytest.mark.parametrize(("move", "syncs"), [(True, True), (False, False)])
def test_a_source_is_removed_only_once_its_copy_is_synced_whatever_the_ini_says(
    place: Path, monkeypatch: pytest.MonkeyPatch, move: bool, syncs: bool
) -> None:
    source, done = write(place / "old", "1.2.3"), []
    fsync, unlink = os.fsync, Path.unlink
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("sync"), fsync(descriptor)))

    def note(path: Path, missing_ok: bool = False) -> None:
        if path == source:
            done.append("remove")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", note)
    ini = place / "DcmStore.ini"
    ini.write_text(ini.read_text() + "durable= 0\n")
    options = ["--move"] if move else []
    assert cli.main(["import", *options, str(place / "old"), "--config", str(ini)]) == 0
    assert ("sync" in done, source.exists()) == (syncs, not move)
    assert done.count("remove") == int(move)
    assert done[-1:] == (["remove"] if move else [])


def test_a_dry_run_passes_over_what_is_not_dicom(place: Path) -> None:
    write(place / "old", "1.2.3")
    (place / "old" / "notes.txt").write_text("not DICOM")
    done = command(place, "import", "--dry-run", "old")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n1 to file, 1 not objects or not readable\n")


def test_an_import_passes_over_pipes_and_directories_of_media(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    head = part10.encode(FileMeta("1.2.840.10008.1.3.10", "1.2.3", EXPLICIT, ""))
    (folder / "DICOMDIR-old").write_bytes(head + b"\x04\x00\x00\x12UL\x04\x00\x00\x00\x00\x00")
    assert [one.verdict for one in run(store, folder)] == [Verdict.NOT_DICOM, Verdict.NOT_DICOM]


def test_an_import_leaves_a_line_a_file_in_its_log(place: Path) -> None:
    write(place / "old", "1.2.3")
    (place / "old" / "notes.txt").write_text("not DICOM")
    assert command(place, "import", "old").returncode == 0
    log = (place / "DcmStore-import.log").read_text()
    assert "file.imported source=1.2.3.any became=filed file=1.2.3.dcm outcome=stored" in log
    assert 'file.imported source=notes.txt became="not objects"' in log


@pytest.mark.parametrize(("log_patient", "source"), [("0", "1.2.3.any"), ("1", "old/DOE^JOHN/1.2.3.any")])
def test_the_log_of_an_import_names_the_folders_of_an_archive_only_where_it_may_name_patients(
    place: Path, log_patient: str, source: str
) -> None:
    with (place / "DcmStore.ini").open("a") as ini:
        ini.write(f"log-patient= {log_patient}\n")
    write(place / "old" / "DOE^JOHN", "1.2.3")
    assert command(place, "import", "old").returncode == 0
    log = (place / "DcmStore-import.log").read_text()
    assert f"file.imported source={source} became=filed" in log
    assert ("DOE" in log) is (log_patient == "1")


@pytest.mark.parametrize(
    ("keys", "listed"),
    [
        ("", "DcmStore-import.log has a line for each; --dry-run prints them with their folders\n"),
        ("logfile= 0\n", "not objects: --dry-run prints them\n"),
        ("log-level= warning\n", "not objects: --dry-run prints them\n"),
    ],
)
def test_an_import_says_where_files_that_are_no_objects_are_listed(place: Path, keys: str, listed: str) -> None:
    with (place / "DcmStore.ini").open("a") as ini:
        ini.write(keys)
    write(place / "old", "1.2.3")
    assert "not objects:" not in command(place, "import", "old").stdout
    (place / "old" / "notes.txt").write_text("not DICOM")
    assert command(place, "import", "old").stdout.endswith(listed)


def test_folders_that_can_not_be_read_are_told_and_the_others_are_imported(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(place / "old" / "a", "1.2.3")
    write(place / "old" / "b", "1.2.4")
    scandir = os.scandir

    def refused(path: str) -> object:
        if os.path.basename(path) == "a":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    for more in ([], ["--dry-run"]):
        assert cli.main(["import", "--config", str(place / "DcmStore.ini"), *more, str(place / "old")]) == 1
        told = capsys.readouterr()
        assert f"dcmstore: {place}/old/a: Permission denied; what is in it is left out\n" in told.err
        assert told.out.splitlines()[-1].startswith("1 ")


@pytest.mark.skipif(os.name == "nt", reason="there only some may make links")
def test_a_link_to_a_folder_elsewhere_is_told(place: Path) -> None:
    write(place / "elsewhere", "1.2.3")
    write(place / "source/real", "1.2.4")
    (place / "source/link").symlink_to(place / "elsewhere")
    (place / "source/within").symlink_to(place / "source/real")
    done = command(place, "import", "source")
    assert done.returncode == 1
    assert done.stdout.startswith("1 filed, ")
    assert done.stderr.splitlines()[0] == (
        "dcmstore: source/link: a link to a folder; import that by its own name; what is in it is left out"
    )
    assert "within" not in done.stderr


def test_a_folder_that_can_not_be_looked_at_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: object, **_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "stat", broken)
    with pytest.raises(ConfigurationError, match="FOLDER /share: can't be looked at: Input/output error"):
        imports._require(Path("/share"))
