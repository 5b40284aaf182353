"""Jobs of hooks, with facts as the index has them, and programs that do what a test wants."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from dcmstore.hooks import COMMAND
from dcmstore.jobs.work import Handler, Job, JobFailed

WAIT = 20.0  # seconds until a test gives up

FACTS: Mapping[str, str | int] = {
    "event": "stored",
    "path": "/data/images/4711/7/3/1.2.3.4.dcm",
    "root": "/data/images",
    "root_key": "images",
    "folder": "/data/images/4711/7/3",
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
    "sop_instance_uid": "1.2.3.4",
    "transfer_syntax": "1.2.840.10008.1.2.1",
    "study_instance_uid": "1.9.1",
    "series_instance_uid": "1.9.1.3",
    "patient_id": "4711",
    "patient_name": "Doe^Jane",
    "birth_date": "19700101",
    "study_id": "7",
    "study_date": "20261125",
    "accession_number": "ACC9",
    "study_description": "Thorax",
    "modality": "MR",
    "series_number": "3",
    "series_description": "lung",
    "instance_number": "12",
    "calling_ae_title": "MR1",
    "host": "192.0.2.7",
    "stored_at": "2026-11-25T20:19:00.000Z",
    "size": 1234,
    "sha256": "ab" * 32,
}
_OF_INSTANCE = ("path", "sop_instance_uid", "transfer_syntax", "series_instance_uid", "series_number",
                "series_description", "instance_number", "size", "sha256")  # fmt: skip
STUDY: Mapping[str, str | int] = {
    **{name: value for name, value in FACTS.items() if name not in _OF_INSTANCE},
    "event": "study-complete",
    "folder": "/data/images/4711/7",
    "instances": 2,
    "reason": "quiet",
    "first_stored_at": "2026-11-25T20:18:00.000Z",
    "event_at": "2026-11-25T20:20:00.000Z",
}


def job(target: str, facts: Mapping[str, str | int] = FACTS, *, kind: str = COMMAND, key: str = "1") -> Job:
    return Job(kind, target, key, "1.9.1", facts)


def python(tmp_path: Path, source: str, arguments: str = "") -> str:
    """A command line that runs this source."""
    script = tmp_path / "program.py"
    script.write_text(source, encoding="utf-8")
    return f'"{sys.executable}" "{script}" {arguments}'.rstrip()


def failure(handler: Handler, failing: Job) -> JobFailed:
    with pytest.raises(JobFailed) as caught:
        handler.do(failing)
    return caught.value


@contextmanager
def doing(handler: Handler, begun: Job) -> Iterator[list[JobFailed]]:
    """The job is done on a thread; behind the block it has ended, and the list has its failure."""
    failures: list[JobFailed] = []

    def do() -> None:
        try:
            handler.do(begun)
        except JobFailed as error:
            failures.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    yield failures
    thread.join(WAIT)
    assert not thread.is_alive()


def wait_for(what: Callable[[], object]) -> None:
    tick = threading.Event()
    for _ in range(int(WAIT / 0.02)):
        if what():
            return
        tick.wait(0.02)
    raise AssertionError("it did not happen")


def wait_for_file(path: Path) -> str:
    """What a program has written there, once it has."""
    wait_for(lambda: path.exists() and path.stat().st_size)
    return path.read_text(encoding="utf-8")
