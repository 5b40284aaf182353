"""what a peer answers -> done, tried again or given up (PS3.4 B.2.3, PS3.7 annex C)."""

from dcmstore.forwarding.association import Answer, Association
from dcmstore.forwarding.outgoing import Context
from dcmstore.jobs.work import JobFailed
from dcmstore.ul.items import ContextResult

_DUPLICATE_SOP_INSTANCE = 0x0111
_DONE = frozenset((0x0000, _DUPLICATE_SOP_INSTANCE))  # the peer has it, now or from before

_WARNINGS = (range(0xB000, 0xC000), (0x0001, 0x0107, 0x0116))  # PS3.7 annex C: done, with something to be said

# What the peer says of itself: it would refuse any other object now, too. All other refusals are about the object, as
# long as there are few of them.
_ABOUT_ITSELF = (range(0xA700, 0xA800), (0x0124, 0x0213))

# What the peer says of this object, or of all like it: the same object is refused again. All else may pass, and
# statuses of Cxxx often do: peers answer so when their disk or their database is in trouble, too.
_FINAL = (range(0xA900, 0xAA00), (0x0117, 0x0122))

_MEANINGS = {
    0x0110: "processing failure",
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorized",
    0x0211: "unrecognized operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
}
_MEANINGS_OF_RANGES = {
    0xA700: "out of resources",
    0xA900: "data set does not match SOP class",
    0xC000: "cannot understand",
}  # by their first byte, of Cxxx the first digit

_ADVICE = {
    ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED: "make the peer take this SOP class",
    ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED: "make the peer take this transfer syntax; nothing is converted here",
}


def check_accepted(association: Association, context: Context) -> None:
    """Raises JobFailed where the peer does not take such objects."""
    if association.accepts(context):
        return
    result = association.result_of(context)
    advice = _ADVICE.get(result) if result is not None else None
    if advice is None:  # for a reason that it keeps to itself
        raise JobFailed(f"the peer does not take {context} now", is_about_one=True)
    raise JobFailed(f"the peer does not take {context}; {advice}, and try again", is_final=True)


def judge(answer: Answer) -> str:
    """What the peer has to say of an object that it took, as a rule nothing. Raises JobFailed for one that it did not.

    The comment of a failure may name the patient; it is not repeated.
    """
    status = answer.status
    if status in _DONE:
        return ""
    if any(status in statuses for statuses in _WARNINGS):
        return f"status {status:04X}H"
    meaning = _MEANINGS.get(status) or _MEANINGS_OF_RANGES.get(status & (0xF000 if status >= 0xC000 else 0xFF00))
    text = f"the peer refused it with status {status:04X}H" + (f" ({meaning})" if meaning else "")
    raise JobFailed(
        text,
        is_final=any(status in statuses for statuses in _FINAL),
        is_about_one=not any(status in statuses for statuses in _ABOUT_ITSELF),
    )
