"""`index= 1` from the association to the answer, with the receiver in this process and as a process that is killed."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which

import pytest

from dcmstore import cli, receiver, wiring
from dcmstore.commands import listing
from dcmstore.errors import ConfigurationError
from dcmstore.index.database import Database
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta
from tests.hosted import Running
from tests.index.support import EXPLICIT, image, locked, rows
from tests.support import CT, Peer, free_port, wait_until

PROJECT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "dcmstore"]
OLD = 1_000_000_000.0

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(tmp_path: Path) -> Running:
    for name in ("images", "rdsr"):
        (tmp_path / name).mkdir()
    running = Running(tmp_path)
    running.configure(index=1)
    return running


@pytest.fixture
def run(place: Running, capsys: pytest.CaptureFixture[str]) -> Run:
    """One command with the ini of `place`: its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([*arguments, "--config", str(place.folder / "DcmStore.ini")])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def received(place: Running) -> Iterator[Running]:
    """A receiver that has stopped after it received three objects of two patients."""
    place.start()
    wait_until(lambda: place.logged("index.caught_up"))
    send(place, "1.2.1", "1.2.2")
    send(place, "1.2.3", patient_id=b"PAT2", name=b"Roe^Richard", study="1.9.2", series="1.9.2.3", modality=b"MR")
    place.stop()
    for file in (place.folder / "images").rglob("*.dcm"):
        os.utime(file, (OLD, OLD))  # they did not come just now
    yield place


def send(place: Running, *uids: str, **attributes: object) -> None:
    wait_until(lambda: place.logged("receiver.listening"))
    match = re.search(r" port=(\d+)", place.logged("receiver.listening")[-1])
    assert match
    send_to(int(match[1]), *uids, **attributes)


def send_to(port: int, *uids: str, **attributes: object) -> None:
    with Peer(port) as peer:
        peer.associate(CT)
        for uid in uids:
            assert peer.store(image(uid, **attributes), uid).status == 0  # type: ignore[arg-type]
        peer.release()


def index_of(place: Running) -> Path:
    return place.folder / "DcmStore.index"


# --- receiving -----------------------------------------------------------------------------------


def test_what_was_received_is_indexed_with_its_sender(received: Running) -> None:
    statement = "SELECT path, calling_ae_title, host, transfer_syntax FROM instances ORDER BY path"
    assert rows(index_of(received), statement) == [
        ("PAT1/7/3/1.2.1.dcm", "PEER", "127.0.0.1", EXPLICIT),
        ("PAT1/7/3/1.2.2.dcm", "PEER", "127.0.0.1", EXPLICIT),
        ("PAT2/7/3/1.2.3.dcm", "PEER", "127.0.0.1", EXPLICIT),
    ]
    assert received.exit_code == 0
    assert (received.folder / "DcmStore.index-clean").exists()


def test_what_comes_while_there_is_no_index_is_caught_up(received: Running, run: Run) -> None:
    without, again = Running(received.folder), Running(received.folder)
    without.configure(index=0, port=(port := free_port()))
    without.start()
    send_to(port, "1.2.8")
    without.stop()
    (received.folder / "more").mkdir()
    (received.folder / "more" / "1").write_bytes(
        (received.folder / "images/PAT1/7/3/1.2.1.dcm").read_bytes().replace(b"1.2.1\0", b"1.2.9\0")
    )
    again.configure(index=1)
    again.start()
    wait_until(lambda: len(rows(index_of(received))) == 4)
    again.stop()
    assert (received.folder / "DcmStore.index-clean").exists()
    received.configure(index=0)
    assert run("import", str(received.folder / "more"))[0] == 0
    assert not (received.folder / "DcmStore.index-clean").exists()


def test_a_start_that_fails_leaves_the_index_whole(received: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        received.configure(index=1, port=other.getsockname()[1])
        assert receiver.run(received.folder / "DcmStore.ini", received.host, with_console=False) == 1
    assert (received.folder / "DcmStore.index-clean").exists()


def test_it_is_indexed_while_the_receiver_runs(place: Running) -> None:
    place.start()
    wait_until(lambda: place.logged("index.caught_up"))
    send(place, "1.2.1")
    wait_until(lambda: rows(index_of(place)) == [("PAT1/7/3/1.2.1.dcm",)])
    place.stop()


def test_without_the_key_there_is_no_index_and_no_library_of_it(place: Running) -> None:
    place.configure()
    program = (
        "import sys; from pathlib import Path; from tests.hosted import Running; "
        "place = Running(Path('.')); place.start(); place.stop(); "
        "print([name for name in sys.modules if name in ('sqlalchemy', 'sqlite3')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[]\n", done.stderr
    assert not index_of(place).exists()


def test_without_its_library_the_receiver_says_how_to_install_it(
    place: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"index= 1: needs SQLAlchemy 2; install it with: \S+ -m pip"):
        receiver.run(place.folder / "DcmStore.ini", place.host, with_console=False)


def test_a_locked_index_hinders_no_store(place: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcmstore.index.indexer.PATIENCE", 0.01)
    place.start()
    wait_until(lambda: place.logged("index.caught_up"))
    with locked(index_of(place)):
        send(place, "1.2.1", "1.2.2")
        wait_until(lambda: place.logged("index.failed"))
        send(place, "1.2.3")
        place.stop()
    (line,) = place.logged("index.failed")
    assert " ERROR " in line
    assert "another program has it open for writing" in line
    assert len(place.logged("instance.stored")) == 3
    assert not (place.folder / "DcmStore.index-clean").exists()  # the next start finds them


@pytest.mark.parametrize("log_patient", [0, 1])
def test_a_file_that_can_not_be_read_is_told_without_its_patient(
    place: Running, monkeypatch: pytest.MonkeyPatch, log_patient: int
) -> None:
    def refuse(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    place.configure(index=1, log_patient=log_patient)
    place.start()
    wait_until(lambda: place.logged("index.caught_up"))
    monkeypatch.setattr("dcmstore.index.notes.AGAIN", ())
    monkeypatch.setattr("dcmstore.index.entries.files.open_to_read", refuse)
    send(place, "1.2.1")
    wait_until(lambda: place.logged("index.unread"))
    place.stop()
    (line,) = place.logged("index.unread")
    assert " WARNING " in line
    assert f"path={'PAT1' if log_patient else '*'}/7/3/1.2.1.dcm " in line


@pytest.mark.skipif(os.name == "nt", reason="links are not for everybody there")
def test_what_a_walk_can_not_read_is_told_and_looked_for_again(place: Running, run: Run) -> None:
    folder = place.folder / "images" / "DOE^JANE"
    folder.symlink_to("DOE^JANE")  # leads nowhere, so that the system refuses every path through it
    place.start()
    wait_until(lambda: place.logged("index.caught_up"))
    place.stop()
    (line,) = place.logged("index.unread")
    assert " WARNING " in line
    assert " path=* " in line
    assert line.endswith(" files=1")
    assert not (place.folder / "DcmStore.index-clean").exists()  # so the next start looks again
    code, _, errors = run("reindex")
    assert code == 1
    assert f"dcmstore: {folder}: can't be read: Too many levels of symbolic links\n" in errors
    assert "dcmstore: 1 of the folders and files can't be read; run this as the user that runs the receiver" in errors


def test_a_damaged_index_hinders_no_store_and_reindex_cures_it(place: Running, run: Run) -> None:
    index_of(place).write_bytes(b"no database" * 1000)
    place.start()
    wait_until(lambda: place.logged("index.failed"))
    send(place, "1.2.1")
    assert run("list")[0] == 2
    assert run("reindex")[:2] == (0, "1 files, 1 entered, 0 removed that are gone\n")
    place.stop()
    assert rows(index_of(place)) == [("PAT1/7/3/1.2.1.dcm",)]
    assert "reindex" in place.logged("index.failed")[0]


def test_an_index_that_is_switched_on_finds_what_is_there(place: Running) -> None:
    place.configure()
    place.start()
    send(place, "1.2.1")
    place.configure(index=1)
    place.reload()
    wait_until(lambda: place.logged("index.caught_up"))
    send(place, "1.2.2")
    wait_until(lambda: len(rows(index_of(place))) == 2)
    place.stop()


# --- a process that is killed --------------------------------------------------------------------


def start(place: Running) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([*COMMAND, "run"], cwd=place.folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not (match := re.search(r"receiver\.listening .*? port=(\d+)", process.stderr.readline())):
        assert process.poll() is None
    return process, int(match[1])


@pytest.mark.skipif(os.name == "nt", reason="stops by a signal")
def test_what_a_killed_receiver_had_acknowledged_is_indexed_after_the_next_start(place: Running) -> None:
    process, port = start(place)
    send_to(port, "1.2.1", "1.2.2", "1.2.3")
    process.kill()  # at once: the index gathers for half a second
    process.communicate(timeout=20)
    process, port = start(place)
    wait_until(lambda: place.logged("index.caught_up"))
    assert len(rows(index_of(place))) == 3
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    caught_up = len(place.logged("index.caught_up"))
    process, port = start(place)
    send_to(port, "1.2.4")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert len(place.logged("index.caught_up")) == caught_up  # after a clean end nothing is looked for
    assert len(rows(index_of(place))) == 4


# --- import, reindex -----------------------------------------------------------------------------


def test_an_import_is_indexed_too(place: Running, run: Run, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "x").write_bytes(part10.encode(FileMeta(CT, "1.2.1", EXPLICIT, "MR5")) + image("1.2.1"))
    assert run("import", str(old))[0] == 0
    assert rows(index_of(place), "SELECT path, calling_ae_title FROM instances") == [("PAT1/7/3/1.2.1.dcm", "MR5")]


def test_reindexing_makes_what_the_receiver_had_written(received: Running, run: Run) -> None:
    columns = (
        "SELECT path, root, size, sha256, transfer_syntax, sop_instance_uid, sop_class_uid, instance_number, "
        "calling_ae_title, series_instance_uid, modality, series_number, series_description, studies.* "
        "FROM instances JOIN series ON series.id = instances.series JOIN studies ON studies.id = series.study "
        "ORDER BY path"
    )
    written = rows(index_of(received), columns)
    index_of(received).unlink()
    assert run("reindex") == (0, "3 files, 3 entered, 0 removed that are gone\n", "")
    assert rows(index_of(received), columns) == written
    assert run("reindex")[1] == "3 files, 0 entered, 0 removed that are gone\n"


def test_an_empty_root_is_told_and_loses_nothing(received: Running, run: Run) -> None:
    for file in (received.folder / "images").rglob("*.dcm"):
        file.unlink()
    assert "images: is empty; is its disk there?" in run("verify")[2]
    code, _, told = run("reindex")
    assert code == 1
    assert "images: is empty, and what the index has of it is kept; is its disk there?" in told
    assert len(rows(index_of(received))) == 3


# --- list ----------------------------------------------------------------------------------------


def test_list_shows_studies_for_a_person(received: Running, run: Run) -> None:
    code, out, _ = run("list")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split("  ")[0] == "LAST CAME"
    assert "PAT1" in lines[1] and "2026-11-25" in lines[1]
    assert "PAT2" in lines[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ae", "PEER", "--since", "today"], ["PAT1", "PAT2"]),
        (["--ae", "CT2", "--since", "yesterday"], []),
        (["--patient", "PAT1"], ["PAT1"]),
        (["--name", "roe"], ["PAT2"]),
        (["--host", "127.0.0.*"], ["PAT1", "PAT2"]),
        (["--modality", "mr"], ["PAT2"]),
        (["--study-date", "20261101-20261130"], ["PAT1", "PAT2"]),
        (["--until", "yesterday"], []),
        (["--limit", "1"], ["PAT2"]),
        (["series", "--patient", "PAT2"], ["PAT2"]),
        (["instances", "--patient", "PAT1"], ["PAT1", "PAT1"]),
    ],
)
def test_list_filters(received: Running, run: Run, arguments: list[str], expected: list[str]) -> None:
    code, out, _ = run("list", *arguments, "--json")
    assert [record["patient_id"] for record in json.loads(out)] == expected
    assert code == (0 if expected else 1)


@pytest.mark.parametrize("kind", ["studies", "series", "instances"])
def test_csv_has_the_fields_of_json(received: Running, run: Run, kind: str) -> None:
    records = json.loads(run("list", kind, "--json")[1])
    header, *lines = csv.reader(io.StringIO(run("list", kind, "--csv")[1]))
    assert header == list(records[0])
    assert len(lines) == len(records)


def test_list_finds_nothing_with_exit_code_1(received: Running, run: Run) -> None:
    assert run("list", "--patient", "NOBODY") == (1, "", "dcmstore: nothing was found\n")


@pytest.mark.parametrize("option", ["--since=noon", "--until=24", "--study-date=2026", "--limit=0"])
def test_list_says_what_is_allowed(place: Running, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["list", option])
    assert caught.value.code == 2
    assert "allowed is" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "verify"])
def test_without_an_index_a_command_says_where_it_comes_from(place: Running, run: Run, command: str) -> None:
    code, _, told = run(command)
    assert code == 2
    assert "there is no index yet; `index= 1` lets the receiver write it, `dcmstore reindex` makes it" in told


@pytest.mark.parametrize("command", [("list",), ("list", "collisions"), ("verify",)])
def test_an_index_that_nobody_keeps_says_that_its_answer_may_be_old(
    received: Running, run: Run, command: tuple[str, ...]
) -> None:
    assert "index= 0" not in run(*command)[2]
    received.configure()
    told = run(*command)[2]
    advice = "set index= 1, or let `dcmstore reindex` enter what is there"
    assert [line for line in told.splitlines() if "index= 0" in line] == [
        f"dcmstore: index= 0: nothing that comes is entered, so this may be old; {advice}"
    ]


def test_of_very_many_patients_in_a_folder_a_table_names_some(
    received: Running, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_VALUES", 1)
    database = Database(str(index_of(received)))
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE instances SET path = replace(path, 'PAT2', 'PAT1')")
    database.close()
    _, first, *_ = run("list", "collisions")[1].splitlines()
    assert first.split()[2:7] == ["2", "2", "3", "PAT1,", "…"]
    assert json.loads(run("list", "collisions", "--json")[1])[0]["patient_ids"] == ["PAT1", "PAT2"]


# --- verify --------------------------------------------------------------------------------------


def test_verify_finds_all_as_it_was(received: Running, run: Run) -> None:
    assert run("verify") == (0, "3 files as they were, 0 not\n", "")


def test_verify_names_each_finding_on_a_line(received: Running, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    images = received.folder / "images"
    (images / "PAT1/7/3/1.2.1.dcm").unlink()
    changed = images / "PAT1/7/3/1.2.2.dcm"
    content = changed.read_bytes()
    changed.write_bytes(content[:-1] + b"x")
    unknown = images / "PAT2/7/3/new.dcm"
    unknown.write_bytes(content)
    for file in (changed, unknown):
        os.utime(file, (OLD, OLD))
    monkeypatch.setattr("dcmstore.index.comparing.SETTLE", 0.0)
    assert run("verify")[:2] == (
        1,
        f"missing     {images}/PAT1/7/3/1.2.1.dcm\n"
        f"changed     {changed}: another content of the same size\n"
        f"unknown     {unknown}\n"
        "1 files as they were, 3 not\n",
    )
    assert "2 files as they were, 2 not" in run("verify", "--quick")[1]


def test_verify_finds_what_was_damaged_just_now(received: Running, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcmstore.index.comparing.SETTLE", 0.0)
    os.truncate(received.folder / "images/PAT1/7/3/1.2.1.dcm", 300)
    code, out, _ = run("verify")
    assert code == 1
    assert "2 files as they were, 1 not" in out


@pytest.mark.skipif(which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_can_check_the_manifest(received: Running, run: Run) -> None:
    odd = received.folder / "images" / "back\\slash.dcm"
    odd.write_bytes((received.folder / "images/PAT1/7/3/1.2.1.dcm").read_bytes())
    run("reindex")
    manifest = received.folder / "manifest"
    assert run("verify", "--manifest", str(manifest))[0] == 0
    done = subprocess.run(["sha256sum", "-c", "--strict", manifest], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_manifest_into_a_pipe_or_link_leaves_that_in_place(received: Running, run: Run) -> None:
    pipe, link, plain = (received.folder / name for name in ("pipe", "link", "plain"))
    os.mkfifo(pipe)
    link.symlink_to(plain)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run("verify", "--manifest", str(pipe))[0] == 0
    assert run("verify", "--manifest", str(link))[0] == 0
    assert os.read(reader, 100_000) == plain.read_bytes() != b""
    os.close(reader)
    assert pipe.is_fifo() and link.is_symlink()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no disk here that is always full")
def test_a_manifest_on_a_full_disk_is_told(received: Running, run: Run) -> None:
    code, _, told = run("verify", "--manifest", "/dev/full")
    assert (code, told) == (2, "dcmstore: --manifest /dev/full: can't be written: No space left on device\n")


def test_a_manifest_that_can_not_be_written_is_told(received: Running, run: Run) -> None:
    code, _, told = run("verify", "--manifest", str(received.folder / "nowhere" / "manifest"))
    assert (code, "--manifest" in told and "can't be written: No such file or directory" in told) == (2, True)


def test_files_of_a_root_that_the_ini_no_longer_names_are_told(received: Running, run: Run) -> None:
    (received.folder / "new").mkdir()
    received.configure(index=1, IMG_DIR="new")
    code, out, told = run("verify")
    assert (code, out) == (0, "0 files as they were, 0 not\n")
    assert "images: 3 files of it are in the index, but the ini names it no more: it is not looked at" in told


def test_the_index_is_made_with_the_permissions_of_the_ini(place: Running) -> None:
    place.configure(index=1, permissions="0600")
    place.start()
    wait_until(lambda: place.logged("index.caught_up"))
    place.stop()
    if os.name != "nt":
        assert index_of(place).stat().st_mode & 0o777 == 0o600


def test_a_root_in_a_root_is_known_as_its_own(place: Running) -> None:
    place.configure(IMG_DIR="images", RDSR_DIR="images/rdsr")
    settings = receiver.config.read(place.folder / "DcmStore.ini").settings
    outer, inner = wiring.index_roots(settings)
    assert outer.without == (inner.system,)


def test_what_is_no_text_finds_nothing(received: Running, run: Run) -> None:
    for name in ("--patient", "--name", "--ae"):
        assert run("list", name, "\udcff*") == (1, "", "dcmstore: nothing was found\n")
