"""Which folders of an old tree hold more than one study or patient."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dcmstore.index import collisions, entries
from dcmstore.index.collisions import FIELDS
from dcmstore.index.database import Database
from dcmstore.index.entries import Came, Root
from tests.index.support import image, write

Enter = Callable[..., None]


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(str(path))
    yield database
    database.close()


@pytest.fixture
def enter(database: Database, root: Root) -> Enter:
    """Put a file of a study into a folder, and into the index."""
    count = iter(range(1, 1000))

    def enter(folder: str, study: str, patient_id: bytes = b"P1", name: bytes = b"Doe^Jane") -> None:
        number = next(count)
        uid = f"1.2.{number}"
        file = f"{folder}/{uid}.dcm" if folder else f"{uid}.dcm"
        write(root, file, image(uid, study=study, patient_id=patient_id, name=name), uid=uid)
        database.write([entries.read(root, file, Came("CT1", "192.0.2.1", float(number), is_new=True))])

    return enter


def folders(database: Database, **how: bool) -> list[str]:
    return [record["folder"] for record in collisions.collisions(database, **how)]


def test_a_folder_with_two_studies_is_told_with_its_counts(database: Database, enter: Enter, root: Root) -> None:
    for study in ("1.9.2", "1.9.1", "1.9.2"):
        enter("P1/7", study)
    (record,) = collisions.collisions(database)
    assert record == {
        "root": root.name,
        "folder": "P1/7",
        "studies": 2,
        "patients": 1,
        "instances": 3,
        "study_instance_uids": ["1.9.1", "1.9.2"],
        "patient_ids": ["P1"],
        "last_stored": "1970-01-01T00:00:03.000Z",
    }
    assert tuple(record) == FIELDS


def test_a_study_folder_is_mixed_though_no_folder_below_it_is(database: Database, enter: Enter) -> None:
    enter("P1/7/1", "1.9.1")
    enter("P1/7/2", "1.9.2")
    assert folders(database) == ["P1/7"]


def test_each_mixed_folder_is_told_in_the_order_of_names(database: Database, enter: Enter) -> None:
    for folder in ("P2/Study-undef/3", "P1/7/3"):
        enter(folder, "1.9.1")
        enter(folder, "1.9.2")
    assert folders(database) == ["P1/7", "P1/7/3", "P2/Study-undef", "P2/Study-undef/3"]


def test_the_studies_of_one_patient_may_share_a_master_folder(database: Database, enter: Enter) -> None:
    enter("P1/7/3", "1.9.1")
    enter("P1/8/3", "1.9.2")
    enter("P1/7~0a1b2c3d/3", "1.9.3")
    enter("P1", "1.9.4")
    assert folders(database) == []


def test_a_master_folder_of_two_patients_is_mixed(database: Database, enter: Enter) -> None:
    enter("Doe^Jane/7/3", "1.9.1", b"P1")
    enter("Doe^Jane/8/3", "1.9.2", b"P2")
    (record,) = collisions.collisions(database)
    assert (record["folder"], record["studies"], record["patients"], record["instances"]) == ("Doe^Jane", 2, 2, 2)
    assert record["patient_ids"] == ["P1", "P2"]


def test_patients_without_an_id_are_known_by_name(database: Database, enter: Enter) -> None:
    enter("ID_Unknown/7", "1.9.1", b"", b"QA^Daily")
    enter("ID_Unknown/8", "1.9.2", b"", b"QA^Daily")
    assert folders(database) == []
    enter("ID_Unknown/9", "1.9.3", b"", b"QA^Weekly")
    (record,) = collisions.collisions(database)
    assert (record["folder"], record["patients"], record["patient_ids"]) == ("ID_Unknown", 2, [])


def test_without_a_level_for_studies_only_patients_can_be_mixed(database: Database, enter: Enter) -> None:
    enter("P1/3", "1.9.1")
    enter("P1/3", "1.9.2")
    assert folders(database, by_study=False) == []
    enter("P1/3", "1.9.3", b"P2")
    assert folders(database, by_study=False) == ["P1", "P1/3"]


def test_what_lies_in_a_root_folder_is_in_no_tree(database: Database, enter: Enter) -> None:
    enter("", "1.9.1", b"P1")
    enter("", "1.9.2", b"P2")
    assert folders(database) == []


def test_folders_of_one_name_in_two_roots_are_two(database: Database, enter: Enter, root: Root, path: Path) -> None:
    for study in ("1.9.1", "1.9.2", "1.9.3"):
        enter("P1/7", study)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE instances SET root = 'elsewhere' WHERE path LIKE '%1.2.2.dcm'")
    connection.close()
    (record,) = collisions.collisions(database)
    assert (record["root"], record["study_instance_uids"]) == (root.name, ["1.9.1", "1.9.3"])


def test_names_with_signs_of_the_language_of_databases_are_nothing_special(database: Database, enter: Enter) -> None:
    enter("P_1%/7'\"", "1.9.1")
    enter("P_1%/7'\"", "1.9.2")
    enter("Px1%/7'\"", "1.9.1")
    assert folders(database) == ["P_1%/7'\""]


def test_as_many_folders_are_told_as_are_asked_for(database: Database, enter: Enter) -> None:
    for folder in ("P1/7", "P1/8", "P1/9"):
        enter(folder, f"1.8.{folder[-1]}")
        enter(folder, f"1.9.{folder[-1]}")
    assert [len(collisions.collisions(database, limit=limit)) for limit in (1, 2, None)] == [1, 2, 3]


def test_an_empty_index_has_none(database: Database) -> None:
    assert collisions.collisions(database) == []
