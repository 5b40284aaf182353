"""Studies and patients that would share a folder: one for each, found again after whatever happens."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcmstore import uids
from dcmstore.storage import filing, header, names, owners, part10
from dcmstore.storage.examine import examine
from dcmstore.storage.filing import FilingPolicy, Owner, Root
from dcmstore.storage.owners import Owners, planned, told_apart
from dcmstore.storage.part10 import FileMeta
from dcmstore.storage.store import Duplicates, Instance, Outcome, Store, Stored
from tests.support import CT, XRAY_DOSE_SR, element

PROJECT = Path(__file__).parents[1]
SPLIT = FilingPolicy(split_collisions=True)
BY_NAME = FilingPolicy(split_collisions=True, order_by_patient_id=False)
NO_STUDIES = FilingPolicy(split_collisions=True, order_by_study=False)
MEDIA = FilingPolicy(split_collisions=True, media_names=True, image_name_index=True)
SUFFIXED = r"7~[0-9a-f]{8}"


def image(
    uid: str,
    study: str = "1.9.1",
    *,
    patient_id: bytes = b"PAT1",
    name: bytes = b"Doe^Jane",
    study_id: bytes = b"7",
    sop_class: str = CT,
    pixels: bytes = b"1234",
) -> bytes:
    return b"".join(
        (
            element(0x0008, 0x0016, "UI", sop_class.encode()),
            element(0x0008, 0x0018, "UI", uid.encode()),
            element(0x0010, 0x0010, "PN", name),
            element(0x0010, 0x0020, "LO", patient_id),
            element(0x0020, 0x000D, "UI", study.encode()),
            element(0x0020, 0x0010, "SH", study_id),
            element(0x0020, 0x0011, "IS", b"3"),
            element(0x7FE0, 0x0010, "OW", pixels),
        )
    )


def send(store: Store, uid: str, study: str = "1.9.1", *, sop_class: str = CT, **attributes: bytes) -> Stored:
    incoming = store.begin(Instance(sop_class, uid, uids.EXPLICIT_VR_LITTLE_ENDIAN, "CT1"))
    incoming.receive(memoryview(image(uid, study, sop_class=sop_class, **attributes)))
    return incoming.finish()


def write(folder: Path, uid: str, study: str = "1.9.1", **attributes: bytes) -> Path:
    """A file as another program would leave it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uid}.dcm"
    meta = FileMeta(CT, uid, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    path.write_bytes(part10.encode(meta) + image(uid, study, **attributes))
    return path


@contextlib.contextmanager
def started(folder: Path, policy: FilingPolicy = SPLIT, **how: object) -> Iterator[Store]:
    """A store over the roots `images` and `rdsr`, as after a start of the program."""
    roots = {root: folder / name for root, name in ((Root.IMAGES, "images"), (Root.DOSE_REPORTS, "rdsr"))}
    for path in roots.values():
        path.mkdir(parents=True, exist_ok=True)
    store = Store({root: str(path) for root, path in roots.items()}, policy, **{"durable": False, **how})  # type: ignore[arg-type]
    store.open()
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with started(tmp_path) as store:
        yield store


def places(folder: Path, policy: FilingPolicy, *sources: Path) -> list[tuple[str, ...]]:
    """The folders that `where` would tell of these files."""
    known, found = Owners(), []
    for source in sources:
        destination = examine(source).destination(policy)
        found.append(planned(known, str(folder / "images"), destination.folders, destination.owners))
    return found


# --- who gets which folder -----------------------------------------------------------------------


def test_of_two_studies_with_one_id_the_second_gets_a_suffix(store: Store) -> None:
    assert send(store, "1.1", "1.9.1").folders == ("PAT1", "7", "3")
    master, study, series = send(store, "1.2", "1.9.2").folders
    assert (master, series) == ("PAT1", "3")
    assert re.fullmatch(SUFFIXED, study)


def test_studies_without_an_id_are_told_apart(store: Store) -> None:
    first, second = (send(store, f"1.{study[-1]}", study, study_id=b"") for study in ("1.9.1", "1.9.2"))
    assert first.folders[1] == "Study-undef"
    assert re.fullmatch("Study-undef~[0-9a-f]{8}", second.folders[1])


def test_each_study_keeps_its_folder(store: Store) -> None:
    folders: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for number in range(12):
        study = f"1.9.{number % 3}"
        folders[study].add(send(store, f"1.{number}", study).folders)
    assert [len(found) for found in folders.values()] == [1, 1, 1]
    assert len(set.union(*folders.values())) == 3


def test_a_study_whose_id_is_its_own_gets_the_plain_folder(store: Store) -> None:
    send(store, "1.1", "1.9.1")
    assert send(store, "1.2", "1.9.2", study_id=b"8").folders == ("PAT1", "8", "3")


def test_without_the_key_studies_share_a_folder_as_before(tmp_path: Path) -> None:
    with started(tmp_path, FilingPolicy()) as store:
        assert send(store, "1.1", "1.9.1").folders == send(store, "1.2", "1.9.2").folders == ("PAT1", "7", "3")


def test_two_patients_of_one_name_are_told_apart(tmp_path: Path) -> None:
    with started(tmp_path, BY_NAME) as store:
        first = send(store, "1.1", "1.9.1", patient_id=b"P1")
        second = send(store, "1.2", "1.9.2", patient_id=b"P2", study_id=b"8")
        assert first.folders[0] == "Doe^Jane"
        assert re.fullmatch(r"Doe\^Jane~[0-9a-f]{8}", second.folders[0])
        assert second.folders[1] == "8"
        assert send(store, "1.3", "1.9.3", patient_id=b"P1", study_id=b"9").folders[:2] == ("Doe^Jane", "9")


def test_patients_without_an_id_are_known_by_name(store: Store) -> None:
    first, second, third = (
        send(store, f"1.{number}", f"1.9.{number}", patient_id=b"", name=name, study_id=str(number).encode())
        for number, name in enumerate((b"QA^Daily", b"QA^Weekly", b"QA^Daily"))
    )
    assert first.folders[0] == third.folders[0] == "ID_Unknown"
    assert re.fullmatch("ID_Unknown~[0-9a-f]{8}", second.folders[0])


def test_a_folder_of_an_id_that_was_made_safe_otherwise_is_not_taken_for_another(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "images" / "A_B" / "7", "1.1", patient_id=b"A/B")  # another program puts `_` for `/`
    assert re.fullmatch("A_B~[0-9a-f]{8}", send(store, "1.2", "1.9.2", patient_id=b"A_B").folders[0])


def test_one_id_in_two_character_sets_is_one_patient(store: Store) -> None:
    latin, utf_8 = (
        filing.identity_of(header.PATIENT_ID, {header.PATIENT_ID: "É1".encode(codec), 0x0008_0005: declared})
        for codec, declared in (("latin-1", b"ISO_IR 100"), ("utf-8", b"ISO_IR 192"))
    )
    assert latin == utf_8 == "patient É1"


def test_a_long_identity_is_remembered_as_its_digest() -> None:
    one, other = (filing.identity_of(header.PATIENT_ID, {header.PATIENT_ID: b"x" * 9000 + end}) for end in (b"1", b"2"))
    assert one != other
    assert len(one) <= filing.MAX_IDENTITY


def test_without_a_level_for_studies_those_of_a_patient_share_their_folders(tmp_path: Path) -> None:
    with started(tmp_path, NO_STUDIES) as store:
        assert send(store, "1.1", "1.9.1").folders == send(store, "1.2", "1.9.2").folders == ("PAT1", "3")


def test_dose_reports_in_a_tree_are_told_apart_too(tmp_path: Path) -> None:
    with started(tmp_path, FilingPolicy(split_collisions=True, rdsr_tree=True)) as store:
        first, second = (send(store, f"1.{n}", f"1.9.{n}", sop_class=XRAY_DOSE_SR) for n in (1, 2))
        assert first.root is second.root is Root.DOSE_REPORTS
        assert first.folders[1] == "7"
        assert re.fullmatch(SUFFIXED, second.folders[1])


def test_reports_among_the_images_lie_with_their_study(tmp_path: Path) -> None:
    with started(tmp_path, FilingPolicy(split_collisions=True, sr_sub=True)) as store:
        send(store, "1.1", "1.9.1")
        second = send(store, "1.2", "1.9.2")
        assert send(store, "1.3", "1.9.2", sop_class=XRAY_DOSE_SR).folders == second.folders


def test_flat_folders_stay_flat(tmp_path: Path) -> None:
    with started(tmp_path, FilingPolicy(split_collisions=True, folder_tree=False)) as store:
        assert send(store, "1.1", "1.9.1").folders == send(store, "1.2", "1.9.2").folders == ()


def test_below_a_dicomdir_the_suffix_fits_a_medium(tmp_path: Path) -> None:
    with started(tmp_path, MEDIA) as store:
        first, second = (send(store, f"1.{n}", f"1.9.{n}", study_id=b"STUDY_12") for n in (1, 2))
        assert first.folders[1] == "STUDY_12"
        assert re.fullmatch("ST_[A-Z2-7]{5}", second.folders[1])


@pytest.mark.parametrize("has_media_name", [False, True])
@given(value=st.text(min_size=1, max_size=70), identity=st.text(max_size=20))
def test_no_value_makes_a_name_that_tells_apart(value: str, identity: str, has_media_name: bool) -> None:
    name_of = names.media_folder_name if has_media_name else names.folder_name
    name = name_of(value.encode("utf-8", "replace"), b"ISO_IR 192", names.NO_STUDY_ID)
    other = told_apart(name, Owner(header.STUDY_INSTANCE_UID, identity, has_media_name))
    assert other != name
    assert name_of(other.encode(), b"ISO_IR 192", names.NO_STUDY_ID) != other
    assert len(other) <= (8 if has_media_name else 64)
    assert not os.path.isabs(other) and os.path.basename(other) == other


# --- found again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [SPLIT, BY_NAME, MEDIA])
def test_after_a_restart_each_study_finds_its_folder(tmp_path: Path, policy: FilingPolicy) -> None:
    found: list[list[tuple[str, ...]]] = []
    for order in ((1, 2, 3), (3, 2, 1), (2, 3, 1)):
        with started(tmp_path, policy) as store:
            sent = {n: send(store, f"1.{len(found)}.{n}", f"1.9.{n}", patient_id=f"P{n}".encode()) for n in order}
        found.append([sent[n].folders for n in (1, 2, 3)])
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 3


def test_a_study_stays_in_its_folder_when_the_plain_one_was_removed(tmp_path: Path) -> None:
    with started(tmp_path) as store:
        send(store, "1.1", "1.9.1")
        second = send(store, "1.2", "1.9.2")
    shutil.rmtree(tmp_path / "images" / "PAT1" / "7")
    with started(tmp_path) as store:
        assert send(store, "1.3", "1.9.2").folders == second.folders


def test_a_folder_that_was_removed_is_free_again_at_once(store: Store, tmp_path: Path) -> None:
    send(store, "1.1", "1.9.1")
    shutil.rmtree(tmp_path / "images" / "PAT1" / "7")
    assert send(store, "1.2", "1.9.2").folders == ("PAT1", "7", "3")
    assert re.fullmatch(SUFFIXED, send(store, "1.3", "1.9.1").folders[1])  # its first owner comes too late


def test_a_study_whose_folder_was_removed_gets_it_again(store: Store, tmp_path: Path) -> None:
    send(store, "1.1", "1.9.1")
    shutil.rmtree(tmp_path / "images" / "PAT1")
    assert send(store, "1.2", "1.9.1").folders == ("PAT1", "7", "3")


def test_two_owners_whose_suffix_is_the_same_are_told_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "told_apart", lambda name, _: name + "x")
    found = [send(store, f"1.{turn}.{n}", f"1.9.{n}").folders[1] for turn in (1, 2) for n in (1, 2, 3)]
    assert found == ["7", "7x", "7xx"] * 2


def test_what_is_forgotten_is_read_from_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "MAX_FOLDERS", 2)
    monkeypatch.setattr("dcmstore.storage.folders.MAX_KNOWN", 1)
    first = [send(store, f"1.1.{n}", f"1.9.{n}").folders for n in range(5)]
    again = [send(store, f"1.2.{n}", f"1.9.{n}").folders for n in range(5)]
    assert first == again
    assert len(set(first)) == 5


def test_a_known_study_costs_no_look_at_the_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [send(store, f"1.1.{n}", f"1.9.{n}").folders for n in (1, 2)]
    monkeypatch.setattr(os, "scandir", pytest.fail)
    monkeypatch.setattr(Owners, "name_for", pytest.fail)
    assert [send(store, f"1.2.{n}", f"1.9.{n}").folders for n in (1, 2)] == expected


# --- what lies there already ---------------------------------------------------------------------


def test_in_a_folder_that_was_mixed_before_its_studies_stay(tmp_path: Path) -> None:
    with started(tmp_path, FilingPolicy()) as store:
        for n in (1, 2):
            send(store, f"1.{n}", f"1.9.{n}")
    with started(tmp_path) as store:
        again = [send(store, f"1.{n}", f"1.9.{n}") for n in (1, 2)]
        assert [(one.outcome, one.folders[1]) for one in again] == [(Outcome.IDENTICAL, "7")] * 2
        assert send(store, "1.5", "1.9.2").folders[1] == "7"
        assert re.fullmatch(SUFFIXED, send(store, "1.3", "1.9.3").folders[1])


@pytest.mark.parametrize("duplicates", list(Duplicates))
def test_a_duplicate_meets_its_file_in_a_folder_with_a_suffix(tmp_path: Path, duplicates: Duplicates) -> None:
    with started(tmp_path) as store:
        send(store, "1.1", "1.9.1")
        second = send(store, "1.2", "1.9.2")
    with started(tmp_path, duplicates=duplicates) as store:
        again = send(store, "1.2", "1.9.2")
        assert (again.outcome, again.folders) == (Outcome.IDENTICAL, second.folders)


def test_of_each_folder_below_one_file_is_looked_at_first(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for series in range(4):
        for number in range(50):
            write(tmp_path / "images" / "PAT1" / "7" / str(series), f"1.{series}.{number}", f"1.9.{series}")
    monkeypatch.setattr(owners, "MAX_LOOKS", 10)
    assert [send(store, f"1.5.{n}", f"1.9.{n}").folders[1] for n in range(4)] == ["7"] * 4
    assert send(store, "1.6.1", "1.9.9").folders[1] != "7"


@pytest.mark.parametrize(("limit", "value"), [("MAX_LOOKS", 3), ("MAX_SECONDS", -1.0)])
def test_a_folder_that_can_not_be_looked_at_whole_is_not_free(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    folder = tmp_path / "images" / "PAT1" / "7"
    folder.mkdir(parents=True)
    for number in range(20):
        (folder / f"{number}.txt").write_text("not DICOM")
    monkeypatch.setattr(owners, limit, value)
    assert send(store, "1.1").folders[:2] != ("PAT1", "7")


def test_a_folder_with_nothing_but_other_files_is_free(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "images" / "PAT1" / "7"
    (folder / "3").mkdir(parents=True)
    (folder / "notes.txt").write_text("not DICOM")
    assert send(store, "1.1").folders[1] == "7"


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_links_that_lead_in_circles_or_nowhere_harm_nothing(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "images" / "PAT1" / "7"
    write(folder / "3", "1.1", "1.9.1")
    (folder / "circle").symlink_to(folder, target_is_directory=True)
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "nowhere").symlink_to(folder / "gone")
    assert send(store, "1.2", "1.9.1").folders == ("PAT1", "7", "3")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_can_not_be_read_belongs_to_somebody_else(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    folder = tmp_path / "images" / "PAT1" / "7"
    path = write(folder, "1.1", "1.9.1")
    write(tmp_path / "images" / "PAT1" / "8", "1.3", "1.9.3")
    name, real = ("examine", examine) if what == "file" else ("os.scandir", os.scandir)

    def denied(asked: str) -> object:
        if asked == str(path if what == "file" else folder):
            raise PermissionError(13, "denied", asked)
        return real(asked)  # type: ignore[operator]

    monkeypatch.setattr(f"dcmstore.storage.owners.{name}", denied)
    master, study, _ = send(store, "1.2", "1.9.1").folders
    assert master == "PAT1"
    assert re.fullmatch(SUFFIXED, study)


def test_an_object_is_kept_even_where_no_folder_can_be_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> object:
        raise OSError(5, "input/output error", path)

    monkeypatch.setattr("dcmstore.storage.owners.os.scandir", broken)
    assert send(store, "1.1").outcome is Outcome.STORED


# --- at the same time, and elsewhere -------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda n: f"1.9.{n}", lambda n: f"1.9.{n % 2}"], ids=["eight studies", "two studies"])
def test_associations_that_bring_new_studies_at_once_agree(store: Store, make: Callable[[int], str]) -> None:
    together, found = threading.Barrier(8), {}

    def bring(number: int) -> None:
        for turn in range(20):
            together.wait(20)
            uid = f"1.{turn}.{number}"
            found[turn, number] = send(store, uid, f"{make(number)}.{turn}", study_id=str(turn).encode()).folders

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for turn in range(20):
        by_study: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for number in range(8):
            by_study[make(number)].add(found[turn, number])
        assert all(len(folders) == 1 for folders in by_study.values())
        assert len(set.union(*by_study.values())) == len(by_study)
        assert sum(folders[1] == str(turn) for folders in set.union(*by_study.values())) == 1


def test_a_folder_is_claimed_before_its_first_file_is_visible(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from dcmstore.storage import files

    give_name, others = files.give_name, []

    def name(source: str, target: str) -> None:
        if target.endswith(".dcm") and not others:
            others.append(None)
            others[0] = send(store, "1.2", "1.9.2")  # type: ignore[call-overload]
        give_name(source, target)

    monkeypatch.setattr(files, "give_name", name)
    assert send(store, "1.1", "1.9.1").folders[1] == "7"
    assert re.fullmatch(SUFFIXED, others[0].folders[1])  # type: ignore[attr-defined]


def test_a_folder_that_another_process_claimed_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dcmstore.storage import files

    give_name, met = files.give_name, []
    with started(tmp_path) as ours, started(tmp_path) as other:

        def name(source: str, target: str) -> None:
            if target.endswith(".dcm") and not met:
                met.append(target)
                assert re.fullmatch(SUFFIXED, send(other, "1.2", "1.9.2", patient_id=b"PAT1").folders[1])
            give_name(source, target)

        monkeypatch.setattr(files, "give_name", name)
        assert send(ours, "1.1", "1.9.1").folders[1] == "7"
        assert send(other, "1.3", "1.9.1").folders[1] == "7"


TURNS = 80
_BRING = """
import sys, time
from pathlib import Path
from tests.test_owners import TURNS, send, started
folder, number = Path(sys.argv[1]), int(sys.argv[2])
with started(folder) as store:
    print("ready", flush=True)
    begin = float(sys.stdin.readline())
    for turn in range(TURNS):
        while time.monotonic() < begin + turn * 0.01:
            pass
        study = f"1.9.{number}.{turn}"
        print(*send(store, f"1.{number}.{turn}", study, patient_id=f"P{turn}".encode()).folders, flush=True)
"""


def bring(folder: Path, number: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _BRING, str(folder), str(number)]
    return subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_claim_ends_with_the_first_file(store: Store, tmp_path: Path) -> None:
    send(store, "1.1", "1.9.1")
    send(store, "1.2", "1.9.2")
    assert not list(tmp_path.rglob("*.claim"))


@pytest.mark.skipif(sys.platform == "win32", reason="the processes share a clock")
def test_processes_that_bring_new_studies_in_the_same_instant_agree(tmp_path: Path) -> None:
    processes = [bring(tmp_path, number) for number in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    begin = time.monotonic() + 0.1
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{begin}\n")
        process.stdin.flush()
    names = [[line.split() for line in process.communicate(timeout=60)[0].splitlines()] for process in processes]
    assert len(names[0]) == len(names[1]) == TURNS
    for folders in zip(*names, strict=True):
        plain, suffixed = sorted((name for _, name, _ in folders), key=len)
        assert plain == "7"
        assert re.fullmatch(SUFFIXED, suffixed)
    assert not list(tmp_path.rglob("*.claim"))


_CLAIM = """
import os, signal, sys
from pathlib import Path
from dcmstore.storage import files
from tests.test_owners import send, started
def die(source, target):
    if target.endswith(".dcm"):
        os.kill(os.getpid(), signal.SIGKILL)
    give_name(source, target)
give_name, files.give_name = files.give_name, die
with started(Path(sys.argv[1])) as store:
    send(store, "1.1", "1.9.1")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
def test_what_a_killed_process_claimed_keeps_nobody_from_storing(tmp_path: Path) -> None:
    with started(tmp_path) as store:
        killed = subprocess.run([sys.executable, "-c", _CLAIM, str(tmp_path)], cwd=PROJECT, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert len(list(tmp_path.rglob("*.claim"))) == 2  # the master folder's and the study's
        send(store, "1.2", "1.9.2")
        send(store, "1.3", "1.9.1", patient_id=b"PAT2")
        with started(tmp_path):
            assert not list(tmp_path.rglob("*.claim"))
    with started(tmp_path) as store:
        assert send(store, "1.1", "1.9.1").folders == ("PAT1", "7", "3")


def test_another_process_with_the_same_folders_comes_to_the_same_names(tmp_path: Path) -> None:
    with started(tmp_path) as receiver, started(tmp_path) as importer:
        sent = [send(receiver, "1.1", "1.9.1"), send(importer, "1.2", "1.9.2"), send(importer, "1.3", "1.9.1")]
        sent += [send(receiver, "1.4", "1.9.2"), send(importer, "1.5", "1.9.3"), send(receiver, "1.6", "1.9.3")]
    folders = [one.folders for one in sent]
    assert folders[0] == folders[2]
    assert folders[1] == folders[3]
    assert folders[4] == folders[5]
    assert len(set(folders)) == 3


@pytest.mark.parametrize("policy", [SPLIT, BY_NAME, MEDIA, NO_STUDIES])
def test_a_plan_tells_the_folders_that_a_store_then_makes(tmp_path: Path, policy: FilingPolicy) -> None:
    with started(tmp_path, policy) as store:
        send(store, "1.0", "1.9.2", patient_id=b"P2")
        before = sorted(tmp_path.rglob("*"))
        sources = [write(tmp_path / "elsewhere", f"1.{n}", f"1.9.{n}", patient_id=f"P{n}".encode()) for n in (1, 2, 3)]
        plan = places(tmp_path, policy, *sources)
        assert sorted(set(tmp_path.rglob("*")) - set(before) - {*sources, tmp_path / "elsewhere"}) == []
        sent = [send(store, f"1.{n}", f"1.9.{n}", patient_id=f"P{n}".encode()).folders for n in (1, 2, 3)]
    assert plan == sent


def test_where_the_disk_ignores_case_both_rules_hold(store: Store) -> None:
    for tree in store.trees.values():
        tree._tells_case = False
    found = [
        send(store, f"1.{turn}.{n}", f"1.9.{n}", study_id=study_id).folders[1]
        for turn in (1, 2)
        for n, study_id in enumerate((b"abc", b"ABC", b"ABC", b"abc"))
    ]
    assert found[:4] == found[4:]
    assert len({name.upper() for name in found}) == 4
    assert found[0] == "abc"


# --- whatever comes ------------------------------------------------------------------------------

OBJECTS = st.tuples(
    st.sampled_from([b"P1", b"P2", b"p1", b""]),
    st.sampled_from([b"Doe^Jane", b"Roe^Jo", b""]),
    st.sampled_from(["1.9.1", "1.9.2", "1.9.3"]),
    st.sampled_from([b"7", b"8", b"", b"CON"]),
)
POLICIES = st.builds(
    FilingPolicy, order_by_patient_id=st.booleans(), media_names=st.booleans(), split_collisions=st.just(True)
)


@settings(max_examples=40, deadline=None)
@given(policy=POLICIES, runs=st.lists(st.lists(OBJECTS, min_size=1, max_size=8), min_size=1, max_size=3))
def test_no_folder_holds_two_studies_and_no_study_has_two(
    policy: FilingPolicy, runs: list[list[tuple[bytes, bytes, str, bytes]]]
) -> None:
    """Within a patient and a Study ID, that is: those name the folders."""
    masters, patients, studies = defaultdict(set), defaultdict(set), defaultdict(set)
    asked = defaultdict(set)
    with tempfile.TemporaryDirectory() as folder:
        for run, objects in enumerate(runs):
            with started(Path(folder), policy) as store:
                for number, (patient_id, name, study, study_id) in enumerate(objects):
                    stored = send(
                        store, f"1.{run}.{number}", study, patient_id=patient_id, name=name, study_id=study_id
                    )
                    patient = patient_id or b"name " + name
                    master = stored.folders[0]
                    masters[master].add(patient)
                    named = b"" if policy.order_by_patient_id else name
                    patients[patient, named].add(master)
                    studies[stored.folders[:2]].add((patient, study))
                    asked[patient, named, study, study_id].add(stored.folders[:2])
    assert all(len(found) == 1 for found in (*masters.values(), *patients.values()))
    assert all(len(found) == 1 for found in (*studies.values(), *asked.values()))
