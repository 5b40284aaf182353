"""A person sees what waits and what is dead, and has dead jobs tried again, also beside a running receiver."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dcmstore.commands import queue_listing
from dcmstore.errors import ConfigurationError
from dcmstore.jobs import overview
from dcmstore.jobs.queue import Queue
from tests.index.support import locked
from tests.jobs.support import START, Hands, Kept, job, next_keys, waiting

Run = Callable[..., tuple[int, str, str]]
HOST = "AE@host:104"


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`hooks` or `queue`: its exit code and what it printed."""
    ini = tmp_path / "DcmStore.ini"
    ini.write_text("port= 0\nIMG-DIR= images\nRDSR-DIR= rdsr\n")

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
    head, line = printed.splitlines()
    assert head.split() == ["KIND", "TARGET", "WAITING", "DEAD", "OLDEST", "NEXT", "TRY", "LAST", "REASON"]
    assert line.split()[:4] == ["forward", HOST, "1", "0"]
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
    (dead,) = record.pop("dead_jobs")
    moment = "2023-11-14T22:13:20.000Z"
    assert record == {
        "kind": "hook",
        "target": "run.sh",
        "waiting": 1,
        "dead": 1,
        "oldest": moment,
        "next_try": moment,
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


@pytest.mark.parametrize("chosen", [2, queue_listing.ALL])
def test_dead_jobs_are_tried_again(filled: Queue, run: Run, chosen: int) -> None:
    assert run("hooks", retry=chosen) == (0, "1 to be tried again\n", "")
    assert sorted(next_keys(filled)) == ["1", "2", "3"]


@pytest.mark.parametrize("chosen", [2, queue_listing.ALL])
def test_dead_jobs_are_dropped(filled: Queue, run: Run, chosen: int) -> None:
    assert run("hooks", drop=chosen) == (0, "1 dropped\n", "")
    assert [summary.dead for summary in overview.summaries(filled)] == [0, 0]


@pytest.mark.parametrize(("name", "chosen"), [("hooks", 1), ("hooks", 99), ("queue", 2), ("queue", queue_listing.ALL)])
def test_what_is_not_dead_is_left_alone(filled: Queue, run: Run, name: str, chosen: int) -> None:
    for act in ("retry", "drop"):
        assert run(name, **{act: chosen}) == (1, "", "dcmstore: no such job is dead\n")
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
    assert run("hooks", retry=queue_listing.ALL) == (1, "", "dcmstore: no such job is dead\n")
    assert not path.exists()


def test_a_queue_is_shown_while_another_program_has_it(filled: Queue, run: Run, path: Path) -> None:
    with locked(path):
        assert HOST in run("queue")[1]


def test_a_damaged_queue_is_an_error_that_says_what_to_do(run: Run, path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigurationError, match="move the file away"):
        run("queue")


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "alle", "٣", "9" * 19])
def test_what_is_no_id_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        queue_listing.dead_id(value)


def test_ids() -> None:
    assert (queue_listing.dead_id("17"), queue_listing.dead_id("All")) == (17, queue_listing.ALL)
