"""What an association tells the updater of DICOMDIRs: each folder's first file at once, its newest one later."""

from pathlib import Path

import pytest

from dcmstore import events
from dcmstore.events import AssociationEvents
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.store import Outcome, Store, Stored


class Updater:
    """Writes down what it is told, as folder and file."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def add(self, folder: str, path: str) -> None:
        self.told.append((Path(folder).name, Path(path).name))


@pytest.fixture
def updater() -> Updater:
    return Updater()


@pytest.fixture
def association(updater: Updater) -> AssociationEvents:
    return AssociationEvents(Store({Root.IMAGES: "images", Root.DOSE_REPORTS: "rdsr"}, FilingPolicy()), updater)


def image(patient: str, file_name: str) -> Stored:
    return Stored(Root.IMAGES, (patient, "7"), file_name, 100, Outcome.STORED)


def test_a_folder_is_told_with_its_first_file_and_at_the_end_with_its_newest(
    association: AssociationEvents, updater: Updater
) -> None:
    for number in range(3):
        association.stored(image("A", f"{number}.dcm"))
    assert updater.told == [("A", "0.dcm")]
    association.ended()
    assert updater.told == [("A", "0.dcm"), ("A", "2.dcm")]


def test_of_many_folders_those_not_used_for_longest_are_told_before_the_end(
    association: AssociationEvents, updater: Updater, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_FOLDERS", 2)
    for patient, file_name in (("A", "1"), ("B", "2"), ("A", "3"), ("C", "4")):
        association.stored(image(patient, file_name))
    assert updater.told == [("A", "1"), ("B", "2"), ("C", "4"), ("B", "2")]
    association.ended()
    assert updater.told[4:] == [("A", "3"), ("C", "4")]


def test_no_more_than_the_most_recent_folders_are_remembered(association: AssociationEvents, updater: Updater) -> None:
    for number in range(events.MAX_FOLDERS + 50):
        association.stored(image(f"P{number}", f"{number}"))
    before = len(updater.told)
    association.ended()
    assert len(updater.told) - before == events.MAX_FOLDERS
