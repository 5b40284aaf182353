"""Each job is done at least once, in order, and whatever fails holds up nothing else."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from dcmstore.errors import DcmStoreError
from dcmstore.jobs import damage, opening, overview, patience, runner
from dcmstore.jobs.circuit import AGAIN, MAX_TOLD, SEVERAL, Circuit
from dcmstore.jobs.opening import Intake
from dcmstore.jobs.queue import Queue, QueueTrouble
from dcmstore.jobs.runner import Runner
from dcmstore.jobs.work import Job, JobFailed
from dcmstore.jobs.workers import Workers
from dcmstore.storage import files
from tests.index.support import locked
from tests.jobs.support import START, WAIT, Hands, Kept, job, next_keys, waiting
from tests.support import wait_until as wait_for

PAGE = 4096  # bytes, of SQLite
PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def only_when_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK", WAIT)
    monkeypatch.setattr(runner, "RETRY", (0.01,))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PATIENCE", 0.01)


class Place:
    """A queue, a runner of it, and handlers of two kinds that a test plays."""

    def __init__(self, path: Path, opened: Queue) -> None:
        self.path = path
        self.opened = opened
        self.hook = Hands()
        self.other = Hands()
        self.kept = Kept(path, {"hook": self.hook, "other": self.other})
        self._passes = 0

    def add(self, *jobs: Job) -> None:
        self.opened.add(jobs, self.kept.clock.now)
        self.kept.runner.start()
        self.kept.runner.wake()

    def look(self) -> None:
        """Let the runner look at everything once: a job of another kind was begun, and done."""
        self._passes += 1
        key = f"look {self._passes}"
        self.other.end(key)
        self.add(job(key, kind="other"))
        assert self.other.next() == key
        assert self.kept.heard("job.done")["kind"] == "other"

    def ended(self, key: str) -> None:
        self.hook.end(key)
        self.kept.heard("job.done")

    def failed(self, key: str, reason: str = "host is down", **flags: bool) -> None:
        """Fail, and wait until that is written down."""
        before = self._attempts(key)
        self.hook.fail(key, reason, **flags)
        wait_for(lambda: self._attempts(key) > before)

    def _attempts(self, key: str) -> int:
        return sum(queued.attempts for queued in waiting(self.opened) if queued.job.key == key)


@pytest.fixture
def place(path: Path, opened: Queue) -> Iterator[Place]:
    made = Place(path, opened)
    yield made
    made.kept.runner.close(0.0)


# --- one after the other -------------------------------------------------------------------------


def test_a_job_is_done_and_gone(place: Place) -> None:
    place.add(job("1"))
    assert place.hook.next() == "1"
    place.hook.end("1")
    facts = place.kept.heard("job.done")
    assert (facts["kind"], facts["target"], facts["id"], facts["attempts"]) == ("hook", "run.sh", 1, 1)
    assert overview.summaries(place.opened) == []


def test_jobs_of_one_study_are_done_one_after_the_other(place: Place) -> None:
    place.add(job("1"), job("2"), job("3", order="other"))
    assert place.hook.some(2) == {"1", "3"}
    place.ended("3")
    place.look()
    assert place.hook.is_idle
    place.ended("1")
    assert place.hook.next() == "2"
    place.ended("2")


def test_no_more_than_so_many_of_a_kind_work_at_once(place: Place) -> None:
    place.add(*(job(key, order=key, target=f"{key}.sh") for key in "1234"))
    assert place.hook.some(3) == {"1", "2", "3"}
    place.look()
    assert place.hook.is_idle
    place.ended("2")
    assert place.hook.next() == "4"
    for key in ("1", "3", "4"):
        place.ended(key)


def test_a_target_that_hangs_leaves_room_for_another(place: Place) -> None:
    place.add(*(job(f"slow {number}", order=f"{number}") for number in range(4)))
    assert place.hook.some(2) == {"slow 0", "slow 1"}
    place.look()
    assert place.hook.is_idle
    for key in ("fast 1", "fast 2"):
        place.add(job(key, target="swift.sh"))
        assert place.hook.next() == key
        place.ended(key)
    place.ended("slow 1")
    assert place.hook.next() == "slow 2"
    for key in ("slow 0", "slow 2"):
        place.ended(key)
    place.hook.next()
    place.ended("slow 3")


def test_where_only_one_works_at_once_one_target_has_it() -> None:
    assert Workers({}, 1, lambda: None).at_once_for_one == 1


def test_a_kind_without_a_handler_waits(place: Place) -> None:
    place.add(job("x", kind="forward"))
    place.look()
    assert next_keys(place.opened) == ["x"]


# --- failures ------------------------------------------------------------------------------------


def test_a_failed_job_is_tried_again_later_and_later(place: Place) -> None:
    place.add(job("1"))
    for delay in patience.HOOKS.delays:
        assert place.hook.next() == "1"
        place.failed("1")
        if delay == patience.HOOKS.delays[0]:
            place.kept.heard("job.failed")
        place.kept.later(delay - 1)
        place.look()
        assert place.hook.is_idle
        place.kept.later(1)
    assert place.hook.next() == "1"
    place.hook.end("1")
    assert place.kept.heard("job.done")["attempts"] == len(patience.HOOKS.delays) + 1
    place.kept.heard("job.recovered")


def test_a_final_failure_is_dead_at_once_and_the_next_of_its_study_follows(place: Place) -> None:
    place.add(job("1"), job("2"))
    place.hook.next()
    place.hook.fail("1", "refused", is_final=True)
    facts = place.kept.heard("job.dead")
    assert (facts["id"], facts["reason"], facts["attempts"]) == (1, "refused", 1)
    assert place.hook.next() == "2"
    place.ended("2")


def test_a_job_that_fails_after_its_horizon_is_dead(place: Place) -> None:
    place.add(job("1"))
    place.hook.next()
    place.failed("1")
    place.kept.heard("job.failed")
    place.kept.later(patience.HOOKS.horizon + 1)
    place.hook.next()
    place.hook.fail("1")
    assert place.kept.heard("job.dead")["reason"] == "host is down"


def test_forwards_are_tried_for_a_month_and_at_least_every_quarter_of_an_hour() -> None:
    assert patience.of("forward").horizon == 30 * 86400
    assert patience.of("forward").delay(99) == 900
    assert patience.of("anything").horizon == 3 * 86400


def test_a_fault_of_a_handler_is_told_and_treated_as_a_failure(place: Place) -> None:
    place.add(job("1"))
    place.hook.next()
    place.hook.end("1", KeyError("path"))
    assert place.kept.heard("job.failed")["reason"] == "KeyError: 'path'"
    assert place.kept.heard("job.fault")["error"] == "KeyError: 'path'"
    place.kept.later(10)
    assert place.hook.next() == "1"
    place.hook.end("1")
    place.kept.heard("job.done")


# --- a target that is down -----------------------------------------------------------------------


def test_a_target_that_fails_is_left_alone_and_then_tried_with_one_job(place: Place) -> None:
    place.add(*(job(key, order=key) for key in "1234"))
    assert place.hook.some(2) == {"1", "2"}
    place.failed("1")
    assert place.kept.heard("job.failed")["waiting"] == 4
    place.failed("2")  # it was under way already
    place.look()
    assert place.hook.is_idle
    place.kept.later(patience.PAUSES[0])
    assert place.hook.next() == "3"
    place.look()
    assert place.hook.is_idle
    place.failed("3")
    place.kept.later(patience.PAUSES[1] - 1)
    place.look()
    assert place.hook.is_idle
    place.kept.later(1)
    assert place.hook.next() == "4"
    place.ended("4")
    place.kept.heard("job.recovered")
    assert place.hook.some(2) == {"1", "2"}
    for key in ("1", "2"):
        place.ended(key)
    place.hook.next()
    place.ended("3")


def test_another_target_of_the_same_kind_goes_on(place: Place) -> None:
    place.add(job("1"))
    place.hook.next()
    place.failed("1")
    place.add(job("2", target="other.sh"))
    assert place.hook.next() == "2"
    place.hook.end("2")


def test_a_reason_is_told_once_until_the_target_works_again(place: Place) -> None:
    place.add(job("1"))
    for reason in ("down", "down", "another", "down"):
        place.hook.next()
        place.failed("1", reason)
        place.kept.later(patience.LONGEST)
    place.hook.next()
    place.hook.end("1")
    assert [place.kept.heard("job.failed")["reason"] for _ in range(2)] == ["down", "another"]
    place.kept.heard("job.done")
    place.kept.heard("job.recovered")
    place.add(job("2"))
    place.hook.next()
    place.hook.fail("2", "down")
    place.kept.heard("job.failed")


def test_reasons_without_end_are_not_told_without_end() -> None:
    circuit = Circuit()
    assert sum(circuit.is_news(f"{number}") for number in range(1000)) == MAX_TOLD


# --- one job, and not its target -----------------------------------------------------------------


def test_a_failure_that_is_about_one_job_keeps_no_other_waiting(place: Place) -> None:
    place.add(job("1"), job("2", order="other"))
    assert place.hook.some(2) == {"1", "2"}
    place.failed("1", "no such class", is_about_one=True)
    assert place.kept.heard("job.failed")["reason"] == "no such class"
    place.ended("2")
    place.add(job("3", order="third"))
    assert place.hook.next() == "3"
    place.ended("3")
    assert place.opened.pauses() == {}
    place.kept.later(patience.HOOKS.delays[0])
    assert place.hook.next() == "1"
    place.failed("1", "no such class", is_about_one=True)


def test_several_jobs_that_fail_by_themselves_are_the_target(place: Place) -> None:
    keys = [f"{number}" for number in range(SEVERAL + 1)]
    place.add(*(job(key, order=key) for key in keys))
    for _ in range(SEVERAL):
        place.failed(place.hook.next(), "no such class", is_about_one=True)
    place.kept.heard("job.failed")
    last = place.hook.next()  # it was begun beside the one before
    place.look()
    assert len(place.opened.pauses()) == 1
    place.ended(last)
    assert place.kept.silence() == []


def test_one_job_that_fails_again_and_again_is_not_the_target() -> None:
    circuit = Circuit()
    for _ in range(10 * SEVERAL):
        assert not circuit.is_enough(1)
        circuit.refused(1)


def test_what_is_dead_is_told_once_an_hour_for_each_reason(place: Place) -> None:
    for number, reason in enumerate(("refused", "refused", "another", "refused")):
        place.add(job(f"{number}"))
        place.hook.next()
        place.hook.fail(f"{number}", reason, is_final=True)
        wait_for(lambda number=number: sum(one.dead for one in overview.summaries(place.opened)) > number)
        place.add(job("good"))
        place.hook.next()
        place.hook.end("good")
        wait_for(lambda: not waiting(place.opened))
    told = [place.kept.reported.get(timeout=WAIT) for _ in range(6)]
    assert [(facts["reason"], facts["dead"]) for event, facts in told if event == "job.dead"] == [
        ("refused", 1),
        ("another", 3),
    ]
    place.kept.later(AGAIN)
    place.add(job("5"))
    place.hook.next()
    place.hook.fail("5", "refused", is_final=True)
    assert place.kept.heard("job.dead")["dead"] == 5


def test_dead_jobs_with_reasons_without_end_are_not_told_without_end() -> None:
    circuit = Circuit()
    assert sum(circuit.is_news_of_one(f"{number}", START) for number in range(1000)) == MAX_TOLD
    assert circuit.is_news_of_one("0", START - 1)  # the clock was set back


# --- clocks and persons --------------------------------------------------------------------------


def test_a_person_may_have_a_target_tried_that_is_left_alone(place: Place) -> None:
    place.add(job("1"))
    for _ in range(2):
        place.hook.next()
        place.failed("1")
        place.kept.later(patience.HOOKS.delays[1])
    place.hook.next()
    place.failed("1")
    place.kept.heard("job.failed")
    place.look()
    (target,) = place.opened.targets()
    assert place.opened.pauses() == {target.id: place.kept.clock.now + patience.PAUSES[2]}
    overview.retry(place.opened, [target], None, place.kept.clock.now)
    place.kept.runner.wake()
    assert place.hook.next() == "1"
    place.hook.end("1")


def test_a_clock_that_is_set_back_stops_nothing(place: Place) -> None:
    place.add(job("1"))
    place.hook.next()
    place.failed("1")
    place.kept.heard("job.failed")
    place.kept.later(-10 * 365 * patience.DAY)
    assert place.hook.next() == "1"
    place.ended("1")


# --- the file ------------------------------------------------------------------------------------


def test_a_locked_queue_is_told_once_and_nothing_is_done_twice(place: Place, hasty: None) -> None:
    place.add(job("1"), job("2"))
    place.hook.next()
    with locked(place.path):
        place.hook.end("1")
        assert "database is locked" in str(place.kept.heard("queue.failed")["reason"])
    place.kept.heard("job.done")
    place.kept.heard("queue.recovered")
    assert place.hook.next() == "2"
    place.ended("2")
    assert place.kept.silence() == []


def test_what_a_crash_left_half_put_aside_is_put_aside_at_the_next_start_and_told(path: Path) -> None:
    aside = path.with_name(f"{path.name}-damaged-20231113-000000")
    path.write_bytes(b"no database")
    aside.with_name(f"{aside.name}-wal").write_bytes(b"no wal")
    damage._make_new(str(path), "", 1.0, START)
    kept = Kept(path, {"hook": Hands()})
    kept.runner.start()
    assert kept.heard("queue.damaged")["put_aside"] == str(aside)
    assert aside.read_bytes() == b"no database"
    assert kept.runner.close(WAIT)


def test_a_damaged_queue_is_put_aside_and_told_and_a_new_one_is_used(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    kept = Kept(path, {"hook": (hands := Hands())})
    kept.runner.start()
    facts = kept.heard("queue.damaged")
    assert (facts["path"], facts["reason"]) == (str(path), "file is not a database")
    assert Path(str(facts["put_aside"])).read_bytes() == b"no database" * 1000
    intake = Intake(str(path), "", kept.runner.wake)
    intake.add([job("1")])
    intake.close()
    kept.later(10**6)
    assert hands.next() == "1"
    hands.end("1")
    kept.heard("job.done")
    assert kept.runner.close(WAIT)


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be written over there")
def test_damage_that_only_an_intake_sees_is_looked_for(place: Place) -> None:
    place.opened.add([job(f"{number}", kind="forward", text="x" * 500) for number in range(500)], START)
    place.look()
    place.opened._raw("PRAGMA wal_checkpoint(TRUNCATE)")
    with place.path.open("r+b") as file:
        file.seek(5 * PAGE)
        file.write(b"\xff" * (place.path.stat().st_size - 5 * PAGE))
    intake = Intake(str(place.path), "", place.kept.runner.wake, doubt=place.kept.runner.doubt)
    with pytest.raises(DcmStoreError, match="malformed"):
        intake.add([job("1")])
    place.kept.heard("queue.damaged")
    wait_for(place.path.exists)
    intake.add([job("1")])
    intake.close()
    assert place.hook.next() == "1"
    place.hook.end("1")


def test_a_good_queue_that_is_doubted_stays(place: Place) -> None:
    place.add(job("1", target="other.sh"))
    place.hook.next()
    place.kept.runner.doubt()
    place.look()
    place.ended("1")
    assert place.kept.silence() == []


def test_a_damaged_queue_that_cant_be_put_aside_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"no database" * 1000)
    kept = Kept(path, {"hook": Hands()})
    with monkeypatch.context() as patch:
        patch.setattr(files, "give_name", refuse)
        kept.runner.start()
        assert "not a database, and it can't be put aside: Permission denied" in str(
            kept.heard("queue.failed")["reason"]
        )
    kept.heard("queue.damaged")
    kept.heard("queue.recovered")
    assert kept.runner.close(WAIT)


def refuse(*_: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_queue_of_another_version_is_told_and_left(opened: Queue, path: Path) -> None:
    with opened.transaction() as connection:
        connection.exec_driver_sql("UPDATE state SET value = '99' WHERE name = 'schema'")
    kept = Kept(path, {"hook": Hands()})
    kept.runner.start()
    assert "format 99" in str(kept.heard("queue.failed")["reason"])
    kept.runner.doubt()
    assert kept.runner.close(WAIT)
    assert kept.silence() == []
    assert [one.name for one in path.parent.glob("*damaged*")] == []


def test_damage_that_a_second_look_does_not_find_is_told_as_it_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.look()
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "targets", broken)
        place.kept.runner.wake()
        assert "malformed" in str(place.kept.heard("queue.failed")["reason"])
    place.kept.heard("queue.recovered")


def test_damage_that_comes_behind_another_failure_is_put_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail(opener: opening.Opener) -> Queue:
        if not failed.is_set():
            failed.set()
            raise QueueTrouble(str(path), "away", "")
        return queue(opener)

    queue = opening.Opener.queue
    monkeypatch.setattr(opening.Opener, "queue", fail)
    path.write_bytes(b"no database" * 1000)
    kept = Kept(path, {})
    kept.runner.start()
    kept.heard("queue.failed")
    kept.heard("queue.damaged")
    kept.heard("queue.recovered")
    assert kept.runner.close(WAIT)


def test_what_is_news_is_told_although_the_queue_made_trouble(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add(job("1"))
    place.hook.next()
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "dead", lambda _, __: 1 / 0)
        place.hook.fail("1", "refused", is_final=True)
        place.kept.heard("queue.failed")
    assert place.kept.heard("job.dead")["dead"] == 1
    place.kept.heard("queue.recovered")


def test_a_pause_of_a_run_that_is_over_counts_no_more(place: Place) -> None:
    place.opened.add([job("1", kind="forward")], START)
    place.opened.failed(waiting(place.opened)[0], "down", START, START + 200)
    place.look()
    assert place.opened.pauses() == {}


def broken(queue: Queue) -> None:
    raise QueueTrouble(queue.path, "malformed", "", is_damaged=True)


def test_a_queue_that_makes_trouble_is_closed_so_that_another_can_take_its_place(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, close = threading.Event(), Queue.close
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "targets", lambda _: 1 / 0)
        patch.setattr(Queue, "close", lambda queue: (close(queue), closed.set()))
        place.add(job("1"))
        assert "ZeroDivisionError" in str(place.kept.heard("queue.failed")["reason"])
        assert closed.wait(WAIT)
    place.kept.heard("queue.recovered")
    assert place.hook.next() == "1"
    place.ended("1")


@pytest.mark.skipif(os.name == "nt", reason="an open file can't be moved there")
def test_what_ends_of_a_queue_that_was_moved_away_touches_no_job_of_the_new_one(place: Place) -> None:
    place.add(job("old"))
    place.hook.next()
    for name in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):  # who opens it meanwhile, deletes what is left
            place.path.with_name(place.path.name + name).rename(place.path.with_name("moved" + name))
    place.opened.close()
    place.opened = Queue(str(place.path))
    place.add(job("new"), job("newer"))
    assert next_keys(place.opened) == ["new"]  # with the ID that the old one has
    place.hook.end("old")
    assert place.hook.next() == "new"
    place.hook.fail("new")
    place.kept.heard("job.failed")
    assert next_keys(place.opened) == ["new"]
    place.opened.close()


def test_an_intake_says_what_is_wrong_and_tries_anew(path: Path, opened: Queue, hasty: None) -> None:
    woken = threading.Event()
    intake = Intake(str(path), "", woken.set)
    with locked(path), pytest.raises(DcmStoreError, match="database is locked"):
        intake.add([job("1")])
    assert not woken.is_set()
    intake.add([job("1")])
    intake.close()
    assert woken.is_set()
    assert next_keys(opened) == ["1"]


def test_what_is_written_beside_jobs_is_there_with_them_or_not_at_all(path: Path, opened: Queue) -> None:
    def made(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS beside (value)")

    def plan(*jobs: Job) -> Callable[[Connection], list[Job]]:
        def plan(connection: Connection) -> list[Job]:
            connection.exec_driver_sql("INSERT INTO beside VALUES (1)")
            return list(jobs)

        return plan

    intake = Intake(str(path), "", lambda: None, made)
    with pytest.raises(TypeError):
        intake.plan(plan(job("1"), job("2", size=b"no JSON")))  # type: ignore[arg-type]
    intake.plan(plan(job("3")))
    intake.close()
    assert next_keys(opened) == ["3"]
    with opened.transaction() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM beside").scalar() == 1


def test_what_a_command_changes_is_seen_soon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOOK", 0.01)
    place.kept.runner.start()
    place.opened.add([job("1")], START)
    assert place.hook.next() == "1"
    place.ended("1")


# --- the end -------------------------------------------------------------------------------------


def closing(place: Place, key: str, error: Exception | None) -> bool:
    """End the runner, and then the job in hand; what `close` returns."""
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(place.kept.runner.close(WAIT)))
    thread.start()
    wait_for(place.kept.runner._is_closing.is_set)
    place.hook.end(key, error)
    thread.join(WAIT)
    return results[0]


def test_the_end_waits_for_what_is_in_hand(place: Place) -> None:
    place.add(job("1"), job("2"))
    place.hook.next()
    assert closing(place, "1", None)
    assert next_keys(place.opened) == ["2"]


def test_a_handler_that_hangs_does_not_keep_the_receiver_from_ending(place: Place) -> None:
    place.add(job("1"))
    place.hook.next()
    assert not place.kept.runner.close(0.0)
    assert next_keys(place.opened) == ["1"]
    place.hook.end("1")


def test_what_fails_because_the_receiver_stops_has_not_failed(place: Place) -> None:
    place.add(job("1"))
    place.hook.next()
    assert closing(place, "1", JobFailed("the receiver stops"))
    assert waiting(place.opened)[0].attempts == 0
    assert place.kept.silence() == []


def test_a_runner_that_was_never_started_ends(path: Path) -> None:
    assert Kept(path, {}).runner.close(WAIT)


def test_nothing_of_sqlalchemy_is_needed_to_make_a_runner() -> None:
    program = (
        "import sys; from dcmstore.jobs.runner import Runner; from dcmstore.jobs.opening import Intake; "
        "Intake('x', '', Runner('x', {}, print).wake); "
        "print([name for name in sys.modules if name in ('sqlalchemy', 'sqlite3')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


# --- a crash -------------------------------------------------------------------------------------

CRASHING = """
import sys, time
from dcmstore.jobs.runner import Runner

class Writing:
    def do(self, job):
        with open(sys.argv[2], "a") as file:
            file.write(job.key + "\\n")

runner = Runner(sys.argv[1], {"hook": Writing()}, lambda event, **facts: None)
runner.start()
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_after_kill_9_each_job_is_done_at_least_once_and_in_order(path: Path, opened: Queue) -> None:
    count = 200
    opened.add([job(f"{number}", order=f"{number % 5}") for number in range(count)], START)
    done = path.with_name("done")
    done.touch()
    for stop_at in (20, 90, count):
        process = subprocess.Popen([sys.executable, "-c", CRASHING, str(path), str(done)], cwd=PROJECT)
        try:
            wait_for(lambda stop_at=stop_at: len(set(done.read_text().split())) >= stop_at)
            if stop_at == count:
                wait_for(lambda: not opened.targets())
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    written = [int(line) for line in done.read_text().split()]
    firsts = list(dict.fromkeys(written))
    assert sorted(firsts) == list(range(count))
    for order in range(5):
        assert (mine := [number for number in firsts if number % 5 == order]) == sorted(mine)
    assert len(written) <= count + 2 * 2  # what was in hand, twice
    assert overview.summaries(opened) == []


def test_what_was_in_hand_is_done_again_by_the_next_runner(place: Place, path: Path) -> None:
    place.add(job("1"))
    place.hook.next()
    place.kept.runner.close(0.0)
    again = Hands()
    second = Runner(str(path), {"hook": again}, lambda *_, **__: None, clock=place.kept.clock)
    second.start()
    assert again.next() == "1"
    again.end("1")
    assert second.close(WAIT)
    assert overview.summaries(place.opened) == []
    place.hook.end("1")
