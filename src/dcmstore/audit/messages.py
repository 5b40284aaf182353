"""facts -> audit messages: XML by the schema of PS3.15 A.5.1, each on one line. Pure.

What a sender wrote stands in a message only escaped, cut to a length, and without characters that XML forbids or
that would break the line: U+FFFD is in their place.
"""

import base64
import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum
from typing import NamedTuple

from dcmstore.storage import text

MAX_TEXT = 256  # characters of one value; the longest that the standard allows, a name with its forms, is under 200
MAX_MESSAGE = 7_500  # bytes; syslog servers take 8192 as a rule, of which the header needs some (RFC 5425 4.3.1)
SOP_CLASSES_AT_ONCE = 30  # of one study in one message; there are hardly 10
NONE = "<none>"  # in place of an ID that the object does not have: the schema asks for one

# XML 1.0 2.2 allows neither controls nor surrogates; line separators are for programs that cut text into lines.
_FORBIDDEN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


class Action(Enum):
    """EventActionCode. A.5.3.7 says what create, read and update mean for instances that were received."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    EXECUTE = "E"


class Indicator(IntEnum):
    """EventOutcomeIndicator."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


class _Code(NamedTuple):
    value: str
    scheme: str
    meaning: str


# PS3.16 CID 400 to 404
_APPLICATION_ACTIVITY = _Code("110100", "DCM", "Application Activity")
_APPLICATION_START = _Code("110120", "DCM", "Application Start")
_APPLICATION_STOP = _Code("110121", "DCM", "Application Stop")
_INSTANCES_TRANSFERRED = _Code("110104", "DCM", "DICOM Instances Transferred")
_SECURITY_ALERT = _Code("110113", "DCM", "Security Alert")
_NODE_AUTHENTICATION = _Code("110126", "DCM", "Node Authentication")
_APPLICATION = _Code("110150", "DCM", "Application")
_DESTINATION = _Code("110152", "DCM", "Destination Role ID")
_SOURCE = _Code("110153", "DCM", "Source Role ID")
_STUDY_INSTANCE_UID = _Code("110180", "DCM", "Study Instance UID")
_NODE_ID = _Code("110182", "DCM", "Node ID")
_PATIENT_NUMBER = _Code("2", "RFC-3881", "Patient Number")


@dataclass(frozen=True, slots=True)
class Reporter:
    """This receiver: its AE title, the name of its machine, and its process, by which the system's logs know it."""

    ae_title: str
    host: str
    process_id: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A sender: its address without a port, its AE title if it has told one, and the user whom it named, if any."""

    address: str
    calling_ae_title: str = ""
    user: str = ""


class Transferred(NamedTuple):
    """What instances have in common that are counted together. Values of the header are raw."""

    action: Action
    indicator: Indicator
    reason: str
    specific_character_set: bytes
    patient_id: bytes
    patient_name: bytes
    study_instance_uid: bytes
    sop_class_uid: str


_Patient = tuple[Action, Indicator, str, bytes, bytes, bytes]  # what one message is about; the front of Transferred


@dataclass(frozen=True, slots=True)
class Message:
    """An audit message. `moment` bears its time zone; `xml` has neither declaration nor line end."""

    reporter: Reporter
    moment: datetime
    indicator: Indicator
    xml: str


def application_started(reporter: Reporter, moment: datetime) -> Message:
    return _application_activity(reporter, moment, _APPLICATION_START, Indicator.SUCCESS)


def application_stopped(reporter: Reporter, moment: datetime, *, has_fault: bool = False) -> Message:
    """`has_fault` tells of an end that nobody asked for: the receiver is not available any more."""
    indicator = Indicator.MAJOR_FAILURE if has_fault else Indicator.SUCCESS
    return _application_activity(reporter, moment, _APPLICATION_STOP, indicator)


def instances_transferred(
    reporter: Reporter, moment: datetime, peer: Peer, counts: Mapping[Transferred, int]
) -> list[Message]:
    """What came over one association: a message for each patient, action and outcome (A.5.3.7, A.5.2).

    What has more studies than MAX_MESSAGE holds is spread over several; the numbers of instances add up.
    """
    patients: dict[_Patient, dict[str, Counter[str]]] = {}
    for kind, number in counts.items():
        studies = patients.setdefault(kind[:6], {})
        study = text.decode(kind.study_instance_uid, b"") or NONE
        studies.setdefault(study, Counter())[kind.sop_class_uid or NONE] += number
    return [
        message
        for patient, studies in patients.items()
        for message in _messages_of_patient(reporter, moment, peer, patient, studies)
    ]


def security_alert(reporter: Reporter, moment: datetime, peer: Peer, reason: str, times: int = 1) -> Message:
    """A sender was refused; `times` is how often since this was last told."""
    # RFC 3881 5.1.4 calls the first wrong password a minor failure, and an excess of them a serious one.
    indicator = Indicator.MINOR_FAILURE if times == 1 else Indicator.SERIOUS_FAILURE
    description = reason if times == 1 else f"{reason} ({times} times)"
    node = _object(
        _NODE_ID,
        peer.address,
        peer.calling_ae_title or peer.address,
        _element("ParticipantObjectDetail", {"type": "Alert Description", "value": _base64(description)}),
        type_code="2",  # a system object
        role="13",  # a security resource
    )
    parts = (_us(reporter), _sender(peer, is_requestor=False), _source_of(reporter), node)
    event = _event(_SECURITY_ALERT, Action.EXECUTE, moment, indicator, _NODE_AUTHENTICATION, description)
    return _message(reporter, moment, indicator, (event, *parts))


# --- messages of their parts ----------------------------------------------------------------------


def _application_activity(reporter: Reporter, moment: datetime, kind: _Code, indicator: Indicator) -> Message:
    event = _event(_APPLICATION_ACTIVITY, Action.EXECUTE, moment, indicator, kind)
    return _message(reporter, moment, indicator, (event, _us(reporter, _APPLICATION), _source_of(reporter)))


def _messages_of_patient(
    reporter: Reporter, moment: datetime, peer: Peer, patient: _Patient, studies: Mapping[str, Mapping[str, int]]
) -> Iterator[Message]:
    action, indicator, reason, character_set, patient_id, patient_name = patient
    head = (
        _event(_INSTANCES_TRANSFERRED, action, moment, indicator, description=reason),
        _sender(peer, is_requestor=True, role=_SOURCE),
        _us(reporter, _DESTINATION),
        _source_of(reporter),
    )
    person = _object(
        _PATIENT_NUMBER,
        text.decode(patient_id, character_set) or NONE,
        text.decode(patient_name, character_set) or NONE,
        type_code="1",  # a person
        role="1",  # the patient
    )
    elements = [_study(uid, part) for uid, sop_classes in studies.items() for part in _parts_of(sop_classes)]
    for some in _packed(elements, MAX_MESSAGE - _size((*head, person))):
        yield _message(reporter, moment, indicator, (*head, *some, person))


def _parts_of(sop_classes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    items = list(sop_classes.items())
    for start in range(0, len(items), SOP_CLASSES_AT_ONCE):
        yield dict(items[start : start + SOP_CLASSES_AT_ONCE])


def _packed(elements: Sequence[str], room: int) -> Iterator[list[str]]:
    """Elements in their order, as many at once as there is room for in bytes, at least one."""
    some: list[str] = []
    for element in elements:
        if some and _size((*some, element)) > room:
            yield some
            some = []
        some.append(element)
    yield some


def _size(parts: Sequence[str]) -> int:
    return sum(len(part.encode()) for part in parts)


# --- parts of a message, in the order of the schema -----------------------------------------------


def _message(reporter: Reporter, moment: datetime, indicator: Indicator, parts: Sequence[str]) -> Message:
    return Message(reporter, moment, indicator, _element("AuditMessage", {}, *parts))


def _event(
    event: _Code,
    action: Action,
    moment: datetime,
    indicator: Indicator,
    kind: _Code | None = None,
    description: str = "",
) -> str:
    attributes = {
        "EventActionCode": action.value,
        "EventDateTime": moment.isoformat(timespec="milliseconds"),
        "EventOutcomeIndicator": str(int(indicator)),
    }
    parts = [_code("EventID", event)]
    if kind is not None:
        parts.append(_code("EventTypeCode", kind))
    if description:
        parts.append(_text("EventOutcomeDescription", description))
    return _element("EventIdentification", attributes, *parts)


def _us(reporter: Reporter, role: _Code | None = None) -> str:
    """A host name, for a machine with several addresses has to be called by one name always (A.5.2.4)."""
    attributes = {
        "UserID": str(reporter.process_id),
        "AlternativeUserID": _ae_titles(reporter.ae_title),
        "UserName": "dcmstore",
        "UserIsRequestor": "false",
        "NetworkAccessPointID": reporter.host,
        "NetworkAccessPointTypeCode": "1",  # a machine name
    }
    return _participant(attributes, role)


def _sender(peer: Peer, *, is_requestor: bool, role: _Code | None = None) -> str:
    """Called by its AE title, by which the log knows it too (A.5.2.1)."""
    attributes = {"UserID": peer.calling_ae_title or peer.address}
    if peer.calling_ae_title:
        attributes["AlternativeUserID"] = _ae_titles(peer.calling_ae_title)
    if peer.user:
        attributes["UserName"] = peer.user
    attributes |= {
        "UserIsRequestor": "true" if is_requestor else "false",
        "NetworkAccessPointID": peer.address,
        "NetworkAccessPointTypeCode": "2",  # an IP address
    }
    return _participant(attributes, role)


def _participant(attributes: Mapping[str, str], role: _Code | None) -> str:
    return _element("ActiveParticipant", attributes, *([_code("RoleIDCode", role)] if role is not None else ()))


def _source_of(reporter: Reporter) -> str:
    """An AE title alone may be that of several receivers in a hospital."""
    kind = _element("AuditSourceTypeCode", {"csd-code": "4"})  # an application server
    return _element("AuditSourceIdentification", {"AuditSourceID": f"{reporter.ae_title}@{reporter.host}"}, kind)


def _study(uid: str, sop_classes: Mapping[str, int]) -> str:
    counts = [
        _element("SOPClass", {"UID": sop_class, "NumberOfInstances": str(number)})
        for sop_class, number in sop_classes.items()
    ]
    description = _element("ParticipantObjectDescription", {}, *counts)
    # The schema wants a name too, and a study has none.
    return _object(_STUDY_INSTANCE_UID, uid, uid, description, type_code="2", role="3")  # a system object, a report


def _object(kind: _Code, identifier: str, name: str, *details: str, type_code: str, role: str) -> str:
    attributes = {
        "ParticipantObjectID": identifier,
        "ParticipantObjectTypeCode": type_code,
        "ParticipantObjectTypeCodeRole": role,
    }
    parts = (_code("ParticipantObjectIDTypeCode", kind), _text("ParticipantObjectName", name), *details)
    return _element("ParticipantObjectIdentification", attributes, *parts)


def _code(name: str, code: _Code) -> str:
    attributes = {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning}
    return _element(name, attributes)


def _ae_titles(*ae_titles: str) -> str:
    """A.5.2.2"""
    return f"AETITLES={';'.join(ae_titles)}"


def _base64(value: str) -> str:
    """What can't break XML, whatever it is: not cleaned, and cut before it is encoded, so that it stays whole."""
    start = value.encode("utf-8", "backslashreplace")[: MAX_TEXT // 4 * 3].decode("utf-8", "ignore")
    return base64.b64encode(start.encode("utf-8")).decode("ascii")


# --- XML ------------------------------------------------------------------------------------------


def _element(name: str, attributes: Mapping[str, str], *children: str) -> str:
    shown = "".join(f' {key}="{_escaped(value)}"' for key, value in attributes.items())
    return f"<{name}{shown}>{''.join(children)}</{name}>" if children else f"<{name}{shown}/>"


def _text(name: str, value: str) -> str:
    return f"<{name}>{_escaped(value)}</{name}>"


def _escaped(value: str) -> str:
    cut = value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    return html.escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", cut))
