"""who asks, from where, as whom -> a refusal or none: the rules on hosts, AE titles and users.

A rule of the ini names a host by its address, by a network in CIDR notation, or by a name, which is looked up when
somebody connects. `AE@host` binds an AE title to a host.
"""

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from dcmstore.hosts import Address, HostRule, address_of
from dcmstore.tls import identity
from dcmstore.ul import negotiation
from dcmstore.ul.items import UserIdentity
from dcmstore.ul.pdu import AAssociateRJ, AAssociateRQ
from dcmstore.users import Users

Lookup: TypeAlias = Callable[[str], frozenset[Address]]

NAME_LIFE = 60.0  # seconds for which the addresses of a name are remembered
RETRY = 5.0  # seconds after which a name is asked for again that nobody could be asked about
NAME = 1  # the kind of user identity that only names (PS3.7 D.3.3.7.1)
NAME_AND_PASSCODE = 2  # the kind of user identity that can be checked here (PS3.7 D.3.3.7.1)

# What says that there is no such name, rather than that it can't be found out now.
_UNKNOWN = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class Refusal(NamedTuple):
    """The answer to an association request, and for the log why it is given."""

    answer: AAssociateRJ
    because: str | None = None


def user_name_in(identity: UserIdentity | None) -> str:
    """The user whom a sender names; nothing where it names none or sends a token."""
    if identity is None or identity.kind not in (NAME, NAME_AND_PASSCODE):
        return ""
    return identity.primary.decode("utf-8", "replace")


class NameLookup:
    """The addresses of host names, asked of the system and remembered for a minute. For any thread.

    While no name server answers, those that were known stay: a known sender is not turned away for that.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, frozenset[Address]]] = {}

    def __call__(self, name: str) -> frozenset[Address]:
        """Empty for a name that nobody knows."""
        asked, addresses = self._known.get(name, (-NAME_LIFE, frozenset()))
        if self._clock() - asked < NAME_LIFE:
            return addresses
        life = NAME_LIFE
        try:
            found = (address_of(str(answer[4][0])) for answer in socket.getaddrinfo(name, None))
            addresses = frozenset(address for address in found if address is not None)
        except UnicodeError:
            addresses = frozenset()
        except OSError as error:
            if error.errno in _UNKNOWN:
                addresses = frozenset()
            else:
                life = RETRY
        self._known[name] = (self._clock() - NAME_LIFE + life, addresses)
        return addresses


@dataclass(frozen=True, slots=True)
class Access:
    """Who may send. Without hosts, AE titles or users, everybody may."""

    hosts: tuple[HostRule, ...] = ()
    ae_titles: Mapping[str, tuple[HostRule, ...]] = field(default_factory=dict)  # AE title -> its hosts, () is any
    certificates: Mapping[str, str] = field(default_factory=dict)  # AE title -> the name in its certificate
    users: Users | None = None
    requires_user: bool = False
    lookup: Lookup = field(default_factory=NameLookup)

    def refusal(self, request: AAssociateRQ, host: str, certified: Sequence[str] = ()) -> Refusal | None:
        """Why this request from this address is refused, if it is. May take as long as a lookup of a name.

        `certified` is the names in the sender's certificate.
        """
        return (
            self._refusal_of_host(host)
            or self._refusal_of_ae_title(request.calling_ae_title, host)
            or self._refusal_of_certificate(request.calling_ae_title, certified)
            or self._refusal_of_user(request.user_information.user_identity)
        )

    def _refusal_of_host(self, host: str) -> Refusal | None:
        if not self.hosts or self._is_among(host, self.hosts):
            return None
        return Refusal(negotiation.NO_REASON_GIVEN, f"{host} is not in allowed-hosts")

    def _refusal_of_ae_title(self, calling_ae_title: str, host: str) -> Refusal | None:
        if not self.ae_titles:
            return None
        hosts = self.ae_titles.get(calling_ae_title)
        if hosts is None:
            return Refusal(negotiation.CALLING_AE_TITLE_NOT_RECOGNIZED, f"{calling_ae_title} is not in allowed-ae")
        if not hosts or self._is_among(host, hosts):
            return None
        because = f"allowed-ae binds {calling_ae_title} to {', '.join(map(str, hosts))}, and it came from {host}"
        return Refusal(negotiation.CALLING_AE_TITLE_NOT_RECOGNIZED, because)

    def _refusal_of_certificate(self, calling_ae_title: str, certified: Sequence[str]) -> Refusal | None:
        problem = identity.problem_with(certified, calling_ae_title, self.certificates)
        return Refusal(negotiation.CALLING_AE_TITLE_NOT_RECOGNIZED, problem) if problem else None

    def _refusal_of_user(self, given: UserIdentity | None) -> Refusal | None:
        if self.users is None:
            return None
        if given is None or given.kind != NAME_AND_PASSCODE:
            because = "require-user= 1, and no user name with a passcode came"
            return Refusal(negotiation.USER_NOT_RECOGNIZED, because) if self.requires_user else None
        name = user_name_in(given)
        if self.users.verify(name, given.secondary):
            return None
        return Refusal(negotiation.USER_NOT_RECOGNIZED, f"user {name!r} is unknown, or the passcode is wrong")

    def _is_among(self, host: str, rules: Iterable[HostRule]) -> bool:
        address = address_of(host)
        return address is not None and any(self._is_covered(address, rule) for rule in rules)

    def _is_covered(self, address: Address, rule: HostRule) -> bool:
        if isinstance(rule, str):
            return address in self.lookup(rule)
        return address.version == rule.version and address in rule
