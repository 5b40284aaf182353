"""bytes -> command sets, PDVs -> messages: dimse/ against PS3.7 (invariants 1, 2, 3 and 5)."""

from dataclasses import replace
from typing import Any

from dcmstore.dimse import command
from dcmstore.dimse.command import CommandSet
from dcmstore.dimse.message import MAX_COMMAND_SET, MessageAssembly
from dcmstore.errors import ProtocolError
from dcmstore.ul.framing import Fragment
from fuzz import reference
from fuzz.oracle import Source, bytes_held, require
from fuzz.reference import PDV, Malformed

CONTEXTS = (1, 3, 5, 2)

_NUMBERS = {
    "command_field": 0x0100,
    "message_id": 0x0110,
    "message_id_being_responded_to": 0x0120,
    "priority": 0x0700,
    "status": 0x0900,
    "event_type_id": 0x1002,
    "action_type_id": 0x1008,
}
_TEXTS = {
    "affected_sop_class_uid": 0x0002,
    "requested_sop_class_uid": 0x0003,
    "error_comment": 0x0902,
    "affected_sop_instance_uid": 0x1000,
    "requested_sop_instance_uid": 0x1001,
}


def command_set(data: bytes) -> None:
    """A command set is read as the standard reads it, or refused; written again, it reads the same."""
    try:
        elements = reference.command_elements(data)
    except Malformed:
        elements = {}
    try:
        decoded = command.decode(data)
    except ProtocolError as error:
        require(not elements, "refused, and nothing is wrong with it", error)
        return
    require(bool(elements), "taken, and it breaks a rule", decoded)
    check_command(decoded, elements)
    is_ascii = (decoded.error_comment or "").isascii()  # PS3.5 6.1.2.2: others can't be written
    written = decoded if is_ascii else replace(decoded, error_comment="")
    encoded = command.encode(written)
    again = command.decode(encoded)
    require(_unpadded(again) == _unpadded(written), "encoded and decoded again, it is another", written, encoded)
    require(len(encoded) % 2 == 0, "an odd length", encoded)
    require(int.from_bytes(encoded[8:12], "little") == len(encoded) - 12, "a wrong Command Group Length", encoded)
    numbers = list(reference.command_elements(encoded))
    require(numbers == sorted(numbers), "elements out of order", numbers)


def _unpadded(decoded: CommandSet) -> CommandSet:
    """Without the NULs behind a UID, which say nothing; one of an odd length, which is illegal, gets another."""
    uids = {name: (getattr(decoded, name) or "").rstrip("\0") for name in _TEXTS if name.endswith("uid")}
    return replace(decoded, **uids)  # type: ignore[arg-type]


def check_command(decoded: CommandSet, elements: dict[int, bytes]) -> None:
    for name, number in _NUMBERS.items():
        require(getattr(decoded, name) == reference.us(elements, number), f"{name} is another", decoded, elements)
    for name, number in _TEXTS.items():
        text = getattr(decoded, name)
        expected = reference.text(elements[number]) if number in elements else None
        require((text if text is None else text.strip(" \0")) == expected, f"{name} is another", decoded, elements)
    announced = reference.us(elements, 0x0800) not in (None, 0x0101)  # PS3.7 table E.1-1
    require(decoded.has_data_set is announced, "has_data_set is wrong", decoded)


def message(data: bytes) -> None:
    """Fragments in any order give the messages of the standard or an error, however each of them is cut."""
    pdvs = _pdvs(data)
    complete, is_wrong = _expected(pdvs)
    for step in (1 << 20, 7, 1):
        assembly = MessageAssembly()
        got, error = _gather(assembly, pdvs, step)
        require((error is not None) is is_wrong, "an error where nothing is wrong, or none where it is", error)
        require(len(got) == len(complete), "other messages than the standard has", got, complete)
        for (decoded, data_set), expected in zip(got, complete, strict=True):
            check_command(decoded, expected.elements)
            require(data_set == expected.data, "another data set", data_set, expected)
        require(bytes_held(assembly) <= MAX_COMMAND_SET, "holds more than a command set may have")


def _pdvs(data: bytes) -> list[PDV]:
    source, pdvs = Source(data), []
    while source:
        control = source.byte()
        context_id = CONTEXTS[control >> 2 & 3] if control & 0x10 else CONTEXTS[0]
        pdvs.append(PDV(context_id, bool(control & 1), bool(control & 2), source.some(1 << 16)))
    return pdvs


def _expected(pdvs: list[PDV]) -> tuple[list[reference.Message], bool]:
    complete = []
    try:
        for found in reference.messages(pdvs):
            complete.append(found)
    except Malformed:
        return complete, True
    return complete, False


def _gather(assembly: MessageAssembly, pdvs: list[PDV], step: int) -> tuple[list[Any], ProtocolError | None]:
    got: list[Any] = []
    under_way: CommandSet | None = None
    data_set = b""
    try:
        for pdv in pdvs:
            for start in range(0, len(pdv.data) or 1, step):
                part = pdv.data[start : start + step]
                is_last = pdv.is_last and start + step >= len(pdv.data)
                found = assembly.receive(Fragment(pdv.context_id, pdv.is_command, is_last, memoryview(part)))
                if found is not None:
                    under_way, data_set = found, b""
                elif not pdv.is_command:
                    data_set += part
                if under_way is not None and assembly.is_between_messages:
                    got.append((under_way, data_set if under_way.has_data_set else None))
                    under_way = None
    except ProtocolError as error:
        return got, error
    return got, None
