"""Values of a peer -> folders that Windows really makes: device names, dots at the end, case, and long paths."""

import os
from pathlib import Path

import pytest

from dcmstore import wiring
from dcmstore.storage.filing import FilingPolicy
from dcmstore.storage.store import Store, Stored
from tests.support import data_set
from tests.test_store import data_sets, instance, opened, roots_below, send

TRICKY = (
    "CON", "con", "NUL", "aux.txt", "COM1", "LPT9.x", "COM¹", "CONIN$", "A.", "A ", "A. .", "..", "a:b", "a/b", "a?b*",
    "LONGNA~1", "x" * 64,
)  # fmt: skip


def path_of(stored: Stored, below: Path) -> Path:
    return below.joinpath("images", *stored.folders, stored.file_name)


@pytest.mark.parametrize("patient_id", TRICKY)
def test_a_name_that_windows_cannot_hold_becomes_one_that_it_can(tmp_path: Path, patient_id: str) -> None:
    encoded = data_set(patient_id=patient_id.encode("latin-1"))
    with opened(Store(roots_below(tmp_path), FilingPolicy())) as store:
        stored = send(store, encoded)
    assert data_sets(tmp_path) == [encoded]
    assert path_of(stored, tmp_path).is_file()
    # What a listing shows is what was made: Windows drops dots and blanks at the end without a word.
    assert stored.folders[0] in os.listdir(tmp_path / "images")


def test_each_tricky_name_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    with opened(Store(roots_below(tmp_path), FilingPolicy())) as store:
        for number, patient_id in enumerate(TRICKY):
            uid = f"1.2.3.{number}"
            send(store, data_set(uid, patient_id=patient_id.encode("latin-1")), instance(uid))
    folders = [name for name in os.listdir(tmp_path / "images") if name != ".incoming"]
    # Blanks at the end of a value are padding (PS3.5 6.2): `A ` is `A`, and `A.` is another patient.
    assert len(folders) == len(TRICKY)


def test_patients_whose_ids_differ_in_case_get_two_folders(tmp_path: Path) -> None:
    with opened(Store(roots_below(tmp_path), FilingPolicy())) as store:
        first = send(store, data_set("1.2.3.1", patient_id=b"abc"), instance("1.2.3.1"))
        other = send(store, data_set("1.2.3.2", patient_id=b"ABC"), instance("1.2.3.2"))
        again = send(store, data_set("1.2.3.3", patient_id=b"abc"), instance("1.2.3.3"))
    assert first.folders[0].lower() != other.folders[0].lower()
    assert first.folders == again.folders


def test_a_path_over_260_characters_is_stored(tmp_path: Path) -> None:
    """With the prefix that the receiver gives its root folders: so Windows need not be told to allow long paths."""
    long = b"x" * 64
    uid = "1." + "2" * 62
    encoded = data_set(uid, patient_id=long, study_id=b"s" * 16, series_number=b"123456789012")
    deep = tmp_path / ("d" * 100)
    roots = {root: wiring.long_path(path) for root, path in roots_below(deep).items()}
    with opened(Store(roots, FilingPolicy())) as store:
        stored = send(store, encoded, instance(uid))
    assert len(str(path_of(stored, deep))) > 260
    assert data_sets(Path(wiring.long_path(str(tmp_path)))) == [encoded]
