"""`AE@host:port` -> a peer, `[rule] AE@host:port` -> a forward: whom objects go to, as the ini names them."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from dcmstore import rules, values
from dcmstore.hosts import host_rule
from dcmstore.rules import RULE_ALLOWED, Rule
from dcmstore.values import NotAllowed

PEER_ALLOWED = "AE@host:port, such as PACS@192.0.2.7:104 or PACS@[2001:db8::7]:104"
PEERS_ALLOWED = f"{PEER_ALLOWED}, separated by commas, an AE title once, or nothing"
FORWARD_ALLOWED = f"AE@host:port or an AE title of peers=, behind a rule or none; a rule is {RULE_ALLOWED}"

_HOST_ALLOWED = "one address, one of IPv6 in brackets, or a host name"
_SEVERAL = re.compile(r"@\S+:\d+\s.*@")  # with nothing but a blank between them
_port, _PORT_ALLOWED = values.number(1, 65535)

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class Peer:
    """An AE and where it listens. Its text is how the ini has it."""

    ae_title: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Forward:
    """Objects for which the rule counts go to the peer; `target` is how the line names it."""

    rule: Rule
    target: str
    peer: Peer


def peer_of(text: str) -> Peer:
    """Raises NotAllowed on what PEER_ALLOWED does not cover."""
    if _SEVERAL.search(text):
        raise NotAllowed(f"{text!r} is more than one peer; allowed is {PEER_ALLOWED}, with commas between several")
    ae_title, sign, address = text.rpartition("@")
    host, colon, port = address.rpartition(":")
    if not sign or not colon:
        raise NotAllowed(f"{text!r} has no {'port' if sign else 'host'}; allowed is {PEER_ALLOWED}")
    return Peer(
        _part(text, "AE title", ae_title.strip(), values.ae_title, values.AE_TITLE_ALLOWED),
        _part(text, "host", host.strip(), _host, _HOST_ALLOWED),
        _part(text, "port", port.strip(), _port, _PORT_ALLOWED),
    )


def _part(text: str, name: str, part: str, parse: Callable[[str], _Parsed], allowed: str) -> _Parsed:
    try:
        return parse(part)
    except ValueError:
        raise NotAllowed(f"the {name} of {text!r} is {part!r}; allowed is {allowed}") from None


def peer_list(value: str) -> tuple[str, ...]:
    """The items of `peers`, each as its Peer is written. Raises NotAllowed on what PEERS_ALLOWED does not cover."""
    peers = tuple(map(peer_of, values.listed(value, peer_of)))
    for ae_title, count in Counter(peer.ae_title for peer in peers).items():
        if count > 1:
            raise NotAllowed(f"the AE title {ae_title!r} stands there {count} times; allowed is once")
    return tuple(map(str, peers))


def target_of(line: str) -> str:
    """How a line that `forward_line` returned names its peer, also one that `peers` does not have."""
    return _split(line)[1]


def forward_line(value: str) -> str:
    """A line of `forward-to` as it stands. Raises NotAllowed on what FORWARD_ALLOWED does not cover."""
    _split(value)
    return value


def by_ae_title(items: Iterable[str]) -> dict[str, Peer]:
    """The peers of a list that `peer_list` returned."""
    return {peer.ae_title: peer for peer in map(peer_of, items)}


def forwards_of(lines: Iterable[str], peers: Mapping[str, Peer]) -> tuple[Forward, ...]:
    """Lines that `forward_line` returned. Raises NotAllowed for an AE title that is no peer."""
    return tuple(forward_of(line, peers) for line in lines)


def resolve(target: str, peers: Mapping[str, Peer]) -> Peer | None:
    """The peer that `AE@host:port` is, or that an AE title alone names; None where it names none."""
    return peer_of(target) if "@" in target else peers.get(target)


def forward_of(line: str, peers: Mapping[str, Peer]) -> Forward:
    """As `forwards_of`."""
    rule, target = _split(line)
    peer = resolve(target, peers)
    if peer is None:
        known = ", ".join(peers) or "none"
        advice = f"allowed are those of peers=, which has {known}; add it there as AE@host:port, or write it so here"
        raise NotAllowed(f"{target!r} is no peer; {advice}")
    return Forward(rule, target, peer)


def _split(line: str) -> tuple[Rule, str]:
    rule, target = rules.split(line)
    if "," in target or ";" in target or _SEVERAL.search(target):
        raise NotAllowed(f"{target!r} is more than one peer; allowed is one, and as many lines as there are peers")
    if "@" in target:
        return rule, str(peer_of(target))
    return rule, _part(target, "AE title", target, values.ae_title, f"{values.AE_TITLE_ALLOWED}, or {PEER_ALLOWED}")


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return str(ipaddress.IPv6Address(text[1:-1]))
    if "/" in text or ":" in text:  # a network is no host, and an address of IPv6 needs its brackets
        raise ValueError(text)
    host_rule(text)
    return text
