"""Real programs of others send real files; what is on disk is what crossed the wire."""

import json
import re
import subprocess
import threading
import urllib.request
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID
from pynetdicom import AE, _config
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dcmstore import uids
from tests.support import Receiver, free_port, stored_data_set
from tests.tap import Sent, Tap, tapping
from tools.programs import find_program


def package_folder(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


PYDICOM_FILES = sorted((package_folder("pydicom") / "data").rglob("*.dcm"))
DOSE_REPORTS = sorted((package_folder("pyskindose") / "example_data" / "RDSR").glob("*.dcm"))
CT_SMALL = next(path for path in PYDICOM_FILES if path.name == "CT_small.dcm")


def identities(path: Path) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """SOP Class and Instance UID of a PS3.10 file's meta information and of its data set; None for other files."""
    try:
        with warnings.catch_warnings(action="ignore"):
            meta = pydicom.filereader.read_file_meta_info(path)
            data_set = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    except pydicom.errors.InvalidDicomError:
        return None
    if not meta.get("MediaStorageSOPInstanceUID") or "TransferSyntaxUID" not in meta:
        return None
    return (
        (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID),
        (data_set.get("SOPClassUID", ""), data_set.get("SOPInstanceUID", "")),
    )


def contradicts_itself(path: Path) -> bool:
    """True where the data set names other UIDs than the file meta information; naming none is no contradiction."""
    pair = identities(path)
    return pair is not None and any(inside and inside != outside for outside, inside in zip(*pair, strict=True))


SENDABLE = [path for path in PYDICOM_FILES if identities(path)]


@pytest.fixture
def tap(receiver: Receiver) -> Iterator[Tap]:
    with tapping(receiver.port) as opened:
        yield opened


def send(program: str, *arguments: str | Path) -> str:
    path = find_program(program)
    assert path is not None
    done = subprocess.run(
        [path, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
        errors="replace",
    )  # fmt: skip
    return f"{done.stdout}\nexit code {done.returncode}"


def check_all_stored(receiver: Receiver, sent: list[Sent]) -> None:
    """Every data set that crossed the wire is in a file of its own, byte for byte, and pydicom reads its head."""
    assert sent
    stored = {}
    for path in receiver.files():
        meta = pydicom.filereader.read_file_meta_info(path)
        stored[meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, stored_data_set(path)] = path
    for one in sent:
        assert (one.sop_class_uid, one.sop_instance_uid, one.data_set) in stored, one.sop_instance_uid
    assert len(stored) == len(set(sent))


# --- DCMTK ---------------------------------------------------------------------------------------


@pytest.mark.interop("echoscu")
def test_echoscu_is_answered_also_repeatedly_and_aborted(receiver: Receiver) -> None:
    for options in ([], ["--repeat", "5"], ["--abort"], ["-pts", "38"]):
        assert "exit code 0" in send("echoscu", *options, "127.0.0.1", str(receiver.port))


@pytest.mark.interop("dcmsend")
def test_dcmsend_sends_every_file_of_pydicom(receiver: Receiver, tap: Tap) -> None:
    # Of a data set without UIDs, and of rtdose_rle*, dcmsend 3.6.7 sends rubbish in place of the UIDs.
    whole = [path for path in SENDABLE if len(set(identities(path) or ())) == 1]
    paths = [path for path in whole if not path.name.startswith("rtdose_rle")]
    output = send("dcmsend", "-v", "-nh", "-nuc", "-dn", "127.0.0.1", str(tap.port), *paths)
    sent = re.search(r"sent to the peer +: (\d+)\n", output)
    succeeded = re.search(r"with status SUCCESS +: (\d+)\n", output)
    assert sent is not None, output[-2000:]
    assert succeeded is not None, output[-2000:]
    assert int(sent[1]) > 70
    assert sent[1] == succeeded[1]
    check_all_stored(receiver, tap.stores())


TRANSFER_SYNTAX_SWITCHES = ["-x=", "-xe", "-xb", "-xi", "-xs", "-xy", "-xx", "-xv", "-xw", "-xt", "-xu", "-xr", "-xd"]


@pytest.mark.interop("storescu")
@pytest.mark.parametrize("switch", TRANSFER_SYNTAX_SWITCHES)
@pytest.mark.parametrize("combine", [[], ["+C"]], ids=["a context each", "combined"])
def test_storescu_sends_with_every_proposal(receiver: Receiver, tap: Tap, switch: str, combine: list[str]) -> None:
    output = send("storescu", "-v", "-R", switch, *combine, "127.0.0.1", str(tap.port), CT_SMALL)
    assert "Received Store Response (Success)" in output, output[-2000:]
    check_all_stored(receiver, tap.stores())


@pytest.mark.interop("storescu")
def test_storescu_proposes_all_its_contexts_and_a_user_identity(receiver: Receiver, tap: Tap) -> None:
    options = ["-usr", "physicist", "-pwd", "secret", "-rsp"]
    output = send("storescu", "-v", *options, "127.0.0.1", str(tap.port), CT_SMALL)
    assert "exit code 0" in output, output
    check_all_stored(receiver, tap.stores())


@pytest.mark.interop("storescu")
def test_storescu_repeats_and_aborts_and_everything_is_kept(receiver: Receiver, tap: Tap) -> None:
    invented = ["--repeat", "20", "+II", "+IP", "3", "+IR", "2", "+IS", "2"]
    output = send("storescu", "-v", "--abort", *invented, "127.0.0.1", str(tap.port), CT_SMALL)
    assert output.count("Received Store Response (Success)") == 20, output
    check_all_stored(receiver, tap.stores())


@pytest.mark.interop("storescu")
def test_a_repeated_object_is_stored_once(receiver: Receiver, tap: Tap) -> None:
    output = send("storescu", "-v", "--repeat", "3", "127.0.0.1", str(tap.port), CT_SMALL)
    assert output.count("Received Store Response (Success)") == 3, output
    assert len(receiver.files()) == 1
    check_all_stored(receiver, tap.stores())


@pytest.mark.interop("storescu")
def test_real_dose_reports_land_flat_in_their_root(receiver: Receiver, tap: Tap) -> None:
    assert len(DOSE_REPORTS) == 4
    output = send("storescu", "-v", "127.0.0.1", str(tap.port), *DOSE_REPORTS)
    assert output.count("Received Store Response (Success)") == 4, output[-2000:]
    check_all_stored(receiver, tap.stores())
    uids_sent = {str(pydicom.dcmread(path).SOPInstanceUID) for path in DOSE_REPORTS}
    assert {path.name for path in receiver.files()} == {f"{uid}.dcm" for uid in uids_sent}
    assert {path.parent for path in receiver.files()} == {receiver.rdsr}


@pytest.mark.interop("dcmdump")
def test_dcmtk_reads_what_was_stored(receiver: Receiver) -> None:
    assert "exit code 0" in send("storescu", "127.0.0.1", str(receiver.port), CT_SMALL)
    output = send("dcmdump", "+P", "0002,0010", "+P", "0002,0016", "+P", "0002,0012", receiver.files()[0])
    assert "exit code 0" in output
    assert "AE [STORESCU]" in output
    assert "exit code 0" in send("dcmftest", receiver.files()[0])


# --- pynetdicom ----------------------------------------------------------------------------------


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pynetdicom send a file's own bytes, without decoding them."""
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)


@pytest.mark.parametrize("path", [*SENDABLE, *DOSE_REPORTS], ids=lambda path: path.stem)
def test_pynetdicom_sends_a_file_and_it_is_stored_bit_for_bit(receiver: Receiver, chunked: None, path: Path) -> None:
    meta = pydicom.filereader.read_file_meta_info(path)
    status = send_with_pynetdicom(receiver.port, path, meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    if not uids.is_uid(meta.MediaStorageSOPInstanceUID):
        assert (status, receiver.files()) == (0x0117, [])
        return
    if contradicts_itself(path):
        assert (status, receiver.files()) == (0xA900, [])
        return
    assert status == 0x0000
    (stored,) = receiver.files()
    assert stored_data_set(stored) == data_set_of(path)
    assert pydicom.filereader.read_file_meta_info(stored).TransferSyntaxUID == meta.TransferSyntaxUID


def data_set_of(path: Path) -> bytes:
    """The bytes behind the file meta information, as pydicom finds them."""
    with path.open("rb") as file:
        pydicom.filereader.read_preamble(file, False)
        pydicom.filereader._read_file_meta_info(file)
        return file.read()


def send_with_pynetdicom(port: int, path: Path, sop_class: UID, transfer_syntax: UID) -> int:
    ae = AE(ae_title="PYNETDICOM")
    ae.add_requested_context(sop_class, transfer_syntax)
    association = ae.associate("127.0.0.1", port)
    assert association.is_established
    status: int = association.send_c_store(path).Status
    association.release()
    return status


@pytest.mark.parametrize("transfer_syntax", [*uids.TRANSFER_SYNTAXES, "1.2.3.4.5.6.7"])
def test_every_transfer_syntax_is_accepted_for_storage(receiver: Receiver, transfer_syntax: str) -> None:
    ae = AE()
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2", transfer_syntax)
    association = ae.associate("127.0.0.1", receiver.port)
    assert [context.transfer_syntax for context in association.accepted_contexts] == [[transfer_syntax]]
    association.release()


def test_every_storage_class_and_a_private_one_is_accepted(receiver: Receiver) -> None:
    classes = [*uids.STORAGE_SOP_CLASSES, "1.3.46.670589.11.0.0.12.1"]
    for start in range(0, len(classes), 128):
        ae = AE()
        for sop_class in classes[start : start + 128]:
            ae.add_requested_context(sop_class)
        association = ae.associate("127.0.0.1", receiver.port)
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        assert accepted == set(classes[start : start + 128])
        association.release()


def test_pynetdicom_echoes_and_aborts(receiver: Receiver) -> None:
    ae = AE()
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", receiver.port)
    assert association.send_c_echo().Status == 0x0000
    association.abort()
    association = ae.associate("127.0.0.1", receiver.port)
    assert association.send_c_echo().Status == 0x0000
    association.release()
    assert association.is_released


# --- Orthanc -------------------------------------------------------------------------------------


@pytest.mark.interop("Orthanc")
def test_orthanc_sends_what_it_keeps(receiver: Receiver, tap: Tap, tmp_path: Path) -> None:
    with orthanc(tmp_path, {"ours": ["DCMSTORE", "127.0.0.1", tap.port]}) as url:
        names = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "rtplan.dcm", "reportsi.dcm")
        paths = [path for path in PYDICOM_FILES if path.name in names] + DOSE_REPORTS
        ids = [json.loads(post(f"{url}/instances", path.read_bytes()))["ID"] for path in paths]
        answer = json.loads(post(f"{url}/modalities/ours/store", json.dumps(ids).encode()))
        assert (answer["InstancesCount"], answer["FailedInstancesCount"]) == (len(paths), 0)
        assert json.loads(post(f"{url}/modalities/ours/echo", b"{}")) == {}
    check_all_stored(receiver, tap.stores())
    assert len(tap.stores()) == len(paths)


def post(url: str, data: bytes) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, data=data, method="POST"), timeout=60) as response:
        answer: bytes = response.read()
        return answer


class orthanc:
    """Orthanc on loopback, in a folder of its own: a context that gives the URL of its REST interface."""

    def __init__(self, folder: Path, modalities: dict[str, list[object]]) -> None:
        self._folder = folder / "orthanc"
        self._folder.mkdir()
        self._port = free_port()
        settings = {
            "StorageDirectory": str(self._folder),
            "IndexDirectory": str(self._folder),
            "HttpPort": self._port,
            "RemoteAccessAllowed": False,
            "DicomServerEnabled": False,
            "DicomModalities": modalities,
            "Plugins": [],
        }
        self._configuration = self._folder / "orthanc.json"
        self._configuration.write_text(json.dumps(settings))

    def __enter__(self) -> str:
        program = find_program("Orthanc")
        assert program is not None
        self._process = subprocess.Popen(
            [program, str(self._configuration)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "Orthanc has started" in line:
                break
        else:
            raise AssertionError("Orthanc did not start")
        self._reading = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._reading.start()
        return f"http://127.0.0.1:{self._port}"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._reading.join(30)
        assert self._process.stderr is not None
        self._process.stderr.close()
