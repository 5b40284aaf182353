"""The table of UIDs is what its generator makes, and knows every storage class that others know."""

import runpy
from pathlib import Path
from typing import Any

import pynetdicom
import pytest
from pydicom._uid_dict import UID_dictionary

from dcmstore import uids
from tests.wire import NO_UIDS, UIDS

GENERATOR = Path(__file__).parent.parent / "tools" / "make_uids.py"
TABLES = ("STORAGE_SOP_CLASSES", "OTHER_SOP_CLASSES", "TRANSFER_SYNTAXES")


def generated() -> dict[str, Any]:
    """What the text that the generator writes would define."""
    defined: dict[str, Any] = {}
    exec(runpy.run_path(str(GENERATOR))["module"](), defined)
    return defined


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_what_its_generator_makes(table: str) -> None:
    assert getattr(uids, table) == generated()[table]


def test_the_constants_are_what_the_generator_makes() -> None:
    expected = {name: value for name, value in generated().items() if name.isupper() and isinstance(value, str)}
    assert {name: getattr(uids, name) for name in expected} == expected
    assert len(expected) >= 7


def test_every_storage_class_of_pydicoms_dictionary_is_a_storage_class() -> None:
    known = {uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class" and "Storage" in entry[0]}
    commitment = {uid for uid in known if uid.startswith("1.2.840.10008.1.20.")}
    assert known - commitment - uids.STORAGE_SOP_CLASSES.keys() == set()
    assert len(known) > 150


def test_every_storage_class_that_pynetdicom_offers_is_a_storage_class() -> None:
    offered = {str(context.abstract_syntax) for context in pynetdicom.AllStoragePresentationContexts}
    assert offered - uids.STORAGE_SOP_CLASSES.keys() == set()


def test_storage_commitment_is_not_a_storage_class() -> None:
    assert "1.2.840.10008.1.20.1" not in uids.STORAGE_SOP_CLASSES


def test_no_uid_is_in_two_tables() -> None:
    listed = [uid for table in TABLES for uid in getattr(uids, table)]
    assert len(set(listed)) == len(listed)


def test_a_registered_uid_has_a_name() -> None:
    assert uids.name_of("1.2.840.10008.5.1.4.1.1.2") == "CT Image Storage"
    assert uids.name_of(uids.VERIFICATION) == "Verification SOP Class"
    assert uids.name_of(uids.IMPLICIT_VR_LITTLE_ENDIAN).startswith("Implicit VR Little Endian")


@pytest.mark.parametrize("text", UIDS)
def test_1_to_64_digits_and_dots_are_a_uid(text: str) -> None:
    assert uids.is_uid(text)


@pytest.mark.parametrize("text", NO_UIDS, ids=lambda text: ascii(text[:20]))
def test_anything_else_is_no_uid(text: str) -> None:
    assert not uids.is_uid(text)


@pytest.mark.parametrize("table", TABLES)
def test_every_registered_uid_is_a_uid(table: str) -> None:
    assert all(map(uids.is_uid, getattr(uids, table)))


def test_the_rule_is_what_the_generator_makes() -> None:
    theirs = generated()["is_uid"]
    assert [text for text in UIDS + NO_UIDS if theirs(text)] == UIDS


def test_an_unknown_uid_is_its_own_name() -> None:
    assert uids.name_of("1.2.3.4.5") == "1.2.3.4.5"
