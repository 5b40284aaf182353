"""outcome -> status code, each with its clause (PS3.7 annex C, PS3.4 B.2.3)."""

from enum import IntEnum


class Status(IntEnum):
    """The statuses that this SCP sends."""

    SUCCESS = 0x0000
    DUPLICATE_SOP_INSTANCE = 0x0111  # PS3.7 annex C: another instance has this UID, and it is kept
    INVALID_SOP_INSTANCE = 0x0117  # PS3.7 annex C: the UID breaks the rules of PS3.5 chapter 9
    SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 annex C: not the class of this presentation context
    UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 annex C
    MISTYPED_ARGUMENT = 0x0212  # PS3.7 annex C
    OUT_OF_RESOURCES = 0xA700  # PS3.4 table B.2-1
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900  # PS3.4 table B.2-1
    CANNOT_UNDERSTAND = 0xC000  # PS3.4 table B.2-1
