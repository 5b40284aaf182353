"""The limits on a silent or endless peer, on a clock that only these tests move."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcmstore.ul.timers import STALL_PROGRESS, Limits, Phase, Timers

LIMITS = Limits(artim=30, idle=60, stall=20)
START = 1000.0  # seconds, on a monotonic clock


def timers_in(phase: Phase) -> Timers:
    timers = Timers(LIMITS, START)
    timers.enter(phase, START)
    return timers


def test_artim_runs_from_the_connection_on() -> None:
    timers = Timers(LIMITS, START)
    assert timers.phase is Phase.ARTIM
    assert timers.remaining(START) == 30


def test_each_phase_has_its_limit_and_each_limit_its_phase() -> None:
    assert {phase.value for phase in Phase} == {field.name for field in fields(Limits)}
    assert [LIMITS.of(phase) for phase in Phase] == [30, 60, 20]


@pytest.mark.parametrize(("phase", "seconds"), [(Phase.ARTIM, 30), (Phase.IDLE, 60), (Phase.MESSAGE, 20)])
def test_a_phase_begins_with_its_whole_time(phase: Phase, seconds: float) -> None:
    assert timers_in(phase).remaining(START) == seconds


@pytest.mark.parametrize(("phase", "seconds"), [(Phase.ARTIM, 30), (Phase.IDLE, 60), (Phase.MESSAGE, 20)])
def test_a_phase_has_lasted_too_long_at_its_limit(phase: Phase, seconds: float) -> None:
    timers = timers_in(phase)
    assert timers.remaining(START + seconds - 0.5) == 0.5
    assert timers.remaining(START + seconds) == 0
    assert timers.remaining(START + seconds + 1) == -1


def test_artim_is_not_restarted_by_bytes() -> None:
    timers = Timers(LIMITS, START)
    for second in range(1, 30):
        timers.progress(Phase.ARTIM, 1_000_000, START + second)
    assert timers.remaining(START + 29) == 1


def test_idle_is_restarted_by_a_single_byte() -> None:
    timers = timers_in(Phase.IDLE)
    timers.progress(Phase.IDLE, 1, START + 59)
    assert timers.remaining(START + 59) == 60


def test_the_end_of_a_message_begins_the_idle_time() -> None:
    timers = timers_in(Phase.MESSAGE)
    timers.progress(Phase.IDLE, 1, START + 19)
    assert (timers.phase, timers.remaining(START + 19)) == (Phase.IDLE, 60)


def test_the_first_byte_of_a_message_begins_the_time_of_a_message() -> None:
    timers = timers_in(Phase.IDLE)
    timers.progress(Phase.MESSAGE, 1, START + 59)
    assert (timers.phase, timers.remaining(START + 59)) == (Phase.MESSAGE, 20)


def test_an_accepted_association_leaves_artim() -> None:
    timers = Timers(LIMITS, START)
    timers.progress(Phase.IDLE, 200, START + 1)
    assert (timers.phase, timers.remaining(START + 1)) == (Phase.IDLE, 60)


def test_a_release_begins_artim_anew() -> None:
    timers = timers_in(Phase.IDLE)
    timers.progress(Phase.ARTIM, 10, START + 50)
    assert (timers.phase, timers.remaining(START + 50)) == (Phase.ARTIM, 30)


def test_a_message_that_brings_enough_goes_on() -> None:
    timers = timers_in(Phase.MESSAGE)
    timers.progress(Phase.MESSAGE, STALL_PROGRESS, START + 19)
    assert timers.remaining(START + 19) == 20


def test_a_message_may_bring_its_bytes_little_by_little() -> None:
    timers = timers_in(Phase.MESSAGE)
    timers.progress(Phase.MESSAGE, STALL_PROGRESS - 1, START + 5)
    assert timers.remaining(START + 5) == 15
    timers.progress(Phase.MESSAGE, 1, START + 10)
    assert timers.remaining(START + 10) == 20


def test_a_message_that_brings_too_little_stalls() -> None:
    timers = timers_in(Phase.MESSAGE)
    for second in range(1, 20):
        timers.progress(Phase.MESSAGE, 1, START + second)
    assert timers.remaining(START + 20) == 0


def test_bytes_of_one_window_do_not_count_in_the_next() -> None:
    timers = timers_in(Phase.MESSAGE)
    timers.progress(Phase.MESSAGE, STALL_PROGRESS + 1000, START + 10)
    timers.progress(Phase.MESSAGE, 100, START + 11)
    assert timers.remaining(START + 11) == 19


def test_bytes_of_one_message_do_not_count_in_the_next() -> None:
    timers = timers_in(Phase.MESSAGE)
    timers.progress(Phase.MESSAGE, STALL_PROGRESS - 1, START + 1)
    timers.progress(Phase.IDLE, 1, START + 2)
    timers.progress(Phase.MESSAGE, 1, START + 3)
    timers.progress(Phase.MESSAGE, STALL_PROGRESS - 2, START + 4)
    assert timers.remaining(START + 4) == 19


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, STALL_PROGRESS // 2)), max_size=60))
def test_no_message_outlives_a_window_that_brought_too_little(arrivals: list[tuple[int, int]]) -> None:
    timers = timers_in(Phase.MESSAGE)
    now, window_began, brought = START, START, 0
    for seconds, size in arrivals:
        now += seconds
        timers.progress(Phase.MESSAGE, size, now)
        brought += size
        if brought >= STALL_PROGRESS:
            window_began, brought = now, 0
        assert timers.remaining(now) == window_began + LIMITS.stall - now


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10**9)), max_size=20))
def test_nothing_prolongs_artim(arrivals: list[tuple[float, int]]) -> None:
    timers = Timers(LIMITS, START)
    now = START
    for seconds, size in arrivals:
        now += seconds
        timers.progress(Phase.ARTIM, size, now)
    assert timers.remaining(now) == START + LIMITS.artim - now
