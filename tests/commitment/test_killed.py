"""What was promised is reported, whatever happens to the receiver in between."""

import subprocess
import sys
from pathlib import Path

from tests.commitment.support import WAIT, Wired
from tests.commitment.test_reported import Requestor, ask, kept, store
from tests.support import CT

PROJECT = Path(__file__).parents[2]


def test_a_receiver_that_is_killed_after_its_promise_reports_when_it_runs_again(tmp_path: Path) -> None:
    wired, requestor = Wired(tmp_path), Requestor()
    wired.peers["CT1"] = requestor.listen()
    command = [sys.executable, "-m", "tests.commitment.killed", str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        store(port, "1.2.1", "1.2.2")
        association = requestor.associate(port)
        assert ask(association, "1.2.1", "1.2.2") == 0x0000
        process.kill()
        process.wait(WAIT)

    with wired.running():
        event_type, report, where = requestor.report()
    assert (event_type, where) == (1, "new")
    assert kept(report) == [(CT, "1.2.1"), (CT, "1.2.2")]
    requestor.close()


def test_a_receiver_that_stops_reports_at_its_next_start(tmp_path: Path) -> None:
    requestor = Requestor()
    address = requestor.listen()
    with Wired(tmp_path, does_jobs=False).running() as first:
        store(first.port, "1.2.1")
        association = requestor.associate(first.port)
        assert ask(association, "1.2.1") == 0x0000
    with Wired(tmp_path, peers={"CT1": address}).running():
        assert requestor.report()[2] == "new"
    requestor.close()
