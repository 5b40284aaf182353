"""The server over real sockets, with a peer that writes what it likes."""

from dcmstore.dimse.status import Status
from dcmstore.ul.pdu import AReleaseRP
from tests.support import Peer, Receiver, data_set, stored_data_set


def test_an_instance_is_filed_and_acknowledged(receiver: Receiver) -> None:
    with Peer(receiver.port) as peer:
        peer.associate()
        response = peer.store(data_set())
        assert response.status == Status.SUCCESS
        path = receiver.images / "PAT1" / "7" / "3" / "1.2.3.4.dcm"
        assert stored_data_set(path) == data_set()
        assert receiver.files() == [path]
