"""The command, run as a process: what it prints, what it makes, and its exit codes."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore import cli, config
from dcmstore.settings import keys_in_order
from tests.support import Peer, data_set, store_request

COMMAND = [sys.executable, "-m", "dcmstore"]


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as `init` makes it, with any free port."""
    assert run("init", ".", cwd=tmp_path).returncode == 0
    set_key(tmp_path, "port", "0")
    return tmp_path


def set_key(folder: Path, key: str, value: str) -> None:
    ini = folder / "DcmStore.ini"
    ini.write_text(re.sub(rf"(?m)^{key}=.*$", lambda _: f"{key}= {value}", ini.read_text()))


@pytest.fixture
def process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*COMMAND, "run"], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        yield started
        started.kill()


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    line = process.stderr.readline()
    match = re.search(r"receiver\.listening ae=DCMSTORE port=(\d+) images=\S+/images rdsr=\S+/rdsr", line)
    assert match, line
    return int(match[1])


def test_init_makes_a_commented_ini_and_both_folders(tmp_path: Path) -> None:
    done = run("init", "new/place", cwd=tmp_path)
    assert done.returncode == 0
    place = tmp_path / "new" / "place"
    assert (place / "DcmStore.ini").read_text() == config.sample()
    assert (place / "received" / "images").is_dir()
    assert (place / "received" / "rdsr").is_dir()


def test_init_leaves_alone_what_is_there(folder: Path) -> None:
    before = (folder / "DcmStore.ini").read_bytes()
    done = run("init", ".", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.count("kept") == 3
    assert (folder / "DcmStore.ini").read_bytes() == before


def test_run_says_where_it_listens_and_a_line_an_object(process: subprocess.Popen[str], folder: Path) -> None:
    with Peer(port_of(process)) as peer:
        peer.associate()
        assert peer.store(data_set()).status == 0
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert re.search(r"instance\.stored .*uid=1\.2\.3\.4 outcome=stored .*path=\*/7/3/1\.2\.3\.4\.dcm", log)
    assert "PAT1" not in log
    assert "receiver.stopped" in log
    assert (folder / "received/images/PAT1/7/3/1.2.3.4.dcm").exists()
    assert "instance.stored" in (folder / "DcmStore.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_nothing_behind(process: subprocess.Popen[str], folder: Path, number: signal.Signals) -> None:
    port_of(process)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert {path.name for path in (folder / "received").rglob("*")} == {"images", "rdsr"}


def test_what_a_killed_run_left_is_removed_at_the_next_start(process: subprocess.Popen[str], folder: Path) -> None:
    with Peer(port_of(process)) as peer:
        peer.associate()
        peer.send(store_request(data_set(pixels=bytes(3000)))[:-100])
        incoming = folder / "received/images/.incoming"
        while not list(incoming.glob("*.part")):
            pass
        process.kill()
        process.communicate(timeout=20)
    assert list(incoming.glob("*.part"))
    with subprocess.Popen([*COMMAND, "run"], cwd=folder, stderr=subprocess.PIPE, text=True) as again:
        assert again.stderr is not None
        assert "store.cleared unfinished_objects=1" in again.stderr.readline()
        assert not list(incoming.glob("*.part"))
        again.send_signal(signal.SIGTERM)
        again.communicate(timeout=20)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("port", "lots", r"DcmStore\.ini, line \d+: port= 'lots': allowed is a whole number from 0 to 65535"),
        ("IMG-DIR", "nowhere", r"line \d+: IMG-DIR= \S+/nowhere does not exist; make it, or let `dcmstore init`"),
        ("RDSR-DIR", "DcmStore.ini", r"RDSR-DIR= \S+DcmStore\.ini is not a folder"),
        ("bind", "no.such.host.invalid", r"bind= 'no\.such\.host\.invalid': not an address"),
    ],
)
def test_run_refuses_a_wrong_setting_in_one_line(folder: Path, key: str, value: str, expected: str) -> None:
    set_key(folder, key, value)
    done = run("run", cwd=folder)
    assert done.returncode == 2
    assert re.search(expected, done.stderr)
    assert "Traceback" not in done.stderr
    assert not (folder / "nowhere").exists()


def test_run_says_that_its_port_is_taken(folder: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        set_key(folder, "port", str(taken.getsockname()[1]))
        set_key(folder, "bind", "0.0.0.0")
        done = run("run", cwd=folder)
    assert done.returncode == 1
    assert re.search(r"ERROR   receiver\.failed reason=.*Address already in use.* what_to_do=", done.stderr)


def test_check_shows_every_setting_and_where_it_came_from(folder: Path) -> None:
    done = run("check", cwd=folder)
    assert done.returncode == 0, done.stdout
    for _, key in keys_in_order():
        assert re.search(rf"(?m)^{re.escape(key.name)}= .*\(line \d+\)$", done.stdout), key.name
    assert "FAIL" not in done.stdout


def test_check_finds_what_run_will_miss(folder: Path) -> None:
    (folder / "received/images").rmdir()
    with socket.create_server(("", 0)) as taken:
        set_key(folder, "port", str(taken.getsockname()[1]))
        set_key(folder, "bind", "0.0.0.0")
        done = run("check", cwd=folder)
    assert done.returncode == 1
    assert re.search(r"FAIL  .*IMG-DIR= .* does not exist", done.stdout)
    assert re.search(r"FAIL  port \d+: Address already in use", done.stdout)


def test_where_prints_the_place_and_touches_nothing(folder: Path, tmp_path: Path) -> None:
    dicom, text = tmp_path / "a.dcm", tmp_path / "b.txt"
    dicom.write_bytes(bytes(128) + b"DICM" + data_set())
    text.write_text("no DICOM at all")
    done = run("where", dicom, text, tmp_path / "missing", cwd=folder)
    assert done.returncode == 1
    assert done.stdout == f"{dicom} -> {folder}/received/images/PAT1/7/3/1.2.3.4.dcm\n"
    assert re.search(rf"dcmstore: {text}: ", done.stderr)
    assert re.search(r"dcmstore: \S+missing: No such file", done.stderr)
    assert list((folder / "received").rglob("*.dcm")) == []


def test_echo_says_whether_it_was_answered(process: subprocess.Popen[str], folder: Path) -> None:
    port = port_of(process)
    done = run("echo", "127.0.0.1", str(port), cwd=folder)
    assert done.returncode == 0
    assert re.fullmatch(rf"ANY-SCP at 127\.0\.0\.1 port {port} answered in [\d.]+ ms\n", done.stdout)


def test_echo_to_nobody_is_a_no(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = run("echo", "127.0.0.1", str(port), cwd=folder)
    assert done.returncode == 1
    assert done.stderr == f"dcmstore: 127.0.0.1 port {port}: Connection refused\n"


def test_echo_to_something_that_is_not_dicom_is_a_no(folder: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        subprocess.Popen(
            [*COMMAND, "echo", "127.0.0.1", str(server.getsockname()[1])], stderr=subprocess.PIPE, text=True
        ) as asking,
    ):
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            _, text = asking.communicate(timeout=20)
    assert asking.returncode == 1
    assert text.startswith("dcmstore: ")
    assert "Traceback" not in text


@pytest.mark.parametrize("arguments", [[], ["dance"], ["where"], ["echo", "host", "port"], ["run", "--verbose"]])
def test_wrong_usage_is_exit_code_2(folder: Path, arguments: list[str]) -> None:
    done = run(*arguments, cwd=folder)
    assert done.returncode == 2
    assert "usage: dcmstore" in done.stderr


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"dcmstore \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_run_refuses_a_folder_that_it_cannot_write(folder: Path) -> None:
    set_key(folder, "IMG-DIR", "/sys")  # not even root writes there
    done = run("run", cwd=folder)
    assert done.returncode == 2
    assert re.search(r"IMG-DIR= /sys can't be written: ", done.stderr)
