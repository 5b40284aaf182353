"""What the ini may say of peers and forwards."""

import pytest

from dcmstore.forwarding import peers
from dcmstore.forwarding.peers import Peer
from dcmstore.values import NotAllowed


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
        "PACS@a b:104", "A-TITLE-OF-17-CHR@h:104", "P\\S@h:104", "A@h:1 B@g:2",
    ],
)  # fmt: skip
def test_what_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(NotAllowed, match="allowed is "):
        peers.peer_of(text)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("PACS@h:104, A-TITLE-OF-17-CHR@h:104", "the AE title of 'A-TITLE-OF-17-CHR@h:104' is 'A-TITLE-OF-17-CHR'; "),
        ("PACS@h:104, QA@h/8:104", "the host of 'QA@h/8:104' is 'h/8'; allowed is one address, one of IPv6 in bra"),
        ("PACS@h:104, QA@h:99999", "the port of 'QA@h:99999' is '99999'; allowed is a whole number from 1 to 65535"),
        ("PACS@h:104, QA@h", "'QA@h' has no port; allowed is AE@host:port, such as"),
        ("PACS@h:104, QA", "'QA' has no host; allowed is AE@host:port, such as"),
        ("PACS@h:104, PACS@g:104", "the AE title 'PACS' stands there 2 times; allowed is once"),
        ("PACS@h:104; QA@h:104", "';' separates nothing; allowed is a comma"),
    ],
)
def test_the_part_of_a_list_that_is_wrong_is_named(value: str, part: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        peers.peer_list(value)
    assert str(caught.value).startswith(part)


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
    with pytest.raises(NotAllowed, match="allowed is "):
        peers.forward_line(line)


@pytest.mark.parametrize("line", ["PACS, QA", "PACS@h:104, QA@g:104", "PACS@h:104; QA@g:104", "A@h:1 MY AE@g:2"])
def test_a_line_names_one_peer_only(line: str) -> None:
    with pytest.raises(NotAllowed, match="is more than one peer; allowed is one, and as many lines as there are peers"):
        peers.forward_line(line)


def test_an_ae_title_that_is_no_peer_is_told_with_what_to_do() -> None:
    known = peers.by_ae_title(("QA@h:104",))
    with pytest.raises(NotAllowed, match="'PACS' is no peer; allowed are those of peers=, which has QA; add it"):
        peers.forwards_of(("PACS",), known)
