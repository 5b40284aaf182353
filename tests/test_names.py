"""Names for files by number, and names that a DICOM file-set can hold (PS3.10 8.2)."""

import re
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore.storage import names
from dcmstore.storage.names import NO_STUDY_ID

CONFORMANT = re.compile(r"[A-Z0-9_]{1,8}")


def media(value: str) -> str:
    return names.media_folder_name(value.encode(), b"ISO_IR 192", NO_STUDY_ID)


@pytest.mark.parametrize("value", ["1", "301", "ABC_12", "ABCDEFGH", "0"])
def test_a_conformant_value_names_its_folder_as_it_is(value: str) -> None:
    assert media(value) == value


@pytest.mark.parametrize(
    "value", ["abc", "A B", "A-1", "ABCDEFGHI", "CON", "COM1", "DICOMDIR", "NOSTUDY", "AB_ABCDE", "Ä", "../x", "~", "²"]
)
def test_any_other_value_gets_a_name_with_a_suffix(value: str) -> None:
    assert re.fullmatch(r"[A-Z0-9]{0,2}_[A-Z2-7]{5}", media(value))


def test_no_value_gets_the_placeholder() -> None:
    assert media("  ") == "NOSTUDY"


@given(st.text())
def test_every_media_name_is_conformant(value: str) -> None:
    raw = value.encode("utf-8", "replace")
    assert CONFORMANT.fullmatch(names.media_folder_name(raw, b"ISO_IR 192", NO_STUDY_ID))


@given(st.lists(st.text(max_size=12), min_size=2, max_size=6, unique=True))
def test_different_values_of_a_patient_get_different_names(values: list[str]) -> None:
    decoded = {names.text.decode(value.encode("utf-8", "replace"), b"ISO_IR 192") for value in values}
    assert len({media(value) for value in decoded}) == len(decoded)


@pytest.mark.parametrize(
    ("modality", "number", "name"),
    [
        (b"CT", b"5", "CT_00005"),
        (b"MR", b"+0012 ", "MR_00012"),
        (b"US", b"0", "US_00000"),
        (b"CT", b"12345", "CT_12345"),
        (b"CT", b"123456", "CT123456"),
        (b"SEG", b"7", "SEG_0007"),
        (b"RTSTRUCT", b"7", "RTST_007"),
        (b"RTSTRUCT", b"1234", "RTS_1234"),
        (b"", b"7", "IM_00007"),
        (b"sr", b"7", "SR_00007"),
        (b"C/T", b"7", "CT_00007"),
    ],
)
def test_a_file_is_named_by_modality_and_number(modality: bytes, number: bytes, name: str) -> None:
    assert names.index_name_of(modality, number, "1.2.3") == name


@pytest.mark.parametrize("number", [b"", b"  ", b"-1", b"1.5", b"1234567", b"x", "٣".encode()])
def test_without_a_number_that_fits_the_uid_names_the_file(number: bytes) -> None:
    name = names.index_name_of(b"CT", number, "1.2.3")
    assert re.fullmatch("CT[A-Z2-7]{6}", name)
    assert name != names.index_name_of(b"CT", number, "1.2.4")


@given(st.binary(max_size=20), st.binary(max_size=14), st.integers(2, 99_999))
def test_every_file_name_by_number_is_conformant_and_so_are_its_numbered_ones(
    modality: bytes, instance_number: bytes, number: int
) -> None:
    name = names.index_name_of(modality, instance_number, "1.2.3")
    assert CONFORMANT.fullmatch(name)
    assert CONFORMANT.fullmatch(names.numbered(name, number))
    assert names.numbered(name, number) != names.numbered(name, number + 1)


def test_a_numbered_name_says_so() -> None:
    assert names.numbered("CT_00012", 2) == "CT_12_2"
    assert names.numbered("CT123456", 2) == "CT1234_2"
    assert names.numbered("CT_00000", 12) == "CT_0_12"
    assert names.numbered("1.2.3.dcm", 2) == "1.2.3 (2).dcm"


def test_values_that_differ_in_case_only_have_names_that_do_too() -> None:
    folders = [names.folder_name(value, b"", NO_STUDY_ID) for value in (b"Doe^Jane", b"DOE^JANE")]
    assert folders == ["Doe^Jane", "DOE^JANE"]


@pytest.mark.parametrize("name_of", [names.folder_name, names.media_folder_name])
def test_the_names_that_are_remembered_stay_under_2_mb(name_of: Callable[..., str]) -> None:
    """However long the values of a peer are: MAX_VALUE lets 16 kB each pass."""
    tracemalloc.start()
    try:
        for number in range(names.CACHED_NAMES):
            name_of(b"%d\xff" % number * 2000, b"ISO_IR 192", NO_STUDY_ID)
            name_of(b"%d" % number, b"\\" * 10_000 + b"%d" % number, NO_STUDY_ID)
        held_of_long_ones = tracemalloc.get_traced_memory()[0]
        for number in range(2 * names.CACHED_NAMES):
            name_of("Ä語%d".encode() % number + b"x" * 104, b"ISO_IR 192", NO_STUDY_ID)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held_of_long_ones < 100_000
    assert held < 1_000_000  # and twice that for the two kinds
