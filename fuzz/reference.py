"""bytes -> what the standard reads in them: naive, from whole streams, sharing no code with the product.

It knows PS3.8 9.3 (PDUs and their items), PS3.7 6.3 (command sets), and what the documentation says is let pass.
Where the bytes break a rule, it raises Malformed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_ASSOCIATE = 1024 * 1024  # bytes of an association PDU, as ul/pdu.py promises
FIXED = (3, 5, 6, 7)  # PS3.8 9.3.4 and 9.3.6 to 9.3.8: four bytes behind the header
ASSOCIATE_HEAD = 68  # PS3.8 table 9-11: version, reserved, two AE titles, reserved


class Malformed(Exception):
    """The bytes break a rule of the standard."""


@dataclass(frozen=True)
class PDV:
    """A presentation data value, whole or as much of it as came."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes
    is_whole: bool = True


@dataclass
class Stream:
    """What a stream holds up to its end or to the first fault."""

    read: list[tuple[int, bytes] | PDV] = field(default_factory=list)
    is_malformed: bool = False
    pending: int = 0  # bytes that belong to something incomplete that can't be handed on yet
    is_between_pdus: bool = True


def read_stream(stream: bytes, longest_p_data: int) -> Stream:
    """PDUs but P-DATA-TF as (type, body), the PDVs of P-DATA-TF one by one (PS3.8 9.3.1, 9.3.5)."""
    result, position = Stream(), 0
    try:
        while position < len(stream):
            if len(stream) - position < 6:
                result.pending, result.is_between_pdus = len(stream) - position, False
                break
            kind, length = stream[position], int.from_bytes(stream[position + 2 : position + 6], "big")
            position += 6
            if kind == 4:
                _expect(6 <= length <= longest_p_data)
                result.pending = _read_pdvs(stream, position, position + length, result.read)
            else:
                _expect(kind in FIXED or kind in (1, 2))
                _expect(length == 4 if kind in FIXED else ASSOCIATE_HEAD <= length <= MAX_ASSOCIATE)
                if position + length > len(stream):
                    result.pending = len(stream) - position
                else:
                    result.read.append((kind, stream[position : position + length]))
            position += length
            result.is_between_pdus = position <= len(stream)
    except Malformed:
        result.is_malformed = True
    return result


def _read_pdvs(stream: bytes, position: int, end: int, read: list[tuple[int, bytes] | PDV]) -> int:
    """Read the PDVs that have come of one PDU; return how many bytes of an incomplete PDV header there are."""
    while position < end:
        _expect(end - position >= 6)  # a PDV that has no room for its own header
        if len(stream) - position < 6:
            return max(len(stream) - position, 0)
        length = int.from_bytes(stream[position : position + 4], "big")
        _expect(2 <= length <= end - position - 4)
        _expect(end - position - 4 - length not in range(1, 6))
        context_id, control = stream[position + 4 : position + 6]
        data = stream[position + 6 : position + 4 + length]
        is_whole = len(data) == length - 2
        if data or is_whole:
            read.append(PDV(context_id, bool(control & 1), bool(control & 2) and is_whole, data, is_whole))
        position += 4 + length
    return 0


def _expect(holds: bool) -> None:
    if not holds:
        raise Malformed


# --- A-ASSOCIATE (PS3.8 9.3.2 and 9.3.3, PS3.7 annex D) ----------------------------------------------


def text(raw: bytes) -> str:
    return raw.decode("latin-1").strip(" \0")


def items(body: bytes) -> list[tuple[int, bytes]]:
    found, position = [], 0
    while position < len(body):
        _expect(len(body) - position >= 4)
        length = int.from_bytes(body[position + 2 : position + 4], "big")
        _expect(position + 4 + length <= len(body))
        found.append((body[position], body[position + 4 : position + 4 + length]))
        position += 4 + length
    return found


def sized(body: bytes) -> tuple[bytes, bytes]:
    """A value behind its 16-bit length, and what follows it."""
    _expect(len(body) >= 2)
    length = int.from_bytes(body[:2], "big")
    _expect(len(body) >= 2 + length)
    return body[2 : 2 + length], body[2 + length :]


@dataclass
class Associate:
    """What an A-ASSOCIATE-RQ or -AC says."""

    version: int
    called: str
    calling: str
    application_context: str = ""
    contexts: list[tuple[int, int, str, list[str]]] = field(default_factory=list)  # ID, result, abstract, transfer
    max_length: int = 0
    implementation: tuple[str, str] = ("", "")
    roles: list[tuple[str, bool, bool]] = field(default_factory=list)
    identity: tuple[int, bool, bytes, bytes] | None = None


def associate(kind: int, body: bytes) -> Associate:
    said = Associate(
        int.from_bytes(body[:2], "big"), text(body[4:20].split(b"\0")[0]), text(body[20:36].split(b"\0")[0])
    )
    information = b""
    for item_type, value in items(body[ASSOCIATE_HEAD:]):
        if item_type == 0x10:
            said.application_context = text(value)
        elif item_type == (0x20 if kind == 1 else 0x21):
            said.contexts.append(_context(kind, value))
        elif item_type == 0x50:
            information = value
            _user_information(value, Associate(0, "", ""))  # one that does not count must be right all the same
    _user_information(information, said)
    ids = [context[0] for context in said.contexts]
    _expect(kind == 2 or len(ids) == len(set(ids)))
    return said


def _context(kind: int, value: bytes) -> tuple[int, int, str, list[str]]:
    _expect(len(value) >= 4 and value[0] % 2 == 1)
    result = 0 if kind == 1 else value[2]
    _expect(result <= 4)
    abstract, transfer = "", []
    for item_type, name in items(value[4:]):
        if item_type == 0x30 and kind == 1:
            abstract = text(name)
        elif item_type == 0x40:
            transfer.append(text(name))
    return value[0], result, abstract, transfer


def _user_information(body: bytes, said: Associate) -> None:
    for item_type, value in items(body):
        if item_type == 0x51:
            _expect(len(value) >= 4)
            said.max_length = int.from_bytes(value[:4], "big")
        elif item_type == 0x52:
            said.implementation = text(value), said.implementation[1]
        elif item_type == 0x53:
            _expect(len(value) >= 4)
        elif item_type == 0x54:
            uid, rest = sized(value)
            _expect(len(rest) >= 2)
            said.roles.append((text(uid), bool(rest[0]), bool(rest[1])))
        elif item_type == 0x55:
            said.implementation = said.implementation[0], text(value)
        elif item_type == 0x56:
            sized(value)
        elif item_type == 0x57:
            _common_extended_negotiation(value)
        elif item_type == 0x58:
            said.identity = _identity(value)
        elif item_type == 0x59:
            sized(value)


def _common_extended_negotiation(value: bytes) -> None:
    _, rest = sized(value)
    _, rest = sized(rest)
    related = sized(rest)[0] if rest else b""
    while related:
        _, related = sized(related)


def _identity(value: bytes) -> tuple[int, bool, bytes, bytes]:
    _expect(len(value) >= 2)
    primary, rest = sized(value[2:])
    return value[0], bool(value[1]), primary, sized(rest)[0] if rest else b""


# --- command sets (PS3.7 6.3.1, annex E) -------------------------------------------------------------

MAX_COMMAND = 16 * 1024  # bytes, as dimse/message.py promises


def command_elements(encoded: bytes) -> dict[int, bytes]:
    """Element number -> value; the last one counts."""
    elements, position = {}, 0
    while position < len(encoded):
        _expect(len(encoded) - position >= 8)
        _expect(encoded[position : position + 2] == b"\0\0")
        number = int.from_bytes(encoded[position + 2 : position + 4], "little")
        length = int.from_bytes(encoded[position + 4 : position + 8], "little")
        _expect(position + 8 + length <= len(encoded))
        elements[number] = encoded[position + 8 : position + 8 + length]
        if number in (0x0100, 0x0110, 0x0120, 0x0700, 0x0800, 0x0900, 0x1002, 0x1008):  # US
            _expect(length == 2)
        position += 8 + length
    _expect(0x0100 in elements)
    return elements


def us(elements: dict[int, bytes], number: int) -> int | None:
    return int.from_bytes(elements[number], "little") if number in elements else None


@dataclass
class Message:
    """A command set and its data set as they stand in a stream of PDVs; None where none was announced."""

    context_id: int
    elements: dict[int, bytes]
    data: bytes | None

    @property
    def field(self) -> int:
        return us(self.elements, 0x0100) or 0


def messages(pdvs: list[PDV]) -> Iterator[Message]:
    """The complete messages (PS3.8 annex E, PS3.7 6.3.1). Raises Malformed where their order is wrong."""
    context: int | None = None
    command: bytes = b""
    data: list[bytes] | None = None
    elements: dict[int, bytes] = {}
    for pdv in pdvs:
        _expect(context in (None, pdv.context_id))
        _expect(pdv.is_command is (data is None))
        context = pdv.context_id
        if data is None:
            command += pdv.data
            _expect(len(command) <= MAX_COMMAND)
            if not pdv.is_last:
                continue
            elements, command = command_elements(command), b""
            if us(elements, 0x0800) not in (None, 0x0101):
                data = []
                continue
            yield Message(context, elements, None)
        else:
            data.append(pdv.data)
            if not pdv.is_last:
                continue
            yield Message(context, elements, b"".join(data))
        context, data = None, None


# --- names (what Windows and Linux take; "Naming Files, Paths, and Namespaces" of Microsoft) -----------

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)


def fault_of_name(name: str) -> str:
    """Why a file or folder can't have this name everywhere; empty when it can."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "holds half a surrogate pair"
    checks = {
        "is empty": not name,
        "is longer than 255": size > 255 or len(name.encode("utf-16-le")) > 2 * 255,
        "holds a character that Windows forbids": _FORBIDDEN.search(name) is not None,
        "ends with a dot or blank, which Windows drops": name.endswith((".", " ")),
        "begins with a dot or blank": name.startswith((".", " ")),
        "is a device of Windows": _DEVICE.fullmatch(name.split(".")[0].rstrip(" ")) is not None,
        "is another folder's short name on Windows": re.fullmatch(
            r"(?=[^.]{3,8}(\.|$))[^.]+~[0-9]+(\.[^.]{0,3})?", name
        )
        is not None,
    }
    return next((fault for fault, is_so in checks.items() if is_so), "")


def is_uid(value: str) -> bool:
    """What the documentation lets pass as a UID: 1 to 64 digits and dots, a digit at either end (PS3.5 9.1)."""
    digits = set("0123456789")
    return 1 <= len(value) <= 64 and set(value) <= digits | {"."} and value[0] in digits and value[-1] in digits
