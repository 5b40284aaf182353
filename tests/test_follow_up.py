"""What follows a store, through a whole receiver: hooks, forwards, studies, commitment, as the ini has them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore import cli
from tests.hosted import Running, running_in
from tests.index.support import rows
from tests.support import Peer, data_set, free_port, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops by a signal, and the scripts are of a shell")


@pytest.fixture(params=[1, 2], ids=["alone", "with-workers"])
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    with running_in(tmp_path, request.param) as process:
        yield process


def started(running: Running, **settings: object) -> int:
    """The port of a receiver with an index, once that is up to date."""
    running.configure(port=(port := free_port()), index=1, **settings)
    running.start()
    wait_until(lambda: running.logged("index.caught_up"))
    return port


def store(port: int, *uids: str, release: bool = True) -> Peer:
    peer = Peer(port)
    peer.associate()
    for uid in uids:
        assert peer.store(data_set(uid), uid).status == 0
    if release:
        peer.release()
    return peer


def appending(folder: Path, words: str) -> tuple[Path, str]:
    """A file, and a command line that writes a line into it."""
    written = folder / "written.txt"
    script = folder / "write.py"
    script.write_text(f"import sys\nopen({str(written)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n")
    return written, f'"{sys.executable}" "{script}" {words}'


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_command_is_run_for_each_object(running: Running) -> None:
    written, command = appending(running.folder, "{sop_instance_uid} {path}")
    port = started(running, on_stored=command)
    store(port, "1.2.1", "1.2.2")
    wait_until(lambda: len(lines(written)) == 2)
    for uid, line in zip(("1.2.1", "1.2.2"), sorted(lines(written)), strict=True):
        named, _, path = line.partition(" ")
        assert named == uid
        assert Path(path).name == f"{uid}.dcm"
        assert Path(path).exists()


def test_an_object_that_comes_again_gives_no_second_job(running: Running) -> None:
    written, command = appending(running.folder, "{sop_instance_uid}")
    port = started(running, on_stored=command)
    store(port, "1.2.1", "1.2.1", "1.2.2")
    wait_until(lambda: {"1.2.1", "1.2.2"} <= set(lines(written)))
    running.stop()  # what is in hand ends
    assert sorted(lines(written)) == ["1.2.1", "1.2.2"]


def test_a_study_is_complete_once_its_association_is_over(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    written, command = appending(running.folder, "{instances}")
    port = started(running, on_study_complete=command, study_quiet=1)
    peer = store(port, "1.2.1", "1.2.2", release=False)
    store(port, "1.2.3")
    with pytest.raises(AssertionError):
        wait_until(lambda: lines(written), seconds=2.5)
    peer.release()
    wait_until(lambda: lines(written))
    assert lines(written) == ["3"]
    assert cli.main(["list", "--json", "--config", str(running.folder / "DcmStore.ini")]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "complete: quiet"


def test_objects_are_sent_on(running: Running, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_in(tmp_path_factory.mktemp("pacs")) as pacs:
        pacs.configure(port=(there := free_port()), localAE="PACS")
        pacs.start()
        port = started(running, forward_to=f"[modality=*] PACS@127.0.0.1:{there}")
        store(port, "1.2.1", "1.2.2")
        wait_until(lambda: len(list(pacs.folder.rglob("1.2.*.dcm"))) == 2)


def test_a_forward_waits_for_a_peer_that_is_down_over_a_restart(tmp_path: Path) -> None:
    there = free_port()
    (tmp_path / "receiver").mkdir()
    with running_in(tmp_path / "receiver") as first:
        port = started(first, forward_to=f"PACS@127.0.0.1:{there}")
        store(port, "1.2.1")
        wait_until(lambda: first.logged("job.failed"))
        first.stop()
    (tmp_path / "pacs").mkdir()
    with running_in(tmp_path / "pacs") as pacs:
        pacs.configure(port=there, localAE="PACS")
        pacs.start()
        second = Running(tmp_path / "receiver")
        second.start()
        try:
            wait_until(lambda: list(pacs.folder.rglob("1.2.1.dcm")))
        finally:
            second.stop()


def test_what_a_killed_receiver_did_not_come_to_is_done_at_the_next_start(running: Running) -> None:
    """The index is deleted in place of a kill: its walk then finds the object anew, as after one."""
    written, command = appending(running.folder, "{sop_instance_uid}")
    port = started(running, on_stored=command)
    store(port, "1.2.1")
    wait_until(lambda: lines(written))
    running.stop()
    again = Running(running.folder)
    for path in running.folder.glob("DcmStore.index*"):
        path.unlink()
    again.start()
    try:
        wait_until(lambda: len(again.logged("index.caught_up")) == 2)
    finally:
        again.stop()
    assert lines(written) == ["1.2.1"]  # the queue knows that it was told


def garbage(folder: Path) -> None:
    for path in folder.glob("DcmStore.queue*"):
        path.unlink()
    (folder / "DcmStore.queue").write_bytes(b"no database" * 1000)


def test_what_comes_while_the_queue_is_damaged_has_its_hooks(running: Running) -> None:
    written, command = appending(running.folder, "{sop_instance_uid}")
    garbage(running.folder)
    running.configure(port=(port := free_port()), index=1, on_stored=command)
    running.start()
    store(port, "1.2.1")
    wait_until(lambda: lines(written) == ["1.2.1"])
    (told,) = running.logged("queue.damaged")
    (aside,) = running.folder.glob("DcmStore.queue-damaged-*")
    assert " ERROR " in told
    assert str(aside) in told
    assert "hooks, forwards and reports of commitment that waited in it" in told
    assert running.logged("index.failed") == []


def test_what_came_before_a_damaged_queue_was_put_aside_has_its_hooks_after_a_crash(running: Running) -> None:
    """A file that the index does not have, and the missing mark of a clean end, stand for what a crash leaves."""
    written, command = appending(running.folder, "{sop_instance_uid}")
    port = started(running, on_stored=command)
    store(port, "1.2.1")
    wait_until(lambda: lines(written) == ["1.2.1"])
    running.stop()
    (stored,) = running.folder.rglob("1.2.1.dcm")
    stored.with_name("1.2.2.dcm").write_bytes(stored.read_bytes().replace(b"1.2.1\0", b"1.2.2\0"))
    garbage(running.folder)
    (running.folder / "DcmStore.index-clean").unlink()
    again = Running(running.folder)
    again.start()
    try:
        wait_until(lambda: lines(written) == ["1.2.1", "1.2.2"])
    finally:
        again.stop()


def test_a_reload_brings_another_hook(running: Running) -> None:
    written, command = appending(running.folder, "{sop_instance_uid}")
    port = started(running)
    store(port, "1.2.1")
    wait_until(lambda: rows(running.folder / "DcmStore.index"))
    running.configure(port=port, index=1, on_stored=command)
    running.reload()
    store(port, "1.2.2")
    wait_until(lambda: lines(written) == ["1.2.2"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"on_stored": "/bin/true", "index": 0},
            "on-stored= '/bin/true': needs index= 1, which is 0; set that to 1, or ",
        ),
        (
            {"storage_commitment": "new", "index": 0},
            "storage-commitment= new: needs index= 1, which is 0; set that to 1",
        ),
        ({"forward_to": "NOBODY"}, "forward-to= 'NOBODY': 'NOBODY' is no peer"),
        ({"forward_to": "X@127.0.0.1:11112", "port": 11112}, "X@127.0.0.1:11112 is this receiver itself, which would "),
        ({"on_stored": "/bin/true {pathh}"}, "on-stored= '/bin/true {pathh}': {pathh} is no placeholder"),
        ({"on_stored": "/bin/true | cat"}, "`|` is for a shell, and there is none: write a script and call that"),
        ({"storage_commitment": "same", "workers": 2}, "storage-commitment= same: allowed is new, or off"),
    ],
)
def test_what_could_never_work_is_refused(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    from dcmstore import receiver
    from dcmstore.errors import ConfigurationError

    with running_in(tmp_path) as place:
        place.configure(**{"index": 1, **settings})
        place.host.wake()  # one that starts all the same ends at once
        with pytest.raises(ConfigurationError) as refused:
            receiver.run(place.folder / "DcmStore.ini", place.host, with_console=False)
        assert words in str(refused.value)
        assert cli.main(["check", "--config", str(place.folder / "DcmStore.ini")]) == 1
