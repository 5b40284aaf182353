"""The files of TLS are judged before anybody comes, and taken up again when they are replaced."""

import base64
import os
import re
import shutil
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as oracle
from cryptography.hazmat.primitives import serialization
from hypothesis import example, given
from hypothesis import strategies as st

from dcmstore.errors import ConfigurationError
from dcmstore.logs import Log, StreamSink
from dcmstore.settings import KEYS
from dcmstore.tls import context, x509
from dcmstore.tls.context import CLIENTS, PROFILES, TlsSettings, context_of, notes_of
from dcmstore.tls.renewal import LOOK_INTERVAL, NOTE_INTERVAL, Renewal
from dcmstore.tls.transport import TlsError
from tests.certificates import CLIENT, DAY, YEAR, Authority, ec_key, pem_of_key, rsa_key
from tests.tls_support import Hospital, Served, talk


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital.in_folder(tmp_path)


def test_the_settings_offer_what_there_is() -> None:
    assert KEYS["tls_client"].spelling.allowed == "one of " + ", ".join(CLIENTS)
    assert KEYS["tls_profile"].spelling.allowed == "one of " + ", ".join(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_offers_its_suites_and_no_other(hospital: Hospital, profile: str) -> None:
    suites = [suite["name"] for suite in hospital.context(profile=profile).get_ciphers()]
    assert [name for name in suites if not name.startswith("TLS_")] == list(PROFILES[profile])
    assert {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"} <= set(suites)


# --- what is wrong with the files ----------------------------------------------------------------

Change = Callable[[Hospital], dict[str, object]]


def changed(hospital: Hospital, values: dict[str, object]) -> TlsSettings:
    return replace(hospital.settings, **values)  # type: ignore[arg-type]


def certificate_file(hospital: Hospital, **options: Any) -> dict[str, object]:
    """Settings with a certificate for the server that was issued with these options."""
    certificate, key = hospital.authority.issue("receiver", **options).save(hospital.folder, "other")
    return {"certificate": certificate, "key": key}


def chain_file(hospital: Hospital, *parts: bytes) -> dict[str, object]:
    return {"certificate": hospital.file("chain.pem", b"".join(parts))}


def key_file(hospital: Hospital, content: bytes) -> dict[str, object]:
    return {"key": hospital.file("other.key", content)}


def ca_file(hospital: Hospital, *parts: bytes) -> dict[str, object]:
    return {"ca": hospital.file("others.pem", b"".join(parts))}


def crl_file(hospital: Hospital, *parts: bytes) -> dict[str, object]:
    return {"crl": hospital.file("crl.pem", b"".join(parts))}


def der_of_server(hospital: Hospital) -> bytes:
    return hospital.server.certificate.public_bytes(serialization.Encoding.DER)


WRONG: list[tuple[str, Change, str, str]] = [
    (
        "no file",
        lambda h: {"certificate": h.folder / "x.pem"},
        "tls-certificate= ",
        "x.pem: can't be read: No such file",
    ),
    ("a folder", lambda h: {"ca": h.folder}, "tls-ca= ", "can't be read: Is a directory"),
    ("empty", lambda h: chain_file(h), "tls-certificate= ", "is not PEM, which is text with lines BEGIN and END"),
    ("DER", lambda h: chain_file(h, der_of_server(h)), "tls-certificate= ", "is not PEM"),
    (
        "the key",
        lambda h: chain_file(h, h.server.key_pem),
        "tls-certificate= ",
        "no part BEGIN CERTIFICATE, only BEGIN PRI",
    ),
    ("cut", lambda h: chain_file(h, h.server.pem.replace(b"MII", b"MIJ", 1)), "tls-certificate= ", "is damaged (DER: "),
    (
        "expired",
        lambda h: certificate_file(h, begins=-9 * DAY, ends=-DAY),
        "other.pem: 'receiver' expired on 20",
        "UTC: order",
    ),
    (
        "early",
        lambda h: certificate_file(h, begins=DAY),
        "'receiver' is not valid before 20",
        "look at the clock of this mac",
    ),
    (
        "chain expired",
        lambda h: chain_file(h, h.server.pem, Authority("Old CA", ends=-DAY / 2).pem),
        "'Old CA' expired",
        "",
    ),
    ("for clients", lambda h: certificate_file(h, usage=[CLIENT]), "senders will refuse it (unsuitable", "serverAuth"),
    (
        "weak",
        lambda h: certificate_file(h, key=rsa_key(1024)),
        "its key is too short: make one of RSA with 3072 bits",
        "",
    ),
    (
        "no key",
        lambda h: {"key": None},
        "tls-certificate= ",
        "holds no private key: name in tls-key the file with the line BEG",
    ),
    ("no key in key", lambda h: key_file(h, h.server.pem), "tls-key= ", "holds no private key"),
    (
        "other key",
        lambda h: key_file(h, pem_of_key(ec_key())),
        "tls-key= ",
        "is not the key of the first certificate in ",
    ),
    (
        "order",
        lambda h: chain_file(h, h.authority.pem, h.server.pem),
        "tls-key= ",
        "is not the key of the first certificate",
    ),
    (
        "passphrase",
        lambda h: key_file(h, pem_of_key(h.server.key, b"x")),
        "protected by a passphrase",
        "`openssl pkey -in other.k",
    ),
    ("damaged key", lambda h: key_file(h, h.server.key_pem.replace(b"M", b"N", 1)), "tls-key= ", "can't be used: "),
    ("no authority", lambda h: {"ca": None}, "tls-client= required, and tls-ca is empty: ", "or set tls-client= none"),
    ("CA expired", lambda h: ca_file(h, Authority("Old CA", ends=-DAY / 2).pem), "tls-ca= ", "'Old CA' expired on"),
    (
        "names alone",
        lambda h: {"client": "none", "names": {"CT1": "ct1"}},
        "tls-names= binds AE titles",
        "tls-client= required",
    ),
    (
        "CRL expired",
        lambda h: crl_file(h, h.authority.revocation_list(ends=-DAY / 2)),
        "tls-crl= ",
        "'Test CA' expired on",
    ),
    ("CRL early", lambda h: crl_file(h, h.authority.revocation_list(begins=DAY)), "tls-crl= ", "is not valid before"),
    (
        "no CRL",
        lambda h: crl_file(h, h.authority.pem),
        "tls-crl= ",
        "has no part BEGIN X509 CRL, only BEGIN CERTIFICATE",
    ),
    (
        "CRL and CA",
        lambda h: crl_file(h, h.authority.revocation_list(), h.authority.pem),
        "tls-crl= ",
        "leave only lists in it",
    ),
]


@pytest.mark.parametrize(("change", "first", "second"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_file_is_told_in_one_line(hospital: Hospital, change: Change, first: str, second: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        hospital.context(**change(hospital))
    message = str(told.value)
    assert first in message
    assert second in message
    assert "\n" not in message


# --- what is good --------------------------------------------------------------------------------


def test_key_and_certificate_may_stand_in_one_file(hospital: Hospital) -> None:
    both = hospital.file("both.pem", hospital.server.key_pem + hospital.server.pem)
    with Served(hospital.context(certificate=both, key=None, client="none")) as server:
        assert talk(server, hospital.client()) == b"dicom"


def test_a_certificate_signed_by_itself_is_good_enough_for_a_start(hospital: Hospital) -> None:
    alone = Authority("receiver")
    key = hospital.file("alone.key", pem_of_key(alone.key))
    context = hospital.context(certificate=hospital.file("alone.pem", alone.pem), key=key, client="none")
    with Served(context) as server:
        assert talk(server, hospital.client(trusts=alone)) == b"dicom"


def test_a_chain_with_an_authority_in_between_is_sent_whole(hospital: Hospital) -> None:
    certificate, key = Authority("Radiology CA", hospital.authority).issue("receiver").save(hospital.folder, "chain")
    with Served(hospital.context(certificate=certificate, key=key, client="none")) as server:
        assert talk(server, hospital.client()) == b"dicom"


def test_an_old_authority_beside_the_present_one_is_a_note(hospital: Hospital) -> None:
    settings = replace(
        hospital.settings, **ca_file(hospital, Authority("Old CA", ends=-DAY / 2).pem, hospital.authority.pem)
    )  # type: ignore[arg-type]
    context_of(settings)
    (note,) = notes_of(settings)
    assert "'Old CA' expired on" in note


def test_an_expired_list_beside_its_successor_is_no_matter(hospital: Hospital) -> None:
    old = hospital.authority.revocation_list(begins=-9 * DAY, ends=-2 * DAY)
    settings = changed(hospital, crl_file(hospital, hospital.authority.revocation_list(), old))
    context_of(settings)
    assert notes_of(settings) == []


# --- notes ---------------------------------------------------------------------------------------

NOTED: list[tuple[str, Change, str]] = [
    ("nothing", lambda h: {}, ""),
    (
        "own",
        lambda h: certificate_file(h, ends=12 * DAY + DAY / 2),
        "'receiver' expires on 20.*, in 12 days: order a new one",
    ),
    ("own, in time", lambda h: certificate_file(h, ends=31 * DAY), ""),
    ("authority", lambda h: ca_file(h, Authority("New CA", ends=9 * DAY).pem), "tls-ca= .*'New CA' expires on"),
    (
        "CRL",
        lambda h: crl_file(h, h.authority.revocation_list(ends=DAY)),
        "tls-crl= .*expires on .*, in 0 days: get the next",
    ),
    ("CRL, in time", lambda h: crl_file(h, h.authority.revocation_list(ends=3 * DAY)), ""),
    (
        "no CRL for one",
        lambda h: ca_file(h, h.authority.pem, Authority("B").pem) | crl_file(h, h.authority.revocation_list()),
        "tls-crl= .*has no list of 'B', which is in tls-ca: senders whose",
    ),
    ("idle CA", lambda h: {"client": "none"}, "tls-ca= .*has no effect, for tls-client= none"),
]


@pytest.mark.parametrize(("change", "expected"), [case[1:] for case in NOTED], ids=[case[0] for case in NOTED])
def test_what_an_administrator_should_know_is_noted(hospital: Hospital, change: Change, expected: str) -> None:
    settings = changed(hospital, change(hospital))
    context_of(settings)
    notes = notes_of(settings)
    if not expected:
        assert notes == []
        return
    (note,) = notes
    assert re.search(expected, note), note


@pytest.mark.skipif(os.name != "posix", reason="permissions of files are Linux's")
def test_a_key_that_everybody_can_read_is_noted(hospital: Hospital) -> None:
    assert hospital.settings.key is not None
    hospital.settings.key.chmod(0o644)
    (note,) = notes_of(hospital.settings)
    assert note.endswith("every user of this machine can read the key: `chmod o-rwx server.key`")


# --- files that are replaced ---------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A Renewal with its clock and its log."""

    def __init__(self, settings: TlsSettings, *, may_wait: bool = False) -> None:
        self.clock = Clock()
        self._text = StringIO()
        self._log = Log([StreamSink(self._text)], "info")
        self._renewal = Renewal(settings, self._log, self.clock, may_wait=may_wait)
        self.first = self.context()

    def context(self) -> ssl.SSLContext | None:
        """None while there is none."""
        try:
            return self._renewal.context()
        except TlsError:
            return None

    def has_new_context(self, after: float = LOOK_INTERVAL) -> bool:
        self.clock.now += after
        return self.context() is not self.first

    def close(self) -> list[str]:
        """The lines of the log."""
        self._log.close()
        return self._text.getvalue().splitlines()


def test_a_renewed_certificate_is_taken_up_within_a_minute(hospital: Hospital) -> None:
    watched = Watched(hospital.settings)
    assert not watched.has_new_context()
    hospital.authority.issue("receiver").save(hospital.folder, "server")
    assert not watched.has_new_context(after=LOOK_INTERVAL - 1)
    assert watched.has_new_context(after=1)
    (line,) = watched.close()
    assert "tls.renewed files=" in line


def test_a_renewed_revocation_list_is_taken_up(hospital: Hospital) -> None:
    settings = changed(hospital, crl_file(hospital, hospital.authority.revocation_list()))
    watched = Watched(settings)
    crl_file(hospital, hospital.authority.revocation_list([hospital.authority.issue("lost")]))
    assert watched.has_new_context()
    watched.close()


def test_half_a_renewal_leaves_the_old_certificate_until_the_rest_comes(hospital: Hospital) -> None:
    watched = Watched(hospital.settings)
    renewed = hospital.authority.issue("receiver")
    hospital.settings.certificate.write_bytes(renewed.pem)
    assert not watched.has_new_context()
    assert not watched.has_new_context()
    hospital.file("server.key", renewed.key_pem)
    assert watched.has_new_context()
    failed, renewed_line = watched.close()
    assert "tls.not_renewed" in failed
    assert "is not the key of the first certificate" in failed
    assert "tls.renewed" in renewed_line


def test_a_file_that_vanishes_is_told_once_and_the_old_certificate_stays(hospital: Hospital) -> None:
    watched = Watched(hospital.settings)
    hospital.settings.certificate.rename(hospital.folder / "elsewhere")
    assert not watched.has_new_context()
    assert not watched.has_new_context()
    (line,) = watched.close()
    assert "tls.not_renewed" in line


def test_a_file_that_is_back_unchanged_counts_again(hospital: Hospital) -> None:
    watched = Watched(hospital.settings)
    shutil.move(hospital.settings.certificate, hospital.folder / "elsewhere")
    assert not watched.has_new_context()
    shutil.move(hospital.folder / "elsewhere", hospital.settings.certificate)
    assert watched.has_new_context()
    assert "tls.renewed" in watched.close()[-1]


def test_who_may_wait_for_a_certificate_gets_it_within_a_minute(hospital: Hospital) -> None:
    hospital.file("server.key", b"")
    with pytest.raises(ConfigurationError):
        Watched(hospital.settings)
    watched = Watched(hospital.settings, may_wait=True)
    assert watched.first is None
    assert not watched.has_new_context()
    assert not watched.has_new_context()
    hospital.file("server.key", hospital.server.key_pem)
    assert not watched.has_new_context(after=LOOK_INTERVAL - 1)
    assert watched.has_new_context(after=1)
    waiting, renewed = watched.close()  # why it waits is told once
    assert re.search(r"ERROR +tls\.not_ready .*tls-key= .*is not PEM.*what_to_do=.*no restart is needed", waiting)
    assert "tls.renewed" in renewed


def test_a_certificate_that_is_not_valid_yet_needs_no_new_file(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "_is_in_time", lambda head: False)
    watched = Watched(hospital.settings, may_wait=True)
    assert watched.first is None
    monkeypatch.undo()
    assert watched.has_new_context()
    watched.close()


def test_a_certificate_that_is_installed_too_early_is_taken_up_when_it_counts(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(hospital.settings)
    hospital.authority.issue("receiver").save(hospital.folder, "server")
    monkeypatch.setattr(context, "_is_in_time", lambda head: False)
    assert not watched.has_new_context()
    assert not watched.has_new_context()
    monkeypatch.undo()
    assert watched.has_new_context()
    failed, renewed = watched.close()
    assert "tls.not_renewed" in failed
    assert "tls.renewed" in renewed


def test_a_key_that_is_gone_when_notes_are_due_is_told_and_turns_nobody_away(hospital: Hospital) -> None:
    watched = Watched(hospital.settings)
    hospital.settings.key.rename(hospital.folder / "elsewhere")
    assert not watched.has_new_context(after=NOTE_INTERVAL)
    assert not watched.has_new_context(after=NOTE_INTERVAL)
    (line,) = watched.close()
    assert "tls.not_renewed" in line
    assert "tls-key=" in line


@pytest.mark.parametrize("label", ["TRUSTED CERTIFICATE", "X509 CERTIFICATE"])
@pytest.mark.parametrize("key", ["tls-certificate", "tls-ca", "tls-crl"])
def test_certificates_under_other_labels_are_not_trusted_unseen(hospital: Hospital, key: str, label: str) -> None:
    settings = changed(hospital, crl_file(hospital, hospital.authority.revocation_list()))
    path = {"tls-certificate": settings.certificate, "tls-ca": settings.ca, "tls-crl": settings.crl}[key]
    other = Authority("Evil").pem.decode().replace("CERTIFICATE", label)
    path.write_text(path.read_text() + other)
    with pytest.raises(ConfigurationError, match=rf"{key}= .*BEGIN {label}"):
        context_of(settings)


def test_what_expires_soon_is_told_at_the_start_and_every_day(hospital: Hospital) -> None:
    watched = Watched(changed(hospital, certificate_file(hospital, ends=9 * DAY)))
    watched.has_new_context(after=NOTE_INTERVAL - 1)
    watched.has_new_context(after=LOOK_INTERVAL)
    lines = watched.close()
    assert len(lines) == 2
    assert all("config.warning" in line and "expires on" in line for line in lines)


# --- what certificates say of themselves ---------------------------------------------------------


def test_the_head_of_a_certificate_is_read_as_others_read_it() -> None:
    authority = Authority("Röntgen-CA")
    ends = [YEAR, 30 * YEAR]  # short and long spelling of years
    for issued in [authority.issue("ct1", ends=end) for end in ends] + [authority.issue("rsa", key=rsa_key())]:
        (read,) = x509.certificates(issued.pem)
        expected = issued.certificate
        assert (read.begins, read.ends) == (expected.not_valid_before_utc, expected.not_valid_after_utc)
        assert read.label == expected.subject.get_attributes_for_oid(oracle.NameOID.COMMON_NAME)[0].value
        assert x509.label_of(read.issuer) == "Röntgen-CA"
        assert read.issuer == x509.certificates(authority.pem)[0].subject


def test_the_head_of_a_revocation_list_is_read_as_others_read_it() -> None:
    authority = Authority()
    pem = authority.revocation_list([authority.issue("lost")])
    (read,) = x509.revocation_lists(pem)
    expected = oracle.load_pem_x509_crl(pem)
    assert (read.begins, read.ends) == (expected.last_update_utc, expected.next_update_utc)
    assert read.issuer == x509.certificates(authority.pem)[0].subject


def test_years_of_two_digits_are_from_1950_to_2049() -> None:
    authority = Authority(begins=-(datetime.now(UTC) - datetime(1950, 1, 2, tzinfo=UTC)))
    (read,) = x509.certificates(authority.pem)
    assert read.begins.year == 1950


def test_explanations_between_the_blocks_do_not_matter() -> None:
    authority = Authority()
    pem = b"subject=CN = Test\r\n" + authority.pem.replace(b"\n", b"\r\n") + b"issuer=...\r\n" + authority.pem
    assert len(x509.certificates(pem)) == 2


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_damaged_certificate_is_read_or_a_value_error(position: int, value: int) -> None:
    damaged = bytearray(DAMAGED)
    damaged[position % len(damaged)] = value
    with_any_result(bytes(damaged))


@given(st.binary(max_size=200))
@example(b"\x30")
def test_any_bytes_are_a_certificate_or_a_value_error(content: bytes) -> None:
    with_any_result(content)


DAMAGED = Authority("Röntgen-CA").certificate.public_bytes(serialization.Encoding.DER)


def with_any_result(encoded: bytes) -> None:
    for label, read in ((x509.CERTIFICATE, x509.certificates), (x509.REVOCATION_LIST, x509.revocation_lists)):
        pem = f"-----BEGIN {label}-----\n{base64.b64encode(encoded).decode()}\n-----END {label}-----\n".encode()
        try:
            read(pem)
        except ValueError:
            continue
