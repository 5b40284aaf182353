"""What the ini may say of peers and forwards."""

import pytest

from dcmstore.errors import ConfigurationError
from dcmstore.forwarding import peers
from dcmstore.forwarding.peers import Peer


@pytest.mark.parametrize(
    ("text", "peer", "written"),
    [
        ("PACS@192.0.2.7:104", Peer("PACS", "192.0.2.7", 104), "PACS@192.0.2.7:104"),
        ("PACS @ pacs.example : 11112", Peer("PACS", "pacs.example", 11112), "PACS@pacs.example:11112"),
        ("PACS@[2001:db8::7]:104", Peer("PACS", "2001:db8::7", 104), "PACS@[2001:db8::7]:104"),
        ("PACS@[fe80::1%eth0]:104", Peer("PACS", "fe80::1%eth0", 104), "PACS@[fe80::1%eth0]:104"),
        ("MY PACS@h:1", Peer("MY PACS", "h", 1), "MY PACS@h:1"),
        ("A@B@h:1", Peer("A@B", "h", 1), "A@B@h:1"),
    ],
)
def test_a_peer_is_read_and_written(text: str, peer: Peer, written: str) -> None:
    assert peers.peer_of(text) == peer
    assert str(peer) == written
    assert peers.peer_of(written) == peer


@pytest.mark.parametrize(
    "text",
    [
        "", "PACS", "PACS@", "PACS@h", "PACS@h:", "@h:104", "PACS@:104", "PACS@h:0", "PACS@h:65536", "PACS@h:x",
        "PACS@2001:db8::7:104", "PACS@[192.0.2.7]:104", "PACS@192.0.2.0/24:104", "PACS@192.0.2.*:104",
        "PACS@a b:104", "A-TITLE-OF-17-CHR@h:104", "P\\S@h:104",
    ],
)  # fmt: skip
def test_what_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        peers.peer_of(text)


def test_a_list_of_peers_is_read() -> None:
    assert peers.peer_list("PACS@h:104, QA @ [::1]:4242") == ("PACS@h:104", "QA@[::1]:4242")
    assert peers.peer_list("") == ()
    assert peers.by_ae_title(("PACS@h:104",)) == {"PACS": Peer("PACS", "h", 104)}


@pytest.mark.parametrize("value", ["PACS@h:104, PACS@g:104", "PACS@h:104;QA@g:104", "PACS@h:104,"])
def test_a_list_that_means_nothing_clear_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        peers.peer_list(value)


def test_a_line_names_a_peer_or_one_of_the_list() -> None:
    known = peers.by_ae_title(("PACS@h:104",))
    lines = [peers.forward_line(line) for line in ("[modality=CT] PACS", "QA@[::1]:4242")]
    first, second = peers.forwards_of(lines, known)
    assert (first.target, first.peer) == ("PACS", Peer("PACS", "h", 104))
    assert first.rule.matches({"modality": "CT"})
    assert not first.rule.matches({"modality": "MR"})
    assert (second.target, second.peer) == ("QA@[::1]:4242", Peer("QA", "::1", 4242))


@pytest.mark.parametrize("line", ["", "[modality=CT]", "[colour=red] PACS", "PACS@h", "[modality=CT] PACS@h:0"])
def test_a_line_that_is_no_forward_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        peers.forward_line(line)


def test_an_ae_title_that_is_no_peer_is_told_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="peers= has no 'PACS'; add it to peers= as AE@host:port"):
        peers.forwards_of(("PACS",), {})
