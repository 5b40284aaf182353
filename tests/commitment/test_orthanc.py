"""Orthanc sends what it keeps, asks for commitment, and believes the report."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcmstore.commitment.reporting import Way
from tests.commitment.support import Called, Wired, wait_for
from tests.support import free_port
from tests.test_interop import CT_SMALL, PYDICOM_FILES, orthanc, post

MR_SMALL = next(path for path in PYDICOM_FILES if path.name == "MR_small.dcm")


class Committing(orthanc):
    """Orthanc that listens for reports too."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, {"ours": ["DCMSTORE", "127.0.0.1", port]})
        self.dicom_port = free_port()
        settings = json.loads(self._configuration.read_text())
        settings |= {"DicomServerEnabled": True, "DicomAet": "ORTHANC", "DicomPort": self.dicom_port}
        self._configuration.write_text(json.dumps(settings))


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    with Wired(tmp_path).running() as running:
        yield running


def ask(url: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Ask for commitment; return what Orthanc makes of the report."""
    path = json.loads(post(f"{url}/modalities/ours/storage-commitment", json.dumps(asked).encode()))["Path"]
    report: dict[str, Any] = {}

    def is_there() -> bool:
        with urllib.request.urlopen(url + path, timeout=20) as answer:
            report.update(json.loads(answer.read()))
        return report["Status"] != "Pending"

    wait_for(is_there)
    return report


@pytest.mark.interop("Orthanc")
@pytest.mark.parametrize("way", Way)
def test_orthanc_hears_what_is_kept_and_what_is_not(wired: Wired, tmp_path: Path, way: Way) -> None:
    wired.way = way
    committing = Committing(tmp_path, wired.port)
    wired.peers["ORTHANC"] = Called("ORTHANC", "127.0.0.1", committing.dicom_port)
    with committing as url:
        ids = [json.loads(post(f"{url}/instances", path.read_bytes()))["ID"] for path in (CT_SMALL, MR_SMALL)]
        post(f"{url}/modalities/ours/store", json.dumps(ids).encode())
        report = ask(url, {"Resources": ids})
        assert (report["Status"], len(report["Success"]), report["Failures"]) == ("Success", 2, [])
        missing = ["1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"]
        report = ask(url, {"Resources": ids, "DicomInstances": [missing]})
        assert report["Status"] == "Failure"
        assert len(report["Success"]) == 2
        (failure,) = report["Failures"]
        assert (failure["SOPInstanceUID"], failure["FailureReason"]) == ("1.2.3.4", 0x0112)
    assert [line.split("association=")[1] for line in wired.logged("commitment.reported")] == ["new"]
