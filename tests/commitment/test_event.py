"""A report as it is sent is what pydicom and pynetdicom read."""

from io import BytesIO

import pytest
from pynetdicom.dsutils import decode

from dcmstore import commitment
from dcmstore.commitment import event
from dcmstore.commitment.action import Reference
from dcmstore.commitment.event import FailureReason, Report
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField
from tests.commitment.support import EXPLICIT, IMPLICIT, TRANSACTION, ct
from tests.support import CT, MR

FAILED = ((Reference(MR, "1.2.33"), FailureReason.NO_SUCH_OBJECT_INSTANCE),)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_report_of_failures_has_both_sequences(syntax: str) -> None:
    report = Report(TRANSACTION, ct("1.2.1", "1.2.22"), FAILED)
    read = decode(BytesIO(event.encode(report, syntax)), syntax == IMPLICIT, True)
    assert [one.keyword for one in read] == ["TransactionUID", "FailedSOPSequence", "ReferencedSOPSequence"]
    assert read.TransactionUID == TRANSACTION
    references = [(one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in read.ReferencedSOPSequence]
    assert references == [(CT, "1.2.1"), (CT, "1.2.22")]
    (failed,) = read.FailedSOPSequence
    assert (failed.ReferencedSOPClassUID, failed.ReferencedSOPInstanceUID) == (MR, "1.2.33")
    assert failed.FailureReason == 0x0112
    assert event.request(report, 3).event_type_id == 2


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_report_without_failures_names_none(syntax: str) -> None:
    report = Report(TRANSACTION, ct("1.2.1"))
    read = decode(BytesIO(event.encode(report, syntax)), syntax == IMPLICIT, True)
    assert [one.keyword for one in read] == ["TransactionUID", "ReferencedSOPSequence"]
    assert event.request(report, 3).event_type_id == 1


def test_a_report_in_which_all_failed_has_no_referenced_sequence() -> None:
    read = decode(BytesIO(event.encode(Report(TRANSACTION, (), FAILED), EXPLICIT)), False, True)
    assert [one.keyword for one in read] == ["TransactionUID", "FailedSOPSequence"]


def test_the_request_names_the_well_known_instance() -> None:
    request = command.decode(command.encode(event.request(Report(TRANSACTION, ct("1.2.1")), 9)))
    assert request.command_field == CommandField.N_EVENT_REPORT_RQ
    assert (request.affected_sop_class_uid, request.affected_sop_instance_uid) == (
        commitment.SOP_CLASS, commitment.SOP_INSTANCE
    )  # fmt: skip
    assert (request.message_id, request.has_data_set) == (9, True)
