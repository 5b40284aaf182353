"""A real requestor, pynetdicom's, asks for commitment and hears the report, on its association or on a new one."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket

from dcmstore.commitment.reporting import Way
from tests.commitment.support import TRANSACTION, WAIT, Called, Wired, wait_for
from tests.index.support import image
from tests.support import CT, MR, Peer


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    with Wired(tmp_path).running() as running:
        yield running


class Requestor:
    """Asks for commitment, as SCU, and hears reports on its association and on its port."""

    def __init__(self, status: int = 0x0000, syntax: str = ExplicitVRLittleEndian) -> None:
        self.heard: queue.SimpleQueue[tuple[int, Dataset, str]] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.status = status
        self._sockets: list[AssociationSocket] = []
        self._ae = AE(ae_title="CT1")
        self._ae.add_requested_context(StorageCommitmentPushModel, syntax)
        self._ae.add_supported_context(StorageCommitmentPushModel, syntax, scu_role=False, scp_role=True)

    def _hear(self, event: evt.Event, where: str) -> tuple[int, None]:
        while not self._answered.empty():  # what was sent before
            self._answered.get()
        self.heard.put((event.event_type, event.event_information, where))
        return self.status, None

    def _sent(self, event: evt.Event) -> None:
        if isinstance(event.pdu, P_DATA_TF):
            self._answered.put(None)

    def listen(self) -> Called:
        handlers = [(evt.EVT_N_EVENT_REPORT, self._hear, ["new"]), (evt.EVT_PDU_SENT, self._sent)]
        self._server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert self._server is not None
        return Called("CT1", "127.0.0.1", self._server.server_address[1])

    def associate(self, port: int) -> Association:
        handlers = [(evt.EVT_N_EVENT_REPORT, self._hear, ["same"]), (evt.EVT_PDU_SENT, self._sent)]
        association = self._ae.associate("127.0.0.1", port, ae_title="DCMSTORE", evt_handlers=handlers)
        assert association.is_established
        assert association.dul.socket is not None
        self._sockets.append(association.dul.socket)  # which pynetdicom leaves open where the peer has gone
        return association

    def report(self) -> tuple[int, Dataset, str]:
        """The next one, once it is answered: pynetdicom would answer behind a release too, and fail."""
        heard = self.heard.get(timeout=WAIT)
        self._answered.get(timeout=WAIT)
        return heard

    def close(self) -> None:
        self._ae.shutdown()
        for one in self._sockets:
            one.close()


@pytest.fixture
def requestor() -> Iterator[Requestor]:
    made = Requestor()
    yield made
    made.close()


def ask(association: Association, *uids: str, transaction: str = TRANSACTION, sop_class: str = CT) -> int:
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = []
    for uid in uids:
        one = Dataset()
        one.ReferencedSOPClassUID = sop_class
        one.ReferencedSOPInstanceUID = uid
        information.ReferencedSOPSequence.append(one)
    status, _ = association.send_n_action(
        information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return int(status.Status)


def store(port: int, *uids: str) -> None:
    with Peer(port) as peer:
        peer.associate(CT)
        for uid in uids:
            assert peer.store(image(uid), uid).status == 0
        peer.release()


def kept(report: Dataset) -> list[tuple[str, str]]:
    return [
        (one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in report.get("ReferencedSOPSequence", [])
    ]


def failed(report: Dataset) -> list[tuple[str, int]]:
    return [(one.ReferencedSOPInstanceUID, one.FailureReason) for one in report.get("FailedSOPSequence", [])]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_what_is_kept_is_reported_on_the_association_on_which_it_was_asked(wired: Wired, syntax: str) -> None:
    requestor = Requestor(syntax=syntax)
    store(wired.port, "1.2.1", "1.2.2")
    association = requestor.associate(wired.port)
    assert ask(association, "1.2.2", "1.2.1") == 0x0000
    event_type, report, where = requestor.report()
    assert (event_type, where) == (1, "same")
    assert report.TransactionUID == TRANSACTION
    assert kept(report) == [(CT, "1.2.2"), (CT, "1.2.1")]
    assert "FailedSOPSequence" not in report
    wait_for(lambda: wired.logged("commitment.reported"))
    association.release()
    assert association.is_released
    requestor.close()
    (asked,) = wired.logged("commitment.asked")
    assert f"calling=CT1 transaction={TRANSACTION} instances=2" in asked
    (reported,) = wired.logged("commitment.reported")
    assert f"calling=CT1 transaction={TRANSACTION} kept=2 association=same" in reported
    assert "PAT1" not in asked + reported


def test_a_requestor_that_releases_at_once_hears_the_report_on_a_new_association(
    wired: Wired, requestor: Requestor
) -> None:
    wired.peers["CT1"] = requestor.listen()
    store(wired.port, "1.2.1")
    association = requestor.associate(wired.port)
    assert ask(association, "1.2.1") == 0x0000
    association.release()
    event_type, report, where = requestor.report()
    assert (event_type, where, kept(report)) == (1, "new", [(CT, "1.2.1")])


def test_with_new_the_report_never_comes_on_the_same_association(wired: Wired, requestor: Requestor) -> None:
    wired.way = Way.NEW
    wired.peers["CT1"] = requestor.listen()
    store(wired.port, "1.2.1")
    association = requestor.associate(wired.port)
    assert ask(association, "1.2.1") == 0x0000
    assert requestor.report()[2] == "new"
    association.release()
    assert association.is_released


def test_what_is_not_kept_is_reported_with_its_reason(wired: Wired, requestor: Requestor) -> None:
    store(wired.port, "1.2.1", "1.2.2", "1.2.3")
    wait_for(lambda: wired.logged("index.caught_up"))
    association = requestor.associate(wired.port)
    assert ask(association, "1.2.3", "1.2.9") == 0x0000
    event_type, report, _ = requestor.report()
    assert event_type == 2
    assert kept(report) == [(CT, "1.2.3")]
    assert failed(report) == [("1.2.9", 0x0112)]
    assert ask(association, "1.2.3", sop_class=MR, transaction="1.2.7") == 0x0000
    event_type, report, _ = requestor.report()
    assert (event_type, kept(report), failed(report)) == (2, [], [("1.2.3", 0x0119)])
    wait_for(lambda: len(wired.logged("commitment.failed")) == 2)
    assert 'kept=1 failed=1 reasons="0112 1" association=same' in wired.logged("commitment.failed")[0]
    association.release()


def test_a_requestor_that_refuses_the_report_on_its_association_gets_it_on_a_new_one(wired: Wired) -> None:
    refusing, listening = Requestor(status=0x0110), Requestor()
    wired.peers["CT1"] = listening.listen()
    store(wired.port, "1.2.1")
    association = refusing.associate(wired.port)
    assert ask(association, "1.2.1") == 0x0000
    assert refusing.report()[2] == "same"
    assert listening.report()[2] == "new"
    association.release()
    refusing.close()
    listening.close()


def test_a_second_request_on_one_association_is_reported_too(wired: Wired, requestor: Requestor) -> None:
    store(wired.port, "1.2.1")
    association = requestor.associate(wired.port)
    assert ask(association, "1.2.1") == 0x0000
    assert requestor.report()[2] == "same"
    assert ask(association, "1.2.1", transaction="1.2.8") == 0x0000
    assert requestor.report()[1].TransactionUID == "1.2.8"
    association.release()


def test_a_report_is_tried_again_until_the_requestor_listens(wired: Wired, requestor: Requestor) -> None:
    wired.peers["CT1"] = Called("CT1", "127.0.0.1", 1)
    store(wired.port, "1.2.1")
    association = requestor.associate(wired.port)
    assert ask(association, "1.2.1") == 0x0000
    association.release()
    wait_for(lambda: wired.logged("job.failed"))
    assert "CT1 at 127.0.0.1 port 1: Connection refused" in wired.logged("job.failed")[0]
    wired.peers["CT1"] = requestor.listen()
    wired.later(60)
    assert requestor.report()[2] == "new"


def test_without_an_address_the_log_says_what_to_do(wired: Wired, requestor: Requestor) -> None:
    store(wired.port, "1.2.1")
    association = requestor.associate(wired.port)
    assert ask(association, "1.2.1") == 0x0000
    association.release()
    wait_for(lambda: wired.logged("job.failed"))
    assert "add CT1@host:port" in wired.logged("job.failed")[0]


def test_the_studies_that_were_asked_for_are_told(wired: Wired, requestor: Requestor) -> None:
    store(wired.port, "1.2.1")
    association = requestor.associate(wired.port)
    assert ask(association, "1.2.1", "1.2.9") == 0x0000
    requestor.report()
    assert wired.asked_of == [{("1.9.1", "PAT1"): {"1.2.1"}}]
    association.release()


def test_many_requestors_at_once_hear_their_own_reports(wired: Wired) -> None:
    store(wired.port, *(f"1.2.{number}" for number in range(1, 7)))
    heard: dict[int, str] = {}

    def one(number: int) -> None:
        requestor = Requestor()
        association = requestor.associate(wired.port)
        ask(association, f"1.2.{number}", transaction=f"1.7.{number}")
        heard[number] = str(requestor.report()[1].TransactionUID)
        association.release()
        requestor.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert heard == {number: f"1.7.{number}" for number in range(1, 7)}
