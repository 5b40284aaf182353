"""`[modality=CT,MR ae=CT2] what to do` -> a rule and the rest: for which objects a line of the ini counts."""

import fnmatch
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dcmstore import values
from dcmstore.values import NotAllowed

IMAGES, DOSE_REPORTS = "images", "rdsr"  # the root folders, as rules name them


class _Term(NamedTuple):
    """A term: the fact of a stored object that it is compared with, and what its values may be."""

    fact: str
    value: Callable[[str], str]  # as it is compared; raises ValueError for what no object ever has
    allowed: str


def _modality(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_*?-]{1,16}", value):  # CS (PS3.5 6.2), and the hyphen that some senders have
        raise ValueError
    return value


def _host(value: str) -> str:
    """An address in the spelling that the log has."""
    if re.fullmatch(r"[0-9A-Fa-f.:]*[*?][0-9A-Fa-f.:*?]*", value):
        return value
    return str(ipaddress.ip_address(value))


def _sop_class(value: str) -> str:
    if not re.fullmatch(r"[0-9.*?]{1,64}", value):
        raise ValueError
    return value


def _root(value: str) -> str:
    if not any(fnmatch.fnmatchcase(root, value.lower()) for root in (IMAGES, DOSE_REPORTS)):
        raise ValueError
    return value


def _ae_title(value: str) -> str:
    values.ae_title(value.replace("*", "") or "*")  # which stands for nothing, too
    return value


_TERMS = {
    "modality": _Term("modality", _modality, "a modality, such as CT"),
    "ae": _Term("calling_ae_title", _ae_title, f"an AE title of a sender, {values.AE_TITLE_ALLOWED}"),
    "host": _Term("host", _host, "an address of a sender, such as 192.0.2.7 or 192.0.2.*, no name and no network"),
    "class": _Term("sop_class_uid", _sop_class, "a SOP Class UID, such as 1.2.840.10008.5.1.4.1.1.2"),
    "root": _Term("root_key", _root, f"{IMAGES} or {DOSE_REPORTS}"),
}
RULE_ALLOWED = "[" + " ".join(f"{term}=" for term in _TERMS) + "] with values between commas, where * is anything"

_BRACKETS = re.compile(r"\[([^\]]*)\]\s*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rule:
    """Every term has to hold; of the values of a term, one. Without terms it counts for all."""

    terms: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def matches(self, facts: Mapping[str, str | int]) -> bool:
        return all(_is_one_of(str(facts.get(_TERMS[term].fact, "")), values) for term, values in self.terms)


def _is_one_of(fact: str, values: tuple[str, ...]) -> bool:
    """A study may have several values of a fact, with a backslash between them."""
    facts = fact.upper().split("\\")
    return any(fnmatch.fnmatchcase(one, value.upper()) for one in facts for value in values)


def split(line: str) -> tuple[Rule, str]:
    """The rule at the beginning of a line, where there is one, and the rest. Raises NotAllowed."""
    if not line.startswith("["):
        return Rule(), line
    match = _BRACKETS.fullmatch(line)
    if match is None:
        raise NotAllowed(f"the rule has no ']'; allowed is {RULE_ALLOWED}")
    if not match[2]:
        raise NotAllowed(f"nothing stands behind the rule {line!r}; allowed is what to do, or whom to send to")
    if not match[1].strip():
        raise NotAllowed(f"the rule [] is empty; allowed is {RULE_ALLOWED}; for all objects, leave the brackets out")
    return Rule(tuple(map(_term, match[1].split()))), match[2]


def _term(text: str) -> tuple[str, tuple[str, ...]]:
    name, sign, listed = text.partition("=")
    term = _TERMS.get(name.lower())
    if not sign or term is None:
        raise NotAllowed(f"{text!r} is no term of a rule; allowed is {RULE_ALLOWED}, without blanks in a term")
    return name.lower(), tuple(_value(name, term, value) for value in listed.split(","))


def _value(name: str, term: _Term, value: str) -> str:
    if ";" in value:
        written = f"{name}={value}"
        raise NotAllowed(f"';' in {written!r} separates nothing; allowed is a comma: {written.replace(';', ',')!r}")
    try:
        return term.value(value)
    except ValueError:
        text = f"{value!r} is no value of {name}=; allowed is {term.allowed}, several with commas between them"
        raise NotAllowed(text) from None
