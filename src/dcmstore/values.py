"""text behind an equal sign -> a value: the kinds of values that settings have, each with what is allowed.

Whatever reads a value raises ValueError on what is not allowed, and NotAllowed where only a part of it is wrong;
config.py and cli.py say where it stands.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from dcmstore.hosts import host_rule

MAX_AE_TITLE = 16  # characters (PS3.5 6.2)
AE_TITLE_ALLOWED = f"1 to {MAX_AE_TITLE} ASCII characters without a backslash"


class NotAllowed(ValueError):
    """The text names the part of a value that is wrong, what came, and what is allowed there."""


def ae_title(value: str) -> str:
    """An AE title as AE_TITLE_ALLOWED says, in the ini and on the command line; blanks around it mean nothing."""
    value = value.strip(" ")
    if not 1 <= len(value) <= MAX_AE_TITLE or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError
    return value


def listed(value: str, check: Callable[[str], object]) -> tuple[str, ...]:
    """What stands between commas, each checked by something that raises ValueError; `;` separates nothing."""
    if ";" in value:
        raise NotAllowed("';' separates nothing; allowed is a comma")
    items = tuple(item.strip() for item in value.split(",")) if value else ()
    for item in items:
        check(item)
    return items


def hosts(value: str) -> tuple[str, ...]:
    return listed(value, host_rule)


def split_ae(item: str, sign: str = "@") -> tuple[str, str]:
    """`AE@host` or `AE:name` -> the AE title, and what it is bound to, if anything."""
    title, _, bound = item.partition(sign)
    return title.strip(), bound.strip()


def ae_titles(value: str) -> tuple[str, ...]:
    def check(item: str) -> None:
        title, host = split_ae(item)
        ae_title(title)
        if "*" in title or "?" in title:  # an AE title may have them, but who writes them here means many
            raise ValueError
        if "@" in item:
            host_rule(host)

    return tuple("@".join(part.strip() for part in item.split("@")) for item in listed(value, check))


def tls_names(value: str) -> tuple[str, ...]:
    """A title stands there once, for it is bound to one name."""

    def check(item: str) -> None:
        title, name = split_ae(item, ":")
        ae_title(title)
        if not name:
            raise ValueError

    items = listed(value, check)
    if len({split_ae(item, ":")[0] for item in items}) < len(items):
        raise ValueError
    return items


class Permissions(int):
    """Permissions of files as Linux has them; text shows them in octal digits, as people write them."""

    def __str__(self) -> str:
        return f"{int(self):04o}"

    @property
    def umask(self) -> int:
        """What is taken away from files and folders that are made: who may read a folder may also enter it."""
        return 0o777 & ~(self | (self & 0o444) >> 2)


def permissions(value: str) -> Permissions:
    if not re.fullmatch(r"0?6[046][046]", value):
        raise ValueError
    return Permissions(value, 8)


def optional_path(value: str) -> Path | None:
    return folder(value) if value else None


def optional_number(low: int, high: int) -> tuple[Callable[[str], int | None], str]:
    parse, allowed = number(low, high)
    return lambda value: parse(value) if value else None, f"{allowed}, or nothing"


def number(low: int, high: int) -> tuple[Callable[[str], int], str]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise ValueError
        return int(value)

    return parse, f"a whole number from {low} to {high}"


def switch(value: str) -> bool:
    return {"0": False, "1": True}[value]


def one_of(*choices: str) -> tuple[Callable[[str], str], str]:
    def parse(value: str) -> str:
        if value.lower() not in choices:
            raise ValueError
        return value.lower()

    return parse, "one of " + ", ".join(choices)


def max_pdu(value: str) -> int:
    number = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else -1
    if number != 0 and not 4096 <= number <= 16 * 1024 * 1024:
        raise ValueError
    return number


def folder(value: str) -> Path:
    """A path; whatever stands behind the equal sign belongs to it, blanks and signs of comments too."""
    is_of_windows = re.match(r"[A-Za-z]:|\\\\", value) is not None
    if not value or "\0" in value or (is_of_windows and os.name != "nt"):
        raise ValueError
    return Path(value)


def optional_switch(value: str) -> bool | None:
    return switch(value) if value else None


def num_threads(value: str) -> int:
    """Empty and 0 mean 5, as in the original."""
    return number(0, 10_000)[0](value or "0") or 5


def text(value: str) -> str:
    return value


SWITCH = (switch, "0 (off) or 1 (on)")
FOLDER = (folder, "a folder" if os.name == "nt" else "a folder of this system, not a drive or share of Windows")
SECONDS = number(1, 86_400)
