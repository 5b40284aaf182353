"""What is repeated is told once a minute, with how often it came."""

from datetime import datetime

from dcmstore.logs import MAX_VALUE
from dcmstore.seldom import INTERVAL, MAX_KINDS, Seldom

START = 1_764_000_000.0  # seconds of time.time at which the fake clock is 0


class Told:
    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[tuple[str, dict[str, object]]] = []
        self.seldom = Seldom(self.note, clock=lambda: self.now, now=lambda: START + self.now)

    def note(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts))


def time_at(second: float) -> str:
    return datetime.fromtimestamp(START + second).astimezone().isoformat(timespec="seconds")


def test_the_first_is_told_at_once_and_the_next_ones_after_a_minute() -> None:
    told = Told()
    for _ in range(4):
        told.seldom.tell("a", "event", peer=1)
    assert told.lines == [("event", {"peer": 1})]
    told.now = INTERVAL
    told.seldom.tell("b", "event", peer=2)
    assert told.lines[1:] == [("event", {"peer": 1, "times": 3, "last": time_at(0)}), ("event", {"peer": 2})]


def test_it_is_never_told_twice_within_a_minute() -> None:
    told = Told()
    for second in range(600):
        told.now = float(second)
        told.seldom.tell("a", "event")
    assert len(told.lines) == 600 / INTERVAL
    told.seldom.flush()
    assert 1 + sum(int(str(facts["times"])) for _, facts in told.lines[1:]) == 600


def test_one_that_comes_after_a_quiet_minute_is_told_at_once() -> None:
    told = Told()
    told.seldom.tell("a", "event")
    told.now = INTERVAL
    told.seldom.tell("a", "event")
    assert told.lines == [("event", {}), ("event", {})]


def test_what_was_held_back_is_told_when_its_minute_is_over_although_nothing_else_comes() -> None:
    told = Told()
    for second in (0.0, 5.0, 20.0):
        told.now = second
        told.seldom.tell("a", "event", number=second)
    told.now = INTERVAL - 1
    told.seldom.tell_due()
    assert len(told.lines) == 1
    told.now = INTERVAL
    told.seldom.tell_due()
    told.seldom.tell_due()
    assert told.lines[1:] == [("event", {"number": 20.0, "times": 2, "last": time_at(20)})]


def test_what_is_told_when_due_counts_as_told_for_another_minute() -> None:
    told = Told()
    for second in range(3 * int(INTERVAL)):
        told.now = float(second)
        told.seldom.tell("a", "event")
        told.seldom.tell_due()
    assert len(told.lines) == 3


def test_what_happens_when_it_is_told_needs_no_time_of_its_own() -> None:
    told = Told()
    told.seldom.tell("a", "event")
    told.now = INTERVAL / 2
    told.seldom.tell("a", "event")
    told.seldom.flush()
    assert told.lines == [("event", {}), ("event", {"times": 1})]


def test_long_values_take_little_memory_and_are_alike_when_their_lines_are() -> None:
    told = Told()
    for _ in range(3):
        told.seldom.tell(("host", "x" * 65_536), "event", transfer_syntaxes="x" * 65_536, error=ValueError("y" * 9000))
    ((kind, known),) = told.seldom._kinds.items()
    assert isinstance(kind, tuple)
    assert known.held_back == 2
    assert all(type(value) is str and len(value) <= MAX_VALUE for value in (*kind, *known.facts.values()))


def test_a_flush_tells_what_was_held_back() -> None:
    told = Told()
    told.seldom.tell("a", "event")
    told.seldom.tell("a", "event")
    told.seldom.flush()
    assert told.lines[1:] == [("event", {"times": 1})]


def test_many_kinds_take_no_more_memory_and_lose_no_count() -> None:
    told = Told()
    for kind in range(3 * MAX_KINDS):
        told.seldom.tell(kind, "event")
        told.seldom.tell(kind, "event")
    told.seldom.flush()
    assert len(told.seldom._kinds) <= MAX_KINDS
    assert len(told.lines) == 6 * MAX_KINDS
