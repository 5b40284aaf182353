"""What is to be done survives, comes once, and in order."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import event

from dcmstore.jobs import overview
from dcmstore.jobs.queue import Queue, QueueTrouble
from dcmstore.jobs.rows import Queued
from tests.index.support import locked
from tests.jobs.support import START, job, next_keys, waiting


def first(opened: Queue) -> Queued:
    return waiting(opened)[0]


# --- adding --------------------------------------------------------------------------------------


def test_a_job_comes_back_as_it_was(opened: Queue, path: Path) -> None:
    added = job("1.2.3", kind="forward", target="[modality=CT] AE@host:104", order="1.9", path="/x/ü.dcm", size=7)
    opened.add([added], START)
    again = Queue(str(path))
    queued = first(again)
    again.close()
    assert queued.job == added
    assert (queued.made_at, queued.due_at, queued.attempts, queued.reason) == (START, START, 0, "")


def test_a_job_that_waits_already_is_the_same_with_new_facts(opened: Queue) -> None:
    opened.add([job("1", size=1), job("1", size=2)], START)
    opened.add([job("1", size=3)], START + 9)
    (queued,) = waiting(opened)
    assert (queued.job.facts, queued.made_at) == ({"size": 3}, START)


def test_one_key_of_two_targets_or_kinds_is_two_jobs(opened: Queue) -> None:
    opened.add([job(), job(target="other.sh"), job(kind="forward")], START)
    assert len(waiting(opened)) == 3


def test_a_dead_job_that_comes_again_waits_again(opened: Queue) -> None:
    opened.add([job()], START)
    opened.died(first(opened), "refused", START + 1)
    assert waiting(opened) == []
    opened.add([job()], START + 9)
    queued = first(opened)
    assert (queued.made_at, queued.due_at, queued.attempts, queued.reason) == (START + 9, START + 9, 0, "")


def test_all_jobs_are_added_or_none(opened: Queue) -> None:
    good, bad = job("1"), job("2", size=2)
    with pytest.raises(TypeError):
        opened.add([good, type(bad)("hook", "run.sh", "2", "study", {"size": b"no JSON"})], START)  # type: ignore[dict-item]
    assert waiting(opened) == []


def test_what_is_no_unicode_keeps_nothing_from_being_added(opened: Queue) -> None:
    opened.add([job("\udc80", order="\udc81", path="\udc82")], START)
    assert first(opened).job.facts == {"path": "\udc82"}
    opened.failed(first(opened), "\udc83", START)
    opened.done(first(opened), START)
    assert waiting(opened) == []


# --- order ---------------------------------------------------------------------------------------


def test_of_one_order_only_the_first_is_next(opened: Queue) -> None:
    opened.add([job("1"), job("2"), job("3", order="other")], START)
    opened.add([job("4")], START)
    assert next_keys(opened) == ["1", "3"]


def test_the_next_of_an_order_follows_when_the_first_is_done(opened: Queue) -> None:
    opened.add([job("1"), job("2"), job("3")], START)
    for expected in ("1", "2", "3"):
        assert next_keys(opened) == [expected]
        opened.done(first(opened), START)
    assert opened.targets() == []


def test_a_failed_job_holds_up_its_order(opened: Queue) -> None:
    opened.add([job("1"), job("2")], START)
    opened.failed(first(opened), "down", START + 60)
    queued = first(opened)
    assert (queued.job.key, queued.due_at, queued.attempts, queued.reason) == ("1", START + 60, 1, "down")


def test_a_dead_job_holds_up_nothing(opened: Queue) -> None:
    opened.add([job("1"), job("2")], START)
    opened.died(first(opened), "refused", START)
    assert next_keys(opened) == ["2"]


def test_orders_of_two_targets_are_apart(opened: Queue) -> None:
    opened.add([job("1"), job("2", target="other.sh")], START)
    assert sorted(next_keys(opened)) == ["1", "2"]


def test_what_is_due_first_comes_first_and_what_is_in_hand_is_left_out(opened: Queue) -> None:
    for key, due in (("1", 30), ("2", 10), ("3", 20)):
        opened.add([job(key, order=key)], START + due)
    (target,) = opened.targets()
    assert [queued.job.key for queued in opened.next_of(target, 2)] == ["2", "3"]
    assert [queued.job.key for queued in opened.next_of(target, 2, {2})] == ["3", "1"]


# --- what became of a job that has changed -------------------------------------------------------


def test_a_job_whose_facts_changed_in_hand_is_due_again(opened: Queue) -> None:
    opened.add([job("1", size=1), job("2")], START)
    in_hand = first(opened)
    opened.add([job("1", size=2)], START)
    opened.done(in_hand, START + 5)
    assert (first(opened).job.facts, first(opened).due_at) == ({"size": 2}, START + 5)
    assert next_keys(opened) == ["1"]
    opened.done(first(opened), START)
    assert next_keys(opened) == ["2"]


def test_a_job_whose_facts_changed_in_hand_does_not_die(opened: Queue) -> None:
    opened.add([job("1", size=1)], START)
    in_hand = first(opened)
    opened.add([job("1", size=2)], START)
    opened.died(in_hand, "refused", START + 5)
    assert (first(opened).attempts, first(opened).due_at) == (0, START + 5)


# --- for a person --------------------------------------------------------------------------------


def test_a_summary_says_how_it_stands_with_each_target(opened: Queue) -> None:
    opened.add([job("1"), job("2"), job("3", order="other")], START)
    opened.add([job("4", kind="forward", target="AE@host:104")], START + 1)
    opened.failed(first(opened), "down", START + 60)
    opened.died(waiting(opened)[0], "refused", START + 2)
    forward, hook = overview.summaries(opened)
    assert (forward.target.kind, forward.waiting, forward.dead, forward.next_try) == ("forward", 1, 0, START + 1)
    assert (hook.waiting, hook.dead, hook.oldest, hook.next_try) == (2, 1, START, START + 60)
    assert hook.reason == "refused"


def test_a_target_that_works_again_has_no_reason_any_more(opened: Queue) -> None:
    opened.add([job("1"), job("2", order="other")], START)
    opened.failed(first(opened), "down", START)
    opened.done(first(opened), START)
    assert [summary.reason for summary in overview.summaries(opened)] == [""]


def dead(opened: Queue, count: int) -> list[Queued]:
    opened.add([job(f"{number}", order=f"{number % 3}") for number in range(count)], START)
    while found := waiting(opened):
        opened.died(found[0], "refused", START)
    (summary,) = overview.summaries(opened)
    return overview.dead(opened, summary.target)


def test_all_dead_jobs_wait_again_each_order_with_its_first(opened: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "AT_ONCE", 4)
    target = dead(opened, 10)[0].target
    assert overview.retry(opened, [target], None, START + 9) == 10
    assert sorted(next_keys(opened)) == ["0", "1", "2"]
    assert opened.waiting(target) == 10
    assert {queued.attempts for queued in waiting(opened)} == {0}


def test_a_job_that_waits_again_does_not_overtake_what_is_next(opened: Queue) -> None:
    opened.add([job("1"), job("2")], START)
    died = first(opened)
    opened.died(died, "refused", START)
    assert overview.retry(opened, [died.target], died.id, START + 1) == 1
    assert next_keys(opened) == ["2"]
    opened.done(first(opened), START)
    assert next_keys(opened) == ["1"]


def test_only_dead_jobs_of_the_named_targets_are_retried_or_dropped(opened: Queue) -> None:
    died = dead(opened, 2)
    opened.add([job("x", kind="forward")], START)
    (alive,) = waiting(opened)
    for act in (overview.retry, overview.drop):
        assert act(opened, [alive.target], died[0].id, START + 9) == 0
        assert act(opened, [alive.target], alive.id, START + 9) == 0
    assert overview.drop(opened, [died[0].target], died[0].id, START + 9) == 1
    assert overview.drop(opened, [died[0].target, alive.target], None, START + 9) == 1
    assert next_keys(opened) == ["x"]


# --- many jobs -----------------------------------------------------------------------------------


def plans(opened: Queue) -> list[str]:
    """How SQLite finds what each statement of a job's life asks for."""
    statements: list[tuple[str, object]] = []

    def keep(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        if not statement.startswith("EXPLAIN"):
            statements.append((statement, parameters))

    event.listen(opened._engine, "before_cursor_execute", keep)
    opened.add([job("1"), job("2"), job("3"), job("4")], START)
    for end in (
        lambda queued: opened.failed(queued, "down", START),
        lambda queued: opened.died(queued, "refused", START),
        lambda queued: opened.done(queued, START),
    ):
        end(first(opened))
    (target,) = opened.targets()
    opened.waiting(target)
    overview.dead(opened, target, 20)
    overview.retry(opened, [target], None, START)
    overview.drop(opened, [target], None, START)
    event.remove(opened._engine, "before_cursor_execute", keep)
    found = []
    with opened.transaction() as connection:
        raw = connection.connection.dbapi_connection
        for statement, parameters in statements:
            if statement.startswith("BEGIN"):
                continue
            chosen = parameters[0] if isinstance(parameters, list) else parameters
            found += [f"{row[3]}" for row in raw.execute("EXPLAIN QUERY PLAN " + statement, chosen)]
    return found


def test_no_statement_of_a_job_looks_at_all_jobs(opened: Queue) -> None:
    found = plans(opened)
    assert any("jobs_by_due" in plan for plan in found)
    assert any("jobs_by_order" in plan for plan in found)
    assert [plan for plan in found if "SCAN" in plan and "targets" not in plan] == []
    assert [plan for plan in found if "TEMP B-TREE" in plan and "DISTINCT" not in plan] == []


# --- trouble -------------------------------------------------------------------------------------


def test_a_locked_queue_says_what_to_do(opened: Queue, path: Path) -> None:
    hasty = Queue(str(path), patience=0.01)
    with locked(path), pytest.raises(QueueTrouble, match="database is locked; another program") as caught:
        hasty.add([job()], START)
    assert not caught.value.is_damaged
    hasty.add([job()], START)
    hasty.close()
    assert next_keys(opened) == ["1"]


def test_a_damaged_queue_says_what_is_lost_and_what_to_do(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(QueueTrouble, match=r"not a database; stop the receiver, move .* not done any more") as caught:
        Queue(str(path))
    assert caught.value.is_damaged
    assert path.read_bytes() == b"no database" * 1000


def test_a_queue_of_another_format_is_not_touched(opened: Queue, path: Path) -> None:
    with opened.transaction() as connection:
        connection.exec_driver_sql("UPDATE state SET value = '99' WHERE name = 'schema'")
    with pytest.raises(QueueTrouble, match="format 99"):
        Queue(str(path))


def test_no_queue_is_made_to_read_it(path: Path) -> None:
    with pytest.raises(QueueTrouble, match="no queue yet"):
        Queue(str(path), may_write=False)
    assert not path.exists()


def test_a_power_cut_takes_no_job(opened: Queue) -> None:
    assert opened._raw("PRAGMA synchronous") == [(2,)]  # FULL
    assert opened._raw("PRAGMA journal_mode") == [("wal",)]


def test_a_queue_is_read_while_a_receiver_has_it_open(opened: Queue, path: Path) -> None:
    opened.add([job()], START)
    reader = Queue(str(path), may_write=False)
    with locked(path):
        assert next_keys(reader) == ["1"]
    reader.close()


def test_each_order_has_one_next_job_whatever_happens(opened: Queue, path: Path) -> None:
    import random

    chosen = random.Random(7)
    for step in range(300):
        opened.add([job(f"{chosen.randrange(40)}", order=f"{chosen.randrange(4)}", step=step)], START + step)
        found = waiting(opened)
        queued = chosen.choice(found)
        match chosen.randrange(4):
            case 0:
                opened.done(queued, START + step)
            case 1:
                opened.died(queued, "refused", START + step)
            case 2:
                opened.failed(queued, "down", START + step)
            case _:
                overview.retry(opened, [queued.target], None, START + step)
        raw = sqlite3.connect(path)
        counts = raw.execute(
            "SELECT sum(state = 'next') FROM jobs WHERE state <> 'dead' GROUP BY target, \"order\""
        ).fetchall()
        raw.close()
        assert set(counts) <= {(1,)}
