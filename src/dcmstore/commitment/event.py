"""what was found -> bytes: command set and data set of an N-EVENT-REPORT-RQ (PS3.4 tables J.3-2 and J.3-3)."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from dcmstore import commitment, uids
from dcmstore.commitment.action import (
    REFERENCED_SOP_CLASS_UID,
    REFERENCED_SOP_INSTANCE_UID,
    REFERENCED_SOP_SEQUENCE,
    TRANSACTION_UID,
    Reference,
)
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet

FAILED_SOP_SEQUENCE = 0x0008_1198
FAILURE_REASON = 0x0008_1197
_ITEM = 0xFFFE_E000

ALL_KEPT, FAILURES_EXIST = 1, 2  # Event Type IDs

_IMPLICIT = struct.Struct("<HHI")
_EXPLICIT_SHORT = struct.Struct("<HH2sH")
_EXPLICIT_LONG = struct.Struct("<HH2sxxI")


class FailureReason(IntEnum):
    """Why an instance is not committed (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110  # its file is not as it was, or can't be read
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119  # it is here with another SOP class
    REFERENCED_SOP_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131  # it stands for another request that is under way
    RESOURCE_LIMITATION = 0x0213  # it could not be synced


@dataclass(frozen=True, slots=True)
class Report:
    """What is kept for good, and what is not, of one transaction.

    Retrieve AE Title (0008,0054), which is optional, is left out: nobody can retrieve from here.
    """

    transaction_uid: str
    kept: tuple[Reference, ...]
    failed: tuple[tuple[Reference, FailureReason], ...] = field(default=())

    @property
    def event_type_id(self) -> int:
        return FAILURES_EXIST if self.failed else ALL_KEPT


def request(report: Report, message_id: int) -> CommandSet:
    """PS3.7 table 10.3-1."""
    return CommandSet(
        CommandField.N_EVENT_REPORT_RQ,
        message_id=message_id,
        affected_sop_class_uid=commitment.SOP_CLASS,
        affected_sop_instance_uid=commitment.SOP_INSTANCE,
        command_data_set_type=command.WITH_DATA_SET,
        event_type_id=report.event_type_id,
    )


def encode(report: Report, transfer_syntax: str) -> bytes:
    """The data set, in Implicit or Explicit VR Little Endian."""
    writer = _Writer(is_explicit=transfer_syntax != uids.IMPLICIT_VR_LITTLE_ENDIAN)
    encoded = writer.text(TRANSACTION_UID, b"UI", report.transaction_uid, b"\0")
    if report.failed:
        items = (writer.reference(reference) + writer.reason(reason) for reference, reason in report.failed)
        encoded += writer.sequence(FAILED_SOP_SEQUENCE, items)
    if report.kept:
        encoded += writer.sequence(REFERENCED_SOP_SEQUENCE, map(writer.reference, report.kept))
    return encoded


class _Writer:
    def __init__(self, *, is_explicit: bool) -> None:
        self._is_explicit = is_explicit

    def text(self, tag: int, vr: bytes, value: str, padding: bytes) -> bytes:
        raw = value.encode("latin-1")
        return self._element(tag, vr, raw + padding * (len(raw) % 2))

    def reference(self, reference: Reference) -> bytes:
        return self.text(REFERENCED_SOP_CLASS_UID, b"UI", reference.sop_class_uid, b"\0") + self.text(
            REFERENCED_SOP_INSTANCE_UID, b"UI", reference.sop_instance_uid, b"\0"
        )

    def reason(self, reason: FailureReason) -> bytes:
        return self._element(FAILURE_REASON, b"US", struct.pack("<H", reason))

    def sequence(self, tag: int, items: Iterable[bytes]) -> bytes:
        value = b"".join(_IMPLICIT.pack(_ITEM >> 16, _ITEM & 0xFFFF, len(item)) + item for item in items)
        if not self._is_explicit:
            return self._element(tag, b"SQ", value)
        return _EXPLICIT_LONG.pack(tag >> 16, tag & 0xFFFF, b"SQ", len(value)) + value

    def _element(self, tag: int, vr: bytes, value: bytes) -> bytes:
        if self._is_explicit:
            return _EXPLICIT_SHORT.pack(tag >> 16, tag & 0xFFFF, vr, len(value)) + value
        return _IMPLICIT.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
