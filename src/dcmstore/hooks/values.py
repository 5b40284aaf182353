"""a fact -> text for another program: without what could be taken for more than text."""

import re

from dcmstore.hooks import placeholders
from dcmstore.jobs.work import Facts

# Control characters, ends of lines of Unicode, and halves of characters, which no environment can hold
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def of(facts: Facts, name: str) -> str:
    """The value of a fact; empty where it is not known. Paths are as they are, for they have to lead to the file."""
    value = str(facts.get(name, ""))
    return value.replace("\0", "") if name in placeholders.PATHS else without_controls(value)


def without_controls(text: str) -> str:
    return _UNFIT.sub("", text)


def environment(facts: Facts) -> dict[str, str]:
    """`DCMSTORE_PATIENT_ID` and the others, all of them; empty where a value is not known."""
    return {f"DCMSTORE_{name.upper()}": of(facts, name) for name in placeholders.NAMES}
