"""Peers that do not end, at a server in this process; `torture.hostile` has the same at full size.

And what the senders of the torture must hear: a receiver that answers wrongly is no receiver that is gone.
"""

import contextlib
import random
import socket
import struct
import sys
from pathlib import Path

import pytest

from dcmstore.connection import MAX_IGNORED
from dcmstore.dimse.status import Status
from dcmstore.server import MAX_UNASSOCIATED
from dcmstore.settings import Settings
from dcmstore.storage import space
from dcmstore.storage.store import Duplicates
from dcmstore.ul import pdu
from dcmstore.ul.pdu import AAbort, AReleaseRP, AReleaseRQ
from tests.support import (
    Peer,
    Receiver,
    WrongAnswer,
    association_request,
    data_set,
    fragment,
    running,
    store_command,
)
from torture.ledger import Ledger
from torture.senders import SENDERS, Senders


def pour(peer: Peer, data: bytes, most: int) -> bool:
    """Send again and again, `most` bytes at most; true when the receiver has cut the connection."""
    try:
        for _ in range(most // len(data)):
            peer.send(data)
    except OSError:
        return True
    return False


ENDINGS = {
    "a release": (pdu.encode(AReleaseRQ()), AReleaseRP),
    "an abort": (pdu.encode(association_request()), AAbort),
}


@pytest.mark.parametrize(("data", "answer"), ENDINGS.values(), ids=ENDINGS.keys())
def test_a_peer_that_goes_on_after_the_end_is_cut(receiver: Receiver, data: bytes, answer: type) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(data)
        assert isinstance(peer.receive(), answer)
        assert pour(peer, bytes(1024 * 1024), 4 * MAX_IGNORED)
        with Peer(receiver.port) as other:
            other.associate()
            assert other.store(data_set()).status == Status.SUCCESS


def test_an_endless_data_set_is_aborted_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "MAX_PASSED_OVER", 1024 * 1024)
    with running(tmp_path, Settings(max_object_size=1)) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        peer.send(store_command())
        assert not pour(peer, fragment(bytes(16_000)), 3 * 1024 * 1024)
        assert isinstance(peer.receive(), AAbort)
        assert receiver.files() == []


def test_an_endless_data_set_of_a_refused_message_is_aborted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "MAX_PASSED_OVER", 1024 * 1024)
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(store_command("no UID"))
        assert not pour(peer, fragment(bytes(16_000)), 3 * 1024 * 1024)
        assert isinstance(peer.receive(), AAbort)


def test_an_endless_command_set_is_aborted(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        assert not pour(peer, fragment(bytes(1_000), is_command=True), 100_000)
        assert isinstance(peer.receive(), AAbort)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has one loopback address only")
def test_silent_connections_of_one_host_do_not_cut_that_of_another(receiver: Receiver) -> None:
    with contextlib.ExitStack() as opened:
        address = ("127.0.0.1", receiver.port)
        connection = opened.enter_context(socket.create_connection(address, 10, ("127.0.0.2", 0)))
        silent = [opened.enter_context(Peer(receiver.port)) for _ in range(2 * MAX_UNASSOCIATED)]
        assert silent[0].receive() is None  # there was no room for all
        slow = Peer(receiver.port, connection=connection)
        slow.associate()
        assert slow.store(data_set()).status == Status.SUCCESS


def test_connections_that_are_reset_or_half_closed_leave_no_connection_behind(receiver: Receiver) -> None:
    for number in range(2 * MAX_UNASSOCIATED):
        with Peer(receiver.port) as silent:
            if number % 2:
                silent.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                continue
            silent.socket.shutdown(socket.SHUT_WR)
            assert silent.receive() is None
    with Peer(receiver.port) as peer:
        peer.associate()
        assert peer.store(data_set()).status == Status.SUCCESS
        peer.release()
    for connection in receiver.server.connections():
        connection.join(10)
    assert receiver.server.connections() == []


# The senders of the torture ----------------------------------------------------------------------------------------


def faults_at_a_receiver_that_answers(answer: bytes, *, may_end: bool = False) -> list[str]:
    """What senders tell of a receiver whose only answer is this, before it closes."""
    senders = Senders(Ledger(random.Random(1), Duplicates.BOTH), may_end=may_end)
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as opened:
        senders.start(listener.getsockname()[1])
        for _ in range(SENDERS):
            connection, _ = listener.accept()
            opened.enter_context(connection).recv(65536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
        senders.end()
    return senders.faults


WRONG = {
    "no DICOM": b"HTTP/1.1 400 Bad Request",
    "another PDU": pdu.encode(AReleaseRP()),
    "a PDU that breaks off inside": b"\x02\x00\x00\x00\x00\x04\x00\x01\x00\x00",
}


@pytest.mark.parametrize("may_end", [False, True])
@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
def test_each_sender_tells_a_wrong_answer(answer: bytes, may_end: bool) -> None:
    assert len(faults_at_a_receiver_that_answers(answer, may_end=may_end)) == SENDERS


def test_a_receiver_that_is_gone_is_no_fault() -> None:
    assert faults_at_a_receiver_that_answers(b"") == []


def test_an_abort_is_a_fault_unless_the_receiver_stops() -> None:
    abort = pdu.encode(AAbort(0, 0))
    assert len(faults_at_a_receiver_that_answers(abort)) == SENDERS
    assert faults_at_a_receiver_that_answers(abort, may_end=True) == []


def test_a_release_that_is_answered_otherwise_is_a_wrong_answer() -> None:
    ours, theirs = socket.socketpair()
    with theirs, Peer(0, connection=ours) as peer:
        theirs.sendall(pdu.encode(AAbort(0, 0)))
        with pytest.raises(WrongAnswer) as caught:
            peer.release()
        assert isinstance(caught.value.arrived, AAbort)
