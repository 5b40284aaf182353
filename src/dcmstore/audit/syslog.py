"""an audit message -> bytes for a syslog server (RFC 5424, PS3.15 A.6 and A.7), and where that server is. Pure."""

import re
from dataclasses import dataclass

from dcmstore.audit.messages import Indicator, Message
from dcmstore.hosts import host_rule

DESTINATION_ALLOWED = (
    "udp://host:port, tcp://host:port or tls://host:port, or nothing for the log of this system; "
    "without a port: 514, with tls 6514"
)
APPLICATION_NAME = "dcmstore"

_DEFAULT_PORTS = {"udp": 514, "tcp": 514, "tls": 6514}  # RFC 5426 3.3, RFC 6587 3.2, RFC 5425 4.1
_DESTINATION = re.compile(r"(udp|tcp|tls)://(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+))(?::([0-9]{1,5}))?/?")
_FACILITY = 10  # security and authorization messages (A.6)
_NOTICE, _WARNING = 5, 4  # A.6: normally the first, the other where the message tells of something worse
_MESSAGE_ID = "DICOM+RFC3881"
_BOM = b"\xef\xbb\xbf"  # RFC 5424 6.4: what follows is UTF-8
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
_MAX_HOST = 255  # characters (RFC 5424 6)


@dataclass(frozen=True, slots=True)
class Destination:
    """A syslog server. The protocol is a scheme of DESTINATION_ALLOWED, or empty for this system's own log."""

    protocol: str
    host: str
    port: int

    def __str__(self) -> str:
        if self == THIS_SYSTEM:
            return ""
        return f"{self.protocol}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


THIS_SYSTEM = Destination("", "", 0)


def destination(value: str) -> Destination:
    """Raises ValueError on what DESTINATION_ALLOWED does not cover."""
    if not value:
        return THIS_SYSTEM
    parts = _DESTINATION.fullmatch(value)
    if parts is None:
        raise ValueError(value)
    protocol, address, name, digits = parts.groups()
    host_rule(address or name)
    port = int(digits) if digits else _DEFAULT_PORTS[protocol]
    if not 1 <= port <= 65_535:
        raise ValueError(value)
    return Destination(protocol, address or name, port)


def encode(message: Message) -> bytes:
    """A SYSLOG-MSG of RFC 5424, with the whole XML document as its MSG."""
    header = " ".join(
        (
            f"<{_priority(message)}>1",
            message.moment.isoformat(timespec="milliseconds"),
            _host_name(message.reporter.host),
            APPLICATION_NAME,
            str(message.reporter.process_id),
            _MESSAGE_ID,
            "- ",  # no structured data
        )
    )
    return header.encode("ascii") + _BOM + _document(message)


def encode_local(message: Message) -> bytes:
    """The same for the log of this system, which takes an older form: without time and host, for it knows them."""
    head = f"<{_priority(message)}>{APPLICATION_NAME}[{message.reporter.process_id}]: "
    return head.encode("ascii") + _document(message)


def frame(encoded: bytes) -> bytes:
    """A SYSLOG-MSG on a stream, its length in front (RFC 5425 4.3)."""
    return b"%d %s" % (len(encoded), encoded)


def _document(message: Message) -> bytes:
    return (_DECLARATION + message.xml).encode()


def _priority(message: Message) -> int:
    severity = _NOTICE if message.indicator is Indicator.SUCCESS else _WARNING
    return _FACILITY * 8 + severity


def _host_name(name: str) -> str:
    is_printable = name.isascii() and name.isprintable() and " " not in name
    return name[:_MAX_HOST] if name and is_printable else "-"
