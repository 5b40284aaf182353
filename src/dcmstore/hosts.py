"""how a person names hosts -> rules that an address meets or not: an address, a network, a name."""

import ipaddress
import re
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
HostRule: TypeAlias = Network | str  # a network, of one address too, or a name

HOST_ALLOWED = "an address, a network in CIDR notation such as 192.0.2.0/24 (no range, no wildcard), or a host name"

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_MISTYPED_NUMBER = re.compile(r"[0-9./:]*|[0-9-]*[./:][0-9./:-]*")  # a range too
_MAX_NAME = 253  # characters (RFC 1035 2.3.4)


def host_rule(text: str) -> HostRule:
    """Raises ValueError on what HOST_ALLOWED does not cover."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        if _MISTYPED_NUMBER.fullmatch(text) or len(text) > _MAX_NAME or not _NAME.fullmatch(text):
            raise ValueError(text) from None
    return text


def address_of(host: str) -> Address | None:
    """The address by which a socket names its peer; one of IPv4 in IPv6's clothes is one of IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])  # behind the sign: the interface of a link-local one
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
