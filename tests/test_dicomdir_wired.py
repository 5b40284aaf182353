"""`dicomdir= 1` from the association to the directory, as a process."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.fileset import FileSet

from tests.support import CT, Peer, data_set, element, store_request

COMMAND = [sys.executable, "-m", "dcmstore"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    subprocess.run([*COMMAND, "init", "."], cwd=tmp_path, check=True, capture_output=True)
    ini = tmp_path / "DcmStore.ini"
    ini.write_text(re.sub(r"(?m)^(port|dicomdir)=.*$", r"\1= 0", ini.read_text()).replace("dicomdir= 0", "dicomdir= 1"))
    return tmp_path


def start(place: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([*COMMAND, "run"], cwd=place, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not (match := re.search(r"receiver\.listening .*port=(\d+)", process.stderr.readline())):
        assert process.poll() is None
    return process, int(match[1])


def image(uid: str, number: int) -> bytes:
    encoded = data_set(uid)
    at = encoded.index(b"\x10\x00\x10\x00PN")
    encoded = encoded[:at] + element(0x0008, 0x0060, "CS", b"CT") + encoded[at:]
    at = encoded.index(b"\xe0\x7f\x10\x00")
    return encoded[:at] + element(0x0020, 0x0013, "IS", str(number).encode()) + encoded[at:]


def send(port: int, *numbers: int) -> None:
    with Peer(port) as peer:
        peer.associate(CT)
        for number in numbers:
            assert peer.store(image(f"1.2.{number}", number), f"1.2.{number}").status == 0
        peer.release()


def listed(place: Path) -> set[str]:
    directory = place / "received/images/PAT1/DICOMDIR"
    if not directory.exists():
        return set()
    opened = FileSet(directory)
    names = {Path(instance.path).name for instance in opened}
    opened._stage["t"].cleanup()  # the folder that pydicom makes for changes
    return names


def wait_for(what: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(600):
        if what():
            return
        tick.wait(0.05)
    raise AssertionError("it did not happen")


def stop(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    return log


def test_the_directory_is_there_after_the_association_and_grows_with_the_next(place: Path) -> None:
    process, port = start(place)
    send(port, 1, 2)
    wait_for(lambda: listed(place) == {"CT_00001", "CT_00002"})
    send(port, 3)
    log = stop(process)  # what is pending is written before the end
    assert listed(place) == {"CT_00001", "CT_00002", "CT_00003"}
    assert "dicomdir.written folder=*" in log
    assert "PAT1" not in log
    assert sorted(p.name for p in (place / "received/images/PAT1").iterdir()) == ["7", "DICOMDIR"]
    assert not (place / "DcmStore.dicomdir").exists()


def test_what_a_killed_receiver_had_stored_is_listed_after_the_next_start(place: Path) -> None:
    process, port = start(place)
    with Peer(port) as peer:
        peer.associate(CT)
        assert peer.store(image("1.2.1", 1), "1.2.1").status == 0
        wait_for(lambda: (place / "DcmStore.dicomdir").stat().st_size > 0)  # the note comes after the answer
        peer.send(store_request(image("1.2.2", 2), "1.2.2")[:-10])
        process.kill()
        process.communicate(timeout=20)
    assert listed(place) == set()
    process, _ = start(place)
    stop(process)
    assert listed(place) == {"CT_00001"}


def test_an_import_makes_the_directory_too(place: Path) -> None:
    old = place / "old"
    old.mkdir()
    for number in (1, 2):
        (old / str(number)).write_bytes(image(f"1.2.{number}", number))
    done = subprocess.run([*COMMAND, "import", "old"], cwd=place, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert listed(place) == {"CT_00001", "CT_00002"}


def test_check_says_what_is_switched_on(place: Path) -> None:
    done = subprocess.run([*COMMAND, "check"], cwd=place, capture_output=True, text=True, timeout=60)
    assert re.search(r"(?m)^image-name-index= +1 +\(switched on by dicomdir\)$", done.stdout)
