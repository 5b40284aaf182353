"""Who may send: rules on hosts, AE titles and users, and what a refused sender is told."""

import io
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dcmstore import users, wiring
from dcmstore.access import Access, NameLookup
from dcmstore.errors import ConfigurationError
from dcmstore.hosts import address_of, host_rule
from dcmstore.settings import Settings
from dcmstore.ul import pdu
from dcmstore.ul.items import UserIdentity
from dcmstore.ul.pdu import AAssociateAC, AAssociateRJ, AAssociateRQ
from tests import support
from tests.hosted import Running
from tests.support import Peer, association_request

NO_REASON = AAssociateRJ(1, 1, 1)
CALLING = AAssociateRJ(1, 1, 3)
NOT_A_USER = AAssociateRJ(1, 2, 1)
LIMIT = AAssociateRJ(2, 3, 2)


def refusal(access: Access, host: str = "192.0.2.7", calling: str = "CT1") -> AAssociateRJ | None:
    found = access.refusal(association_request(calling=calling), host)
    return found.answer if found else None


def access(**settings: object) -> Access:
    return wiring.access_of(Settings(**settings))  # type: ignore[arg-type]


# --- hosts -------------------------------------------------------------------------------------------


def test_without_rules_everybody_may_send() -> None:
    assert refusal(access()) is None


@pytest.mark.parametrize(
    ("rule", "host", "is_allowed"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.9/24", "192.0.2.255", True),  # as people write it
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "192.0.2.7", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("fe80::1", "fe80::1%eth0", True),
        ("0.0.0.0/0", "2001:db8::1", False),
    ],
)
def test_a_host_is_allowed_by_address_or_network(rule: str, host: str, is_allowed: bool) -> None:
    assert refusal(access(allowed_hosts=(rule,)), host) == (None if is_allowed else NO_REASON)


def test_a_host_is_allowed_by_its_name() -> None:
    assert refusal(access(allowed_hosts=("localhost",)), "127.0.0.1") is None
    assert refusal(access(allowed_hosts=("localhost",)), "192.0.2.7") == NO_REASON


def test_a_name_that_nobody_knows_allows_nobody() -> None:
    assert refusal(access(allowed_hosts=("no-such-host.invalid",)), "127.0.0.1") == NO_REASON


def test_a_name_is_looked_up_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["192.0.2.1"], ["192.0.2.2"]]
    now = [0.0]
    asked: list[str] = []

    def getaddrinfo(name: str, port: None) -> list[tuple[object, ...]]:
        asked.append(name)
        return [(0, 0, 0, "", (address, 0)) for address in answers.pop(0)]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    lookup = NameLookup(clock=lambda: now[0])
    assert lookup("ct1") == lookup("ct1") == {address_of("192.0.2.1")}
    now[0] = 60.0
    assert lookup("ct1") == {address_of("192.0.2.2")}
    assert asked == ["ct1", "ct1"]


def test_while_no_name_server_answers_the_known_addresses_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    now, problems = [0.0], [None, socket.EAI_AGAIN, None, socket.EAI_NONAME]

    def getaddrinfo(name: str, port: None) -> list[tuple[object, ...]]:
        if problem := problems.pop(0):
            raise socket.gaierror(problem, "no")
        return [(0, 0, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    lookup = NameLookup(clock=lambda: now[0])
    for now[0] in (0.0, 60.0, 64.9, 65.0):  # it is asked again after five seconds
        assert lookup("ct1") == {address_of("192.0.2.1")}
    assert len(problems) == 1
    now[0] = 125.0
    assert lookup("ct1") == frozenset()


@pytest.mark.parametrize(
    "text", ["", "192.0.2", "192.0.2.300", "192.0.2.0/33", "a b", "-x", "x..y", "a" * 64, "ct1/24"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        host_rule(text)


# --- AE titles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("calling", ["", "ct1", "CT2"])
def test_an_ae_title_that_is_not_listed_is_refused(calling: str) -> None:
    assert refusal(access(allowed_ae=("CT1", "MR1")), calling=calling) == CALLING


def test_an_ae_title_that_is_listed_may_send_from_anywhere() -> None:
    assert refusal(access(allowed_ae=("CT1", "MR1"))) is None


@pytest.mark.parametrize(
    ("rules", "host", "is_allowed"),
    [
        (("CT1@192.0.2.7",), "192.0.2.7", True),
        (("CT1@192.0.2.7",), "192.0.2.8", False),
        (("CT1@192.0.2.7", "CT1@192.0.2.8"), "192.0.2.8", True),
        (("CT1@192.0.2.7", "CT1"), "192.0.2.8", True),
        (("CT1", "CT1@192.0.2.7"), "192.0.2.8", True),
        (("MR1@192.0.2.0/24",), "192.0.2.7", False),
    ],
)
def test_an_ae_title_may_be_bound_to_hosts(rules: tuple[str, ...], host: str, is_allowed: bool) -> None:
    assert refusal(access(allowed_ae=rules), host) == (None if is_allowed else CALLING)


# --- users -------------------------------------------------------------------------------------------


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "DcmStore.users"
    path.write_text(users.Users({}).with_user("anna", b"secret").lines(), encoding="utf-8")
    return path


def identified(kind: int, name: bytes = b"", passcode: bytes = b"") -> AAssociateRQ:
    request = association_request()
    identity = UserIdentity(kind, True, name, passcode)
    return replace(request, user_information=replace(request.user_information, user_identity=identity))


@pytest.mark.parametrize(
    ("request_", "required", "answer"),
    [
        (identified(2, b"anna", b"secret"), False, None),
        (identified(2, b"anna", b"secret"), True, None),
        (identified(2, b"anna", b"Secret"), False, NOT_A_USER),
        (identified(2, b"anna", b""), False, NOT_A_USER),
        (identified(2, b"bob", b"secret"), False, NOT_A_USER),
        (identified(2, b"bob", b""), False, NOT_A_USER),
        (identified(2, b"\xff\xfe", b"secret"), False, NOT_A_USER),
        (identified(2, b"anna", b"x" * 65535), False, NOT_A_USER),
        (identified(1, b"anna"), False, None),
        (identified(1, b"anna"), True, NOT_A_USER),
        (identified(4, b"<saml/>"), True, NOT_A_USER),
        (association_request(), False, None),
        (association_request(), True, NOT_A_USER),
    ],
)
def test_a_passcode_that_comes_must_be_right(
    users_file: Path, request_: AAssociateRQ, required: bool, answer: AAssociateRJ | None
) -> None:
    found = access(users=users_file, require_user=required).refusal(request_, "192.0.2.7")
    assert (found.answer if found else None) == answer


def test_no_passcode_stands_in_the_file(users_file: Path) -> None:
    assert "secret" not in users_file.read_text(encoding="utf-8")
    again = users.Users({}).with_user("anna", b"secret").lines()
    assert again != users_file.read_text(encoding="utf-8")  # a salt of its own each time


@pytest.mark.parametrize(
    "line", ["anna", "anna: scrypt 00", "anna: scrypt 00 zz", "anna: md5 00 " + "00" * 32, "anna: scrypt 00 00"]
)
def test_a_damaged_line_is_named(users_file: Path, line: str) -> None:
    users_file.write_text(f"# users\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"line 2: allowed is a line that `dcmstore user add"):
        users.read(users_file)


def test_a_file_of_users_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nobody: can't be read: No such file"):
        users.read(tmp_path / "nobody")


def test_a_file_of_users_that_is_missing_is_told_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^users= \S+nobody: can't be read: No such file"):
        access(users=tmp_path / "nobody")


def test_users_that_are_required_have_to_be_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^require-user= 1: there are no users; set users= to a file that "):
        access(require_user=True)


# --- at the receiver ---------------------------------------------------------------------------------


def answer_of(peer: Peer, request: AAssociateRQ) -> object:
    peer.send(pdu.encode(request))
    return peer.receive()


def test_a_reload_that_requires_users_and_names_none_is_refused(running: Running) -> None:
    running.start()
    running.configure(require_user=1)
    running.reload()
    running.stop()
    (told,) = [line for line in running.log if "config.not_reloaded" in line]
    assert "require-user= 1: there are no users; set users= to " in told


def test_the_log_says_why_a_sender_was_refused(tmp_path: Path) -> None:
    settings = Settings(allowed_hosts=("192.0.2.0/24",))
    with support.running(tmp_path, settings) as receiver, Peer(receiver.port) as peer:
        assert answer_of(peer, association_request(calling="CT1")) == NO_REASON
    assert 'reason=no-reason-given because="127.0.0.1 is not in allowed-hosts"' in receiver.log_text.getvalue()


def test_what_a_sender_repeats_is_logged_once_with_a_count(tmp_path: Path) -> None:
    with support.running(tmp_path, Settings(allowed_ae=("MR1",))) as receiver:
        for calling in ("CT1", "CT1", "CT2", "CT1"):
            with Peer(receiver.port) as peer:
                assert answer_of(peer, association_request(calling=calling)) == CALLING
    lines = [line for line in receiver.log_text.getvalue().splitlines() if "association.rejected" in line]
    assert ["calling=CT1" in line for line in lines] == [True, False, True]
    assert lines[2].endswith(" times=2")


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        ({"max_associations_per_host": 2}, "max-associations-per-host"),
        ({"max_associations_per_ae": 2}, "max-associations-per-ae"),
        ({"max_associations": 2}, "max-associations"),
    ],
)
def test_an_association_over_a_limit_may_come_again_later(tmp_path: Path, limits: dict[str, int], key: str) -> None:
    with support.running(tmp_path, Settings(**limits)) as receiver:  # type: ignore[arg-type]
        peers = [Peer(receiver.port) for _ in range(3)]
        peers[0].associate()
        peers[1].associate()
        assert answer_of(peers[2], association_request()) == LIMIT
        for peer in peers:
            peer.socket.close()
    assert f'because="{key} is reached"' in receiver.log_text.getvalue()


def test_the_limit_of_one_ae_title_leaves_room_for_the_others(tmp_path: Path) -> None:
    settings = Settings(max_associations_per_ae=1)
    with support.running(tmp_path, settings) as receiver, Peer(receiver.port) as one, Peer(receiver.port) as two:
        one.associate()
        assert isinstance(answer_of(two, association_request(calling="OTHER")), AAssociateAC)


def test_one_host_leaves_a_tenth_of_the_associations_to_the_others(tmp_path: Path) -> None:
    with support.running(tmp_path, Settings(max_associations=10)) as receiver:
        peers = [Peer(receiver.port) for _ in range(10)]
        for number, peer in enumerate(peers[:9]):
            assert isinstance(answer_of(peer, association_request(calling=f"CT{number}")), AAssociateAC)
        assert answer_of(peers[9], association_request(calling="CT9")) == LIMIT
        for peer in peers:
            peer.socket.close()


def test_a_file_of_the_original_gives_one_host_all_of_its_threads(tmp_path: Path) -> None:
    with support.running(tmp_path, Settings(max_associations=5)) as receiver:
        peers = [Peer(receiver.port) for _ in range(5)]
        for peer in peers:
            peer.associate()
        for peer in peers:
            peer.socket.close()


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture
def dcmstore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    from dcmstore import cli

    monkeypatch.chdir(tmp_path)

    def run(*words: str, typed: str = "") -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        return cli.main(list(words))

    run("init", ".")
    return run


def test_a_user_is_added_changed_and_removed(
    dcmstore: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "DcmStore.users"
    assert dcmstore("user", "add", "anna", typed="secret\n") == 0
    assert users.read(path).verify("anna", b"secret")
    assert dcmstore("user", "add", "anna", typed="changed\n") == 0
    assert users.read(path).verify("anna", b"changed")
    assert dcmstore("user", "add", "bob", typed="x") == 0
    capsys.readouterr()
    assert dcmstore("user", "list") == 0
    assert capsys.readouterr().out == "anna\nbob\n"
    assert dcmstore("user", "remove", "anna") == 0
    assert users.read(path).names == ["bob"]
    assert dcmstore("user", "remove", "anna") == 1
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("name", "typed"), [("a:b", "x\n"), ("", "x\n"), ("anna", "\n"), ("anna", "x" * 2000)])
def test_a_name_or_passcode_that_can_not_be_is_refused(dcmstore: Callable[..., int], name: str, typed: str) -> None:
    assert dcmstore("user", "add", name, typed=typed) == 2
