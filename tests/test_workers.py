"""Processes that receive for one that listens: what holds of one receiver holds of all of them together."""

import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcmstore import receiver, uids
from dcmstore.hosting import Request
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta
from dcmstore.storage.store import Store
from dcmstore.workers import channel, messages, pool
from dcmstore.workers.channel import Channel
from tests.hosted import Running, running_in
from tests.index.support import rows
from tests.support import CT, WAIT, Peer, WrongAnswer, data_set, free_port, store_request, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with running_in(tmp_path, workers=2) as process:
        yield process


def children(process: int) -> list[int]:
    """The identifiers of the processes that a process has started and that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if int(parent) == process and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def port_of(running: Running, **settings: object) -> int:
    """The port, with the receiver started."""
    running.configure(port=(port := free_port()), **settings)
    running.start()
    return port


def associated(port: int) -> Peer:
    peer = Peer(port)
    peer.associate()
    return peer


def test_associations_go_to_the_process_that_has_fewest(running: Running) -> None:
    port = port_of(running)
    before = children(os.getpid())
    with associated(port) as first, associated(port) as second:
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: running.logged("worker.ended"))
        answered = []
        for peer, uid in ((first, "1.2.1"), (second, "1.2.2")):
            try:
                answered.append(peer.store(data_set(uid), uid).status)
            except (OSError, WrongAnswer):
                answered.append(None)
    assert sorted(answered, key=str) == [0, None]


def test_a_process_that_ends_is_started_again(running: Running) -> None:
    port = port_of(running)
    before = children(os.getpid())
    for process in before:
        os.kill(process, signal.SIGKILL)
    wait_until(lambda: len(set(children(os.getpid())) - set(before)) == 2)
    with associated(port) as peer:
        assert peer.store(data_set("1.2.1"), "1.2.1").status == 0
        peer.release()
    assert len(running.logged("worker.ended")) == 2
    assert "exit_code=-9" in running.logged("worker.ended")[0]


def test_a_process_that_does_not_answer_is_started_again(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "START_WAIT", 0.0)
    monkeypatch.setattr(receiver, "CHECK_PATIENCE", 1.0)
    port = port_of(running)
    os.kill(children(os.getpid())[0], signal.SIGSTOP)
    running.host.ask(Request.CHECK)
    assert running.host.answer()[0] == "alive"
    wait_until(lambda: running.logged("worker.ended"))
    for _ in range(2):
        with associated(port) as peer:
            peer.release()


def test_a_receiver_whose_processes_do_not_live_ends(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "_MODULE", "dcmstore.nothing")
    monkeypatch.setattr(pool, "PAUSE", 0.0)
    monkeypatch.setattr(pool, "READY_WAIT", 0.0)
    port_of(running)
    running.join()
    assert running.logged("receiver.fault")
    assert len(running.logged("worker.ended")) >= pool.MAX_DEATHS
    assert running.exit_code == 1  # so that it is started again


def test_what_a_killed_process_told_nobody_of_is_found(running: Running) -> None:
    port = port_of(running, index=1)
    wait_until(lambda: running.logged("index.caught_up"))
    with associated(port) as peer:
        for number in range(9):
            peer.store(data_set(f"1.2.{number}"), f"1.2.{number}")
        for process in children(os.getpid()):
            os.kill(process, signal.SIGKILL)
    wait_until(lambda: len(rows(running.folder / "DcmStore.index")) == 9)


def test_a_store_does_not_wait_for_a_process_that_listens_and_is_frozen(tmp_path: Path) -> None:
    objects = 3000  # of each, a note and a line of the log are more than the system takes
    with running_in(tmp_path, workers=2) as configured:
        configured.configure(port=(port := free_port()), durable=0, index=1)
        with started(tmp_path, "index.caught_up") as process, associated(port) as peer:
            os.kill(process.pid, signal.SIGSTOP)
            try:
                for number in range(objects):
                    assert peer.store(data_set(f"1.2.{number}"), f"1.2.{number}").status == 0
            finally:
                os.kill(process.pid, signal.SIGCONT)
            peer.release()
            wait_until(lambda: len(rows(tmp_path / "DcmStore.index")) == objects)


def test_what_a_process_had_no_room_to_tell_is_found(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[pool.Pool] = []

    class Known(pool.Pool):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            pools.append(self)

    monkeypatch.setattr(pool, "Pool", Known)
    port_of(running, index=1)
    wait_until(lambda: running.logged("index.caught_up"))
    untold = running.folder / "images" / "PAT1" / "1.2.1.dcm"
    untold.parent.mkdir()
    meta = FileMeta(CT, "1.2.1", uids.EXPLICIT_VR_LITTLE_ENDIAN)
    untold.write_bytes(part10.encode(meta) + data_set("1.2.1"))
    pools[0]._workers[0]._hear(messages.Missed(notes=1, folders=0, transfers=0, lines=3))
    wait_until(lambda: rows(running.folder / "DcmStore.index"))
    wait_until(lambda: running.logged("worker.behind"))
    assert " worker=1 notes=1 lines=3 " in running.logged("worker.behind")[0]


def test_what_newer_settings_have_replaced_is_let_go_off_the_thread_that_hears(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that is slow to leave would else keep every connection of that worker from ending."""
    port = port_of(running)
    is_left = threading.Event()
    closed = Store.close

    def close_slowly(store: Store) -> None:
        assert is_left.wait(WAIT)
        closed(store)

    with associated(port) as first, associated(port) as second, associated(port) as third:
        running.configure(port=port, artim_timeout=20)
        running.reload()
        monkeypatch.setattr(Store, "close", close_slowly)
        for peer in (first, second, third):  # the last one retires what they came with
            peer.release()
        with associated(port) as fourth, associated(port) as fifth:
            fourth.release()
            fifth.release()
        wait_until(lambda: len(running.logged("association.ended")) == 5)
        is_left.set()


def test_a_process_that_does_not_come_back_leaves_the_others_at_work(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = port_of(running)
    monkeypatch.setattr(channel, "_MODULE", "dcmstore.nothing")
    monkeypatch.setattr(pool, "PAUSE", 0.0)
    monkeypatch.setattr(pool, "MAX_PAUSE", 0.0)
    os.kill(children(os.getpid())[0], signal.SIGKILL)
    wait_until(lambda: len(running.logged("worker.ended")) > pool.MAX_DEATHS)
    with associated(port) as peer:
        assert peer.store(data_set("1.2.1"), "1.2.1").status == 0
        peer.release()
    assert not running.logged("receiver.fault")


def test_a_limit_counts_the_associations_of_all_processes(running: Running) -> None:
    port = port_of(running, max_associations=2, max_associations_per_host=2, max_associations_per_ae=2)
    with associated(port), associated(port) as second:
        with pytest.raises(WrongAnswer), Peer(port) as third:
            third.associate()
        second.release()
        second.socket.close()
        wait_until(lambda: running.logged("association.ended"))
        with associated(port) as fourth:
            fourth.release()
    (line,) = running.logged("association.rejected")
    assert 'because="max-associations is reached"' in line


def test_the_status_counts_what_open_associations_have_stored(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "START_WAIT", 0.0)
    port = port_of(running)
    with associated(port) as peer:
        peer.store(data_set("1.2.1"), "1.2.1")

        def status() -> str:
            running.host.ask(Request.CHECK)
            return str(running.host.answer())

        wait_until(lambda: "1 associations open, 1 objects stored" in status())
        peer.release()


def test_a_stop_lets_an_object_under_way_be_stored_and_leaves_no_process(running: Running) -> None:
    port = port_of(running)
    stopping = threading.Thread(target=running.stop)
    with associated(port) as peer:
        request = store_request(data_set("1.2.1"), "1.2.1", CT, 1, 1)
        peer.send(request[:-100])
        wait_until(lambda: list(running.folder.rglob("*.part")))
        stopping.start()
        assert running.host.answer()[0] == "stopping"
        peer.send(request[-100:])
        assert peer.receive_response().status == 0
    stopping.join(WAIT)
    assert list((running.folder / "images").rglob("1.2.1.dcm"))
    assert not children(os.getpid())


@contextlib.contextmanager
def started(folder: Path, last: str = "receiver.listening") -> "Iterator[subprocess.Popen[bytes]]":
    """A receiver in a process of its own, once it has told of that, which is killed at the end if it was not before."""
    command = [sys.executable, "-m", "dcmstore", "run", "--config", str(folder / "DcmStore.ini")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        log = folder / "DcmStore.log"
        try:
            wait_until(lambda: log.exists() and last in log.read_text(encoding="utf-8"))
            yield process
        finally:
            process.kill()


def test_the_processes_of_a_receiver_that_is_killed_end(tmp_path: Path) -> None:
    with running_in(tmp_path, workers=2) as configured:
        port = free_port()
        configured.configure(port=port)
        with started(tmp_path) as process:
            workers = children(process.pid)
            with associated(port):
                process.kill()
                process.wait()
                wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert len(workers) == 2
    assert len(list(tmp_path.rglob("*.lock"))) == 2  # those that were killed with the receiver, one a root


def test_a_message_brings_a_socket(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    left, right = socket.socketpair()
    here, there = Channel(ours), Channel(theirs)
    received: queue.SimpleQueue[object] = queue.SimpleQueue()
    with left, right:
        here.send("with", right)
        here.send("without")
        message, handed = there.receive()
        assert message == "with"
        assert handed is not None
        with handed:
            handed.send(b"x")
            received.put(left.recv(1))
        assert received.get() == b"x"
        assert there.receive() == ("without", None)
        here.end()
        with pytest.raises(EOFError):
            there.receive()
    here.close()
    there.close()


def test_a_process_that_can_not_work_says_why(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PAUSE", 0.0)
    port = port_of(running)
    shutil.rmtree(running.folder / "rdsr")
    os.kill(children(os.getpid())[0], signal.SIGKILL)
    wait_until(lambda: running.logged("worker.failed"))
    assert "rdsr" in running.logged("worker.failed")[0]
    (running.folder / "rdsr").mkdir()
    for _ in range(2):
        with associated(port) as peer:
            peer.release()
