"""What many tests need: a receiver on a free port, a peer that writes bytes, and small data sets."""

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dcmstore import receiver, uids, wiring
from dcmstore.dimse import command
from dcmstore.dimse.command import CommandField, CommandSet
from dcmstore.dimse.message import MessageAssembly
from dcmstore.logs import Log, StreamSink
from dcmstore.server import Server
from dcmstore.settings import Settings
from dcmstore.storage.store import Store
from dcmstore.ul import pdu
from dcmstore.ul.framing import Fragment, Framing
from dcmstore.ul.items import ProposedContext, UserInformation
from dcmstore.ul.pdu import PDU, AAssociateAC, AAssociateRQ, AReleaseRP, AReleaseRQ

CT = "1.2.840.10008.5.1.4.1.1.2"
WAIT = 20.0  # seconds until a test gives up
MR = "1.2.840.10008.5.1.4.1.1.4"
XRAY_DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"
ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"


def element(group: int, number: int, vr: str, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian, padded to even length."""
    value += (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) % 2)
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return struct.pack("<HH2s2xI", group, number, vr.encode(), len(value)) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def data_set(
    uid: str = "1.2.3.4",
    *,
    sop_class: str = CT,
    patient_id: bytes = b"PAT1",
    study_id: bytes = b"7",
    series_number: bytes = b"3",
    pixels: bytes = b"\x01\x02\x03\x04",
) -> bytes:
    """A small image in Explicit VR Little Endian."""
    return b"".join(
        (
            element(0x0008, 0x0016, "UI", sop_class.encode()),
            element(0x0008, 0x0018, "UI", uid.encode()),
            element(0x0010, 0x0010, "PN", b"Doe^Jane"),
            element(0x0010, 0x0020, "LO", patient_id),
            element(0x0020, 0x0010, "SH", study_id),
            element(0x0020, 0x0011, "IS", series_number),
            element(0x7FE0, 0x0010, "OW", pixels),
        )
    )


def with_title(report: bytes, code: bytes = b"113701") -> bytes:
    """The data set with a Concept Name Code Sequence; this code makes a report a dose report (PS3.16 TID 10001)."""
    title = element(0x0008, 0x0100, "SH", code) + element(0x0008, 0x0102, "SH", b"DCM")
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(title)) + title
    start = report.index(b"\xe0\x7f\x10\x00")
    return report[:start] + element(0x0040, 0xA043, "SQ", item) + report[start:]


def stored_data_set(path: Path) -> bytes:
    """The data set of a PS3.10 file that this program wrote: what follows group 0002."""
    raw = path.read_bytes()
    if raw[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
        raise ValueError(f"{path} does not begin as a file of ours")
    (length,) = struct.unpack_from("<I", raw, 140)
    return raw[144 + length :]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Receiver:
    """A running receiver, its folders, and its log so far."""

    server: Server
    store: Store
    images: Path
    rdsr: Path
    log_text: io.StringIO

    @property
    def port(self) -> int:
        return self.server.address[1]

    def files(self) -> list[Path]:
        """Every file below the two roots, locks of the running store aside."""
        found = (p for root in (self.images, self.rdsr) for p in root.rglob("*") if p.is_file())
        return sorted(path for path in found if path.suffix != ".lock")


@contextlib.contextmanager
def running(folder: Path, settings: Settings | None = None) -> Iterator[Receiver]:
    """A receiver in this process, on a free loopback port, with its folders below `folder`."""
    images, rdsr = folder / "images", folder / "rdsr"
    images.mkdir(exist_ok=True)
    rdsr.mkdir(exist_ok=True)
    settings = replace(settings or Settings(), port=0, bind="127.0.0.1")
    store = wiring.store_of(replace(settings, img_dir=images, rdsr_dir=rdsr))
    text = io.StringIO()
    log = Log([StreamSink(text)], settings.log_level)
    server = Server(settings, receiver.shared_of(settings, store, log), log)
    store.open()
    server.start()
    try:
        yield Receiver(server, store, images, rdsr, text)
    finally:
        server.stop(5)
        store.close()
        log.close()


class WrongAnswer(AssertionError):
    """What arrived is not what was due; None stands for the end of the connection."""

    def __init__(self, arrived: object) -> None:
        super().__init__(f"arrived: {arrived}")
        self.arrived = arrived


def wait_until(is_so: Callable[[], object], seconds: float = WAIT) -> None:
    """Until something that another thread or process does is so."""
    tick = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if is_so():
            return
        tick.wait(0.05)
    raise AssertionError("it did not happen")


class Peer:
    """A sender that can do anything: it builds bytes with the product's encoders, and writes what it likes."""

    def __init__(self, port: int, *, connection: socket.socket | None = None) -> None:
        self.socket = connection or socket.create_connection(("127.0.0.1", port), 10)
        self._framing = Framing(0)
        self._arrived: list[PDU | Fragment] = []
        self._messages = 0

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> PDU | Fragment | None:
        """The next PDU or fragment; None when the receiver has closed."""
        while not self._arrived:
            try:
                chunk = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            for arrived in self._framing.receive(memoryview(chunk)):
                if isinstance(arrived, Fragment):
                    arrived = arrived._replace(data=memoryview(bytes(arrived.data)))
                self._arrived.append(arrived)
        return self._arrived.pop(0)

    def receive_response(self) -> CommandSet:
        assembly = MessageAssembly()
        while True:
            arrived = self.receive()
            if not isinstance(arrived, Fragment):
                raise WrongAnswer(arrived)
            response = assembly.receive(arrived)
            if response is not None:
                return response

    def associate(self, *abstract_syntaxes: str, transfer_syntax: str = uids.EXPLICIT_VR_LITTLE_ENDIAN) -> AAssociateAC:
        """Agree on one context each, with the IDs 1, 3, 5 …"""
        self.send(pdu.encode(association_request(*abstract_syntaxes, transfer_syntax=transfer_syntax)))
        answer = self.receive()
        if not isinstance(answer, AAssociateAC):
            raise WrongAnswer(answer)
        return answer

    def store(self, encoded: bytes, uid: str = "1.2.3.4", sop_class: str = CT, context_id: int = 1) -> CommandSet:
        """Send one instance; return its response."""
        self._messages += 1
        self.send(store_request(encoded, uid, sop_class, context_id, self._messages))
        response = self.receive_response()
        if response.message_id_being_responded_to != self._messages:
            raise WrongAnswer(response)
        return response

    def release(self) -> None:
        self.send(pdu.encode(AReleaseRQ()))
        if (answer := self.receive()) != AReleaseRP():
            raise WrongAnswer(answer)
        self.socket.close()  # the requestor's part (PS3.8 9.2, AR-3)


def association_request(
    *abstract_syntaxes: str, transfer_syntax: str = uids.EXPLICIT_VR_LITTLE_ENDIAN, calling: str = "PEER"
) -> AAssociateRQ:
    contexts = tuple(
        ProposedContext(2 * index + 1, abstract_syntax, (transfer_syntax,))
        for index, abstract_syntax in enumerate(abstract_syntaxes or (CT,))
    )
    return AAssociateRQ("DCMSTORE", calling, contexts, UserInformation(16384, "1.2.3"))


def store_request(
    encoded: bytes, uid: str = "1.2.3.4", sop_class: str = CT, context_id: int = 1, message_id: int = 1
) -> bytes:
    """A whole C-STORE-RQ as PDUs: the command set, then the data set."""
    request = CommandSet(
        CommandField.C_STORE_RQ,
        message_id=message_id,
        affected_sop_class_uid=sop_class,
        affected_sop_instance_uid=uid,
        command_data_set_type=0,
        priority=0,
    )
    return pdu.encode_p_data(
        context_id, command.encode(request), is_command=True, peer_max_length=16384
    ) + pdu.encode_p_data(context_id, encoded, is_command=False, peer_max_length=16384)


def store_command(uid: str = "1.2.3.4") -> bytes:
    """The first PDU of a C-STORE-RQ: its command set alone."""
    whole = store_request(data_set(uid), uid)
    return whole[: 6 + pdu.PDU_HEADER.unpack_from(whole)[1]]


def fragment(data: bytes, *, is_command: bool = False) -> bytes:
    """A PDU with one fragment that is not the last."""
    pdv = pdu.PDV_HEADER.pack(len(data) + 2, 1, int(is_command)) + data
    return pdu.PDU_HEADER.pack(4, len(pdv)) + pdv
