"""A web server on loopback, for webhooks."""

import contextlib
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dcmstore.hooks import WEBHOOK
from dcmstore.jobs.work import Job
from tests.hooks.support import FACTS, job


@dataclass
class Site:
    """A web server: what it answers next, and what it was asked."""

    url: str = ""
    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    asked: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)

    def job(self, place: str = "/hook?x=1", **changed: str) -> Job:
        return job(self.url + place, {**FACTS, **changed}, kind=WEBHOOK)


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Site]:
    site = Site()

    class Answerer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            named = {name.lower(): value for name, value in self.headers.items()}
            site.asked.append((f"{self.command} {self.path}", named, body))
            self.send_response(site.status)
            for name, value in site.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(site.body)

        do_GET = do_POST

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None: ...

    with Server(("127.0.0.1", 0), Answerer) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        site.url = f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield site
        server.shutdown()
        thread.join()
