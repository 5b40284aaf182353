"""Webhooks over TLS, with certificates made for it."""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcmstore.hooks.webhook import WebhookHandler
from tests.certificates import Authority
from tests.hooks.site import Site, serving
from tests.hooks.support import failure


@contextlib.contextmanager
def _https(tmp_path: Path, authority: Authority, name: str) -> Iterator[Site]:
    certificate, key = authority.issue("server", names=[name]).save(tmp_path, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as site:
        yield site


def _trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem.decode("ascii"))


def test_a_message_goes_over_tls(tmp_path: Path) -> None:
    authority = Authority()
    with _https(tmp_path, authority, "127.0.0.1") as site:
        WebhookHandler(None, new_context=lambda: _trusting(authority)).do(site.job())
        assert len(site.asked) == 1


@pytest.mark.parametrize("name", ["127.0.0.1", "other.example"])
def test_a_server_that_is_not_trusted_gets_nothing(tmp_path: Path, name: str) -> None:
    authority = Authority()
    trusted = Authority() if name == "127.0.0.1" else authority
    with _https(tmp_path, authority, name) as site:
        error = failure(WebhookHandler(None, new_context=lambda: _trusting(trusted)), site.job())
        assert "has a certificate that is not trusted here" in str(error)
        assert not error.is_final
        assert site.asked == []


def test_by_default_the_authorities_of_this_system_count(tmp_path: Path) -> None:
    with _https(tmp_path, Authority(), "127.0.0.1") as site:
        assert "is not trusted here" in str(failure(WebhookHandler(None), site.job()))
