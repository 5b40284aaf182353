"""PS3.10 file -> PDUs: whole messages, built before the clock runs."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta
from dcmstore.ul import pdu
from dcmstore.ul.items import ContextResult, ProposedContext, UserInformation
from dcmstore.ul.pdu import AAssociateAC, AAssociateRQ, AReleaseRQ

CONTEXT_ID = 1
MAX_LENGTH = 131_072  # bytes a P-DATA-TF, where the receiver allows that much; DCMTK's own upper bound
PER_PATIENT = 50  # numbered objects
_UID_END = 9  # digits of a UID that count the objects
SILENCE = 120  # seconds without an answer that mean it will not come

_SUCCESS = b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00"  # (0000,0900) Status, 2 bytes: 0000H
_STATUS = _SUCCESS[:-2]


class Refused(Exception):
    """The receiver did not do what was asked; the text says what it did."""


@dataclass(frozen=True, slots=True)
class Message:
    """One C-STORE-RQ as it goes over the wire, and how many bytes of it are the data set."""

    encoded: bytes
    data_set_size: int


def associate(connection: socket.socket, meta: FileMeta, *, ahead: bool = False) -> int:
    """Open an association for the SOP class and transfer syntax of a file; return the length for our PDUs.

    With `ahead` it asks for an asynchronous window without a limit (PS3.7 D.3.3.3), and insists on it.
    """
    context = ProposedContext(CONTEXT_ID, meta.media_storage_sop_class_uid, (meta.transfer_syntax_uid,))
    window = (0, 1) if ahead else None
    information = UserInformation(MAX_LENGTH, "1.2.3", async_operations_window=window)
    request = AAssociateRQ("ANY-SCP", "BENCH", (context,), information)
    connection.sendall(pdu.encode(request))
    received = receive(connection)
    answer = pdu.decode(received[0], received[pdu.PDU_HEADER.size :])
    if not isinstance(answer, AAssociateAC):
        raise Refused(f"association: {answer}")
    if [context.result for context in answer.presentation_contexts] != [ContextResult.ACCEPTANCE]:
        raise Refused(f"presentation context: {answer.presentation_contexts}")
    if answer.user_information.async_operations_window != window:
        raise Refused("no asynchronous window")
    return min(answer.user_information.max_length_received or MAX_LENGTH, MAX_LENGTH)


def release(connection: socket.socket) -> None:
    connection.sendall(pdu.encode(AReleaseRQ()))
    receive(connection)


def read_meta(path: Path) -> FileMeta:
    with open(path, "rb") as file:
        return part10.read(file)


def message(path: Path, message_id: int, max_length: int) -> Message:
    """The command PDU and the data PDUs of a file, one behind the other."""
    with open(path, "rb") as file:
        meta, data_set = part10.read(file), file.read()
    request = CommandSet(
        CommandField.C_STORE_RQ,
        message_id=message_id,
        affected_sop_class_uid=meta.media_storage_sop_class_uid,
        affected_sop_instance_uid=meta.media_storage_sop_instance_uid,
        command_data_set_type=0,
        priority=0,
    )
    encoded = pdu.encode_p_data(
        CONTEXT_ID, command.encode(request), is_command=True, peer_max_length=max_length
    ) + pdu.encode_p_data(CONTEXT_ID, data_set, is_command=False, peer_max_length=max_length)
    return Message(encoded, len(data_set))


def receive(connection: socket.socket) -> bytes:
    """The next PDU, whole. There is never more than one under way."""
    received = connection.recv(65536)
    while len(received) < 6 or len(received) < 6 + int.from_bytes(received[2:6], "big"):
        more = connection.recv(65536)
        if not more:
            raise Refused("the receiver closed the connection")
        received += more
    return received


def receive_many(connection: socket.socket, count: int) -> Iterator[bytes]:
    """So many PDUs, whole, as they come."""
    received = b""
    while count:
        while len(received) < 6 or len(received) < (size := 6 + int.from_bytes(received[2:6], "big")):
            more = connection.recv(65536)
            if not more:
                raise Refused("the receiver closed the connection")
            received += more
        yield received[:size]
        received, count = received[size:], count - 1


def expect_success(response: bytes) -> None:
    """Raise Refused unless the response carries the status 0000H."""
    if _SUCCESS not in response:
        start = response.find(_STATUS)
        status = response[start + len(_STATUS) :][:2][::-1].hex() if start >= 0 else "none"
        raise Refused(f"PDU {response[0]:02X}H with status {status}")


class Numbered:
    """One object sent again and again over a connection, each time as another one, with a new patient after 50.

    Raises Refused where it is not stored.
    """

    def __init__(self, connection: socket.socket, template: Path) -> None:
        """`template` is one that bench.sets has written."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        meta = read_meta(template)
        self._encoded = message(template, 1, associate(connection, meta)).encoded
        self._uid = meta.media_storage_sop_instance_uid.encode()

    def send(self, number: int) -> None:
        """The one of this number."""
        patient = f"BENCH{number // PER_PATIENT:06}".encode()
        uid = self._uid[:-_UID_END] + f"{number:0{_UID_END}}".encode()
        self._connection.sendall(self._encoded.replace(self._uid, uid).replace(b"BENCH000001", patient))
        expect_success(receive(self._connection))
