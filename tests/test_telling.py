"""What a worker tells never waits for who listens; a worker always answers, whatever its folders do."""

import contextlib
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcmstore import config, worker
from dcmstore.config import Configuration
from dcmstore.logs import Log
from dcmstore.storage.store import Store
from dcmstore.workers import messages
from dcmstore.workers.channel import Channel
from dcmstore.workers.telling import Telling
from tests.hosted import running_in
from tests.support import WAIT, Peer, data_set, wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sockets are passed as Linux does")


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Of one channel: who listens, and who serves."""
    ours, theirs = socket.socketpair()
    ours.settimeout(WAIT)
    listening, serving = Channel(ours), Channel(theirs)
    yield listening, serving
    listening.close()
    serving.close()


def note(number: int) -> messages.InFolder:
    return messages.InFolder("folder", "x" * 1000 + str(number))


def told_until(listening: Channel, last: object) -> list[Any]:
    told: list[Any] = []
    while not told or told[-1] != last:
        told.append(listening.receive()[0])
    return told


def test_who_tells_never_waits_and_hears_what_found_no_room(ends: tuple[Channel, Channel]) -> None:
    listening, serving = ends
    telling = Telling(serving, max_news=100)
    took = [telling.tell_news(note(number)) for number in range(2000)]  # more than the system takes, and nobody reads
    assert not all(took)
    telling.tell(end := messages.Closed(1, 2000))
    told = told_until(listening, end)
    missed = [message for message in told if isinstance(message, messages.Missed)]
    heard = [message for message in told if isinstance(message, messages.InFolder)]
    assert heard == [note(number) for number in range(2000) if took[number]]
    assert sum(message.folders for message in missed) == took.count(False)


def test_what_was_missed_is_told_before_what_came_behind_it(ends: tuple[Channel, Channel]) -> None:
    """So who has heard an answer knows whether something is missing before it."""
    listening, serving = ends
    telling = Telling(serving, max_news=0)
    telling.tell_news(note(1))
    telling.tell(answer := messages.Alive(1, {}))
    assert told_until(listening, answer) == [messages.Missed(notes=0, folders=1, transfers=0, lines=0), answer]


def test_all_that_waits_is_told_at_the_end(ends: tuple[Channel, Channel]) -> None:
    listening, serving = ends
    telling = Telling(serving)
    for number in range(20):
        telling.tell_news(note(number))
    assert telling.close(WAIT)
    assert told_until(listening, note(19)) == [note(number) for number in range(20)]


def test_an_end_does_not_wait_for_who_reads_nothing(ends: tuple[Channel, Channel]) -> None:
    telling = Telling(ends[1])
    for number in range(2000):
        telling.tell_news(note(number))
    assert not telling.close(0.1)


def test_who_is_gone_is_told_nothing(ends: tuple[Channel, Channel]) -> None:
    listening, serving = ends
    telling = Telling(serving)
    listening.close()
    telling.tell(note(1))
    assert not telling.close(WAIT)


def test_lines_of_the_log_that_found_no_room_are_counted(ends: tuple[Channel, Channel]) -> None:
    listening, serving = ends
    telling = Telling(serving, max_news=0)
    log = Log([worker._Lines(telling)])
    log.info("first")
    log.flush()
    telling._max_news = 10
    log.info("second")
    log.close()
    telling.close(WAIT)
    (message, _) = listening.receive()
    assert "log.dropped lines=1" in message.text
    assert "second" in message.text


def test_a_send_that_nobody_reads_is_given_up_and_a_receive_waits_on() -> None:
    """The limit of Python, as on Windows: it counts for both."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0.2)
    here, there = Channel(ours), Channel(theirs)
    later = threading.Timer(0.6, there.send, ("late",))
    later.start()
    assert here._receive(4)  # behind the limit
    with pytest.raises(OSError):
        here.send(bytes(10_000_000))
    later.join()
    here.close()
    there.close()


# --- a worker, on a thread of this process ---------------------------------------------------------


class Worker:
    """A worker, and the end of the channel of who listens."""

    def __init__(self, listening: Channel, serving: Channel) -> None:
        self.listening = listening
        self.heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.exit_code: int | None = None
        self._serving = serving
        self._threads = [threading.Thread(target=self._run), threading.Thread(target=self._hear)]
        for thread in self._threads:
            thread.start()

    def next(self, kind: type) -> Any:
        """The next message of a kind; others are passed over."""
        deadline = time.monotonic() + WAIT
        while not isinstance(message := self.heard.get(timeout=max(deadline - time.monotonic(), 0.01)), kind):
            pass
        return message

    def join(self) -> None:
        for thread in self._threads:
            thread.join(WAIT)

    def _run(self) -> None:
        self.exit_code = worker._Worker(self._serving).run()
        self._serving.end()

    def _hear(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self.heard.put(self.listening.receive()[0])


@pytest.fixture
def working(ends: tuple[Channel, Channel]) -> Iterator[Worker]:
    made = Worker(*ends)
    yield made
    made.listening.end()
    made.join()


@pytest.fixture
def configuration(tmp_path: Path) -> Iterator[Configuration]:
    with running_in(tmp_path) as place:
        yield config.read(place.folder / "DcmStore.ini")


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A slow one, of all stores that are opened from now on, until it is set."""
    is_there = threading.Event()
    opened = Store.open

    def open_slowly(store: Store) -> int:
        assert is_there.wait(WAIT)
        return opened(store)

    monkeypatch.setattr(Store, "open", open_slowly)
    return is_there


def serve(working: Worker, number: int, generation: int) -> Peer:
    """A connection that is handed over; the sender's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = Peer(server.getsockname()[1])
        ours, address = server.accept()
    with ours:
        working.listening.send(messages.Serve(number, address, False, generation), ours)
    return peer


def test_a_worker_answers_while_a_folder_is_slow_to_open(
    working: Worker, configuration: Configuration, share: threading.Event
) -> None:
    working.listening.send(messages.Use(1, configuration, None))
    working.listening.send(messages.Ask(7))
    assert working.next(messages.Alive).number == 7
    share.set()
    assert working.next(messages.Ready).generation == 1


def test_a_connection_waits_for_its_folders(
    working: Worker, configuration: Configuration, share: threading.Event
) -> None:
    working.listening.send(messages.Use(1, configuration, None))
    with serve(working, 5, 1) as peer:
        working.listening.send(messages.Ask(1))
        working.next(messages.Alive)
        share.set()
        assert working.next(messages.Taken).number == 5
        answering = threading.Thread(target=answer_one, args=(working,))
        answering.start()
        peer.associate()
        assert peer.store(data_set("1.2.1"), "1.2.1").status == 0
        peer.release()
        answering.join(WAIT)
    assert working.next(messages.Closed).stored == 1


def answer_one(working: Worker) -> None:
    asked = working.next(messages.Asked)
    working.listening.send(messages.Admitted(asked.number, ""))


def test_a_connection_that_waits_for_its_folders_can_be_cut(
    working: Worker, configuration: Configuration, share: threading.Event
) -> None:
    working.listening.send(messages.Use(1, configuration, None))
    with serve(working, 5, 1) as peer:
        working.listening.send(messages.Cut(5))
        assert working.next(messages.Closed) == messages.Closed(5, 0)
        assert peer.receive() is None
    share.set()


def test_settings_of_which_nothing_came_are_let_go(
    working: Worker, configuration: Configuration, share: threading.Event, tmp_path: Path
) -> None:
    working.listening.send(messages.Use(1, configuration, None))
    working.listening.send(messages.Retire(1))
    working.listening.send(messages.Use(2, configuration, None))
    working.listening.send(messages.Ask(1))
    working.next(messages.Alive)
    share.set()
    assert working.next(messages.Ready).generation == 2
    wait_until(lambda: len(list(tmp_path.rglob("*.lock"))) == 2)  # one a root
