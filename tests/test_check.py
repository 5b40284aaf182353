"""What `dcmstore check` says of what follows a store: lines of the ini, and the files that they need."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dcmstore import cli, needs, rules, wiring
from dcmstore.index.database import Database
from dcmstore.jobs.queue import Queue
from dcmstore.settings import Settings
from tests.support import free_port

Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """An ini with these lines, from line 6 on -> what is found, without what is fine unless all is asked for."""
    for name in ("images", "rdsr"):
        (tmp_path / name).mkdir()
    ini = tmp_path / "DcmStore.ini"

    def run(*lines: str, all_of_it: bool = False, port: int = 0) -> list[str]:
        head = ("bind= 127.0.0.1", f"port= {port}", "IMG-DIR= images", "RDSR-DIR= rdsr", "logfile= 0")
        ini.write_text("\n".join((*head, *lines)) + "\n", encoding="utf-8")
        exit_code = cli.main(["check", "--config", str(ini)])
        captured = capsys.readouterr()
        found = (captured.out.partition("\n\n")[2] + captured.err).replace(f"{ini}, ", "").splitlines()
        assert exit_code == 0 or any(line.startswith(("FAIL", "dcmstore:")) for line in found)
        return found if all_of_it else [line for line in found if not line.startswith("ok")]

    return run


# --- lines ---------------------------------------------------------------------------------------


def test_each_wrong_line_is_told_with_its_own_number_key_and_value(check: Check) -> None:
    found = check(
        "index= 1",
        "on-stored= no-such-program",
        f"on-stored= {sys.executable} {{pathh}}",
        f"on-stored= {sys.executable}",
        "on-study-complete= copy to /no/such/folder",
        "forward-to= NOBODY",
        "forward-to= PACS@192.0.2.7:104",
    )
    begins = [
        "FAIL  line 11: forward-to= 'NOBODY': 'NOBODY' is no peer; allowed ",
        f"FAIL  line 8: on-stored= '{sys.executable} {{pathh}}': {{pathh}} is no placeholder; ",
        "FAIL  line 7: on-stored= 'no-such-program': no-such-program: there is no such program; ",
        "FAIL  line 10: on-study-complete= 'copy to /no/such/folder': /no/such/folder: there is no such folder; ",
    ]
    assert len(found) == len(begins)
    for line, begin in zip(found, begins, strict=True):
        assert line.startswith(begin)


def test_what_is_in_force_is_shown_with_the_line_of_each_value(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check("index= 1", f"on-stored= {sys.executable} 1", "", f"on-stored= {sys.executable} 2")
    cli.main(["check", "--config", str(tmp_path / "DcmStore.ini")])
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("on-stored=")]
    assert [(words[2], words[-1]) for words in shown] == [("1", "7)"), ("2", "9)")]


def test_a_webhook_and_its_key_are_told_with_their_lines(check: Check, tmp_path: Path) -> None:
    found = check("index= 1", "webhook-secret= none.key", "on-stored= http://192.0.2.7/")
    assert found[0].startswith("note  line 8: on-stored= 'http://192.0.2.7/': http sends what is known of the patient")
    assert found[1].startswith(f"FAIL  line 7: webhook-secret= {tmp_path / 'none.key'} can't be read: ")


def test_without_the_index_the_first_line_that_needs_it_is_told_and_no_file_is_asked_for(check: Check) -> None:
    found = check("on-stored= a", "on-stored= b", all_of_it=True)
    told = "FAIL  line 6: on-stored= 'a': needs index= 1, which is 0; set that to 1, or remove this line"
    assert [line for line in found if "index=" in line or "DcmStore." in line] == [told]


def test_a_forward_to_this_receiver_is_told_by_address_and_by_name(check: Check) -> None:
    port = free_port()
    returns = "is this receiver itself, which would get again what it sends; allowed is the address of another AE"
    for number, host in enumerate(("127.0.0.1", "localhost")):
        found = check("index= 1", f"forward-to= [modality=CT] STORE@{host}:{port}", port=port)
        assert found == [
            f"FAIL  line 7: forward-to= '[modality=CT] STORE@{host}:{port}': STORE@{host}:{port} {returns}"
        ], number
    assert check("index= 1", f"forward-to= STORE@127.0.0.1:{port + 1}", port=port) == []


def test_a_name_that_leads_here_is_known_once_it_is_looked_up(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    real = socket.getaddrinfo

    def looked_up(host: str, *rest: object, **more: object) -> object:
        flags = more.get("flags", 0)
        assert isinstance(flags, int)
        if host.casefold() in ("store.example", "here") and not flags & socket.AI_NUMERICHOST:
            return real("127.0.0.1", *rest, **more)  # type: ignore[arg-type]
        return real(host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    (told,) = check("index= 1", f"forward-to= STORE@store.example:{port}", port=port)
    assert "is this receiver itself" in told
    assert not needs.leads_back(Settings(port=port), "store.example", port)  # a start waits for no name …
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    assert needs.leads_back(Settings(port=port), "HERE", port)  # … but for that of this machine


def test_a_name_that_nobody_knows_is_noted(check: Check) -> None:
    (told,) = check("index= 1", "forward-to= PACS@no-such-host.invalid:104")
    assert told.startswith("note  line 7: forward-to= 'PACS@no-such-host.invalid:104': no-such-host.invalid can't be ")


@pytest.mark.parametrize(
    ("host", "bind", "is_here"),
    [
        ("127.0.0.1", "", True),
        ("127.0.0.2", "", True),
        ("localhost", "0.0.0.0", True),
        ("192.0.2.7", "", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.7", False),  # somebody else may listen there
        ("192.0.2.7", "192.0.2.7", True),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="on others, 127.0.0.2 is no address of this machine")
def test_whether_a_host_is_this_machine(host: str, bind: str, is_here: bool) -> None:
    assert needs.leads_back(Settings(port=4, bind=bind), host, 4) is is_here
    assert not needs.leads_back(Settings(port=4, bind=bind), host, 5)


def test_a_port_of_tls_leads_back_too_and_one_that_is_not_listened_on_does_not() -> None:
    settings = Settings(port=4, tls_port=5, tls_only=True)
    assert needs.leads_back(settings, "127.0.0.1", 5)
    assert not needs.leads_back(settings, "127.0.0.1", 4)


def test_the_roots_have_the_names_that_rules_have() -> None:
    for name in wiring.ROOT_KEYS.values():
        assert rules.split(f"[root={name}] x")[0].matches({"root_key": name})


@pytest.mark.skipif(not os.path.exists("/proc"), reason="a folder that nobody can write, not even root")
def test_the_folder_of_a_copy_is_tried_by_writing(check: Check) -> None:
    (told,) = check("index= 1", "on-stored= copy to /proc")
    assert told.startswith("FAIL  line 7: on-stored= 'copy to /proc': /proc can't be written: ")
    assert told.endswith("see to that disk or share, or name another place")


# --- the index and the queue ---------------------------------------------------------------------

FILES = {"index": ("DcmStore.index", Database), "queue": ("DcmStore.queue", Queue)}


def _of(name: str, found: list[str]) -> list[str]:
    return [line for line in found if f"DcmStore.{name}" in line]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_yet_is_no_fault_and_is_not_made(check: Check, tmp_path: Path, name: str) -> None:
    path = tmp_path / FILES[name][0]
    assert _of(name, check("index= 1", all_of_it=True)) == [f"ok    {name} {path} is made when the receiver starts"]
    assert not path.exists()
    path.touch()  # as it is for a moment while it is made
    assert _of(name, check("index= 1", all_of_it=True)) == [f"ok    {name} {path} is made when the receiver starts"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_fine_is_opened_without_a_trace(check: Check, tmp_path: Path, name: str) -> None:
    file_name, open_file = FILES[name]
    open_file(str(tmp_path / file_name), like=str(tmp_path)).close()
    before = sorted(os.listdir(tmp_path))
    (told,) = _of(name, check("index= 1", all_of_it=True))
    assert told.startswith(f"ok    {name} {tmp_path / file_name} can be read and written: `dcmstore ")
    assert sorted(os.listdir(tmp_path)) == sorted({*before, "DcmStore.ini"})


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_receiver_has_open_is_read_beside_it(check: Check, tmp_path: Path, name: str) -> None:
    file_name, open_file = FILES[name]
    opened = open_file(str(tmp_path / file_name), like=str(tmp_path))
    try:
        (told,) = _of(name, check("index= 1", all_of_it=True))
    finally:
        opened.close()
    assert told.startswith(f"ok    {name} ")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"garbage", bytes(4096), b"SQLite format 3\0" + bytes(range(256)) * 30])
def test_a_damaged_file_is_a_fault_with_what_to_do_and_nothing_else_is_said_of_it(
    check: Check, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / FILES[name][0]).write_bytes(content)
    (told,) = _of(name, check("index= 1", all_of_it=True))
    assert told.startswith(f"FAIL  {name} {tmp_path / FILES[name][0]}: ")
    assert {"index": "`dcmstore reindex` builds a new one", "queue": "a new one"}[name] in told
    assert (tmp_path / FILES[name][0]).read_bytes() == content


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_can_not_be_written_is_a_fault_and_nothing_else_is_said_of_it(
    check: Check, tmp_path: Path, name: str
) -> None:
    path = tmp_path / FILES[name][0]
    path.mkdir()
    (told,) = _of(name, check("index= 1", all_of_it=True))
    assert told.startswith(f"FAIL  line 6: index= 1: {path} can't be written: ")
