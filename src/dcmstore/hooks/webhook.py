"""a job of a webhook -> a POST with the facts as JSON, signed: done when the server says so."""

import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import SplitResult

import dcmstore
from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.hooks import lines, signing, values
from dcmstore.jobs.work import Job, JobFailed

TIMEOUT = 30.0  # seconds for all of it; a server that has more to do does it behind its answer
_CONNECT = 10.0  # seconds for one address of the server, so that time is left for the next one
_MAX_WORDS = 100  # characters of what a server says that are told: it may be a page, and the log has lines
_NOT_FINAL = (408, 425, 429)  # of those that say that the request is wrong: too slow, too early, too many


class WebhookHandler:
    """Posts to web servers. `secret_file` has the key to sign with; it is read each time, so it may be replaced."""

    def __init__(
        self,
        secret_file: Path | None,
        *,
        timeout: float = TIMEOUT,
        new_context: Callable[[], ssl.SSLContext] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret_file = secret_file
        self._timeout = timeout
        self._new_context = new_context or _default_context
        self._clock = clock
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_closed = False

    def do(self, job: Job) -> None:
        """Raises JobFailed."""
        try:
            url = lines.url_of(job.target)
        except ValueError:
            raise JobFailed(f"{job.target!r} is no URL; correct it in the ini", is_final=True) from None
        try:
            key = signing.key_of(self._secret_file) if self._secret_file is not None else None
        except ConfigurationError as error:
            raise JobFailed(str(error)) from None
        body = body_of(job)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"dcmstore/{dcmstore.__version__}",
            **signing.headers(id_of(job), int(self._clock()), body, key),
        }
        try:
            _judge(self._answer(url, body, headers), url)
        except (OSError, http.client.HTTPException) as error:
            raise JobFailed(self._words_for(error, url)) from None

    def close(self) -> None:
        """End what is under way, and begin nothing more: `do` then raises within seconds."""
        with self._lock:
            self._is_closed = True
            for connected in self._open:
                _shut(connected)

    def _answer(self, url: SplitResult, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        """What the server answers. It follows nobody to another place: facts of a patient go where the ini says."""
        host, port = str(url.hostname), _port_of(url)
        deadline = time.monotonic() + self._timeout
        connection = http.client.HTTPConnection(host, port)
        with contextlib.closing(connection):
            connection.sock = self._connected(host, port, deadline)
            connection.sock.settimeout(self._timeout)
            if url.scheme == "https":
                connection.sock = self._new_context().wrap_socket(
                    connection.sock, server_hostname=host, do_handshake_on_connect=False
                )
            with self._watched(connection.sock, deadline):
                if isinstance(connection.sock, ssl.SSLSocket):
                    connection.sock.do_handshake()
                path = (url.path or "/") + (f"?{url.query}" if url.query else "")
                connection.request("POST", path, body, {"Host": url.netloc, **headers})
                with connection.getresponse() as answer:  # its body, however long it is, is of no interest
                    return answer

    def _connected(self, host: str, port: int, deadline: float) -> socket.socket:
        """The first of its addresses that answers. Raises OSError, for the last one, and where the time is over."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:  # a part between its dots is empty or longer than 63 signs
            raise JobFailed(f"{host!r} is no name of a host; correct it in the ini", is_final=True) from None
        failure: OSError = TimeoutError("its name or its addresses took too long")
        for family, kind, protocol, _, address in found:
            left = deadline - time.monotonic()
            if left <= 0 or self._is_closed:
                break
            try:
                connecting = socket.socket(family, kind, protocol)
            except OSError as error:  # a system without IPv6
                failure = error
                continue
            try:
                with self._watched(connecting, deadline):
                    connecting.settimeout(min(_CONNECT, left))
                    connecting.connect(address)
                return connecting
            except OSError as error:
                connecting.close()
                failure = error
        raise failure

    @contextlib.contextmanager
    def _watched(self, connected: socket.socket, deadline: float) -> Iterator[None]:
        """Shut it when the time is over, however slowly something still comes, and when the receiver stops."""
        timer = threading.Timer(max(deadline - time.monotonic(), 0.0), _shut, (connected,))
        timer.daemon = True
        with self._lock:
            self._open.add(connected)
            if self._is_closed:
                _shut(connected)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._open.discard(connected)

    def _words_for(self, error: Exception, url: SplitResult) -> str:
        if self._is_closed:
            return "the receiver stops; it is done again"
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"{url.netloc} has a certificate that is not trusted here: {error.verify_message}; let this system "
                "trust the authority that it is from"
            )
        what = _cut(reason_of(error)) or "no answer"
        return f"{url.netloc}: {what}; see to that server, and that it answers within {self._timeout:g} seconds"


def id_of(job: Job) -> str:
    """The same each time that this job is tried, so that a receiver can tell what it has already."""
    return "msg_" + hashlib.sha256("\n".join((job.kind, job.target, job.key)).encode()).hexdigest()[:32]


def body_of(job: Job) -> bytes:
    """The facts, as they are, and when they came about: an object with its store, a study when it was complete."""
    happened = job.facts.get("event_at") or job.facts["stored_at"]
    message = {"type": job.facts["event"], "timestamp": happened, "data": dict(job.facts)}
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")


def _judge(answer: http.client.HTTPResponse, url: SplitResult) -> None:
    if 200 <= answer.status < 300:
        return
    told = f"{url.netloc} answers {answer.status} {_cut(answer.reason)}".rstrip()
    if after := answer.headers.get("Retry-After"):
        told += f", Retry-After: {_cut(after)}"
    if 300 <= answer.status < 400:
        place = _cut(answer.headers.get("Location", "another place"))
        raise JobFailed(f"{told}; it points to {place}, which is not followed: write the right URL into the ini")
    is_final = 400 <= answer.status < 500 and answer.status not in _NOT_FINAL
    advice = "correct the URL, or what that server does with it" if is_final else "see to that server"
    raise JobFailed(f"{told}; {advice}", is_final=is_final)


def _port_of(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _cut(words: str) -> str:
    return values.without_controls(words)[:_MAX_WORDS]


def _shut(connected: socket.socket) -> None:
    """Wake who reads or writes there. Not by TLS's own way, which is for one thread."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _default_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
