"""Real disks that fill, break, vanish and come back below one root: what is lost is told, and nothing else suffers.

Root and mounts are needed, as in CI; elsewhere all of this is skipped, and the summary says why.
"""

import contextlib
import os
import select
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dcmstore.dimse.command import CommandSet
from dcmstore.dimse.status import Status
from dcmstore.settings import Settings
from dcmstore.storage import files
from dcmstore.storage.filing import Root
from tests.support import (
    CT,
    ENHANCED_SR,
    XRAY_DOSE_SR,
    Peer,
    Receiver,
    data_set,
    running,
    store_request,
    stored_data_set,
    with_title,
)
from tools.programs import find_program
from torture import disks
from torture import receiver as receivers
from torture.disks import EXT4, XFS, Disk, DiskProblem, FileSystem

MEGABYTE = 1024 * 1024  # bytes
SMALL = 8 * MEGABYTE  # a disk that is soon full
BTRFS = FileSystem("Btrfs", ("mkfs.btrfs", "-q", "-f"))
SETTINGS = Settings(min_free_space=0)  # these disks are small
SOP_CLASSES = {Root.IMAGES: CT, Root.DOSE_REPORTS: XRAY_DOSE_SR}
OTHER = {Root.IMAGES: Root.DOSE_REPORTS, Root.DOSE_REPORTS: Root.IMAGES}
PIXELS = bytes(range(256)) * 800  # more than any of the full disks below still holds
HALF = len(PIXELS) // 2
LONGEST_WAIT = 10  # seconds

mounts_are_impossible = disks.unavailable()
pytestmark = pytest.mark.skipif(bool(mounts_are_impossible), reason=mounts_are_impossible or "mounts are possible")


# What can happen to a disk -----------------------------------------------------------------------------------------


class Fault:
    """A disk at a folder, what happens to it, and how somebody mends it. `says` is what the sender is told."""

    name = ""
    says = ""
    stops_open_files = True  # an object under way can't be finished either
    hides_parts = False  # until the next start, for nobody can find them to remove them

    @contextlib.contextmanager
    def mounted(self, folder: Path, memory: Path) -> Iterator[None]:
        """The disk, as long as the context lasts; `memory` is where an image may lie."""
        raise NotImplementedError

    def strike(self, folder: Path) -> None:
        raise NotImplementedError

    def mend(self, folder: Path) -> None:
        raise NotImplementedError


class _Full(Fault):
    """Somebody else's file takes the rest of the disk."""

    says = "disk is full"

    def strike(self, folder: Path) -> None:
        with open(folder / "ballast", "wb", buffering=0) as file:
            for piece in (MEGABYTE, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(piece))
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())

    def mend(self, folder: Path) -> None:
        (folder / "ballast").unlink()


class FullMemory(_Full):
    name = "a full tmpfs"

    @contextlib.contextmanager
    def mounted(self, folder: Path, memory: Path) -> Iterator[None]:
        with _tmpfs_at(folder, f"size={SMALL}"):
            yield


class _OnDisk(Fault):
    """A file system in an image."""

    file_system = EXT4
    size = 16 * MEGABYTE
    disk: Disk

    @contextlib.contextmanager
    def mounted(self, folder: Path, memory: Path) -> Iterator[None]:
        with Disk(self.file_system, memory / "image", folder, self.size) as self.disk:
            yield


class FullDisk(_Full, _OnDisk):
    name = "a full ext4"


class UsedUpQuota(_Full, _OnDisk):
    name = "a used up quota"
    says = "disk quota is used up"
    file_system = BTRFS
    size = 256 * MEGABYTE

    @contextlib.contextmanager
    def mounted(self, folder: Path, memory: Path) -> Iterator[None]:
        with super().mounted(folder, memory):
            disks.run("btrfs", "quota", "enable", str(folder))
            disks.run("btrfs", "qgroup", "limit", str(SMALL), str(folder))
            yield


class NoMoreFiles(Fault):
    name = "no more inodes"
    says = "disk has space, but holds as many files as it can"
    stops_open_files = False

    @contextlib.contextmanager
    def mounted(self, folder: Path, memory: Path) -> Iterator[None]:
        with _tmpfs_at(folder, "nr_inodes=100"):
            yield

    def strike(self, folder: Path) -> None:
        (folder / "many").mkdir()
        with contextlib.suppress(OSError):
            for number in range(100):
                (folder / "many" / str(number)).touch()

    def mend(self, folder: Path) -> None:
        shutil.rmtree(folder / "many")


class ReadOnly(_OnDisk):
    name = "a disk that the system makes read-only"
    says = "disk is mounted read-only"

    def strike(self, folder: Path) -> None:
        # As ext4 does itself when it meets an error. A plain remount is refused while anybody writes.
        disks.run("mount", "-o", "remount,abort", str(folder))

    def mend(self, folder: Path) -> None:
        self.disk.unmount()  # not lazily: nobody may hold it back from repair
        disks.run("e2fsck", "-f", "-y", str(self.disk.image), accepted=(0, 1))
        self.disk.mount()


class DeadDisk(_OnDisk):
    name = "a dead disk"
    says = "disk reports an input/output error"

    def strike(self, folder: Path) -> None:
        self.disk.cut_power()

    def mend(self, folder: Path) -> None:
        self.disk.restore_power()


class Unmounted(_OnDisk):
    name = "an unmounted disk"
    says = "another disk than at the start; is it mounted?"

    def strike(self, folder: Path) -> None:
        disks.unmount_at_once(folder)

    def mend(self, folder: Path) -> None:
        assert list(folder.iterdir()) == []  # nothing was hidden below the mount point
        self.disk.mount()


class VanishedShare(Fault):
    """A file system of a process, which ends: what NFS and SMB do when the server does, without waiting for it."""

    name = "a vanished share"
    says = "share is gone"

    @contextlib.contextmanager
    def mounted(self, folder: Path, memory: Path) -> Iterator[None]:
        self._behind = memory / "behind"
        self._behind.mkdir()
        self.mount(folder)
        try:
            yield
        finally:
            self.strike(folder)
            disks.unmount_at_once(folder)

    def mount(self, folder: Path) -> None:
        program = find_program("bindfs")
        assert program is not None
        with open("/proc/self/mountinfo", "rb") as mounts:
            self.server = subprocess.Popen([program, "-f", self._behind, folder], stderr=subprocess.DEVNULL)
            self._wait_for_mount(folder, mounts.fileno())
        if not folder.is_mount():
            raise DiskProblem(f"bindfs ended with exit code {self.server.returncode}")

    def _wait_for_mount(self, folder: Path, mounts: int) -> None:
        """Wait until it is there, or its server has ended; the system tells when its mounts change (proc(5))."""
        ended = os.pidfd_open(self.server.pid)
        poller = select.poll()
        poller.register(mounts, select.POLLPRI)
        poller.register(ended, select.POLLIN)
        try:
            while not folder.is_mount() and self.server.poll() is None and poller.poll(LONGEST_WAIT * 1000):
                pass
        finally:
            os.close(ended)

    def strike(self, folder: Path) -> None:
        self.server.kill()
        self.server.wait(LONGEST_WAIT)

    def mend(self, folder: Path) -> None:
        disks.unmount_at_once(folder)
        self.mount(folder)


class RemovedFolder(Fault):
    name = "a removed root folder"
    says = "folder is missing"
    hides_parts = True

    @contextlib.contextmanager
    def mounted(self, folder: Path, memory: Path) -> Iterator[None]:
        yield

    def strike(self, folder: Path) -> None:
        folder.rename(folder.with_name("taken away"))

    def mend(self, folder: Path) -> None:
        folder.with_name("taken away").rename(folder)


FAULTS = (
    FullMemory,
    FullDisk,
    UsedUpQuota,
    NoMoreFiles,
    ReadOnly,
    DeadDisk,
    Unmounted,
    VanishedShare,
    RemovedFolder,
)
NEEDS = {UsedUpQuota: "mkfs.btrfs", VanishedShare: "bindfs"}


@contextlib.contextmanager
def _tmpfs_at(folder: Path, options: str) -> Iterator[None]:
    disks.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    try:
        yield
    finally:
        disks.unmount_at_once(folder)


# A receiver with such a disk ---------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A receiver one of whose roots can be struck, and a sender that remembers what was acknowledged."""

    receiver: Receiver
    peer: Peer
    fault: Fault
    struck: Root
    kept: dict[str, bytes] = field(default_factory=dict)
    sent: int = 0

    @property
    def folder(self) -> Path:
        return self.folder_of(self.struck)

    def folder_of(self, root: Root) -> Path:
        return self.receiver.images if root is Root.IMAGES else self.receiver.rdsr

    def strike(self) -> None:
        self.fault.strike(self.folder)

    def mend(self) -> None:
        self.fault.mend(self.folder)

    def store(self, root: Root) -> CommandSet:
        """Send an object that belongs below this root, in a new folder where there are folders."""
        uid, encoded = self.next_object(root)
        return self.note(uid, encoded, self.peer.store(encoded, uid, SOP_CLASSES[root], context_id(root)))

    def next_object(self, root: Root) -> tuple[str, bytes]:
        self.sent += 1
        uid = f"1.2.3.{self.sent}"
        patient = f"P{self.sent}".encode()
        return uid, data_set(uid, sop_class=SOP_CLASSES[root], patient_id=patient, pixels=PIXELS)

    def note(self, uid: str, encoded: bytes, response: CommandSet) -> CommandSet:
        if response.status == Status.SUCCESS:
            self.kept[uid] = encoded
        return response

    def on_disk(self, *, with_parts: bool = True) -> dict[str, bytes]:
        """The data sets below both roots by the names of their files, those of temporary files too."""
        paths = [path for path in self.receiver.files() if with_parts or path.suffix != ".part"]
        return {path.stem if path.suffix == ".dcm" else path.name: stored_data_set(path) for path in paths}


def context_id(root: Root) -> int:
    return 2 * list(SOP_CLASSES).index(root) + 1


def name_of(fault: type[Fault]) -> str:
    return fault.name


def require(program: str) -> None:
    if find_program(program) is None:
        pytest.skip(f"{program} is not installed")


@pytest.fixture(params=FAULTS, ids=name_of)
def fault(request: pytest.FixtureRequest) -> Fault:
    if request.param in NEEDS:
        require(NEEDS[request.param])
    chosen = request.param()
    assert isinstance(chosen, Fault)
    return chosen


@pytest.fixture(params=Root, ids=lambda root: root.value)
def scene(request: pytest.FixtureRequest, fault: Fault, tmp_path: Path) -> Iterator[Scene]:
    with staged(fault, request.param, tmp_path) as staged_scene:
        yield staged_scene


@contextlib.contextmanager
def staged(fault: Fault, struck: Root, place: Path, *, duplicates: str = "both") -> Iterator[Scene]:
    """A receiver that has stored an object below each root, and not been struck yet."""
    folder = place / ("images" if struck is Root.IMAGES else "rdsr")
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        memory = stack.enter_context(disks.mounted_memory(place, 512 * MEGABYTE))
        try:
            stack.enter_context(fault.mounted(folder, memory))
        except DiskProblem as problem:
            pytest.skip(f"{fault.name} can't be had here: {problem}")
        receiver = stack.enter_context(running(place, replace(SETTINGS, duplicates=duplicates)))
        peer = stack.enter_context(Peer(receiver.port))
        peer.associate(*SOP_CLASSES.values())
        scene = Scene(receiver, peer, fault, struck)
        for root in Root:
            assert scene.store(root).status == Status.SUCCESS
        yield scene


# The facts ---------------------------------------------------------------------------------------------------------


def test_what_a_struck_disk_cannot_keep_is_answered_with_a700_and_the_reason(scene: Scene) -> None:
    scene.strike()
    for _ in range(3):
        response = scene.store(scene.struck)
        assert (response.status, response.error_comment) == (
            Status.OUT_OF_RESOURCES,
            f"{scene.struck.value}: {scene.fault.says}",
        )


def test_the_other_root_goes_on_while_one_is_struck(scene: Scene) -> None:
    scene.strike()
    scene.store(scene.struck)
    with Peer(scene.receiver.port) as another:
        another.associate(*SOP_CLASSES.values())
        root = OTHER[scene.struck]
        uid, encoded = scene.next_object(root)
        assert another.store(encoded, uid, SOP_CLASSES[root], context_id(root)).status == Status.SUCCESS
        another.release()
    assert scene.store(OTHER[scene.struck]).status == Status.SUCCESS


def test_a_mended_disk_is_used_again_without_a_restart_and_has_all_that_was_acknowledged(scene: Scene) -> None:
    scene.strike()
    for _ in range(3):
        scene.store(scene.struck)
    scene.mend()
    for root in Root:
        assert scene.store(root).status == Status.SUCCESS
    assert scene.on_disk(with_parts=not scene.fault.hides_parts) == scene.kept


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.stops_open_files], ids=name_of, indirect=True)
def test_an_object_under_way_when_its_disk_is_struck_is_refused_and_leaves_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = scene.struck
    has_begun = threading.Event()
    write_all = files.write_all

    def write_and_tell(descriptor: int, buffers: Sequence[files.Buffer]) -> None:
        write_all(descriptor, buffers)
        has_begun.set()

    monkeypatch.setattr(files, "write_all", write_and_tell)
    uid, encoded = scene.next_object(root)
    request = store_request(encoded, uid, SOP_CLASSES[root], context_id(root), 99)
    scene.peer.send(request[:HALF])
    assert has_begun.wait(LONGEST_WAIT)
    scene.strike()
    scene.peer.send(request[HALF:])
    assert scene.peer.receive_response().status == Status.OUT_OF_RESOURCES
    scene.store(root)  # which lets a lost disk go
    scene.mend()
    assert scene.store(root).status == Status.SUCCESS
    assert scene.on_disk(with_parts=not scene.fault.hides_parts) == scene.kept


# One at a time -----------------------------------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with disks.mounted_memory(tmp_path, 512 * MEGABYTE) as folder:
        yield folder


def test_a_dose_report_that_only_its_title_tells_lands_while_the_image_disk_is_full(tmp_path: Path) -> None:
    with staged(FullMemory(), Root.IMAGES, tmp_path) as scene, Peer(scene.receiver.port) as scanner:
        scene.strike()
        scanner.associate(ENHANCED_SR)
        report = with_title(data_set("1.2.9", sop_class=ENHANCED_SR))
        assert scanner.store(report, "1.2.9", ENHANCED_SR).status == Status.SUCCESS
        assert stored_data_set(scene.receiver.rdsr / "1.2.9.dcm") == report


@pytest.mark.parametrize("struck", Root)
def test_a_replacing_object_that_a_full_disk_cannot_keep_leaves_the_old_one(tmp_path: Path, struck: Root) -> None:
    with staged(FullMemory(), struck, tmp_path, duplicates="replace") as scene:
        sop_class = SOP_CLASSES[struck]
        first = data_set("1.2.9", sop_class=sop_class)
        assert scene.peer.store(first, "1.2.9", sop_class, context_id(struck)).status == Status.SUCCESS
        scene.strike()
        another = data_set("1.2.9", sop_class=sop_class, pixels=PIXELS)
        response = scene.peer.store(another, "1.2.9", sop_class, context_id(struck))
        assert response.status == Status.OUT_OF_RESOURCES
        scene.mend()
        assert scene.on_disk() == scene.kept | {"1.2.9": first}


def test_a_share_that_hangs_holds_up_its_own_objects_only_and_loses_none(tmp_path: Path) -> None:
    require("bindfs")
    share = VanishedShare()
    with staged(share, Root.IMAGES, tmp_path) as scene, Peer(scene.receiver.port) as scanner:
        scanner.associate(CT)
        uid, encoded = scene.next_object(Root.IMAGES)
        share.server.send_signal(signal.SIGSTOP)
        try:
            scanner.send(store_request(encoded, uid, CT, 1, 1))
            for _ in range(3):
                assert scene.store(Root.DOSE_REPORTS).status == Status.SUCCESS
        finally:
            share.server.send_signal(signal.SIGCONT)
        assert scene.note(uid, encoded, scanner.receive_response()).status == Status.SUCCESS
        assert scene.on_disk() == scene.kept


def test_a_share_that_comes_back_under_another_device_number_is_known_again(tmp_path: Path) -> None:
    require("bindfs")
    share = VanishedShare()
    with staged(share, Root.IMAGES, tmp_path) as scene:
        before = scene.folder.stat().st_dev
        scene.strike()
        assert scene.store(Root.IMAGES).status == Status.OUT_OF_RESOURCES
        disks.unmount_at_once(scene.folder)
        with disks.mounted_memory(tmp_path, MEGABYTE):  # which takes the number that has become free
            share.mount(scene.folder)
            assert scene.folder.stat().st_dev != before
            assert scene.store(Root.IMAGES).status == Status.SUCCESS
            assert scene.on_disk() == scene.kept


def test_another_disk_in_the_place_of_a_root_is_not_written_to(tmp_path: Path) -> None:
    with staged(Unmounted(), Root.IMAGES, tmp_path) as scene:
        scene.strike()
        with _tmpfs_at(scene.folder, "size=64m"):
            assert scene.store(Root.IMAGES).status == Status.OUT_OF_RESOURCES
            assert list(scene.folder.iterdir()) == []


def test_a_lost_disk_can_be_unmounted_while_the_receiver_runs(tmp_path: Path) -> None:
    disk = DeadDisk()
    with staged(disk, Root.IMAGES, tmp_path) as scene:
        scene.strike()
        scene.store(Root.IMAGES)
        disk.disk.unmount()  # not lazily
        disk.disk.mount()
        assert scene.store(Root.IMAGES).status == Status.SUCCESS


@pytest.mark.parametrize("kind", [EXT4, XFS], ids=lambda kind: kind.name)
def test_a_disk_that_dies_before_the_name_is_synced_is_not_trusted(
    kind: FileSystem, tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(kind.make[0])
    (tmp_path / "images").mkdir()
    fsync = os.fsync
    with (
        Disk(kind, memory / "image", tmp_path / "images") as disk,
        running(tmp_path, SETTINGS) as receiver,
        Peer(receiver.port) as peer,
    ):
        peer.associate()
        assert peer.store(data_set("1.2.1"), "1.2.1").status == Status.SUCCESS

        def die_and_sync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                disk.cut_power()
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", die_and_sync)
        assert peer.store(data_set("1.2.2"), "1.2.2").status == Status.OUT_OF_RESOURCES


@pytest.mark.parametrize("removed", [".incoming", "P1", "P1/7", "P1/7/3"])
def test_a_folder_that_is_removed_between_two_objects_is_made_again(tmp_path: Path, removed: str) -> None:
    with running(tmp_path, SETTINGS) as receiver, Peer(receiver.port) as peer:
        peer.associate()
        assert peer.store(data_set("1.2.1", patient_id=b"P1"), "1.2.1").status == Status.SUCCESS
        shutil.rmtree(receiver.images / removed)
        assert peer.store(data_set("1.2.2", patient_id=b"P1"), "1.2.2").status == Status.SUCCESS
        assert stored_data_set(receiver.images / "P1/7/3/1.2.2.dcm") == data_set("1.2.2", patient_id=b"P1")


# Starting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FullMemory, FullDisk, NoMoreFiles], ids=name_of)
@pytest.mark.parametrize("struck", Root)
def test_a_receiver_starts_on_a_full_disk_and_the_other_root_receives(
    kind: type[Fault], struck: Root, tmp_path: Path, memory: Path
) -> None:
    roots = {root: tmp_path / root.value for root in Root}
    receivers.prepare(tmp_path, roots)
    fault = kind()
    with fault.mounted(roots[struck], memory):
        fault.strike(roots[struck])
        process = receivers.start(tmp_path)
        try:
            assert answers(process.port) == {struck: Status.OUT_OF_RESOURCES, OTHER[struck]: Status.SUCCESS}
            fault.mend(roots[struck])
            assert answers(process.port) == dict.fromkeys(Root, Status.SUCCESS)
        finally:
            process.kill()


def test_what_a_killed_run_left_on_a_full_disk_is_removed_by_the_next_start(tmp_path: Path, memory: Path) -> None:
    roots = {root: tmp_path / root.value for root in Root}
    receivers.prepare(tmp_path, roots)
    with _tmpfs_at(roots[Root.IMAGES], f"size={SMALL}"):
        left = roots[Root.IMAGES] / ".incoming" / "0123456789ab-0.part"
        left.parent.mkdir()
        with left.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        process = receivers.start(tmp_path)
        try:
            assert not left.exists()
            assert answers(process.port) == dict.fromkeys(Root, Status.SUCCESS)
        finally:
            process.kill()


def answers(port: int) -> dict[Root, int | None]:
    """The statuses of one object for each root, each under a UID of its own and in a new folder."""
    statuses = {}
    with Peer(port) as peer:
        peer.associate(*SOP_CLASSES.values())
        for root, sop_class in SOP_CLASSES.items():
            encoded = data_set("1.2.5", sop_class=sop_class, pixels=PIXELS)
            statuses[root] = peer.store(encoded, "1.2.5", sop_class, context_id(root)).status
        peer.release()
    return statuses
