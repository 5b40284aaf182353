"""Handshakes of DICOM over TLS: who is let in, who is not and why; and a socket that behaves as a plain one does."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest

from dcmstore import sockets
from dcmstore.tls import identity
from dcmstore.tls.transport import TlsError, shake_hands, wrap
from dcmstore.ul import pdu
from tests.certificates import DAY, SERVER, Authority, Issued
from tests.support import association_request
from tests.tls_support import WAIT, Hospital, Served, connected, talk

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital.in_folder(tmp_path)


# --- who is let in -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sender_with_a_certificate_of_the_authority_is_let_in(hospital: Hospital, version: ssl.TLSVersion) -> None:
    with Served(hospital.context()) as server:
        assert talk(server, hospital.client(hospital.authority.issue("ct1"), version)) == b"dicom"
        server.result()


@pytest.mark.parametrize("client", ["none", "optional"])
def test_a_sender_without_a_certificate_is_let_in_unless_one_is_required(hospital: Hospital, client: str) -> None:
    with Served(hospital.context(client=client)) as server:
        assert talk(server, hospital.client()) == b"dicom"
        server.result()


def test_an_authority_in_between_is_followed_to_one_in_tls_ca(hospital: Hospital) -> None:
    between = Authority("Radiology CA", hospital.authority)
    with Served(hospital.context()) as server:
        assert talk(server, hospital.client(between.issue("ct1"))) == b"dicom"


def test_an_authority_in_between_can_stand_alone_in_tls_ca(hospital: Hospital) -> None:
    between = Authority("Radiology CA", hospital.authority)
    context = hospital.context(ca=hospital.file("between.pem", between.pem))
    with Served(context) as server:
        assert talk(server, hospital.client(between.issue("ct1"))) == b"dicom"
    told, _ = refusal(context, hospital.client(hospital.authority.issue("ct2")))
    assert "not in tls-ca" in told


def test_large_data_crosses_unchanged(hospital: Hospital) -> None:
    data = bytes(range(256)) * 40
    with Served(hospital.context()) as server:
        assert talk(server, hospital.client(hospital.authority.issue("ct1")), data) == data


def test_the_log_names_version_suite_and_client(hospital: Hospital) -> None:
    client = hospital.client(hospital.authority.issue("ct1"), ssl.TLSVersion.TLSv1_3)
    with connected(hospital.context(), client) as (connection, _):
        assert identity.description_of(connection) == "TLSv1.3 TLS_AES_256_GCM_SHA384 client=ct1"
    with connected(hospital.context(client="none"), hospital.client(None, ssl.TLSVersion.TLSv1_2)) as (connection, _):
        assert identity.description_of(connection) == "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384"


# --- who is not, and why -------------------------------------------------------------------------


def refusal(server_context: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str, str]:
    """What our log says of a handshake that fails, and what the sender's OpenSSL says."""
    with Served(server_context) as server:
        with pytest.raises(ssl.SSLError) as seen:
            talk(server, client)
        with pytest.raises(TlsError) as told:
            server.result()
    return str(told.value), seen.value.reason


Make = Callable[[Hospital], Issued | None]

REFUSED: list[tuple[str, Make, str, str]] = [
    ("none", lambda h: None, "has no client certificate", ""),
    ("expired", lambda h: h.authority.issue("ct1", begins=-9 * DAY, ends=-DAY), "has expired", "CERTIFICATE_EXPIRED"),
    ("early", lambda h: h.authority.issue("ct1", begins=DAY), "not valid yet: look at the clocks", "BAD_CERTIFICATE"),
    ("stranger", lambda h: Authority("Else").issue("ct1"), "authority that is not in tls-ca", "UNKNOWN_CA"),
    ("forged", lambda h: Authority().issue("ct1"), "its signature is not that of an authority in tls-ca", "DECRYPT"),
    ("server's", lambda h: h.authority.issue("ct1", usage=[SERVER]), "not made for clients", "UNSUPPORTED_CERTIFICATE"),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("make", "told", "seen"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_bad_client_certificate_is_refused_in_words_on_both_sides(
    hospital: Hospital, version: ssl.TLSVersion, make: Make, told: str, seen: str
) -> None:
    our_words, sender_reason = refusal(hospital.context(), hospital.client(make(hospital), version))
    assert told in our_words
    assert "\n" not in our_words
    assert seen in sender_reason
    assert "ALERT" in sender_reason


@pytest.mark.parametrize("version", VERSIONS)
def test_a_revoked_certificate_is_refused_and_its_neighbour_is_not(hospital: Hospital, version: ssl.TLSVersion) -> None:
    lost, kept = hospital.authority.issue("lost"), hospital.authority.issue("kept")
    context = hospital.context(crl=hospital.file("crl.pem", hospital.authority.revocation_list([lost])))
    told, seen = refusal(context, hospital.client(lost, version))
    assert "is revoked in tls-crl" in told
    assert seen == "SSLV3_ALERT_CERTIFICATE_REVOKED"
    with Served(context) as server:
        assert talk(server, hospital.client(kept, version)) == b"dicom"


def test_a_revoked_authority_in_between_is_noticed_with_the_lists_of_both(hospital: Hospital) -> None:
    between = Authority("Radiology CA", hospital.authority)
    sender = hospital.client(between.issue("ct1"))
    lists = hospital.authority.revocation_list([between]) + between.revocation_list()
    told, _ = refusal(hospital.context(crl=hospital.file("crl.pem", lists)), sender)
    assert "is revoked" in told


def test_a_certificate_whose_authority_has_no_list_is_refused(hospital: Hospital) -> None:
    between = Authority("Radiology CA", hospital.authority)
    crl = hospital.file("crl.pem", hospital.authority.revocation_list())
    told, _ = refusal(hospital.context(crl=crl), hospital.client(between.issue("ct1")))
    assert "tls-crl has no list of the authority" in told


def test_a_bad_certificate_is_refused_also_where_none_is_needed(hospital: Hospital) -> None:
    told, _ = refusal(hospital.context(client="optional"), hospital.client(Authority("Else").issue("ct1")))
    assert "not in tls-ca" in told


@pytest.mark.parametrize("version", VERSIONS)
def test_a_sender_that_does_not_know_our_authority_tells_us(hospital: Hospital, version: ssl.TLSVersion) -> None:
    client = hospital.client(hospital.authority.issue("ct1"), version, trusts=Authority("Else"))
    told, _ = refusal(hospital.context(), client)
    assert told.startswith("the sender does not know the authority of our certificate")


def test_a_sender_that_finds_our_certificate_unfit_tells_us(hospital: Hospital) -> None:
    client = hospital.client(hospital.authority.issue("ct1"))
    client.check_hostname = True
    with Served(hospital.context()) as server:
        with server.connect() as plain, pytest.raises(ssl.SSLCertVerificationError):
            client.wrap_socket(plain, server_hostname="another.example")
        with pytest.raises(TlsError, match="does not accept our certificate"):
            server.result()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_versions_before_1_2_are_refused(hospital: Hospital) -> None:
    client = hospital.client(None, ssl.TLSVersion.TLSv1_1)
    client.set_ciphers("ALL:@SECLEVEL=0")
    told, seen = refusal(hospital.context(), client)
    assert "offers no TLS 1.2 or newer" in told
    assert seen == "TLSV1_ALERT_PROTOCOL_VERSION"


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "AES256-GCM-SHA384"])
def test_suites_that_rfc_9325_advises_against_are_refused(hospital: Hospital, suite: str) -> None:
    client = hospital.client(None, ssl.TLSVersion.TLSv1_2)
    client.set_ciphers(f"{suite}:@SECLEVEL=0")
    told, _ = refusal(hospital.context(), client)
    assert "offers no cipher suite of tls-profile" in told


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (pdu.encode(association_request()), "plain DICOM came to tls-port: switch TLS on at the sender"),
        (b"GET / HTTP/1.0\r\n\r\n", "something that is not TLS (first byte 47H) came to tls-port"),
        (bytes(100), "something that is not TLS (first byte 00H) came to tls-port"),
        (b"\x16\x03\x01\x00\x05rubbi", "the TLS handshake failed: "),
    ],
)
def test_what_is_not_tls_is_told_by_name(hospital: Hospital, first: bytes, words: str) -> None:
    with Served(hospital.context()) as server, server.connect() as plain:
        plain.sendall(first)
        with contextlib.suppress(OSError):  # the connection is reset already
            plain.shutdown(socket.SHUT_WR)
        with pytest.raises(TlsError) as told:
            server.result()
    assert words in str(told.value)
    assert not told.value.said_nothing


def test_a_peer_that_closes_without_a_byte_is_told_apart(hospital: Hospital) -> None:
    with Served(hospital.context()) as server:
        server.connect().close()
        with pytest.raises(TlsError) as told:
            server.result()
    assert told.value.said_nothing


def test_a_peer_that_closes_in_the_middle_is_told_as_such(hospital: Hospital) -> None:
    with Served(hospital.context()) as server:
        with server.connect() as plain:
            plain.sendall(b"\x16\x03\x01\x02\x00\x01")
        with pytest.raises(TlsError, match="closed the connection in the middle of the TLS handshake") as told:
            server.result()
    assert not told.value.said_nothing


def test_a_peer_that_says_nothing_has_its_time_and_no_more(hospital: Hospital) -> None:
    words = "artim-timeout ran out before a byte came"
    context = hospital.context()
    with Served(context, timeout=0.1) as server, server.connect(), pytest.raises(TlsError, match=words) as told:
        server.result()
    assert told.value.said_nothing


def test_a_peer_that_drips_byte_by_byte_has_its_time_and_no_more(hospital: Hospital) -> None:
    client_hello = client_hello_of(hospital.client())
    is_told = threading.Event()

    def drip(plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for byte in client_hello[:-1]:
                plain.sendall(bytes([byte]))
                if is_told.wait(0.02):
                    return

    with Served(hospital.context(), timeout=0.3) as server, server.connect() as plain:
        dripping = threading.Thread(target=drip, args=[plain])
        dripping.start()
        with pytest.raises(TlsError, match="artim-timeout ran out in the middle of the TLS handshake"):
            server.result()
        assert dripping.is_alive()
        is_told.set()
        dripping.join(WAIT)


def client_hello_of(client: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_a_connection_that_is_reset_is_lost(hospital: Hospital) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), WAIT)
        connection = wrap(hospital.context(), listener.accept()[0])
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(TlsError, match="connection lost in the TLS handshake: "):
            shake_hands(connection, WAIT)
        connection.close()


def test_a_connection_that_is_reset_before_we_look_is_told_apart(hospital: Hospital) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), WAIT)
        accepted = listener.accept()[0]
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(TlsError) as told:
            shake_hands(wrap(hospital.context(), accepted), WAIT)
    assert told.value.said_nothing
    assert accepted.fileno() == -1


def test_a_handshake_can_be_ended_from_another_thread(hospital: Hospital) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        connection = wrap(hospital.context(), ours)
        results: SimpleQueue[Exception] = SimpleQueue()

        def shake() -> None:
            try:
                shake_hands(connection, WAIT)
            except TlsError as error:
                results.put(error)

        thread = threading.Thread(target=shake)
        thread.start()
        theirs.sendall(client_hello_of(hospital.client())[:-1])
        sockets.wake(connection)
        assert isinstance(results.get(timeout=WAIT), TlsError)
        thread.join(WAIT)
        connection.close()


# --- the socket ----------------------------------------------------------------------------------


def test_a_receive_without_data_gives_up_as_a_plain_one_does(hospital: Hospital) -> None:
    with connected(hospital.context(client="none"), hospital.client()) as (connection, _):
        connection.limit_waiting(receive=0.01, send=WAIT)
        with pytest.raises(sockets.GAVE_UP):
            connection.recv_into(bytearray(100))


def test_a_send_that_nobody_reads_gives_up_as_a_plain_one_does(hospital: Hospital) -> None:
    with connected(hospital.context(client="none"), hospital.client()) as (connection, _):
        connection.limit_waiting(receive=WAIT, send=0.01)
        with pytest.raises(sockets.GAVE_UP):
            connection.sendall(bytes(50_000_000))
        assert connection.gettimeout() == WAIT


def test_a_send_may_take_longer_than_a_receive(hospital: Hospital) -> None:
    with connected(hospital.context(client="none"), hospital.client()) as (connection, client):
        connection.limit_waiting(receive=0.001, send=WAIT)
        sending = threading.Thread(target=connection.sendall, args=[bytes(20_000_000)])
        sending.start()
        sending.join(0.05)
        assert sending.is_alive()
        received = 0
        while received < 20_000_000:
            received += len(client.recv(1_000_000))
        sending.join(WAIT)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_receive_ended_from_another_thread_returns_nothing_and_no_ciphertext(
    hospital: Hospital, version: ssl.TLSVersion
) -> None:
    with connected(hospital.context(client="none"), hospital.client(None, version)) as (connection, client):
        client.sendall(b"under way")
        sockets.wake(connection)
        buffer = bytearray(1000)
        received = b""
        while size := connection.recv_into(buffer):
            received += buffer[:size]
        assert b"under way".startswith(received)
        connection.sendall(b"A-ABORT")  # through TLS still
        assert client.recv(100) == b"A-ABORT"


@pytest.mark.parametrize("version", VERSIONS)
def test_damaged_data_is_a_lost_connection(hospital: Hospital, version: ssl.TLSVersion) -> None:
    with connected(hospital.context(client="none"), hospital.client(None, version)) as (connection, client):
        socket.socket.send(client, b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ConnectionError, match="TLS: "):
            connection.recv_into(bytearray(100))


def test_we_say_so_when_we_close(hospital: Hospital) -> None:
    with connected(hospital.context(client="none"), hospital.client()) as (connection, client):
        client.suppress_ragged_eofs = False
        connection.close()
        assert client.recv(100) == b""  # a connection that is cut raises SSLEOFError


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_resumed_and_no_session_is_kept(hospital: Hospital, version: ssl.TLSVersion) -> None:
    context, client = hospital.context(), hospital.client(hospital.authority.issue("ct1"), version)
    session = None
    for _ in range(3):
        with Served(context) as server, client.wrap_socket(server.connect(), session=session) as connection:
            connection.sendall(b"dicom")
            assert connection.recv(100) == b"dicom"
            assert not connection.session_reused
            session = connection.session
    assert context.session_stats()["number"] == 0


# --- AE titles -----------------------------------------------------------------------------------

NAMES = {"CT1": "ct1.example", "PACS": "pacs.example", "PACS2": "pacs.example", "OLD": "192.0.2.7"}

BOUND: list[tuple[str, Sequence[str], str, str | None]] = [
    ("ct1.example", (), "CT1", None),
    ("CT1.Example", (), "CT1", None),
    ("a name for people", ("ct1.example",), "CT1", None),
    ("a name for people", ("192.0.2.7",), "OLD", None),
    ("pacs.example", (), "PACS2", None),
    ("mr1.example", (), "MR1", None),
    ("mr1.example", (), "CT1", "tls-names binds CT1 to a certificate of ct1.example, and a certificate of mr1.example"),
    ("ct1.example", (), "PACS", "tls-names binds PACS to a certificate of pacs.example"),
    ("pacs.example", (), "MR1", "tls-names binds the certificate of pacs.example to PACS, PACS2"),
]


@pytest.mark.parametrize(("name", "names", "calling", "problem"), BOUND)
def test_a_certificate_belongs_to_an_ae_title(
    hospital: Hospital, name: str, names: Sequence[str], calling: str, problem: str | None
) -> None:
    issued = hospital.authority.issue(name, names=names)
    with connected(hospital.context(), hospital.client(issued)) as (connection, _):
        found = identity.problem_with(list(identity.names_of(connection)), calling, NAMES)
    if problem is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(problem)


def test_a_bound_ae_title_needs_a_certificate_where_it_is_optional(hospital: Hospital) -> None:
    with connected(hospital.context(client="optional"), hospital.client()) as (connection, _):
        shown = list(identity.names_of(connection))
        assert identity.problem_with(shown, "MR1", NAMES) is None
        problem = identity.problem_with(shown, "CT1", NAMES)
    assert problem == "tls-names binds CT1 to a certificate of ct1.example, and no certificate came"
