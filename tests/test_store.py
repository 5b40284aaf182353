"""The promise of the store: whole or not at all, nothing harmed, and nothing said before it is safe."""

import contextlib
import errno
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from dcmstore import uids
from dcmstore.errors import CannotUnderstand, DataSetMismatch, DuplicateRefused, OutOfResources
from dcmstore.storage import files
from dcmstore.storage.filing import FilingPolicy, Root
from dcmstore.storage.store import Duplicates, IncomingInstance, Instance, Outcome, Quarantined, Store, Stored
from tests.support import CT, ENHANCED_SR, MR, XRAY_DOSE_SR, data_set, element, stored_data_set, with_title

UID = "1.2.3.4"
FOLDERS = ("PAT1", "7", "3")

FIRST = data_set(pixels=b"first.")
SECOND = data_set(pixels=b"second")
UNREADABLE = element(0x0008, 0x0018, "UI", UID.encode()) + b"\x09\x00\x01\x10l0" + b"\xff" * 40


def instance(
    uid: str = UID, sop_class: str = CT, transfer_syntax: str = uids.EXPLICIT_VR_LITTLE_ENDIAN, calling: str = "CT1"
) -> Instance:
    return Instance(sop_class, uid, transfer_syntax, calling)


def receive(store: Store, encoded: bytes, announced: Instance | None = None) -> IncomingInstance:
    """An instance whose data set has come in three fragments, not yet finished."""
    incoming = store.begin(announced or instance())
    third = len(encoded) // 3
    for fragment in (encoded[:third], encoded[third : 2 * third], encoded[2 * third :]):
        incoming.receive(memoryview(fragment))
    return incoming


def send(store: Store, encoded: bytes, announced: Instance | None = None) -> Stored:
    return receive(store, encoded, announced).finish()


def titled(code: bytes = b"113701") -> bytes:
    """An Enhanced SR that only its title makes a dose report."""
    return with_title(data_set(sop_class=ENHANCED_SR), code)


def roots_below(folder: Path) -> dict[Root, str]:
    for name in ("images", "rdsr"):
        (folder / name).mkdir(parents=True)
    return {Root.IMAGES: str(folder / "images"), Root.DOSE_REPORTS: str(folder / "rdsr")}


@contextlib.contextmanager
def opened(store: Store) -> Iterator[Store]:
    store.open()
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Stores over the same two roots, `images` and `rdsr` below tmp_path."""
    roots = roots_below(tmp_path)
    with contextlib.ExitStack() as stack:
        yield lambda **how: stack.enter_context(opened(Store(roots, FilingPolicy(), **how)))


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    return make_store(durable=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder in which an image of data_set() belongs."""
    return tmp_path.joinpath("images", *FOLDERS)


def visible(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder with its content, locks aside; what is under way counts too."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def outside_incoming(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if ".incoming" not in path.parts]


def data_sets(folder: Path) -> list[bytes]:
    return sorted(stored_data_set(path) for path in visible(folder))


# What is kept ------------------------------------------------------------------------------------------------------


def test_an_instance_is_kept_bit_for_bit(store: Store, place: Path) -> None:
    stored = send(store, FIRST)
    assert stored == Stored(Root.IMAGES, FOLDERS, "1.2.3.4.dcm", len(FIRST), Outcome.STORED)
    assert stored_data_set(place / "1.2.3.4.dcm") == FIRST


def test_the_file_says_what_command_and_context_said(store: Store, place: Path) -> None:
    send(store, FIRST)
    meta = pydicom.dcmread(place / "1.2.3.4.dcm").file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, UID)
    assert (meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle) == (uids.EXPLICIT_VR_LITTLE_ENDIAN, "CT1")


def test_nothing_is_written_before_the_first_byte(store: Store, tmp_path: Path) -> None:
    store.begin(instance())
    assert visible(tmp_path) == {}


def test_nothing_is_visible_before_finish(store: Store, tmp_path: Path) -> None:
    incoming = receive(store, FIRST)
    assert outside_incoming(tmp_path) == []
    assert len(visible(tmp_path)) == 1
    incoming.discard()


def test_a_discarded_instance_leaves_nothing(store: Store, tmp_path: Path) -> None:
    receive(store, FIRST).discard()
    assert visible(tmp_path) == {}


def test_discard_after_finish_harms_nothing(store: Store, tmp_path: Path) -> None:
    incoming = receive(store, FIRST)
    incoming.finish()
    incoming.discard()
    assert data_sets(tmp_path) == [FIRST]


def test_a_closed_store_leaves_only_what_it_kept(make_store: Callable[..., Store], tmp_path: Path) -> None:
    store = make_store(durable=False)
    send(store, FIRST)
    store.close()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["1.2.3.4.dcm"]
    assert not (tmp_path / "images" / ".incoming").exists()


def test_a_data_set_without_uids_is_filed_under_those_of_the_command(store: Store, place: Path) -> None:
    encoded = FIRST[FIRST.index(b"\x10\x00\x10\x00") :]
    assert send(store, encoded).file_name == "1.2.3.4.dcm"
    assert stored_data_set(place / "1.2.3.4.dcm") == encoded


@pytest.mark.parametrize(
    "encoded, what", [(data_set("1.2.3.5"), "SOP Instance UID"), (data_set(sop_class=MR), "SOP Class UID")]
)
def test_a_data_set_that_contradicts_its_command_is_not_kept(
    store: Store, tmp_path: Path, encoded: bytes, what: str
) -> None:
    with pytest.raises(DataSetMismatch, match=f"{what} of data set and command differ"):
        send(store, encoded)
    assert visible(tmp_path) == {}


# The same UID again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicates", Duplicates)
@pytest.mark.parametrize("durable", [True, False])
def test_an_identical_data_set_is_recognised_and_the_file_not_touched(
    make_store: Callable[..., Store], place: Path, duplicates: Duplicates, durable: bool
) -> None:
    store = make_store(duplicates=duplicates, durable=durable)
    send(store, FIRST)
    before = (place / "1.2.3.4.dcm").stat()
    assert send(store, FIRST, instance(calling="ANOTHER")).outcome is Outcome.IDENTICAL
    after = (place / "1.2.3.4.dcm").stat()
    assert (after.st_mtime_ns, after.st_ino, after.st_size) == (before.st_mtime_ns, before.st_ino, before.st_size)


def test_an_identical_data_set_leaves_no_second_file(store: Store, tmp_path: Path) -> None:
    send(store, FIRST)
    send(store, FIRST)
    assert data_sets(tmp_path) == [FIRST]


def test_an_identical_data_set_is_recognised_after_a_restart(make_store: Callable[..., Store]) -> None:
    first = make_store(durable=False)
    send(first, FIRST)
    first.close()
    assert send(make_store(durable=False), FIRST).outcome is Outcome.IDENTICAL


def test_an_identical_data_set_is_recognised_in_the_file_of_another_writer(store: Store, place: Path) -> None:
    place.mkdir(parents=True)
    dataset = pydicom.dcmread(Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm")
    dataset.PatientID, dataset.StudyID, dataset.SeriesNumber, dataset.SOPInstanceUID = *FOLDERS, UID
    dataset.save_as(place / "1.2.3.4.dcm", enforce_file_format=True)
    with (place / "1.2.3.4.dcm").open("rb") as file:
        pydicom.filereader.read_preamble(file, force=False)
        pydicom.filereader._read_file_meta_info(file)
        encoded = file.read()
    assert send(store, encoded, instance(sop_class=MR)).outcome is Outcome.IDENTICAL


@pytest.mark.skipif(os.name == "nt", reason="Windows syncs through a writable descriptor only")
def test_an_identical_file_is_not_opened_for_writing(
    make_store: Callable[..., Store], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(durable=True)
    send(store, FIRST)
    open_file, modes = os.open, []

    def note(path: str, flags: int, *mode: int) -> int:
        if path == str(place / "1.2.3.4.dcm"):
            modes.append(flags & os.O_ACCMODE)
        return open_file(path, flags, *mode)

    monkeypatch.setattr(os, "open", note)
    assert send(store, FIRST).outcome is Outcome.IDENTICAL
    assert modes == [os.O_RDONLY]


def test_the_same_bytes_in_another_transfer_syntax_are_another_data_set(store: Store) -> None:
    send(store, FIRST)
    assert send(store, FIRST, instance(transfer_syntax="1.2.840.10008.1.2.4.50")).outcome is Outcome.NUMBERED


def test_a_different_data_set_is_kept_beside_the_first(store: Store, place: Path) -> None:
    send(store, FIRST)
    assert send(store, SECOND).file_name == "1.2.3.4 (2).dcm"
    assert stored_data_set(place / "1.2.3.4.dcm") == FIRST
    assert stored_data_set(place / "1.2.3.4 (2).dcm") == SECOND


@pytest.mark.skipif(os.name == "nt", reason="neither pipes nor links there, but for some")
@pytest.mark.parametrize(
    "make", [lambda path: os.symlink("nowhere", path), lambda path: os.mkfifo(path)], ids=["link", "pipe"]
)
def test_a_name_that_leads_nowhere_is_taken(store: Store, place: Path, make: Callable[[Path], None]) -> None:
    place.mkdir(parents=True)
    make(place / "1.2.3.4.dcm")
    assert send(store, FIRST).file_name == "1.2.3.4 (2).dcm"
    assert stored_data_set(place / "1.2.3.4 (2).dcm") == FIRST


def test_a_third_data_set_is_number_three(store: Store) -> None:
    send(store, FIRST)
    send(store, SECOND)
    stored = send(store, data_set(pixels=b"third!"))
    assert (stored.file_name, stored.outcome) == ("1.2.3.4 (3).dcm", Outcome.NUMBERED)


def test_a_numbered_data_set_is_recognised_when_it_comes_again(store: Store, tmp_path: Path) -> None:
    send(store, FIRST)
    send(store, SECOND)
    stored = send(store, SECOND)
    assert (stored.file_name, stored.outcome) == ("1.2.3.4 (2).dcm", Outcome.IDENTICAL)
    assert data_sets(tmp_path) == [FIRST, SECOND]


def test_replace_puts_the_new_data_set_in_place_of_the_old(make_store: Callable[..., Store], tmp_path: Path) -> None:
    store = make_store(duplicates=Duplicates.REPLACE)
    send(store, FIRST)
    stored = send(store, SECOND)
    assert (stored.file_name, stored.outcome) == ("1.2.3.4.dcm", Outcome.REPLACED)
    assert data_sets(tmp_path) == [SECOND]


def test_keep_refuses_a_different_data_set(make_store: Callable[..., Store], tmp_path: Path) -> None:
    store = make_store(duplicates=Duplicates.KEEP)
    send(store, FIRST)
    with pytest.raises(DuplicateRefused, match="another data set with this UID is kept"):
        send(store, SECOND)
    assert data_sets(tmp_path) == [FIRST]


@pytest.mark.parametrize("content", [b"", b"no DICOM", bytes(128) + b"DICM", bytes(200)])
def test_a_file_of_somebody_else_under_our_name_is_left_alone(store: Store, place: Path, content: bytes) -> None:
    place.mkdir(parents=True)
    (place / "1.2.3.4.dcm").write_bytes(content)
    assert send(store, FIRST).file_name == "1.2.3.4 (2).dcm"
    assert (place / "1.2.3.4.dcm").read_bytes() == content


def test_a_folder_under_our_name_is_left_alone(store: Store, place: Path) -> None:
    (place / "1.2.3.4.dcm").mkdir(parents=True)
    assert send(store, FIRST).file_name == "1.2.3.4 (2).dcm"


# Dose reports and the unreadable -----------------------------------------------------------------------------------


def test_a_dose_report_goes_to_its_own_root(store: Store, tmp_path: Path) -> None:
    stored = send(store, data_set(sop_class=XRAY_DOSE_SR), instance(sop_class=XRAY_DOSE_SR))
    assert (stored.root, stored.folders) == (Root.DOSE_REPORTS, ())
    assert list(visible(tmp_path)) == [tmp_path / "rdsr" / "1.2.3.4.dcm"]


def test_a_dose_report_by_title_goes_to_its_own_root(store: Store, tmp_path: Path) -> None:
    stored = send(store, titled(), instance(sop_class=ENHANCED_SR))
    assert stored.root is Root.DOSE_REPORTS
    assert stored_data_set(tmp_path / "rdsr" / "1.2.3.4.dcm") == titled()
    assert len(visible(tmp_path)) == 1


def test_a_report_with_another_title_goes_with_the_images(store: Store, place: Path) -> None:
    assert send(store, titled(b"126000"), instance(sop_class=ENHANCED_SR)).root is Root.IMAGES
    assert (place / "1.2.3.4.dcm").exists()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_what_root_stores_belongs_to_who_has_the_root_where_it_ends_up(store: Store, tmp_path: Path) -> None:
    os.chown(tmp_path / "images", 1001, 1001)
    os.chown(tmp_path / "rdsr", 1002, 1002)
    store.close()
    store.open()
    for report, root in ((titled(b"126000"), "images"), (titled(), "rdsr")):
        send(store, report, instance(sop_class=ENHANCED_SR))
        made = [tmp_path / root, *(tmp_path / root).rglob("*")]
        assert {path.stat().st_uid for path in made} == {1001 if root == "images" else 1002}


@pytest.fixture
def another_file_system(tmp_path: Path) -> Iterator[Path]:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another file system than the temporary folder")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.mark.parametrize("durable", [True, False])
def test_a_report_with_another_title_reaches_a_root_on_another_file_system(
    tmp_path: Path, another_file_system: Path, durable: bool
) -> None:
    roots = roots_below(tmp_path) | {Root.IMAGES: str(another_file_system)}
    report = titled(b"126000")
    with opened(Store(roots, FilingPolicy(), durable=durable)) as store:
        assert send(store, report, instance(sop_class=ENHANCED_SR)).outcome is Outcome.STORED
        assert send(store, report, instance(sop_class=ENHANCED_SR)).outcome is Outcome.IDENTICAL
        assert data_sets(another_file_system) == [report]
        assert visible(tmp_path) == {}


def test_an_error_while_a_report_changes_its_root_names_the_root_it_goes_to(store: Store, tmp_path: Path) -> None:
    incoming = receive(store, titled(b"126000"), instance(sop_class=ENHANCED_SR))
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(OutOfResources, match="IMG-DIR: folder is missing"):
        incoming.finish()
    assert visible(tmp_path) == {}


def test_an_unreadable_data_set_is_kept_in_quarantine(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Quarantined, match="two capital letters are allowed") as caught:
        send(store, UNREADABLE)
    assert caught.value.stored.folders == ("QUARANTINE",)
    assert stored_data_set(tmp_path / "images" / "QUARANTINE" / "1.2.3.4.dcm") == UNREADABLE


def test_an_unreadable_data_set_that_comes_again_and_again_is_kept_once(store: Store, tmp_path: Path) -> None:
    outcomes = []
    for _ in range(4):
        with pytest.raises(Quarantined) as caught:
            send(store, UNREADABLE)
        outcomes.append(caught.value.stored.outcome)
    assert outcomes == [Outcome.STORED] + [Outcome.IDENTICAL] * 3
    assert data_sets(tmp_path) == [UNREADABLE]


@pytest.mark.parametrize("duplicates", Duplicates)
def test_quarantine_keeps_every_unreadable_data_set(
    make_store: Callable[..., Store], tmp_path: Path, duplicates: Duplicates
) -> None:
    store = make_store(durable=False, duplicates=duplicates)
    for encoded in (UNREADABLE, UNREADABLE + b"more"):
        with pytest.raises(Quarantined):
            send(store, encoded)
    assert data_sets(tmp_path) == [UNREADABLE, UNREADABLE + b"more"]


@pytest.mark.parametrize("encoded", [b"", b"\x08", FIRST[:20]])
def test_a_data_set_that_breaks_off_is_kept_in_quarantine(store: Store, tmp_path: Path, encoded: bytes) -> None:
    with pytest.raises(Quarantined, match="breaks off"):
        send(store, encoded)
    assert data_sets(tmp_path) == [encoded]


def test_zeros_are_kept_in_quarantine(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Quarantined, match="no DICOM data set"):
        send(store, bytes(8))
    assert data_sets(tmp_path) == [bytes(8)]


@pytest.mark.parametrize("whole", [FIRST, titled()], ids=["an image", "a report"])
def test_what_follows_the_header_is_kept_as_it_was_sent_also_when_it_is_cut(
    store: Store, tmp_path: Path, whole: bytes
) -> None:
    sop_class = CT if whole is FIRST else ENHANCED_SR
    assert send(store, whole[:-1], instance(sop_class=sop_class)).outcome is Outcome.STORED
    assert data_sets(tmp_path) == [whole[:-1]]


def test_an_unreadable_dose_report_is_kept_in_the_quarantine_of_its_root(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Quarantined) as caught:
        send(store, UNREADABLE, instance(sop_class=XRAY_DOSE_SR))
    assert caught.value.stored.root is Root.DOSE_REPORTS
    assert (tmp_path / "rdsr" / "QUARANTINE" / "1.2.3.4.dcm").exists()


def test_quarantined_is_a_data_set_that_cannot_be_understood() -> None:
    assert issubclass(Quarantined, CannotUnderstand)


# Folders that change under our feet --------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_folder_removed_under_our_feet_is_made_again(store: Store, tmp_path: Path, depth: int) -> None:
    send(store, FIRST)
    shutil.rmtree(tmp_path.joinpath("images", *FOLDERS[:depth]))
    assert send(store, SECOND).outcome is Outcome.STORED
    assert data_sets(tmp_path) == [SECOND]


def test_incoming_removed_between_two_instances_is_made_again(store: Store, tmp_path: Path) -> None:
    send(store, FIRST)
    shutil.rmtree(tmp_path / "images" / ".incoming")
    send(store, SECOND)
    assert data_sets(tmp_path) == [FIRST, SECOND]


def test_an_instance_whose_temporary_file_was_removed_is_refused(store: Store, tmp_path: Path) -> None:
    incoming = receive(store, FIRST)
    shutil.rmtree(tmp_path / "images" / ".incoming")
    with pytest.raises(OutOfResources, match="IMG-DIR: folder is missing"):
        incoming.finish()
    assert visible(tmp_path) == {}
    assert send(store, FIRST).outcome is Outcome.STORED


def test_a_root_that_is_gone_is_not_made_again(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(OutOfResources, match="IMG-DIR: folder is missing"):
        send(store, FIRST)
    assert not (tmp_path / "images").exists()


def test_a_root_that_came_back_is_used_again(store: Store, tmp_path: Path) -> None:
    send(store, FIRST)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(OutOfResources):
        send(store, FIRST)
    (tmp_path / "images").mkdir()
    assert send(store, FIRST).outcome is Outcome.STORED


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_file_where_a_folder_is_needed_is_said_and_left_alone(store: Store, tmp_path: Path, depth: int) -> None:
    obstacle = tmp_path.joinpath("images", *FOLDERS[:depth])
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_bytes(b"mine")
    with pytest.raises(OutOfResources, match="IMG-DIR: a file stands where a folder is needed"):
        send(store, FIRST)
    assert visible(tmp_path) == {obstacle: b"mine"}


def test_what_a_killed_store_had_under_way_is_removed_at_the_next_start(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from tests import test_store as t\n"
        "store = t.Store({t.Root.IMAGES: sys.argv[1]}, t.FilingPolicy())\n"
        "store.open()\n"
        "t.send(store, t.FIRST)\n"
        "incoming = t.receive(store, t.SECOND)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate(timeout=30)
    store = Store({Root.IMAGES: str(tmp_path)}, FilingPolicy())
    assert store.open() == 1
    store.close()
    assert data_sets(tmp_path) == [FIRST]


# Every call to the system fails once -------------------------------------------------------------------------------


class Fault:
    """Lets one call to the system, the nth, fail with a full disk. Closing closes all the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call: str, nth: int) -> None:
        self.has_happened = False
        module = files if hasattr(files, call) else os
        self._call, self._left, self._original = call, nth, getattr(module, call)
        monkeypatch.setattr(module, call, self)

    def __call__(self, *arguments: object, **named: object) -> object:
        self._left -= 1
        if self._left == 0:
            self.has_happened = True
            if self._call == "close":
                self._original(*arguments)
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._original(*arguments, **named)


RESENDS = {  # what is there already, what comes, and under which rule
    "a new instance": ((), FIRST, instance(), Duplicates.BOTH),
    "an identical one": ((FIRST,), FIRST, instance(), Duplicates.BOTH),
    "a different one": ((FIRST,), SECOND, instance(), Duplicates.BOTH),
    "a replacing one": ((FIRST,), SECOND, instance(), Duplicates.REPLACE),
    "a report by title": ((), titled(), instance(sop_class=ENHANCED_SR), Duplicates.BOTH),
    "a report with another title": ((), titled(b"126000"), instance(sop_class=ENHANCED_SR), Duplicates.BOTH),
    "an unreadable one": ((FIRST,), UNREADABLE, instance(), Duplicates.BOTH),
}
CALLS = ("open", "writev", "write", "fsync", "close", "rename", "_rename_to_free_name", "replace", "mkdir")


def fail_every_call(
    folder: Path, call: str, resend: str, after: Callable[[Path, Store, dict[Path, bytes], OutOfResources], None]
) -> int:
    """Send once for each call to the system, which fails; hand what is there then to `after`. How many calls?"""
    kept, encoded, announced, duplicates = RESENDS[resend]
    for nth in range(1, 100):
        roots = roots_below(folder / str(nth))
        with (
            opened(Store(roots, FilingPolicy(), duplicates=duplicates)) as store,
            pytest.MonkeyPatch.context() as patch,
        ):
            for earlier in kept:
                send(store, earlier)
            before = visible(folder / str(nth))
            patch.setattr(files, "_HAS_WRITEV", call != "write" and hasattr(os, "writev"))
            fault = Fault(patch, call, nth)
            try:
                send(store, encoded, announced)
            except (OutOfResources, Quarantined) as error:
                refusal = error
            patch.undo()
            if not fault.has_happened:
                return nth - 1
            assert isinstance(refusal, OutOfResources)
            after(folder / str(nth), store, before, refusal)
    raise AssertionError("endless calls")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("resend", RESENDS)
def test_a_failed_send_harms_nothing_that_was_there(tmp_path: Path, call: str, resend: str) -> None:
    encoded, duplicates = RESENDS[resend][1], RESENDS[resend][3]

    def after(folder: Path, store: Store, before: dict[Path, bytes], refusal: OutOfResources) -> None:
        now = visible(folder)
        for path, content in before.items():
            # Where the folder's sync failed behind the renaming, the replacing one is there, and whole.
            is_replaced = duplicates is Duplicates.REPLACE and stored_data_set(path) == encoded
            assert now[path] == content or is_replaced

    fail_every_call(tmp_path, call, resend, after)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("resend", RESENDS)
def test_a_failed_send_leaves_nothing_half(tmp_path: Path, call: str, resend: str) -> None:
    encoded = RESENDS[resend][1]

    def after(folder: Path, store: Store, before: dict[Path, bytes], refusal: OutOfResources) -> None:
        new = visible(folder).keys() - before.keys()
        assert not [path for path in new if path.suffix == ".part"]
        assert [stored_data_set(path) for path in new] in ([], [encoded])

    fail_every_call(tmp_path, call, resend, after)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("resend", RESENDS)
def test_a_failed_send_says_which_folder_and_why(tmp_path: Path, call: str, resend: str) -> None:
    def after(folder: Path, store: Store, before: dict[Path, bytes], refusal: OutOfResources) -> None:
        both = ("IMG-DIR", "RDSR-DIR")
        keys = {"a report by title": both[1:], "a report with another title": both}.get(resend, both[:1])
        assert str(refusal) in [f"{key}: disk is full" for key in keys]

    fail_every_call(tmp_path, call, resend, after)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("resend", RESENDS)
def test_a_failed_send_succeeds_when_it_is_tried_again(tmp_path: Path, call: str, resend: str) -> None:
    kept, encoded, announced, duplicates = RESENDS[resend]

    def after(folder: Path, store: Store, before: dict[Path, bytes], refusal: OutOfResources) -> None:
        with contextlib.suppress(Quarantined):
            send(store, encoded, announced)
        assert data_sets(folder) == sorted({*(() if duplicates is Duplicates.REPLACE else kept), encoded})

    fail_every_call(tmp_path, call, resend, after)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open descriptors are counted in /proc")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("resend", RESENDS)
def test_a_failed_send_leaves_no_descriptor_open(tmp_path: Path, call: str, resend: str) -> None:
    open_before: list[int] = []

    def after(folder: Path, store: Store, before: dict[Path, bytes], refusal: OutOfResources) -> None:
        open_before.append(len(os.listdir("/proc/self/fd")))

    fail_every_call(tmp_path, call, resend, after)
    assert len(set(open_before)) <= 1


@pytest.mark.parametrize(
    "call, resend",
    [
        ("open", "a new instance"),
        ("writev", "a new instance"),
        ("write", "a new instance"),
        ("fsync", "an identical one"),
        ("close", "a different one"),
        ("rename", "a report with another title"),
        ("_rename_to_free_name", "a new instance"),
        ("replace", "a replacing one"),
        ("mkdir", "an unreadable one"),
    ],
)
def test_the_faults_do_happen(tmp_path: Path, call: str, resend: str) -> None:
    assert fail_every_call(tmp_path, call, resend, lambda *_: None) >= 1


def test_a_failure_is_told_at_the_end_and_the_rest_is_taken_without_a_word(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = store.begin(instance())
    incoming.receive(memoryview(FIRST[:30]))
    with monkeypatch.context() as patch:
        Fault(patch, "writev", 1)
        incoming.receive(memoryview(FIRST[30:60]))
    assert visible(tmp_path) == {}
    incoming.receive(memoryview(FIRST[60:]))
    with pytest.raises(OutOfResources, match="IMG-DIR: disk is full"):
        incoming.finish()
    assert visible(tmp_path) == {}


def test_a_failure_to_write_and_to_close_leaves_no_temporary_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = store.begin(instance())
    incoming.receive(memoryview(FIRST[:30]))
    with monkeypatch.context() as patch:
        Fault(patch, "writev", 1)
        Fault(patch, "close", 1)
        incoming.receive(memoryview(FIRST[30:]))
    assert visible(tmp_path) == {}


@pytest.mark.parametrize("call", ["writev", "fsync", "close", "unlink", "open"])
def test_a_move_to_another_file_system_that_fails_leaves_nothing_on_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    roots = roots_below(tmp_path)

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    with opened(Store(roots, FilingPolicy())) as store:
        incoming = receive(store, titled(b"126000"), instance(sop_class=ENHANCED_SR))
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", refuse)
            Fault(patch, call, 2 if call in ("fsync", "close") else 1)  # the first is that of the temporary file
            with pytest.raises(OutOfResources, match="IMG-DIR: disk is full"):
                incoming.finish()
        assert visible(tmp_path) == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    answer = subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if answer.returncode:
        pytest.skip(f"a small file system can't be mounted here: {answer.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("root", Root)
def test_a_full_disk_refuses_what_it_cannot_hold_and_keeps_what_it_has(small_disk: Path, root: Root) -> None:
    announced = instance(sop_class=CT if root is Root.IMAGES else XRAY_DOSE_SR)
    small = data_set(sop_class=announced.sop_class_uid)
    large = data_set(sop_class=announced.sop_class_uid, pixels=bytes(2_000_000))
    with opened(Store(roots_below(small_disk), FilingPolicy())) as store:
        send(store, small, announced)
        with pytest.raises(OutOfResources, match=f"{root.value}: disk is full"):
            send(store, large, announced)
        assert data_sets(small_disk) == [small]


def test_a_full_disk_takes_instances_again_when_there_is_room(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with opened(Store(roots_below(small_disk), FilingPolicy())) as store:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(OutOfResources, match="IMG-DIR: disk is full"):
            send(store, FIRST)
        filler.unlink()
        assert send(store, FIRST).outcome is Outcome.STORED


# When the disk is asked to be sure ---------------------------------------------------------------------------------


@pytest.fixture
def disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every sync, renaming and new folder in the order in which they end, with the path each is about."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the path of a descriptor is read in /proc")
    calls: list[tuple[str, str]] = []
    fsync, rename, replace, mkdir = os.fsync, files._rename_to_free_name, os.replace, os.mkdir

    def note_fsync(descriptor: int) -> None:
        fsync(descriptor)
        calls.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))

    def note_rename(source: str, target: str) -> None:
        rename(source, target)
        calls.append(("rename", target))

    def note_replace(source: str, target: str) -> None:
        replace(source, target)
        calls.append(("rename", target))

    def note_mkdir(path: str, mode: int = 0o777) -> None:
        mkdir(path, mode)
        calls.append(("mkdir", path))

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(files, "_rename_to_free_name", note_rename)
    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(os, "mkdir", note_mkdir)
    return calls


def shown(calls: list[tuple[str, str]], folder: Path) -> list[str]:
    """`sync images/PAT1`: paths below the folder, temporary files all called `part`."""
    return [
        f"{call} part" if path.endswith(".part") else f"{call} {Path(path).relative_to(folder)}" for call, path in calls
    ]


def test_a_durable_store_syncs_file_then_folders_then_name(
    make_store: Callable[..., Store], tmp_path: Path, disk_calls: list[tuple[str, str]]
) -> None:
    store = make_store(durable=True)
    incoming = receive(store, FIRST)
    disk_calls.clear()
    incoming.finish()
    assert shown(disk_calls, tmp_path) == [
        "sync part",
        "mkdir images/PAT1",
        "sync images",
        "mkdir images/PAT1/7",
        "sync images/PAT1",
        "mkdir images/PAT1/7/3",
        "sync images/PAT1/7",
        "rename images/PAT1/7/3/1.2.3.4.dcm",
        "sync images/PAT1/7/3",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system decides by itself when to write")
@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_store_has_a_large_object_written_while_it_comes(
    make_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    hints = []

    def advise(descriptor: int, start: int, size: int, advice: int) -> None:
        hints.append((start, size, os.fstat(descriptor).st_size))
        raise OSError(errno.ENOSYS, "no such call")  # as some file systems have it; it is a hint and no more

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr("dcmstore.storage.store.WRITE_BACK", 2000)
    encoded = data_set() + element(0x7FE0, 0x0010, "OW", bytes(9000))
    incoming = make_store(durable=durable).begin(instance())
    for start in range(0, len(encoded), 1500):
        incoming.receive(memoryview(encoded)[start : start + 1500])
    stored = incoming.finish()
    assert stored.outcome is Outcome.STORED
    ends = [start + size for start, size, _ in hints]
    assert ends == [written for _, _, written in hints]  # each up to what has come
    assert [start for start, _, _ in hints[1:]] == ends[:-1]  # and from where the last one ended
    assert len(hints) == (3 if durable else 0)


def test_a_durable_store_syncs_two_times_in_a_folder_it_knows(
    make_store: Callable[..., Store], tmp_path: Path, disk_calls: list[tuple[str, str]]
) -> None:
    store = make_store(durable=True)
    send(store, FIRST)
    disk_calls.clear()
    send(store, SECOND)
    assert shown(disk_calls, tmp_path) == [
        "sync part",
        "rename images/PAT1/7/3/1.2.3.4 (2).dcm",
        "sync images/PAT1/7/3",
    ]


def test_a_durable_store_syncs_folders_that_were_there_before_it_too(
    make_store: Callable[..., Store], tmp_path: Path, place: Path, disk_calls: list[tuple[str, str]]
) -> None:
    place.mkdir(parents=True)  # by somebody of whom nothing is known
    store = make_store(durable=True)
    disk_calls.clear()
    send(store, FIRST)
    assert shown(disk_calls, tmp_path) == [
        "sync part",
        "sync images",
        "sync images/PAT1",
        "sync images/PAT1/7",
        "rename images/PAT1/7/3/1.2.3.4.dcm",
        "sync images/PAT1/7/3",
    ]


def test_a_durable_store_syncs_an_identical_file_before_it_says_so(
    make_store: Callable[..., Store], tmp_path: Path, disk_calls: list[tuple[str, str]]
) -> None:
    store = make_store(durable=True)
    send(store, FIRST)
    disk_calls.clear()
    send(store, FIRST)
    assert shown(disk_calls, tmp_path) == [
        "sync part",
        "sync images/PAT1/7/3/1.2.3.4.dcm",
        "sync images/PAT1/7/3",
    ]


def test_a_durable_store_syncs_the_copy_on_another_file_system_before_its_name(
    tmp_path: Path, another_file_system: Path, disk_calls: list[tuple[str, str]]
) -> None:
    roots = roots_below(tmp_path) | {Root.IMAGES: str(another_file_system)}
    with opened(Store(roots, FilingPolicy(folder_tree=False))) as store:
        incoming = receive(store, titled(b"126000"), instance(sop_class=ENHANCED_SR))
        disk_calls.clear()
        incoming.finish()
        assert shown(disk_calls, another_file_system) == ["sync part", "sync part", "rename 1.2.3.4.dcm", "sync ."]


def test_a_durable_store_syncs_what_it_puts_in_quarantine(
    make_store: Callable[..., Store], tmp_path: Path, disk_calls: list[tuple[str, str]]
) -> None:
    store = make_store(durable=True)
    disk_calls.clear()
    with pytest.raises(Quarantined):
        send(store, UNREADABLE)
    assert shown(disk_calls, tmp_path) == [
        "sync part",
        "mkdir images/QUARANTINE",
        "sync images",
        "rename images/QUARANTINE/1.2.3.4.dcm",
        "sync images/QUARANTINE",
    ]


def test_a_store_that_is_not_durable_never_syncs(
    make_store: Callable[..., Store], disk_calls: list[tuple[str, str]]
) -> None:
    store = make_store(durable=False)
    for encoded in (FIRST, SECOND, FIRST):
        send(store, encoded)
    send(store, titled(), instance(sop_class=ENHANCED_SR))
    with pytest.raises(Quarantined):
        send(store, UNREADABLE)
    assert [path for call, path in disk_calls if call == "sync"] == []


# Two at once -------------------------------------------------------------------------------------------------------


def finish_both_at_once(store: Store, first: IncomingInstance, second: IncomingInstance) -> list[Stored]:
    """Finish `first`, and just before it takes its name, let `second` finish on another thread."""
    results: dict[str, Stored] = {}
    rename = files._rename_to_free_name

    def finish_second() -> None:
        results["second"] = second.finish()

    thread = threading.Thread(target=finish_second)

    def let_second_go_first(source: str, target: str) -> None:
        if threading.current_thread() is not thread and thread.ident is None:
            thread.start()
            thread.join(30)
        rename(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_rename_to_free_name", let_second_go_first)
        results["first"] = first.finish()
    return [results["second"], results["first"]]


def test_two_different_data_sets_of_one_uid_at_once_are_both_kept(store: Store, tmp_path: Path) -> None:
    stored = finish_both_at_once(store, receive(store, FIRST), receive(store, SECOND))
    assert [one.outcome for one in stored] == [Outcome.STORED, Outcome.NUMBERED]
    assert data_sets(tmp_path) == [FIRST, SECOND]


def test_two_identical_data_sets_at_once_are_kept_once(store: Store, tmp_path: Path) -> None:
    stored = finish_both_at_once(store, receive(store, FIRST), receive(store, FIRST))
    assert [one.outcome for one in stored] == [Outcome.STORED, Outcome.IDENTICAL]
    assert data_sets(tmp_path) == [FIRST]


def test_many_threads_with_one_uid_lose_nothing(store: Store, tmp_path: Path) -> None:
    variants = [data_set(pixels=bytes([number]) * 6) for number in range(4)]
    sent = variants * 4
    random.Random(1).shuffle(sent)
    outcomes: list[Outcome] = []
    start = threading.Barrier(len(sent))

    def send_one(encoded: bytes) -> None:
        incoming = receive(store, encoded)
        start.wait(30)
        outcomes.append(incoming.finish().outcome)

    threads = [threading.Thread(target=send_one, args=(encoded,)) for encoded in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcome.name for outcome in outcomes) == ["IDENTICAL"] * 12 + ["NUMBERED"] * 3 + ["STORED"]
    assert data_sets(tmp_path) == sorted(variants)


def test_a_data_set_with_a_group_0002_is_recognised_when_it_comes_again(store: Store, tmp_path: Path) -> None:
    encoded = element(0x0002, 0x0010, "UI", b"1.2.840.10008.1.2.1") + FIRST
    assert [send(store, encoded).outcome for _ in range(3)] == [Outcome.STORED, Outcome.IDENTICAL, Outcome.IDENTICAL]


@pytest.mark.parametrize("duplicates", list(Duplicates))
def test_a_fault_of_the_disk_decides_nothing_about_a_duplicate(
    make_store: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duplicates: Duplicates
) -> None:
    store = make_store(duplicates=duplicates)
    send(store, FIRST)
    incoming = receive(store, SECOND)

    def no_descriptor(*_: object, **__: object) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("dcmstore.storage.files.open", no_descriptor, raising=False)
    with pytest.raises(OutOfResources, match="too many open files"):
        incoming.finish()
    monkeypatch.undo()
    assert data_sets(tmp_path) == [FIRST]


def test_another_disk_under_the_root_is_refused(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "images"
    folder.rename(tmp_path / "mounted elsewhere")
    folder.mkdir()  # the empty mount point
    store.incoming[Root.IMAGES]._device += 1
    with pytest.raises(OutOfResources, match="another disk than at the start"):
        send(store, FIRST)
    assert list(folder.iterdir()) == []


def test_a_root_that_was_emptied_is_used_again_under_lock(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "images" / ".incoming")
    assert send(store, FIRST).outcome is Outcome.STORED
    assert [path.suffix for path in (tmp_path / "images" / ".incoming").iterdir()] == [".lock"]


# --- a disk that ignores upper and lower case ---------------------------------------------------------


@pytest.fixture
def without_case(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """As on NTFS, as far as the tree can see: what the disk itself would do is left to the tests under Windows."""
    for tree in store.trees.values():
        monkeypatch.setattr(tree, "_tells_case", False)
    return store


def in_folder(patient_id: bytes, uid: str) -> bytes:
    return data_set(uid, patient_id=patient_id)


def test_values_that_differ_in_case_are_told_apart_where_the_disk_cannot(without_case: Store, tmp_path: Path) -> None:
    stored = [
        send(without_case, in_folder(patient_id, uid), instance(uid))
        for patient_id, uid in ((b"abc", "1.1"), (b"ABC", "1.2"), (b"abc", "1.3"), (b"ABC", "1.4"), (b"Abc", "1.5"))
    ]
    masters = [one.folders[0] for one in stored]
    assert masters[0] == masters[2] == "abc"
    assert masters[1] == masters[3]
    assert re.fullmatch("ABC~[0-9a-f]{8}", masters[1])
    assert re.fullmatch("Abc~[0-9a-f]{8}", masters[4])
    assert len({name.upper() for name in masters}) == 3


def test_two_associations_that_bring_such_values_at_once_get_two_folders(
    without_case: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, others = os.mkdir, []

    def make(path: str) -> None:
        if os.path.basename(path) == "ABC":  # the disk has `abc`, since the other association came first
            others.append(send(without_case, in_folder(b"abc", "1.1"), instance("1.1")))
            raise FileExistsError(errno.EEXIST, "exists", path)
        mkdir(path)

    monkeypatch.setattr(os, "mkdir", make)
    ours = send(without_case, in_folder(b"ABC", "1.2"), instance("1.2"))
    assert [other.folders[0] for other in others] == ["abc"]
    assert re.fullmatch("ABC~[0-9a-f]{8}", ours.folders[0])


def test_they_are_told_apart_in_the_same_way_after_a_restart(make_store: Callable[..., Store], tmp_path: Path) -> None:
    masters = []
    for _ in range(2):
        store = make_store()
        for tree in store.trees.values():
            tree._tells_case = False
        masters.append([send(store, in_folder(p, "1.1"), instance("1.1")).folders[0] for p in (b"abc", b"ABC")])
        store.close()
    assert masters[0] == masters[1]


def test_whether_the_disk_tells_case_is_found_out_at_the_start(store: Store) -> None:
    assert store.trees[Root.IMAGES]._tells_case  # this test's disk does
