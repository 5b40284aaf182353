"""What is to be done survives, comes once, and in order."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, Table, event, select

from dcmstore.jobs import damage, overview, replacing, tables
from dcmstore.jobs.queue import Queue, QueueTrouble
from dcmstore.jobs.rows import Queued
from dcmstore.storage import files
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


def test_only_jobs_of_the_named_targets_are_retried_or_dropped(opened: Queue) -> None:
    died = dead(opened, 2)
    opened.add([job("x", kind="forward")], START)
    (alive,) = waiting(opened)
    assert overview.retry(opened, [alive.target], died[0].id, START + 9) == 0
    assert overview.drop(opened, [alive.target], died[0].id) == 0
    assert overview.drop_dead(opened, [alive.target]) == 0
    assert overview.drop(opened, [died[0].target], died[0].id) == 1
    assert overview.drop_dead(opened, [died[0].target, alive.target]) == 1
    assert next_keys(opened) == ["x"]


def test_a_job_that_waits_is_due_now_and_its_target_left_alone_no_longer(opened: Queue) -> None:
    opened.add([job("1"), job("2", order="other"), job("3", order="other")], START)
    for queued in waiting(opened):
        opened.failed(queued, "down", START + 900, START + 300)
    target = first(opened).target
    assert opened.pauses() == {target.id: START + 300}
    assert overview.retry(opened, [target], first(opened).id, START + 9) == 1
    assert sorted(queued.due_at for queued in waiting(opened)) == [START + 9, START + 900]
    assert opened.pauses() == {}
    assert overview.retry(opened, [target], None, START + 10) == 2
    assert {queued.due_at for queued in waiting(opened)} == {START + 9, START + 10}
    assert {queued.attempts for queued in waiting(opened)} == {1}


def test_of_a_job_behind_another_the_other_is_tried_now(opened: Queue) -> None:
    opened.add([job("1"), job("2"), job("3", order="other")], START)
    opened.failed(first(opened), "down", START + 900)
    behind = overview.waiting(opened, first(opened).target)[-1]
    assert (behind.job.key, behind.is_next) == ("2", False)
    assert overview.retry(opened, [behind.target], behind.id, START + 9) == 1
    assert {queued.job.key: queued.due_at for queued in waiting(opened)} == {"1": START + 9, "3": START}


def test_a_job_that_is_dropped_holds_up_its_order_no_longer(opened: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "AT_ONCE", 2)
    opened.add([job("1"), job("2"), job("3", order="other"), job("4"), job("x", kind="forward")], START)
    (one,) = (queued for queued in waiting(opened) if queued.job.key == "1")
    target = one.target
    assert overview.drop(opened, [target], one.id) == 1
    assert sorted(next_keys(opened)) == ["2", "3", "x"]
    opened.died(opened.next_of(target, 1)[0], "refused", START)
    assert overview.drop_all(opened, [target]) == 3
    assert next_keys(opened) == ["x"]


def test_what_is_dropped_in_hand_comes_to_nothing(opened: Queue) -> None:
    opened.add([job("1"), job("2")], START)
    in_hand = first(opened)
    overview.drop(opened, [in_hand.target], in_hand.id)
    for end in (opened.failed, opened.died):
        end(in_hand, "refused", START)
    opened.done(in_hand, START)
    assert next_keys(opened) == ["2"]


def test_a_target_that_works_again_is_not_left_alone(opened: Queue) -> None:
    opened.add([job("1"), job("2", order="other")], START)
    opened.died(first(opened), "too old", START, START + 300)
    assert opened.pauses() == {first(opened).target.id: START + 300}
    opened.done(first(opened), START)
    assert opened.pauses() == {}


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
    opened.dead(target)
    overview.waiting(opened, target, 20)
    for job_id in (None, 1):
        overview.retry(opened, [target], job_id, START)
    overview.drop(opened, [target], 1)
    overview.drop_dead(opened, [target])
    overview.drop_all(opened, [target])
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
    with pytest.raises(
        QueueTrouble, match=r"not a database; the receiver puts it aside .* not done any more"
    ) as caught:
        Queue(str(path))
    assert caught.value.is_damaged
    assert path.read_bytes() == b"no database" * 1000


def test_a_queue_of_another_format_is_not_touched(opened: Queue, path: Path) -> None:
    with opened.transaction() as connection:
        connection.exec_driver_sql("UPDATE state SET value = '99' WHERE name = 'schema'")
    with pytest.raises(QueueTrouble, match=r"format 99.* start the version of dcmstore that made it") as caught:
        Queue(str(path))
    assert caught.value.is_other_format
    assert damage.put_aside(str(path), "", 1.0, START) is None
    assert path.exists()


def lacking(path: Path) -> float | None:
    with contextlib.closing(Queue(str(path))) as queue:
        found = queue.rows(select(tables.state.c.value).where(tables.state.c.name == tables.LACKS))
    return float(found[0][0]) if found else None


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.glob(f"{path.name}*"))


def test_a_queue_of_another_version_may_have_other_tables(opened: Queue, path: Path) -> None:
    with opened.transaction() as connection:
        connection.exec_driver_sql("UPDATE state SET value = '0' WHERE name = 'schema'")
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = 1")
        connection.exec_driver_sql("DROP TABLE targets")
    with pytest.raises(QueueTrouble, match="format 0") as caught:
        Queue(str(path))
    assert caught.value.is_other_format


def test_what_this_run_has_written_says_nothing_of_what_was_lost_before(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    os.utime(path, (START, START))
    assert damage.put_aside(str(path), "", 1.0, START + 60, START - 900) is not None
    assert lacking(path) == START - 900 - damage.SLACK


@pytest.mark.parametrize("suffix", ["-wal", "", "-new"])
def test_what_cant_be_put_aside_stays_and_the_next_attempt_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path.write_bytes(b"no database" * 1000)
    path.with_name(f"{path.name}-wal").write_bytes(b"no wal")
    os.utime(path, (START, START))
    os.utime(path.with_name(f"{path.name}-wal"), (START, START))
    give_name = files.give_name

    def refuse(source: str, target: str) -> None:
        if source == f"{path}{suffix}":
            raise PermissionError(errno.EACCES, "Permission denied")
        give_name(source, target)

    monkeypatch.setattr(damage, "_trouble_of", lambda *_: QueueTrouble(str(path), "damaged", "", is_damaged=True))
    with monkeypatch.context() as patch:
        patch.setattr(files, "give_name", refuse)
        with pytest.raises(QueueTrouble, match="can't be put aside: Permission denied"):
            damage.put_aside(str(path), "", 1.0, START + 60)
    assert names(path) == [path.name, f"{path.name}-new", f"{path.name}-wal"]
    os.utime(path, (START + 7, START + 7))
    aside = damage.put_aside(str(path), "", 1.0, START + 60)
    assert aside is not None
    assert names(path) == [path.name, Path(aside.path).name, f"{Path(aside.path).name}-wal"]
    assert lacking(path) == START - damage.SLACK


class Crash(BaseException):
    """Nothing is put back after it."""


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "", "-new"])
def test_a_crash_in_front_of_any_step_of_putting_aside_loses_nothing_of_either(
    path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    damaged = {f"{path.name}{one}": f"no database{one}".encode() for one in ("", "-wal", "-shm")}
    for name, content in damaged.items():
        path.with_name(name).write_bytes(content)
    give_name = files.give_name

    def crash(source: str, target: str) -> None:
        if source == f"{path}{suffix}":
            raise Crash
        give_name(source, target)

    damage._make_new(str(path), "", 1.0, START)
    aside = f"{path}-damaged-20231114-221320"
    with monkeypatch.context() as patch:
        patch.setattr(files, "give_name", crash)
        with pytest.raises(Crash):
            replacing.replace(str(path), aside)
    if suffix == "-wal":  # nothing was moved: it is damaged still, and whole
        assert replacing.finish(str(path)) == ""
        assert {name: path.with_name(name).read_bytes() for name in damaged} == damaged
        return
    assert replacing.finish(str(path)) == aside
    assert Path(aside).read_bytes() == b"no database"
    assert Path(f"{aside}-wal").read_bytes() == b"no database-wal"
    assert lacking(path) == START
    assert replacing.finish(str(path)) == ""


def test_what_was_put_aside_before_does_not_harm_a_good_queue(opened: Queue, path: Path) -> None:
    opened.add([job()], START)
    opened.close()
    for name in ("-damaged-20231114-221320", "-damaged-20231114-221320-wal"):
        path.with_name(f"{path.name}{name}").write_bytes(b"no database")
    damage._make_new(str(path), "", 1.0, START)
    assert replacing.finish(str(path)) == ""
    with contextlib.closing(Queue(str(path))) as again:
        assert next_keys(again) == ["1"]


def test_a_disk_that_cant_be_read_is_no_damage(opened: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "*** in database main ***\nTree 4 page 7: unable to get the page. error code={}"
    for code, is_damaged in ((10, False), (266, False), (11, True)):
        monkeypatch.setattr(opened, "_raw", lambda _, code=code: [(said.format(code),)])
        with pytest.raises(QueueTrouble, match="error code=") as caught:
            opened.examine()
        assert caught.value.is_damaged == is_damaged


def test_a_damaged_queue_is_put_aside_whole(opened: Queue, path: Path) -> None:
    opened.add([job(f"{number}", order=f"{number}", text="x" * 500) for number in range(500)], START)
    opened.close()
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 9 * 4096] = b"\xff" * 4 * 4096
    path.write_bytes(content)
    os.utime(path, (START, START))
    aside = damage.put_aside(str(path), "", 1.0, START + 60)
    assert aside is not None
    assert lacking(path) == START - damage.SLACK
    assert Path(aside.path).read_bytes() == bytes(content)
    assert Path(aside.path).name.startswith("DcmStore.queue-damaged-2023111")
    assert names(path) == [path.name, Path(aside.path).name]


def test_what_was_put_aside_is_never_replaced(path: Path) -> None:
    for number in range(2):
        path.write_bytes(b"no database %d" % number)
        assert damage.put_aside(str(path), "", 1.0, START) is not None
    found = sorted(path.parent.glob("DcmStore.queue-damaged-*"))
    assert [one.read_bytes() for one in found] == [b"no database 0", b"no database 1"]


@pytest.mark.parametrize("statement", ["DROP TABLE jobs", "DELETE FROM state"])
def test_what_is_no_queue_is_damaged(opened: Queue, path: Path, statement: str) -> None:
    with opened.transaction() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = 1")
        connection.exec_driver_sql(statement)
    opened.close()
    assert damage.put_aside(str(path), "", 1.0, START) is not None


def test_a_good_queue_is_not_put_aside(opened: Queue, path: Path) -> None:
    opened.add([job()], START)
    assert damage.put_aside(str(path), "", 1.0, START) is None
    assert next_keys(opened) == ["1"]


def test_a_locked_queue_is_not_put_aside(opened: Queue, path: Path) -> None:
    with locked(path), pytest.raises(QueueTrouble, match="database is locked"):
        damage.put_aside(str(path), "", 0.01, START)
    assert path.exists()


def full(path: Path, opened: Queue) -> None:
    opened._raw("PRAGMA max_page_count = 1")
    opened.add([job(f"{number}", text="x" * 5000) for number in range(20)], START)


def not_to_be_opened(path: Path, opened: Queue) -> None:
    opened.close()
    path.unlink()
    path.mkdir()
    Queue(str(path))


def of_a_fault(path: Path, opened: Queue) -> None:
    opened.rows(select(Table("none", MetaData(), Column("x"))))


@pytest.mark.parametrize("fail", [full, not_to_be_opened, of_a_fault])
def test_what_may_pass_is_no_damage(path: Path, opened: Queue, fail: Callable[[Path, Queue], None]) -> None:
    with pytest.raises(QueueTrouble) as caught:
        fail(path, opened)
    assert not caught.value.is_damaged


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
