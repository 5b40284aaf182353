"""`[modality=CT,MR ae=CT2] what to do` -> a rule and the rest: for which objects a line of the ini counts."""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass

# What a rule may look at -> the fact of a stored object that it is compared with
_TERMS = {
    "modality": "modality",
    "ae": "calling_ae_title",
    "host": "host",
    "class": "sop_class_uid",
    "root": "root_key",  # images or rdsr
}
RULE_ALLOWED = "[" + " ".join(f"{term}=" for term in _TERMS) + "] with values between commas, where * is anything"

_BRACKETS = re.compile(r"\[([^\]]*)\]\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rule:
    """Every term has to hold; of the values of a term, one. Without terms it counts for all."""

    terms: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def matches(self, facts: Mapping[str, str | int]) -> bool:
        return all(_is_one_of(str(facts.get(_TERMS[term], "")), values) for term, values in self.terms)


def _is_one_of(fact: str, values: tuple[str, ...]) -> bool:
    """A study may have several values of a fact, with a backslash between them."""
    facts = fact.upper().split("\\")
    return any(fnmatch.fnmatchcase(one, value.upper()) for one in facts for value in values)


def split(line: str) -> tuple[Rule, str]:
    """The rule at the beginning of a line, where there is one, and the rest. Raises ValueError."""
    if not line.startswith("["):
        return Rule(), line
    match = _BRACKETS.fullmatch(line)
    if match is None or not match[2]:
        raise ValueError
    return Rule(tuple(map(_term, match[1].split()))), match[2]


def _term(text: str) -> tuple[str, tuple[str, ...]]:
    name, sign, values = text.partition("=")
    parts = tuple(values.split(","))
    if not sign or name.lower() not in _TERMS or not all(parts):
        raise ValueError
    return name.lower(), parts
