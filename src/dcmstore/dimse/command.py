"""bytes <-> command set: group 0000 in Implicit VR Little Endian (PS3.7 6.3 and annex E)."""

import struct
from dataclasses import dataclass, fields
from enum import IntEnum

from dcmstore.errors import AbortReason, AbortSource, ProtocolError

_ELEMENT = struct.Struct("<HHI")  # group, element, length
_U16 = struct.Struct("<H")

NO_DATA_SET = 0x0101  # Command Data Set Type: the only value that says so (PS3.7 E.1)
WITH_DATA_SET = 0x0000  # any other value would do
RESPONSE_BIT = 0x8000


class CommandField(IntEnum):
    """Requests that PS3.7 table E.1-1 lists; a response has bit 15 set as well."""

    C_STORE_RQ = 0x0001
    C_GET_RQ = 0x0010
    C_FIND_RQ = 0x0020
    C_MOVE_RQ = 0x0021
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_GET_RQ = 0x0110
    N_SET_RQ = 0x0120
    N_ACTION_RQ = 0x0130
    N_CREATE_RQ = 0x0140
    N_DELETE_RQ = 0x0150
    C_CANCEL_RQ = 0x0FFF


@dataclass(frozen=True, slots=True)
class CommandSet:
    """The elements a Storage and Storage Commitment SCP reads or writes; None where one is absent.

    Others are passed over.

    Priority is read by nobody here, but a C-STORE-RQ must have it (PS3.7 9.3.1.1).
    """

    command_field: int
    message_id: int | None = None
    message_id_being_responded_to: int | None = None
    affected_sop_class_uid: str | None = None
    affected_sop_instance_uid: str | None = None
    command_data_set_type: int = NO_DATA_SET
    priority: int | None = None
    status: int | None = None
    error_comment: str | None = None
    requested_sop_class_uid: str | None = None
    requested_sop_instance_uid: str | None = None
    event_type_id: int | None = None
    action_type_id: int | None = None

    @property
    def has_data_set(self) -> bool:
        return self.command_data_set_type != NO_DATA_SET

    @property
    def is_response(self) -> bool:
        return bool(self.command_field & RESPONSE_BIT)


# PS3.7 table E.1-1: element number -> field, VR. In the order in which they are written.
_ELEMENTS: dict[int, tuple[str, str]] = {
    0x0002: ("affected_sop_class_uid", "UI"),
    0x0003: ("requested_sop_class_uid", "UI"),
    0x0100: ("command_field", "US"),
    0x0110: ("message_id", "US"),
    0x0120: ("message_id_being_responded_to", "US"),
    0x0700: ("priority", "US"),
    0x0800: ("command_data_set_type", "US"),
    0x0900: ("status", "US"),
    0x0902: ("error_comment", "LO"),
    0x1000: ("affected_sop_instance_uid", "UI"),
    0x1001: ("requested_sop_instance_uid", "UI"),
    0x1002: ("event_type_id", "US"),
    0x1008: ("action_type_id", "US"),
}
assert {name for name, _ in _ELEMENTS.values()} == {field.name for field in fields(CommandSet)}

# How text is written. A command set has no character set, so an LO is ASCII (PS3.5 6.1.2.2); a UI goes back as it came.
_ENCODINGS = {"UI": ("latin-1", b"\0"), "LO": ("ascii", b" ")}  # VR -> codec, padding
MAX_ERROR_COMMENT = 64  # characters (PS3.7 table E.1-1: LO)


def decode(encoded: bytes) -> CommandSet:
    """Decode a whole command set.

    Raises ProtocolError on another group, a length past the end, a US of other than 2 bytes, or no Command Field.
    """
    values: dict[str, int | str] = {}
    position, end = 0, len(encoded)
    while position < end:
        if end - position < _ELEMENT.size:
            raise _malformed("command element", f"{end - position} bytes left", f"{_ELEMENT.size} bytes of header")
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size
        if group != 0x0000:
            raise _malformed("command element group", f"{group:04X}H", "0000H")
        if length > end - position:
            raise _malformed(f"length of (0000,{element:04X})", length, f"at most {end - position}, what is left")
        if element in _ELEMENTS:
            name, vr = _ELEMENTS[element]
            values[name] = _decode_value(element, vr, encoded[position : position + length])
        position += length
    if "command_field" not in values:
        raise _malformed("Command Field (0000,0100)", "no such element", "one element")
    return CommandSet(**values)  # type: ignore[arg-type]


def _decode_value(element: int, vr: str, raw: bytes) -> int | str:
    if vr == "UI":
        # Spaces stay: some senders pad with them, and know their UID in the response only with them.
        return raw.decode("latin-1").removesuffix("\0")
    if vr != "US":
        return raw.decode("latin-1").strip(" \0")
    if len(raw) != _U16.size:
        raise _malformed(f"length of (0000,{element:04X})", len(raw), "2")
    return int(_U16.unpack(raw)[0])


def _malformed(field: str, got: object, allowed: str) -> ProtocolError:
    """A message nobody can answer: the service user aborts (PS3.7 has no response for it)."""
    return ProtocolError(field, got, allowed, source=AbortSource.SERVICE_USER, reason=AbortReason.NOT_SPECIFIED)


def encode(command_set: CommandSet) -> bytes:
    """The elements that are not None, behind their Command Group Length (0000,0000)."""
    body = b"".join(
        _encode_element(element, vr, value)
        for element, (name, vr) in _ELEMENTS.items()
        if (value := getattr(command_set, name)) is not None
    )
    return _ELEMENT.pack(0x0000, 0x0000, 4) + struct.pack("<I", len(body)) + body


def _encode_element(element: int, vr: str, value: int | str) -> bytes:
    if isinstance(value, int):
        return _ELEMENT.pack(0x0000, element, 2) + _U16.pack(value)
    codec, padding = _ENCODINGS[vr]
    raw = value.encode(codec, "replace")
    raw += padding * (len(raw) % 2)
    return _ELEMENT.pack(0x0000, element, len(raw)) + raw


_NAMES = {member.value: member.name.replace("_", "-") for member in CommandField}
_NAMES |= {field | RESPONSE_BIT: name.replace("-RQ", "-RSP") for field, name in _NAMES.items()}


def name_of(command_field: int) -> str:
    """`C-STORE-RQ` for 0001H and so on; hexadecimal where the standard has no name."""
    return _NAMES.get(command_field, f"{command_field:04X}H")
