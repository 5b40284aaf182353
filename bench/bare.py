"""socket -> file: the least a receiver in Python can do, as a measure for what ours does beyond it.

    python -m bench.bare PORT FOLDER          the bare loop: receive, write, rename, answer
    python -m bench.bare PORT FOLDER sync     the same, synced before it is renamed
    python -m bench.bare PORT FOLDER durable  the same, and the folder synced behind it, so that the name is kept too
    python -m bench.bare PORT                 the bare sink: receive and answer

It looks for where a message ends and for its Message ID, and at nothing else. It takes one PDV a PDU, which is
what DCMTK and our generator send, and believes whatever it is told: not a receiver to use.
"""

import itertools
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator

from dcmstore import sockets
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.storage import files
from dcmstore.ul import negotiation, pdu
from dcmstore.ul.negotiation import Policy
from dcmstore.ul.pdu import AAssociateAC, AAssociateRQ, AReleaseRP, PDUType

BUFFER = 1024 * 1024  # bytes, as our receiver's
MAX_LENGTH = 131_072
_HEADER = struct.Struct(">BxIIBB")  # a P-DATA-TF's header and that of its only PDV
_RELEASE_SIZE = 10  # bytes of an A-RELEASE-RQ
_MESSAGE_ID = b"\x00\x00\x10\x01\x02\x00\x00\x00"  # (0000,0110), 2 bytes


class Loop:
    """One connection. Without a folder the data sets are dropped."""

    def __init__(self, connection: socket.socket, folder: str, numbers: Iterator[int], how: str) -> None:
        self._connection = connection
        self._folder = folder
        self._is_synced = how in ("sync", "durable")
        self._is_durable = how == "durable"
        self._numbers = numbers
        self._descriptor = -1
        self._path = ""
        self._command = b""

    def run(self) -> None:
        with self._connection:
            sockets.tune(self._connection)
            if self._accept():
                self._receive()

    def _accept(self) -> bool:
        received = b""
        while len(received) < 6 or len(received) < 6 + int.from_bytes(received[2:6], "big"):
            more = self._connection.recv(65536)
            if not more:
                return False
            received += more
        request = pdu.decode(received[0], received[6:])
        assert isinstance(request, AAssociateRQ)
        policy = Policy(ae_title="BARE", max_length_received=MAX_LENGTH)
        answer = negotiation.negotiate(request, policy)
        assert isinstance(answer, AAssociateAC)
        self._connection.sendall(pdu.encode(answer))
        return True

    def _receive(self) -> None:
        buffer = bytearray(BUFFER)
        view = memoryview(buffer)
        kept = left = control = context_id = 0  # kept: bytes of a header that is not complete
        while size := self._connection.recv_into(view[kept:]):
            sockets.acknowledge_now(self._connection)
            position, end = 0, kept + size
            while True:
                if left:
                    taken = min(left, end - position)
                    self._take(view[position : position + taken], control)
                    position, left = position + taken, left - taken
                    if left:
                        break
                    if control & pdu.LAST_BIT and not control & pdu.COMMAND_BIT:
                        self._finish(context_id)
                if end - position >= _RELEASE_SIZE and buffer[position] == PDUType.A_RELEASE_RQ:
                    self._connection.sendall(pdu.encode(AReleaseRP()))
                    return
                if end - position < _HEADER.size:
                    break
                _, _, length, context_id, control = _HEADER.unpack_from(buffer, position)
                position, left = position + _HEADER.size, length - 2
            kept = end - position
            buffer[:kept] = buffer[position:end]

    def _take(self, data: memoryview, control: int) -> None:
        if control & pdu.COMMAND_BIT:
            self._command += data
        elif self._folder:
            if self._descriptor < 0:
                self._path = f"{self._folder}/{next(self._numbers)}"
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            os.write(self._descriptor, data)

    def _finish(self, context_id: int) -> None:
        if self._descriptor >= 0:
            if self._is_synced:
                os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            os.rename(self._path, self._path + ".dcm")
            if self._is_durable:
                files.sync_folder(self._folder)
            self._descriptor = -1
        start = self._command.index(_MESSAGE_ID) + len(_MESSAGE_ID)
        message_id = int.from_bytes(self._command[start : start + 2], "little")
        self._command = b""
        response = command.encode(
            CommandSet(CommandField.C_STORE_RQ | command.RESPONSE_BIT, None, message_id, status=0)
        )
        self._connection.sendall(pdu.encode_p_data(context_id, response, is_command=True, peer_max_length=0))


def main(port: str, folder: str = "", how: str = "") -> None:
    numbers = itertools.count()
    with sockets.listen("127.0.0.1", int(port)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=Loop(connection, folder, numbers, how).run, daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
