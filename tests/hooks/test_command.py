"""Commands, run as real processes."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from dcmstore.hooks import command, groups, processes
from dcmstore.hooks.command import CommandHandler
from tests.hooks.support import FACTS, WAIT, doing, failure, job, python, wait_for, wait_for_file

TELL = """
import json, os, sys
with open(sys.argv[1], "w", encoding="utf-8") as file:
    facts = {name: value for name, value in os.environ.items() if name.startswith("DCMSTORE_")}
    json.dump([sys.argv[2:], facts, sys.stdin.read()], file)
"""
# Tells its number and that of a child, which outlives it if it may, and then does what is put in
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.replace(sys.argv[1] + ".new", sys.argv[1])
"""

_on_posix = pytest.mark.skipif(os.name == "nt", reason="signals and sessions")


@pytest.fixture
def handler() -> CommandHandler:
    return CommandHandler(WAIT)


if sys.platform == "win32":
    import ctypes

    _SYNCHRONIZE, _TIMED_OUT = 0x100000, 258

    def _is_running(pid: int) -> bool:
        kernel = ctypes.WinDLL("kernel32")
        handle = kernel.OpenProcess(_SYNCHRONIZE, False, pid)
        if not handle:
            return False
        state = kernel.WaitForSingleObject(handle, 0)
        kernel.CloseHandle(handle)
        return bool(state == _TIMED_OUT)

else:

    def _is_running(pid: int) -> bool:
        """A zombie has ended."""
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        return state != "Z"


def _wait_until_ended(*pids: int) -> None:
    wait_for(lambda: not any(map(_is_running, pids)))


def test_a_command_gets_its_arguments_the_attributes_and_no_input(handler: CommandHandler, tmp_path: Path) -> None:
    told = tmp_path / "told"
    handler.do(job(python(tmp_path, TELL, f'"{told}" {{path}} "x {{patient_name}} y"')))
    arguments, environment, standard_input = json.loads(told.read_text(encoding="utf-8"))
    assert arguments == [FACTS["path"], "x Doe^Jane y"]
    assert environment["DCMSTORE_PATIENT_ID"] == "4711"
    assert environment["DCMSTORE_EVENT"] == "stored"
    assert standard_input == ""


def test_a_hostile_value_is_one_argument(handler: CommandHandler, tmp_path: Path) -> None:
    told, hostile = tmp_path / "told", '" ; touch x & "%PATH%" $(id) \\" Mü'
    handler.do(job(python(tmp_path, TELL, f'"{told}" n={{patient_name}} end'), {**FACTS, "patient_name": hostile}))
    assert json.loads(told.read_text(encoding="utf-8"))[0] == [f"n={hostile}", "end"]


def test_a_command_that_fails_is_told_with_its_exit_code_and_its_last_line(
    handler: CommandHandler, tmp_path: Path
) -> None:
    source = "import sys; print('first'); print('no licence\\n', file=sys.stderr, flush=True); sys.exit(3)"
    error = failure(handler, job(python(tmp_path, source)))
    assert str(error) == "exit code 3; it wrote at last: no licence (before that: first)"
    assert error.is_about_one
    assert not error.is_final


def test_a_command_that_says_nothing_is_told_so(handler: CommandHandler, tmp_path: Path) -> None:
    assert str(failure(handler, job(python(tmp_path, "raise SystemExit(2)")))) == "exit code 2; it wrote nothing"


@pytest.mark.parametrize(("shows_patient", "words"), [(False, "bad: * *"), (True, "bad: Doe 4711")])
def test_the_patient_is_told_only_where_it_may_be(tmp_path: Path, shows_patient: bool, words: str) -> None:
    handler = CommandHandler(WAIT, shows_patient=lambda: shows_patient)
    error = failure(handler, job(python(tmp_path, "print('bad: Doe 4711'); raise SystemExit(1)")))
    assert str(error) == f"exit code 1; it wrote at last: {words}"


def test_of_megabytes_the_end_is_kept(handler: CommandHandler, tmp_path: Path) -> None:
    source = "import sys\nfor _ in range(8): sys.stdout.write('é' * 1_000_000)\nprint('\\nthe end')\nsys.exit(1)"
    began = str(
        failure(handler, job(python(tmp_path, "import sys; sys.stdout.reconfigure(encoding='utf-8')\n" + source)))
    )
    assert began.startswith("exit code 1; it wrote at last: the end (before that: éééé")
    assert len(began) < processes.MAX_OUTPUT + 100


@_on_posix
def test_memory_does_not_grow_with_what_a_command_writes(handler: CommandHandler, tmp_path: Path) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        handler.do(job(python(tmp_path, "import sys\nfor _ in range(64): sys.stdout.write('x' * 1_000_000)")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def test_a_program_that_is_not_there_may_come_later(handler: CommandHandler) -> None:
    error = failure(handler, job("no-such-program-of-ours {path}"))
    assert "no-such-program-of-ours: there is no such program; install it, or give its whole path" in str(error)
    assert not error.is_final


@_on_posix
def test_a_file_that_is_no_program_is_told(handler: CommandHandler, tmp_path: Path) -> None:
    text = tmp_path / "script.txt"
    text.write_text("no program\n")
    assert "let the user that runs dcmstore execute it" in str(failure(handler, job(f'"{text}"')))
    text.chmod(0o755)
    assert "begin the line with the one that runs it" in str(failure(handler, job(f'"{text}"')))


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    told = tmp_path / "told"
    handler = CommandHandler(2.0)
    began = time.monotonic()
    error = failure(
        handler, job(python(tmp_path, PARENT + "print('waiting', flush=True); time.sleep(600)", f'"{told}"'))
    )
    assert str(error).startswith(
        "ended after 2 seconds; raise `hook-timeout` if it needs longer; it wrote at last: wait"
    )
    assert not error.is_final
    assert time.monotonic() - began < WAIT
    _wait_until_ended(*map(int, wait_for_file(told).split()))


@_on_posix
def test_a_command_that_does_not_want_to_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.2)
    told = tmp_path / "told"
    source = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PARENT + "time.sleep(600)"
    failure(CommandHandler(2.0), job(python(tmp_path, source, f'"{told}"')))
    _wait_until_ended(*map(int, wait_for_file(told).split()))


@_on_posix
def test_a_command_may_tidy_up_when_it_is_ended(tmp_path: Path) -> None:
    told = tmp_path / "told"
    source = (
        "import signal, sys, time\n"
        "def tidy(*_):\n    open(sys.argv[1], 'w').write('tidy'); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, tidy)\ntime.sleep(600)"
    )
    failure(CommandHandler(2.0), job(python(tmp_path, source, f'"{told}"')))
    assert told.read_text() == "tidy"


def test_a_child_that_outlives_its_command_is_ended(handler: CommandHandler, tmp_path: Path) -> None:
    told = tmp_path / "told"
    began = time.monotonic()
    handler.do(job(python(tmp_path, PARENT, f'"{told}"')))
    assert time.monotonic() - began < WAIT
    _wait_until_ended(int(wait_for_file(told).split()[1]))


@_on_posix
def test_a_daemon_with_a_session_of_its_own_holds_nothing_up(handler: CommandHandler, tmp_path: Path) -> None:
    source = PARENT.replace('time.sleep(600)"]', 'time.sleep(600)"], start_new_session=True')
    told = tmp_path / "told"
    began = time.monotonic()
    handler.do(job(python(tmp_path, source, f'"{told}"')))
    daemon = int(wait_for_file(told).split()[1])
    try:
        assert time.monotonic() - began < WAIT
        assert _is_running(daemon)
        wait_for(lambda: not any(thread.name == "hook output" for thread in threading.enumerate()))
    finally:
        os.kill(daemon, 9)


def test_when_the_receiver_stops_a_command_that_is_nearly_done_ends_by_itself(tmp_path: Path) -> None:
    told, go = tmp_path / "told", tmp_path / "go"
    source = (
        "import os, sys, time\nopen(sys.argv[1], 'w').close()\nwhile not os.path.exists(sys.argv[2]): time.sleep(0.02)"
    )
    handler = CommandHandler(600)
    with doing(handler, job(python(tmp_path, source, f'"{told}" "{go}"'))) as failures:
        wait_for(told.exists)
        handler.close()
        go.touch()
    assert failures == []


def test_when_the_receiver_stops_a_command_is_ended_and_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "TO_FINISH", 0.1)
    told = tmp_path / "told"
    handler = CommandHandler(600)
    with doing(handler, job(python(tmp_path, PARENT + "time.sleep(600)", f'"{told}"'))) as failures:
        pids = wait_for_file(told).split()
        handler.close()
    (error,) = failures
    assert "for the receiver stops; it is done again" in str(error)
    assert not error.is_final
    _wait_until_ended(*map(int, pids))
    assert "the receiver stops" in str(failure(handler, job(f'"{sys.executable}" -c pass')))


@_on_posix
def test_a_command_has_no_other_files_of_ours(handler: CommandHandler, tmp_path: Path) -> None:
    told = tmp_path / "told"
    source = "import os, sys; open(sys.argv[1], 'w').write(' '.join(os.listdir('/proc/self/fd')))"
    with open(tmp_path / "ours", "w") as ours:
        os.set_inheritable(ours.fileno(), True)
        handler.do(job(python(tmp_path, source, f'"{told}"')))
        assert str(ours.fileno()) not in told.read_text().split()[3:]


def test_a_line_that_is_none_any_more_ends_the_job(handler: CommandHandler) -> None:
    assert failure(handler, job('"tool')).is_final


def test_commands_run_at_the_same_time(handler: CommandHandler, tmp_path: Path) -> None:
    """Each waits until the other is there."""
    source = (
        "import os, sys, time\nopen(sys.argv[1], 'w').close()\nwhile not os.path.exists(sys.argv[2]): time.sleep(0.02)"
    )
    one, other = tmp_path / "one", tmp_path / "other"
    line = python(tmp_path, source)
    with doing(handler, job(f'{line} "{one}" "{other}"')) as failures:
        handler.do(job(f'{line} "{other}" "{one}"'))
    assert failures == []


@pytest.mark.skipif(os.name != "nt", reason="batch files")
def test_a_batch_file_gets_its_arguments_and_nothing_that_is_a_command(handler: CommandHandler, tmp_path: Path) -> None:
    told, batch = tmp_path / "told", tmp_path / "tell.bat"
    batch.write_text(f'@echo [%~1][%DCMSTORE_PATIENT_ID%][%DCMSTORE_PATIENT_NAME%]> "{told}"\r\n')
    handler.do(job(f'"{batch}" n:{{modality}}', {**FACTS, "patient_name": "a&echo hacked"}))
    assert told.read_text().strip() == "[n:MR][4711][]"
    error = failure(handler, job(f'"{batch}" n:{{patient_name}}', {**FACTS, "patient_name": 'a"&echo hacked'}))
    assert error.is_final


@pytest.mark.skipif(os.name != "nt", reason="job objects")
@pytest.mark.parametrize(
    ("library", "function", "answer", "words"),
    [
        ("_kernel", "AssignProcessToJobObject", 0, "does not let it be ended together with what it starts: "),
        ("", "_resume", -0x3FFFFFDE, "does not let it begin: NTSTATUS C0000022"),
    ],
)
def test_a_program_that_can_not_be_held_together_does_not_begin(
    handler: CommandHandler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    function: str,
    answer: int,
    words: str,
) -> None:
    monkeypatch.setattr(getattr(groups, library) if library else groups, function, lambda *_: answer)
    started = []
    start = groups._started

    def keep(*arguments: object, **how: object) -> object:
        started.append(start(*arguments, **how))  # type: ignore[arg-type]
        return started[0]

    monkeypatch.setattr(groups, "_started", keep)
    error = failure(handler, job(python(tmp_path, "import time; time.sleep(600)")))
    assert words in str(error)
    assert not error.is_final
    assert not _is_running(started[0].pid)
