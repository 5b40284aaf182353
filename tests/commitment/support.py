"""A receiver with an index, a queue and storage commitment, wired by hand, and requests for commitment as bytes."""

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dcmstore import commitment, receiver, uids, wiring
from dcmstore.commitment.action import Reference
from dcmstore.commitment.call import Peer
from dcmstore.commitment.checking import Checker, Studies
from dcmstore.commitment.handler import CommitmentHandler
from dcmstore.commitment.line import Lines
from dcmstore.commitment.promises import Promises
from dcmstore.commitment.reporting import Reporter, Way
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.index.database import Database
from dcmstore.index.entries import Root
from dcmstore.index.indexer import Indexer
from dcmstore.jobs.runner import Runner
from dcmstore.logs import Log, StreamSink
from dcmstore.server import Server
from dcmstore.services.commitment import CommitmentService
from dcmstore.settings import Settings
from dcmstore.storage.part10 import FileMeta
from dcmstore.ul import pdu
from tests.support import CT

EXPLICIT, IMPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN
TRANSACTION = "1.2.276.0.7230010.3.5.1"
SYNTAXES = (EXPLICIT, IMPLICIT)
ACCEPTED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(uids.STORAGE_SOP_CLASSES, SYNTAXES),
    commitment.SOP_CLASS: SYNTAXES,
}
WAIT = 20.0  # seconds until a test gives up


@dataclass(frozen=True)
class Called:
    """A peer in `peers`."""

    ae_title: str
    host: str
    port: int


@dataclass
class Wired:
    """A receiver, and what it did about commitment so far."""

    folder: Path
    way: Way = Way.SAME
    peers: dict[str, Peer] = field(default_factory=dict)
    asked_of: list[Studies] = field(default_factory=list)
    log_text: io.StringIO = field(default_factory=io.StringIO)
    does_jobs: bool = True
    ahead: float = 0.0  # seconds by which the clock of the jobs is before the system's

    @property
    def port(self) -> int:
        return self.server.address[1]

    def logged(self, event: str) -> list[str]:
        return [line for line in self.log_text.getvalue().splitlines() if f" {event} " in line]

    def later(self, seconds: float) -> None:
        """Let the time pass for the jobs."""
        self.ahead += seconds
        self.runner.wake()

    @contextlib.contextmanager
    def running(self) -> Iterator["Wired"]:
        for name in ("images", "rdsr"):
            (self.folder / name).mkdir(exist_ok=True)
        settings = replace(Settings(), port=0, bind="127.0.0.1", index=True)
        settings = replace(settings, img_dir=self.folder / "images", rdsr_dir=self.folder / "rdsr")
        log = Log([StreamSink(self.log_text)], settings.log_level)
        stopping = threading.Event()
        roots = [Root(str(folder), str(folder)) for folder in wiring.roots_of(settings).values()]
        index_path, queue_path = self.folder / "DcmStore.index", self.folder / "DcmStore.queue"
        with contextlib.ExitStack() as resources:
            indexer = Indexer(str(index_path), lambda: roots, log.info)
            indexer.start()
            resources.callback(indexer.close, 5.0)
            checker = Checker(
                open_index=lambda: contextlib.closing(Database(str(index_path), may_write=False)),
                roots=lambda: roots,
                is_current=lambda: indexer._has_all,
                supports=uids.STORAGE_SOP_CLASSES.__contains__,
                stopping=stopping,
            )

            lines = Lines()
            reporter = Reporter(lambda: settings.local_ae, lambda: self.way, self.peers.get, lines)
            promises = Promises(str(queue_path), str(self.folder), lambda: runner.wake())
            service = CommitmentService(promises.add, reporter.obstacle, lines)
            handler = CommitmentHandler(checker, reporter, log.info, self.asked_of.append)
            handlers = {commitment.JOB_KIND: handler}
            self.runner = runner = Runner(
                str(queue_path), handlers, log.info, like=str(self.folder), clock=lambda: time.time() + self.ahead
            )
            if self.does_jobs:
                runner.start()
            resources.callback(runner.close, 5.0)
            resources.callback(stopping.set)
            store = wiring.store_of(settings)
            shared = receiver.shared_of(settings, store, log, ACCEPTED, index=indexer)
            self.service = service
            self.server = Server(settings, replace(shared, commitment=service), log)
            store.open()
            resources.callback(store.close)
            self.server.start()
            resources.callback(self.server.stop, 5)
            yield self


def element(tag: int, vr: str, value: bytes, *, explicit: bool = True) -> bytes:
    """One element, of even length, in Explicit or Implicit VR Little Endian."""
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    if not explicit or tag >> 16 == 0xFFFE:
        return head + len(value).to_bytes(4, "little") + value
    if vr in ("SQ", "UN", "OB"):
        return head + vr.encode() + b"\0\0" + len(value).to_bytes(4, "little") + value
    return head + vr.encode() + len(value).to_bytes(2, "little") + value


def item(*elements: bytes) -> bytes:
    return element(0xFFFE_E000, "", b"".join(elements))


def reference(sop_instance_uid: str, sop_class_uid: str = CT, *, explicit: bool = True) -> bytes:
    return item(
        element(0x0008_1150, "UI", sop_class_uid.encode(), explicit=explicit),
        element(0x0008_1155, "UI", sop_instance_uid.encode(), explicit=explicit),
    )


def action(
    *sop_instance_uids: str, transaction: str = TRANSACTION, sop_class: str = CT, explicit: bool = True
) -> bytes:
    """The data set of a request for commitment."""
    items = b"".join(reference(uid, sop_class, explicit=explicit) for uid in sop_instance_uids)
    return element(0x0008_1195, "UI", transaction.encode(), explicit=explicit) + element(
        0x0008_1199, "SQ", items, explicit=explicit
    )


ACTION_REQUEST = CommandSet(
    CommandField.N_ACTION_RQ,
    message_id=7,
    requested_sop_class_uid=commitment.SOP_CLASS,
    requested_sop_instance_uid=commitment.SOP_INSTANCE,
    command_data_set_type=command.WITH_DATA_SET,
    action_type_id=1,
)


def message(request: CommandSet, data_set: bytes, context_id: int = 1) -> bytes:
    """A whole message as PDUs."""
    encoded = pdu.encode_p_data(context_id, command.encode(request), is_command=True, peer_max_length=16384)
    if data_set:
        encoded += pdu.encode_p_data(context_id, data_set, is_command=False, peer_max_length=16384)
    return encoded


def wait_for(what: Callable[[], object]) -> None:
    tick = threading.Event()
    for _ in range(int(WAIT / 0.05)):
        if what():
            return
        tick.wait(0.05)
    raise AssertionError("it did not happen")


def ct(*sop_instance_uids: str) -> tuple[Reference, ...]:
    return tuple(Reference(CT, uid) for uid in sop_instance_uids)


def meta(uid: str, sop_class: str = CT) -> FileMeta:
    return FileMeta(sop_class, uid, EXPLICIT, "CT1")
