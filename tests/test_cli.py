"""The command, run as a process: what it prints, what it makes, and its exit codes."""

import argparse
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dcmstore import cli, config, needs, wiring
from dcmstore.commands import echo, init
from dcmstore.doctor import needed
from dcmstore.errors import ConfigurationError
from dcmstore.settings import KEYS, Settings
from dcmstore.storage import files
from dcmstore.storage.filing import Root
from tests.certificates import DAY, Authority
from tests.support import Peer, data_set, element, store_request, wait_until

COMMAND = [sys.executable, "-m", "dcmstore"]


def run(*arguments: str | Path, cwd: Path, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, input=typed, capture_output=True, text=True, timeout=60)


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


def begin_an_object(peer: Peer, folder: Path) -> None:
    """Send most of an object; it is under way in the receiver when this returns."""
    peer.associate()
    peer.send(store_request(data_set(pixels=bytes(3000)))[:-100])
    wait_until(lambda: unfinished(folder))


def unfinished(folder: Path) -> list[Path]:
    return list((folder / "received/images/.incoming").glob("*.part"))


def test_init_makes_a_commented_ini_and_both_folders(tmp_path: Path) -> None:
    done = run("init", "new/place", cwd=tmp_path)
    assert done.returncode == 0
    place = tmp_path / "new" / "place"
    assert (place / "DcmStore.ini").read_text() == config.sample()
    assert (place / "received" / "images").is_dir()
    assert (place / "received" / "rdsr").is_dir()


@pytest.mark.skipif(os.name == "nt", reason="there the folder above says it")
def test_init_makes_root_folders_that_others_do_not_see_into(tmp_path: Path) -> None:
    done = subprocess.run(["sh", "-c", 'umask 0 && exec "$@"', "sh", *COMMAND, "init", "."], cwd=tmp_path, timeout=60)
    assert done.returncode == 0
    for name in ("images", "rdsr"):
        assert (tmp_path / "received" / name).stat().st_mode & 0o777 == 0o750


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


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no disk here that is always full")
def test_output_onto_a_full_disk_is_one_line(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "check"], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "dcmstore: the output can't be written: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="there it is another error")
def test_output_that_nobody_reads_is_no_error_to_tell(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "check"], cwd=folder, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(os.name == "nt", reason="there names are no bytes")
def test_a_name_that_the_environment_can_not_write_is_one_line(folder: Path) -> None:
    path = folder / "object"
    character_set = element(0x0008, 0x0005, "CS", b"ISO_IR 100")
    path.write_bytes(character_set + data_set(patient_id="M\u00fcller".encode("latin-1")))
    environment = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([*COMMAND, "where", "object"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"dcmstore: '\S+M\\xfcller' can't be written in ascii, .*; set PYTHONUTF8=1, .*\n", done.stderr)


def test_two_receivers_do_not_share_a_folder(process: subprocess.Popen[str], folder: Path) -> None:
    port = port_of(process)
    shutil.copy(folder / "DcmStore.ini", folder / "two.ini")
    second = run("run", "--config", "two.ini", cwd=folder)
    assert second.returncode == 1
    assert f"another receiver works with the folder {folder}, where its log, index and queue are" in second.stderr
    assert "stop that one, or give this one's ini a folder of its own" in second.stderr
    with Peer(port) as peer:
        peer.associate()
        assert peer.store(data_set()).status == 0
    process.kill()
    process.communicate(timeout=20)
    with subprocess.Popen([*COMMAND, "run"], cwd=folder, stderr=subprocess.PIPE, text=True) as again:
        port_of(again)  # what a killed one held is free
        again.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_leaves_nothing_behind(process: subprocess.Popen[str], folder: Path, number: signal.Signals) -> None:
    port_of(process)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert {path.name for path in (folder / "received").rglob("*")} == {"images", "rdsr"}


def test_what_a_killed_run_left_is_removed_at_the_next_start(process: subprocess.Popen[str], folder: Path) -> None:
    with Peer(port_of(process)) as peer:
        begin_an_object(peer, folder)
        process.kill()
        process.communicate(timeout=20)
    assert unfinished(folder)
    with subprocess.Popen([*COMMAND, "run"], cwd=folder, stderr=subprocess.PIPE, text=True) as again:
        assert again.stderr is not None
        assert "store.cleared unfinished_objects=1" in again.stderr.readline()
        assert not unfinished(folder)
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
    assert re.search(r"ERROR   receiver\.failed reason=\"port \d+: taken by .* what_to_do=", done.stderr)
    assert f"(process {os.getpid()})" in done.stderr


def test_check_shows_every_setting_and_where_it_came_from(folder: Path) -> None:
    done = run("check", cwd=folder)
    assert done.returncode == 0, done.stdout
    for _, key in KEYS.items():
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
    assert re.search(rf"FAIL  port \d+: taken by .*\(process {os.getpid()}\)", done.stdout)


def test_check_looks_at_certificates_and_users(folder: Path) -> None:
    issued = Authority().issue("receiver", ends=9 * DAY)
    issued.save(folder, "server")
    for key, value in {"tls-port": "2762", "tls-certificate": "server.pem", "tls-key": "server.key"}.items():
        set_key(folder, key, value)
    set_key(folder, "users", "DcmStore.users")
    done = run("check", cwd=folder)
    end = issued.certificate.not_valid_after_utc
    assert f"ok    tls-certificate {folder}/server.pem and its key can be used, until {end:%Y-%m-%d}" in done.stdout
    assert re.search(r"note  DcmStore\.ini, line \d+: tls-certificate= .*'receiver' expires on", done.stdout)
    expected = r"FAIL  DcmStore\.ini, line \d+: users= \S+DcmStore\.users: can't be read: .*`dcmstore user add NAME` "
    assert re.search(expected, done.stdout)
    assert done.returncode == 1
    assert run("user", "add", "ct1", cwd=folder, typed="secret\n").returncode == 0
    done = run("check", cwd=folder)
    assert f"ok    users {folder}/DcmStore.users: 1 user\n" in done.stdout
    assert done.returncode == 0
    (folder / "server.key").unlink()
    done = run("check", cwd=folder)
    assert re.search(r"FAIL  DcmStore\.ini, line \d+: tls-key= \S+server\.key: can't be read: No such", done.stdout)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"require-user": "1"}, "require-user= 1: there are no users; set users= to a file that "),
        ({"tls-only": "1"}, "tls-only= 1: allowed is 0, for there is no tls-port"),
        ({"tls-port": "2762"}, "tls-port= 2762: needs a tls-certificate"),
        (
            {"port": "2762", "tls-port": "2762", "tls-certificate": "server.pem"},
            "tls-port= 2762: is the same as port= 2762; ",
        ),
    ],
)
def test_keys_that_contradict_each_other_stop_run_and_are_a_fault_in_check(
    folder: Path, keys: dict[str, str], expected: str
) -> None:
    for key, value in keys.items():
        set_key(folder, key, value)
    done = run("run", cwd=folder)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert expected in done.stderr
    done = run("check", cwd=folder)
    assert done.returncode == 1
    assert re.search(rf"(?m)^FAIL  DcmStore\.ini, line \d+: {re.escape(expected)}", done.stdout)


def test_check_says_that_bind_is_wrong_with_its_line(folder: Path) -> None:
    set_key(folder, "bind", "192.0.2.77")
    done = run("check", cwd=folder)
    assert done.returncode == 1
    expected = r"FAIL  DcmStore\.ini, line \d+: bind= '192\.0\.2\.77': not an address of this machine; set it to an"
    assert re.search(expected, done.stdout)


@pytest.mark.parametrize(
    ("keys", "name", "setting"),
    [
        ({}, "DcmStore.log", "logfile= 1"),
        ({"audit": "file"}, "DcmStore.audit", "audit= file"),
        ({"dicomdir": "1"}, "DcmStore.dicomdir", "dicomdir= 1"),
    ],
)
def test_a_file_beside_the_ini_that_can_not_be_written_stops_run_and_is_a_fault_in_check(
    folder: Path, keys: dict[str, str], name: str, setting: str
) -> None:
    for key, value in keys.items():
        set_key(folder, key, value)
    (folder / name).mkdir()
    done = run("check", cwd=folder)
    assert done.returncode == 1
    expected = rf"DcmStore\.ini, line \d+: {setting}: \S+/{re.escape(name)} can't be written: Is a directory; see to "
    assert re.search(f"FAIL  {expected}", done.stdout)
    done = run("run", cwd=folder)
    assert done.returncode == 2
    assert re.search(expected, done.stderr)


def test_check_makes_no_file(folder: Path) -> None:
    set_key(folder, "audit", "file")
    set_key(folder, "dicomdir", "1")
    before = sorted(folder.rglob("*"))
    assert run("check", cwd=folder).returncode == 0
    assert sorted(folder.rglob("*")) == before


def test_check_says_that_something_is_in_the_way_of_objects_under_way(folder: Path) -> None:
    (folder / "received/rdsr/.incoming").write_text("in the way")
    done = run("check", cwd=folder)
    assert done.returncode == 1
    assert re.search(r"FAIL  \S+/rdsr/\.incoming, where objects under way are, is not a folder", done.stdout)


def test_check_says_that_an_empty_file_of_users_lets_nobody_send(folder: Path) -> None:
    set_key(folder, "users", "DcmStore.users")
    set_key(folder, "require-user", "1")
    (folder / "DcmStore.users").write_text("")
    done = run("check", cwd=folder)
    assert done.returncode == 0
    assert re.search(r"note  users \S+: 0 users: nobody may send; `dcmstore user add NAME` adds one", done.stdout)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no syslog, which `run` refuses")
def test_check_says_that_this_system_has_no_log_for_the_audit_trail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ini = tmp_path / "DcmStore.ini"
    ini.write_text("audit= syslog\n")
    for name, count in (("none", 1), ("DcmStore.ini", 0)):
        monkeypatch.setattr(needed, "LOCAL_LOG", str(tmp_path / name))
        found = [str(finding) for finding in needed.findings(config.read(ini), None)]
        assert sum("line 1: audit= syslog: this system has no" in line for line in found) == count


def test_check_names_hosts_that_can_not_be_looked_up(folder: Path) -> None:
    set_key(folder, "allowed-hosts", "localhost, no-such-host.invalid")
    set_key(folder, "allowed-ae", "CT1@other-host.invalid, CT2@192.0.2.1")
    done = run("check", cwd=folder)
    assert done.returncode == 0
    found = re.findall(r"(?m)^note  DcmStore\.ini, line \d+: (\S+ \S+): this name can't be looked up now", done.stdout)
    assert found == ["allowed-hosts= no-such-host.invalid", "allowed-ae= other-host.invalid"]


def test_the_values_that_check_shows_stand_below_each_other(folder: Path) -> None:
    shown = run("check", cwd=folder).stdout.split("\n\n")[0].splitlines()
    column = shown[0].index("DCMSTORE")
    assert all(re.fullmatch(r"\S+= +", line[:column]) for line in shown)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(13, "Permission denied"), "can't be looked at: Permission denied; let the user that runs "),
        (OSError(5, "Input/output error"), "can't be looked at: Input/output error; see to that disk or share, or "),
        (OSError(116, "Stale file handle"), "can't be looked at: Stale file handle; see to that disk or share, or "),
        (NotADirectoryError(20, "Not a directory"), "does not exist; make it, or let `dcmstore init` make it"),
    ],
)
def test_a_root_folder_that_can_not_be_looked_at_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, text: str
) -> None:
    def broken(path: object, **_: object) -> None:
        raise error

    monkeypatch.setattr(needs.os, "stat", broken)
    assert needs.absence(tmp_path).startswith(text)
    assert needs.folder_problem(tmp_path).startswith(text)


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "make room on that disk"), (errno.EACCES, "let the user"), (errno.EROFS, "mount that disk")],
)
def test_a_root_folder_that_can_not_be_written_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    def broken(**_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(needs.tempfile, "TemporaryFile", broken)
    assert needs.folder_problem(tmp_path).startswith(f"can't be written: no; {advice}")
    assert bool(needs.folder_problem(tmp_path, may_be_full=True)) is (code != errno.ENOSPC)


@pytest.mark.skipif(os.name == "nt", reason="ports are anybody's there")
def test_a_port_that_needs_root_is_told_with_what_to_do() -> None:
    assert needs.port_advice(PermissionError(13, "no")).startswith("ports below 1024 are for root, and for the service")
    assert needs.port_advice(OSError(errno.EADDRINUSE, "no")) == needs.PORT_ADVICE


def test_init_leaves_no_half_of_an_ini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(ConfigurationError) as caught:
        init.command(argparse.Namespace(folder=tmp_path))
    ini = tmp_path / "DcmStore.ini"
    assert str(caught.value) == f"{ini}: can't be made: No space left on device; make room on that disk"
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("option", ["--called", "--calling"])
@pytest.mark.parametrize("title", ["", "SEVENTEEN_LETTERS", "日本", "A\\B", "A\tB"])
def test_echo_refuses_a_title_that_the_ini_would_refuse(
    option: str, title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["echo", "localhost", "104", option, title])
    assert ended.value.code == 2
    allowed = "allowed is 1 to 16 ASCII characters without a backslash"
    assert capsys.readouterr().err.endswith(f"error: argument {option}: {title!r}: {allowed}\n")


@pytest.mark.parametrize("seconds", ["-1", "0", "soon", "1e300"])
def test_echo_refuses_a_timeout_that_is_none(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["echo", "localhost", "104", "--timeout", seconds])
    assert ended.value.code == 2
    assert f"--timeout: {seconds!r}: allowed is a number of seconds over 0, up to 86400\n" in capsys.readouterr().err


def test_a_store_that_does_not_open_fails_the_run_and_leaves_nothing(folder: Path) -> None:
    (folder / "received/rdsr/.incoming").write_text("in the way")
    done = run("run", cwd=folder)
    assert done.returncode == 1
    assert re.search(r"ERROR   receiver\.failed reason=.*/rdsr/\.incoming/", done.stderr)
    assert list((folder / "received/images").iterdir()) == []


# --- open files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("soft", "hard", "is_fine", "text"),
    [
        (364, 364, True, "364 open files are allowed, 364 needed"),
        (needs._UNLIMITED, needs._UNLIMITED, True, "any number of open files are allowed, 364 needed"),
        (256, 4096, True, "256 open files are allowed, 364 needed; `run` raises the limit by itself"),
        (
            *(256, 363, False),
            "at most 363 open files are allowed, 364 needed for max-associations= 100; set max-associations= 99, "
            "or raise the limit (`ulimit -n 364` as root, or LimitNOFILE=364 in a systemd unit)",
        ),
        (
            *(165, 165, False),
            "at most 165 open files are allowed, 364 needed for max-associations= 100; "
            "raise the limit (`ulimit -n 364` as root, or LimitNOFILE=364 in a systemd unit)",
        ),
    ],
)
def test_the_limit_on_open_files_is_held_against_max_associations(
    soft: int, hard: int, is_fine: bool, text: str
) -> None:
    assert needs.open_files_finding(Settings(max_associations=100), (soft, hard)) == (is_fine, text)


def limited(soft: int, hard: int, *arguments: str) -> list[str]:
    """The command as a process that starts with these limits on open files."""
    start = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))"
    return [sys.executable, "-c", f"{start}; runpy.run_module('dcmstore', run_name='__main__')", *arguments]


@pytest.mark.skipif(os.name == "nt", reason="no limit to ask for")
def test_check_says_that_too_few_files_may_be_open(folder: Path) -> None:
    done = subprocess.run(limited(200, 200, "check"), cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "\nFAIL  at most 200 open files are allowed, 364 needed for max-associations= 100; set " in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="no limit to ask for")
def test_a_limit_on_open_files_that_could_not_be_raised_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(needs.resource, "setrlimit", refused)
    monkeypatch.setattr(needs.resource, "getrlimit", lambda _: (200, 4096))
    assert needs.raise_open_files(Settings()).startswith("at most 200 open files are allowed, 364 needed for ")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("soft", "hard", "then"), [(200, 4096, 364), (200, 230, 230), (1000, 4096, 1000)])
def test_run_raises_the_limit_on_open_files_as_far_as_it_may(folder: Path, soft: int, hard: int, then: int) -> None:
    with subprocess.Popen(limited(soft, hard, "run"), cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        while not lines or "receiver.listening" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert re.search(rf"(?m)^Max open files +{then} +{hard} ", limits)
    assert any("at most 230 open files are allowed" in line for line in lines) is (then < 364)


def test_the_page_of_commands_tells_how_many_files_run_wants_open() -> None:
    page = (Path(__file__).parent.parent / "docs/commands.md").read_text()
    assert f"open files to 2 × `max-associations` + {needs.OTHER_FILES} where" in page
    assert f"open files are allowed, {needs.open_files_of(Settings())} needed" in page


# --- users ---------------------------------------------------------------------------------------


def ownership(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, status.st_mode & 0o777


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
def test_root_adds_a_user_and_the_file_stays_whose_it_was(folder: Path) -> None:
    path = folder / "DcmStore.users"
    path.touch()
    os.chown(path, 1, 2)
    path.chmod(0o604)
    assert run("user", "add", "ct1", cwd=folder, typed="secret\n").returncode == 0
    assert ownership(path) == (1, 2, 0o604)
    assert run("user", "remove", "ct1", cwd=folder).returncode == 0
    assert ownership(path) == (1, 2, 0o604)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(("of_ini", "of_users"), [(0o644, 0o640), (0o640, 0o640), (0o600, 0o600)])
def test_a_new_file_of_users_is_for_who_reads_the_ini_and_never_for_others(
    folder: Path, of_ini: int, of_users: int
) -> None:
    os.chown(folder / "DcmStore.ini", 1, 2)
    (folder / "DcmStore.ini").chmod(of_ini)
    assert run("user", "add", "ct1", cwd=folder, typed="secret\n").returncode == 0
    assert ownership(folder / "DcmStore.users") == (1, 2, of_users)


@pytest.mark.skipif(os.name == "nt", reason="there the folder says whose a file is")
def test_who_can_not_give_a_file_back_to_its_owner_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    path = tmp_path / "DcmStore.users"
    path.write_bytes(b"old")
    own = files.Ownership.of(str(path))
    with pytest.raises(PermissionError):
        files.write_whole(str(path), b"new", replace(own, owner=own.owner + 1))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    files.write_whole(str(path), b"new", own)
    assert path.read_bytes() == b"new"


# --- notes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("num_threads= 16\nimage-name-index= 1\ndicomdir= 1\nRDSR-tree= 1\nSRsub=\n", []),
        ("max-associations= 100\n", []),
        (
            "num_threads= 17\n",
            ["num_threads= 17: the original stops at 16; here it is the number of associations served at once"],
        ),
        ("folder-tree= 0\nimage-name-index= 1\n", ["image-name-index= 1 has no effect while folder-tree= 0"]),
        ("folder-tree= 0\ndicomdir= 1\n", ["dicomdir= 1 has no effect while folder-tree= 0"]),
        (
            "folder-tree= 0\ndicomdir= 1\nRDSR-tree= 1\n",
            ["dicomdir= 1 only gives names in the tree of RDSR-DIR while folder-tree= 0"],
        ),
        (
            "SRsub= 0\nRDSR-tree= 1\n",
            [
                "SRsub= 0: every structured report goes into RDSR-DIR, by the original's manual; "
                "the comment in the original's ini contradicts it"
            ],
        ),
        (
            "SRsub= 1\nRDSR-tree= 1\n",
            [
                "SRsub= 1: every structured report goes with the images, by the original's manual; "
                "the comment in the original's ini contradicts it",
                "RDSR-tree= 1 has no effect while SRsub= 1, for nothing goes into RDSR-DIR",
            ],
        ),
        ("tls-client= none\ntls-key=\naudit-syslog=\nmax-associations-per-ae=\nmax-associations-per-host= 100\n", []),
        ("tls-client= required\n", ["tls-client= required has no effect while tls-port= 0"]),
        ("tls-names= CT1:ct1\n", ["tls-names= CT1:ct1 has no effect while tls-port= 0"]),
        (
            "audit= file\naudit-syslog= udp://192.0.2.1\n",
            ["audit-syslog= udp://192.0.2.1:514 has no effect while audit= file"],
        ),
        ("audit= syslog\naudit-syslog= udp://192.0.2.1\n", []),
        (
            "max-associations= 9\nmax-associations-per-host= 10\n",
            ["max-associations-per-host= 10 has no effect above max-associations= 9"],
        ),
        (
            "allowed-ae= CT1 CT2, MR1\n",
            ["allowed-ae= CT1 CT2: one AE title with a blank in it; if it is two, put a comma between"],
        ),
        ("permissions= 0664\n", []),
        ("permissions= 0666\n", ["permissions= 0666: every user of this machine may change what was received"]),
    ],
)
def test_a_key_without_its_effect_in_the_original_gets_a_note(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "DcmStore.ini"
    path.write_text(text)
    found = [re.sub(rf"^{re.escape(str(path))}, line \d: ", "", note) for note in needed.notes(config.read(path))]
    assert found == expected


def test_check_prints_notes_and_is_content(folder: Path) -> None:
    set_key(folder, "folder-tree", "0")
    set_key(folder, "dicomdir", "1")
    done = run("check", cwd=folder)
    assert done.returncode == 0
    assert re.search(r"(?m)^note  DcmStore\.ini, line \d+: dicomdir= 1 has no effect while fold", done.stdout)


# --- long paths of Windows -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (r"C:\data\images", r"\\?\C:\data\images"),
        (r"C:/data/images/", r"\\?\C:\data\images"),
        (r"C:\station\..\data\.\images", r"\\?\C:\data\images"),
        ("D:\\", "\\\\?\\D:\\"),
        (r"\\server\share", r"\\?\UNC\server\share"),
        (r"\\server\share\images", r"\\?\UNC\server\share\images"),
        (r"\\?\C:\data", r"\\?\C:\data"),
        (r"\\?\UNC\server\share", r"\\?\UNC\server\share"),
        (r"\\.\pipe\x", r"\\.\pipe\x"),
    ],
)
def test_a_path_of_windows_gets_the_prefix_for_any_length(path: str, expected: str) -> None:
    assert wiring.long_path(path) == expected


@pytest.mark.skipif(os.name == "nt", reason="there it is made absolute")
def test_what_is_no_whole_path_of_windows_stays_as_it_is() -> None:
    assert wiring.long_path("received/images") == "received/images"


@pytest.mark.parametrize("path", [r"C:\data\images", r"\\server\share\images"])
def test_the_store_gets_long_paths_on_windows_and_messages_show_what_was_written(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "IS_WINDOWS", True)
    settings = Settings(img_dir=Path(path))
    assert wiring.store_of(settings).roots[Root.IMAGES] == wiring.long_path(path)
    assert wiring.roots_of(settings)[Root.IMAGES] == Path(path)
    assert wiring.as_written(f"{wiring.long_path(path)}\\x: No space") == f"{path}\\x: No space"


@pytest.mark.parametrize(("log_patient", "folder"), [(True, r"C:\data\PAT1"), (False, "*")])
def test_the_log_of_directories_shows_paths_as_they_were_written(log_patient: bool, folder: str) -> None:
    facts = {"folder": r"\\?\C:\data\PAT1", "reason": r"\\?\UNC\server\share\x: full", "files": 3}
    logged = wiring._as_logged(facts, Settings(log_patient=log_patient))
    assert logged == {"folder": folder, "reason": r"\\server\share\x: full", "files": 3}


@pytest.mark.skipif(os.name == "nt", reason="there paths have a prefix")
def test_elsewhere_the_store_gets_the_folders_as_they_are(tmp_path: Path) -> None:
    assert wiring.store_of(Settings(img_dir=tmp_path)).roots[Root.IMAGES] == str(tmp_path)


def test_a_second_interrupt_ends_at_once_and_says_so(process: subprocess.Popen[str], folder: Path) -> None:
    with Peer(port_of(process)) as peer:
        begin_an_object(peer, folder)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "receiver.stopping" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, text = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "dcmstore: ended early; what was acknowledged is on disk, and what was not is for its sender to " in text
    assert "Traceback" not in text


def test_an_interrupt_speaks_of_senders_only_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(echo, "command", interrupted)
    assert cli.main(["echo", "localhost", "11112"]) == 130
    assert capsys.readouterr().err == "dcmstore: interrupted\n"


def test_where_passes_over_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    done = run("where", folder / "pipe", cwd=folder)
    assert done.returncode == 1
    assert done.stderr == f"dcmstore: {folder}/pipe: not a regular file\n"


def test_check_says_what_differs_from_the_original_to_those_who_come_from_it(folder: Path) -> None:
    (folder / "img").mkdir()
    (folder / "rdsr").mkdir()
    (folder / "DcmStore.ini").write_text("AE= X\nport= 0\nIMG-DIR= img\nRDSR-DIR= rdsr\nSRsub= 0\ndicomdir= 1\n")
    done = run("check", cwd=folder)
    assert "what differs from DcmStoreService" in done.stdout
    assert "SRsub= 0 sends every structured report to RDSR-DIR" in done.stdout
    assert "DICOMDIR lists the folders of the tree" in done.stdout
    assert "folder-tree= 0 files into" not in done.stdout


def test_check_says_nothing_of_the_original_to_others(folder: Path) -> None:
    assert "DcmStoreService" not in run("check", cwd=folder).stdout


def test_a_file_name_that_is_no_text_is_printed_all_the_same(folder: Path) -> None:
    name = os.fsencode(folder) + b"/\xff\xfe.dcm"
    with open(name, "wb") as file:
        file.write(data_set())
    done = subprocess.run([*COMMAND, "where", name], cwd=folder, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert rb"\udcff\udcfe.dcm -> " in done.stdout
