"""Forwards out of the queue: nothing is lost while a peer is down, however often the receiver is started meanwhile."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore.forwarding import peers, planning
from dcmstore.jobs.queue import Queue
from tests.forwarding.support import FakePeer, facts_of, file_of, sender
from tests.jobs.support import START, Kept
from tests.support import MR, free_port

DAY = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "DcmStore.queue"


@contextlib.contextmanager
def running(path: Path, at: float = 0.0) -> Iterator[Kept]:
    """A runner with a handler, so many seconds after the start of the test's time."""
    with sender() as handler:
        kept = Kept(path, {"forward": handler})
        kept.clock.now += at
        kept.runner.start()
        yield kept
        handler.close()
        assert kept.runner.close(20.0)


def plan(path: Path, target: str, files: list[Path]) -> None:
    forwards = peers.forwards_of([target], {})
    with contextlib.closing(Queue(str(path))) as queue:
        for file in files:
            queue.add(planning.jobs_for(forwards, facts_of(file)), START)


def test_a_peer_that_is_down_for_days_gets_everything_once(path: Path, tmp_path: Path) -> None:
    port, files = free_port(), [file_of(tmp_path, f"1.2.3.{number}") for number in range(30)]
    plan(path, f"PACS@127.0.0.1:{port}", files)
    for day in range(3):
        with running(path, day * DAY) as kept:
            assert kept.heard("job.failed")["waiting"] == 30
    with FakePeer().listening(port) as peer, running(path, 3 * DAY) as kept:
        for _ in files:
            kept.heard("job.done")
    assert sorted(came.sop_instance_uid for came in peer.came) == sorted(file.stem for file in files)
    with contextlib.closing(Queue(str(path))) as queue:
        assert queue.targets() == []


def test_one_that_is_refused_for_now_holds_up_no_other(path: Path, tmp_path: Path) -> None:
    files = [file_of(tmp_path, f"1.2.{number}") for number in range(1, 4)]
    with FakePeer(answer=lambda number: 0xC000 if number == 1 else 0).listening() as peer:
        plan(path, peer.target, files[:1])
        with running(path) as kept:
            assert "C000H" in str(kept.heard("job.failed")["reason"])
            plan(path, peer.target, files[1:])
            kept.runner.wake()
            kept.heard("job.done")
            kept.heard("job.done")
            assert kept.silence() == []


def test_one_that_is_refused_for_good_holds_up_no_other(path: Path, tmp_path: Path) -> None:
    refused, taken = file_of(tmp_path, "1.2.1", sop_class=MR), file_of(tmp_path, "1.2.2")
    with FakePeer(answer=lambda number: 0xA900 if number == 1 else 0).listening() as peer:
        plan(path, peer.target, [refused])
        with running(path) as kept:
            assert "A900H" in str(kept.heard("job.dead")["reason"])
            plan(path, peer.target, [taken])
            kept.runner.wake()
            kept.heard("job.done")
    assert [came.sop_instance_uid for came in peer.came] == ["1.2.1", "1.2.2"]
