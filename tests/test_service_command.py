"""`dcmstore service`: the plans of a manager are shown or carried out, and told in words and exit codes."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dcmstore import cli, config
from dcmstore.config import Configuration
from dcmstore.doctor import account
from dcmstore.doctor.findings import Kind
from dcmstore.service import manager
from dcmstore.service.manager import Action, InstallOptions, NotAtWork, Plan, ServiceError, State, Status


class Manager:
    """A service manager of two actions, of which one may fail."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.status = Status(State.STOPPED)
        self.refusal = ""
        self.failure = ""
        self.without = ""
        self.lacking = ""
        self.outdated: Callable[[], list[str]] = list
        self.options: InstallOptions | None = None

    def _plan(self, verb: str) -> Plan:
        if self.refusal:
            raise NotAtWork(self.refusal)
        return Plan(
            (Action(f"first {verb}", self._first), Action(f"second {verb}", self._second, self.without)),
            "all done",
            self.lacking,
        )

    def _first(self) -> str:
        self.done.append("first")
        return ""

    def _second(self) -> str:
        if self.failure:
            raise ServiceError(self.failure)
        self.done.append("second")
        return "second says"

    def install(self, configuration: Configuration, options: InstallOptions) -> Plan:
        self.options = options
        return self._plan("install")

    def start(self) -> Plan:
        return self._plan("start")

    def stop(self) -> Plan:
        return self._plan("stop")

    def delete(self) -> Plan:
        return self._plan("delete")

    def reload(self) -> Plan:
        return self._plan("reload")

    def query(self) -> Status:
        return self.status


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Manager:
    made = Manager()
    monkeypatch.setattr(manager, "of_this_system", lambda: made)
    monkeypatch.chdir(tmp_path)
    cli.main(["init", "."])
    return made


VERBS = [["service", "install"], ["service", "start"], ["service", "stop"], ["service", "delete"], ["reload"]]


@pytest.mark.parametrize("words", VERBS)
def test_a_plan_is_carried_out_in_its_order_and_told(
    service: Manager, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.main(words) == 0
    assert service.done == ["first", "second"]
    assert capsys.readouterr().out == "second says\nall done\n"


@pytest.mark.parametrize("words", VERBS)
def test_a_dry_run_shows_the_plan_and_does_nothing(
    service: Manager, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.main([*words, "--dry-run"]) == 0
    assert service.done == []
    assert capsys.readouterr().out == f"first {words[-1]}\nsecond {words[-1]}\nthen it would say: all done\n"


def test_what_cannot_be_done_is_exit_code_1(service: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    service.refusal = "not installed; do this"
    assert cli.main(["service", "start"]) == 1
    assert capsys.readouterr().err == "dcmstore: not installed; do this\n"


def test_an_action_that_fails_ends_the_plan(service: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    service.failure = "access is denied"
    assert cli.main(["service", "stop"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "dcmstore: access is denied\n"
    assert "all done" not in captured.out


def test_an_extra_that_fails_is_told_and_the_plan_goes_on(service: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    service.failure, service.without = "not supported", "it will not be restarted after a failure"
    assert cli.main(["service", "install"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "dcmstore: not supported; it will not be restarted after a failure\n"
    assert captured.out.endswith("all done\n")


def test_install_takes_an_account_and_the_firewall(service: Manager) -> None:
    assert cli.main(["service", "install", "--account", "lab", "--firewall"]) == 0
    assert service.options == InstallOptions(account="lab", firewall=True)


def test_install_needs_the_root_folders(service: Manager, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "received/rdsr").rmdir()
    assert cli.main(["service", "install"]) == 2
    assert "RDSR-DIR" in capsys.readouterr().err
    assert service.done == []


@pytest.mark.parametrize(
    ("state", "code"),
    [(State.RUNNING, 0), (State.STARTING, 3), (State.STOPPING, 3), (State.STOPPED, 3), (State.NOT_INSTALLED, 4)],
)
def test_a_query_is_answered_in_words_and_by_exit_code(
    service: Manager, state: State, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    service.status = Status(state, Path("/lab/DcmStore.ini"), ("since noon",))
    assert cli.main(["service", "query"]) == code
    assert capsys.readouterr().out == f"{state.value}, with /lab/DcmStore.ini\n  since noon\n"


@pytest.mark.parametrize("verb", ["start", "stop", "delete"])
def test_the_service_of_another_folder_is_left_alone(
    service: Manager, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other/DcmStore.ini"
    other.touch()
    service.status = Status(State.RUNNING, other)
    assert cli.main(["service", verb, "--config", str(tmp_path / "DcmStore.ini")]) == 1
    assert f"belongs to {other}" in capsys.readouterr().err
    assert service.done == []
    assert cli.main(["service", verb, "--config", str(other)]) == 0


def test_the_service_of_a_folder_that_is_gone_can_be_deleted_from_another_one(service: Manager) -> None:
    service.status = Status(State.STOPPED, Path("/gone/DcmStore.ini"))
    assert cli.main(["service", "delete", "--config", "DcmStore.ini"]) == 0


def test_what_is_not_enough_is_told_and_is_exit_code_1(service: Manager, capsys: pytest.CaptureFixture[str]) -> None:
    service.lacking = "installed, but\ndo this first"
    capsys.readouterr()
    assert cli.main(["service", "install", "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("then it would say: installed, but\ndo this first\n")
    assert cli.main(["service", "install"]) == 1
    assert service.done == ["first", "second"]
    assert capsys.readouterr().err == "dcmstore: installed, but\ndo this first\n"


def test_a_reload_without_a_service_says_what_a_receiver_in_a_terminal_hears(
    service: Manager, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refusal = "not installed; do this"
    capsys.readouterr()
    assert cli.main(["reload", "--config", str(tmp_path / "missing.ini")]) == 1
    told = "dcmstore: not installed; do this. What `dcmstore run` started reads it again at `kill -HUP {}`\n"
    assert capsys.readouterr().err == told.format("PID")
    with socket.create_server(("127.0.0.1", 0)) as other:  # of this process, which the signal would end
        (tmp_path / "DcmStore.ini").write_text(f"port= {other.getsockname()[1]}\n")
        assert cli.main(["reload"]) == 1
    assert capsys.readouterr().err == told.format("PID")
    (tmp_path / "DcmStore.ini").write_text("port= many\n")
    assert cli.main(["reload"]) == 2
    assert re.search(r"line 1: port= 'many': .*; the settings from before stay in force", capsys.readouterr().err)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_reload_names_the_process_that_dcmstore_run_is(
    service: Manager, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.refusal = "not installed; do this"
    ini = tmp_path / "DcmStore.ini"
    ini.write_text("port= 0\nbind= 127.0.0.1\n")
    command = [sys.executable, "-m", "dcmstore", "run", "--config", str(ini)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as receiver:
        assert receiver.stderr is not None
        match = re.search(r"receiver\.listening .*port=(\d+)", receiver.stderr.readline())
        assert match
        ini.write_text(f"port= {match[1]}\n")
        assert cli.main(["reload"]) == 1
        receiver.terminate()
        receiver.communicate(timeout=60)
    assert f"`kill -HUP {receiver.pid}`" in capsys.readouterr().err


def test_doctor_tells_what_the_service_does_not_follow(
    service: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "_has_services", lambda: True)
    service.status = Status(State.RUNNING, tmp_path / "DcmStore.ini")
    service.outdated = lambda: ["one line", "another"]
    found = list(account.findings(config.read(tmp_path / "DcmStore.ini")))
    assert [finding.text for finding in found if finding.kind is Kind.FAIL][:2] == ["one line", "another"]
    assert service.done == []


def test_the_manager_of_this_system_is_there() -> None:
    found: Callable[[], object] = manager.of_this_system
    assert type(found()).__name__ == "SystemdManager"
