"""The real scripts under Wine's cmd: the life of the service from install to delete, told once and looked at often."""

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import dcmstore
from dcmstore import uids
from dcmstore.storage import part10
from dcmstore.storage.part10 import FileMeta
from tests.support import CT, data_set, stored_data_set
from tests.windows.wine import Answer, Machine
from tools.programs import find_program

BUILD = Path(__file__).resolve().parents[2] / "build" / "windows"
BUNDLE = BUILD / "dist" / f"DcmStoreService-{dcmstore.__version__}-win64"
STARTS = 40  # looks at a service that starts with the machine; each takes about half a second


class Folder:
    """The unzipped bundle on a machine: its scripts, run as an administrator's are, from another folder."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.path = machine.disk / name
        subprocess.run(["cp", "-r", BUNDLE, self.path], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.change("port= 11112", f"port= {self.port}")
        self.change("bind=", "bind= 127.0.0.1")

    def change(self, old: str, new: str) -> None:
        ini = self.path / "DcmStore.ini"
        text = ini.read_bytes().decode("utf-8")
        assert len(re.findall(f"(?m)^{re.escape(old)}\r$", text)) == 1, old
        ini.write_bytes(re.sub(f"(?m)^{re.escape(old)}\r$", f"{new}\r", text).encode("utf-8"))

    def script(self, name: str, *arguments: str) -> Answer:
        return self.machine.run("cmd", "/c", self.machine.path(self.path / f"{name}.bat"), *arguments)

    def log(self) -> str:
        return (self.path / "DcmStore.log").read_text(encoding="utf-8")

    def echo(self) -> int:
        return subprocess.run(
            [program("echoscu"), "127.0.0.1", str(self.port)], capture_output=True, timeout=60
        ).returncode

    def send(self, folder: Path, uid: str, sender: str) -> int:
        """One CT image by this program; its exit code."""
        meta = FileMeta(CT, uid, uids.EXPLICIT_VR_LITTLE_ENDIAN, "SCANNER")
        file = folder / f"{uid}.dcm"
        file.write_bytes(part10.encode(meta) + data_set(uid))
        command = [program(sender), "127.0.0.1", str(self.port), str(file)]
        return subprocess.run(command, capture_output=True, timeout=60).returncode

    def images(self) -> dict[str, bytes]:
        found = (self.path / "received" / "images").rglob("*.dcm")
        return {path.name: stored_data_set(path) for path in found}

    def wait_until_running(self) -> Answer:
        for _ in range(STARTS):
            answer = self.script("query-service")
            if answer.code == 0:
                return answer
        return answer


def program(name: str) -> str:
    path = find_program(name)
    assert path is not None, f"{name} is not installed; `make test-windows` as root installs it"
    return path


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    made = Machine(BUILD / "wine-service")
    made.install()
    made.power_cut()
    made.power_on()  # what Wine itself writes at the first start is written
    yield made
    made.power_cut()


class Life:
    """What each step of a service's life answered, in order."""

    def __init__(self, machine: Machine, sent: Path) -> None:
        self.services_before, self.files_before = machine.services(), machine.files()
        folder = self.folder = Folder(machine, "Dicom Store")
        self.unzipped = machine.files()
        self.query_first = folder.script("query-service")
        self.install = folder.script("install-service")
        self.install_again = folder.script("install-service")
        self.query_installed = folder.script("query-service")
        self.start = folder.script("start-service")
        self.echo = folder.echo()
        self.stores = [folder.send(sent, "1.2.3.1", "storescu"), folder.send(sent, "1.2.3.2", "dcmsend")]
        self.query_running = folder.script("query-service")
        machine.power_cut()
        machine.power_on()
        self.query_after_boot = folder.wait_until_running()
        self.images_after_boot = folder.images()
        self.store_after_boot = folder.send(sent, "1.2.3.3", "storescu")
        folder.change("log-level= info", "log-level= debug")
        self.reload = folder.script("dcmstore", "reload")
        self.echo_after_reload = folder.echo()
        self.stop = folder.script("stop-service")
        self.echo_stopped = folder.echo()
        self.query_stopped = folder.script("query-service")
        self.start_again = folder.script("start-service")
        self.delete = folder.script("delete-service")  # while it runs
        self.query_deleted = folder.script("query-service")
        self.delete_again = folder.script("delete-service")
        self.services_after, self.files_after = machine.services(), machine.files()


@pytest.fixture(scope="module")
def life(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Life:
    return Life(machine, tmp_path_factory.mktemp("sent"))


def test_a_service_that_is_not_there_is_told_by_words_and_exit_code(life: Life) -> None:
    assert (life.query_first.code, life.query_first.text) == (4, "not installed\n")


def test_install_makes_the_folders_and_says_so(life: Life) -> None:
    assert life.install.code == 0, life.install
    assert re.search(r"made +C:\\Dicom Store\\received\\images\n", life.install.text)


def test_a_second_install_says_that_it_is_installed(life: Life) -> None:
    assert life.install_again.code == 1
    assert "already installed" in life.install_again.text


def test_an_installed_service_is_stopped(life: Life) -> None:
    assert life.query_installed.code == 3
    assert life.query_installed.text.startswith("stopped")


def test_a_started_service_answers_and_says_so(life: Life) -> None:
    assert life.start.code == 0, life.start
    assert life.echo == 0
    assert life.query_running.code == 0
    assert life.query_running.text.startswith("running")


def test_what_is_sent_is_stored_bit_for_bit(life: Life) -> None:
    assert life.stores == [0, 0]
    assert life.images_after_boot == {f"{uid}.dcm": data_set(uid) for uid in ("1.2.3.1", "1.2.3.2")}


def test_it_starts_with_the_machine_after_a_power_cut(life: Life) -> None:
    assert life.query_after_boot.code == 0, life.query_after_boot
    assert life.store_after_boot == 0
    assert len(life.folder.images()) == 3


def test_reload_takes_new_settings(life: Life) -> None:
    assert life.reload.code == 0, life.reload
    assert life.echo_after_reload == 0
    assert re.search(r"config\.reloaded changed=log-level", life.folder.log())


def test_stop_stops_and_says_so(life: Life) -> None:
    assert life.stop.code == 0, life.stop
    assert life.echo_stopped != 0
    assert life.query_stopped.code == 3
    assert "receiver.stopped" in life.folder.log()


def test_delete_stops_first(life: Life) -> None:
    assert life.start_again.code == 0, life.start_again
    assert life.delete.code == 0, life.delete
    assert life.query_deleted.code == 4
    assert life.folder.log().count("receiver.stopped") == 2


def test_deleting_what_is_not_there_says_so(life: Life) -> None:
    assert life.delete_again.code == 1
    assert "not installed" in life.delete_again.text


def test_the_registry_is_as_it_was(life: Life) -> None:
    assert life.services_after == life.services_before


def test_only_data_and_log_are_new(life: Life) -> None:
    new = {name.removeprefix("Dicom Store/") for name in life.files_after - life.unzipped}
    assert {name.partition("/")[0] for name in new} == {"DcmStore.log", "received"}


def test_nothing_is_gone(life: Life) -> None:
    assert life.unzipped <= life.files_after


# --- what can go wrong at the start ---------------------------------------------------------------


@pytest.fixture
def installed(machine: Machine, life: Life) -> Iterator[Folder]:
    """The folder of the life before, its service installed once more."""
    answer = life.folder.script("install-service")
    assert answer.code == 0, answer
    before = life.folder.log()
    (life.folder.path / "DcmStore.log").unlink()
    yield life.folder
    life.folder.script("delete-service")
    (life.folder.path / "DcmStore.log").write_text(before + life.folder.log(), encoding="utf-8")


def test_a_taken_port_ends_stopped_and_the_log_says_what_to_do(installed: Folder) -> None:
    with socket.create_server(("127.0.0.1", installed.port)):
        answer = installed.script("start-service")
    assert answer.code == 1
    assert str(installed.port) in answer.text
    assert installed.script("query-service").code == 3
    assert re.search(rf'ERROR .*reason="port {installed.port}: .*what_to_do=', installed.log())


def test_a_missing_folder_ends_stopped_and_the_log_says_what_to_do(installed: Folder) -> None:
    aside = (installed.path / "received" / "rdsr").rename(installed.path / "received" / "aside")
    try:
        answer = installed.script("start-service")
    finally:
        aside.rename(installed.path / "received" / "rdsr")
    assert answer.code == 1
    assert installed.script("query-service").code == 3
    assert re.search(r"ERROR .*rdsr does not exist; make it", installed.log())


# --- scripts and paths ----------------------------------------------------------------------------


def test_the_scripts_work_in_a_folder_with_signs_that_cmd_knows(machine: Machine, life: Life) -> None:
    folder = Folder(machine, "Röntgen (CT) & Dosis")
    answers = [
        machine.run("cmd", "/c", name, *arguments, cwd=folder.path)
        for name, *arguments in (
            ("query-service.bat",), ("dcmstore.bat", "--version"), ("install-service.bat",), ("delete-service.bat",)
        )
    ]  # fmt: skip
    assert [answer.code for answer in answers] == [4, 0, 0, 0], answers
    assert (folder.path / "received" / "images").is_dir()


def test_a_broken_ini_is_named_with_exit_code_2(machine: Machine, life: Life) -> None:
    folder = Folder(machine, "broken")
    folder.change(f"port= {folder.port}", "port= eleven")
    answer = folder.script("install-service")
    assert answer.code == 2
    assert "port= 'eleven': allowed is a whole number from 0 to 65535" in answer.text
    assert folder.script("query-service").code == 4
