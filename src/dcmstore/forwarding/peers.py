"""`AE@host:port` -> a peer, `[rule] AE@host:port` -> a forward: whom objects go to, as the ini names them."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dcmstore import rules, values
from dcmstore.errors import ConfigurationError
from dcmstore.hosts import host_rule
from dcmstore.rules import RULE_ALLOWED, Rule

PEER_ALLOWED = "AE@host:port, such as PACS@192.0.2.7:104 or PACS@[2001:db8::7]:104"
PEERS_ALLOWED = f"{PEER_ALLOWED}, separated by commas, an AE title once, or nothing"
FORWARD_ALLOWED = f"AE@host:port or an AE title of peers=, behind a rule or none; a rule is {RULE_ALLOWED}"

_port = values.number(1, 65535)[0]


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
    """Raises ValueError on what PEER_ALLOWED does not cover."""
    ae_title, sign, address = text.rpartition("@")
    host, colon, port = address.rpartition(":")
    if not sign or not colon:
        raise ValueError(text)
    return Peer(values.ae_title(ae_title), _host(host.strip()), _port(port.strip()))


def peer_list(value: str) -> tuple[str, ...]:
    """The items of `peers`, each as its Peer is written. Raises ValueError on what PEERS_ALLOWED does not cover."""
    peers = tuple(map(peer_of, values.listed(value, peer_of)))
    if len({peer.ae_title for peer in peers}) < len(peers):
        raise ValueError(value)
    return tuple(map(str, peers))


def forward_line(value: str) -> str:
    """A line of `forward-to` as it stands. Raises ValueError on what FORWARD_ALLOWED does not cover."""
    _split(value)
    return value


def by_ae_title(items: Iterable[str]) -> dict[str, Peer]:
    """The peers of a list that `peer_list` returned."""
    return {peer.ae_title: peer for peer in map(peer_of, items)}


def forwards_of(lines: Iterable[str], peers: Mapping[str, Peer]) -> tuple[Forward, ...]:
    """Lines that `forward_line` returned. Raises ConfigurationError for an AE title that is no peer."""
    return tuple(_forward(line, peers) for line in lines)


def resolve(target: str, peers: Mapping[str, Peer]) -> Peer | None:
    """The peer that `AE@host:port` is, or that an AE title alone names; None where it names none."""
    return peer_of(target) if "@" in target else peers.get(target)


def _forward(line: str, peers: Mapping[str, Peer]) -> Forward:
    rule, target = _split(line)
    peer = resolve(target, peers)
    if peer is None:
        advice = "add it to peers= as AE@host:port, or write it so here"
        raise ConfigurationError(f"forward-to= {line!r}: peers= has no {target!r}; {advice}")
    return Forward(rule, target, peer)


def _split(line: str) -> tuple[Rule, str]:
    rule, target = rules.split(line)
    return rule, str(peer_of(target)) if "@" in target else values.ae_title(target)


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return str(ipaddress.IPv6Address(text[1:-1]))
    if "/" in text or ":" in text:  # a network is no host, and an address of IPv6 needs its brackets
        raise ValueError(text)
    host_rule(text)
    return text
