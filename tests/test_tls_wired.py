"""A receiver with a port for TLS: other programs send to it, and its log says what an administrator has to do."""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dcmstore import receiver
from dcmstore.errors import ConfigurationError
from dcmstore.tls import renewal
from dcmstore.ul import pdu
from dcmstore.ul.pdu import AAbort, AAssociateRJ
from tests.certificates import DAY, Authority, Issued, rsa_key
from tests.support import Peer, association_request, data_set, store_request, stored_data_set
from tests.tls_support import Secured, receiving
from tools.programs import find_program

with warnings.catch_warnings(action="ignore"):
    CT_SMALL = Path(str(get_testdata_file("CT_small.dcm")))


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    with receiving(tmp_path) as secured:
        yield secured


def run(program: str, *arguments: str | Path | int, typed: str = "") -> str:
    path = find_program(program)
    assert path is not None
    done = subprocess.run(
        [path, *map(str, arguments)],
        input=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, errors="replace",
    )  # fmt: skip
    return f"{done.stdout}\nexit code {done.returncode}"


# --- one receiver, two ports ---------------------------------------------------------------------


def test_objects_over_tls_are_stored_bit_for_bit_and_the_log_names_the_client(secured: Secured) -> None:
    secured.start()
    sent = data_set("1.2.1", pixels=bytes(range(256)) * 4000)
    with secured.peer(secured.issue()) as peer:
        peer.associate()
        assert peer.store(sent, "1.2.1").status == 0
        peer.release()
    (path,) = (secured.running.folder / "images").rglob("1.2.1.dcm")
    assert stored_data_set(path) == sent
    (line,) = secured.logged_after_stop("association.accepted")
    assert 'tls="TLSv1.3 TLS_AES_256_GCM_SHA384 client=ct1.example"' in line


def test_both_ports_serve_side_by_side(secured: Secured) -> None:
    secured.start()
    with Peer(secured.port) as plain, secured.peer(secured.issue()) as peer:
        plain.associate()
        peer.associate()
        assert plain.store(data_set("1.2.1"), "1.2.1").status == 0
        assert peer.store(data_set("1.2.2"), "1.2.2").status == 0
        peer.release()
        plain.release()
    first, second = secured.logged_after_stop("association.accepted")
    assert ("tls=" in first, "tls=" in second) == (False, True)


def test_with_tls_only_there_is_no_plain_port(secured: Secured) -> None:
    secured.start(tls_only=1)
    with pytest.raises(ConnectionRefusedError):
        Peer(secured.port)
    with secured.peer(secured.issue()) as peer:
        peer.associate()
        peer.release()


def test_handshakes_that_stall_hold_up_nobody(secured: Secured) -> None:
    secured.start()
    with contextlib.ExitStack() as stalled:
        for index in range(60):
            peer = stalled.enter_context(Peer(secured.tls_port))
            if index % 2:
                peer.send(b"\x16\x03\x01\x02\x00\x01")
        for _ in range(3):
            with secured.peer(secured.issue()) as peer:
                peer.associate()
                assert peer.store(data_set()).status == 0
                peer.release()
            with Peer(secured.port) as plain:
                plain.associate()
                plain.release()


def test_a_stop_ends_handshakes_and_aborts_idle_associations_through_tls(secured: Secured) -> None:
    secured.start()
    with Peer(secured.tls_port) as stalled, secured.peer(secured.issue()) as peer:
        stalled.send(b"\x16\x03\x01\x02\x00\x01")
        peer.associate()
        secured.running.stop()
        assert isinstance(peer.receive(), AAbort)
        assert peer.receive() is None
        assert stalled.receive() is None


def test_an_object_that_is_cut_off_is_not_stored(secured: Secured) -> None:
    secured.start()
    with secured.peer(secured.issue()) as peer:
        peer.associate()
        whole = store_request(data_set(pixels=bytes(200_000)), message_id=1)
        peer.send(whole[: len(whole) // 2])
        socket.socket.shutdown(peer.socket, socket.SHUT_WR)
        assert peer.receive() is None  # the receiver has seen it
    assert secured.logged_after_stop("instance.incomplete")
    assert not [path for path in (secured.running.folder / "images").rglob("*") if path.is_file()]


def test_a_reload_takes_up_certificates_and_open_associations_go_on(secured: Secured) -> None:
    secured.start()
    lost = secured.issue("lost")
    with secured.peer(lost) as peer:
        peer.associate()
        secured.hospital.authority.issue("renewed").save(secured.running.folder, "server")
        secured.hospital.file("crl.pem", secured.hospital.authority.revocation_list([lost]))
        secured.configure(tls_crl="crl.pem")
        secured.running.reload()
        assert peer.store(data_set()).status == 0
        with secured.peer(secured.issue()) as other:
            assert isinstance(other.socket, ssl.SSLSocket)
            assert (("commonName", "renewed"),) in dict(other.socket.getpeercert() or {})["subject"]  # type: ignore[operator]
        with pytest.raises(ssl.SSLError, match="certificate revoked"), secured.peer(lost) as again:
            again.socket.recv(1)
        peer.release()
    (line,) = secured.logged_after_stop("tls.failed")
    assert "the sender's certificate is revoked in tls-crl: its administrator has to get a new one" in line


def test_a_reload_with_a_wrong_certificate_leaves_everything_as_it_was(secured: Secured) -> None:
    secured.start()
    (secured.running.folder / "server.key").write_text("")
    secured.running.reload()
    with secured.peer(secured.issue()) as peer:
        peer.associate()
        peer.release()
    (line,) = secured.logged_after_stop("config.not_reloaded")
    assert "tls-key= " in line
    assert "is not PEM" in line


def test_a_certificate_that_has_expired_holds_up_nobody_without_tls(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "LOOK_INTERVAL", 0.0)
    secured.hospital.authority.issue("receiver", ends=-DAY / 2).save(secured.running.folder, "server")
    secured.start()
    with Peer(secured.port) as plain:
        plain.associate()
        assert plain.store(data_set()).status == 0
        plain.release()
    with pytest.raises((ssl.SSLError, ConnectionError)), secured.peer(secured.issue()) as peer:
        peer.socket.recv(1)
    secured.hospital.authority.issue("receiver").save(secured.running.folder, "server")
    with secured.peer(secured.issue()) as peer:
        peer.associate()
        peer.release()
    line, refused = secured.logged_after_stop("tls.not_ready")
    assert "'receiver' expired on" in line
    assert "who comes to tls-port is refused" in line
    assert re.search(r"there is no certificate to show: tls-certificate= \S+: 'receiver' expired on \d{4}-", refused)
    assert not secured.running.logged("tls.failed")  # for that is told of senders
    assert secured.running.logged("tls.renewed")


def test_with_tls_only_an_expired_certificate_is_a_refusal_to_start(secured: Secured) -> None:
    secured.hospital.authority.issue("receiver", ends=-DAY / 2).save(secured.running.folder, "server")
    secured.configure(tls_only=1)
    with pytest.raises(ConfigurationError, match=r"tls-certificate= .*'receiver' expired on"):
        receiver.run(secured.running.folder / "DcmStore.ini", secured.running.host, with_console=False)


def test_a_tls_port_that_is_taken_is_told_by_its_number(secured: Secured) -> None:
    secured.start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        secured.tls_port = taken
        secured.configure()
        secured.running.reload()
    (line,) = secured.logged_after_stop("config.not_reloaded")
    assert f"port {taken}: taken by " in line
    assert f"(process {os.getpid()})" in line


def test_an_ae_title_is_bound_to_its_certificate_on_both_ports(secured: Secured) -> None:
    secured.start(tls_names="PEER:ct1.example, PACS:pacs.example")
    with secured.peer(secured.issue("ct1.example")) as peer:
        peer.associate()
        peer.release()
    strangers = [secured.issue("mr1.example"), secured.issue("pacs.example")]
    for peer in (*map(secured.peer, strangers), Peer(secured.port)):
        with peer:
            peer.send(pdu.encode(association_request()))
            assert isinstance(peer.receive(), AAssociateRJ)
    lines = secured.logged_after_stop("association.rejected")
    assert len(lines) == 3
    assert all("tls-names binds PEER to a certificate of ct1.example" in line for line in lines)


def test_each_failed_handshake_is_a_line_that_says_what_to_do(secured: Secured) -> None:
    secured.start()
    with pytest.raises(ssl.SSLError), secured.peer(secured.hospital.authority.issue("a", ends=-DAY / 2)) as peer:
        peer.socket.recv(1)
    with pytest.raises(ssl.SSLError), secured.peer(Authority("Else").issue("b")) as peer:
        peer.socket.recv(1)
    with pytest.raises(ssl.SSLError), secured.peer() as peer:
        peer.socket.recv(1)
    Peer(secured.tls_port).socket.close()  # a probe: not a line
    expired, stranger, missing = secured.logged_after_stop("tls.failed")
    assert "the sender's certificate, or its authority's, has expired" in expired
    assert "is of an authority that is not in tls-ca" in stranger
    assert "the sender has no client certificate, and tls-client= required" in missing
    assert all("peer=127.0.0.1:" in line and "WARNING" in line for line in (expired, stranger, missing))


# --- other programs ------------------------------------------------------------------------------


def of_dcmtk(secured: Secured, issued: Issued) -> list[str | Path]:
    certificate, key = issued.save(secured.running.folder, "storescu")
    return ["+tls", key, certificate, "+cf", secured.running.folder / "ca.pem"]


@pytest.mark.interop("storescu", "echoscu")
@pytest.mark.parametrize("kind", ["RSA", "elliptic curve"])
@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtk_sends_with_each_of_its_bcp195_profiles(secured: Secured, kind: str, profile: str) -> None:
    if kind == "RSA":
        secured.hospital.authority.issue("receiver", key=rsa_key()).save(secured.running.folder, "server")
    secured.start()
    options = [*of_dcmtk(secured, secured.issue("storescu")), profile]
    output = run("storescu", "-v", *options, "127.0.0.1", secured.tls_port, CT_SMALL)
    assert "Received Store Response (Success)" in output, output
    assert "exit code 0" in run("echoscu", *options, "127.0.0.1", secured.tls_port)


@pytest.mark.interop("echoscu")
def test_dcmtk_needs_no_certificate_where_none_is_asked_for(secured: Secured) -> None:
    secured.start(tls_client="none", tls_ca="")
    output = run("echoscu", "+tla", "+cf", secured.running.folder / "ca.pem", "127.0.0.1", secured.tls_port)
    assert "exit code 0" in output, output


@pytest.mark.interop("echoscu")
def test_the_retired_profile_of_dcmtk_is_refused_in_words(secured: Secured) -> None:
    secured.hospital.authority.issue("receiver", key=rsa_key()).save(secured.running.folder, "server")
    secured.start()
    output = run("echoscu", *of_dcmtk(secured, secured.issue()), "+pa", "127.0.0.1", secured.tls_port)
    assert "exit code 0" not in output
    (line,) = secured.logged_after_stop("tls.failed")
    assert "the sender offers no cipher suite of tls-profile" in line


def test_pynetdicom_echoes_over_tls(secured: Secured) -> None:
    secured.start()
    ae = AE()
    ae.add_requested_context(Verification)
    context = secured.hospital.client(secured.issue("pynetdicom"))
    association = ae.associate("127.0.0.1", secured.tls_port, tls_args=(context, "localhost"))
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    association.release()


OFFERS: list[tuple[Sequence[str], str]] = [
    (["-tls1_3"], "TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"),
    (["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], "TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256"),
    (["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], "TLSv1.3, Cipher is TLS_CHACHA20_POLY1305_SHA256"),
    (["-tls1_2"], "TLSv1.2, Cipher is ECDHE-RSA-AES256-GCM-SHA384"),
    (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "TLSv1.2, Cipher is ECDHE-RSA-AES128-GCM-SHA256"),
    (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"], "ECDHE-RSA-AES256-GCM-SHA384"),
]

REFUSED: list[Sequence[str]] = [
    ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
    ["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
    ["-tls1_2", "-cipher", "AES256-GCM-SHA384"],  # no forward secrecy
    ["-tls1_2", "-cipher", "AES128-SHA"],
    ["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA384"],  # CBC
    ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"],
    ["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"],  # RFC 9325 4.1: not of finite fields
    ["-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"],  # of bcp195-modified only
    ["-tls1_2", "-cipher", "CAMELLIA256-SHA"],
    ["-tls1_2", "-cipher", "NULL-SHA256:@SECLEVEL=0"],
    ["-tls1_2", "-cipher", "ADH-AES256-GCM-SHA384:@SECLEVEL=0"],
]


def s_client(secured: Secured, *options: str, typed: str = "") -> str:
    ca = secured.running.folder / "ca.pem"
    return run("openssl", "s_client", "-connect", f"127.0.0.1:{secured.tls_port}", "-CAfile", ca, *options, typed=typed)


@pytest.fixture
def of_rsa(secured: Secured) -> Secured:
    """Started with a key of RSA, without client certificates."""
    secured.hospital.authority.issue("receiver", key=rsa_key()).save(secured.running.folder, "server")
    secured.start(tls_client="none", tls_ca="")
    return secured


@pytest.mark.interop("openssl")
def test_openssl_agrees_on_each_version_and_suite_of_the_profile(of_rsa: Secured) -> None:
    for options, agreed in OFFERS:
        output = s_client(of_rsa, *options)
        assert agreed in output, output
        assert "Verify return code: 0 (ok)" in output
        assert "Secure Renegotiation IS supported" in output or "-tls1_3" in options
        assert "Compression: NONE" in output


@pytest.mark.interop("openssl")
def test_openssl_is_refused_with_what_the_profile_does_not_have(of_rsa: Secured) -> None:
    for options in REFUSED:
        output = s_client(of_rsa, *options)
        assert "Cipher is (NONE)" in output, (options, output)
        assert "alert" in output, (options, output)
    lines = of_rsa.logged_after_stop("tls.failed")
    assert any("offers no TLS 1.2 or newer" in line for line in lines)
    assert any("offers no cipher suite of tls-profile" in line for line in lines)


@pytest.mark.interop("openssl")
def test_openssl_can_not_renegotiate(of_rsa: Secured) -> None:
    output = s_client(of_rsa, "-tls1_2", typed="R\n")
    assert "RENEGOTIATING" in output
    assert "no renegotiation" in output


def test_a_garbage_stream_within_tls_ends_as_it_does_without(secured: Secured) -> None:
    secured.start()
    with secured.peer(secured.issue()) as peer:
        peer.send(b"GET / HTTP/1.0\r\n\r\n")
        assert isinstance(peer.receive(), AAbort)
    assert secured.logged_after_stop("association.aborted")


def test_many_handshakes_leave_no_descriptor_open(secured: Secured) -> None:
    secured.start()
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("counts descriptors as Linux shows them")
    client = secured.hospital.client(secured.issue())
    before = len(list(folder.iterdir()))
    for index in range(30):
        plain = socket.create_connection(("127.0.0.1", secured.tls_port), 10)
        with plain if index % 2 else client.wrap_socket(plain):
            pass
    secured.running.stop()
    assert len(list(folder.iterdir())) <= before
