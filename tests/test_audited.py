"""What a receiver tells its audit trail: its start and end, what came from whom of which patient, who was refused."""

import os
import socket
import threading

import pytest
from lxml import etree

from dcmstore import receiver, wiring
from dcmstore.audit.messages import Message
from dcmstore.audit.sinks import AuditFile
from dcmstore.errors import ConfigurationError
from dcmstore.ul import pdu
from tests.hosted import Running
from tests.support import CT, WAIT, Peer, association_request, data_set, element, free_port
from tests.test_audit import PATIENT, SCHEMA, STUDY, codes, frames, ids_of


def trail_of(running: Running) -> list[etree._Element]:
    """Every message of the file, each valid."""
    trail = etree.fromstring(b"<trail>" + (running.folder / "DcmStore.audit").read_bytes() + b"</trail>")
    for message in trail:
        SCHEMA.assertValid(message)
    return list(trail)


def about(trail: list[etree._Element], event: str) -> list[etree._Element]:
    return [message for message in trail if codes(message, "EventIdentification/EventID")[0][0] == event]


ACTIVITY, TRANSFERRED, ALERT = "110100", "110104", "110113"


def image(uid: str, *, study: str = "1.2.3", patient_id: bytes = b"PAT1", pixels: bytes = b"\1\2") -> bytes:
    """With a Study Instance UID, which stands in front of the Study ID."""
    encoded = data_set(uid, patient_id=patient_id, pixels=pixels)
    at = encoded.index(b"\x20\x00\x10\x00SH")
    return encoded[:at] + element(0x0020, 0x000D, "UI", study.encode()) + encoded[at:]


def started(running: Running, **keys: object) -> int:
    port = free_port()
    running.configure(port=port, audit="file", **keys)
    running.start()
    return port


def send(port: int, *images: tuple[str, bytes]) -> list[int | None]:
    with Peer(port) as peer:
        peer.associate()
        statuses = [peer.store(encoded, uid).status for uid, encoded in images]
        peer.release()
    return statuses


def test_a_receiver_tells_its_start_and_its_end(running: Running) -> None:
    started(running)
    running.stop()
    start, stop = trail_of(running)
    assert codes(start, "EventIdentification/EventTypeCode")[0][0] == "110120"
    assert codes(stop, "EventIdentification/EventTypeCode")[0][0] == "110121"
    assert start.find("ActiveParticipant").get("UserID") == str(os.getpid())
    assert start.find("AuditSourceIdentification").get("AuditSourceID") == f"DCMSTORE@{socket.gethostname()}"


def test_an_association_is_one_message_with_its_studies_and_numbers(running: Running) -> None:
    port = started(running)
    images = [(f"1.2.{n}", image(f"1.2.{n}", study=f"9.{n % 2}")) for n in range(5)]
    assert send(port, *images) == [0] * 5
    running.stop()
    (message,) = about(trail_of(running), TRANSFERRED)
    assert ids_of(message, STUDY) == ["9.0", "9.1"]
    assert ids_of(message, PATIENT) == ["PAT1"]
    counts = [(c.get("UID"), c.get("NumberOfInstances")) for c in message.iterfind(".//SOPClass")]
    assert counts == [(CT, "3"), (CT, "2")]
    source = message.find("ActiveParticipant")
    assert (source.get("UserID"), source.get("NetworkAccessPointID")) == ("PEER", "127.0.0.1")


def test_new_known_and_replaced_instances_are_told_apart(running: Running) -> None:
    port = started(running, duplicates="replace")
    first, other = image("1.2.1"), image("1.2.1", pixels=b"\3\4")
    for encoded in (first, first, other):
        assert send(port, ("1.2.1", encoded)) == [0]
    running.stop()
    assert [m[0].get("EventActionCode") for m in about(trail_of(running), TRANSFERRED)] == ["C", "R", "U"]


def test_an_instance_that_is_refused_is_told_as_a_failure_with_its_reason(running: Running) -> None:
    port = started(running, duplicates="keep")
    assert send(port, ("1.2.1", image("1.2.1")), ("1.2.1", image("1.2.1", pixels=b"\3\4"))) == [0, 0x0111]
    running.stop()
    good, bad = about(trail_of(running), TRANSFERRED)
    assert (good[0].get("EventOutcomeIndicator"), bad[0].get("EventOutcomeIndicator")) == ("0", "8")
    assert bad[0].findtext("EventOutcomeDescription") == "status 0111: another data set with this UID is kept"
    assert ids_of(bad, STUDY) == ["1.2.3"]


def test_an_instance_in_quarantine_is_a_minor_failure(running: Running) -> None:
    port = started(running)
    assert send(port, ("1.2.1", image("1.2.1")[:-40])) != [0]
    running.stop()
    (message,) = about(trail_of(running), TRANSFERRED)
    assert message[0].get("EventOutcomeIndicator") == "4"


def test_what_an_association_brought_before_it_broke_off_is_told(running: Running) -> None:
    port = started(running)
    with Peer(port) as peer:
        peer.associate()
        assert peer.store(image("1.2.1"), "1.2.1").status == 0
    running.stop()
    (message,) = about(trail_of(running), TRANSFERRED)
    assert ids_of(message, STUDY) == ["1.2.3"]


def test_a_refused_sender_is_an_alert_and_its_repetitions_one_more(running: Running) -> None:
    port = started(running, allowed_ae="MR1")
    for _ in range(3):
        with Peer(port) as peer:
            peer.send(pdu.encode(association_request(calling="CT1")))
            peer.receive()
    running.stop()
    first, more = about(trail_of(running), ALERT)
    assert first[0].findtext("EventOutcomeDescription").endswith("CT1 is not in allowed-ae")
    assert more[0].findtext("EventOutcomeDescription").endswith("CT1 is not in allowed-ae (2 times)")
    assert ids_of(first, "110182") == ["127.0.0.1"]


def test_a_limit_of_ours_is_no_alert(running: Running) -> None:
    port = started(running, max_associations=1)
    with Peer(port) as one, Peer(port) as two:
        one.associate()
        two.send(pdu.encode(association_request()))
        two.receive()
    running.stop()
    assert about(trail_of(running), ALERT) == []


def test_without_audit_there_is_no_file(running: Running) -> None:
    running.start()
    running.stop()
    assert not (running.folder / "DcmStore.audit").exists()


def test_a_reload_switches_the_trail_on_and_off(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    is_written = threading.Event()

    class Telling(AuditFile):
        def deliver(self, message: Message) -> None:
            super().deliver(message)
            is_written.set()

    monkeypatch.setattr(wiring, "AuditFile", Telling)
    port = free_port()
    running.configure(port=port)
    running.start()
    send(port, ("1.2.1", image("1.2.1")))
    running.configure(port=port, audit="file")
    running.reload()
    send(port, ("1.2.2", image("1.2.2", study="2.2")))
    assert is_written.wait(WAIT)  # behind the end of the association
    running.configure(port=port, audit="off")
    running.reload()
    send(port, ("1.2.3", image("1.2.3", study="3.3")))
    running.stop()
    (message,) = trail_of(running)
    assert ids_of(message, STUDY) == ["2.2"]
    assert running.logged("audit.dropped") == []


def test_what_an_open_association_brought_before_the_trail_was_switched_off_is_told_as_lost(running: Running) -> None:
    port = started(running)
    with Peer(port) as peer:
        peer.associate()
        assert peer.store(image("1.2.1"), "1.2.1").status == 0
        running.configure(port=port, audit="off")
        running.reload()
        peer.release()
    running.stop()
    assert about(trail_of(running), TRANSFERRED) == []
    (line,) = running.logged("audit.dropped")
    assert line.endswith("messages=1")


def test_a_syslog_server_gets_the_trail(running: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        port = free_port()
        server = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        running.configure(port=port, audit="syslog", audit_syslog=server)
        running.start()
        connection, _ = listener.accept()
        with connection:
            send(port, ("1.2.1", image("1.2.1")))
            running.stop()
            told = frames(connection, 3)
    assert [message.startswith(b"<85>1 ") for message in told] == [True] * 3
    assert b"1.2.3" in told[1]


def test_a_syslog_server_that_is_away_stops_nobody_and_the_log_says_what_is_lost(running: Running) -> None:
    port = free_port()
    running.configure(port=port, audit="syslog", audit_syslog=f"tcp://127.0.0.1:{free_port()}")
    running.start()
    assert send(port, ("1.2.1", image("1.2.1"))) == [0]
    running.stop()
    assert running.exit_code == 0
    (line,) = running.logged("audit.not_delivered")
    assert 'reason="Connection refused"' in line
    (line,) = running.logged("audit.dropped")
    assert line.endswith("messages=3")


def test_a_file_that_can_not_be_written_is_named_at_the_start(running: Running) -> None:
    (running.folder / "DcmStore.audit").mkdir()
    running.configure(audit="file")
    with pytest.raises(ConfigurationError, match=r"audit= file: .*DcmStore.audit can't be written: Is a directory"):
        receiver.run(running.folder / "DcmStore.ini", running.host, with_console=False)
