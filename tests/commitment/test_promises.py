"""What is promised is in the queue, from whichever process; a transaction UID stands for one request at a time."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dcmstore.commitment import promises
from dcmstore.commitment.asked import Asked
from dcmstore.commitment.promises import Promises, TooMany
from dcmstore.jobs.queue import Queue, QueueTrouble
from dcmstore.jobs.rows import Queued
from tests.commitment.support import TRANSACTION, ct

ASKED = Asked(TRANSACTION, ct("1.2.1"), "CT1", "10.0.0.1", "2026-11-26T00:00:00.000+00:00", "token")
OTHER = replace(ASKED, references=ct("1.2.9"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "DcmStore.queue")


@contextlib.contextmanager
def opened(path: str) -> Iterator[Queue]:
    with contextlib.closing(Queue(path)) as queue:
        yield queue


def promise(path: str, *requests: Asked) -> None:
    """Each as another process would: nothing is remembered from one to the next."""
    for asked in requests:
        Promises(path, "", lambda: None).add(asked)


def waiting(queue: Queue) -> list[Queued]:
    return [queued for target in queue.targets() for queued in queue.next_of(target, 1000)]


def take(path: str) -> Asked:
    """The next request, done."""
    with opened(path) as queue:
        queued = waiting(queue)[0]
        queue.done(queued, time.time())
        return Asked.of(queued.job)


def test_the_same_request_again_is_the_same_job_and_another_one_is_a_duplicate(path: str) -> None:
    promise(path, ASKED, ASKED, OTHER)
    assert [take(path), take(path)] == [ASKED, replace(OTHER, is_duplicate=True)]
    with opened(path) as queue:
        assert not waiting(queue)


def test_a_transaction_uid_is_free_again_once_it_was_reported(path: str) -> None:
    promise(path, ASKED, OTHER)
    assert take(path) == ASKED
    promise(path, OTHER)  # while the report that it was a duplicate still waits
    assert take(path).is_duplicate
    assert take(path) == OTHER


def test_a_transaction_uid_is_that_of_one_ae_title(path: str) -> None:
    promise(path, ASKED, replace(OTHER, calling_ae_title="CT2"))
    with opened(path) as queue:
        assert not any(Asked.of(queued.job).is_duplicate for queued in waiting(queue))


def test_a_request_that_was_given_up_is_none_that_waits(path: str) -> None:
    promise(path, ASKED)
    with opened(path) as queue:
        queue.died(waiting(queue)[0], "nobody is there", time.time())
    promise(path, OTHER)
    assert take(path) == OTHER


def test_of_one_ae_title_only_so_many_requests_wait(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "MAX_OF_ONE", 2)
    many = [replace(ASKED, transaction_uid=f"{TRANSACTION}.{number}") for number in range(3)]
    promise(path, *many[:2])
    with pytest.raises(TooMany, match="2 requests of CT1 wait; `dcmstore queue` shows why"):
        promise(path, many[2])
    promise(path, replace(ASKED, calling_ae_title="CT2"))
    take(path)
    promise(path, many[2])


def test_a_queue_that_has_grown_large_takes_no_more_requests(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    promise(path, ASKED)
    monkeypatch.setattr(promises, "MAX_QUEUE", Path(path).stat().st_size)
    many = (replace(OTHER, transaction_uid=f"{TRANSACTION}.{number}") for number in range(1000))
    with pytest.raises(TooMany, match=r"the queue has [0-9]+ bytes; `dcmstore queue` shows what waits"):
        promise(path, *many)
    with opened(path) as queue:
        assert len(waiting(queue)) < 1000


def test_a_damaged_queue_is_doubted(path: str) -> None:
    doubts: list[None] = []
    Path(path).write_bytes(b"no database" * 1000)
    with pytest.raises(QueueTrouble):
        Promises(path, "", lambda: None, lambda: doubts.append(None)).add(ASKED)
    assert doubts == [None]


def test_a_queue_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    woken: list[None] = []
    with pytest.raises(QueueTrouble):
        Promises(str(tmp_path / "nowhere" / "DcmStore.queue"), "", lambda: woken.append(None)).add(ASKED)
    assert not woken
