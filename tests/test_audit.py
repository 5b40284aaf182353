"""The audit trail: messages by the schema of PS3.15 A.5.1, delivered as RFC 5424 to 5426 say, in nobody's way."""

import base64
import contextlib
import io
import re
import socket
import ssl
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from queue import SimpleQueue

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from dcmstore.audit import messages, sinks, syslog, trail
from dcmstore.audit.messages import Action, Indicator, Message, Peer, Reporter, Transferred
from dcmstore.audit.sinks import AuditFile, Syslog
from dcmstore.audit.syslog import THIS_SYSTEM, Destination
from dcmstore.audit.trail import Trail
from dcmstore.audit.transfers import MAX_KINDS, Transfers
from dcmstore.errors import ConfigurationError
from dcmstore.logs import Log, StreamSink
from dcmstore.storage import header
from tests.certificates import Authority
from tests.support import CT, MR

SCHEMA = etree.RelaxNG(file=str(Path(__file__).with_name("audit-message.rng")))
REPORTER = Reporter("DCMSTORE", "pc-7.example", 4711)
PEER = Peer("192.0.2.10", "CT1")
MOMENT = datetime(2026, 3, 4, 5, 6, 7, 89_000, timezone(timedelta(hours=1)))

# --- messages -------------------------------------------------------------------------------------


def kind(
    patient_id: bytes = b"PAT1",
    study: bytes = b"1.2.3",
    sop_class: str = CT,
    action: Action = Action.CREATE,
    indicator: Indicator = Indicator.SUCCESS,
    reason: str = "",
    name: bytes = b"Doe^Jane",
    character_set: bytes = b"",
) -> Transferred:
    return Transferred(action, indicator, reason, character_set, patient_id, name, study, sop_class)


def transferred(*kinds: Transferred) -> list[etree._Element]:
    """The messages of an association that brought one instance of each kind."""
    made = messages.instances_transferred(REPORTER, MOMENT, PEER, Counter(kinds))
    return [parsed(message) for message in made]


def parsed(message: Message) -> etree._Element:
    """A message as XML; it is valid and stands on one line, or the test fails here."""
    assert message.xml.splitlines() == [message.xml]
    element = etree.fromstring(message.xml)
    SCHEMA.assertValid(element)
    return element


def codes(message: etree._Element, path: str) -> list[tuple[str, str, str]]:
    return [(e.get("csd-code"), e.get("codeSystemName"), e.get("originalText")) for e in message.iterfind(path)]


def ids_of(message: etree._Element, kind_of_object: str) -> list[str]:
    """The IDs of the participant objects of that type, by the code of their ID."""
    return [
        found.get("ParticipantObjectID")
        for found in message.iterfind("ParticipantObjectIdentification")
        if found.find("ParticipantObjectIDTypeCode").get("csd-code") == kind_of_object
    ]


STUDY, PATIENT, NODE = "110180", "2", "110182"


def test_a_start_and_a_stop_are_application_activity() -> None:
    start = parsed(messages.application_started(REPORTER, MOMENT))
    stop = parsed(messages.application_stopped(REPORTER, MOMENT))
    for message, code, meaning in ((start, "110120", "Application Start"), (stop, "110121", "Application Stop")):
        assert codes(message, "EventIdentification/EventID") == [("110100", "DCM", "Application Activity")]
        assert codes(message, "EventIdentification/EventTypeCode") == [(code, "DCM", meaning)]
        assert dict(message[0].attrib) == {
            "EventActionCode": "E",
            "EventDateTime": "2026-03-04T05:06:07.089+01:00",
            "EventOutcomeIndicator": "0",
        }
        assert codes(message, "ActiveParticipant/RoleIDCode") == [("110150", "DCM", "Application")]
        assert dict(message.find("ActiveParticipant").attrib) == {
            "UserID": "4711",
            "AlternativeUserID": "AETITLES=DCMSTORE",
            "UserName": "dcmstore",
            "UserIsRequestor": "false",
            "NetworkAccessPointID": "pc-7.example",
            "NetworkAccessPointTypeCode": "1",
        }
        assert message.find("AuditSourceIdentification").get("AuditSourceID") == "DCMSTORE@pc-7.example"


def test_an_end_that_nobody_asked_for_is_a_major_failure() -> None:
    message = parsed(messages.application_stopped(REPORTER, MOMENT, has_fault=True))
    assert message[0].get("EventOutcomeIndicator") == "12"


def test_a_transfer_names_source_destination_study_and_patient() -> None:
    (message,) = transferred(kind(), kind(sop_class=MR))
    assert codes(message, "EventIdentification/EventID") == [("110104", "DCM", "DICOM Instances Transferred")]
    source, destination = message.findall("ActiveParticipant")
    assert codes(source, "RoleIDCode") == [("110153", "DCM", "Source Role ID")]
    assert dict(source.attrib) == {
        "UserID": "CT1",
        "AlternativeUserID": "AETITLES=CT1",
        "UserIsRequestor": "true",
        "NetworkAccessPointID": "192.0.2.10",
        "NetworkAccessPointTypeCode": "2",
    }
    assert codes(destination, "RoleIDCode") == [("110152", "DCM", "Destination Role ID")]
    assert (destination.get("UserID"), destination.get("UserIsRequestor")) == ("4711", "false")
    study, patient = message.findall("ParticipantObjectIdentification")
    assert codes(study, "ParticipantObjectIDTypeCode") == [(STUDY, "DCM", "Study Instance UID")]
    assert study.get("ParticipantObjectID") == "1.2.3"
    assert (study.get("ParticipantObjectTypeCode"), study.get("ParticipantObjectTypeCodeRole")) == ("2", "3")
    counts = {c.get("UID"): c.get("NumberOfInstances") for c in study.iterfind("ParticipantObjectDescription/SOPClass")}
    assert counts == {CT: "1", MR: "1"}
    assert codes(patient, "ParticipantObjectIDTypeCode") == [(PATIENT, "RFC-3881", "Patient Number")]
    assert (patient.get("ParticipantObjectTypeCode"), patient.get("ParticipantObjectTypeCodeRole")) == ("1", "1")
    assert patient.get("ParticipantObjectID") == "PAT1"
    assert patient.findtext("ParticipantObjectName") == "Doe^Jane"


def test_the_user_whom_a_sender_names_is_the_source_s_user_name() -> None:
    (made,) = messages.instances_transferred(REPORTER, MOMENT, Peer("192.0.2.10", "CT1", "anna"), {kind(): 1})
    assert parsed(made).find("ActiveParticipant").get("UserName") == "anna"


def test_two_studies_of_a_patient_are_in_one_message_and_the_patient_once() -> None:
    (message,) = transferred(kind(study=b"1.2.3\0"), kind(study=b"1.2.4"), kind(study=b"1.2.3"))
    assert ids_of(message, STUDY) == ["1.2.3", "1.2.4"]
    assert [counted.get("NumberOfInstances") for counted in message.iterfind(".//SOPClass")] == ["2", "1"]
    assert ids_of(message, PATIENT) == ["PAT1"]


def test_a_message_is_about_one_patient() -> None:
    first, second = transferred(kind(), kind(patient_id=b"PAT2 "))
    assert (ids_of(first, PATIENT), ids_of(second, PATIENT)) == (["PAT1"], ["PAT2"])


def test_what_failed_is_told_apart_from_what_succeeded() -> None:
    good, bad = transferred(kind(), kind(indicator=Indicator.SERIOUS_FAILURE, reason="A700: IMG-DIR is full"))
    assert good[0].get("EventOutcomeIndicator") == "0"
    assert good[0].find("EventOutcomeDescription") is None
    assert bad[0].get("EventOutcomeIndicator") == "8"
    assert bad[0].findtext("EventOutcomeDescription") == "A700: IMG-DIR is full"


def test_new_known_and_replaced_instances_have_their_own_action_codes() -> None:
    told = transferred(*(kind(action=action) for action in (Action.CREATE, Action.READ, Action.UPDATE)))
    assert [message[0].get("EventActionCode") for message in told] == ["C", "R", "U"]


def test_ids_that_an_object_does_not_have_are_told_as_such() -> None:
    (message,) = transferred(kind(patient_id=b"", study=b" ", name=b""))
    assert (ids_of(message, PATIENT), ids_of(message, STUDY)) == (["<none>"], ["<none>"])


def test_a_name_is_decoded_by_its_character_set() -> None:
    name, patient_id = "Люкceмбypг", "ПАЦИЕНТ"
    encoded = kind(patient_id.encode("iso8859_5"), name=name.encode("iso8859_5"), character_set=b"ISO_IR 144")
    (message,) = transferred(encoded)
    assert ids_of(message, PATIENT) == [patient_id]
    assert message.findtext("ParticipantObjectIdentification[2]/ParticipantObjectName") == name


def test_many_studies_are_spread_over_messages_that_syslog_servers_take_whole() -> None:
    counts = {kind(study=b"1.2.826.0.1.3680043.8.%050d" % n, sop_class=c): n + 1 for n in range(100) for c in (CT, MR)}
    made = messages.instances_transferred(REPORTER, MOMENT, PEER, counts)
    assert len(made) > 5
    assert max(len(syslog.encode(message)) for message in made) <= 8192
    told = [c.get("NumberOfInstances") for m in made for c in parsed(m).iterfind(".//SOPClass")]
    assert sum(map(int, told)) == sum(counts.values())
    assert all(ids_of(parsed(message), PATIENT) == ["PAT1"] for message in made)


def test_a_study_of_very_many_sop_classes_is_spread_too() -> None:
    counts = {kind(sop_class=f"1.2.{n:060}"): 1 for n in range(200)}
    made = messages.instances_transferred(REPORTER, MOMENT, PEER, counts)
    assert max(len(syslog.encode(message)) for message in made) <= 8192
    assert sum(len(list(parsed(message).iterfind(".//SOPClass"))) for message in made) == 200


def test_a_refusal_is_a_security_alert_about_the_sender_s_node() -> None:
    message = parsed(messages.security_alert(REPORTER, MOMENT, PEER, "CT1 is not in allowed-ae"))
    assert codes(message, "EventIdentification/EventID") == [("110113", "DCM", "Security Alert")]
    assert codes(message, "EventIdentification/EventTypeCode") == [("110126", "DCM", "Node Authentication")]
    assert (message[0].get("EventActionCode"), message[0].get("EventOutcomeIndicator")) == ("E", "4")
    reporting, performing = message.findall("ActiveParticipant")
    assert (reporting.get("UserID"), performing.get("UserID")) == ("4711", "CT1")
    assert {p.get("UserIsRequestor") for p in (reporting, performing)} == {"false"}
    assert ids_of(message, NODE) == ["192.0.2.10"]
    detail = message.find("ParticipantObjectIdentification/ParticipantObjectDetail")
    assert detail.get("type") == "Alert Description"
    assert base64.b64decode(detail.get("value")) == b"CT1 is not in allowed-ae"


def test_refusals_that_repeat_are_a_serious_failure_and_counted() -> None:
    message = parsed(messages.security_alert(REPORTER, MOMENT, PEER, "wrong passcode", 17))
    assert message[0].get("EventOutcomeIndicator") == "8"
    assert message[0].findtext("EventOutcomeDescription") == "wrong passcode (17 times)"


def test_a_sender_that_was_refused_before_it_told_its_ae_title_is_known_by_its_address() -> None:
    alert = messages.security_alert(REPORTER, MOMENT, Peer("2001:db8::1"), "no certificate")
    performing = parsed(alert).findall("ActiveParticipant")[1]
    assert performing.get("UserID") == "2001:db8::1"
    assert performing.get("AlternativeUserID") is None


@given(st.binary(max_size=400), st.binary(max_size=400), st.binary(max_size=80), st.binary(max_size=40), st.text())
def test_whatever_a_sender_wrote_gives_valid_messages(
    patient_id: bytes, name: bytes, study: bytes, character_set: bytes, text: str
) -> None:
    hostile = kind(patient_id, study, text, reason=text, name=name, character_set=character_set)
    peer = Peer(text, text, text)
    for message in messages.instances_transferred(REPORTER, MOMENT, peer, {hostile: 3}):
        parsed(message)
        assert len(syslog.encode(message)) <= 32_768  # what A.6 has every system take
    parsed(messages.security_alert(Reporter(text, text, 1), MOMENT, peer, text))


@pytest.mark.parametrize("text", ["plain", "Größe", "a<b>&\"c'", "日本", "\N{GRINNING FACE}"])
def test_text_comes_back_from_a_message_as_it_was(text: str) -> None:
    (message,) = transferred(kind(patient_id=text.encode(), name=text.encode()))
    assert ids_of(message, PATIENT) == [text]
    assert message.findtext("ParticipantObjectIdentification[2]/ParticipantObjectName") == text


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\0", "\x1b", "\x85", "\u2028", "\ud800", "\uffff"])
def test_what_xml_forbids_or_breaks_a_line_is_replaced(character: str) -> None:
    alert = messages.security_alert(REPORTER, MOMENT, PEER, f"a{character}b")
    assert parsed(alert)[0].findtext("EventOutcomeDescription") == "a\N{REPLACEMENT CHARACTER}b"


def test_long_text_is_cut_and_shows_it() -> None:
    (message,) = transferred(kind(patient_id=b"x" * 5000))
    (patient_id,) = ids_of(message, PATIENT)
    assert patient_id == "x" * 255 + "…"


# --- syslog ---------------------------------------------------------------------------------------

STARTED = messages.application_started(REPORTER, MOMENT)
ALERT = messages.security_alert(REPORTER, MOMENT, PEER, "no")
HEAD = b"<85>1 2026-03-04T05:06:07.089+01:00 pc-7.example dcmstore 4711 DICOM+RFC3881 - "


def test_a_syslog_message_is_header_mark_of_utf8_and_document() -> None:
    document = b'<?xml version="1.0" encoding="UTF-8"?><AuditMessage>'
    assert syslog.encode(STARTED).startswith(HEAD + b"\xef\xbb\xbf" + document)


def test_a_failure_has_the_severity_of_a_warning() -> None:
    assert syslog.encode(ALERT).startswith(b"<84>1 ")


def test_a_message_to_this_system_has_the_form_that_its_log_takes() -> None:
    assert syslog.encode_local(STARTED).startswith(b"<85>dcmstore[4711]: <?xml ")


@pytest.mark.parametrize("name", ["", "two words", "größe", "a\nb"])
def test_a_host_name_that_a_header_can_not_hold_is_left_out(name: str) -> None:
    message = messages.application_started(Reporter("DCMSTORE", name, 1), MOMENT)
    assert syslog.encode(message).split(b" ")[2] == b"-"


def test_on_a_stream_the_length_stands_in_front() -> None:
    assert syslog.frame(b"<85>1 x") == b"7 <85>1 x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", THIS_SYSTEM),
        ("udp://logs.example", Destination("udp", "logs.example", 514)),
        ("tcp://192.0.2.1:601", Destination("tcp", "192.0.2.1", 601)),
        ("tls://logs", Destination("tls", "logs", 6514)),
        ("tls://[2001:db8::1]:7000/", Destination("tls", "2001:db8::1", 7000)),
    ],
)
def test_a_destination_is_read(text: str, expected: Destination) -> None:
    assert syslog.destination(text) == expected
    assert syslog.destination(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["logs", "http://logs", "udp://", "udp://logs:0", "udp://logs:70000", "tcp://a b", "tcp://1.2.3", "tls://:1"],
)
def test_what_is_no_destination_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        syslog.destination(text)


def test_a_datagram_is_a_message() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        with contextlib.closing(Syslog(Destination("udp", *server.getsockname()))) as sink:
            sink.deliver(STARTED)
            sink.deliver(ALERT)
        assert [server.recv(65_536) for _ in range(2)] == [syslog.encode(STARTED), syslog.encode(ALERT)]


@contextlib.contextmanager
def listening(address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[socket.socket]:
    with socket.create_server(address) as listener:
        listener.settimeout(10)
        yield listener


def accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(10)
    return connection


def frames(connection: socket.socket, number: int) -> list[bytes]:
    """So many messages of a stream, as RFC 5425 has a receiver read them."""
    read = []
    with connection.makefile("rb") as stream:
        for _ in range(number):
            digits = b""
            while not digits.endswith(b" "):
                digits += stream.read(1)
            read.append(stream.read(int(digits)))
    return read


def test_a_stream_carries_message_after_message() -> None:
    with (
        listening() as listener,
        contextlib.closing(Syslog(Destination("tcp", *listener.getsockname()))) as sink,
    ):
        sink.deliver(STARTED)
        sink.deliver(ALERT)
        with accept(listener) as connection:
            assert frames(connection, 2) == [syslog.encode(STARTED), syslog.encode(ALERT)]


def test_a_server_that_was_started_again_is_connected_to_again_and_nothing_is_lost() -> None:
    with (
        listening() as listener,
        contextlib.closing(Syslog(Destination("tcp", *listener.getsockname()))) as sink,
    ):
        sink.deliver(STARTED)
        with accept(listener) as connection:
            assert frames(connection, 1) == [syslog.encode(STARTED)]
            connection.shutdown(socket.SHUT_RDWR)
        sink.deliver(ALERT)
        with accept(listener) as connection:
            assert frames(connection, 1) == [syslog.encode(ALERT)]


class TlsServer:
    """A syslog server that speaks TLS, for one connection."""

    def __init__(self, folder: Path, authority: Authority, name: str) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*authority.issue("server", names=[name]).save(folder, "server"))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.destination = Destination("tls", *self._listener.getsockname())
        self.received: SimpleQueue[bytes | str] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "TlsServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with accept(self._listener) as plain:
            try:
                with self._context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False) as connection:
                    for message in frames(connection, 2):
                        self.received.put(message)
                    self.received.put(connection.recv(1))  # raises where the sender does not say that it closes
            except OSError:
                self.received.put("refused")


def context_that_trusts(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem.decode())


def test_tls_carries_the_same_to_a_server_whose_certificate_is_trusted(tmp_path: Path) -> None:
    authority = Authority()
    with TlsServer(tmp_path, authority, "127.0.0.1") as server:
        with contextlib.closing(Syslog(server.destination, lambda: context_that_trusts(authority))) as sink:
            sink.deliver(STARTED)
            sink.deliver(ALERT)
        assert [server.received.get() for _ in range(3)] == [syslog.encode(STARTED), syslog.encode(ALERT), b""]


@pytest.mark.parametrize("name", ["127.0.0.1", "192.0.2.99"])
def test_nothing_is_told_to_a_server_whose_certificate_is_not_trusted_or_not_its_own(tmp_path: Path, name: str) -> None:
    authority = Authority()
    trusted = Authority("Another CA") if name == "127.0.0.1" else authority
    with TlsServer(tmp_path, authority, name) as server:
        sink = Syslog(server.destination, lambda: context_that_trusts(trusted))
        with pytest.raises(ssl.SSLCertVerificationError):
            sink.deliver(STARTED)
        assert server.received.get() == "refused"


def test_without_more_the_authorities_of_the_system_count_and_old_versions_of_tls_do_not() -> None:
    context = sinks._default_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_windows_needs_a_server_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks.sys, "platform", "win32")
    with pytest.raises(ConfigurationError, match="name a server in audit-syslog"):
        Syslog(THIS_SYSTEM)


# --- the file -------------------------------------------------------------------------------------


def read_file(path: Path) -> list[etree._Element]:
    """Every message of a file."""
    return list(etree.fromstring(b"<trail>" + path.read_bytes() + b"</trail>"))


def test_the_file_has_a_message_a_line_and_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "DcmStore.audit"
    with contextlib.closing(AuditFile(path, 10_000_000, 9)) as sink:
        sink.deliver(STARTED)
        sink.deliver(ALERT)
    assert path.read_text("utf-8").splitlines() == [STARTED.xml, ALERT.xml]
    assert not stat.S_IMODE(path.stat().st_mode) & ~0o640


def test_the_example_in_the_documentation_finds_a_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    documented = (Path(__file__).parent.parent / "docs" / "audit.md").read_text("utf-8")
    example = documented.split("```python\n")[1].split("```")[0]
    counts = {kind(): 12, kind(sop_class=MR): 3, kind(study=b"1.2.4"): 1, kind(b"PAT2", study=b"1.2.5"): 7}
    with contextlib.closing(AuditFile(tmp_path / "DcmStore.audit", 10_000_000, 9)) as sink:
        for message in (STARTED, ALERT, *messages.instances_transferred(REPORTER, MOMENT, PEER, counts)):
            sink.deliver(message)
            torn = message.xml.encode()[:-30] + "ö".encode()[:1]
            sink._file.write((torn + b"\n").decode("utf-8", "surrogateescape"))  # as a full disk leaves it
    exec(example, {})
    when = "2026-03-04T05:06:07.089+01:00"
    assert capsys.readouterr().out.splitlines() == [f"{when} CT1 1.2.3 15", f"{when} CT1 1.2.4 1"]


def test_a_file_that_is_put_aside_is_followed_by_one_that_is_not_for_everybody_either(tmp_path: Path) -> None:
    path = tmp_path / "DcmStore.audit"
    with contextlib.closing(AuditFile(path, 2000, 9)) as sink:
        for _ in range(3):
            sink.deliver(ALERT)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    assert not any(stat.S_IMODE(file.stat().st_mode) & ~0o640 for file in files)


def test_a_line_that_a_power_cut_left_unfinished_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "DcmStore.audit"
    path.write_bytes(STARTED.xml.encode() + b"\n" + b"<AuditMess")
    with contextlib.closing(AuditFile(path, 10_000_000, 9)) as sink:
        sink.deliver(ALERT)
    assert path.read_text("utf-8").splitlines() == [STARTED.xml, "<AuditMess", ALERT.xml]


# --- the trail ------------------------------------------------------------------------------------


class Memory:
    """A sink that keeps messages, or has the faults it is told to have."""

    fault = ""

    def __init__(self, name: str = "memory", failures: int = 0) -> None:
        self.name = name
        self.failures = failures
        self.delivered: list[Message] = []
        self.changed = threading.Condition()
        self.is_closed = False

    def deliver(self, message: Message) -> None:
        with self.changed:
            self.failures -= 1
            self.changed.notify_all()
            if self.failures >= 0:
                raise ConnectionRefusedError(111, "Connection refused")
            self.delivered.append(message)

    def close(self) -> None:
        self.is_closed = True

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.delivered) >= number, 10)


class Kept:
    """A trail at work, and what the log says at its end."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self._log = Log([StreamSink(self._stream)])
        self.trail = Trail(self._log)

    def close(self) -> str:
        self.trail.close()
        self._log.close()
        return self._stream.getvalue()


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.close()


def test_what_is_told_is_delivered_in_its_order_at_the_latest_at_the_end(kept: Kept) -> None:
    sink = Memory()
    kept.trail.use(REPORTER, sink)
    kept.trail.started()
    kept.trail.transferred(PEER, {kind(): 2, kind(b"PAT2"): 1})
    kept.trail.refused(PEER, "no", times=3)
    kept.trail.stopped()
    assert kept.close() == ""
    events = [codes(parsed(message), "EventIdentification/EventID")[0][0] for message in sink.delivered]
    assert events == ["110100", "110104", "110104", "110113", "110100"]
    assert all(message.moment.utcoffset() is not None for message in sink.delivered)
    assert sink.is_closed


def test_a_trail_that_is_off_keeps_nothing_and_has_no_thread(kept: Kept) -> None:
    before = threading.active_count()
    for _ in range(3):  # reloads
        kept.trail.use(REPORTER, None)
    assert kept.trail._notes.empty()
    kept.trail.started()
    assert not kept.trail.is_on
    assert threading.active_count() == before
    assert kept.close() == ""


def test_what_a_sink_does_not_take_waits_and_is_delivered_once_it_does(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "RETRY", 0.0)
    sink = Memory(failures=3)
    kept.trail.use(REPORTER, sink)
    kept.trail.started()
    kept.trail.stopped()
    sink.wait_for(2)
    log = kept.close()
    assert log.count("audit.not_delivered sink=memory") == 1  # said once, not at every try
    assert 'reason="Connection refused"' in log
    assert log.count("audit.delivered sink=memory") == 1
    assert [message.indicator for message in sink.delivered] == [Indicator.SUCCESS] * 2


def test_what_can_not_be_delivered_till_the_end_is_counted(kept: Kept) -> None:
    sink = Memory(failures=1000)
    kept.trail.use(REPORTER, sink)
    kept.trail.started()
    kept.trail.transferred(PEER, {kind(): 2, kind(b"PAT2"): 1})
    assert "audit.dropped messages=3" in kept.close()


def test_what_waits_is_bounded_and_what_does_not_fit_is_counted(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "MAX_WAITING", 2 * len(STARTED.xml) + 100)
    sink = Memory(failures=1)
    kept.trail.use(REPORTER, sink)
    for _ in range(5):
        kept.trail.started()
    log = kept.close()
    assert len(sink.delivered) == 2
    assert "audit.dropped messages=3" in log


def test_what_was_delivered_makes_room(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "MAX_WAITING", 2 * len(STARTED.xml) + 100)
    sink = Memory()
    kept.trail.use(REPORTER, sink)
    for number in range(5):
        kept.trail.started()
        sink.wait_for(number + 1)
    assert kept.close() == ""


def test_what_waits_when_the_trail_is_switched_off_is_counted(kept: Kept) -> None:
    kept.trail.use(REPORTER, Memory(failures=1000))
    kept.trail.started()
    kept.trail.use(REPORTER, None)
    kept.trail.use(REPORTER, Memory())
    assert "audit.dropped messages=1" in kept.close()


def test_a_file_that_can_not_be_put_aside_is_told_in_the_log_and_goes_on(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "DcmStore.audit.1").mkdir()
    (tmp_path / "DcmStore.audit.1" / "in the way").touch()
    path = tmp_path / "DcmStore.audit"
    kept.trail.use(REPORTER, AuditFile(path, 2000, 1))
    for _ in range(4):  # the third does not fit, and from then on there is as much room again
        kept.trail.started()
    assert kept.close().count("log.not_put_aside") == 1
    assert len(read_file(path)) == 4


def test_who_tells_never_waits_and_what_is_too_much_is_counted(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "MAX_NOTES", 10)
    entered, opened = threading.Event(), threading.Event()

    class Blocked(Memory):
        def deliver(self, message: Message) -> None:
            entered.set()
            opened.wait()
            super().deliver(message)

    sink = Blocked()
    kept.trail.use(REPORTER, sink)
    kept.trail.started()
    entered.wait()  # the thread has taken this note
    for _ in range(50):
        kept.trail.refused(PEER, "no")  # returns although nothing is taken
    opened.set()
    assert "audit.dropped messages=40" in kept.close()
    assert len(sink.delivered) == 11


class Faulty(Memory):
    """A sink with a fault of ours that some messages bring out."""

    def deliver(self, message: Message) -> None:
        if message.indicator is Indicator.MAJOR_FAILURE:
            raise ValueError("a fault")
        super().deliver(message)


def test_a_fault_costs_a_message_and_does_not_end_the_trail(kept: Kept) -> None:
    sink = Faulty()
    kept.trail.use(REPORTER, sink)
    kept.trail.started()
    kept.trail.stopped(has_fault=True)
    kept.trail.transferred(PEER, None)  # type: ignore[arg-type]  # so that it can't be written as a message
    kept.trail.stopped()
    sink.wait_for(2)
    log = kept.close()
    assert [message.indicator for message in sink.delivered] == [Indicator.SUCCESS] * 2
    assert "ERROR   audit.fault error=\"ValueError('a fault')\"" in log
    assert 'ERROR   audit.fault error="AttributeError' in log
    assert sum(map(int, re.findall(r"audit\.dropped messages=(\d+)", log))) == 2
    assert kept.trail._size == 0


def test_a_fault_that_repeats_is_told_together(kept: Kept) -> None:
    sink = Faulty()
    kept.trail.use(REPORTER, sink)
    for _ in range(20):
        kept.trail.stopped(has_fault=True)
    log = kept.close()
    assert log.count("audit.fault") == 2
    assert "times=19" in log


def test_what_an_association_brings_after_the_trail_was_switched_off_is_counted(kept: Kept) -> None:
    kept.trail.use(REPORTER, Memory())
    transfers = Transfers(kept.trail, PEER)
    transfers.add(CT, VALUES)
    kept.trail.use(REPORTER, None)
    transfers.tell()
    assert "audit.dropped messages=1" in kept.close()


def test_what_is_lost_when_the_trail_is_off_is_told_at_once(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    told, is_closed = threading.Event(), threading.Event()
    sink = Memory()
    monkeypatch.setattr(sink, "close", is_closed.set)
    monkeypatch.setattr(kept._log, "warning", lambda *_, **__: told.set())
    kept.trail.use(REPORTER, sink)
    kept.trail.use(REPORTER, None)
    assert is_closed.wait(10)
    kept.trail.transferred(PEER, {kind(): 1})
    assert told.wait(10)


def test_a_sink_that_hangs_does_not_hold_up_the_end(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "CLOSE_WAIT", 0.0)
    opened = threading.Event()

    class Hanging(Memory):
        def deliver(self, message: Message) -> None:
            opened.wait()

    kept.trail.use(REPORTER, Hanging())
    kept.trail.started()
    log = kept.close()
    opened.set()
    assert "audit.dropped messages=" in log


def test_after_a_reload_messages_go_to_the_new_sink_with_the_new_name(kept: Kept) -> None:
    old, new = Memory("old"), Memory("new")
    kept.trail.use(REPORTER, old)
    kept.trail.started()
    kept.trail.use(Reporter("NEWNAME", "pc-7.example", 4711), new)
    kept.trail.stopped()
    kept.close()
    assert (len(old.delivered), len(new.delivered)) == (1, 1)
    assert old.is_closed
    assert "AETITLES=NEWNAME" in new.delivered[0].xml


def test_what_waits_for_a_sink_goes_to_the_one_that_takes_its_place(kept: Kept) -> None:
    old, new = Memory("old", failures=1000), Memory("new")
    kept.trail.use(REPORTER, old)
    kept.trail.started()
    kept.trail.use(REPORTER, new)
    new.wait_for(1)


def test_a_file_that_is_full_is_written_whole_once_there_is_room(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(trail, "RETRY", 0.0)
    path = tmp_path / "DcmStore.audit"
    sink = AuditFile(path, 10_000_000, 9)
    monkeypatch.setattr(sink, "_file", FullOnce(sink._file))
    kept.trail.use(REPORTER, sink)
    kept.trail.started()
    kept.trail.stopped()
    log = kept.close()
    first, *whole = path.read_text("utf-8").splitlines()
    assert first == "<AuditMess"
    assert [parsed_line.tag for parsed_line in map(etree.fromstring, whole)] == ["AuditMessage"] * 2
    assert 'reason="No space left on device"' in log


class FullOnce:
    """A file on a disk that takes a part of the first line."""

    fault = ""

    def __init__(self, file: object) -> None:
        self._file = file
        self._is_full = True

    def write(self, text: str) -> None:
        if self._is_full:
            self._is_full = False
            self._file.write(text[:10])  # type: ignore[attr-defined]
            raise OSError(28, "No space left on device")
        self._file.write(text)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._file.close()  # type: ignore[attr-defined]


# --- what an association brings -------------------------------------------------------------------

VALUES = {header.PATIENT_ID: b"PAT1", header.PATIENT_NAME: b"Doe^Jane", header.STUDY_INSTANCE_UID: b"1.2.3\0"}


def test_like_instances_of_an_association_are_one_message_at_its_end(kept: Kept) -> None:
    sink = Memory()
    kept.trail.use(REPORTER, sink)
    transfers = Transfers(kept.trail, PEER)
    for _ in range(250):
        transfers.add(CT, VALUES)
    transfers.tell()
    transfers.tell()  # nothing new
    kept.close()
    (message,) = map(parsed, sink.delivered)
    assert message.find(".//SOPClass").get("NumberOfInstances") == "250"


def test_an_association_without_instances_is_not_told(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Memory()
    kept.trail.use(REPORTER, sink)
    monkeypatch.setattr(trail, "MAX_NOTES", 0)  # every note would be dropped, and the log say so
    Transfers(kept.trail, PEER).tell()
    assert kept.close() == ""
    assert sink.delivered == []


def test_an_association_of_thousands_of_patients_is_told_in_between(kept: Kept) -> None:
    sink = Memory()
    kept.trail.use(REPORTER, sink)
    transfers = Transfers(kept.trail, PEER)
    for number in range(2 * MAX_KINDS):
        transfers.add(CT, VALUES | {header.PATIENT_ID: b"PAT%d" % number})
        assert len(transfers._counts) < MAX_KINDS
    kept.close()
    assert len(sink.delivered) == 2 * MAX_KINDS


def test_an_association_of_days_is_told_in_between(kept: Kept) -> None:
    sink = Memory()
    kept.trail.use(REPORTER, sink)
    clock = iter((0.0, 1.0, 2.0, 700.0))
    transfers = Transfers(kept.trail, PEER, lambda: next(clock))
    for _ in range(3):
        transfers.add(CT, VALUES)
    sink.wait_for(1)


def test_long_values_of_a_sender_take_little_memory(kept: Kept) -> None:
    kept.trail.use(REPORTER, Memory())
    transfers = Transfers(kept.trail, PEER)
    transfers.add(CT, dict.fromkeys(VALUES, b"x" * 16_384))
    (held,) = transfers._counts
    assert sum(map(len, held[2:])) < 5000
