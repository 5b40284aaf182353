"""The server over real sockets, with a peer that writes what it likes."""

import contextlib
import mmap
import re
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dcmstore import connection, sockets, uids
from dcmstore.connection import Connection
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.dimse.status import Status
from dcmstore.seldom import Seldom
from dcmstore.server import MAX_UNASSOCIATED, Server
from dcmstore.settings import Settings
from dcmstore.storage.store import IncomingInstance, Stored
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.items import ContextResult
from dcmstore.ul.pdu import AAbort, AAssociateAC, AAssociateRJ, AReleaseRP, AReleaseRQ
from tests.support import (
    CT,
    MR,
    WAIT,
    XRAY_DOSE_SR,
    Peer,
    Receiver,
    association_request,
    data_set,
    running,
    store_request,
    stored_data_set,
)


def request(field: int, *, message_id: int | None = 1, has_data: bool = False, sop_class: str = CT) -> bytes:
    """A command set on context 1 as one PDU."""
    command_set = CommandSet(
        field,
        message_id=message_id,
        affected_sop_class_uid=sop_class,
        affected_sop_instance_uid="1.2.3.4",
        command_data_set_type=0 if has_data else command.NO_DATA_SET,
    )
    return pdu.encode_p_data(1, command.encode(command_set), is_command=True, peer_max_length=0)


def log_of(receiver: Receiver) -> str:
    """The log once the server and its log thread have ended."""
    receiver.server.stop(5)
    receiver.server.log.close()
    return receiver.log_text.getvalue()


# --- storing -------------------------------------------------------------------------------------


def test_an_instance_is_filed_and_acknowledged(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        assert peer.store(data_set()).status == Status.SUCCESS
        path = receiver.images / "PAT1" / "7" / "3" / "1.2.3.4.dcm"
        assert stored_data_set(path) == data_set()
        assert receiver.files() == [path]


def test_a_dose_report_goes_flat_into_its_own_root(receiver: Receiver) -> None:
    encoded = data_set("1.2.9", sop_class=XRAY_DOSE_SR)
    with Peer(receiver.port) as peer:
        peer.associate(XRAY_DOSE_SR)
        assert peer.store(encoded, "1.2.9", XRAY_DOSE_SR).status == Status.SUCCESS
        assert receiver.files() == [receiver.rdsr / "1.2.9.dcm"]


def test_a_response_repeats_message_id_and_uids(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(store_request(data_set(), message_id=65535))
        response = peer.receive_response()
        assert response.command_field == 0x8001
        assert response.message_id_being_responded_to == 65535
        assert response.affected_sop_class_uid == CT
        assert response.affected_sop_instance_uid == "1.2.3.4"


def test_a_uid_padded_with_a_space_is_stored_without_and_answered_with_it(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        response = peer.store(data_set("1.2.345"), "1.2.345 ")
        assert response.status == Status.SUCCESS
        assert response.affected_sop_instance_uid == "1.2.345 "
        assert receiver.files()[0].name == "1.2.345.dcm"


def test_two_instances_in_one_write_are_both_stored(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(
            store_request(data_set("1.1"), "1.1", message_id=1) + store_request(data_set("1.2"), "1.2", message_id=2)
        )
        assert [peer.receive_response().message_id_being_responded_to for _ in range(2)] == [1, 2]
        assert {path.name for path in receiver.files()} == {"1.1.dcm", "1.2.dcm"}


def test_an_instance_over_thousands_of_pdus_is_stored_whole(receiver: Receiver) -> None:
    encoded = data_set(pixels=bytes(range(256)) * 40)
    one_byte_each = b"".join(
        pdu.PDU_HEADER.pack(4, 7) + pdu.PDV_HEADER.pack(3, 1, 2 if i == len(encoded) - 1 else 0) + encoded[i : i + 1]
        for i in range(len(encoded))
    )
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(request(CommandField.C_STORE_RQ, has_data=True) + one_byte_each)
        assert peer.receive_response().status == Status.SUCCESS
        assert stored_data_set(receiver.files()[0]) == encoded


def test_several_messages_in_one_pdu_are_told_apart(receiver: Receiver) -> None:
    def pdvs(uid: str) -> bytes:
        whole = store_request(data_set(uid), uid)
        parts, position = b"", 0
        while position < len(whole):
            _, length = pdu.PDU_HEADER.unpack_from(whole, position)
            parts += whole[position + 6 : position + 6 + length]
            position += 6 + length
        return parts

    body = pdvs("1.1") + pdvs("1.2")
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(pdu.PDU_HEADER.pack(4, len(body)) + body)
        assert [peer.receive_response().status for _ in range(2)] == [0, 0]
        assert len(receiver.files()) == 2


def test_a_cut_after_every_byte_leaves_no_half_file_and_no_false_success(tmp_path: Path) -> None:
    encoded = data_set(pixels=bytes(40))
    whole = pdu.encode(association_request()) + store_request(encoded) + pdu.encode(AReleaseRQ())
    complete = len(whole) - 10  # from here on the instance is complete
    with running(tmp_path, Settings(durable=False)) as receiver:
        for size in range(len(whole)):
            with Peer(receiver.port) as peer:
                peer.send(whole[:size])
                peer.socket.shutdown(socket.SHUT_WR)
                arrived = []
                while (one := peer.receive()) is not None:
                    arrived.append(one)
            answered = [one for one in arrived if isinstance(one, pdu.AAssociateAC) is False]
            assert bool(answered) == (size >= complete), size
            assert [path.name for path in receiver.files()] == (["1.2.3.4.dcm"] if size >= complete else []), size
            for path in receiver.files():
                assert stored_data_set(path) == encoded
                path.unlink()


def test_objects_sent_ahead_are_answered_in_order(receiver: Receiver) -> None:
    """A requestor that has agreed on a window does not wait for answers (PS3.7 D.3.3.3)."""
    proposal = association_request()
    with Peer(receiver.port) as peer:
        window = replace(proposal.user_information, async_operations_window=(0, 1))
        peer.send(pdu.encode(replace(proposal, user_information=window)))
        answer = peer.receive()
        assert isinstance(answer, AAssociateAC)
        assert answer.user_information.async_operations_window == (0, 1)
        uids_sent = [f"1.2.5.{number}" for number in range(50)]
        peer.send(
            b"".join(store_request(data_set(uid), uid, message_id=number) for number, uid in enumerate(uids_sent))
        )
        answers = [peer.receive_response() for _ in uids_sent]
        peer.release()
    assert [answer.message_id_being_responded_to for answer in answers] == list(range(50))
    assert {answer.status for answer in answers} == {Status.SUCCESS}


def test_four_senders_at_once_are_all_served(receiver: Receiver) -> None:
    def send(sender: int) -> None:
        with Peer(receiver.port) as peer:
            peer.associate()
            for number in range(25):
                uid = f"1.{sender}.{number}"
                assert peer.store(data_set(uid), uid).status == Status.SUCCESS
            peer.release()

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.files()) == 100


# --- what is refused, with its status -------------------------------------------------------------


def test_echo_is_answered(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate(uids.VERIFICATION)
        peer.send(request(CommandField.C_ECHO_RQ, message_id=77, sop_class=uids.VERIFICATION))
        response = peer.receive_response()
        assert (response.command_field, response.status) == (0x8030, 0)
        assert response.message_id_being_responded_to == 77


@pytest.mark.parametrize(("sent_ahead", "is_aside"), [(200, True), (1, False)])
def test_who_sends_much_ahead_lets_others_in(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, sent_ahead: int, is_aside: bool
) -> None:
    asides: list[float] = []
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=time.monotonic, sleep=asides.append))
    echo = request(CommandField.C_ECHO_RQ, sop_class=uids.VERIFICATION)
    with Peer(receiver.port) as peer:
        peer.associate(uids.VERIFICATION)
        for _ in range(200 // sent_ahead):
            peer.send(echo * sent_ahead)
            for _ in range(sent_ahead):
                assert peer.receive_response().status == Status.SUCCESS
    assert bool(asides) is is_aside


@pytest.mark.parametrize(
    ("uid_in_data", "class_in_data"), [("1.2.3.5", CT), ("1.2.3.4", MR)], ids=["instance", "class"]
)  # fmt: skip
def test_a_data_set_that_contradicts_its_command_is_refused_with_a900(
    receiver: Receiver, uid_in_data: str, class_in_data: str
) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        response = peer.store(data_set(uid_in_data, sop_class=class_in_data))
        assert response.status == 0xA900
        assert "UID of data set and command differ" in (response.error_comment or "")
        assert receiver.files() == []


def test_another_class_than_the_contexts_is_refused_with_0122(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate(CT)
        assert peer.store(data_set(sop_class=MR), sop_class=MR).status == 0x0122
        assert receiver.files() == []


@pytest.mark.parametrize("uid", ["../../x", "", "1.2.a", "1" * 65, ".1", "1.2/3", "1.2\\3", "con"])
def test_what_is_no_uid_is_refused_with_0117(receiver: Receiver, uid: str) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        response = peer.store(data_set(uid), uid)
        assert response.status == 0x0117
        assert response.error_comment
        assert receiver.files() == []
        assert peer.store(data_set()).status == Status.SUCCESS  # the association goes on


def test_an_unreadable_data_set_is_kept_in_quarantine_and_answered_with_c000(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        for _ in range(2):  # the second time it is there already
            response = peer.store(data_set()[:45])
            assert response.status == 0xC000
            assert "breaks off" in (response.error_comment or "")
            (path,) = receiver.files()
            assert path == receiver.images / "QUARANTINE" / "1.2.3.4.dcm"
            assert stored_data_set(path) == data_set()[:45]


def test_a_store_without_a_data_set_is_refused(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(request(CommandField.C_STORE_RQ))
        assert peer.receive_response().status == Status.MISTYPED_ARGUMENT


@pytest.mark.parametrize("field", [0x0020, 0x0021, 0x0100, 0x0130, 0x0777])
def test_an_operation_that_is_not_offered_is_answered_with_0211(receiver: Receiver, field: int) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        data = pdu.encode_p_data(1, b"12345678", is_command=False, peer_max_length=0)
        peer.send(request(field, has_data=True) + data)
        response = peer.receive_response()
        assert (response.command_field, response.status) == (field | 0x8000, 0x0211)
        assert peer.store(data_set()).status == Status.SUCCESS


def test_a_cancel_is_ignored(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(request(CommandField.C_CANCEL_RQ, message_id=None))
        assert peer.store(data_set()).status == Status.SUCCESS


def test_a_missing_root_folder_is_answered_with_a700_until_it_is_back(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        hidden = receiver.images.rename(receiver.images.with_name("away"))
        response = peer.store(data_set())
        assert response.status == 0xA700
        assert response.error_comment == "IMG-DIR: folder is missing"
        hidden.rename(receiver.images)
        assert peer.store(data_set()).status == Status.SUCCESS


def test_duplicates_keep_refuses_the_newcomer(tmp_path: Path) -> None:
    with running(tmp_path, Settings(duplicates="keep")) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        assert peer.store(data_set(pixels=b"old!")).status == Status.SUCCESS
        assert peer.store(data_set(pixels=b"new!")).status == 0x0111
        assert peer.store(data_set(pixels=b"old!")).status == Status.SUCCESS
        assert stored_data_set(receiver.files()[0]) == data_set(pixels=b"old!")


# --- protocol faults ------------------------------------------------------------------------------

MALFORMED = {
    "random bytes": bytes(range(200, 256)),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a PDU of 4 GB": b"\x01\x00\xff\xff\xff\xff",
    "a P-DATA-TF of 4 GB": b"\x04\x00\xff\xff\xff\xff",
    "an empty request": b"\x01\x00\x00\x00\x00\x04\x00\x00\x00\x00",
    "data before an association": request(CommandField.C_ECHO_RQ),
    "a release before an association": pdu.encode(AReleaseRQ()),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_association_request_is_aborted(receiver: Receiver, data: bytes) -> None:
    with Peer(receiver.port) as peer:
        peer.send(data)
        peer.socket.shutdown(socket.SHUT_WR)
        answer = peer.receive()
        assert isinstance(answer, AAbort)
        assert answer.source == 2
        assert peer.receive() is None
    assert re.search(r"WARNING association\.aborted peer=127\.0\.0\.1:\d+ .*allowed is", log_of(receiver))


BROKEN_MESSAGES = {
    "a PDV longer than its PDU": pdu.PDU_HEADER.pack(4, 10) + pdu.PDV_HEADER.pack(100, 1, 3) + bytes(4),
    "a PDV of no length": pdu.PDU_HEADER.pack(4, 6) + pdu.PDV_HEADER.pack(0, 1, 3),
    "a data set without a command": pdu.encode_p_data(1, b"abcd", is_command=False, peer_max_length=0),
    "a context that was not agreed": pdu.encode_p_data(
        9, command.encode(CommandSet(CommandField.C_ECHO_RQ, message_id=1)), is_command=True, peer_max_length=0
    ),
    "a command in the data set": request(CommandField.C_STORE_RQ, has_data=True) + request(CommandField.C_ECHO_RQ),
    "a response": request(0x8001),
    "a request without a Message ID": request(CommandField.C_ECHO_RQ, message_id=None),
    "an endless command set": pdu.PDU_HEADER.pack(4, 20_006) + pdu.PDV_HEADER.pack(20_002, 1, 1) + bytes(20_000),
    "a second association request": pdu.encode(association_request()),
}


@pytest.mark.parametrize("data", BROKEN_MESSAGES.values(), ids=BROKEN_MESSAGES.keys())
def test_a_broken_message_is_aborted_and_the_others_go_on(receiver: Receiver, data: bytes) -> None:
    with Peer(receiver.port) as other, Peer(receiver.port) as peer:
        other.associate()
        peer.associate()
        peer.send(data)
        assert isinstance(peer.receive(), AAbort)
        assert other.store(data_set()).status == Status.SUCCESS
        assert len(receiver.files()) == 1


def test_129_contexts_are_aborted(receiver: Receiver) -> None:
    contexts = pdu.encode(association_request(*[CT] * 128))
    one_more = pdu.items.encode_proposed_context(pdu.ProposedContext(1, CT, ("1.2.840.10008.1.2",)))
    head, body = contexts[:74], contexts[74:]
    data = head[:2] + (len(contexts) - 6 + len(one_more)).to_bytes(4, "big") + head[6:] + one_more + body
    with Peer(receiver.port) as peer:
        peer.send(data)
        assert isinstance(peer.receive(), AAbort)


# --- negotiation over the wire --------------------------------------------------------------------


def test_128_contexts_are_all_accepted(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        answer = peer.associate(*[CT] * 128)
        assert {context.result for context in answer.presentation_contexts} == {ContextResult.ACCEPTANCE}


def test_a_foreign_called_ae_title_is_rejected_where_that_is_asked_for(tmp_path: Path) -> None:
    with running(tmp_path, Settings(local_ae="OURS", check_called_ae=True)) as receiver, Peer(receiver.port) as peer:
        peer.send(pdu.encode(association_request()))
        assert peer.receive() == AAssociateRJ(1, 1, 7)


def test_one_association_too_many_is_rejected_for_the_moment(tmp_path: Path) -> None:
    settings = Settings(max_associations=1)
    with running(tmp_path, settings) as receiver, Peer(receiver.port) as first, Peer(receiver.port) as second:
        first.associate()
        second.send(pdu.encode(association_request()))
        assert second.receive() == negotiation.LOCAL_LIMIT_EXCEEDED
        assert first.store(data_set()).status == Status.SUCCESS


def test_an_association_that_was_aborted_takes_no_place(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_associations=1)) as receiver, Peer(receiver.port) as broken:
        broken.associate()
        broken.send(b"GET / HTTP/1.0\r\n\r\n")
        assert isinstance(broken.receive(), AAbort)
        with Peer(receiver.port) as other:  # while the first one keeps its connection open
            other.associate()
            other.release()


def test_whoever_comes_during_a_stop_is_told_so(receiver: Receiver) -> None:
    with Peer(receiver.port) as late:
        late.send(pdu.encode(association_request())[:-1])
        wait_until_busy(receiver.server)
        stopping = threading.Thread(target=receiver.server.stop, args=(WAIT,))
        stopping.start()
        receiver.server._accepting.join(WAIT)
        late.send(pdu.encode(association_request())[-1:])
        assert isinstance(late.receive(), AAssociateRJ)
        stopping.join(WAIT)
    assert 'because="the receiver stops"' in log_of(receiver)


def test_refusals_that_were_held_back_are_told_while_nobody_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcmstore.server.REFUSALS_DUE", 0.01)
    looked = threading.Event()
    monkeypatch.setattr(Seldom, "tell_due", lambda self: looked.set())
    with running(tmp_path):
        assert looked.wait(WAIT)


def test_a_buffer_that_is_let_go_is_empty() -> None:
    buffer = sockets.receive_buffer(8192)
    buffer[:] = b"x" * 8192
    sockets.let_go(buffer)
    assert buffer[:] == (bytes(8192) if hasattr(mmap, "MADV_DONTNEED") else b"x" * 8192)


def test_a_rejected_context_is_logged_with_class_syntaxes_and_sender(receiver: Receiver) -> None:
    worklist = "1.2.840.10008.5.1.4.31"
    with Peer(receiver.port) as peer:
        answer = peer.associate(CT, worklist)
        assert [context.result for context in answer.presentation_contexts] == [0, 3]
        peer.release()
    assert re.search(
        r'context\.rejected peer=\S+ calling=PEER context_id=3 sop_class="Modality Worklist Information Model - FIND" '
        r'uid=1\.2\.840\.10008\.5\.1\.4\.31 transfer_syntaxes="Explicit VR Little Endian" '
        r"reason=abstract-syntax-not-supported",
        log_of(receiver),
    )


# --- ends ----------------------------------------------------------------------------------------


def test_a_release_is_answered_and_the_connection_closed(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(pdu.encode(AReleaseRQ()))
        assert peer.receive() == AReleaseRP()
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.receive() is None
    assert "association.ended" in (log := log_of(receiver))
    assert "how=released" in log


def test_after_a_peers_abort_the_connection_is_closed_at_once(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(pdu.encode(AAbort(0, 0)))
        assert peer.receive() is None


def test_an_instance_cut_short_is_logged_with_its_uid(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(store_request(data_set())[:-3])
        peer.socket.shutdown(socket.SHUT_WR)
        assert peer.receive() is None
    assert re.search(r"WARNING instance\.incomplete peer=\S+ calling=PEER .*uid=1\.2\.3\.4 ", log_of(receiver))


TIMERS = {"artim_timeout": b"", "idle_timeout": pdu.encode(association_request())}
TIMERS["stall_timeout"] = TIMERS["idle_timeout"] + store_request(data_set())[:-3]


@pytest.mark.parametrize(("setting", "data"), TIMERS.items(), ids=TIMERS.keys())
def test_a_silent_peer_is_let_go_when_its_timer_runs_out(tmp_path: Path, setting: str, data: bytes) -> None:
    with running(tmp_path, replace(Settings(), **{setting: 1})) as receiver:
        with Peer(receiver.port) as peer:
            peer.send(data)
            arrived = []
            while (one := peer.receive()) is not None:
                arrived.append(one)
        assert (AAbort(2, 0) in arrived) == bool(data)
        assert receiver.files() == []
        log_level_and_reason = f'how="{setting.replace("_", "-")} ran out"'
        assert setting == "artim_timeout" or log_level_and_reason in log_of(receiver)


def test_stop_leaves_at_once_when_idle_and_tells_the_peers(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        receiver.server.stop(60)  # seconds; an idle association does not wait for them
        assert isinstance(peer.receive(), AAbort)
        assert peer.receive() is None


def test_stop_lets_a_message_under_way_finish(receiver: Receiver) -> None:
    encoded = data_set()
    with Peer(receiver.port) as peer:
        peer.associate()
        whole = store_request(encoded)
        peer.send(whole[:-5])
        wait_until_busy(receiver.server)
        stopping = threading.Thread(target=receiver.server.stop, args=(60,))
        stopping.start()
        peer.send(whole[-5:])
        assert peer.receive_response().status == Status.SUCCESS
        stopping.join()
        assert stored_data_set(receiver.files()[0]) == encoded


def test_stop_cuts_a_message_that_does_not_finish(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(store_request(data_set())[:-5])
        wait_until_busy(receiver.server)
        receiver.server.stop(0)
        assert isinstance(peer.receive(), AAbort)
        assert receiver.files() == []


def test_stop_waits_for_all_together_and_not_for_each(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(Connection, "join", lambda self, timeout: waited.append(timeout))
    peers = [Peer(receiver.port) for _ in range(5)]
    for peer in peers:
        peer.associate()
    receiver.server.stop(60)
    monkeypatch.undo()
    for peer in peers:
        peer.socket.close()
    assert waited
    assert max(waited) <= 60
    assert waited == sorted(waited, reverse=True)  # what is left of one deadline, each time


# --- when things go wrong around a store ------------------------------------------------------------


def test_stop_does_not_wait_for_an_accepting_thread_that_hangs(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, is_over = threading.Event(), threading.Event()

    def hang(listener: object) -> bool:
        hangs.set()
        is_over.wait()
        return True

    monkeypatch.setattr(receiver.server, "_accept_one", hang)
    with Peer(receiver.port):
        assert hangs.wait(WAIT)
        stopping = threading.Thread(target=receiver.server.stop, args=(0.1,))
        stopping.start()
        stopping.join(WAIT)
        assert not stopping.is_alive()
        is_over.set()


def test_silent_connections_make_room_for_a_sender(receiver: Receiver) -> None:
    silent = [Peer(receiver.port) for _ in range(MAX_UNASSOCIATED + 20)]
    with Peer(receiver.port) as peer:
        peer.associate()
        assert peer.store(data_set()).status == Status.SUCCESS
    for one in silent[:20]:  # those that were silent for longest were closed
        assert one.receive() is None
    assert len(receiver.server.connections()) <= MAX_UNASSOCIATED + 20
    for one in silent:
        one.socket.close()


def test_a_store_whose_answer_nobody_hears_is_logged(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sent = Connection._send, []

    def send_once(self: Connection, encoded: bytes) -> None:
        sent.append(encoded)
        if len(sent) > 1:  # the first is A-ASSOCIATE-AC
            raise ConnectionResetError(104, "Connection reset by peer")
        real(self, encoded)

    monkeypatch.setattr(Connection, "_send", send_once)
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(store_request(data_set()))
        assert peer.receive() is None
    log = log_of(receiver)
    assert re.search(r"WARNING instance\.stored .*uid=1\.2\.3\.4 .*answered=no", log)
    assert re.search(r'association\.ended .*how="connection lost: Connection reset by peer" stored=1', log)
    assert len(receiver.files()) == 1


def test_a_store_that_is_being_synced_counts_as_under_way(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    idle: list[bool] = []
    real = IncomingInstance.finish

    def finish(self: IncomingInstance) -> Stored:
        idle.extend(connection.is_idle for connection in receiver.server.connections())
        return real(self)

    monkeypatch.setattr(IncomingInstance, "finish", finish)
    with Peer(receiver.port) as peer:
        peer.associate()
        assert peer.store(data_set()).status == Status.SUCCESS
    assert idle == [False]


def test_a_fault_of_ours_ends_one_association_and_says_so(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(self: IncomingInstance) -> Stored:
        raise ZeroDivisionError("a fault")

    with Peer(receiver.port) as other, Peer(receiver.port) as peer:
        other.associate()
        peer.associate()
        with monkeypatch.context() as patch:
            patch.setattr(IncomingInstance, "finish", fault)
            peer.send(store_request(data_set()))
            assert isinstance(peer.receive(), AAbort)
        assert other.store(data_set("1.9"), "1.9").status == Status.SUCCESS
        assert [path.name for path in receiver.files()] == ["1.9.dcm"]
    assert "ERROR   association.fault" in log_of(receiver)


def test_a_connection_blocks_whatever_it_inherits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.setblocking(False)
        sockets.tune(client)
        assert client.gettimeout() is None


def test_a_server_that_can_accept_no_more_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = threading.Event()
    with running(tmp_path) as receiver:
        receiver.server._on_fault = faults.set
        monkeypatch.setattr(threading, "excepthook", lambda _: None)

        def fail(*_: object) -> None:
            raise ZeroDivisionError("a fault")

        monkeypatch.setattr(receiver.server, "_accept_one", fail)
        with contextlib.suppress(OSError), Peer(receiver.port):  # it may be reset at once
            pass
        assert faults.wait(10)
        assert receiver.server.has_fault
        log = log_of(receiver)
    assert 'ERROR   receiver.fault reason="no more connections can be accepted"' in log


def wait_until_busy(server: Server) -> None:
    """Return when the one connection is in the middle of a message."""
    ticks = threading.Event()
    for _ in range(1000):
        if any(not connection.is_idle for connection in server.connections()):
            return
        ticks.wait(0.01)
    raise AssertionError("no message under way")
