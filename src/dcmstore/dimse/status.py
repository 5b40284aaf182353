"""outcome -> status code, each with its clause (PS3.7 annex C, PS3.4 B.2.3)."""

from enum import IntEnum


class Status(IntEnum):
    """The statuses that this SCP sends."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110  # PS3.7 annex C: what is asked can't be read
    DUPLICATE_SOP_INSTANCE = 0x0111  # PS3.7 annex C: another instance has this UID, and it is kept
    NO_SUCH_SOP_INSTANCE = 0x0112  # PS3.7 annex C: not the well-known instance of the SOP class
    INVALID_ARGUMENT_VALUE = 0x0115  # PS3.7 annex C: what is asked says too little, or what can't be
    INVALID_SOP_INSTANCE = 0x0117  # PS3.7 annex C: the UID breaks the rules of PS3.5 chapter 9
    NO_SUCH_SOP_CLASS = 0x0118  # PS3.7 annex C: an N-ACTION for another class than that of its context
    SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 annex C: not the class of this presentation context
    NO_SUCH_ACTION = 0x0123  # PS3.7 annex C
    UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 annex C
    MISTYPED_ARGUMENT = 0x0212  # PS3.7 annex C
    RESOURCE_LIMITATION = 0x0213  # PS3.7 annex C: a later try may succeed
    OUT_OF_RESOURCES = 0xA700  # PS3.4 table B.2-1
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900  # PS3.4 table B.2-1
    CANNOT_UNDERSTAND = 0xC000  # PS3.4 table B.2-1
