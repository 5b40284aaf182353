"""settings and the files that they name -> an ssl.SSLContext, or one line that says what is wrong with them.

Whatever can be found wrong before a sender comes is found here: the server's certificate is tried on ourselves.
"""

import os
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from dcmstore.errors import ConfigurationError, reason_of
from dcmstore.tls import faults, x509
from dcmstore.tls.transport import TlsSocket
from dcmstore.tls.x509 import Certificate, RevocationList

RENEW_EARLY = timedelta(days=30)  # before a certificate expires; ordering one from a hospital's IT takes weeks
UPDATE_EARLY = timedelta(days=2)  # before a revocation list expires; many are issued every week

_AES_GCM = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)

# The profiles of PS3.15 Annex B that are not retired, with their cipher suites of TLS 1.2 in OpenSSL's spelling. Those
# of TLS 1.3 are OpenSSL's, which Python can't choose among.
PROFILES: Mapping[str, Sequence[str]] = {
    # B.12: what RFC 9325 4.2 recommends
    "bcp195": _AES_GCM,
    # B.13: its list without the suites of CCM_8, whose short tags OpenSSL counts as too weak, and of Camellia
    "bcp195-modified": (
        *_AES_GCM,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-CCM",
        "ECDHE-ECDSA-AES128-CCM",
    ),
}

CLIENTS: Mapping[str, ssl.VerifyMode] = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}

# OP_NO_TICKET: nothing is resumed, so that a client certificate is verified each time, and a revocation list counts at
# once. OP_NO_RENEGOTIATION: RFC 9325 3.5. OP_IGNORE_UNEXPECTED_EOF: after a receive that we have ended, A-ABORT still
# goes out; DICOM's own lengths tell what is missing of a message. OpenSSL before 3 has it for a default.
# Python itself switches compression off, and lets the server choose among the suites.
_OPTIONS = ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)

# OpenSSL would take them, and trust what nobody here has looked at.
_OTHER_CERTIFICATES = ("TRUSTED CERTIFICATE", "X509 CERTIFICATE")

_ENCRYPTED_KEYS = (b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")

# What OpenSSL has against a certificate and its key
_CHAIN_PROBLEMS = {
    "EE_KEY_TOO_SMALL": "its key is too short: make one of RSA with 3072 bits, and order a certificate for it",
    "CA_KEY_TOO_SMALL": "an authority's key in it is too short: order one from another authority",
    "CA_MD_TOO_WEAK": "a signature in it is too weak, such as SHA-1: order a new one",
    "EE_MD_TOO_WEAK": "its signature is too weak, such as SHA-1: order a new one",
}

_Head = TypeVar("_Head", Certificate, RevocationList)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The keys `tls-…` of the ini. Without `key` it is in the file of the certificate.

    `names` is AE title -> the name that a client certificate must bear to call by it. Raises ConfigurationError for
    keys that contradict each other.
    """

    certificate: Path
    key: Path | None = None
    ca: Path | None = None
    crl: Path | None = None
    client: str = "none"
    profile: str = "bcp195"
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.client != "none" and self.ca is None:
            raise ConfigurationError(
                f"tls-client= {self.client}, and tls-ca is empty: "
                "name there a file of the authorities whose client certificates are accepted, or set tls-client= none"
            )
        if self.client == "none" and self.names:
            raise ConfigurationError(
                "tls-names= binds AE titles to client certificates, and tls-client= none asks for none: "
                "set tls-client= required, or leave tls-names empty"
            )

    def files(self) -> list[Path]:
        return [path for path in (self.certificate, self.key, self.ca, self.crl) if path is not None]


def context_of(settings: TlsSettings) -> ssl.SSLContext:
    """What a listener needs. Raises ConfigurationError with one line: key, file, what is wrong, what to do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(PROFILES[settings.profile]))
    context.options |= _OPTIONS
    context.num_tickets = 0
    _load_own(context, settings)
    if settings.client != "none":
        _load_authorities(context, settings)
    context.verify_mode = CLIENTS[settings.client]
    return context


def end_of(settings: TlsSettings) -> datetime:
    """When the first of the server's certificates expires. Raises ConfigurationError."""
    return min(one.ends for one in _certificates("tls-certificate", settings.certificate))


def notes_of(settings: TlsSettings) -> list[str]:
    """What an administrator should know of files that `context_of` found good."""
    return [*_notes_on_own(settings), *(_notes_on_clients(settings) if settings.client != "none" else _idle(settings))]


# --- the certificate of this server --------------------------------------------------------------


def _load_own(context: ssl.SSLContext, settings: TlsSettings) -> None:
    path = settings.certificate
    _require_in_time("tls-certificate", path, _certificates("tls-certificate", path), "order a new one")
    key_name, key_path = ("tls-key", settings.key) if settings.key else ("tls-certificate", path)
    _require_key(key_name, key_path)
    try:
        context.load_cert_chain(path, key_path)
    except ssl.SSLError as error:
        raise _chain_error(settings, key_name, key_path, error) from None
    if problem := _problem_in_use(context, path):
        raise _error("tls-certificate", path, problem)


def _require_key(key_name: str, path: Path) -> None:
    pem = _pem(key_name, path)
    if any(mark in pem for mark in _ENCRYPTED_KEYS):
        advice = f"`openssl pkey -in {path.name} -out new.key` writes it without"
        raise _error(key_name, path, f"the key is protected by a passphrase, which a service can't enter: {advice}")
    if not any(label.endswith("PRIVATE KEY") for label, _ in x509.blocks(pem)):
        advice = "name in tls-key the file with the line BEGIN PRIVATE KEY"
        raise _error(key_name, path, f"holds no private key: {advice}")


def _chain_error(settings: TlsSettings, key_name: str, key_path: Path, error: ssl.SSLError) -> ConfigurationError:
    if error.reason == "KEY_VALUES_MISMATCH":
        problem = f"is not the key of the first certificate in {settings.certificate}"
        return _error(key_name, key_path, f"{problem}, which has to be this server's, made with this key")
    if error.reason in _CHAIN_PROBLEMS:
        return _error("tls-certificate", settings.certificate, _CHAIN_PROBLEMS[error.reason])
    return _error(key_name, key_path, f"certificate and key can't be used: {faults.phrase(error)}")


def _problem_in_use(context: ssl.SSLContext, path: Path) -> str:
    """What a sender that trusts exactly this certificate has against it, or nothing: a handshake without a network."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(path)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
        except ssl.SSLCertVerificationError as error:
            return f"senders will refuse it ({error.verify_message}): order one for servers, with key usage serverAuth"
        except ssl.SSLError as error:
            return f"can't be used: {faults.phrase(error)}"
    return ""


def _notes_on_own(settings: TlsSettings) -> Iterator[str]:
    for certificate in _certificates("tls-certificate", settings.certificate):
        yield from _ends_soon("tls-certificate", settings.certificate, certificate, RENEW_EARLY, "order a new one")
    name, path = ("tls-key", settings.key) if settings.key else ("tls-certificate", settings.certificate)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(name, path, error) from None
    if os.name == "posix" and mode & (stat.S_IROTH | stat.S_IWOTH):
        yield f"{name}= {path}: every user of this machine can read the key: `chmod o-rwx {path.name}`"


# --- the authorities of client certificates ------------------------------------------------------


def _load_authorities(context: ssl.SSLContext, settings: TlsSettings) -> None:
    assert settings.ca is not None
    authorities = _certificates("tls-ca", settings.ca)
    if not any(_is_in_time(authority) for authority in authorities):
        _require_in_time("tls-ca", settings.ca, authorities, "ask the authority for its present one")
    _load("tls-ca", settings.ca, context)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # one in tls-ca need not be the topmost
    if settings.crl is None:
        return
    lists = _newest(_revocation_lists("tls-crl", settings.crl))
    _require_in_time("tls-crl", settings.crl, lists, "get the present one from the authority")
    _load("tls-crl", settings.crl, context)
    issuers = {one.issuer for one in lists}
    is_complete = {authority.issuer for authority in authorities} <= issuers
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN if is_complete else ssl.VERIFY_CRL_CHECK_LEAF


def _load(key_name: str, path: Path, context: ssl.SSLContext) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise _error(key_name, path, f"can't be used: {faults.phrase(error)}") from None


def _notes_on_clients(settings: TlsSettings) -> Iterator[str]:
    assert settings.ca is not None
    authorities = _certificates("tls-ca", settings.ca)
    for authority in authorities:
        advice = "ask the authority for its present one"
        yield from _ends_soon("tls-ca", settings.ca, authority, RENEW_EARLY, advice)
    if settings.crl is None:
        return
    lists = _newest(_revocation_lists("tls-crl", settings.crl))
    for one in lists:
        yield from _ends_soon("tls-crl", settings.crl, one, UPDATE_EARLY, "get the next one from the authority")
    issuers = {one.issuer for one in lists}
    for authority in authorities:
        if authority.subject not in issuers:
            yield (
                f"tls-crl= {settings.crl}: has no list of {authority.label!r}, which is in tls-ca: "
                "senders whose certificates it issued are refused"
            )


def _idle(settings: TlsSettings) -> Iterator[str]:
    for key_name, path in (("tls-ca", settings.ca), ("tls-crl", settings.crl)):
        if path is not None:
            yield f"{key_name}= {path}: has no effect, for tls-client= none asks senders for no certificate"


def _newest(lists: Sequence[RevocationList]) -> list[RevocationList]:
    """One an issuer: a newer list takes the place of an older one."""
    return list({one.issuer: one for one in sorted(lists, key=lambda one: one.begins)}.values())


# --- files ---------------------------------------------------------------------------------------


def _certificates(key_name: str, path: Path) -> list[Certificate]:
    for label, _ in x509.blocks(_pem(key_name, path)):
        if label in _OTHER_CERTIFICATES:
            advice = "`openssl x509` writes it as BEGIN CERTIFICATE"
            raise _error(key_name, path, f"has a part BEGIN {label}, which can't be looked at: {advice}")
    return _heads(key_name, path, x509.CERTIFICATE, x509.certificates)


def _revocation_lists(key_name: str, path: Path) -> list[RevocationList]:
    found = _heads(key_name, path, x509.REVOCATION_LIST, x509.revocation_lists)
    for label, _ in x509.blocks(_pem(key_name, path)):
        if label != x509.REVOCATION_LIST:  # OpenSSL would trust certificates in it, by each of their labels
            raise _error(key_name, path, f"holds a part BEGIN {label} too: leave only lists in it")
    return found


def _heads(key_name: str, path: Path, label: str, read: Callable[[bytes], list[_Head]]) -> list[_Head]:
    """What there is of a kind in a PEM file, at least one."""
    pem = _pem(key_name, path)
    try:
        found = read(pem)
    except ValueError as error:
        raise _error(key_name, path, f"is damaged ({error}): copy the file again") from None
    if not found:
        others = ", ".join(f"BEGIN {other}" for other, _ in x509.blocks(pem))
        raise _error(key_name, path, f"has no part BEGIN {label}, only {others}: name another file")
    return found


def _pem(key_name: str, path: Path) -> bytes:
    """The bytes of a file that has PEM blocks."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(key_name, path, error) from None
    if next(x509.blocks(content), None) is None:
        advice = "docs/tls.md says how openssl converts .cer, .der, .crl, .pfx and .p12"
        raise _error(key_name, path, f"is not PEM, which is text with lines BEGIN and END: {advice}")
    return content


def _unreadable(key_name: str, path: Path, error: OSError) -> ConfigurationError:
    advice = "see to the path and to the rights of the account that dcmstore runs under"
    return _error(key_name, path, f"can't be read: {reason_of(error)}; {advice}")


def _error(key_name: str, path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{key_name}= {path}: {problem}")


# --- dates ---------------------------------------------------------------------------------------


def _is_in_time(head: Certificate | RevocationList) -> bool:
    now = datetime.now(UTC)
    return head.begins <= now and (head.ends is None or now <= head.ends)


def _require_in_time(
    key_name: str, path: Path, heads: Sequence[Certificate] | Sequence[RevocationList], advice: str
) -> None:
    for head in heads:
        if _is_in_time(head):
            continue
        is_early = datetime.now(UTC) < head.begins
        problem = (
            f"{head.label!r} is not valid before {head.begins:%Y-%m-%d %H:%M} UTC: look at the clock of this machine"
            if is_early
            else f"{head.label!r} expired on {head.ends:%Y-%m-%d %H:%M} UTC: {advice}"
        )
        raise _error(key_name, path, problem)


def _ends_soon(
    key_name: str, path: Path, head: Certificate | RevocationList, early: timedelta, advice: str
) -> Iterator[str]:
    if head.ends is None:
        return
    left = head.ends - datetime.now(UTC)
    if left < timedelta():
        yield f"{key_name}= {path}: {head.label!r} expired on {head.ends:%Y-%m-%d}: {advice}"
    elif left < early:
        yield f"{key_name}= {path}: {head.label!r} expires on {head.ends:%Y-%m-%d}, in {left.days} days: {advice}"
