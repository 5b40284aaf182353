"""A person sees what waits and what is dead, and has jobs tried now, or dropped, also beside a running receiver."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dcmstore import hooks
from dcmstore.commands import queue_listing
from dcmstore.errors import ConfigurationError
from dcmstore.index import entries, printing
from dcmstore.jobs import overview
from dcmstore.jobs.queue import Queue
from tests.index.support import locked
from tests.jobs.support import START, Hands, Kept, job, next_keys, waiting

Run = Callable[..., tuple[int, str, str]]
HOST = "AE@host:104"


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    made = tmp_path / "DcmStore.ini"
    made.write_text("port= 0\nIMG-DIR= images\nRDSR-DIR= rdsr\n")
    return made


@pytest.fixture
def run(ini: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`hooks` or `queue`: its exit code and what it printed."""

    def run(name: str, **given: object) -> tuple[int, str, str]:
        options = argparse.Namespace(**{"config": ini, "json": False, "retry": None, "drop": None, **given})
        code = getattr(queue_listing, name)(options)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def filled(opened: Queue) -> Queue:
    """Two hooks of which one is dead, and a forward that waits."""
    opened.add([job("1", path="/data/1.dcm"), job("2", order="other", path="/data/2\x1b[2J.dcm")], START)
    opened.add([job("3", kind="forward", target=HOST)], START)
    opened.died(waiting(opened)[1], "refused\x1b[2J", START + 60)
    opened.failed(waiting(opened)[1], "connection refused", START + 900)
    return opened


def test_each_command_has_its_kinds(filled: Queue, run: Run) -> None:
    assert HOST not in run("hooks")[1]
    assert "run.sh" not in run("queue")[1]


def test_the_table_says_how_it_stands(filled: Queue, run: Run) -> None:
    code, printed, _ = run("queue")
    head, line, *_ = printed.splitlines()
    assert head.split() == ["KIND", "TARGET", "IN", "INI", "WAITING", "DEAD", "OLDEST", "NEXT", "TRY", "LAST", "REASON"]
    assert line.split()[:5] == ["forward", HOST, "no", "1", "0"]
    assert "  now  " in line  # it was due long ago
    assert line.endswith("connection refused")
    assert code == 0


def test_dead_jobs_are_shown_and_told_by_the_exit_code(filled: Queue, run: Run) -> None:
    code, printed, _ = run("hooks")
    line = printed.splitlines()[-1]
    assert line.startswith("2 ")
    assert line.endswith("/data/2?[2J.dcm  refused?[2J")
    assert code == 1


def test_json_has_all_that_is_known(filled: Queue, run: Run) -> None:
    (record,) = json.loads(run("hooks", json=True)[1])
    (dead,), (waits,) = record.pop("dead_jobs"), record.pop("waiting_jobs")
    moment = "2023-11-14T22:13:20.000Z"
    assert record == {
        "kind": "hook",
        "target": "run.sh",
        "in_ini": False,
        "waiting": 1,
        "dead": 1,
        "oldest": moment,
        "next_try": moment,
        "paused_until": "",
        "last_reason": "refused\x1b[2J",
    }
    assert dead == {
        "id": 2,
        "made": moment,
        "died": "2023-11-14T22:14:20.000Z",
        "attempts": 1,
        "reason": "refused\x1b[2J",
        "facts": {"path": "/data/2\x1b[2J.dcm"},
    }
    assert (waits["id"], waits["due"], waits["is_next"], waits["facts"]) == (1, moment, True, {"path": "/data/1.dcm"})


@pytest.mark.parametrize(("chosen", "count"), [(2, 1), (queue_listing.ALL, 2)])
def test_jobs_are_tried_now(filled: Queue, run: Run, chosen: int, count: int) -> None:
    assert run("hooks", retry=chosen) == (0, f"{count} to be tried now\n", "")
    assert sorted(next_keys(filled)) == ["1", "2", "3"]


def test_a_job_that_waits_is_tried_now(filled: Queue, run: Run) -> None:
    (forward,) = (queued for queued in waiting(filled) if queued.job.key == "3")
    later = time.time() + 900
    filled.failed(forward, "down", later, later)
    assert "  now  " not in run("queue")[1]
    assert run("queue", retry=forward.id) == (0, "1 to be tried now\n", "")
    assert run("queue")[1].count("  now  ") == 2  # the target, and the job


def test_a_pause_of_the_target_is_when_it_is_tried(filled: Queue, run: Run) -> None:
    forward = next(queued for queued in waiting(filled) if queued.job.key == "3")
    until = time.time() + 200
    filled.failed(forward, "down", START, until)
    told = printing.local(entries.moment(until))
    assert run("queue")[1].count(told) == 2
    assert json.loads(run("queue", json=True)[1])[0]["paused_until"] == entries.moment(until)


def test_a_pause_that_is_over_is_none(filled: Queue, run: Run) -> None:
    forward = next(queued for queued in waiting(filled) if queued.job.key == "3")
    filled.failed(forward, "down", START, START + 200)
    assert json.loads(run("queue", json=True)[1])[0]["paused_until"] == ""


def test_what_waits_is_shown_with_its_id(filled: Queue, run: Run) -> None:
    filled.add([job("4", path="/data/4.dcm")], START)
    lines = run("hooks")[1].split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["1", "4"]
    assert "in its turn" in lines[2]


def test_only_some_jobs_are_shown_and_reasons_are_cut(opened: Queue, run: Run) -> None:
    opened.add([job(f"{number}", order=f"{number}") for number in range(100)], START)
    opened.failed(waiting(opened)[0], "x" * 2000, START + 900)
    printed = run("hooks")[1]
    assert len(printed.splitlines()) == 2 + 2 + queue_listing.MOST_SHOWN
    assert max(map(len, printed.splitlines())) < 300
    (record,) = json.loads(run("hooks", json=True)[1])
    assert (record["last_reason"], len(record["waiting_jobs"])) == ("x" * 2000, 100)


def test_what_is_not_in_the_ini_any_more_is_told_and_can_be_dropped(filled: Queue, run: Run, ini: Path) -> None:
    filled.add([job("1", kind=hooks.COMMAND, target="kept.sh"), job("c", kind="commitment", target="AE")], START)
    filled.add([job("4", kind="forward", target="PACS@kept:104")], START)
    with ini.open("a") as file:
        file.write("index= 1\non-stored= [modality=CT] kept.sh\nforward-to= [modality=CT] PACS@kept:104\n")
    assert {record["target"]: record["in_ini"] for record in json.loads(run("hooks", json=True)[1])} == {
        "run.sh": False,
        "kept.sh": True,
    }
    assert run("hooks", drop=queue_listing.GONE) == (0, "2 dropped\n", "")
    assert run("queue", drop=queue_listing.GONE) == (0, "1 dropped\n", "")
    assert sorted(next_keys(filled)) == ["1", "4", "c"]
    assert run("hooks", drop=queue_listing.GONE) == (1, "", "dcmstore: of no job is the target missing in the ini\n")


@pytest.mark.parametrize("chosen", [2, queue_listing.ALL])
def test_dead_jobs_are_dropped(filled: Queue, run: Run, chosen: int) -> None:
    assert run("hooks", drop=chosen) == (0, "1 dropped\n", "")
    assert [summary.dead for summary in overview.summaries(filled)] == [0, 0]


def test_one_job_that_waits_is_dropped_and_all_that_wait_are_not(filled: Queue, run: Run) -> None:
    told = "dcmstore: no job was given up; one that waits has a number\n"
    assert run("queue", drop=queue_listing.ALL) == (1, "", told)
    assert run("hooks", drop=1) == (0, "1 dropped\n", "")
    assert next_keys(filled) == ["3"]


@pytest.mark.parametrize(("name", "chosen"), [("hooks", 3), ("hooks", 99), ("queue", 2)])
def test_what_is_not_of_the_command_is_left_alone(filled: Queue, run: Run, name: str, chosen: int) -> None:
    for act in ("retry", "drop"):
        assert run(name, **{act: chosen}) == (1, "", "dcmstore: there is no such job\n")
    assert sorted(next_keys(filled)) == ["1", "3"]


def test_a_running_receiver_does_what_is_tried_again(filled: Queue, run: Run, path: Path) -> None:
    hands = Hands()
    kept = Kept(path, {"hook": hands})
    kept.runner.start()
    assert hands.next() == "1"
    run("hooks", retry=queue_listing.ALL)
    kept.later(10**9)
    assert hands.next() == "2"
    for key in ("1", "2"):
        hands.end(key)
        kept.heard("job.done")
    assert kept.runner.close(20.0)


def test_where_there_was_nothing_to_do_nothing_waits_and_nothing_is_made(run: Run, path: Path) -> None:
    assert run("queue") == (0, "", "dcmstore: nothing waits\n")
    assert run("hooks", json=True) == (0, "[]\n", "")
    assert run("hooks", retry=queue_listing.ALL) == (1, "", "dcmstore: there is no such job\n")
    assert not path.exists()


def test_a_queue_is_shown_while_another_program_has_it(filled: Queue, run: Run, path: Path) -> None:
    with locked(path):
        assert HOST in run("queue")[1]


def test_a_damaged_queue_is_an_error_that_says_what_to_do(run: Run, path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match="the receiver puts it aside"):
        run("queue")


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "alle", "٣", "9" * 19])
def test_what_is_no_id_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        queue_listing.job_id_to_drop(value)


def test_ids() -> None:
    assert (queue_listing.job_id("17"), queue_listing.job_id("All")) == (17, queue_listing.ALL)
    assert queue_listing.job_id_to_drop("gone") == queue_listing.GONE
    with pytest.raises(ValueError):
        queue_listing.job_id("gone")
