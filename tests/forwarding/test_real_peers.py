"""Real receivers get real objects, and what they have is what lies in the file, byte for byte."""

import contextlib
import json
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, evt

from dcmstore import uids
from dcmstore.forwarding.sending import ForwardHandler
from dcmstore.jobs.work import JobFailed
from tests.forwarding.support import WAIT, FakePeer, file_of, job, sender
from tests.support import Receiver, data_set, free_port, stored_data_set
from tests.test_interop import CT_SMALL, DOSE_REPORTS, SENDABLE, data_set_of, identities, orthanc
from tools.programs import find_program

ALL = [*SENDABLE, *DOSE_REPORTS]
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
COLOR_PALETTE = "1.2.840.10008.5.1.4.39.1"
SYNTAXES = [*uids.TRANSFER_SYNTAXES, "1.2.840.113619.5.2", "1.2.3.4.5.6.7"]  # two private ones


def announced(path: Path) -> tuple[str, str, str]:
    """SOP class, transfer syntax and SOP instance of a file, as its data set has them, else its head."""
    outside, inside = identities(path) or (("", ""), ("", ""))
    sop_class, instance = (within or without for within, without in zip(inside, outside, strict=True))
    return sop_class, read_file_meta_info(path).TransferSyntaxUID, instance


# What a receiver can be sent: with a valid UID, and no DICOMDIR.
OBJECTS = [path for path in ALL if uids.is_uid(announced(path)[2]) and announced(path)[0] != MEDIA_DIRECTORY]


def forward(handler: ForwardHandler, target: str, paths: list[Path]) -> list[Path]:
    """Send all; return those that the peer did not want."""
    refused = []
    for path in paths:
        try:
            handler.do(job(target, path))
        except JobFailed:
            refused.append(path)
    return refused


def test_every_file_of_pydicom_goes_out_byte_for_byte() -> None:
    with FakePeer().listening() as peer, sender() as handler:
        refused = forward(handler, peer.target, ALL)
    assert [path for path in refused if uids.is_uid(announced(path)[2])] == []
    sent = [path for path in ALL if path not in refused]
    assert len(sent) > 75
    for path, came in zip(sent, peer.came, strict=True):
        assert (came.sop_class_uid, came.transfer_syntax, came.sop_instance_uid) == announced(path)
        assert came.data_set == data_set_of(path), path.name


def test_every_transfer_syntax_goes_to_a_receiver_of_ours_as_it_is(receiver: Receiver, tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    paths = [
        file_of(folder, f"1.2.3.{number}", data_set(f"1.2.3.{number}", pixels=bytes(number)), syntax=syntax)
        for number, syntax in enumerate(SYNTAXES)
        if syntax not in NOT_EXPLICIT
    ]
    with sender() as handler:
        assert forward(handler, f"DCMSTORE@127.0.0.1:{receiver.port}", paths) == []
    stored = {path.name: path for path in receiver.files()}
    for path in paths:
        assert stored_data_set(stored[path.name]) == stored_data_set(path)
        assert read_file_meta_info(stored[path.name]).TransferSyntaxUID == read_file_meta_info(path).TransferSyntaxUID


# Their data sets are not what `data_set` makes; files of pydicom have the usual ones.
NOT_EXPLICIT = {
    uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN,
    "1.2.840.113619.5.2", "1.2.840.10008.1.20", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205",
}  # fmt: skip


def test_files_of_pydicom_go_to_a_receiver_of_ours_as_they_are(receiver: Receiver) -> None:
    with sender() as handler:
        assert forward(handler, f"DCMSTORE@127.0.0.1:{receiver.port}", OBJECTS) == []
    stored = {stored_data_set(path) for path in receiver.files()}
    assert stored == {data_set_of(path) for path in OBJECTS}
    syntaxes = {read_file_meta_info(path).TransferSyntaxUID for path in receiver.files()}
    assert {uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN} < syntaxes


# --- pynetdicom ----------------------------------------------------------------------------------


@contextlib.contextmanager
def pynetdicom_scp(port: int = 0) -> Iterator[tuple[int, list[tuple[str, str, bytes]]]]:
    """Its port, and what has come: SOP class, transfer syntax, data set."""
    came: list[tuple[str, str, bytes]] = []

    def store(event: evt.Event) -> int:
        came.append(
            (event.request.AffectedSOPClassUID, event.context.transfer_syntax, event.request.DataSet.getvalue())
        )
        return 0x0000

    ae = AE("PACS")
    for sop_class in {announced(path)[0] for path in OBJECTS}:
        ae.add_supported_context(sop_class, SYNTAXES)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        assert server is not None
        yield server.socket.getsockname()[1], came
    finally:
        ae.shutdown()


def test_files_of_pydicom_go_to_pynetdicom_as_they_are() -> None:
    with pynetdicom_scp() as (port, came), sender() as handler:
        assert forward(handler, f"PACS@127.0.0.1:{port}", OBJECTS) == []
    assert [data for _, _, data in came] == [data_set_of(path) for path in OBJECTS]
    assert [(sop_class, syntax) for sop_class, syntax, _ in came] == [announced(path)[:2] for path in OBJECTS]


def test_pynetdicom_that_comes_up_late_gets_what_waited() -> None:
    port = free_port()
    with sender() as handler:
        assert forward(handler, f"PACS@127.0.0.1:{port}", [CT_SMALL]) == [CT_SMALL]
        with pynetdicom_scp(port) as (_, came):
            assert forward(handler, f"PACS@127.0.0.1:{port}", [CT_SMALL]) == []
    assert [data for _, _, data in came] == [data_set_of(CT_SMALL)]


# --- DCMTK ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def storescp(folder: Path, *options: str) -> Iterator[int]:
    program = find_program("storescp")
    assert program is not None
    port = free_port()
    process = subprocess.Popen(
        [program, *options, "-od", str(folder), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(WAIT)


def wait_for(port: int) -> None:
    """Until somebody listens; the program says nothing when it does."""
    gone = threading.Event()
    for _ in range(400):
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), WAIT).close()
            return
        gone.wait(0.05)
    raise AssertionError(f"nobody listens on port {port}")


@pytest.mark.interop("storescp")
def test_files_of_pydicom_go_to_storescp_as_they_are(tmp_path: Path) -> None:
    with storescp(tmp_path, "+B", "+xa", "-pm", "+uf") as port, sender() as handler:
        refused = forward(handler, f"PACS@127.0.0.1:{port}", OBJECTS)
    # DCMTK does not know color palettes for receiving, and aborts where a data set has an odd length (PS3.8 E.1).
    assert {announced(path)[0] for path in refused if len(data_set_of(path)) % 2 == 0} == {COLOR_PALETTE}
    taken = [path for path in OBJECTS if path not in refused]
    assert len(taken) > 60
    assert {data_set_of(path) for path in tmp_path.iterdir()} == {data_set_of(path) for path in taken}


@pytest.mark.interop("storescp")
def test_storescp_that_takes_no_compressed_objects_gets_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "came"
    folder.mkdir()
    jpeg = file_of(tmp_path, "1.2.1", syntax="1.2.840.10008.1.2.4.50")
    with storescp(folder, "+xe") as port, sender() as handler:
        with pytest.raises(JobFailed, match="does not take CT Image Storage in JPEG Baseline") as caught:
            handler.do(job(f"PACS@127.0.0.1:{port}", jpeg))
        assert caught.value.is_final
        handler.do(job(f"PACS@127.0.0.1:{port}", CT_SMALL))
    (stored,) = folder.iterdir()
    assert pydicom.dcmread(stored).SOPInstanceUID == pydicom.dcmread(CT_SMALL).SOPInstanceUID


# --- Orthanc -------------------------------------------------------------------------------------


class ReceivingOrthanc(orthanc):
    """One that takes what comes over DICOM, at `dicom_port`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {})
        self.dicom_port = free_port()
        settings = json.loads(self._configuration.read_text()) | {
            "DicomServerEnabled": True,
            "DicomAet": "ORTHANC",
            "DicomPort": self.dicom_port,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
        }
        self._configuration.write_text(json.dumps(settings))


@pytest.mark.interop("Orthanc")
def test_orthanc_has_what_was_forwarded(tmp_path: Path) -> None:
    names = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "rtplan.dcm", "reportsi.dcm")
    paths = [path for path in OBJECTS if path.name in names] + DOSE_REPORTS
    server = ReceivingOrthanc(tmp_path)
    with server as url, sender() as handler:
        assert forward(handler, f"ORTHANC@127.0.0.1:{server.dicom_port}", paths) == []
        ids = json.loads(get(f"{url}/instances"))
        found = set()
        for one in ids:
            tags = json.loads(get(f"{url}/instances/{one}/simplified-tags"))
            sender_of = json.loads(get(f"{url}/instances/{one}/metadata?expand"))["RemoteAET"]
            found.add((tags["SOPInstanceUID"], sender_of))
    assert found == {(pydicom.dcmread(path).SOPInstanceUID, "DCMSTORE") for path in paths}


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:
        answer: bytes = response.read()
        return answer
