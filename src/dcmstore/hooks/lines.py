"""`[modality=CT] program {path}` -> a hook: for which objects, and what is done then."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from dcmstore import rules
from dcmstore.hooks import COMMAND, COPY, WEBHOOK, placeholders
from dcmstore.hooks.arguments import CommandLine
from dcmstore.rules import RULE_ALLOWED, Rule
from dcmstore.values import NotAllowed

HOOK_ALLOWED = (
    "a command line, a URL that begins with http:// or https://, or `copy to` with the whole path of a folder; in "
    f"front of it, where it is not for all, {RULE_ALLOWED}"
)

_COPY = re.compile(r"copy\s+to\s+(.+)", re.IGNORECASE)
_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Action:
    """What is done: `kind` is that of its jobs, `target` is the line without its rule."""

    kind: str
    target: str


@dataclass(frozen=True, slots=True)
class Hook:
    """A line of the ini; text shows it as it stands there."""

    line: str
    rule: Rule
    action: Action

    def __str__(self) -> str:
        return self.line


def parse(line: str) -> Hook:
    """Raises ValueError on what HOOK_ALLOWED does not cover. What else could never work, is for checking."""
    rule, target = rules.split(line)
    return Hook(line, rule, Action(_kind_of(target), target))


def hook_line(line: str) -> str:
    """A line as it stands. Raises ValueError as `parse` does."""
    return parse(line).line


def _kind_of(target: str) -> str:
    if re.match(r"https?:", target, re.IGNORECASE):
        url_of(target)
        return WEBHOOK
    if scheme := _SCHEME.match(target):
        raise NotAllowed(f"nothing can be called by {scheme[0]}; allowed is http:// or https://, or a command line")
    if _COPY.fullmatch(target):
        folder_of(target)
        return COPY
    CommandLine.parse(target)
    return COMMAND


def url_of(target: str) -> SplitResult:
    """Raises ValueError for what is no URL, and for one with a password in it: it would be in the log."""
    parts = urlsplit(target)
    if not _URL.fullmatch(target) or not parts.hostname or parts.port == 0 or ".." in parts.hostname:
        raise ValueError
    if parts.username is not None:
        raise NotAllowed("a user or password in a URL would be in the log; allowed is one without: use webhook-secret")
    if parts.fragment or "{" in target or "}" in target:
        raise NotAllowed("allowed is a URL without `#` and braces: its server gets all values in the body")
    return parts


def copy_folders(hook_lines: Iterable[str]) -> list[str]:
    """The folders that copies go to, of lines that `hook_line` returned."""
    actions = (parse(line).action for line in hook_lines)
    return list(dict.fromkeys(folder_of(action.target) for action in actions if action.kind == COPY))


def folder_of(target: str) -> str:
    """The folder behind `copy to`, with or without quotes. Raises ValueError unless it is a whole path."""
    match = _COPY.fullmatch(target)
    folder = match[1].strip().removeprefix('"').removesuffix('"') if match else ""
    if not os.path.isabs(folder) or "\0" in folder or placeholders.names_in(folder):
        example = "D:\\copies" if os.name == "nt" else "/srv/copies"
        raise NotAllowed(f"{folder!r} is no whole path; allowed is one such as {example}, without placeholders")
    return folder
