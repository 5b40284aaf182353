"""The data set of a request: whole, cut, malformed in every way, and what pydicom writes."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dcmstore.commitment import action
from dcmstore.commitment.action import MAX_ACTION_INFORMATION, MAX_NESTING, Action, Invalid, Reference, Unreadable
from tests.commitment.support import EXPLICIT, IMPLICIT, TRANSACTION, ct, element, item, reference
from tests.commitment.support import action as encoded
from tests.support import CT, MR

VALUE = Action(TRANSACTION, ct("1.2.1", "1.2.22"))
uids = st.from_regex(r"[1-9][0-9]{0,9}(\.[1-9][0-9]{0,9}){1,4}", fullmatch=True)
each_syntax = pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])


def written(data_set: Dataset, syntax: str, *, undefined: bool) -> bytes:
    """What pydicom makes of it, with lengths or with delimitations."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, syntax == IMPLICIT
    for sequence in (one for one in data_set if one.VR == "SQ"):
        sequence.is_undefined_length = undefined
        for one in sequence.value:
            one.is_undefined_length_sequence_item = undefined
    write_dataset(buffer, data_set)
    return buffer.getvalue()


@given(
    transaction=uids,
    references=st.lists(st.tuples(uids, uids), min_size=1, max_size=8),
    syntax=st.sampled_from([EXPLICIT, IMPLICIT]),
    undefined=st.booleans(),
)
def test_what_pydicom_writes_is_read(
    transaction: str, references: list[tuple[str, str]], syntax: str, undefined: bool
) -> None:
    data_set = Dataset()
    data_set.TransactionUID = transaction
    data_set.StudyComments = "something else"
    data_set.RequestAttributesSequence = [Dataset()]
    data_set.RequestAttributesSequence[0].ReferencedSOPSequence = [Dataset()]
    data_set.ReferencedSOPSequence = []
    for sop_class, instance in references:
        one = Dataset()
        one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = sop_class, instance
        data_set.ReferencedSOPSequence.append(one)
    read = action.decode(written(data_set, syntax, undefined=undefined), syntax)
    assert read == Action(transaction, tuple(Reference(*pair) for pair in references))


@pytest.mark.parametrize("explicit", [True, False])
def test_a_request_cut_anywhere_is_refused(explicit: bool) -> None:
    whole = encoded("1.2.1", "1.2.22", explicit=explicit)
    syntax = EXPLICIT if explicit else IMPLICIT
    assert action.decode(whole, syntax) == VALUE
    for size in range(len(whole)):
        with pytest.raises((Unreadable, Invalid)):
            action.decode(whole[:size], syntax)


@each_syntax
@given(data=st.binary(max_size=300))
def test_any_bytes_give_a_request_or_a_reason(syntax: str, data: bytes) -> None:
    try:
        action.decode(data, syntax)
    except (Unreadable, Invalid) as error:
        assert 0 < len(str(error)) <= 64


@given(explicit=st.booleans(), position=st.integers(0, 200), value=st.integers(0, 255))
def test_any_byte_changed_gives_a_request_or_a_reason(explicit: bool, position: int, value: int) -> None:
    changed = bytearray(encoded("1.2.1", "1.2.22", explicit=explicit))
    changed[position % len(changed)] = value
    try:
        action.decode(bytes(changed), EXPLICIT if explicit else IMPLICIT)
    except (Unreadable, Invalid) as error:
        assert 0 < len(str(error)) <= 64


TRANSACTION_ELEMENT = element(0x0008_1195, "UI", b"1.2.3")


@pytest.mark.parametrize(
    ("data_set", "reason"),
    [
        (b"", "no item in Referenced SOP Sequence (0008,1199)"),
        (TRANSACTION_ELEMENT, "no item in Referenced SOP Sequence (0008,1199)"),
        (TRANSACTION_ELEMENT + element(0x0008_1199, "SQ", b""), "no item in Referenced SOP Sequence (0008,1199)"),
        (element(0x0008_1199, "SQ", reference("1.2.1")), "no Transaction UID (0008,1195)"),
        (encoded("1.2.1", transaction="1.2.x"), "Transaction UID (0008,1195) is not 1 to 64 digits and dots"),
        (encoded("1.2.1", transaction="1." * 32 + "1"), "Transaction UID (0008,1195) is not 1 to 64 digits and dots"),
        (encoded(""), "Referenced SOP Instance UID is not 1 to 64 digits and dots"),
        (encoded("1.2.1", sop_class="CT"), "Referenced SOP Class UID is not 1 to 64 digits and dots"),
        (TRANSACTION_ELEMENT + element(0x0008_1199, "SQ", item()), "no Referenced SOP Class UID"),
    ],
)  # fmt: skip
def test_what_says_too_little_is_invalid(data_set: bytes, reason: str) -> None:
    with pytest.raises(Invalid, match="^" + reason.replace("(", r"\(").replace(")", r"\)") + "$"):
        action.decode(data_set, EXPLICIT)


def test_sequences_are_read_so_deep_and_no_deeper() -> None:
    def nested(depth: int) -> bytes:
        opened = (b"\x08\x00\x11\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * depth
        return opened + (b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)) * depth

    assert action.decode(nested(MAX_NESTING) + encoded("1.2.1", "1.2.22"), EXPLICIT) == VALUE
    for depth in (MAX_NESTING + 1, 10_000):
        with pytest.raises(Unreadable, match="nested"):
            action.decode(nested(depth) + encoded("1.2.1"), EXPLICIT)


def test_an_unknown_sequence_of_undefined_length_holds_implicit_vr() -> None:
    unknown = b"\x08\x00\x00\x11UN\0\0\xff\xff\xff\xff" + item(element(0x0008_1150, "UI", b"1.2", explicit=False))
    unknown += b"\xfe\xff\xdd\xe0" + bytes(4)
    assert action.decode(unknown + encoded("1.2.1", "1.2.22"), EXPLICIT) == VALUE


def test_padding_of_spaces_is_no_part_of_a_uid() -> None:
    data_set = element(0x0008_1195, "UI", b"1.2.3 ") + element(0x0008_1199, "SQ", reference("1.2.1 ", f"{MR} "))
    assert action.decode(data_set, EXPLICIT) == Action("1.2.3", (Reference(MR, "1.2.1"),))


def test_100_000_of_the_longest_uids_fit() -> None:
    longest = len(reference("1" * 64, "2" * 64)) + 8  # with the delimitation of an item of undefined length
    assert 100_000 * longest + 200 < MAX_ACTION_INFORMATION
    many = BytesIO()
    many.writelines(reference(f"2.25.1{number:058d}", CT) for number in range(100_000))
    whole = element(0x0008_1195, "UI", TRANSACTION.encode()) + element(0x0008_1199, "SQ", many.getvalue())
    read = action.decode(whole, EXPLICIT)
    assert len(read.references) == 100_000
    assert read.references[-1] == Reference(CT, f"2.25.1{99_999:058d}")
