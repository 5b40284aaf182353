"""When a study is presumed complete, and why."""

from dataclasses import replace

import pytest

from dcmstore.studies.completeness import GRACE, SETTLE, Progress, Reason, came, count_in, decide, expected, resumed

QUIET = 60.0
FULL_COUNT = Progress(100.0, 10, announced=10)
ALL_ASKED = Progress(100.0, 10, asked=10)


def test_a_study_is_complete_once_it_was_quiet_for_long_enough() -> None:
    progress = Progress(100.0, 3)
    assert decide(progress, 159.9, QUIET) is None
    assert decide(progress, 160.0, QUIET) is Reason.QUIET


def test_a_study_that_an_open_association_has_carried_is_not_complete() -> None:
    for progress in (Progress(100.0, 3), FULL_COUNT, ALL_ASKED):
        assert decide(replace(progress, is_carried=True), 1e9, QUIET) is None


@pytest.mark.parametrize(("progress", "reason"), [(FULL_COUNT, Reason.COUNTED), (ALL_ASKED, Reason.COMMITTED)])
def test_a_count_and_a_commitment_need_a_short_quiet_only(progress: Progress, reason: Reason) -> None:
    assert decide(progress, 100.0 + SETTLE - 0.1, QUIET) is None
    assert decide(progress, 100.0 + SETTLE, QUIET) is reason


def test_nothing_makes_a_study_wait_longer_than_quiet() -> None:
    assert decide(FULL_COUNT, 101.0, 1.0) is Reason.COUNTED


@pytest.mark.parametrize("instances", [9, 11])
def test_a_count_that_is_not_the_one_announced_says_nothing(instances: int) -> None:
    assert decide(replace(FULL_COUNT, instances=instances), 100.0 + QUIET, QUIET) is Reason.QUIET


def test_commitment_of_some_instances_says_nothing() -> None:
    assert decide(replace(ALL_ASKED, asked=9), 100.0 + QUIET, QUIET) is Reason.QUIET


def test_a_study_is_complete_only_once() -> None:
    assert expected(Progress(100.0, 3, is_complete=True), QUIET) is None


def test_a_new_instance_reopens_a_complete_study_and_no_other() -> None:
    progress, is_reopened = came(Progress(100.0, 3, is_complete=True), 200.0)
    assert (progress, is_reopened) == (Progress(200.0, 4), True)
    assert came(progress, 201.0) == (Progress(201.0, 5), False)
    assert came(None, 7.0) == (Progress(7.0, 1), False)


def test_another_content_of_an_instance_is_no_other_instance() -> None:
    assert came(Progress(100.0, 3), 110.0, is_another=False)[0] == Progress(110.0, 3)


def test_the_largest_announcement_counts() -> None:
    progress = None
    for announced in (2, 10, None, 3):
        progress, _ = came(progress, 1.0, announced=announced)
    assert progress is not None and progress.announced == 10


def test_who_is_told_of_late_does_not_turn_time_back() -> None:
    assert came(Progress(100.0, 1), 90.0)[0].last == 100.0


# --- another run ---------------------------------------------------------------------------------


def test_quiet_goes_on_over_a_restart() -> None:
    assert resumed(was_seen=1000.0, wall=1020.0, now=5.0, quiet=QUIET) == 5.0 - 20.0


def test_a_clock_that_was_set_back_makes_nothing_wait_longer_than_quiet() -> None:
    assert resumed(was_seen=1000.0, wall=1000.0 - 7200, now=5.0, quiet=QUIET) == 5.0


def test_a_clock_that_was_set_forward_leaves_a_cut_off_sender_time_to_come_back() -> None:
    last = resumed(was_seen=1000.0, wall=1000.0 + 7200, now=5.0, quiet=QUIET)
    assert decide(Progress(last, 1), 5.0 + GRACE - 0.1, QUIET) is None
    assert decide(Progress(last, 1), 5.0 + GRACE, QUIET) is Reason.QUIET


# --- an announcement -----------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "count"), [("12", 12), (" +12 ", 12), ("012", 12), ("1000000", 1_000_000)])
def test_an_announcement_is_an_integer_string(value: str, count: int) -> None:
    assert count_in(value) == count


@pytest.mark.parametrize("value", ["", "0", "-3", "1.0", "12\\13", "many", "1000001", "9" * 5000, "²", "+", "１２"])
def test_what_is_no_sensible_count_announces_nothing(value: str) -> None:
    assert count_in(value) is None
