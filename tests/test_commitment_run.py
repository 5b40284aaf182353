"""Storage commitment through a whole receiver, alone or with workers, as the ini has it; pynetdicom asks and hears."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore import cli
from tests.commitment.support import TRANSACTION
from tests.commitment.test_reported import Requestor, ask, failed, kept, store
from tests.hosted import Running, running_in
from tests.support import CT, free_port, wait_until
from tests.test_workers import children

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops by a signal")


@pytest.fixture
def requestor() -> Iterator[Requestor]:
    made = Requestor()
    yield made
    made.close()


@pytest.fixture(params=[1, 2], ids=["alone", "with-workers"])
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    with running_in(tmp_path, request.param) as process:
        yield process


def configure(running: Running, way: str, requestor: Requestor | None) -> int:
    """The port that it will have; who is given is in `peers`."""
    peers = {"peers": f"CT1@127.0.0.1:{requestor.listen().port}"} if requestor is not None else {}
    running.configure(port=(port := free_port()), index=1, storage_commitment=way, **peers)
    return port


def started(running: Running, way: str, requestor: Requestor | None) -> int:
    port = configure(running, way, requestor)
    running.start()
    wait_until(lambda: running.logged("index.caught_up"))
    return port


def test_what_is_kept_is_reported_on_a_new_association(running: Running, requestor: Requestor) -> None:
    port = started(running, "new", requestor)
    store(port, "1.2.1", "1.2.2")
    association = requestor.associate(port)
    assert ask(association, "1.2.2", "1.2.1") == 0x0000
    event_type, report, where = requestor.report()
    assert (event_type, where, kept(report)) == (1, "new", [(CT, "1.2.2"), (CT, "1.2.1")])
    association.release()
    wait_until(lambda: running.logged("commitment.reported"))
    assert f"calling=CT1 transaction={TRANSACTION} instances=2" in running.logged("commitment.asked")[0]


def test_what_is_not_there_is_reported_as_missing(running: Running, requestor: Requestor) -> None:
    port = started(running, "new", requestor)
    store(port, "1.2.1")
    association = requestor.associate(port)
    assert ask(association, "1.2.1", "1.2.9") == 0x0000
    event_type, report, _ = requestor.report()
    assert (event_type, kept(report), failed(report)) == (2, [(CT, "1.2.1")], [("1.2.9", 0x0112)])
    association.release()


def test_one_process_reports_on_the_association_on_which_it_was_asked(tmp_path: Path, requestor: Requestor) -> None:
    with running_in(tmp_path) as running:
        port = started(running, "same", None)
        store(port, "1.2.1")
        association = requestor.associate(port)
        assert ask(association, "1.2.1") == 0x0000
        event_type, report, where = requestor.report()
        assert (event_type, where, kept(report)) == (1, "same", [(CT, "1.2.1")])
        association.release()


def test_a_requestor_without_an_address_is_refused(running: Running, requestor: Requestor) -> None:
    port = started(running, "new", None)
    association = requestor.associate(port)
    assert ask(association, "1.2.1") == 0x0110
    association.release()
    wait_until(lambda: running.logged("commitment.refused"))
    assert "peers= has no address for CT1" in running.logged("commitment.refused")[0]


def test_a_request_that_can_not_be_queued_is_refused(running: Running, requestor: Requestor) -> None:
    port = configure(running, "new", requestor)
    (running.folder / "DcmStore.queue").mkdir()
    running.start()
    association = requestor.associate(port)
    assert ask(association, "1.2.1") == 0x0213
    association.release()


def test_an_address_that_comes_with_a_reload_counts(running: Running, requestor: Requestor) -> None:
    port = started(running, "new", None)
    association = requestor.associate(port)
    assert ask(association, "1.2.1") == 0x0110
    listening = requestor.listen()
    running.configure(port=port, index=1, storage_commitment="new", peers=f"CT1@{listening.host}:{listening.port}")
    running.reload()
    assert ask(association, "1.2.1") == 0x0000
    assert requestor.report()[2] == "new"
    association.release()


def test_what_was_promised_is_reported_by_a_receiver_that_has_it_switched_off(
    running: Running, requestor: Requestor
) -> None:
    port = configure(running, "new", requestor)
    peers = (running.folder / "DcmStore.ini").read_text().partition("peers= ")[2].strip()
    running.start()
    wait_until(lambda: running.logged("index.caught_up"))
    store(port, "1.2.1")
    association = requestor.associate(port)
    running.configure(port=port, index=1, storage_commitment="off", peers=peers)
    running.reload()
    assert ask(association, "1.2.1") == 0x0000  # the association is from before
    assert kept(requestor.report()[1]) == [(CT, "1.2.1")]
    association.release()


def test_a_worker_that_does_not_tell_what_it_stored_is_waited_for(tmp_path: Path, requestor: Requestor) -> None:
    """Else the report would say that an object is missing of which nobody has heard yet."""
    with running_in(tmp_path, 2) as running:
        port = started(running, "new", requestor)
        store(port, "1.2.1")
        wait_until(lambda: running.logged("association.ended"))
        association = requestor.associate(port)
        frozen = [process for process in children(os.getpid()) if not has_association(process, port)]
        assert len(frozen) == 1
        os.kill(frozen[0], signal.SIGSTOP)
        try:
            assert ask(association, "1.2.9") == 0x0000
            wait_until(lambda: running.logged("commitment.asked"))
            with pytest.raises(AssertionError):
                wait_until(lambda: running.logged("commitment.failed"), seconds=4)
        finally:
            os.kill(frozen[0], signal.SIGCONT)
        assert failed(requestor.report()[1]) == [("1.2.9", 0x0112)]
        association.release()


def has_association(process: int, port: int) -> bool:
    """Whether a process has a connection that came in at the port."""
    inodes = set()
    for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "01":
            inodes.add(f"socket:[{fields[9]}]")
    return any(os.readlink(path) in inodes for path in Path(f"/proc/{process}/fd").iterdir() if path.is_symlink())


def test_reports_on_the_same_association_take_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_in(tmp_path, 2) as running:
        configure(running, "same", None)
        assert cli.main(["check", "--config", str(tmp_path / "DcmStore.ini")]) == 1
    assert "storage-commitment= same: allowed is new" in " ".join(capsys.readouterr())
