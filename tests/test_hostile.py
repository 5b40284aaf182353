"""Peers that do not end, at a server in this process; `torture.hostile` has the same at full size."""

import contextlib
import socket
import struct
import sys
from pathlib import Path

import pytest

from dcmstore.connection import MAX_IGNORED
from dcmstore.dimse.status import Status
from dcmstore.server import MAX_UNASSOCIATED
from dcmstore.services import operation
from dcmstore.settings import Settings
from dcmstore.ul import pdu
from dcmstore.ul.pdu import AAbort, AReleaseRP, AReleaseRQ
from tests.support import Peer, Receiver, association_request, data_set, running, store_request


def fragment(data: bytes, *, is_command: bool = False) -> bytes:
    """A PDU with one fragment that is not the last."""
    pdv = pdu.PDV_HEADER.pack(len(data) + 2, 1, int(is_command)) + data
    return pdu.PDU_HEADER.pack(4, len(pdv)) + pdv


def pour(peer: Peer, data: bytes, most: int) -> bool:
    """Send again and again, `most` bytes at most; true when the receiver has cut the connection."""
    try:
        for _ in range(most // len(data)):
            peer.send(data)
    except OSError:
        return True
    return False


def command_of_a_store(uid: str = "1.2.3.4") -> bytes:
    whole = store_request(data_set(), uid)
    return whole[: 6 + pdu.PDU_HEADER.unpack_from(whole)[1]]


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


def test_an_endless_data_set_is_aborted_and_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, Settings(max_object_size=1)) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        peer.send(command_of_a_store())
        assert not pour(peer, fragment(bytes(16_000)), 3 * 1024 * 1024)
        assert isinstance(peer.receive(), AAbort)
        assert receiver.files() == []


def test_an_endless_data_set_of_a_refused_message_is_aborted(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation, "MAX_PASSED_OVER", 1024 * 1024)
    with Peer(receiver.port) as peer:
        peer.associate()
        peer.send(command_of_a_store("no UID"))
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
