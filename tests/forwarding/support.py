"""A peer that plays what a test wants, and jobs for it."""

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from dcmstore.dimse import command
from dcmstore.dimse.command import RESPONSE_BIT, CommandField, CommandSet
from dcmstore.dimse.message import MessageAssembly
from dcmstore.forwarding.association import Timeouts
from dcmstore.forwarding.sending import ForwardHandler
from dcmstore.jobs.work import Job
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta
from dcmstore.ul import pdu
from dcmstore.ul.framing import Fragment, Framing
from dcmstore.ul.items import ContextResult, NegotiatedContext, ProposedContext, UserInformation
from dcmstore.ul.pdu import AAbort, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRP, AReleaseRQ
from tests.support import CT, data_set

EXPLICIT = "1.2.840.10008.1.2.1"
WAIT = 20.0  # seconds until a test gives up
QUICK = Timeouts(connect=2.0, step=0.3, response=0.3)
PATIENT = Timeouts(connect=WAIT, step=WAIT, response=WAIT)


class Act(Enum):
    """What a peer may do in place of an answer."""

    HANG = auto()
    CLOSE = auto()
    ABORT = auto()
    ANOTHER_MESSAGE = auto()
    NO_STATUS = auto()
    RUBBISH = auto()
    DRIBBLE = auto()


@dataclass(frozen=True)
class Came:
    """One object as it came over the wire."""

    sop_class_uid: str
    transfer_syntax: str
    sop_instance_uid: str
    data_set: bytes


def accept_all(_: ProposedContext) -> ContextResult:
    return ContextResult.ACCEPTANCE


def succeed(_: int) -> int:
    return 0


@dataclass
class FakePeer:
    """Takes associations one after the other or at once; `answer` is asked with the number of the object, from 1."""

    answer: Callable[[int], int | Act] = succeed
    accept: Callable[[ProposedContext], ContextResult] = accept_all
    rejection: AAssociateRJ | None = None
    reads_data: bool = True
    dribbles: bool = False  # of its answer to the association request, a byte now and then
    max_length: int = 16384
    closes_when_idle: bool = False
    came: list[Came] = field(default_factory=list)
    requests: list[AAssociateRQ] = field(default_factory=list)
    ends: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    has_data: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _connections: list[socket.socket] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"PACS@127.0.0.1:{self.port}"

    def end(self) -> str:
        return self.ends.get(timeout=WAIT)

    @contextlib.contextmanager
    def listening(self, port: int = 0) -> Iterator["FakePeer"]:
        with socket.create_server(("127.0.0.1", port)) as listener:
            self.port = listener.getsockname()[1]
            accepting = threading.Thread(target=self._accept, args=(listener,))
            accepting.start()
            try:
                yield self
            finally:
                self._stopped.set()
                listener.shutdown(socket.SHUT_RDWR)
                for connection in self._connections:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                for thread in (accepting, *self._threads):
                    thread.join(WAIT)
                    assert not thread.is_alive()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.ends.put(self._talk(connection))
            except OSError:
                self.ends.put("lost")

    def _talk(self, connection: socket.socket) -> str:
        framing, assembly = Framing(0), MessageAssembly()
        contexts: dict[int, ProposedContext] = {}
        request: CommandSet | None = None
        data = bytearray()
        while chunk := connection.recv(65536):
            for arrived in framing.receive(memoryview(chunk)):
                if isinstance(arrived, AAssociateRQ):
                    self.requests.append(arrived)
                    if self.rejection is not None:
                        connection.sendall(pdu.encode(self.rejection))
                        continue
                    if self.dribbles:
                        for byte in pdu.encode(self._acceptance(arrived)):
                            self._stopped.wait(0.05)
                            connection.sendall(bytes((byte,)))
                        return "dribbled"
                    contexts = {one.context_id: one for one in arrived.presentation_contexts}
                    connection.sendall(pdu.encode(self._acceptance(arrived)))
                    if not self.reads_data:
                        self._stopped.wait(WAIT)
                        return "stopped"
                elif isinstance(arrived, AReleaseRQ):
                    connection.sendall(pdu.encode(AReleaseRP()))
                    return "released"
                elif isinstance(arrived, AAbort):
                    return "aborted"
                elif isinstance(arrived, Fragment):
                    request = assembly.receive(arrived) or request
                    if arrived.is_command:
                        continue
                    self.has_data.set()
                    data += arrived.data
                    if not arrived.is_last:
                        continue
                    assert request is not None
                    context = contexts[arrived.context_id]
                    (syntax,) = context.transfer_syntaxes
                    uid = request.affected_sop_instance_uid or ""
                    self.came.append(Came(context.abstract_syntax, syntax, uid, bytes(data)))
                    data.clear()
                    if not self._respond(connection, arrived.context_id, request):
                        return "done"
        return "closed"

    def _acceptance(self, request: AAssociateRQ) -> AAssociateAC:
        contexts = tuple(
            NegotiatedContext(one.context_id, self.accept(one), one.transfer_syntaxes[0])
            for one in request.presentation_contexts
        )
        info = UserInformation(self.max_length, "1.2.3")
        return AAssociateAC(request.called_ae_title, request.calling_ae_title, contexts, info)

    def _respond(self, connection: socket.socket, context_id: int, request: CommandSet) -> bool:
        """Return false where the association ends."""
        answer = self.answer(len(self.came))
        message_id = request.message_id or 0
        status: int | None = 0
        match answer:
            case Act.HANG:
                self._stopped.wait(WAIT)
                return False
            case Act.CLOSE:
                return False
            case Act.ABORT:
                connection.sendall(pdu.encode(AAbort(2, 0)))
                return False
            case Act.RUBBISH:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return False
            case Act.DRIBBLE:  # a fragment of a command set, a byte now and then
                connection.sendall(pdu.PDU_HEADER.pack(4, 46) + pdu.PDV_HEADER.pack(42, context_id, 1))
                while not self._stopped.wait(0.05):
                    connection.sendall(b"\0")
                return False
            case Act.ANOTHER_MESSAGE:
                message_id += 1
            case Act.NO_STATUS:
                status = None
            case int():
                status = answer
        response = CommandSet(
            CommandField.C_STORE_RQ | RESPONSE_BIT, message_id_being_responded_to=message_id, status=status,
            error_comment="Doe^Jane" if status else None,
        )  # fmt: skip
        connection.sendall(pdu.encode_p_data(context_id, command.encode(response), is_command=True, peer_max_length=0))
        return not self.closes_when_idle


@dataclass
class Told:
    """What a handler has reported."""

    facts: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, event: str, /, **facts: object) -> None:
        self.facts.append((event, facts))


@contextlib.contextmanager
def sender(told: Told | None = None, **options: object) -> Iterator[ForwardHandler]:
    peers = options.pop("peers", {})
    options = {"timeouts": PATIENT, "idle": WAIT, **options}
    handler = ForwardHandler(lambda: "DCMSTORE", lambda: peers, told or Told(), **options)  # type: ignore[arg-type,return-value]
    try:
        yield handler
    finally:
        handler.close()


def file_of(
    folder: Path, uid: str = "1.2.3.4", encoded: bytes | None = None, sop_class: str = CT, syntax: str = EXPLICIT
) -> Path:
    """A stored file below `folder`, which is its root."""
    path = folder / f"{uid}.dcm"
    meta = part10.encode(FileMeta(sop_class, uid, syntax, "CT1"))
    path.write_bytes(meta + (data_set(uid, sop_class=sop_class) if encoded is None else encoded))
    return path


def facts_of(path: Path, **changed: str | int) -> dict[str, str | int]:
    facts: dict[str, str | int] = {
        "event": "stored", "path": str(path), "root": str(path.parent), "root_key": "images", "sop_class_uid": CT,
        "sop_instance_uid": path.stem, "transfer_syntax": EXPLICIT, "modality": "CT", "calling_ae_title": "CT1",
        "host": "192.0.2.10",
    }  # fmt: skip
    return facts | changed


def job(target: str, path: Path, **changed: str | int) -> Job:
    return Job("forward", target, str(path), path.stem, facts_of(path, **changed))
