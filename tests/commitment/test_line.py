"""Another thread asks something on an open association: sent in a pause, answered, late, or never."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dcmstore import commitment
from dcmstore.commitment import event
from dcmstore.commitment.event import Report
from dcmstore.commitment.line import Line, Lines, NotAnswered, Question
from dcmstore.dimse.command import RESPONSE_BIT, CommandField, CommandSet
from dcmstore.dimse.message import MessageAssembly
from dcmstore.ul.framing import Fragment
from tests.commitment.support import EXPLICIT, TRANSACTION, WAIT, Wired, action, ct, message, wait_for
from tests.commitment.test_asking import ask
from tests.support import CT, Peer, data_set, store_request

REPORT = Report(TRANSACTION, ct("1.2.1"))


def question(message_id: int) -> Question:
    return Question(event.request(REPORT, message_id), event.encode(REPORT, EXPLICIT))


def response(message_id: int, field: int = CommandField.N_EVENT_REPORT_RQ | RESPONSE_BIT) -> CommandSet:
    return CommandSet(field, message_id_being_responded_to=message_id, status=0)


class Asking:
    """A thread that asks on a line, and what came of it."""

    def __init__(self, line: Line, patience: float = WAIT) -> None:
        self._line, self._patience = line, patience
        self.outcome: object = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._line.ask(question, self._patience)
        except NotAnswered as error:
            self.outcome = str(error)

    def ended(self) -> object:
        self._thread.join(WAIT)
        assert not self._thread.is_alive()
        return self.outcome


def taken(line: Line) -> Question:
    found: list[Question] = []

    def look() -> bool:
        one = line.take()
        if one is not None:
            found.append(one)
        return bool(found)

    wait_for(look)
    return found[0]


@pytest.fixture
def line() -> Line:
    return Lines().open(1, EXPLICIT)


def test_a_question_is_taken_once_and_answered(line: Line) -> None:
    asking = Asking(line)
    assert taken(line) == question(1)
    assert line.take() is None
    assert line.answer(1, response(1))
    assert asking.ended() == response(1)


def test_each_question_has_a_message_id_of_its_own(line: Line) -> None:
    for message_id in (1, 2, 3):
        asking = Asking(line)
        assert taken(line).request.message_id == message_id
        assert line.answer(1, response(message_id))
        assert asking.ended() == response(message_id)


@pytest.mark.parametrize(
    ("context_id", "wrong"),
    [(1, response(2)), (3, response(1)), (1, response(1, CommandField.C_STORE_RQ | RESPONSE_BIT))],
)
def test_a_response_to_something_else_is_not_taken(line: Line, context_id: int, wrong: CommandSet) -> None:
    asking = Asking(line)
    assert not line.answer(1, response(1))  # before it was sent
    taken(line)
    assert not line.answer(context_id, wrong)
    assert line.answer(1, response(1))
    assert not line.answer(1, response(1))
    assert asking.ended() == response(1)


def test_a_question_that_finds_no_pause_is_taken_back(line: Line) -> None:
    assert Asking(line, 0.01).ended() == "the requestor is busy with other things"
    assert line.take() is None


def test_a_response_that_comes_too_late_is_taken_and_is_not_that_of_the_next_question(line: Line) -> None:
    asking = Asking(line, 0.05)
    wait_for(lambda: line.take() or asking.outcome)
    assert asking.ended() in ("no response within 0.05 s", "the requestor is busy with other things")
    if asking.outcome == "no response within 0.05 s":
        assert line.answer(1, response(1))
    following = Asking(line)
    taken(line)
    assert line.answer(1, response(2))
    assert following.ended() == response(2)


@pytest.mark.parametrize("is_sent", [True, False])
def test_the_end_of_the_association_ends_the_question(line: Line, is_sent: bool) -> None:
    asking = Asking(line)
    if is_sent:
        taken(line)
    line.close()
    assert asking.ended() == "the association is over"
    assert Asking(line).ended() == "the association is over"


def test_lines_are_known_until_they_are_closed() -> None:
    lines = Lines()
    one, other = lines.open(1, EXPLICIT), lines.open(1, EXPLICIT)
    assert lines.get(one.token) is one
    one.close()
    assert lines.get(one.token) is None
    assert lines.get(other.token) is other


# --- on a real association -------------------------------------------------------------------------


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[Wired]:
    with Wired(tmp_path, does_jobs=False).running() as running:
        yield running


@pytest.fixture
def peer(wired: Wired) -> Iterator[Peer]:
    with Peer(wired.port) as opened:
        opened.associate(commitment.SOP_CLASS, CT)
        assert ask(opened, action("1.2.1")).status == 0
        yield opened


def only_line(wired: Wired) -> Line:
    (line,) = wired.service.lines._lines.values()
    return line


def receive_request(peer: Peer) -> CommandSet:
    """The next message, whole."""
    assembly = MessageAssembly()
    found = None
    while found is None or not assembly.is_between_messages:
        arrived = peer.receive()
        assert isinstance(arrived, Fragment)
        found = assembly.receive(arrived) or found
    return found


def test_a_question_is_sent_in_a_pause_and_the_association_goes_on(wired: Wired, peer: Peer) -> None:
    asking = Asking(only_line(wired))
    assert receive_request(peer) == question(1).request
    assert peer.store(data_set("1.2.7"), "1.2.7", context_id=3).status == 0  # it may do other things first
    peer.send(message(response(1), b""))
    assert asking.ended() == response(1)
    assert peer.store(data_set("1.2.8"), "1.2.8", context_id=3).status == 0
    peer.release()


def test_no_question_comes_while_an_object_is_on_its_way(wired: Wired, peer: Peer) -> None:
    whole = store_request(data_set("1.2.7"), "1.2.7", context_id=3)
    peer.send(whole[:-4])
    asking = Asking(only_line(wired), 1.2)
    assert asking.ended() == "the requestor is busy with other things"
    peer.send(whole[-4:])
    assert peer.receive_response().status == 0
    peer.release()


def test_a_response_with_a_data_set_is_taken(wired: Wired, peer: Peer) -> None:
    asking = Asking(only_line(wired))
    receive_request(peer)
    answer = CommandSet(response(1).command_field, message_id_being_responded_to=1, status=0, command_data_set_type=0)
    peer.send(message(answer, b"anything"))
    assert asking.ended() == answer
    peer.release()


@pytest.mark.parametrize("leave", [Peer.release, lambda peer: peer.socket.close()], ids=["release", "close"])
def test_a_requestor_that_leaves_ends_the_question(wired: Wired, peer: Peer, leave: Callable[[Peer], None]) -> None:
    line = only_line(wired)
    asking = Asking(line)
    receive_request(peer)
    leave(peer)
    assert asking.ended() == "the association is over"
    assert wired.service.lines.get(line.token) is None
