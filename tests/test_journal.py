"""Standard error in the journal: priorities in place of times, and only where the journal reads it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RUN = [sys.executable, "-m", "dcmstore", "run"]


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    for name in ("images", "rdsr"):
        (tmp_path / name).mkdir()
    path = tmp_path / "DcmStore.ini"
    path.write_text("port= 0\nbind= 127.0.0.1\nIMG-DIR= images\nRDSR-DIR= rdsr\nlogfile= 1\nunheard-of= 1\n")
    return path


def lines_of_a_run(ini: Path, *, is_journal: bool = True) -> list[str]:
    """What stands on standard error when the receiver is started and stopped; a pipe plays the journal."""
    reading, writing = os.pipe()
    status = os.fstat(writing)
    stream = f"{status.st_dev}:{status.st_ino if is_journal else status.st_ino + 1}"
    environment = {**os.environ, "JOURNAL_STREAM": stream}
    lines = []
    with (
        os.fdopen(reading) as told,
        subprocess.Popen([*RUN, "--config", str(ini)], env=environment, stderr=writing) as process,
    ):
        os.close(writing)
        for line in told:
            lines.append(line)
            if "receiver.listening" in line:
                process.send_signal(signal.SIGTERM)
    return lines


def test_a_level_becomes_a_priority_and_the_time_is_left_out(ini: Path) -> None:
    lines = lines_of_a_run(ini)
    assert lines[0].startswith("<4>WARNING config.warning text=")
    assert lines[1].startswith("<6>INFO    receiver.listening ")
    assert all(re.match(r"<[3467]>[A-Z]+ +[a-z]+\.", line) for line in lines)


def test_the_log_file_keeps_its_times(ini: Path) -> None:
    lines_of_a_run(ini)
    written = (ini.parent / "DcmStore.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ [A-Z]+ ", line) for line in written)
    assert any("receiver.listening" in line for line in written)


def test_a_configuration_error_is_of_the_priority_of_errors(ini: Path) -> None:
    ini.write_text("port= lots\n")
    (line,) = lines_of_a_run(ini)
    assert line.startswith(f"<3>dcmstore: {ini}, line 1: port= 'lots'")


def test_another_stream_has_times_and_no_priorities(ini: Path) -> None:
    lines = lines_of_a_run(ini, is_journal=False)
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+ [A-Z]+ ", line) for line in lines)
