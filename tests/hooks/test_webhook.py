"""Webhooks, posted to a real server on loopback."""

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dcmstore.errors import ConfigurationError
from dcmstore.hooks import WEBHOOK, checking, lines, signing
from dcmstore.hooks.webhook import WebhookHandler, body_of
from tests.hooks.site import Site, serving
from tests.hooks.support import FACTS, STUDY, WAIT, doing, failure, job, wait_for

KEY = bytes(range(32))


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "webhook.key"
    path.write_text(f"whsec_{base64.b64encode(KEY).decode()}\n")
    return path


@contextlib.contextmanager
def _peer(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that speaks no HTTP, or half of it."""

    def serve() -> None:
        with listener:
            connected, _ = listener.accept()
            with connected, contextlib.suppress(OSError):
                connected.recv(65536)
                answer(connected)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    thread.join(WAIT)
    assert not thread.is_alive()


def test_the_facts_come_as_json(site: Site) -> None:
    WebhookHandler(None).do(site.job(patient_name="Müller^Jörg"))
    ((line, headers, body),) = site.asked
    assert line == "POST /hook?x=1"
    assert headers["content-type"] == "application/json"
    message = json.loads(body.decode("utf-8"))
    assert message == {
        "type": "stored",
        "timestamp": "2026-11-25T20:19:00.000Z",
        "data": {**FACTS, "patient_name": "Müller^Jörg"},
    }
    assert headers["host"] == site.url.removeprefix("http://")
    assert "webhook-signature" not in headers


def test_the_time_of_a_study_is_when_it_was_complete() -> None:
    assert json.loads(body_of(job("http://127.0.0.1/", STUDY)))["timestamp"] == STUDY["event_at"]


def test_a_message_is_signed_by_the_standard(site: Site, secret: Path) -> None:
    WebhookHandler(secret, clock=lambda: 1_795_000_000.9).do(site.job())
    ((_, headers, body),) = site.asked
    assert headers["webhook-timestamp"] == "1795000000"
    signed = f"{headers['webhook-id']}.1795000000.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_the_signature_is_the_one_that_the_standard_has_as_its_example() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', key)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_id_is_the_same_when_it_is_tried_again_and_another_for_another_job(site: Site) -> None:
    handler = WebhookHandler(None)
    for key in ("1", "1", "2"):
        handler.do(job(site.url, kind=WEBHOOK, key=key))
    first, again, other = (headers["webhook-id"] for _, headers, _ in site.asked)
    assert first == again != other


def test_a_key_that_was_replaced_counts_from_then_on(site: Site, secret: Path) -> None:
    handler = WebhookHandler(secret, clock=lambda: 1_795_000_000.0)
    handler.do(site.job())
    secret.write_text(base64.b64encode(KEY[::-1]).decode())
    handler.do(site.job())
    first, second = (headers["webhook-signature"] for _, headers, _ in site.asked)
    assert first != second


def test_without_its_key_nothing_is_sent(site: Site, tmp_path: Path) -> None:
    error = failure(WebhookHandler(tmp_path / "away"), site.job())
    assert "away can't be read" in str(error)
    assert not error.is_final
    assert site.asked == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("whsec_####", "has no Base64 in it"),
        ("schlüssel", "has no Base64 in it"),
        ("whsec_" + base64.b64encode(b"short").decode(), "has a key of 5 bytes"),
        (base64.b64encode(bytes(65)).decode(), "has a key of 65 bytes"),
    ],
)
def test_a_key_that_can_not_be_used_is_told_and_not_shown(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=problem) as caught:
        signing.key_of(path)
    assert text.removeprefix("whsec_") not in str(caught.value)
    assert problem in checking.secret_problem([lines.parse("http://127.0.0.1/")], path)
    assert checking.secret_problem([lines.parse("tool")], path) == ""


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_success_is_done(site: Site, status: int) -> None:
    site.status = status
    WebhookHandler(None).do(site.job())


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(400, True), (403, True), (404, True), (410, True), (408, False), (425, False), (429, False), (500, False),
     (503, False), (302, False)],
)  # fmt: skip
def test_who_says_that_the_request_is_wrong_is_not_asked_again(site: Site, status: int, is_final: bool) -> None:
    site.status = status
    error = failure(WebhookHandler(None), site.job())
    assert f"answers {status} " in str(error)
    assert error.is_final is is_final


def test_when_to_come_again_is_told(site: Site) -> None:
    site.status, site.headers = 503, {"Retry-After": "120"}
    assert "503 Service Unavailable, Retry-After: 120; see to" in str(failure(WebhookHandler(None), site.job()))


def test_nobody_is_followed_to_another_place(site: Site) -> None:
    with serving() as other:
        site.status, site.headers = 307, {"Location": other.url + "/x"}
        error = failure(WebhookHandler(None), site.job())
        assert f"it points to {other.url}/x, which is not followed" in str(error)
        assert other.asked == []
    assert len(site.asked) == 1


def test_a_server_that_is_not_there_is_tried_again(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = failure(WebhookHandler(None), job(f"http://127.0.0.1:{port}/", kind=WEBHOOK))
    assert str(error).startswith(f"127.0.0.1:{port}: ")
    assert not error.is_final


def test_a_body_without_end_is_of_no_interest() -> None:
    def answer(connected: socket.socket) -> None:
        connected.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connected.sendall(b"x" * 65536)

    with _peer(answer) as url:
        WebhookHandler(None).do(job(url, kind=WEBHOOK))


@pytest.mark.parametrize(
    "answered", [b"", b"\x00\x01rubbish\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"HTTP/1.1 200 " + b"x" * 100_000]
)
def test_an_answer_that_is_no_http_is_a_failure(answered: bytes) -> None:
    with _peer(lambda connected: connected.sendall(answered)) as url:
        error = failure(WebhookHandler(None), job(url, kind=WEBHOOK))
    assert not error.is_final
    assert len(str(error)) < 300


def test_a_server_that_drips_is_left_when_the_time_is_over() -> None:
    def drip(connected: socket.socket) -> None:
        tick = threading.Event()
        connected.sendall(b"HTTP/1.1 ")
        while True:
            connected.sendall(b"y")
            tick.wait(0.05)

    began = time.monotonic()
    with _peer(drip) as url:
        error = failure(WebhookHandler(None, timeout=0.5), job(url, kind=WEBHOOK))
    assert "that it answers within 0.5 seconds" in str(error)
    assert time.monotonic() - began < WAIT


def addresses(monkeypatch: pytest.MonkeyPatch, ports: list[int]) -> None:
    """Every name has these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr("dcmstore.hooks.webhook.socket.getaddrinfo", lambda *_, **__: found)


@contextlib.contextmanager
def _full() -> Iterator[int]:
    """A port at which no connection comes about any more, and none is refused, on Linux."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as held:
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_the_next_address_is_tried(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = listener.getsockname()[1]
    addresses(monkeypatch, [refusing, int(site.url.split(":")[2].partition("/")[0])])
    WebhookHandler(None).do(job("http://ris.example/hook", kind=WEBHOOK))
    assert len(site.asked) == 1


def test_the_time_is_for_all_addresses_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with _full() as port:
        addresses(monkeypatch, [port] * 100)
        began = time.monotonic()
        error = failure(WebhookHandler(None, timeout=0.1), job("http://ris.example/", kind=WEBHOOK))
    assert time.monotonic() - began < 5.0  # of 10 seconds
    assert not error.is_final


def test_when_the_receiver_stops_nobody_waits_for_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with _full() as port:
        addresses(monkeypatch, [port] * 100)
        handler = WebhookHandler(None, timeout=600)
        with doing(handler, job("http://ris.example/", kind=WEBHOOK)) as failures:
            wait_for(lambda: handler._open)
            handler.close()
        assert [str(error) for error in failures] == ["the receiver stops; it is done again"]


def test_a_name_that_no_host_can_have_is_told() -> None:
    host = "x" * 64 + ".example"
    error = failure(WebhookHandler(None), job(f"http://{host}/", kind=WEBHOOK))
    assert str(error) == f"'{host}' is no name of a host; correct it in the ini"
    assert error.is_final


def test_when_the_receiver_stops_a_webhook_is_left() -> None:
    is_asked = threading.Event()

    def say_nothing(connected: socket.socket) -> None:
        is_asked.set()
        while connected.recv(65536):
            pass

    handler = WebhookHandler(None, timeout=600)
    with _peer(say_nothing) as url:
        with doing(handler, job(url, kind=WEBHOOK)) as failures:
            wait_for(is_asked.is_set)
            handler.close()
        (error,) = failures
        assert str(error) == "the receiver stops; it is done again"
    assert "the receiver stops" in str(failure(handler, job(url, kind=WEBHOOK)))
