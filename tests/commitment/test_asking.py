"""What is asked over the wire is promised, or refused with the status that says why; nothing else comes of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore import commitment
from dcmstore.commitment.action import MAX_ACTION_INFORMATION
from dcmstore.commitment.asked import Asked
from dcmstore.commitment.line import Line
from dcmstore.commitment.reporting import Way
from dcmstore.dimse.command import RESPONSE_BIT, CommandField, CommandSet
from dcmstore.dimse.status import Status
from dcmstore.errors import DcmStoreError
from dcmstore.services.commitment import LARGE, MAX_LARGE, CommitmentOnLine, CommitmentService
from dcmstore.services.operation import Request
from dcmstore.ul.items import RoleSelection
from dcmstore.ul.pdu import AAbort, AAssociateAC, encode
from tests.commitment.support import ACTION_REQUEST, EXPLICIT, TRANSACTION, Called, Wired, action, ct, message, wait_for
from tests.support import CT, Peer, association_request, data_set

MOST = 64  # characters of an Error Comment


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    with Wired(tmp_path, does_jobs=False).running() as running:
        yield running


@pytest.fixture
def peer(wired: Wired) -> Iterator[Peer]:
    with Peer(wired.port) as opened:
        opened.associate(commitment.SOP_CLASS, CT)
        yield opened


def ask(peer: Peer, data: bytes, **changed: object) -> CommandSet:
    peer.send(message(replace(ACTION_REQUEST, **changed), data))  # type: ignore[arg-type]
    return peer.receive_response()


class Kept:
    """A queue that keeps what is asked for in memory, or is full."""

    def __init__(self, problem: str = "") -> None:
        self.asked: list[Asked] = []
        self.problem = problem

    def add(self, asked: Asked) -> None:
        if self.problem:
            raise DcmStoreError(self.problem)
        self.asked.append(asked)

    def service(self) -> CommitmentOnLine:
        service = CommitmentService(self.add, lambda _: "")
        return service.on(Line(1, EXPLICIT, lambda _: None), "10.0.0.1")


REQUEST = Request(ACTION_REQUEST, 1, commitment.SOP_CLASS, EXPLICIT, "CT1")


def perform(service: CommitmentOnLine, *fragments: bytes) -> CommandSet:
    operation = service.begin(REQUEST)
    for fragment in fragments:
        operation.receive(memoryview(fragment))
    response = operation.finish().response
    assert response is not None
    return response


# --- over the wire ---------------------------------------------------------------------------------


def test_what_was_requested_comes_back_as_affected(peer: Peer) -> None:
    response = ask(peer, action("1.2.1"))
    assert response == CommandSet(
        CommandField.N_ACTION_RQ | RESPONSE_BIT,
        message_id_being_responded_to=7,
        affected_sop_class_uid=commitment.SOP_CLASS,
        affected_sop_instance_uid=commitment.SOP_INSTANCE,
        status=Status.SUCCESS,
        action_type_id=1,
    )


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"requested_sop_class_uid": CT}, 0x0118),
        ({"requested_sop_class_uid": None}, 0x0118),
        ({"requested_sop_instance_uid": "1.2.3"}, 0x0112),
        ({"requested_sop_instance_uid": None}, 0x0112),
        ({"action_type_id": 2}, 0x0123),
        ({"action_type_id": None}, 0x0123),
    ],
)
def test_what_is_no_request_for_commitment_is_refused(peer: Peer, changed: dict[str, object], status: int) -> None:
    response = ask(peer, action("1.2.1"), **changed)
    assert response.status == status
    assert ask(peer, action("1.2.1")).status == 0


def test_a_request_without_a_data_set_is_refused(peer: Peer) -> None:
    assert ask(peer, b"", command_data_set_type=0x0101).status == 0x0115


@pytest.mark.parametrize(("data", "status"), [(b"rubbish!!!", 0x0110), (action(), 0x0115), (action("x"), 0x0115)])
def test_a_request_that_cannot_be_read_is_refused(wired: Wired, peer: Peer, data: bytes, status: int) -> None:
    response = ask(peer, data)
    assert response.status == status
    assert 0 < len(response.error_comment or "") <= MOST
    wait_for(lambda: wired.logged("commitment.refused"))
    (refused,) = wired.logged("commitment.refused")
    assert f"calling=PEER status={status:04X} reason=" in refused
    assert not wired.logged("commitment.asked")


def test_objects_and_requests_travel_on_one_association(peer: Peer) -> None:
    assert peer.store(data_set("1.2.1"), "1.2.1", context_id=3).status == 0
    assert ask(peer, action("1.2.1")).status == 0
    assert peer.store(data_set("1.2.2"), "1.2.2", context_id=3).status == 0
    peer.release()


def test_a_request_on_the_context_of_another_class_is_refused(peer: Peer) -> None:
    peer.send(message(ACTION_REQUEST, action("1.2.1"), context_id=3))
    assert peer.receive_response().status == 0x0122
    assert peer.store(data_set("1.2.1"), "1.2.1", context_id=1).status == 0x0122


def test_without_the_service_a_request_is_refused(wired: Wired) -> None:
    wired.server._shared = replace(wired.server._shared, commitment=None)
    with Peer(wired.port) as peer:
        peer.associate(commitment.SOP_CLASS)
        assert ask(peer, action("1.2.1")).status == 0x0211


@pytest.mark.parametrize("proposed", [(True, False), (True, True), (False, True)])
def test_the_requestor_is_scu_and_never_scp(wired: Wired, proposed: tuple[bool, bool]) -> None:
    request = association_request(commitment.SOP_CLASS)
    roles = (RoleSelection(commitment.SOP_CLASS, *proposed),)
    with Peer(wired.port) as peer:
        peer.send(encode(replace(request, user_information=replace(request.user_information, role_selections=roles))))
        answer = peer.receive()
        assert isinstance(answer, AAssociateAC)
        expected = RoleSelection(commitment.SOP_CLASS, proposed[0], False)
        assert answer.user_information.role_selections == (expected,)


@pytest.mark.parametrize(
    "response",
    [
        CommandSet(CommandField.N_EVENT_REPORT_RQ | RESPONSE_BIT, message_id_being_responded_to=1, status=0),
        CommandSet(CommandField.C_STORE_RQ | RESPONSE_BIT, message_id_being_responded_to=1, status=0),
    ],
)
def test_a_response_to_nothing_is_a_protocol_error(peer: Peer, response: CommandSet) -> None:
    peer.send(message(response, b""))
    assert isinstance(peer.receive(), AAbort)


def test_success_is_answered_only_once_the_request_is_in_the_queue(wired: Wired, peer: Peer) -> None:
    (wired.folder / "DcmStore.queue").mkdir()  # where a database can't be
    response = ask(peer, action("1.2.1"))
    assert response.status == 0x0213
    assert response.error_comment == "it can't be queued; ask again later"
    wait_for(lambda: wired.logged("commitment.refused"))
    assert "DcmStore.queue" in wired.logged("commitment.refused")[0]
    (wired.folder / "DcmStore.queue").rmdir()
    assert ask(peer, action("1.2.1")).status == 0


def test_with_new_a_requestor_without_an_address_is_refused(wired: Wired, peer: Peer) -> None:
    wired.way = Way.NEW
    response = ask(peer, action("1.2.1"))
    assert (response.status, response.error_comment) == (0x0110, "peers= has no address for PEER")
    wired.peers["PEER"] = Called("PEER", "127.0.0.1", 104)
    assert ask(peer, action("1.2.1")).status == 0


# --- the service alone -----------------------------------------------------------------------------


def test_a_promise_says_who_asked_for_what() -> None:
    kept = Kept()
    assert perform(kept.service(), action("1.2.1", "1.2.2")).status == 0
    (asked,) = kept.asked
    assert (asked.transaction_uid, asked.references) == (TRANSACTION, ct("1.2.1", "1.2.2"))
    assert (asked.calling_ae_title, asked.host, asked.is_duplicate) == ("CT1", "10.0.0.1", False)


def test_what_can_not_be_queued_is_not_promised() -> None:
    kept = Kept("disk is full")
    response = perform(kept.service(), action("1.2.1"))
    assert (response.status, response.error_comment) == (0x0213, "it can't be queued; ask again later")


def test_a_requestor_whom_no_report_would_reach_is_refused() -> None:
    service = CommitmentService(Kept().add, lambda ae_title: f"{ae_title} is not in peers=")
    response = perform(service.on(Line(1, EXPLICIT, lambda _: None), ""), action("1.2.1"))
    assert (response.status, response.error_comment) == (0x0110, "CT1 is not in peers=")


def test_a_request_that_is_too_long_is_passed_over_and_refused() -> None:
    piece = bytes(LARGE)
    pieces = [piece] * (MAX_ACTION_INFORMATION // LARGE + 3)
    service = Kept().service()
    response = perform(service, *pieces)
    assert (response.status, response.error_comment) == (
        0x0213,
        f"more than {MAX_ACTION_INFORMATION} bytes; ask for less at once",
    )
    assert perform(service, action("1.2.1")).status == 0


def test_only_so_many_large_requests_are_read_at_once() -> None:
    service = Kept().service()
    operations = [service.begin(REQUEST) for _ in range(MAX_LARGE + 1)]
    for operation in operations:
        operation.receive(memoryview(bytes(LARGE + 1)))
    statuses = [operation.finish().response.status for operation in operations]  # type: ignore[union-attr]
    assert statuses == [0x0110] * MAX_LARGE + [0x0213]
    for operation in [service.begin(REQUEST) for _ in range(MAX_LARGE * 2)]:  # what is cancelled makes room too
        operation.receive(memoryview(bytes(LARGE + 1)))
        operation.cancel()
    assert perform(service, bytes(LARGE + 1)).status == 0x0110


@given(data=st.binary(max_size=400), cut=st.integers(1, 50))
def test_any_data_set_in_any_pieces_gets_an_answer(data: bytes, cut: int) -> None:
    kept = Kept()
    response = perform(kept.service(), *(data[start : start + cut] for start in range(0, len(data), cut)))
    assert response.status in (0x0000, 0x0110, 0x0115)
    assert len(kept.asked) == (response.status == 0)


@given(
    sop_class=st.none() | st.text(max_size=70),
    sop_instance=st.none() | st.text(max_size=70),
    action_type=st.none() | st.integers(0, 0xFFFF),
    has_data_set=st.booleans(),
)
def test_any_command_set_gets_an_answer(
    sop_class: str | None, sop_instance: str | None, action_type: int | None, has_data_set: bool
) -> None:
    changed = replace(
        ACTION_REQUEST,
        requested_sop_class_uid=sop_class,
        requested_sop_instance_uid=sop_instance,
        action_type_id=action_type,
        command_data_set_type=0 if has_data_set else 0x0101,
    )
    outcome = Kept().service().begin(replace(REQUEST, command_set=changed)).finish()
    assert outcome.is_failure
    assert outcome.response is not None
    assert outcome.response.message_id_being_responded_to == 7
