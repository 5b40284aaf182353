"""PEM -> what its certificates and revocation lists say of themselves: whose they are, who issued them, until when.

Python's ssl module uses these files and tells nothing of them. The few fields that an administrator asks for stand at
the head of each (RFC 5280 4.1 and 5.1), in DER: a tag, a length, a value. Nothing is verified here: that is OpenSSL's.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

CERTIFICATE, REVOCATION_LIST = "CERTIFICATE", "X509 CRL"  # labels of PEM blocks (RFC 7468)

Name: TypeAlias = tuple[tuple[bytes, str], ...]  # (attribute, its value with single blanks) …

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)

# Tags of DER
_INTEGER, _OBJECT_IDENTIFIER, _SEQUENCE, _SET, _VERSION = 0x02, 0x06, 0x30, 0x31, 0xA0
_TIMES = _UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_SHORTEST = 2  # bytes of an item: a tag and a length
_LONG_LENGTH = 0x80
_COMMON_NAME = bytes((0x55, 0x04, 0x03))  # 2.5.4.3
_CHARACTER_SETS = {0x1E: "utf-16-be", 0x1C: "utf-32-be"}  # BMPString, UniversalString; all others are UTF-8 or ASCII


@dataclass(frozen=True, slots=True)
class Certificate:
    """The head of a certificate. Times are in UTC."""

    subject: Name
    issuer: Name
    begins: datetime
    ends: datetime

    @property
    def label(self) -> str:
        return label_of(self.subject)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """The head of a certificate revocation list. Without `ends` it is good until a newer one comes."""

    issuer: Name
    begins: datetime
    ends: datetime | None

    @property
    def label(self) -> str:
        return label_of(self.issuer)


def blocks(pem: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the label and what is in it, encoded still, of each PEM block."""
    for match in _BLOCK.finditer(pem):
        yield match[1].decode("ascii"), match[2]


def certificates(pem: bytes) -> list[Certificate]:
    """Those of a PEM file, in its order. Raises ValueError for one that can't be read."""
    return [_certificate(base64.b64decode(body)) for label, body in blocks(pem) if label == CERTIFICATE]


def revocation_lists(pem: bytes) -> list[RevocationList]:
    """Those of a PEM file, in its order. Raises ValueError for one that can't be read."""
    return [_revocation_list(base64.b64decode(body)) for label, body in blocks(pem) if label == REVOCATION_LIST]


def label_of(name: Name) -> str:
    """The common name, or else whatever stands last."""
    values = dict(name)
    return values.get(_COMMON_NAME) or (name[-1][1] if name else "(without a name)")


# --- the two heads -------------------------------------------------------------------------------


def _certificate(encoded: bytes) -> Certificate:
    head = _Reader(_Reader(_Reader(encoded).take(_SEQUENCE)).take(_SEQUENCE))
    if head.tag == _VERSION:  # absent from certificates of version 1
        head.take(_VERSION)
    head.take(_INTEGER)  # the serial number
    head.take(_SEQUENCE)  # the algorithm of the signature
    issuer = _name(head.take(_SEQUENCE))
    validity = _Reader(head.take(_SEQUENCE))
    begins, ends = _time(validity), _time(validity)
    return Certificate(_name(head.take(_SEQUENCE)), issuer, begins, ends)


def _revocation_list(encoded: bytes) -> RevocationList:
    head = _Reader(_Reader(_Reader(encoded).take(_SEQUENCE)).take(_SEQUENCE))
    if head.tag == _INTEGER:  # the version; absent from lists of version 1
        head.take(_INTEGER)
    head.take(_SEQUENCE)  # the algorithm of the signature
    issuer = _name(head.take(_SEQUENCE))
    begins = _time(head)
    return RevocationList(issuer, begins, _time(head) if head.tag in _TIMES else None)


def _name(encoded: bytes) -> Name:
    """RFC 5280 4.1.2.4: a sequence of sets of pairs."""
    attributes = []
    groups = _Reader(encoded)
    while groups.tag:
        group = _Reader(groups.take(_SET))
        while group.tag:
            pair = _Reader(group.take(_SEQUENCE))
            attribute = pair.take(_OBJECT_IDENTIFIER)
            character_set = _CHARACTER_SETS.get(pair.tag, "utf-8")
            attributes.append((attribute, " ".join(pair.take(pair.tag).decode(character_set, "replace").split())))
    return tuple(attributes)


def _time(reader: "_Reader") -> datetime:
    """RFC 5280 4.1.2.5: years of two digits are 1950 to 2049."""
    is_short = reader.tag == _UTC_TIME
    text = reader.take(*_TIMES).decode("ascii")
    if is_short:
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


class _Reader:
    """Takes item by item off a value of DER. Raises ValueError where one is not what must stand there."""

    def __init__(self, encoded: bytes) -> None:
        self._rest = encoded

    @property
    def tag(self) -> int:
        """Of the next item; 0 when there is none."""
        return self._rest[0] if self._rest else 0

    def take(self, *allowed: int) -> bytes:
        """The value of the next item."""
        if self.tag not in allowed or len(self._rest) < _SHORTEST:
            raise ValueError(f"DER: got tag {self.tag:02X}H, allowed is {' or '.join(f'{t:02X}H' for t in allowed)}")
        length, start = self._rest[1], _SHORTEST
        if length >= _LONG_LENGTH:  # then it is the number of bytes that hold the length
            start += length - _LONG_LENGTH
            length = int.from_bytes(self._rest[_SHORTEST:start], "big")
        value, self._rest = self._rest[start : start + length], self._rest[start + length :]
        if len(value) < length:
            raise ValueError(f"DER: an item of {length} bytes has only {len(value)}")
        return value
