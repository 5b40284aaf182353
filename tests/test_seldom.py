"""What is repeated is told once a minute, with how often it came."""

from dcmstore.seldom import INTERVAL, MAX_KINDS, Seldom


class Told:
    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[tuple[str, dict[str, object]]] = []
        self.seldom = Seldom(self.note, clock=lambda: self.now)

    def note(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts))


def test_the_first_is_told_at_once_and_the_next_ones_after_a_minute() -> None:
    told = Told()
    for _ in range(4):
        told.seldom.tell("a", "event", peer=1)
    assert told.lines == [("event", {"peer": 1})]
    told.now = INTERVAL
    told.seldom.tell("b", "event", peer=2)
    assert told.lines[1:] == [("event", {"peer": 1, "times": 3}), ("event", {"peer": 2})]


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
